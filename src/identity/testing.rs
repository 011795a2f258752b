//! Keys that the tests of this module share, because generating a key is slow.

use std::sync::LazyLock;

use jiff::Timestamp;

use super::signing_identity::Identity;

pub(super) const NOW: &str = "2026-03-04T05:06:07Z";

pub(super) static IDENTITY: LazyLock<Identity> =
    LazyLock::new(|| Identity::generate(now()).unwrap());
pub(super) static OTHER: LazyLock<Identity> = LazyLock::new(|| Identity::generate(now()).unwrap());

pub(super) fn now() -> Timestamp {
    NOW.parse().unwrap()
}
