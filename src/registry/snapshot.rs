//! The registry at one moment: immutable, shared by every request that began under it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::Timestamp;

use super::{Applied, Record};
use crate::instance::claims::Claims;
use crate::instance::{Attachment, Instance, InstanceId};
use crate::origin::{Holder, Origin};

/// All instances, and which way in belongs to which.
#[derive(Default)]
pub struct Snapshot {
    entries: BTreeMap<InstanceId, Arc<Entry>>,
    quarantined: BTreeMap<InstanceId, Quarantined>,
    claims: HashMap<Attachment, Claimants>,
}

/// An instance that is not served. Its ways in stay its own: whoever else claims one is not served there either, as
/// behind it may be its guest.
#[derive(Clone, Debug)]
pub(super) struct Quarantined {
    pub(super) doubt: QuarantineReason,
    pub(super) attachments: BTreeSet<Attachment>,
}

/// Why an instance is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuarantineReason {
    /// Its record can't be read.
    Unreadable,
    /// A write of its record failed, and nobody can be sure what that left. The record of before is written again until it
    /// is stored.
    StateUnknown,
    /// It has no record: its document could not be stored, and is offered again.
    NotStored,
}

/// Who claims a way in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimants {
    /// One instance, as it should be. Nobody is served there while it is in doubt.
    One(InstanceId),
    /// Several: none of them is served there.
    Conflict(BTreeSet<InstanceId>),
}

impl Claimants {
    /// All who claim it.
    pub fn claimants(&self) -> impl Iterator<Item = &InstanceId> {
        let (one, several) = match self {
            Claimants::One(id) => (Some(id), None),
            Claimants::Conflict(several) => (None, Some(several)),
        };
        one.into_iter().chain(several.into_iter().flatten())
    }
}

/// One instance as published.
#[derive(Debug)]
pub struct Entry {
    /// The instance.
    pub instance: Instance,
    /// Rises with every change (the desired generation).
    pub generation: u64,
    /// Differs for every launch; tokens of another launch are void.
    pub launch_epoch: u64,
    /// The instance identity document of this launch, to the byte.
    pub identity_document: String,
    /// Of the document it was registered from.
    pub document_digest: String,
    /// Of the RunInstances call that made it.
    pub launch_request: Option<String>,
    /// When it was terminated.
    pub terminated: Option<Timestamp>,
    /// When anything but its options was last changed: `Last-Modified` of what is read.
    pub changed: Timestamp,
    /// The generation that the sockets carry.
    pub(super) applied: Applied,
}

/// `State` of the metadata options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionsState {
    /// The sockets do not carry the newest options yet.
    Pending,
    /// They do.
    Applied,
}

