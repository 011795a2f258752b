//! The rows of the tables: how a category is named, when it was introduced, and where its value
//! comes from.

use std::borrow::Cow;

use jiff::Timestamp;

use crate::clock::Moment;
use crate::guest::precomputed::Precomputed;
use crate::guest::tree::content::TreeContent;
use crate::instance::tags::Tag;
use crate::instance::{
    Events, Instance, ManagedSshKey, NetworkInterface, Overrides, PrivateAddress, RoleDelivery,
    SharedText, Switch,
};
use crate::registry::Entry;

/// One row of a table.
pub(super) struct Category {
    pub(super) name: &'static str,
    /// The release that introduced it.
    pub(super) since: &'static str,
    pub(super) kind: Kind,
}

/// What a name stands for.
pub(super) enum Kind {
    /// A text, absent when there is none.
    Leaf(for<'a> fn(Focus<'a>) -> Option<Cow<'a, str>>),
    /// A text with its own date.
    Dated(for<'a> fn(Focus<'a>) -> Option<(Cow<'a, str>, Timestamp)>),
    /// Bytes.
    Octets(fn(Focus<'_>) -> Option<Vec<u8>>),
    /// A table.
    Directory(&'static [Category]),
    /// Names that come from the instance, all of the same kind.
    Each(for<'a> fn(Focus<'a>) -> Vec<Child<'a>>, &'static Kind),
}

/// A name that comes from the instance.
pub(super) struct Child<'a> {
    pub(super) name: Cow<'a, str>,
    /// How it is listed, if not by its name.
    pub(super) listed: Option<String>,
    pub(super) focus: Focus<'a>,
}

/// What the rows of a table read: the instance, the terms of the admission, and the item that the
/// path has led into.
#[derive(Clone, Copy)]
pub(super) struct Focus<'a> {
    pub(super) entry: &'a Entry,
    pub(super) state: TimelineState<'a>,
    pub(super) delivery: RoleDelivery,
    pub(super) tags: Switch,
    pub(super) precomputed: &'a Precomputed,
    pub(super) now: Moment,
    pub(super) interface: Option<&'a NetworkInterface>,
    pub(super) address: Option<&'a PrivateAddress>,
    pub(super) tag: Option<&'a Tag>,
    pub(super) device: Option<&'a str>,
    pub(super) user: Option<&'a str>,
}

/// The events and overrides of an instance at one moment, with the steps of its timeline applied.
#[derive(Clone, Copy)]
pub(super) struct TimelineState<'a> {
    pub(super) events: &'a Events,
    pub(super) overrides: &'a Overrides,
    /// When anything last changed, by a writer or by a step.
    pub(super) changed: Timestamp,
}

pub(super) const fn leaf(
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

pub(super) const fn directory(
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

pub(super) const fn each(
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

impl<'a> Focus<'a> {
    pub(super) fn instance(self) -> &'a Instance {
        &self.entry.instance
    }

    pub(super) fn events(self) -> &'a Events {
        self.state.events
    }

    /// The keys of EC2 Instance Connect that have not expired.
    pub(super) fn live_keys(self) -> impl Iterator<Item = &'a ManagedSshKey> {
        self.instance()
            .imds
            .managed_ssh_keys
            .iter()
            .filter(move |key| key.expiration > self.now.wall)
    }

    pub(super) fn text(self, text: Cow<'a, str>) -> TreeContent<'a> {
        TreeContent::text(text, self.state.changed)
    }

    /// Returns a child with this name and this focus.
    pub(super) fn child(self, name: impl Into<Cow<'a, str>>) -> Child<'a> {
        Child {
            name: name.into(),
            listed: None,
            focus: self,
        }
    }
}

/// Returns a borrowed text.
pub(super) fn text(text: &str) -> Option<Cow<'_, str>> {
    Some(Cow::Borrowed(text))
}

/// Returns a text that may be absent.
pub(super) fn maybe(text: &Option<SharedText>) -> Option<Cow<'_, str>> {
    text.as_deref().map(Cow::Borrowed)
}

/// Returns a value's printed form, if there is a value.
pub(super) fn printed(value: Option<impl ToString>) -> Option<Cow<'static, str>> {
    value.map(|value| Cow::Owned(value.to_string()))
}

/// Returns the values one per line; `None` when there are none.
pub(super) fn lines(values: impl IntoIterator<Item = impl ToString>) -> Option<Cow<'static, str>> {
    let values: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    (!values.is_empty()).then(|| Cow::Owned(values.join("\n")))
}
