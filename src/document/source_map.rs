//! The lines of a JSON text: on which line each value begins, and which keys appear twice in one
//! object. A [`serde_json::Value`] has neither.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::document::json_path::{JsonPath, PathFault, PathSegment, Place};

/// A JSON text with the position of each value.
pub(super) struct SourceMap<'t> {
    text: &'t str,
    /// The offsets of the line ends. They are collected once, because a text with a thousand
    /// instances is asked for the lines of all of them.
    line_ends: Vec<usize>,
    root: SourceNode<'t>,
}

/// One value of the text. `raw` is a slice of it.
struct SourceNode<'t> {
    raw: &'t str,
    members: Vec<(String, SourceNode<'t>)>,
    elements: Vec<SourceNode<'t>>,
}

impl<'t> SourceMap<'t> {
    /// Parses a JSON text.
    pub(super) fn of(text: &'t str) -> serde_json::Result<SourceMap<'t>> {
        let line_ends = text
            .bytes()
            .enumerate()
            .filter(|(_, byte)| *byte == b'\n')
            .map(|(end, _)| end)
            .collect();
        Ok(SourceMap {
            text,
            line_ends,
            root: SourceNode::of(serde_json::from_str(text)?)?,
        })
    }

    /// Returns the line at which the value at `path` begins, or, if it is missing, the line of the
    /// nearest value above it. Lines count from 1.
    pub(super) fn line(&self, path: &JsonPath) -> usize {
        self.line_of(self.nearest(path))
    }

    /// Returns the text of the value at `path`, or, if it is missing, of the nearest value above
    /// it.
    pub(super) fn text(&self, path: &JsonPath) -> &'t str {
        self.nearest(path).raw
    }

    fn nearest(&self, path: &JsonPath) -> &SourceNode<'t> {
        let mut node = &self.root;
        for segment in path.segments() {
            let below = match segment {
                // Of several members with one key, the last is the one that serde_json keeps.
                PathSegment::Key(key) => node
                    .members
                    .iter()
                    .rev()
                    .find(|(name, _)| name == key)
                    .map(|(_, member)| member),
                PathSegment::Index(index) => node.elements.get(*index),
            };
            let Some(below) = below else { break };
            node = below;
        }
        node
    }

    fn line_of(&self, node: &SourceNode<'_>) -> usize {
        // Both are slices of the same text, and a raw value is never empty.
        let offset = node.raw.as_ptr() as usize - self.text.as_ptr() as usize;
        1 + self.line_ends.partition_point(|end| *end < offset)
    }

    /// Returns a fault for each key that appears twice in one object.
    pub(super) fn duplicate_keys(&self) -> Vec<PathFault> {
        let mut faults = Vec::new();
        self.duplicate_keys_in(&self.root, &Place::root(), &mut faults);
        faults
    }

    fn duplicate_keys_in(
        &self,
        node: &SourceNode<'_>,
        place: &Place<'_>,
        faults: &mut Vec<PathFault>,
    ) {
        let mut first = BTreeMap::<&str, &SourceNode<'_>>::new();
        for (key, member) in &node.members {
            let place = place.key(key);
            if let Some(earlier) = first.insert(key, member) {
                let message = format!("appears twice, also on line {}", self.line_of(earlier));
                faults.push(PathFault::new(place.path(), message));
            }
            self.duplicate_keys_in(member, &place, faults);
        }
        for (index, element) in node.elements.iter().enumerate() {
            self.duplicate_keys_in(element, &place.index(index), faults);
        }
    }
}

impl<'t> SourceNode<'t> {
    /// Recurses as deep as the document; serde_json has limited its depth before.
    fn of(raw: &'t RawValue) -> serde_json::Result<SourceNode<'t>> {
        let raw = raw.get();
        let (mut members, mut elements) = (Vec::new(), Vec::new());
        match raw.as_bytes().first() {
            Some(b'{') => {
                for (key, member) in serde_json::from_str::<RawMembers<'t>>(raw)?.0 {
                    members.push((key, SourceNode::of(member)?));
                }
            }
            Some(b'[') => {
                for element in serde_json::from_str::<Vec<&'t RawValue>>(raw)? {
                    elements.push(SourceNode::of(element)?);
                }
            }
            _ => {}
        }
        Ok(SourceNode {
            raw,
            members,
            elements,
        })
    }
}

/// The members of an object in their order, including those with the same key.
struct RawMembers<'t>(Vec<(String, &'t RawValue)>);

impl<'de: 't, 't> Deserialize<'de> for RawMembers<'t> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct MembersVisitor;

        impl<'de> Visitor<'de> for MembersVisitor {
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

        from.deserialize_map(MembersVisitor).map(RawMembers)
    }
}
