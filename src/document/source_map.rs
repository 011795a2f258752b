//! The lines of a JSON text: on which line each value begins, and which keys appear twice in one
//! object. A [`serde_json::Value`] has neither.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::document::json_path::{JsonPath, PathFault, PathSegment, Place};
use crate::document::json_text::{JsonText, TextValue};

/// A JSON text with the position of each value.
pub(super) struct SourceMap<'t> {
    text: JsonText<'t>,
}

impl<'t> SourceMap<'t> {
    /// Finds the values of a JSON text.
    pub(super) fn of(text: &'t str) -> SourceMap<'t> {
        SourceMap {
            text: JsonText::of(text),
        }
    }

    /// Returns the line at which the value at `path` begins, or, if it is missing, the line of the
    /// nearest value above it. Lines count from 1.
    pub(super) fn line(&self, path: &JsonPath) -> usize {
        self.nearest(path).map_or(1, |value| value.line())
    }

    /// Returns the text of the value at `path`, or, if it is missing, of the nearest value above
    /// it.
    pub(super) fn text(&self, path: &JsonPath) -> &'t str {
        self.nearest(path).map_or("", |value| value.raw())
    }

    fn nearest(&self, path: &JsonPath) -> Option<TextValue<'_, 't>> {
        let mut value = self.text.root()?;
        for segment in path.segments() {
            let below = match segment {
                // Of several members with one key, the last is the one that serde_json keeps.
                PathSegment::Key(key) => {
                    let mut members = value.children().rev();
                    members.find(|member| member.key().is_some_and(|of| of == key.as_str()))
                }
                PathSegment::Index(index) => value.element(*index),
            };
            let Some(below) = below else { break };
            value = below;
        }
        Some(value)
    }

    /// Returns a fault for each key that appears twice in one object.
    pub(super) fn duplicate_keys(&self) -> Vec<PathFault> {
        let mut faults = Vec::new();
        if self.text.may_repeat_key()
            && let Some(root) = self.text.root()
        {
            duplicate_keys_in(root, &Place::root(), &mut faults);
        }
        faults
    }
}

/// Recurses as deep as the document; serde_json has limited its depth before.
fn duplicate_keys_in(value: TextValue<'_, '_>, place: &Place<'_>, faults: &mut Vec<PathFault>) {
    let mut first = BTreeMap::<Cow<'_, str>, TextValue<'_, '_>>::new();
    for (index, child) in value.children().enumerate() {
        let Some(key) = child.key() else {
            duplicate_keys_in(child, &place.index(index), faults);
            continue;
        };
        let place = place.key(&key);
        if let Some(earlier) = first.insert(key.clone(), child) {
            let message = format!("appears twice, also on line {}", earlier.line());
            faults.push(PathFault::new(place.path(), message));
        }
        duplicate_keys_in(child, &place, faults);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_appears_twice_is_found_in_every_object() {
        let many = |last: &str| {
            let members: String = (0..1000)
                .map(|number| format!("\"{number}\":{number},"))
                .collect();
            format!("{{{members}\"{last}\":[]}}")
        };
        let paths = |text: &str| -> Vec<String> {
            let faults = SourceMap::of(text).duplicate_keys();
            faults.iter().map(|fault| fault.path.to_string()).collect()
        };
        for (text, expected) in [
            ("{}".to_string(), vec![]),
            (
                "[\"a\",\"a\",{\"a\":\"a\"},{\"a\":{\"a\":1}}]".to_string(),
                vec![],
            ),
            (
                "{\"a\":1,\"b\":2,\"a\":3,\"a\":4}".to_string(),
                vec!["a", "a"],
            ),
            ("[{\"b\":{\"\":1,\"\":2}}]".to_string(), vec!["[0].b."]),
            ("{\"a\":1,\"\\u0061\":2}".to_string(), vec!["a"]),
            ("{\"\\u0062\":1,\"a\":2}".to_string(), vec![]),
            (many("1000"), vec![]),
            (many("999"), vec!["999"]),
        ] {
            assert_eq!(paths(&text), expected, "{text}");
        }
    }
}
