//! `dynamic/`: the instance identity document with its signatures, and the state of detailed
//! monitoring.

use std::borrow::Cow;
use std::sync::Arc;

use super::category::{Category, Focus, directory, leaf, text};
use crate::identity::Signatures;

pub(super) const DYNAMIC: &[Category] = &[
    directory(
        "fws",
        "2009-04-04",
        &[leaf("instance-monitoring", "2009-04-04", monitoring)],
    ),
    directory("instance-identity", "2009-04-04", INSTANCE_IDENTITY),
];

/// The signatures are absent for a moment after a launch, until the background has made them.
const INSTANCE_IDENTITY: &[Category] = &[
    leaf("document", "2009-04-04", |focus| {
        text(&focus.entry.identity_document)
    }),
    leaf("pkcs7", "2009-04-04", |focus| {
        Some(Cow::Owned(signatures(focus)?.pkcs7()))
    }),
    leaf("rsa2048", "2009-04-04", |focus| {
        Some(Cow::Owned(signatures(focus)?.rsa2048()))
    }),
    leaf("signature", "2009-04-04", |focus| {
        Some(Cow::Owned(signatures(focus)?.signature()))
    }),
];

/// Returns the signatures of exactly the document that is served.
fn signatures(focus: Focus<'_>) -> Option<Arc<Signatures>> {
    focus.precomputed.signatures.read(
        &focus.instance().instance_id,
        focus.entry.identity_document.as_bytes(),
    )
}

fn monitoring(focus: Focus<'_>) -> Option<Cow<'_, str>> {
    text(&focus.instance().monitoring.as_ref()?.state)
}
