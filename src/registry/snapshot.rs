//! The registry at one moment: immutable, shared by every request that began under it.
//!
//! Its maps are persistent: the next snapshot shares with this one whatever did not change.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rpds::{HashTrieMapSync, RedBlackTreeMapSync, RedBlackTreeSetSync};

use super::claim_index::{ClaimIndex, ClaimOwner};
use super::claimants::Claimants;
use super::entry::Entry;
use super::multimap::Multimap;
use super::quarantine::{QuarantineReason, Quarantined};
use crate::instance::{Attachment, InstanceAttachment, InstanceId, LaunchToken, LinkIdentities};
use crate::origin::Origin;

/// All instances, and the claimants of every attachment.
#[derive(Clone, Default)]
pub struct Snapshot {
    pub(super) entries: RedBlackTreeMapSync<InstanceId, Arc<Entry>>,
    pub(super) quarantined: RedBlackTreeMapSync<InstanceId, Arc<Quarantined>>,
    /// Terminated instances that are no longer listed and still have a record.
    pub(super) tombstones: RedBlackTreeSetSync<InstanceId>,
    pub(super) claims: HashTrieMapSync<Arc<Attachment>, ClaimState, foldhash::fast::RandomState>,
    /// What `claims` follows from.
    pub(super) claim_index: ClaimIndex,
    /// What the bindings of attachments are compared with: the links that bindings name.
    pub(super) links: Arc<LinkIdentities>,
    /// The names of the interfaces of bound attachments, also of those that are not claimed.
    pub(super) bound_interfaces: Multimap<Arc<str>, ClaimOwner>,
    /// What is reserved for instances that are not known, by the file that names it.
    pub(super) unowned: Arc<UnownedAttachments>,
    /// The instances of launches with a client token.
    pub(super) launches: Multimap<Arc<str>, InstanceId>,
    /// The instances that were terminated, by time.
    pub(super) terminated: RedBlackTreeSetSync<(Timestamp, InstanceId)>,
}

/// Who claims an attachment, and who is served there.
#[derive(Clone)]
pub(super) struct ClaimState {
    pub(super) claimants: Claimants,
    /// The entry of the one claimant, so that a guest's request needs one lookup. `None` if there
    /// is a conflict, or the claimant is quarantined.
    pub(super) served: Option<Arc<Entry>>,
}

/// Attachments that are reserved while nothing says whose they are, by the file that names them.
pub type UnownedAttachments = BTreeMap<PathBuf, BTreeSet<InstanceAttachment>>;

/// Reading.
impl Snapshot {
    /// Returns the instance that an origin belongs to. `None` when no instance or more than one
    /// claims the attachment, when the claimant is quarantined, and when another instance or
    /// launch held the attachment at the time that the connection was accepted.
    pub fn at(&self, origin: &Origin) -> Option<&Arc<Entry>> {
        let entry = self.attached_to(&origin.attachment)?;
        origin
            .holder
            .as_ref()
            .is_none_or(|holder| entry.is_held_by(holder))
            .then_some(entry)
    }

    /// Returns the one instance that holds this attachment.
    pub fn attached_to(&self, attachment: &Attachment) -> Option<&Arc<Entry>> {
        self.claims.get(attachment)?.served.as_ref()
    }

    /// Returns one instance by its id.
    pub fn entry(&self, id: &InstanceId) -> Option<&Arc<Entry>> {
        self.entries.get(id)
    }

