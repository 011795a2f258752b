//! Which instances claim an attachment.

use std::collections::{BTreeSet, HashMap};

use crate::instance::claims::Claims;
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

/// Returns the claimants of every attachment in `claims`. Those in `unowned` are reserved, and it is
/// not known for which instance.
pub(super) fn by_attachment<'a>(
    claims: impl Iterator<Item = (&'a InstanceId, &'a Attachment)> + Clone,
    unowned: impl Iterator<Item = &'a Attachment>,
) -> HashMap<Attachment, Claimants> {
    let mut index = Claims::new();
    for (id, attachment) in claims.clone() {
        index.add(attachment, Some(id));
    }
    for attachment in unowned {
        index.add(attachment, None);
    }
    let mut claimants: HashMap<Attachment, Claimants> = HashMap::new();
    for (id, attachment) in claims {
        let conflicts: Vec<Option<&InstanceId>> = index
            .conflicts(attachment, Some(id))
            .map(|claim| claim.claimant)
            .collect();
        let mut ids: BTreeSet<InstanceId> = conflicts.iter().copied().flatten().cloned().collect();
        if conflicts.is_empty() {
            claimants.insert(attachment.clone(), Claimants::One(id.clone()));
            continue;
        }
        ids.insert(id.clone());
        // Claimants of one attachment conflict with the same instances, except through their
        // other attachments.
        match claimants.get_mut(attachment) {
            Some(Claimants::Conflict(known)) => known.extend(ids),
            _ => drop(claimants.insert(attachment.clone(), Claimants::Conflict(ids))),
        }
    }
    claimants
}