impl OptionsState {
    /// The word EC2 uses.
    pub fn as_str(self) -> &'static str {
        match self {
            OptionsState::Pending => "pending",
            OptionsState::Applied => "applied",
        }
    }
}

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

    /// This snapshot with one entry put in or replaced.
    pub(super) fn with(&self, entry: Arc<Entry>) -> Snapshot {
        let (mut entries, mut quarantined) = (self.entries.clone(), self.quarantined.clone());
        quarantined.remove(&entry.instance.instance_id);
        entries.insert(entry.instance.instance_id.clone(), entry);
        Snapshot::assemble(entries, quarantined)
    }

    /// This snapshot without one instance, which nobody is served as from here on. It keeps its ways in.
    pub(super) fn without(&self, id: &InstanceId) -> Snapshot {
        let (mut entries, mut quarantined) = (self.entries.clone(), self.quarantined.clone());
        let removed = entries.remove(id);
        let kept = quarantined.entry(id.clone()).or_insert(Quarantined {
            doubt: QuarantineReason::StateUnknown,
            attachments: BTreeSet::new(),
        });
        kept.doubt = QuarantineReason::StateUnknown;
        kept.attachments.extend(
            removed
                .iter()
                .flat_map(|entry| &entry.instance.imds.attachments)
                .cloned(),
        );
        Snapshot::assemble(entries, quarantined)
    }

    /// This snapshot with an instance that could not be stored and is not served. Its ways in are its own, all the same;
    /// `None` when they are already.
    pub(super) fn leaving_out(
        &self,
        id: &InstanceId,
        attachments: &[Attachment],
    ) -> Option<Snapshot> {
        let attachments: BTreeSet<Attachment> = attachments.iter().cloned().collect();
        if self.quarantined.get(id).is_some_and(|kept| {
            kept.doubt == QuarantineReason::NotStored && kept.attachments == attachments
        }) {
            return None;
        }
        let mut quarantined = self.quarantined.clone();
        quarantined.insert(
            id.clone(),
            Quarantined {
                doubt: QuarantineReason::NotStored,
                attachments,
            },
        );
        Some(Snapshot::assemble(self.entries.clone(), quarantined))
    }

    /// This snapshot with an instance of which a failed write left nothing, and whose document is offered again.
    pub(super) fn not_storing(&self, id: &InstanceId) -> Snapshot {
        let mut quarantined = self.quarantined.clone();
        if let Some(kept) = quarantined.get_mut(id) {
            kept.doubt = QuarantineReason::NotStored;
        }
        Snapshot::assemble(self.entries.clone(), quarantined)
    }

    /// This snapshot with more ways in kept for an instance that is not served; `None` when it has them already.
    pub(super) fn keeping(&self, id: &InstanceId, attachments: &[Attachment]) -> Option<Snapshot> {
        let known = &self.quarantined.get(id)?.attachments;
        if attachments
            .iter()
            .all(|attachment| known.contains(attachment))
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

    /// This snapshot without one instance, which is gone.
    pub(super) fn forgetting(&self, id: &InstanceId) -> Snapshot {
        let (mut entries, mut quarantined) = (self.entries.clone(), self.quarantined.clone());
        entries.remove(id);
        quarantined.remove(id);
        Snapshot::assemble(entries, quarantined)
    }

    fn assemble(
        entries: BTreeMap<InstanceId, Arc<Entry>>,
        quarantined: BTreeMap<InstanceId, Quarantined>,
    ) -> Snapshot {
        let attachments = || {
            let served = entries.iter().flat_map(|(id, entry)| {
                let attachments = &entry.instance.imds.attachments;
                attachments.iter().map(move |attachment| (id, attachment))
            });
            let quarantined = quarantined.iter().flat_map(|(id, instance)| {
                let attachments = &instance.attachments;
                attachments.iter().map(move |attachment| (id, attachment))
            });
            served.chain(quarantined)
        };
        let mut index = Claims::new();
        for (id, attachment) in attachments() {
            index.add(attachment, id);
        }
        let mut claims: HashMap<Attachment, Claimants> = HashMap::new();
        for (id, attachment) in attachments() {
            let mut ids: BTreeSet<InstanceId> = index
                .conflicts(attachment, id)
                .map(|claim| claim.claimant.clone())
                .collect();
            if ids.is_empty() {
                claims.insert(attachment.clone(), Claimants::One(id.clone()));
                continue;
            }
            ids.insert(id.clone());
            // Claimants of one attachment conflict with the same instances, except through their other attachments.
            match claims.get_mut(attachment) {
                Some(Claimants::Conflict(known)) => known.extend(ids),
                _ => drop(claims.insert(attachment.clone(), Claimants::Conflict(ids))),
            }
        }
        Snapshot {
            entries,
            quarantined,
            claims,
        }
    }

    /// The instance whose packets come in here; `None` when nobody, or more than one, claims this way in, or one that is not
    /// served, and when it is not the one that held it when the connection was accepted.
    pub fn at(&self, origin: &Origin) -> Option<&Arc<Entry>> {
        let entry = self.attached_to(&origin.attachment)?;
        origin
            .holder
            .as_ref()
            .is_none_or(|holder| *holder == entry.holder())
            .then_some(entry)
    }

    /// The one instance that holds this way in.
    pub fn attached_to(&self, attachment: &Attachment) -> Option<&Arc<Entry>> {
        match self.claims.get(attachment)? {
            Claimants::One(id) => self.entries.get(id),
            Claimants::Conflict(_) => None,
        }
    }

    /// One instance by its id.
    pub fn entry(&self, id: &InstanceId) -> Option<&Arc<Entry>> {
        self.entries.get(id)
    }

    /// All instances, by id.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.values()
    }

    /// Every way in that some instance claims, with its claim.
    pub fn claims(&self) -> impl Iterator<Item = (&Attachment, &Claimants)> {
        self.claims.iter()
    }

    /// Who claims a way in.
    pub fn claim(&self, attachment: &Attachment) -> Option<&Claimants> {
        self.claims.get(attachment)
    }

    /// The instances that are not served as their records can't be relied on.
    pub fn unreadable(&self) -> impl Iterator<Item = &InstanceId> {
        self.quarantined.keys().filter(|id| self.is_unreadable(id))
    }

    /// Whether this instance is one of those.
    pub fn is_unreadable(&self, id: &InstanceId) -> bool {
        matches!(
            self.quarantine_reason(id),
            Some(QuarantineReason::Unreadable | QuarantineReason::StateUnknown)
        )
    }

    /// The instances that are not served as their documents could not be stored.
    pub fn not_stored(&self) -> impl Iterator<Item = &InstanceId> {
        self.quarantined
            .keys()
            .filter(|id| self.quarantine_reason(id) == Some(QuarantineReason::NotStored))
    }

    /// Why this instance is not served, when it is quarantined.
    pub fn quarantine_reason(&self, id: &InstanceId) -> Option<QuarantineReason> {
        self.quarantined
            .get(id)
            .map(|quarantined| quarantined.doubt)
    }
}

impl Entry {
    /// The entry of a record; nothing is applied yet.
    pub fn of_record(record: Record) -> Entry {
        let Record {
            generation,
            launch_epoch,
            identity_document,
            document_digest,
            launch_request,
            terminated,
            changed,
            instance,
        } = record;
        Entry {
            instance,
            generation,
            launch_epoch,
            identity_document,
            document_digest,
            launch_request,
            terminated,
            changed,
            applied: Applied::default(),
        }
    }

    /// The record of this entry.
    pub(super) fn record(&self) -> Record {
        Record {
            generation: self.generation,
            launch_epoch: self.launch_epoch,
            identity_document: self.identity_document.clone(),
            document_digest: self.document_digest.clone(),
            launch_request: self.launch_request.clone(),
            terminated: self.terminated,
            changed: self.changed,
            instance: self.instance.clone(),
        }
    }

    pub(super) fn succeeded_by(&self, record: Record) -> Entry {
        Entry {
            applied: Arc::clone(&self.applied),
            ..Entry::of_record(record)
        }
    }

    /// Whose a connection is that this entry is served on.
    pub fn holder(&self) -> Holder {
        Holder {
            instance: self.instance.instance_id.clone(),
            launch_epoch: self.launch_epoch,
        }
    }

    /// Whether the sockets carry this entry's options.
    pub fn options_state(&self) -> OptionsState {
        match self.applied.load(Ordering::Acquire) >= self.generation {
            true => OptionsState::Applied,
            false => OptionsState::Pending,
        }
    }
}
