//! Paths to values in a JSON document, and faults at such paths.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;
use serde_path_to_error::Segment;

/// The path to a value in a document: `Imds.Attachments[0].Listener`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonPath(Vec<PathSegment>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PathSegment {
    Key(String),
    Index(usize),
}

/// Where a walk through a document is. Unlike a [`JsonPath`] it lives on the stack: most documents
/// have no fault, so most places are never needed as a path.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    above: Option<(&'a Place<'a>, PlaceStep<'a>)>,
}

#[derive(Clone, Copy)]
enum PlaceStep<'a> {
    Key(&'a str),
    Index(usize),
}

impl Place<'_> {
    /// Returns the place of the whole document.
    pub(super) fn root() -> Place<'static> {
        Place { above: None }
    }

    /// Returns the place of a member of the object at this place.
    pub(super) fn key<'a>(&'a self, key: &'a str) -> Place<'a> {
        Place {
            above: Some((self, PlaceStep::Key(key))),
        }
    }

    /// Returns the place of an element of the array at this place.
    pub(super) fn index(&self, index: usize) -> Place<'_> {
        Place {
            above: Some((self, PlaceStep::Index(index))),
        }
    }

    /// Returns the path to this place.
    pub(super) fn path(&self) -> JsonPath {
        match self.above {
            None => JsonPath::root(),
            Some((above, PlaceStep::Key(key))) => above.path().key(key),
            Some((above, PlaceStep::Index(index))) => above.path().index(index),
        }
    }
}

/// A fault at a path of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PathFault {
    pub(super) path: JsonPath,
    pub(super) message: String,
}

impl PathFault {
    pub(super) fn new(path: JsonPath, message: impl Into<String>) -> PathFault {
        PathFault {
            path,
            message: message.into(),
        }
    }
}

impl JsonPath {
    /// Returns the path of the whole document.
    pub fn root() -> JsonPath {
        JsonPath(Vec::new())
    }

    /// Returns the path of a member of the object at this path.
    pub fn key(&self, key: &str) -> JsonPath {
        self.child(PathSegment::Key(key.to_string()))
    }

    /// Returns the path of an element of the array at this path.
    pub fn index(&self, index: usize) -> JsonPath {
        self.child(PathSegment::Index(index))
    }

    fn child(&self, segment: PathSegment) -> JsonPath {
        self.join(&JsonPath(vec![segment]))
    }

    pub(super) fn join(&self, below: &JsonPath) -> JsonPath {
        JsonPath(self.0.iter().chain(&below.0).cloned().collect())
    }

    pub(super) fn segments(&self) -> &[PathSegment] {
        &self.0
    }

    /// Returns whether this path is `other` or below it.
    pub(super) fn is_within(&self, other: &JsonPath) -> bool {
        self.0.starts_with(&other.0)
    }

    /// Returns whether a member of this name is on the path.
    pub(super) fn goes_through(&self, field: &str) -> bool {
        self.0
            .iter()
            .any(|segment| matches!(segment, PathSegment::Key(key) if key == field))
    }

    /// Returns whether the path ends with one of these members.
    pub(super) fn ends_in(&self, fields: &[&str]) -> bool {
        matches!(self.0.last(), Some(PathSegment::Key(key)) if fields.contains(&key.as_str()))
    }

    /// Returns whether the path is an element of an array of this name.
    fn is_element_of(&self, array: &str) -> bool {
        matches!(
            self.0.as_slice(),
            [.., PathSegment::Key(key), PathSegment::Index(_)] if key == array
        )
    }

    /// Returns the path of a deserialization error, as far as the value has it, and the path of
    /// what must be removed because of it.
    pub(super) fn of_error(
        value: &Value,
        path: &serde_path_to_error::Path,
    ) -> (JsonPath, JsonPath) {
        let (mut faulty, mut whole) = (JsonPath::root(), None);
        for segment in path {
            let below = match segment {
                Segment::Seq { index } => faulty.index(*index),
                Segment::Map { key } => {
                    // An attachment cannot be without its kind, so all of it is removed.
                    if faulty.is_element_of("Attachments") {
                        whole.get_or_insert(faulty.clone());
                    }
                    faulty.key(key)
                }
                Segment::Enum { variant } => {
                    // A variant cannot be without its content, so the whole variant is removed.
                    whole.get_or_insert(faulty.clone());
                    faulty.key(variant)
                }
                Segment::Unknown => break,
            };
            if below.find_in(value).is_none() {
                break;
            }
            faulty = below;
        }
        let whole = whole.unwrap_or_else(|| faulty.clone());
        (faulty, whole)
    }

    pub(super) fn find_in<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        self.0
            .iter()
            .try_fold(value, |value, segment| match segment {
                PathSegment::Key(key) => value.get(key),
                PathSegment::Index(index) => value.get(index),
            })
    }

    pub(super) fn find_in_mut<'v>(&self, value: &'v mut Value) -> Option<&'v mut Value> {
        self.0
            .iter()
            .try_fold(value, |value, segment| match segment {
                PathSegment::Key(key) => value.get_mut(key),
                PathSegment::Index(index) => value.get_mut(index),
            })
    }

    /// Removes the value at this path. Returns whether there was one; the root cannot be removed.
    pub(super) fn remove_from(&self, value: &mut Value) -> bool {
        let Some((last, above)) = self.0.split_last() else {
            return false;
        };
        let Some(parent) = JsonPath(above.to_vec()).find_in_mut(value) else {
            return false;
        };
        match (last, parent) {
            (PathSegment::Key(key), Value::Object(members)) => members.remove(key).is_some(),
            (PathSegment::Index(index), Value::Array(elements)) if *index < elements.len() => {
                elements.remove(*index);
                true
            }
            _ => false,
        }
    }

    /// Returns this path as it was before the removals. Each removal moved the later elements of
    /// its array one index down.
    pub(super) fn before_removals(&self, removed: &[JsonPath]) -> JsonPath {
        let mut before = JsonPath::root();
        for segment in &self.0 {
            let segment = match segment {
                PathSegment::Key(key) => PathSegment::Key(key.clone()),
                PathSegment::Index(index) => {
                    let gone: BTreeSet<usize> = removed
                        .iter()
                        .filter_map(|removed| removed.index_in(&before))
                        .collect();
                    let shifted = gone.into_iter().fold(*index, |index, gone| {
                        if gone <= index { index + 1 } else { index }
                    });
                    PathSegment::Index(shifted)
                }
            };
            before.0.push(segment);
        }
        before
    }

    /// Returns the index of this path in `array`, if it is an element of that array.
    fn index_in(&self, array: &JsonPath) -> Option<usize> {
        match self.0.split_last()? {
            (PathSegment::Index(index), above) if above == array.0 => Some(*index),
            _ => None,
        }
    }
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (count, segment) in self.0.iter().enumerate() {
            match segment {
                PathSegment::Key(key) if count == 0 => write!(f, "{}", key.escape_debug())?,
                PathSegment::Key(key) => write!(f, ".{}", key.escape_debug())?,
                PathSegment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// Returns the kind of a JSON value with its article: "a string".
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
