//! The metadata tree. One nest of category tables answers both "what is here" and "what is its value", so a listing and a
//! lookup can't disagree: a name is listed exactly when it resolves (`user-data` in the version's own listing is EC2's one
//! exception).
//!
//! A category is absent, which is 404 and not listed, when it came with a later version, when the instance has no data for
//! it, or when everything below it is absent.

mod dynamic;
mod iam;
mod json;
mod meta_data;
mod network;

use std::borrow::Cow;

use jiff::Timestamp;

use crate::clock::Moment;
use crate::guest::admission::{Admitted, Delivery, Reading};
use crate::guest::path::{DataPath, LATEST, VERSIONS, Version};
use crate::instance::tags::Tag;
use crate::instance::{Instance, NetworkInterface, PrivateAddress, Switch};
use crate::registry::Entry;

/// What a path leads to: a leaf's value or a directory's listing.
#[derive(Debug, PartialEq, Eq)]
pub struct Value<'a> {
    /// The body, without a newline at its end (`openssh-key` has one).
    pub bytes: Cow<'a, [u8]>,
    /// Its type.
    pub content_type: ContentType,
    /// When it last changed.
    pub last_modified: Timestamp,
}

/// The content types of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentType {
    /// Everything, JSON included.
    Text,
    /// User data.
    Octets,
}

impl ContentType {
    /// The header's value.
    pub fn as_str(self) -> &'static str {
        match self {
            ContentType::Text => "text/plain",
            ContentType::Octets => "application/octet-stream",
        }
    }
}

/// Reads one path for an admitted request; `None` is 404.
pub fn read<'a>(admitted: &Admitted<'a, Reading>, path: &str, now: Moment) -> Option<Value<'a>> {
    let entry = admitted.entry();
    let text = |text: String| Value {
        bytes: Cow::Owned(text.into_bytes()),
        content_type: ContentType::Text,
        last_modified: entry.changed,
    };
    match DataPath::parse(path)? {
        DataPath::Root => {
            let names: Vec<&str> = VERSIONS.into_iter().chain([LATEST]).collect();
            Some(text(names.join("\n")))
        }
        DataPath::Versioned(version, segments) => {
            let walk = Walk { version };
            let focus = Focus {
                entry,
                delivery: admitted.delivery(),
                tags: admitted.tags(),
                now,
                interface: None,
                address: None,
                tag: None,
                device: None,
            };
            match segments.split_first() {
                None => Some(text(walk.list_version(focus))),
                Some((first, rest)) => walk.into(TOP, first, rest, focus),
            }
        }
    }
}

/// What stands directly below a version.
const TOP: &[Category] = &[
    directory("dynamic", "2009-04-04", dynamic::DYNAMIC),
    directory("meta-data", "1.0", meta_data::META_DATA),
    Category { name: "user-data", since: "1.0", kind: Kind::Octets(|focus| focus.instance().user_data()) },
];

/// One row of a table.
struct Category {
    name: &'static str,
    /// The release that introduced it.
    since: &'static str,
    kind: Kind,
}

/// What a name stands for.
enum Kind {
    /// A text, absent when there is none.
    Leaf(for<'a> fn(Focus<'a>) -> Option<Cow<'a, str>>),
    /// A text with a date of its own.
    Dated(for<'a> fn(Focus<'a>) -> Option<(Cow<'a, str>, Timestamp)>),
    /// Bytes.
    Octets(fn(Focus<'_>) -> Option<Vec<u8>>),
    /// A table of its own.
    Directory(&'static [Category]),
    /// Names that come from the instance, each of the same kind.
    Each(for<'a> fn(Focus<'a>) -> Vec<Child<'a>>, &'static Kind),
}

/// A name that comes from the instance.
struct Child<'a> {
    name: Cow<'a, str>,
    /// How it is listed, where that is not its name.
    listed: Option<String>,
    focus: Focus<'a>,
}

/// What a table's rows look at: the instance, the terms of the read, and the item a path has led into.
#[derive(Clone, Copy)]
struct Focus<'a> {
    entry: &'a Entry,
    delivery: Delivery,
    tags: Switch,
    now: Moment,
    interface: Option<&'a NetworkInterface>,
    address: Option<&'a PrivateAddress>,
    tag: Option<&'a Tag>,
    device: Option<&'a str>,
}

const fn leaf(
    name: &'static str,
    since: &'static str,
    read: for<'a> fn(Focus<'a>) -> Option<Cow<'a, str>>,
) -> Category {
    Category { name, since, kind: Kind::Leaf(read) }
}

const fn directory(name: &'static str, since: &'static str, children: &'static [Category]) -> Category {
    Category { name, since, kind: Kind::Directory(children) }
}

const fn each(
    name: &'static str,
    since: &'static str,
    children: for<'a> fn(Focus<'a>) -> Vec<Child<'a>>,
    kind: &'static Kind,
) -> Category {
    Category { name, since, kind: Kind::Each(children, kind) }
}

/// A walk through the tables as one version has them.
#[derive(Clone, Copy)]
struct Walk {
    version: Version,
}

