//! Control characters. Any string can become a line of metadata or part of a response header; a
//! control character in it could end the line.

use serde_json::Value;

use crate::document::json_path::{JsonPath, PathFault};
use crate::instance::Instance;

/// Fields that may contain control characters. User data is bytes; tag values are as on EC2; an
/// override is the whole body of a leaf, so it can have several lines, and the rules for overrides
/// check its path. Metadata does not show the other fields.
const UNCHECKED_FIELDS: [&str; 9] = [
    "UserData",
    "UserDataText",
    "Tags",
    "Description",
    "StateTransitionReason",
    "StateReason",
    "ClientToken",
    "Overrides",
    "Override",
];

/// Reports control characters, except at paths that already have a fault.
pub(super) fn check_characters(instance: &Instance, faults: &mut Vec<PathFault>) {
    let Ok(mut fields) = serde_json::to_value(instance) else {
        return;
    };
    remove_fields(&mut fields, &UNCHECKED_FIELDS);
    let mut found = Vec::new();
    find_control_characters(&fields, &JsonPath::root(), &mut found);
    found.retain(|(path, _)| !faults.iter().any(|fault| fault.path == *path));
    faults.extend(found.into_iter().map(|(path, character)| {
        let code = u32::from(character);
        PathFault::new(
            path,
            format!("has a control character (U+{code:04X}); metadata cannot show it"),
        )
    }));
}

fn remove_fields(value: &mut Value, fields: &[&str]) {
    match value {
        Value::Array(elements) => {
            for element in elements {
                remove_fields(element, fields);
            }
        }
        Value::Object(members) => {
            members.retain(|field, _| !fields.contains(&field.as_str()));
            for member in members.values_mut() {
                remove_fields(member, fields);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Finds the first control character of each string and of each key.
fn find_control_characters(value: &Value, path: &JsonPath, found: &mut Vec<(JsonPath, char)>) {
    let first = |text: &str| text.chars().find(|c| c.is_control());
    match value {
        Value::String(text) => found.extend(first(text).map(|c| (path.clone(), c))),
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                find_control_characters(element, &path.index(index), found);
            }
        }
        Value::Object(members) => {
            for (key, member) in members {
                let path = path.key(key);
                found.extend(first(key).map(|c| (path.clone(), c)));
                find_control_characters(member, &path, found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
