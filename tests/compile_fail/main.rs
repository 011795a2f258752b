//! Code that bypasses the gate must not compile.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Each bypass, with the only error that the compiler must report, and where.
const BYPASSES: [(&str, &str, &str); 4] = [
    (
        "admitted_by_hand",
        "error[E0451]: fields `entry` and `terms` of struct `Admitted` are private",
        "6:16",
    ),
    ("token_for_a_read", "error[E0308]: mismatched types", "6:25"),
    (
        "token_verified_outside",
        "error[E0624]: method `verify` is private",
        "7:12",
    ),
    (
        "tree_without_admitted",
        "error[E0308]: mismatched types",
        "7:16",
    ),
];

#[test]
fn code_that_bypasses_the_gate_does_not_compile() {
    // Code that uses the gate compiles, so the cases below fail for their own reasons.
    assert_eq!(errors_of("through_the_gate"), Vec::<String>::new());
    for (case, error, position) in BYPASSES {
        let errors = errors_of(case);
        assert_eq!(
            errors,
            [error.to_string(), format!("{case}.rs:{position}")],
            "{case}"
        );
    }
}

/// Returns every error of the compiler for a case, each followed by its position. The case is
/// compiled against the library and the dependencies that were just built for this test: nothing is
/// built again.
fn errors_of(case: &str) -> Vec<String> {
    let built = std::env::current_exe()
        .unwrap()
        .parent()
        .unwrap()
        .to_path_buf();
    let output = tempfile::tempdir().unwrap();
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
        .arg(output.path());
    rustc.arg(
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/compile_fail/cases/{case}.rs")),
    );
    let finished = rustc.env("NO_COLOR", "1").output().unwrap();
    let text = String::from_utf8(finished.stderr).unwrap();

    let mut errors = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("error") && !line.starts_with("error: aborting") {
            errors.push(line.to_string());
            let position = lines
                .next()
                .and_then(|line| line.rsplit_once('/'))
                .map(|(_, file)| file.to_string());
            errors.extend(position);
        }
    }
    assert_eq!(errors.is_empty(), finished.status.success(), "{text}");
    errors
}

/// Returns the library that was built last.
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
