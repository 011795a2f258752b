//! A type name means one thing.

use std::collections::BTreeMap;

use crate::source::FILES;

#[test]
fn a_type_name_is_declared_once() {
    let files = &*FILES;
    let mut declared: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for file in files.values() {
        for name in &file.types {
            declared.entry(name).or_default().push(&file.path);
        }
    }
    assert!(
        declared.len() > 300,
        "only {} types were found",
        declared.len()
    );
    declared.retain(|_, files| files.len() > 1);
    assert!(declared.is_empty(), "{declared:#?}");
}
