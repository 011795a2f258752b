//! Replays the corpora, and holds the list of targets, the programs of `fuzz/` and the corpora
//! together.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::TARGETS;

/// What a corpus may hold, so that the tree stays small.
const MAX_FILES: usize = 40;
const MAX_BYTES: u64 = 100_000;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn names_in(directory: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(directory)
        .unwrap_or_else(|reason| panic!("{}: {reason}", directory.display()));
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn every_input_of_every_corpus_holds_its_properties() {
    let mut failed = Vec::new();
    for (name, target) in TARGETS {
        let directory = fuzz().join("corpus").join(name);
        let files = names_in(&directory);
        assert!(!files.is_empty(), "the corpus of {name} is empty");
        assert!(files.len() <= MAX_FILES, "the corpus of {name} is large");
        let mut bytes = 0;
        for file in files {
            let data = std::fs::read(directory.join(&file)).unwrap();
            bytes += data.len() as u64;
            if std::panic::catch_unwind(|| target(&data)).is_err() {
                failed.push(format!("{name}/{file}"));
            }
        }
        assert!(bytes <= MAX_BYTES, "the corpus of {name} has {bytes} bytes");
    }
    assert!(failed.is_empty(), "inputs that fail: {failed:?}");
}

#[test]
fn targets_programs_and_corpora_have_the_same_names() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(targets.len(), TARGETS.len(), "no name twice");
    assert_eq!(names_in(&fuzz().join("corpus")), targets);

    let programs = names_in(&fuzz().join("fuzz_targets"));
    let expected: BTreeSet<String> = targets.iter().map(|name| format!("{name}.rs")).collect();
    assert_eq!(programs, expected);
    for name in &targets {
        let program = fuzz().join("fuzz_targets").join(format!("{name}.rs"));
        let text = std::fs::read_to_string(program).unwrap();
        let call = format!("imdsd::fuzzing::{name}(data)");
        assert!(text.contains(&call), "{name}.rs does not call {name}");
    }

    let manifest = std::fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    let bins: BTreeSet<String> = manifest
        .split("[[bin]]")
        .skip(1)
        .map(|bin| {
            let name = bin.lines().find_map(|line| line.strip_prefix("name = "));
            let name = name.unwrap().trim_matches('"').to_string();
            assert!(bin.contains(&format!("path = \"fuzz_targets/{name}.rs\"")));
            name
        })
        .collect();
    assert_eq!(bins, targets);
}
