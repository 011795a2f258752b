//! The conflicts that a change would cause: attachments that an instance would claim while another
//! instance holds them.
//!
//! A caller who may cause one refuses the change, or takes the attachment from its holder in the
//! same change ([`Transaction::take`]).

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::claim_index::{ClaimIndex, ClaimOwner};
use super::claimed::{claimed, claimed_on};
use super::transaction::{Change, Transaction};
use crate::instance::{Attachment, InstanceId, LinkIdentities};

/// An attachment that an instance would claim, and the conflicting one of its holder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClaimConflict {
    /// The instance that would claim it.
    pub instance: InstanceId,
    /// What it would claim.
    pub attachment: Attachment,
    /// The instance that holds a conflicting attachment.
    pub holder: InstanceId,
    /// What it holds.
    pub held: Attachment,
}

/// An attachment that an instance would claim while it is reserved for an instance that is not
/// known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnownedConflict {
    /// The instance that would claim it.
    pub instance: InstanceId,
    /// What it would claim.
    pub attachment: Attachment,
    /// The file that names it.
    pub file: PathBuf,
}

impl fmt::Display for UnownedConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let UnownedConflict {
            attachment, file, ..
        } = self;
        write!(
            f,
            "{attachment} is reserved: {} names it and has faults, so it is not known whose it is; \
             fix that file, then run: imdsd reload",
            file.display()
        )
    }
}

impl Transaction {
    /// Returns the conflicts of everything that the change lets instances claim again. A conflict
    /// that exists without the change is not one of them.
    pub fn new_conflicts(&self) -> Vec<ClaimConflict> {
        let links = self.links();
        self.conflicts_among(&self.new_claims(&links), &links)
    }

    /// Returns everything that the change lets instances claim again and that is reserved for an
    /// instance that is not known.
    pub fn unowned_conflicts(&self) -> Vec<UnownedConflict> {
        let links = self.links();
        let claimed = self.new_claims(&links);
        if claimed.is_empty() {
            return Vec::new();
        }
        let claims = self.claims_after(&links);
        let conflicts = claimed.into_iter().filter_map(|(id, attachment)| {
            Some(UnownedConflict {
                instance: id.clone(),
                attachment: attachment.clone(),
                file: claims.first_file(attachment)?.to_path_buf(),
            })
        });
        conflicts.collect()
    }

    /// Returns what the change lets instances claim again.
    fn new_claims(&self, links: &LinkIdentities) -> Vec<(&InstanceId, &Attachment)> {
        let is_claimed_before = |change: &Change, attachment: &Attachment| {
            let before = self.snapshot.entry(&change.instance.instance_id);
            before.is_some_and(|before| {
                let mut claimed = before.instance.claimed_attachments(self.snapshot.links());
                claimed.any(|claimed| claimed.attachment == *attachment)
            })
        };
        let claimed = self.changes.iter().flat_map(|change| {
            let claimed = change.instance.claimed_attachments(links);
            let claimed = claimed.map(|claimed| &claimed.attachment);
            claimed
                .filter(|claimed| !is_claimed_before(change, claimed))
                .map(|claimed| (&change.instance.instance_id, claimed))
                .collect::<Vec<_>>()
        });
        claimed.collect()
    }

    /// Returns all conflicts of one instance after the change.
    pub fn conflicts_of(&self, id: &InstanceId) -> Vec<ClaimConflict> {
        let links = self.links();
        let Some(instance) = self.instance_after(id) else {
            return Vec::new();
        };
        let claimed = instance.claimed_attachments(&links);
        let claimed: Vec<_> = claimed.map(|claimed| (id, &claimed.attachment)).collect();
        self.conflicts_among(&claimed, &links)
    }

    /// Takes an attachment away from an instance. Nothing changes if it does not have it, or is
    /// quarantined.
    pub fn take(&mut self, holder: &InstanceId, held: &Attachment) {
        if let Some(instance) = self.instance(holder) {
            instance
                .imds
                .attachments
                .retain(|attachment| attachment.attachment != *held);
        }
    }

    /// Returns the links that the change is judged by.
    fn links(&self) -> Arc<LinkIdentities> {
        self.snapshot.links_with(&self.observed)
    }

    /// Returns the conflicts of these claims with everything that instances claim after the change.
    fn conflicts_among(
        &self,
        claimed: &[(&InstanceId, &Attachment)],
        links: &LinkIdentities,
    ) -> Vec<ClaimConflict> {
        // Most changes claim nothing new, and then cost nothing here.
        if claimed.is_empty() {
            return Vec::new();
        }
        let claims = self.claims_after(links);
        let conflicts: BTreeSet<ClaimConflict> = claimed
            .iter()
            .flat_map(|(id, attachment)| {
                let conflicts = claims.conflicting(attachment);
                conflicts.filter_map(|claim| match &claim.owner {
                    ClaimOwner::Instance(holder) if holder != *id => Some(ClaimConflict {
                        instance: (*id).clone(),
                        attachment: (*attachment).clone(),
                        holder: holder.clone(),
                        held: (*claim.attachment).clone(),
                    }),
                    ClaimOwner::Instance(_) | ClaimOwner::File(_) => None,
                })
            })
            .collect();
        conflicts.into_iter().collect()
    }

    /// Returns everything that is claimed after the change. It costs what the change touches.
    fn claims_after(&self, links: &LinkIdentities) -> ClaimIndex {
        let changed = self.changes.iter();
        let changed = changed.map(|change| change.instance.instance_id.clone());
        let mut owners: BTreeSet<ClaimOwner> = changed.map(ClaimOwner::Instance).collect();
        for (name, link) in &self.observed {
            if self.snapshot.links.by_name.get(name) != Some(link) {
                let bound = self.snapshot.bound_interfaces.of(name.as_str().into());
                owners.extend(bound.cloned());
            }
        }
        let mut claims = self.snapshot.claim_index.clone();
        for owner in &owners {
            let instance = match owner {
                ClaimOwner::Instance(id) => self.instance_after(id),
                ClaimOwner::File(_) => None,
            };
            let after = claimed_on(links, &self.snapshot, owner, instance);
            claims.replace(owner, &claimed(&self.snapshot, owner), &after);
        }
        claims
    }
}
