//! Deserializing with every fault reported, not only the first, and with messages for operators.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::document::json_path::{JsonPath, PathFault, Place, kind_of};
use crate::document::json_text::TextValue;
use crate::document::near_miss::hint;

/// How a time is written, for messages and help.
pub const TIME: &str = "2026-06-01T10:00:00Z, or with an offset, 2026-06-01T12:00:00+02:00";

/// The maximum number of deserialization faults that are reported for one value. A file with more
/// is probably not an instance document at all.
pub(super) const MAX_FAULTS: usize = 200;

/// The fields of scenarios that are a word or an object with one key.
const CHOICES: [&str; 7] = [
    "When",
    "Targets",
    "Time",
    "NotBefore",
    "NotAfter",
    "NotBeforeDeadline",
    "Rebalance",
];

/// The fields that are times.
const TIMES: [&str; 10] = [
    "LaunchTime",
    "AttachTime",
    "Expiration",
    "At",
    "Time",
    "NoticeTime",
    "VisibleFrom",
    "NotBefore",
    "NotAfter",
    "NotBeforeDeadline",
];

/// What could be read of a value, and the faults of the rest.
pub(super) struct PartialValue<T> {
    /// The value without the removed parts; `None` if not even that could be read.
    pub(super) value: Option<T>,
    /// The faults, at paths in the original value.
    pub(super) faults: Vec<PathFault>,
    /// The paths of the removed parts in the original value.
    pub(super) removed: Vec<JsonPath>,
}

/// Reads a value and collects all faults. Deserializing stops at the first fault, so that part is
/// removed from `value` and the rest is tried again.
pub(super) fn deserialize_all_faults<T: DeserializeOwned>(value: &mut Value) -> PartialValue<T> {
    let (mut faults, mut removed) = (Vec::new(), Vec::new());
    // Most values have no fault. Noting the path to each part takes half of the time.
    if let Ok(read) = T::deserialize(&*value) {
        return PartialValue {
            value: Some(read),
            faults,
            removed,
        };
    }
    while faults.len() < MAX_FAULTS {
        let error = match serde_path_to_error::deserialize::<_, T>(&*value) {
            Ok(read) => {
                return PartialValue {
                    value: Some(read),
                    faults,
                    removed,
                };
            }
            Err(error) => error,
        };
        let (path, whole) = JsonPath::of_error(value, error.path());
        let original = path.before_removals(&removed);
        let message = error.inner().to_string();
        match quoted_word(&message, "missing field") {
            Some(field) => {
                // A required field that was removed is not missing. Its object is removed with it.
                let missing = original.key(field);
                if !removed.contains(&missing) {
                    faults.push(PathFault::new(missing.clone(), "is missing"));
                }
                if insert_placeholder(value, &path, field) {
                    removed.push(missing);
                    continue;
                }
            }
            None => {
                let message = operator_message(&path, path.find_in(value), &message);
                faults.push(PathFault::new(original, message));
            }
        }
        let whole_in_original = whole.before_removals(&removed);
        if !whole.remove_from(value) {
            break;
        }
        removed.push(whole_in_original);
    }
    PartialValue {
        value: None,
        faults,
        removed,
    }
}

/// Inserts any value for a required field of the root, which cannot be removed. Returns whether it
/// did; the fields after it can then be checked too.
fn insert_placeholder(value: &mut Value, path: &JsonPath, field: &str) -> bool {
    let placeholder = match field {
        "InstanceId" => json!("i-00000000"),
        "LaunchTime" => json!("1970-01-01T00:00:00Z"),
        "Name" => json!("scenario"),
        "Targets" => json!("All"),
        "Steps" => json!([]),
        _ => return false,
    };
    match value {
        Value::Object(members) if *path == JsonPath::root() => {
            members.insert(field.to_string(), placeholder).is_none()
        }
        _ => false,
    }
}

