//! The form of an instance: reading it with every fault of form reported, not only the first.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::document::json_path::Place;
use crate::document::{
    CHOICES, IMDS, INSTANCE_FIELDS, Judgement, MAX_FAULTS, OPTION_FIELDS, TIME, TIMES, kind,
    near_miss,
};

/// serde reads an array for an object, its elements for the fields in their order. No document means that.
pub(super) fn lists_for_objects(
    written: &Value,
    read: &Value,
    place: &Place,
    wrong: &mut Judgement,
) {
    match (written, read) {
        (Value::Array(_), Value::Object(_)) => {
            wrong.push((
                place.clone(),
                format!("this is an object, not {}", kind(written)),
            ));
        }
        (Value::Array(written), Value::Array(read)) => {
            for (index, (written, read)) in written.iter().zip(read).enumerate() {
                lists_for_objects(written, read, &place.index(index), wrong);
            }
        }
        (Value::Object(written), Value::Object(read)) => {
            for (key, read) in read {
                if let Some(written) = written.get(key) {
                    lists_for_objects(written, read, &place.key(key), wrong);
                }
            }
        }
        _ => {}
    }
}

pub(super) fn unread_fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members
            .into_iter()
            .filter(|(field, _)| !is_instance_field(field))
            .collect(),
        _ => Map::new(),
    }
}

pub(super) fn is_instance_field(field: &str) -> bool {
    field == IMDS || INSTANCE_FIELDS.contains(&field)
}

/// Near misses in the two places where an unknown field is otherwise kept or passed over. A misspelt `HttpEndpoint` would
/// leave open what the operator closed.
pub(super) fn misspelt(instance: &Map<String, Value>) -> Judgement {
    let root = Place::root();
    let instance_fields: Vec<&str> = INSTANCE_FIELDS.into_iter().chain([IMDS]).collect();
    let mut wrong = near_misses(&root, instance, &instance_fields);
    if let Some(Value::Object(options)) = instance.get("MetadataOptions") {
        // Here every unknown field is refused, not only a near miss.
        let place = root.key("MetadataOptions");
        let unknown = options
            .keys()
            .filter(|field| !OPTION_FIELDS.contains(&field.as_str()));
        wrong.extend(unknown.map(|field| {
            let hint = near_miss(field, &OPTION_FIELDS)
                .map(|word| format!("; did you mean {word}?"))
                .unwrap_or_default();
            (place.key(field), format!("is not known{hint}"))
        }));
    }
    for (field, member) in instance.iter().filter(|(field, _)| *field != IMDS) {
        uncapitalised(&root.key(field), member, &mut wrong);
    }
    wrong
}

/// EC2 spells every field with a capital. A field that does not would be passed over, with what was meant by it.
pub(super) fn uncapitalised(place: &Place, value: &Value, wrong: &mut Judgement) {
    match value {
        Value::Array(elements) => {
            let place = |index| place.index(index);
            elements
                .iter()
                .enumerate()
                .for_each(|(index, element)| uncapitalised(&place(index), element, wrong));
        }
        Value::Object(members) => {
            for (field, member) in members {
                let place = place.key(field);
                if field.starts_with(|c: char| c.is_ascii_lowercase()) {
                    wrong.push((
                        place.clone(),
                        "is not known: EC2's fields begin with a capital letter".to_string(),
                    ));
                }
                uncapitalised(&place, member, wrong);
            }
        }
        _ => {}
    }
}

pub(super) fn near_misses(
    place: &Place,
    members: &Map<String, Value>,
    known: &[&str],
) -> Judgement {
    let unknown = members
        .keys()
        .filter(|field| !known.contains(&field.as_str()));
    unknown
        .filter_map(|field| {
            Some((
                place.key(field),
                format!("is not known; did you mean {}?", near_miss(field, known)?),
            ))
        })
        .collect()
}

/// What is left of an instance when everything that can't be read is taken out of it.
pub(super) struct Reduced<T> {
    /// `None` when not even the rest could be read.
    pub(super) instance: Option<T>,
    pub(super) faults: Judgement,
    /// What was taken out: places in the document.
    pub(super) removed: Vec<Place>,
}

