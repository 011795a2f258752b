//! Which instances claim which attachment, indexed by what the kernel distinguishes guests by.
//!
//! The rule is that of [`claims`](crate::instance::claims). This index is persistent: the next
//! snapshot's is a copy of it in which only the claims that changed were replaced.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::multimap::Multimap;
use crate::instance::claims::{ClaimKey, ClaimMode};
use crate::instance::{Attachment, InstanceId};

/// Who claims an attachment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ClaimOwner {
    /// A file that names it. It is not known for which instance.
    File(Arc<Path>),
    /// An instance.
    Instance(InstanceId),
}

/// One attachment of one owner.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Claim {
    pub(super) owner: ClaimOwner,
    pub(super) attachment: Arc<Attachment>,
}

/// A key and how it is claimed.
pub(super) type ClaimedKey = (ClaimKey<Arc<str>>, ClaimMode);

/// The claims of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ClaimIndex {
    by_key: Multimap<ClaimedKey, Claim>,
}

impl ClaimIndex {
    /// Replaces what an owner claims. Returns the keys of the claims that were added or removed.
    pub(super) fn replace(
        &mut self,
        owner: &ClaimOwner,
        before: &BTreeSet<&Attachment>,
        after: &BTreeSet<&Attachment>,
    ) -> BTreeSet<ClaimedKey> {
        let claim_of = |attachment: &Attachment| Claim {
            owner: owner.clone(),
            attachment: Arc::new(attachment.clone()),
        };
        let mut changed = BTreeSet::new();
        for attachment in before.difference(after) {
            let claim = claim_of(attachment);
            for key in claimed_keys(attachment) {
                self.by_key.remove(key.clone(), claim.clone());
                changed.insert(key);
            }
        }
        for attachment in after.difference(before) {
            let claim = claim_of(attachment);
            for key in claimed_keys(attachment) {
                self.by_key.insert(key.clone(), claim.clone());
                changed.insert(key);
            }
        }
        changed
    }

    /// Returns every claim that conflicts with a claim of this key, if they have different owners.
    pub(super) fn conflicting_at(&self, key: ClaimedKey) -> impl Iterator<Item = &Claim> {
        let (key, mode) = key;
        let modes = mode.conflicting().iter();
        modes.flat_map(move |mode| self.by_key.of((key.clone(), *mode)))
    }

    /// Returns every claim that conflicts with a claim of this attachment, if they have different
    /// owners. All claims of the same attachment are among them.
    pub(super) fn conflicting(&self, attachment: &Attachment) -> impl Iterator<Item = &Claim> {
        let keys = claimed_keys(attachment);
        keys.flat_map(|key| self.conflicting_at(key))
    }

    /// Returns the first file with a claim that conflicts with a claim of this attachment by an
    /// instance, of the first key with such a claim.
    pub(super) fn first_file(&self, attachment: &Attachment) -> Option<&Path> {
        claimed_keys(attachment).find_map(|(key, mode)| {
            let modes = mode.conflicting().iter();
            // Files precede instances.
            let first = modes.filter_map(|mode| {
                match &self.by_key.of((key.clone(), *mode)).next()?.owner {
                    ClaimOwner::File(file) => Some(&**file),
                    ClaimOwner::Instance(_) => None,
                }
            });
            first.min()
        })
    }
}

/// Returns what a claim of this attachment claims.
fn claimed_keys(attachment: &Attachment) -> impl Iterator<Item = ClaimedKey> + use<> {
    let keys = attachment.claim_keys().into_iter();
    let keys: Vec<ClaimedKey> = keys.map(|(key, mode)| (key.shared(), mode)).collect();
    keys.into_iter()
}
