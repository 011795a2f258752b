//! The conflicts that a change would cause: attachments that an instance would claim while another
//! instance holds them.
//!
//! A caller who may cause one refuses the change, or takes the attachment from its holder in the
//! same change ([`Transaction::take`]).

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::transaction::{Change, Transaction};
use crate::instance::claims::Claims;
use crate::instance::{Attachment, Instance, InstanceId, LinkIdentities};

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
        let mut claims = Claims::new();
        for (file, attachments) in self.snapshot.unowned() {
            for attachment in attachments {
                if attachment.void_reason(&links).is_none() {
                    claims.add(&attachment.attachment, Some(file));
                }
            }
        }
        let conflicts = claimed.into_iter().filter_map(|(id, attachment)| {
            let file = claims.first_conflict(attachment, None)?.claimant?;
            Some(UnownedConflict {
                instance: id.clone(),
                attachment: attachment.clone(),
                file: file.clone(),
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

    fn instance_after(&self, id: &InstanceId) -> Option<&Instance> {
        let change = self
            .changes
            .iter()
            .find(|change| change.instance.instance_id == *id);
        let unchanged = || self.snapshot.entry(id).map(|entry| &entry.instance);
        change.map(|change| &change.instance).or_else(unchanged)
    }

    /// Returns the conflicts of these claims with everything that is claimed after the change.
    fn conflicts_among(
        &self,
        claimed: &[(&InstanceId, &Attachment)],
        links: &LinkIdentities,
    ) -> Vec<ClaimConflict> {
        // Most changes claim nothing new, and then cost nothing here.
        if claimed.is_empty() {
            return Vec::new();
        }
        let changed: BTreeSet<&InstanceId> = self
            .changes
            .iter()
            .map(|change| &change.instance.instance_id)
            .collect();
        let unchanged = self.snapshot.entries().map(|entry| &entry.instance);
        let unchanged = unchanged.filter(|instance| !changed.contains(&instance.instance_id));
        let instances = self.changes.iter().map(|change| &change.instance);
        let mut claims = Claims::new();
        for instance in instances.chain(unchanged) {
            for attachment in instance.claimed_attachments(links) {
                claims.add(&attachment.attachment, &instance.instance_id);
            }
        }
        for (id, attachment) in self.snapshot.reserved() {
            if attachment.void_reason(links).is_none() {
                claims.add(&attachment.attachment, id);
            }
        }
        let conflicts: BTreeSet<ClaimConflict> = claimed
            .iter()
            .flat_map(|(id, attachment)| {
                let conflicts = claims.conflicts(attachment, *id);
                conflicts.map(|claim| ClaimConflict {
                    instance: (*id).clone(),
                    attachment: (*attachment).clone(),
                    holder: claim.claimant.clone(),
                    held: claim.attachment.clone(),
                })
            })
            .collect();
        conflicts.into_iter().collect()
    }
}
