//! Control characters. Any string can become a line of metadata or part of a response header; a
//! control character in it could end the line.

use serde_json::Value;

use crate::document::json_path::{JsonPath, PathFault, Place};
use crate::instance::Instance;
use crate::instance::xml_characters::unfit_for_xml;

/// Fields that may contain any character. User data is bytes; an override is the whole body of a
/// leaf, so it can have several lines, and the rules for overrides check its path. Tags are checked
/// by the rules for tags.
const UNCHECKED_FIELDS: [&str; 5] = ["UserData", "UserDataText", "Tags", "Overrides", "Override"];

/// Fields that metadata does not show and EC2's XML does: they may contain the control characters
/// that XML can represent.
const XML_FIELDS: [&str; 4] = [
    "Description",
    "StateTransitionReason",
    "StateReason",
    "ClientToken",
];

/// Reports control characters, except at paths that already have a fault. `text` has the fields of
/// the instance.
pub(super) fn check_characters(instance: &Instance, text: &str, faults: &mut Vec<PathFault>) {
    if !may_have_control_characters(text) {
        return;
    }
    let Ok(mut fields) = serde_json::to_value(instance) else {
        return;
    };
    remove_fields(&mut fields, &UNCHECKED_FIELDS);
    let mut found = Vec::new();
    let any = |text: &str| text.chars().find(|c| c.is_control());
    find_characters(&fields, &Place::root(), &any, &mut found);
    found.retain(|(path, _)| !faults.iter().any(|fault| fault.path == *path));
    faults.extend(found.into_iter().map(|(path, character)| {
        let code = u32::from(character);
        PathFault::new(
            path,
            format!(
                "has a control character (U+{code:04X}); metadata and EC2's XML cannot show it"
            ),
        )
    }));
}

/// Returns whether a JSON text may have a character that is refused anywhere. Such a character is
/// escaped, or is not in ASCII, or is DEL.
fn may_have_control_characters(text: &str) -> bool {
    let is_plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'\\';
    !text.bytes().all(is_plain)
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

/// Finds the first refused character of each string and of each key.
fn find_characters(
    value: &Value,
    place: &Place<'_>,
    first: &dyn Fn(&str) -> Option<char>,
    found: &mut Vec<(JsonPath, char)>,
) {
    match value {
        Value::String(text) => found.extend(first(text).map(|c| (place.path(), c))),
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                find_characters(element, &place.index(index), first, found);
            }
        }
        Value::Object(members) => {
            for (key, member) in members {
                let place = place.key(key);
                found.extend(first(key).map(|c| (place.path(), c)));
                match XML_FIELDS.contains(&key.as_str()) {
                    true => find_characters(member, &place, &unfit_for_xml, found),
                    false => find_characters(member, &place, first, found),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