/// Deserializing stops at the first fault. So that fault is noted, its place taken out, and the rest tried again.
pub(super) fn reduce<T: DeserializeOwned>(value: &mut Value) -> Reduced<T> {
    let (mut faults, mut removed) = (Vec::new(), Vec::new());
    while faults.len() < MAX_FAULTS {
        let error = match serde_path_to_error::deserialize::<_, T>(&*value) {
            Ok(instance) => {
                return Reduced {
                    instance: Some(instance),
                    faults,
                    removed,
                };
            }
            Err(error) => error,
        };
        let (place, whole) = Place::of_error(value, error.path());
        let in_document = place.before_removals(&removed);
        let message = error.inner().to_string();
        match quoted_in(&message, "missing field") {
            Some(field) => {
                // A required field that was itself taken out is not missing, and takes its object with it.
                let missing = in_document.key(field);
                if !removed.contains(&missing) {
                    faults.push((missing.clone(), "is missing".to_string()));
                }
                if stand_in(value, &place, field) {
                    removed.push(missing);
                    continue;
                }
            }
            None => faults.push((
                in_document,
                in_our_words(&place, place.find_in(value), &message),
            )),
        }
        let whole_in_document = whole.before_removals(&removed);
        if !whole.take_out_of(value) {
            break;
        }
        removed.push(whole_in_document);
    }
    Reduced {
        instance: None,
        faults,
        removed,
    }
}

/// The whole of a document, an instance or a scenario, can't be taken out of it: its required fields get any value, to
/// see what follows them.
pub(super) fn stand_in(value: &mut Value, place: &Place, field: &str) -> bool {
    let any = match field {
        "InstanceId" => json!("i-00000000"),
        "LaunchTime" => json!("1970-01-01T00:00:00Z"),
        "Name" => json!("scenario"),
        "Targets" => json!("All"),
        "Steps" => json!([]),
        _ => return false,
    };
    match value {
        Value::Object(members) if *place == Place::root() => {
            members.insert(field.to_string(), any).is_none()
        }
        _ => false,
    }
}

/// serde's message in an operator's words. The value itself is left out of it: it may be a secret in the wrong place.
pub(super) fn in_our_words(place: &Place, found: Option<&Value>, message: &str) -> String {
    let of_type = message.starts_with("invalid type: ") || message.starts_with("invalid length ");
    if let (Some(found), true) = (found, of_type) {
        let right = match message.rsplit_once(", expected ") {
            Some((_, "u32")) => "a whole number from 0",
            Some((_, "i64")) => "a whole number",
            Some((_, "a sequence")) => "an array",
            Some((_, "string or map")) if place.ends_in(&["Set", "Event"]) => {
                "an object with one key, {\"Clear\": …} or {\"Spot\": …} say"
            }
            Some((_, "string or map")) if place.ends_in(&CHOICES) => {
                "a word, or an object with one key"
            }
            Some((_, "string or map")) if !place.goes_through("Attachments") => "a string",
            Some((_, "string or map" | "newtype variant")) => {
                "an object with one key, {\"Listener\": \"NAME\"} say"
            }
            Some((_, right)) if right != "a map" && !right.starts_with("struct ") => right,
            _ => "an object",
        };
        return format!("this is {right}, not {}", kind(found));
    }
    // What is about a text and not about its kind or its word is about a time that can't be read.
    if found.is_some_and(Value::is_string)
        && place.ends_in(&TIMES)
        && !message.starts_with("unknown ")
    {
        return format!("a time is {TIME}");
    }
    let unknown =
        quoted_in(message, "unknown field").or_else(|| quoted_in(message, "unknown variant"));
    let (Some(unknown), Some((_, expected))) = (unknown, message.rsplit_once(", expected ")) else {
        return message.replace('`', "'");
    };
    // serde names what it knows in backticks: every second piece between them.
    let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    let hint = near_miss(unknown, &known)
        .map(|word| format!("; did you mean {word}?"))
        .unwrap_or_default();
    format!(
        "'{unknown}' is not known{hint} (known: {})",
        known.join(", ")
    )
}

/// The first word in backticks of a message that begins with `beginning`.
pub(super) fn quoted_in<'m>(message: &'m str, beginning: &str) -> Option<&'m str> {
    let rest = message.strip_prefix(beginning)?.strip_prefix(" `")?;
    Some(
        rest.rsplit_once("`, expected ")
            .map_or_else(|| rest.trim_end_matches('`'), |(word, _)| word),
    )
}

pub(super) fn letters_apart(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (count, letter) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = count + 1;
        for (column, candidate) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *candidate);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}
