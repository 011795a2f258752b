//! The house: which module may lean on which. The `use` lines are read and held against the table.

mod docs;

use std::collections::BTreeMap;
use std::path::Path;

/// Who may import whom. A name that is missing on the right does not appear in that module's `use` lines.
const MAY_USE: &[(&str, &[&str])] = &[
    ("fault", &[]),
    ("clock", &[]),
    ("ownership", &[]),
    ("plain_file", &[]),
    ("instance", &["clock", "fault"]),
    ("sigv4", &["instance"]),
    ("config", &["fault", "instance", "sigv4"]),
    ("aemm", &["fault", "instance"]),
    ("registry", &["fault", "instance", "ownership"]),
    ("identity", &["clock", "fault", "instance", "plain_file"]),
    (
        "credentials",
        &["clock", "fault", "instance", "plain_file", "sigv4"],
    ),
    (
        "guest",
        &[
            "clock",
            "credentials",
            "identity",
            "instance",
            "ownership",
            "plain_file",
            "registry",
        ],
    ),
    (
        "control",
        &[
            "clock",
            "fault",
            "instance",
            "plain_file",
            "registry",
            "sigv4",
        ],
    ),
    ("admin", &["clock", "fault", "instance", "registry"]),
    ("net", &["instance", "plain_file"]),
    ("host", &["fault", "instance"]),
    ("logging", &["config"]),
    (
        "daemon",
        &[
            "admin",
            "clock",
            "config",
            "control",
            "credentials",
            "fault",
            "guest",
            "host",
            "identity",
            "instance",
            "net",
            "registry",
        ],
    ),
    (
        "cli",
        &[
            "admin", "aemm", "clock", "config", "control", "daemon", "fault", "guest", "host",
            "identity", "instance", "logging", "registry",
        ],
    ),
];

fn imports_of(directory: &Path, module: &str, found: &mut BTreeMap<String, Vec<String>>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_string();
        // Tests may look at anything.
        if path.is_dir() && name == "tests" {
            continue;
        }
        if path.is_dir() {
            imports_of(&path, if module.is_empty() { &name } else { module }, found);
            continue;
        }
        let module = if module.is_empty() {
            name.as_str()
        } else {
            module
        };
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let is_test = name == "tests";
        for word in code.split("crate::").skip(1).filter(|_| !is_test) {
            let import: String = word
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            found.entry(module.to_string()).or_default().push(import);
        }
    }
}

#[test]
fn modules_lean_only_on_those_below_them() {
    let mut found = BTreeMap::new();
    imports_of(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        "",
        &mut found,
    );
    found.remove("main");
    found.remove("lib");
    assert!(found["guest"].len() > 10, "the use lines are found");
    for (module, imports) in found {
        let (_, may_use) = MAY_USE
            .iter()
            .find(|(name, _)| *name == module)
            .expect("every module is in the table");
        for import in imports {
            assert!(
                import == module || may_use.contains(&import.as_str()),
                "{module} must not use {import}"
            );
        }
    }
}

/// Metadata options are interpreted in the gate. Everywhere else on the guest's side their fields are not even named.
#[test]
fn only_the_gate_reads_metadata_options() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut looked_at = 0;
    for file in [
        "guest/mod.rs",
        "guest/request.rs",
        "guest/path.rs",
        "guest/token.rs",
        "guest/reply.rs",
        "guest/http.rs",
        "guest/tree/mod.rs",
        "guest/tree/meta_data.rs",
        "guest/tree/network.rs",
        "guest/tree/iam.rs",
        "guest/tree/dynamic.rs",
        "daemon/mod.rs",
        "daemon/background.rs",
        "daemon/operator.rs",
        "daemon/connection_limits.rs",
        "daemon/ways.rs",
        "net/connection.rs",
        "net/listener.rs",
    ] {
        let text = std::fs::read_to_string(source.join(file)).unwrap();
        assert!(!text.contains("metadata_options"), "{file}");
        looked_at += 1;
    }
    assert_eq!(looked_at, 18);
}
