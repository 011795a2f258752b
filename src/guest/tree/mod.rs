//! The metadata tree. One nest of category tables answers both "what is here" and "what is its value", so a listing and a
//! lookup can't disagree: a name is listed exactly when it resolves (`user-data` in the version's own listing is EC2's one
//! exception).
//!
//! A category is absent, which is 404 and not listed, when it came with a later version, when the instance has no data for
//! it, or when everything below it is absent.

mod dynamic;
mod iam;
mod meta_data;
mod network;

use std::borrow::Cow;

use jiff::Timestamp;

use crate::clock::Moment;
use crate::fault::FieldFault;
use crate::guest::Precomputed;
use crate::guest::gate::{Admitted, Delivery, Reading};
use crate::guest::path::{DataPath, LATEST, VERSIONS, Version};
use crate::instance::events::overrides::PathOverride;
use crate::instance::events::timeline::{Override, TimelineChange};
use crate::instance::tags::Tag;
use crate::instance::{
    Events, Instance, ManagedSshKey, NetworkInterface, Overrides, PrivateAddress, Switch,
};
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

impl Value<'_> {
    fn into_owned(self) -> Value<'static> {
        let Value {
            bytes,
            content_type,
            last_modified,
        } = self;
        Value {
            bytes: Cow::Owned(bytes.into_owned()),
            content_type,
            last_modified,
        }
    }
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
pub fn read<'a>(
    admitted: &Admitted<'a, Reading>,
    path: &str,
    made: &'a Precomputed,
    now: Moment,
) -> Option<Value<'a>> {
    let entry = admitted.entry();
    let changed = entry.changed.max(
        entry
            .instance
            .last_step_before(now.wall)
            .unwrap_or(entry.changed),
    );
    match (
        entry.instance.events_at(now.wall),
        entry.instance.overrides_at(now.wall),
    ) {
        // As long as no step counts, what is read is borrowed.
        (Cow::Borrowed(events), Cow::Borrowed(overrides)) => read_at(
            admitted,
            path,
            made,
            now,
            InForce {
                events,
                overrides,
                changed,
            },
        ),
        (events, overrides) => {
            let in_force = InForce {
                events: &events,
                overrides: &overrides,
                changed,
            };
            read_at(admitted, path, made, now, in_force).map(Value::into_owned)
        }
    }
}

/// What a timeline has made of an instance by now.
#[derive(Clone, Copy)]
struct InForce<'a> {
    events: &'a Events,
    overrides: &'a Overrides,
    /// When anything was last changed, by a writer or by a step.
    changed: Timestamp,
}

fn read_at<'a>(
    admitted: &Admitted<'a, Reading>,
    path: &str,
    made: &'a Precomputed,
    now: Moment,
    in_force: InForce<'a>,
) -> Option<Value<'a>> {
    let entry = admitted.entry();
    let text = |text: String| Value {
        bytes: Cow::Owned(text.into_bytes()),
        content_type: ContentType::Text,
        last_modified: in_force.changed,
    };
    match DataPath::parse(path)? {
        DataPath::Root => {
            let names: Vec<&str> = VERSIONS.into_iter().chain([LATEST]).collect();
            Some(text(names.join("\n")))
        }
        DataPath::Versioned(version, segments) => {
            let overrides = Some(in_force.overrides).filter(|overrides| !overrides.is_empty());
            let walk = Walk { version, overrides };
            let focus = Focus {
                entry,
                in_force,
                delivery: admitted.delivery(),
                tags: admitted.tags(),
                made,
                now,
                interface: None,
                address: None,
                tag: None,
                device: None,
                user: None,
            };
            if segments.is_empty() {
                return Some(text(walk.list_version(focus)));
            }
            walk.resolve(
                Place {
                    kind: Some(&TOP),
                    path: String::new(),
                    focus,
                },
                &segments,
            )
        }
    }
}

/// What is wrong with an instance's overrides, those of its timeline included, as the tables have it: a leaf below a leaf, or in the place of a directory.
/// One sentence a fault, with its field.
pub fn faults(instance: &Instance) -> Vec<FieldFault> {
    let fault = |path: &str| {
        let mut kind = &TOP;
        for name in path.split('/') {
            kind = match kind {
                Kind::Directory(table) => {
                    &table.iter().find(|category| category.name == name)?.kind
                }
                Kind::Each(_, kind) => kind,
                Kind::Leaf(_) | Kind::Dated(_) | Kind::Octets(_) => {
                    return Some("a leaf can't be below a leaf");
                }
            };
        }
        matches!(kind, Kind::Directory(_) | Kind::Each(..))
            .then_some("it is a directory; set a leaf below it, or null")
    };
    let overrides = &instance.imds.overrides;
    let set = overrides
        .paths()
        .filter(|path| matches!(overrides.of(path), PathOverride::Set(_)));
    let now = set.map(|path| (format!("Imds.Overrides.{path}"), path));
    let later = instance
        .imds
        .timeline
        .steps()
        .iter()
        .enumerate()
        .filter_map(|(index, step)| match &step.set {
            TimelineChange::Override(Override {
                path,
                value: Some(_),
            }) => Some((
                format!("Imds.Timeline[{index}].Set.Override.Path"),
                path.as_str(),
            )),
            _ => None,
        });
    now.chain(later)
        .filter_map(|(field, path)| Some(FieldFault::new(field, fault(path)?)))
        .collect()
}

