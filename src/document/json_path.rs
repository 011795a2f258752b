//! Where things stand in a document, and on which line of its text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use serde_path_to_error::Segment;

use crate::document::Judgement;

/// Where something stands in a document: `Imds.Attachments[0].Listener`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

impl Place {
    /// The whole of it.
    pub fn root() -> Place {
        Place(Vec::new())
    }

    /// A member of the object here.
    pub fn key(&self, key: &str) -> Place {
        self.step(Step::Key(key.to_string()))
    }

    /// An element of the array here.
    pub fn index(&self, index: usize) -> Place {
        self.step(Step::Index(index))
    }

    fn step(&self, step: Step) -> Place {
        self.join(&Place(vec![step]))
    }

    pub(super) fn join(&self, below: &Place) -> Place {
        Place(self.0.iter().chain(&below.0).cloned().collect())
    }

    pub(super) fn is_within(&self, other: &Place) -> bool {
        self.0.starts_with(&other.0)
    }

    pub(super) fn goes_through(&self, field: &str) -> bool {
        self.0
            .iter()
            .any(|step| matches!(step, Step::Key(key) if key == field))
    }

    pub(super) fn ends_in(&self, fields: &[&str]) -> bool {
        matches!(self.0.last(), Some(Step::Key(key)) if fields.contains(&key.as_str()))
    }

    /// The place of a fault of form, as deep as the value has it, and what must be taken out on its account.
    pub(super) fn of_error(value: &Value, path: &serde_path_to_error::Path) -> (Place, Place) {
        let (mut place, mut whole) = (Place::root(), None);
        for segment in path {
            let below = match segment {
                Segment::Seq { index } => place.index(*index),
                Segment::Map { key } => place.key(key),
                Segment::Enum { variant } => {
                    // A variant without what is in it is nothing: it goes as a whole.
                    whole.get_or_insert(place.clone());
                    place.key(variant)
                }
                Segment::Unknown => break,
            };
            if below.find_in(value).is_none() {
                break;
            }
            place = below;
        }
        let whole = whole.unwrap_or_else(|| place.clone());
        (place, whole)
    }

