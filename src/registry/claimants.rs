//! Which instances claim an attachment.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::claim_index::{ClaimIndex, ClaimOwner};
use crate::instance::{Attachment, InstanceId};

/// The instances that claim one attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimants {
    /// One instance, as it should be. While it is quarantined, no instance is served there.
    One(InstanceId),
    /// Several instances, or one at an attachment that is reserved for an instance that is not
    /// known: none of them is served there.
    Conflict(BTreeSet<InstanceId>),
}

impl Claimants {
    /// Returns all claimants.
    pub fn ids(&self) -> impl Iterator<Item = &InstanceId> {
        let (one, several) = match self {
            Claimants::One(id) => (Some(id), None),
            Claimants::Conflict(several) => (None, Some(several)),
        };
        one.into_iter().chain(several.into_iter().flatten())
    }
}

/// Returns the claimants of an attachment, and the attachment to share; `None` if no instance
/// claims it. Claims of files are reserved, and it is not known for which instance.
pub(super) fn claimants_of(
    index: &ClaimIndex,
    attachment: &Attachment,
) -> Option<(Arc<Attachment>, Claimants)> {
    let (mut shared, mut ids, mut is_reserved) = (None, BTreeSet::new(), false);
    // Every attachment claims a key exclusively, so all claims of this one are here.
    for claim in index.conflicting(attachment) {
        match &claim.owner {
            ClaimOwner::Instance(id) => {
                if *claim.attachment == *attachment {
                    shared.get_or_insert_with(|| Arc::clone(&claim.attachment));
                }
                ids.insert(id.clone());
            }
            ClaimOwner::File(_) => is_reserved = true,
        }
    }
    let claimants = match ids.len() {
        1 if !is_reserved => Claimants::One(ids.pop_first()?),
        _ => Claimants::Conflict(ids),
    };
    Some((shared?, claimants))
}