/// What stands directly below a version.
static TOP: Kind = Kind::Directory(&[
    directory("dynamic", "2009-04-04", dynamic::DYNAMIC),
    directory("meta-data", "1.0", meta_data::META_DATA),
    Category {
        name: "user-data",
        since: "1.0",
        kind: Kind::Octets(|focus| focus.instance().user_data()),
    },
]);

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
    in_force: InForce<'a>,
    delivery: Delivery,
    tags: Switch,
    made: &'a Precomputed,
    now: Moment,
    interface: Option<&'a NetworkInterface>,
    address: Option<&'a PrivateAddress>,
    tag: Option<&'a Tag>,
    device: Option<&'a str>,
    user: Option<&'a str>,
}

const fn leaf(
    name: &'static str,
    since: &'static str,
    read: for<'a> fn(Focus<'a>) -> Option<Cow<'a, str>>,
) -> Category {
    Category {
        name,
        since,
        kind: Kind::Leaf(read),
    }
}

const fn directory(
    name: &'static str,
    since: &'static str,
    children: &'static [Category],
) -> Category {
    Category {
        name,
        since,
        kind: Kind::Directory(children),
    }
}

const fn each(
    name: &'static str,
    since: &'static str,
    children: for<'a> fn(Focus<'a>) -> Vec<Child<'a>>,
    kind: &'static Kind,
) -> Category {
    Category {
        name,
        since,
        kind: Kind::Each(children, kind),
    }
}

/// A walk through the tables as one version has them, with what the instance's overrides set and hide.
#[derive(Clone, Copy)]
struct Walk<'a> {
    version: Version,
    /// `None` when there are none, which keeps every path below from being spelled out.
    overrides: Option<&'a Overrides>,
}

/// A place in the tree: the kind the tables give it (`None` in a directory that only overrides made), its path below the
/// version (spelled out only for overrides), and what the tables look at there.
struct Place<'a> {
    kind: Option<&'static Kind>,
    path: String,
    focus: Focus<'a>,
}

/// A name in a directory.
struct Named<'a> {
    name: Cow<'a, str>,
    listed: Option<String>,
    place: Place<'a>,
}

