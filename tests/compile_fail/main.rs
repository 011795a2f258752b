//! What must not compile: ways around the gate.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Each way around with the one error that it must meet, and where.
const WAYS_AROUND: [(&str, &str, &str); 3] = [
    (
        "admitted_by_hand",
        "error[E0451]: fields `entry` and `terms` of struct `Admitted` are private",
        "6:16",
    ),
    ("token_for_a_read", "error[E0308]: mismatched types", "7:18"),
    (
        "tree_without_admitted",
        "error[E0308]: mismatched types",
        "7:16",
    ),
];

#[test]
fn a_way_around_the_gate_does_not_compile() {
    // The way through it does: what fails below fails for its own reason.
    assert_eq!(errors_of("through_the_gate"), Vec::<String>::new());
    for (case, error, place) in WAYS_AROUND {
        let errors = errors_of(case);
        assert_eq!(
            errors,
            [error.to_string(), format!("{case}.rs:{place}")],
            "{case}"
        );
    }
}

/// Every error that the compiler has with a case, each followed by its place. It compiles against the library as it was just
/// built for this test, with what that was built with: nothing is built again.
fn errors_of(case: &str) -> Vec<String> {
    let built = std::env::current_exe()
        .unwrap()
        .parent()
        .unwrap()
        .to_path_buf();
    let nowhere = tempfile::tempdir().unwrap();
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or("rustc".into()));
    rustc.args([
        "--edition",
        "2024",
        "--crate-type",
        "bin",
        "--emit",
        "metadata",
        "--extern",
    ]);
    rustc.arg(format!("imdsd={}", library_in(&built).display()));
    rustc
        .arg("-L")
        .arg(format!("dependency={}", built.display()))
        .arg("--out-dir")
        .arg(nowhere.path());
    rustc.arg(
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/compile_fail/cases/{case}.rs")),
    );
    let said = rustc.env("NO_COLOR", "1").output().unwrap();
    let text = String::from_utf8(said.stderr).unwrap();

    let mut errors = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("error") && !line.starts_with("error: aborting") {
            errors.push(line.to_string());
            let place = lines
                .next()
                .and_then(|place| place.rsplit_once('/'))
                .map(|(_, file)| file.to_string());
            errors.extend(place);
        }
    }
    assert_eq!(errors.is_empty(), said.status.success(), "{text}");
    errors
}

/// The library that was built last.
fn library_in(directory: &Path) -> PathBuf {
    let files = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap());
    let libraries = files.filter(|file| {
        let name = file.file_name().into_string().unwrap_or_default();
        name.starts_with("libimdsd-") && name.ends_with(".rlib")
    });
    libraries
        .max_by_key(|file| file.metadata().unwrap().modified().unwrap())
        .expect("the library was built")
        .path()
}
