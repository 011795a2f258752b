//! The registry at one moment: immutable, shared by every request that began under it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::claimants::{self, Claimants};
use super::entry::Entry;
use super::quarantine::{QuarantineReason, Quarantined};
use crate::instance::{Attachment, InstanceId};
use crate::origin::Origin;

/// All instances, and the claimants of every attachment.
#[derive(Default)]
pub struct Snapshot {
    entries: BTreeMap<InstanceId, Arc<Entry>>,
    quarantined: BTreeMap<InstanceId, Quarantined>,
    claims: HashMap<Attachment, Claimants>,
}

/// Building the next snapshot.
impl Snapshot {
    pub(super) fn new(
        entries: impl IntoIterator<Item = Entry>,
        quarantined: impl IntoIterator<Item = (InstanceId, Quarantined)>,
    ) -> Snapshot {
        let entries = entries
            .into_iter()
            .map(|entry| (entry.instance.instance_id.clone(), Arc::new(entry)))
            .collect();
        Snapshot::assemble(entries, quarantined.into_iter().collect())
    }

    /// Returns this snapshot with one entry inserted or replaced.
    pub(super) fn with_entry(&self, entry: Arc<Entry>) -> Snapshot {
        let (mut entries, mut quarantined) = (self.entries.clone(), self.quarantined.clone());
        quarantined.remove(&entry.instance.instance_id);
        entries.insert(entry.instance.instance_id.clone(), entry);
        Snapshot::assemble(entries, quarantined)
    }

    /// Returns this snapshot without one instance.
    pub(super) fn without(&self, id: &InstanceId) -> Snapshot {
        let (mut entries, mut quarantined) = (self.entries.clone(), self.quarantined.clone());
        entries.remove(id);
        quarantined.remove(id);
        Snapshot::assemble(entries, quarantined)
    }

    /// Returns this snapshot with one instance quarantined because its on-disk state is unknown.
    /// It keeps its attachments, and the client token of its launch; `client_token` is that of an
    /// instance that has not been published.
    pub(super) fn with_state_unknown(
        &self,
        id: &InstanceId,
        client_token: Option<String>,
    ) -> Snapshot {
        let (mut entries, mut quarantined) = (self.entries.clone(), self.quarantined.clone());
        let removed = entries.remove(id);
        let instance = quarantined.entry(id.clone()).or_insert(Quarantined {
            reason: QuarantineReason::StateUnknown,
            attachments: BTreeSet::new(),
            client_tokens: BTreeSet::new(),
        });
        instance.reason = QuarantineReason::StateUnknown;
        instance.client_tokens.extend(client_token);
        let published = removed.as_ref();
        instance
            .client_tokens
            .extend(published.and_then(|entry| entry.instance.client_token.clone()));
        instance.attachments.extend(
            removed
                .iter()
                .flat_map(|entry| &entry.instance.imds.attachments)
                .cloned(),
        );
        Snapshot::assemble(entries, quarantined)
    }

    /// Returns this snapshot with one instance quarantined that has no record. Its attachments are
    /// reserved; `None` when they are already, for the same reason.
    pub(super) fn with_unregistered(
        &self,
        id: &InstanceId,
        reason: QuarantineReason,
        attachments: &[Attachment],
    ) -> Option<Snapshot> {
        let attachments: BTreeSet<Attachment> = attachments.iter().cloned().collect();
        if self.quarantined.get(id).is_some_and(|instance| {
            instance.reason == reason && instance.attachments == attachments
        }) {
            return None;
        }
        let mut quarantined = self.quarantined.clone();
        quarantined.insert(
            id.clone(),
            Quarantined {
                reason,
                attachments,
                client_tokens: BTreeSet::new(),
            },
        );
        Some(Snapshot::assemble(self.entries.clone(), quarantined))
    }

    /// Returns this snapshot with the quarantine reason of one instance set to "not stored": a
    /// failed write left nothing in the store, and the daemon registers the document again.
    pub(super) fn with_reason_not_stored(&self, id: &InstanceId) -> Snapshot {
        let mut quarantined = self.quarantined.clone();
        if let Some(instance) = quarantined.get_mut(id) {
            instance.reason = QuarantineReason::NotStored;
        }
        Snapshot::assemble(self.entries.clone(), quarantined)
    }

    /// Returns this snapshot with more attachments reserved for a quarantined instance; `None`
    /// when it has them already.
    pub(super) fn with_reserved_attachments(
        &self,
        id: &InstanceId,
        attachments: &[Attachment],
    ) -> Option<Snapshot> {
        let reserved = &self.quarantined.get(id)?.attachments;
        if attachments
            .iter()
            .all(|attachment| reserved.contains(attachment))
        {
            return None;
        }
        let mut quarantined = self.quarantined.clone();
        quarantined
            .get_mut(id)?
            .attachments
            .extend(attachments.iter().cloned());
        Some(Snapshot::assemble(self.entries.clone(), quarantined))
    }

    fn assemble(
        entries: BTreeMap<InstanceId, Arc<Entry>>,
        quarantined: BTreeMap<InstanceId, Quarantined>,
    ) -> Snapshot {
        let served = entries.iter().flat_map(|(id, entry)| {
            let attachments = &entry.instance.imds.attachments;
            attachments.iter().map(move |attachment| (id, attachment))
        });
        let reserved = quarantined.iter().flat_map(|(id, instance)| {
            let attachments = &instance.attachments;
            attachments.iter().map(move |attachment| (id, attachment))
        });
        let claims = claimants::by_attachment(served.chain(reserved));
        Snapshot {
            entries,
            quarantined,
            claims,
        }
    }
}

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
            .is_none_or(|holder| *holder == entry.holder())
            .then_some(entry)
    }

    /// Returns the one instance that holds this attachment.
    pub fn attached_to(&self, attachment: &Attachment) -> Option<&Arc<Entry>> {
        match self.claims.get(attachment)? {
            Claimants::One(id) => self.entries.get(id),
            Claimants::Conflict(_) => None,
        }
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
        self.claims.iter()
    }

    /// Returns the claimants of one attachment.
    pub fn claim(&self, attachment: &Attachment) -> Option<&Claimants> {
        self.claims.get(attachment)
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

    fn quarantined_for(&self, reason: QuarantineReason) -> impl Iterator<Item = &InstanceId> {
        let quarantined = self.quarantined.iter();
        quarantined.filter_map(move |(id, instance)| (instance.reason == reason).then_some(id))
    }

    /// Returns the attachments that are reserved for a quarantined instance.
    pub fn reserved_attachments(&self, id: &InstanceId) -> impl Iterator<Item = &Attachment> {
        let instance = self.quarantined.get(id);
        instance
            .into_iter()
            .flat_map(|instance| &instance.attachments)
    }

    /// Returns a quarantined instance that a call with this client token may have launched, and why
    /// it is quarantined.
    pub fn quarantined_launch(&self, token: &str) -> Option<(&InstanceId, QuarantineReason)> {
        self.quarantined
            .iter()
            .find(|(_, instance)| instance.client_tokens.contains(token))
            .map(|(id, instance)| (id, instance.reason))
    }

    /// Returns why this instance is quarantined; `None` when it is not.
    pub fn quarantine_reason(&self, id: &InstanceId) -> Option<QuarantineReason> {
        self.quarantined.get(id).map(|instance| instance.reason)
    }
}