impl<'a> Walk<'a> {
    fn resolve(self, place: Place<'a>, rest: &[Cow<'_, str>]) -> Option<Value<'a>> {
        match self.said_of(&place.path) {
            PathOverride::Hidden => return None,
            PathOverride::Set(text) => {
                return rest
                    .is_empty()
                    .then(|| place.focus.text(Cow::Borrowed(text)));
            }
            PathOverride::NotOverridden => {}
        }
        let Some((name, rest)) = rest.split_first() else {
            return self.value(&place);
        };
        let child = self
            .children(&place)
            .into_iter()
            .find(|child| child.name == *name)?;
        self.resolve(child.place, rest)
    }

    /// The value of a leaf, or the listing of a directory that has something in it.
    fn value(self, place: &Place<'a>) -> Option<Value<'a>> {
        let focus = place.focus;
        match place.kind {
            Some(Kind::Leaf(read)) => read(focus).map(|text| focus.text(text)),
            Some(Kind::Dated(read)) => read(focus).map(|(text, last_modified)| Value {
                last_modified,
                ..focus.text(text)
            }),
            Some(Kind::Octets(read)) => read(focus).map(|bytes| Value {
                bytes: Cow::Owned(bytes),
                content_type: ContentType::Octets,
                last_modified: focus.in_force.changed,
            }),
            Some(Kind::Directory(_) | Kind::Each(..)) | None => {
                let listing = self.list(place);
                (!listing.is_empty()).then(|| focus.text(Cow::Owned(listing.join("\n"))))
            }
        }
    }

    /// The lines of a listing: names in byte order, those with something below them with a slash.
    fn list(self, place: &Place<'a>) -> Vec<String> {
        let mut children = self.children(place);
        children.retain(|child| self.exists(&child.place));
        children.sort_by(|one, other| one.name.cmp(&other.name));
        let line = |child: Named<'a>| {
            let is_leaf = self.is_leaf(&child.place);
            child
                .listed
                .unwrap_or_else(|| format!("{}{}", child.name, if is_leaf { "" } else { "/" }))
        };
        children.into_iter().map(line).collect()
    }

    /// Every name in a directory, whether or not there is something under it; none below a leaf.
    fn children(self, place: &Place<'a>) -> Vec<Named<'a>> {
        let at = |name: &str, kind, focus| Place {
            kind,
            path: self.join(&place.path, name),
            focus,
        };
        let mut children: Vec<Named<'a>> = match place.kind {
            Some(Kind::Directory(table)) => table
                .iter()
                .filter(|category| self.version.has(category.since))
                .map(|category| Named {
                    name: Cow::Borrowed(category.name),
                    listed: None,
                    place: at(category.name, Some(&category.kind), place.focus),
                })
                .collect(),
            Some(Kind::Each(children, kind)) => children(place.focus)
                .into_iter()
                .map(|child| Named {
                    place: at(&child.name, Some(*kind), child.focus),
                    name: child.name,
                    listed: child.listed,
                })
                .collect(),
            Some(Kind::Leaf(_) | Kind::Dated(_) | Kind::Octets(_)) => return Vec::new(),
            None => Vec::new(),
        };
        // Behind those of the tables, which go first when names are equal.
        for name in self
            .overrides
            .into_iter()
            .flat_map(|overrides| overrides.below(&place.path))
        {
            if !children.iter().any(|child| child.name == name) {
                let place = at(name, None, place.focus);
                children.push(Named {
                    name: Cow::Borrowed(name),
                    listed: None,
                    place,
                });
            }
        }
        children
    }

    fn exists(self, place: &Place<'a>) -> bool {
        match self.said_of(&place.path) {
            PathOverride::Hidden => false,
            PathOverride::Set(_) => true,
            PathOverride::NotOverridden => match place.kind {
                Some(Kind::Leaf(read)) => read(place.focus).is_some(),
                Some(Kind::Dated(read)) => read(place.focus).is_some(),
                Some(Kind::Octets(read)) => read(place.focus).is_some(),
                Some(Kind::Directory(_) | Kind::Each(..)) | None => self
                    .children(place)
                    .iter()
                    .any(|child| self.exists(&child.place)),
            },
        }
    }

    fn is_leaf(self, place: &Place<'a>) -> bool {
        matches!(self.said_of(&place.path), PathOverride::Set(_))
            || matches!(
                place.kind,
                Some(Kind::Leaf(_) | Kind::Dated(_) | Kind::Octets(_))
            )
    }

    fn said_of(self, path: &str) -> PathOverride<'a> {
        self.overrides
            .map_or(PathOverride::NotOverridden, |overrides| overrides.of(path))
    }

    fn join(self, path: &str, name: &str) -> String {
        match self.overrides {
            None => String::new(),
            Some(_) if path.is_empty() => name.to_string(),
            Some(_) => format!("{path}/{name}"),
        }
    }

    /// `/latest/` and its like list without slashes, and `user-data` whether or not there are any.
    fn list_version(self, focus: Focus<'a>) -> String {
        let top = Place {
            kind: Some(&TOP),
            path: String::new(),
            focus,
        };
        let names = self
            .children(&top)
            .into_iter()
            .filter(|child| child.name == "user-data" || self.exists(&child.place));
        names.map(|child| child.name).collect::<Vec<_>>().join("\n")
    }
}

impl<'a> Focus<'a> {
    fn instance(self) -> &'a Instance {
        &self.entry.instance
    }

    fn events(self) -> &'a Events {
        self.in_force.events
    }

    fn live_keys(self) -> impl Iterator<Item = &'a ManagedSshKey> {
        self.instance()
            .imds
            .managed_ssh_keys
            .iter()
            .filter(move |key| key.expiration > self.now.wall)
    }

    fn text(self, text: Cow<'a, str>) -> Value<'a> {
        let bytes = match text {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        };
        Value {
            bytes,
            content_type: ContentType::Text,
            last_modified: self.in_force.changed,
        }
    }

    /// A child under a name of its own, seen with this focus.
    fn child(self, name: impl Into<Cow<'a, str>>) -> Child<'a> {
        Child {
            name: name.into(),
            listed: None,
            focus: self,
        }
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
                    assert!(
                        table.is_sorted_by(|one, next| one.name < next.name),
                        "out of order"
                    );
                    for category in *table {
                        let since = category.since;
                        assert!(
                            since == "1.0" || (since.len() == 10 && since > "2007"),
                            "{}: {since}",
                            category.name
                        );
                        hold(&category.kind);
                    }
                }
                Kind::Each(_, kind) => hold(kind),
                Kind::Leaf(_) | Kind::Dated(_) | Kind::Octets(_) => {}
            }
        }
        hold(&TOP);
    }
}
