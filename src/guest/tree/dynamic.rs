//! `dynamic/`: the instance identity document with its signatures, and whether detailed monitoring is on.

use std::borrow::Cow;

use super::{Category, Focus, directory, leaf, text};

pub(super) const DYNAMIC: &[Category] = &[
    directory("fws", "2009-04-04", &[leaf("instance-monitoring", "2009-04-04", monitoring)]),
    directory("instance-identity", "2009-04-04", INSTANCE_IDENTITY),
];

const INSTANCE_IDENTITY: &[Category] = &[leaf("document", "2009-04-04", |focus| text(&focus.entry.identity_document))];

fn monitoring(focus: Focus<'_>) -> Option<Cow<'_, str>> {
    text(&focus.instance().monitoring.as_ref()?.state)
}
