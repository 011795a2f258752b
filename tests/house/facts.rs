//! Fields that a terminated instance no longer has, or that a default completes, are read by the
//! functions of `instance/facts.rs`. Code that shows them calls these, so that a guest and an operator
//! see the same.

use crate::source::FILES;

/// Fields of an instance whose names no other type has, and that nothing may show as they are.
const DERIVED: [&str; 4] = [
    "network_interfaces",
    "block_device_mappings",
    "security_groups",
    "public_ip_address",
];

/// Files outside `instance/` and `document/` that may name them: they create or change instances.
const MAY_NAME: [&str; 1] = ["control/actions/run_instances.rs"];

#[test]
fn only_the_functions_for_derived_facts_read_their_fields() {
    let mut wrong = Vec::new();
    for file in FILES.values() {
        let is_model = file.path.starts_with("instance/") || file.path.starts_with("document/");
        if is_model || MAY_NAME.contains(&file.path.as_str()) {
            continue;
        }
        let named = DERIVED
            .iter()
            .filter(|name| file.identifiers.contains(**name));
        wrong.extend(named.map(|name| format!("{} names {name}", file.path)));
    }
    assert!(
        wrong.is_empty(),
        "call the function in instance/facts.rs instead:\n{}",
        wrong.join("\n")
    );
    for path in MAY_NAME {
        let file = FILES.values().find(|file| file.path == path).expect(path);
        let is_needed = DERIVED.iter().any(|name| file.identifiers.contains(*name));
        assert!(is_needed, "{path} need not be on the list");
    }
}