impl Walk {
    fn into<'a>(
        self,
        table: &'static [Category],
        name: &str,
        rest: &[Cow<'_, str>],
        focus: Focus<'a>,
    ) -> Option<Value<'a>> {
        let category = table.iter().find(|category| category.name == name && self.version.has(category.since))?;
        self.resolve(&category.kind, rest, focus)
    }

    fn resolve<'a>(self, kind: &'static Kind, rest: &[Cow<'_, str>], focus: Focus<'a>) -> Option<Value<'a>> {
        match (kind, rest.split_first()) {
            (Kind::Directory(table), Some((name, rest))) => self.into(table, name, rest, focus),
            (Kind::Each(children, kind), Some((name, rest))) => {
                let child = children(focus).into_iter().find(|child| child.name == *name)?;
                self.resolve(kind, rest, child.focus)
            }
            (Kind::Directory(_) | Kind::Each(..), None) => {
                let listing = self.list(kind, focus);
                (!listing.is_empty()).then(|| focus.text(Cow::Owned(listing.join("\n"))))
            }
            (Kind::Leaf(read), None) => read(focus).map(|text| focus.text(text)),
            (Kind::Dated(read), None) => {
                read(focus).map(|(text, last_modified)| Value { last_modified, ..focus.text(text) })
            }
            (Kind::Octets(read), None) => read(focus).map(|bytes| Value {
                bytes: Cow::Owned(bytes),
                content_type: ContentType::Octets,
                last_modified: focus.entry.changed,
            }),
            // Nothing is below a leaf.
            (Kind::Leaf(_) | Kind::Dated(_) | Kind::Octets(_), Some(_)) => None,
        }
    }

    /// The lines of a listing: names in byte order, those with something below them with a slash.
    fn list(self, kind: &'static Kind, focus: Focus<'_>) -> Vec<String> {
        match kind {
            Kind::Directory(table) => table
                .iter()
                .filter(|category| self.version.has(category.since) && self.exists(&category.kind, focus))
                .map(|category| format!("{}{}", category.name, category.kind.slash()))
                .collect(),
            Kind::Each(children, kind) => {
                let mut children = children(focus);
                children.sort_by(|one, other| one.name.cmp(&other.name));
                let existing = children.into_iter().filter(|child| self.exists(kind, child.focus));
                existing
                    .map(|child| child.listed.unwrap_or_else(|| format!("{}{}", child.name, kind.slash())))
                    .collect()
            }
            Kind::Leaf(_) | Kind::Dated(_) | Kind::Octets(_) => Vec::new(),
        }
    }

    fn exists(self, kind: &'static Kind, focus: Focus<'_>) -> bool {
        match kind {
            Kind::Leaf(read) => read(focus).is_some(),
            Kind::Dated(read) => read(focus).is_some(),
            Kind::Octets(read) => read(focus).is_some(),
            Kind::Directory(_) | Kind::Each(..) => !self.list(kind, focus).is_empty(),
        }
    }

    /// `/latest/` and its like list without slashes, and `user-data` whether or not there are any.
    fn list_version(self, focus: Focus<'_>) -> String {
        let mut names = Vec::with_capacity(TOP.len());
        for category in TOP {
            let shown = matches!(category.kind, Kind::Octets(_)) || self.exists(&category.kind, focus);
            if shown && self.version.has(category.since) {
                names.push(category.name);
            }
        }
        names.join("\n")
    }
}

impl Kind {
    fn slash(&self) -> &'static str {
        match self {
            Kind::Directory(_) | Kind::Each(..) => "/",
            Kind::Leaf(_) | Kind::Dated(_) | Kind::Octets(_) => "",
        }
    }
}

impl<'a> Focus<'a> {
    fn instance(self) -> &'a Instance {
        &self.entry.instance
    }

    fn text(self, text: Cow<'a, str>) -> Value<'a> {
        let bytes = match text {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        };
        Value { bytes, content_type: ContentType::Text, last_modified: self.entry.changed }
    }

    /// A child under a name of its own, seen with this focus.
    fn child(self, name: impl Into<Cow<'a, str>>) -> Child<'a> {
        Child { name: name.into(), listed: None, focus: self }
    }
}

/// A borrowed text that is there.
fn text(text: &str) -> Option<Cow<'_, str>> {
    Some(Cow::Borrowed(text))
}

/// A text that may be there.
fn maybe(text: &Option<String>) -> Option<Cow<'_, str>> {
    text.as_deref().map(Cow::Borrowed)
}

/// Something printed, when it is there.
fn printed(value: Option<impl ToString>) -> Option<Cow<'static, str>> {
    value.map(|value| Cow::Owned(value.to_string()))
}

/// Values one per line; absent when there is none.
fn lines(values: impl IntoIterator<Item = impl ToString>) -> Option<Cow<'static, str>> {
    let values: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    (!values.is_empty()).then(|| Cow::Owned(values.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Listings come out in byte order because the tables are written so.
    #[test]
    fn tables_are_in_byte_order_and_name_real_releases() {
        fn hold(kind: &Kind) {
            match kind {
                Kind::Directory(table) => {
                    assert!(table.is_sorted_by(|one, next| one.name < next.name), "out of order");
                    for category in *table {
                        let since = category.since;
                        assert!(since == "1.0" || (since.len() == 10 && since > "2007"), "{}: {since}", category.name);
                        hold(&category.kind);
                    }
                }
                Kind::Each(_, kind) => hold(kind),
                Kind::Leaf(_) | Kind::Dated(_) | Kind::Octets(_) => {}
            }
        }
        hold(&Kind::Directory(TOP));
    }
}