/// Finds arrays where an object was expected. serde reads the elements of such an array as the
/// fields of a struct in their order; no operator means that.
pub(super) fn array_for_object_faults(
    written: &Value,
    read: &Value,
    place: &Place<'_>,
    faults: &mut Vec<PathFault>,
) {
    match (written, read) {
        (Value::Array(_), Value::Object(_)) => {
            let message = format!("expected an object, found {}", kind_of(written));
            faults.push(PathFault::new(place.path(), message));
        }
        (Value::Array(written), Value::Array(read)) => {
            for (index, (written, read)) in written.iter().zip(read).enumerate() {
                array_for_object_faults(written, read, &place.index(index), faults);
            }
        }
        (Value::Object(written), Value::Object(read)) => {
            for (key, read) in read {
                if let Some(written) = written.get(key) {
                    array_for_object_faults(written, read, &place.key(key), faults);
                }
            }
        }
        _ => {}
    }
}

/// Returns whether [`array_for_object_faults`] finds a fault. `read` is the text of what was read: a
/// tree of its values costs more than all other checks of an instance.
pub(super) fn has_array_for_object(written: &Value, read: TextValue<'_, '_>) -> bool {
    match written {
        Value::Array(_) if read.is_object() => true,
        Value::Array(written) if read.is_array() => {
            let mut pairs = written.iter().zip(read.children());
            pairs.any(|(written, read)| has_array_for_object(written, read))
        }
        Value::Object(written) if read.is_object() => read.children().any(|read| {
            let written = read.key().and_then(|key| written.get(&*key));
            written.is_some_and(|written| has_array_for_object(written, read))
        }),
        _ => false,
    }
}

/// Turns serde's message into one for operators. It never contains the value, which may be a secret
/// in the wrong field.
fn operator_message(path: &JsonPath, found: Option<&Value>, message: &str) -> String {
    let is_about_type =
        message.starts_with("invalid type: ") || message.starts_with("invalid length ");
    if let (Some(found), true) = (found, is_about_type) {
        let expected = message.rsplit_once(", expected ").map(|(_, right)| right);
        let expected = expected_kind(path, expected);
        return format!("expected {expected}, found {}", kind_of(found));
    }
    // For a time, any other message about a text, except one about an unknown word, is about its
    // format.
    if found.is_some_and(Value::is_string)
        && path.ends_in(&TIMES)
        && !message.starts_with("unknown ")
    {
        return format!("expected a time such as {TIME}");
    }
    let unknown =
        quoted_word(message, "unknown field").or_else(|| quoted_word(message, "unknown variant"));
    let (Some(unknown), Some((_, expected))) = (unknown, message.rsplit_once(", expected ")) else {
        return message.replace('`', "'");
    };
    // serde lists the known words in backticks: every second piece between backticks is one.
    let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    format!(
        "'{unknown}' is not known{} (known: {})",
        hint(unknown, &known),
        known.join(", ")
    )
}

/// Returns what serde expected in an operator's words.
fn expected_kind<'m>(path: &JsonPath, expected: Option<&'m str>) -> &'m str {
    match expected {
        Some("u32") => "a whole number from 0",
        Some("i64") => "a whole number",
        Some("a sequence") => "an array",
        Some("string or map") if path.ends_in(&["Set", "Event"]) => {
            "an object with one key, such as {\"Clear\": …} or {\"Spot\": …}"
        }
        Some("string or map") if path.ends_in(&CHOICES) => "a word, or an object with one key",
        Some("string or map") if !path.goes_through("Attachments") => "a string",
        Some("string or map" | "newtype variant") => {
            "an object with one key, such as {\"Listener\": \"NAME\"}"
        }
        Some(expected) if expected != "a map" && !expected.starts_with("struct ") => expected,
        _ => "an object",
    }
}

/// Returns the first word in backticks of a message that begins with `beginning`.
fn quoted_word<'m>(message: &'m str, beginning: &str) -> Option<&'m str> {
    let rest = message.strip_prefix(beginning)?.strip_prefix(" `")?;
    Some(
        rest.rsplit_once("`, expected ")
            .map_or_else(|| rest.trim_end_matches('`'), |(word, _)| word),
    )
}