    pub(super) fn find_in<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        self.0.iter().try_fold(value, |here, step| match step {
            Step::Key(key) => here.get(key),
            Step::Index(index) => here.get(index),
        })
    }

    pub(super) fn find_in_mut<'v>(&self, value: &'v mut Value) -> Option<&'v mut Value> {
        self.0.iter().try_fold(value, |here, step| match step {
            Step::Key(key) => here.get_mut(key),
            Step::Index(index) => here.get_mut(index),
        })
    }

    /// Takes what stands here out of the value. Nothing can be done about the root.
    pub(super) fn take_out_of(&self, value: &mut Value) -> bool {
        let Some((last, above)) = self.0.split_last() else {
            return false;
        };
        let Some(here) = Place(above.to_vec()).find_in_mut(value) else {
            return false;
        };
        match (last, here) {
            (Step::Key(key), Value::Object(members)) => members.remove(key).is_some(),
            (Step::Index(index), Value::Array(elements)) if *index < elements.len() => {
                elements.remove(*index);
                true
            }
            _ => false,
        }
    }

    /// This place as it was called before the removals, each of which moved the later elements of its array up.
    pub(super) fn before_removals(&self, removed: &[Place]) -> Place {
        let mut before = Place::root();
        for step in &self.0 {
            let step = match step {
                Step::Key(key) => Step::Key(key.clone()),
                Step::Index(index) => {
                    let gone: BTreeSet<usize> = removed
                        .iter()
                        .filter_map(|gone| gone.index_in(&before))
                        .collect();
                    Step::Index(gone.into_iter().fold(*index, |index, gone| {
                        if gone <= index { index + 1 } else { index }
                    }))
                }
            };
            before.0.push(step);
        }
        before
    }

    /// The index of this place in `array`, when it is an element of it.
    fn index_in(&self, array: &Place) -> Option<usize> {
        match self.0.split_last()? {
            (Step::Index(index), above) if above == array.0 => Some(*index),
            _ => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (count, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if count == 0 => write!(f, "{}", key.escape_debug())?,
                Step::Key(key) => write!(f, ".{}", key.escape_debug())?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// The text of a document with the place of everything in it: what a `serde_json::Value` forgets.
pub(super) struct Source<'t> {
    text: &'t str,
    /// Where lines end. A thousand instances in one text ask for their lines: it is not gone through for each.
    line_ends: Vec<usize>,
    root: Node<'t>,
}

pub(super) struct Node<'t> {
    raw: &'t str,
    members: Vec<(String, Node<'t>)>,
    elements: Vec<Node<'t>>,
}

impl<'t> Source<'t> {
    pub(super) fn of(text: &'t str) -> serde_json::Result<Source<'t>> {
        let line_ends = text
            .bytes()
            .enumerate()
            .filter(|(_, byte)| *byte == b'\n')
            .map(|(end, _)| end)
            .collect();
        Ok(Source {
            text,
            line_ends,
            root: Node::of(serde_json::from_str(text)?)?,
        })
    }

    /// The line at which `place` begins, or what is nearest above it when it is missing.
    pub(super) fn line(&self, place: &Place) -> usize {
        let mut here = &self.root;
        for step in &place.0 {
            let below = match step {
                // The last one of several is the one that was read.
                Step::Key(key) => here
                    .members
                    .iter()
                    .rev()
                    .find(|(name, _)| name == key)
                    .map(|(_, node)| node),
                Step::Index(index) => here.elements.get(*index),
            };
            let Some(below) = below else { break };
            here = below;
        }
        self.line_of(here)
    }

    fn line_of(&self, node: &Node<'_>) -> usize {
        // Both are slices of one text, and a raw value is never empty.
        let offset = node.raw.as_ptr() as usize - self.text.as_ptr() as usize;
        1 + self.line_ends.partition_point(|end| *end < offset)
    }

    pub(super) fn keys_twice(&self, wrong: &mut Judgement) {
        self.keys_twice_in(&self.root, &Place::root(), wrong);
    }

    fn keys_twice_in(&self, node: &Node<'_>, place: &Place, wrong: &mut Judgement) {
        let mut first = BTreeMap::<&str, &Node<'_>>::new();
        for (key, member) in &node.members {
            let place = place.key(key);
            if let Some(earlier) = first.insert(key, member) {
                wrong.push((
                    place.clone(),
                    format!("stands twice, on line {} already", self.line_of(earlier)),
                ));
            }
            self.keys_twice_in(member, &place, wrong);
        }
        for (index, element) in node.elements.iter().enumerate() {
            self.keys_twice_in(element, &place.index(index), wrong);
        }
    }
}

impl<'t> Node<'t> {
    /// As deep as the document, which serde_json has limited by now.
    fn of(raw: &'t RawValue) -> serde_json::Result<Node<'t>> {
        let raw = raw.get();
        let (mut members, mut elements) = (Vec::new(), Vec::new());
        match raw.as_bytes().first() {
            Some(b'{') => {
                for (key, member) in serde_json::from_str::<Members<'t>>(raw)?.0 {
                    members.push((key, Node::of(member)?));
                }
            }
            Some(b'[') => {
                for element in serde_json::from_str::<Vec<&'t RawValue>>(raw)? {
                    elements.push(Node::of(element)?);
                }
            }
            _ => {}
        }
        Ok(Node {
            raw,
            members,
            elements,
        })
    }
}

/// The members of an object in their order, with those that stand twice.
pub(super) struct Members<'t>(Vec<(String, &'t RawValue)>);

impl<'de: 't, 't> Deserialize<'de> for Members<'t> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = object.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }

        from.deserialize_map(Object).map(Members)
    }
}