    /// Returns all instances that are served, ordered by id.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.values()
    }

    /// Returns every claimed attachment with its claimants.
    pub fn claims(&self) -> impl Iterator<Item = (&Attachment, &Claimants)> {
        let claims = self.claims.iter();
        claims.map(|(attachment, state)| (&**attachment, &state.claimants))
    }

    /// Returns the claimants of one attachment.
    pub fn claim(&self, attachment: &Attachment) -> Option<&Claimants> {
        Some(&self.claims.get(attachment)?.claimants)
    }

    /// Returns the links that the bindings of attachments are compared with.
    pub fn links(&self) -> &LinkIdentities {
        &self.links
    }

    /// Returns the attachments that are reserved for quarantined instances.
    pub fn reserved(&self) -> impl Iterator<Item = (&InstanceId, &InstanceAttachment)> {
        self.quarantined.iter().flat_map(|(id, instance)| {
            let attachments = instance.attachments.iter();
            attachments.map(move |attachment| (id, attachment))
        })
    }

    /// Returns the attachments that are reserved for instances that are not known, by the file that
    /// names them.
    pub fn unowned(&self) -> &UnownedAttachments {
        &self.unowned
    }

    /// Returns the file that reserves an attachment that conflicts with this one, while nothing says
    /// whose it is.
    pub fn file_that_reserves(&self, attachment: &Attachment) -> Option<&Path> {
        self.claim_index.first_file(attachment)
    }

    /// Returns the instances that are quarantined because their records cannot be trusted.
    pub fn unreadable(&self) -> impl Iterator<Item = &InstanceId> {
        self.quarantined.keys().filter(|id| self.is_unreadable(id))
    }

    /// Returns whether this instance is quarantined because its record cannot be trusted.
    pub fn is_unreadable(&self, id: &InstanceId) -> bool {
        matches!(
            self.quarantine_reason(id),
            Some(QuarantineReason::Unreadable | QuarantineReason::StateUnknown)
        )
    }

    /// Returns the instances that are quarantined because their documents could not be stored.
    pub fn not_stored(&self) -> impl Iterator<Item = &InstanceId> {
        self.quarantined_for(QuarantineReason::NotStored)
    }

    /// Returns the instances that are quarantined because their documents have faults.
    pub fn faulty_documents(&self) -> impl Iterator<Item = &InstanceId> {
        self.quarantined_for(QuarantineReason::FaultyDocument)
    }

    /// Returns the instances that are new, and that a start or a reload is registering.
    pub fn being_registered(&self) -> impl Iterator<Item = &InstanceId> {
        self.quarantined_for(QuarantineReason::BeingRegistered)
    }

    fn quarantined_for(&self, reason: QuarantineReason) -> impl Iterator<Item = &InstanceId> {
        let quarantined = self.quarantined.iter();
        quarantined.filter_map(move |(id, instance)| (instance.reason == reason).then_some(id))
    }

    /// Returns the attachments that are reserved for a quarantined instance.
    pub fn reserved_attachments(
        &self,
        id: &InstanceId,
    ) -> impl Iterator<Item = &InstanceAttachment> {
        let instance = self.quarantined.get(id);
        instance
            .into_iter()
            .flat_map(|instance| &instance.attachments)
    }

    /// Returns the launches of quarantined instances that have this client token.
    pub fn quarantined_launches(&self, token: &str) -> impl Iterator<Item = &LaunchToken> {
        let ids = self.launches.of(token.into());
        ids.filter_map(|id| self.quarantined.get(id))
            .flat_map(|instance| &instance.client_tokens)
            .filter(move |launch| launch.token == token)
    }

    /// Returns the instances that were launched with this client token, ordered by id.
    pub fn launches(&self, token: &str) -> impl Iterator<Item = &Arc<Entry>> {
        let entries = self.launches.of(token.into());
        let entries = entries.filter_map(|id| self.entries.get(id));
        entries.filter(|entry| {
            entry.launch_request.is_some() && entry.instance.client_token.as_deref() == Some(token)
        })
    }

    /// Returns the instances that were terminated and are still listed, the earliest first.
    pub(super) fn terminated(&self) -> impl Iterator<Item = &Arc<Entry>> {
        let ids = self.terminated.iter();
        ids.filter_map(|(_, id)| self.entries.get(id))
    }

    /// Returns whether this instance was terminated and is no longer listed, while its record keeps
    /// its document from bringing it back.
    pub fn is_tombstone(&self, id: &InstanceId) -> bool {
        self.tombstones.contains(id)
    }

    /// Returns the instances that were terminated, are no longer listed, and still have a record.
    pub fn tombstones(&self) -> impl Iterator<Item = &InstanceId> {
        self.tombstones.iter()
    }

    /// Returns why this instance is quarantined; `None` when it is not.
    pub fn quarantine_reason(&self, id: &InstanceId) -> Option<QuarantineReason> {
        self.quarantined.get(id).map(|instance| instance.reason)
    }
}
