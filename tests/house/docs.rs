//! The documentation: links resolve, the tests that it names exist, and generated or quoted facts agree with the source.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns every file below a directory with one of the extensions, except what tests and builds create.
fn files(directory: &Path, extensions: &[&str], into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if !name.starts_with('.') && !["target", "node_modules", "wip"].contains(&name) {
                files(&path, extensions, into);
            }
        } else if extensions.iter().any(|extension| name.ends_with(extension)) {
            into.push(path);
        }
    }
}

fn pages() -> Vec<PathBuf> {
    let mut pages = Vec::new();
    files(root(), &[".md"], &mut pages);
    assert!(pages.len() > 10, "the pages are found");
    pages
}

/// Returns the targets of `[text](target)`, outside of code blocks.
fn links(text: &str) -> Vec<String> {
    let mut in_code = false;
    let lines = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !in_code && !fence
    });
    lines
        .flat_map(|line| line.split("](").skip(1))
        .filter_map(|rest| rest.split_once(')').map(|(target, _)| target.to_string()))
        .collect()
}

/// Returns the anchors of a page's headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|heading| {
            let words = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = words
                .chars()
                .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

#[test]
fn links_in_the_docs_resolve() {
    let mut broken = Vec::new();
    let mut checked = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for link in links(&text) {
            if link.contains("://") {
                continue;
            }
            checked += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match file {
                "" => page.clone(),
                file => page.parent().unwrap().join(file),
            };
            let is_there = target.exists()
                && (anchor.is_empty()
                    || anchors(&std::fs::read_to_string(&target).unwrap()).contains(anchor));
            if !is_there {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(checked > 50, "{checked} links are checked");
    assert_eq!(broken, Vec::<String>::new());
}

/// A "held by" that names a renamed test or a moved file would promise what no test holds.
#[test]
fn files_and_tests_that_the_docs_name_exist() {
    let mut sources = Vec::new();
    files(&root().join("src"), &[".rs"], &mut sources);
    files(&root().join("tests"), &[".rs"], &mut sources);
    let mut tests = BTreeSet::new();
    for source in &sources {
        let text = std::fs::read_to_string(source).unwrap();
        tests.extend(
            text.split("fn ")
                .skip(1)
                .filter_map(|rest| rest.split_once('(').map(|(name, _)| name.to_string())),
        );
    }
    let mut unknown = Vec::new();
    for page in [
        "docs/decisions.md",
        "SECURITY.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
    ] {
        let text = std::fs::read_to_string(root().join(page)).unwrap();
        for word in text.split('`').skip(1).step_by(2) {
            let is_path = !word.contains(['<', ' '])
                && (word.contains('/') && word.ends_with(".rs") || word.starts_with("tests/"));
            let is_test = ["docs/decisions.md", "SECURITY.md"].contains(&page)
                && word.len() > 12
                && word.contains('_')
                && word
                    .bytes()
                    .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'));
            let is_there = match (is_path, is_test) {
                (true, _) => ["", "src"]
                    .iter()
                    .any(|below| root().join(below).join(word).exists()),
                (_, true) => tests.contains(word),
                (false, false) => true,
            };
            if !is_there {
                unknown.push(format!("{page}: {word}"));
            }
        }
    }
    assert_eq!(unknown, Vec::<String>::new());
}

/// The README names the Rust version that Cargo.toml requires.
#[test]
fn the_readme_names_the_required_rust_version() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let (_, rest) = manifest.split_once("rust-version = \"").unwrap();
    let (version, _) = rest.split_once('"').unwrap();
    for page in ["README.md", "CONTRIBUTING.md"] {
        let text = std::fs::read_to_string(root().join(page)).unwrap();
        assert!(text.contains(&format!("Rust {version} or newer")), "{page}");
    }
}
