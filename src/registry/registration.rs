//! Registering instances from documents.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::iter::Peekable;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;

use super::parallel::in_parallel;
use super::persistence::blocking;
use super::progress::{Phase, Progress};
use super::quarantine::QuarantineReason;
use super::record::{Document, Record};
use super::snapshot::{Snapshot, UnownedAttachments};
use super::state::{Registry, to_completion};
use super::store::{StoreError, StoredState};
use super::turns::Alone;
use super::writer::PreviousState;
use crate::instance::{Instance, InstanceAttachment, InstanceId, InstanceState};

/// The attachments of how many instances are reserved in one publication. Then other tasks get a turn.
const RESERVED_AT_ONCE: usize = 256;

/// What registering a document did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterOutcome {
    /// The instance is new and now stored.
    New,
    /// The instance was known; its stored record stays in force.
    Known,
    /// The instance was known from another version of the document; its stored record stays in
    /// force.
    Edited,
    /// Its record cannot be trusted, so it is not served, and the document does not replace it.
    Unreadable,
    /// The instance was terminated, and no document brings it back.
    Terminated,
}

/// How many documents [`Registry::register_all`] registers at a time. The instances of a batch are
/// served when it is stored, and other writers have their turn after each.
const REGISTERED_AT_ONCE: usize = 500;

/// What an instance with a faulty document is served from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultyOutcome {
    /// Its record.
    Recorded,
    /// Nothing: it has no record, or one that cannot be trusted, or it was terminated.
    NotServed,
}

impl Registry {
    /// Registers an instance from a document. A known instance keeps its record: the store owns it.
    ///
    /// If the store fails, the instance is quarantined, and no other instance is served at its
    /// attachments, until its document is registered again and stored, or withdrawn.
    pub async fn register(
        self: &Arc<Self>,
        instance: Instance,
        now: Timestamp,
    ) -> Result<RegisterOutcome, StoreError> {
        let registry = Arc::clone(self);
        to_completion(async move {
            let document = blocking(move || Arc::new(Document::of(instance))).await;
            let mut outcomes = registry.register_batch(vec![document], now).await;
            outcomes.pop().expect("one outcome for each document")
        })
        .await
    }

    /// Reserves the attachments of those documents' instances that are new: until one is registered,
    /// no other instance is served there. [`Registry::register_all`] registers them.
    pub async fn reserve_new(&self, documents: &[Arc<Document>]) {
        let _turn = self.turns.alone().await;
        for part in documents.chunks(RESERVED_AT_ONCE) {
            self.publish_each(part, |snapshot, document| {
                let instance = &document.instance;
                let id = &instance.instance_id;
                let reason = match snapshot.quarantine_reason(id) {
                    _ if snapshot.entry(id).is_some() || snapshot.is_tombstone(id) => return None,
                    Some(QuarantineReason::Unreadable | QuarantineReason::StateUnknown) => {
                        return None;
                    }
                    // What failed before counts as failed until it is stored.
                    Some(QuarantineReason::NotStored) => QuarantineReason::NotStored,
                    Some(QuarantineReason::FaultyDocument | QuarantineReason::BeingRegistered)
                    | None => QuarantineReason::BeingRegistered,
                };
                snapshot.with_unregistered(id, reason, active_attachments(instance))
            });
            tokio::task::yield_now().await;
        }
    }

    /// Registers many instances from documents, each as [`Registry::register`] does. They are
    /// registered in batches: the new instances of a batch are stored together and then served.
    /// `progress` is sent after each batch: [`Phase::Committing`], and how many are registered.
    ///
    /// If the caller goes away, the batch that has begun is finished, and no other begins.
    ///
    /// Returns the outcomes in the order of the documents.
    pub async fn register_all(
        self: &Arc<Self>,
        documents: Vec<Arc<Document>>,
        now: Timestamp,
        progress: watch::Sender<Progress>,
    ) -> Vec<(InstanceId, Result<RegisterOutcome, StoreError>)> {
        let total = documents.len();
        let mut outcomes = Vec::with_capacity(total);
        let mut remaining = documents.into_iter().peekable();
        while remaining.peek().is_some() {
            let batch = next_batch(&mut remaining);
            let ids = batch.iter().map(|of| of.instance.instance_id.clone());
            let ids: Vec<InstanceId> = ids.collect();
            let of_batch = self.register_batch(batch, now).await;
            outcomes.extend(ids.into_iter().zip(of_batch));
            progress.send_replace(Progress {
                phase: Phase::Committing,
                done: outcomes.len(),
                total,
            });
        }
        outcomes
    }

    /// Registers instances with different ids.
    async fn register_batch(
        self: &Arc<Self>,
        documents: Vec<Arc<Document>>,
        now: Timestamp,
    ) -> Vec<Result<RegisterOutcome, StoreError>> {
        let registry = Arc::clone(self);
        to_completion(async move {
            let turn = registry.turns.alone().await;
            blocking(move || registry.register_now(turn, documents, now)).await
        })
        .await
    }

    fn register_now(
        &self,
        turn: Alone,
        documents: Vec<Arc<Document>>,
        now: Timestamp,
    ) -> Vec<Result<RegisterOutcome, StoreError>> {
        // 1. Known instances need no write.
        let (mut outcomes, mut new) = (Vec::new(), Vec::new());
        for document in documents {
            let known = self.outcome_for_known(&document);
            if known.is_none() {
                new.push(document);
            }
            outcomes.push(known.map(Ok));
        }

        // 2. New ones are stored together, or each on its own if that fails.
        let ids = new.iter().map(|document| &document.instance.instance_id);
        let _turn = turn.narrow(ids);
        let mut of_new = self.register_new(&new, now).into_iter();
        let outcomes = outcomes.into_iter();
        outcomes
            .map(|known| known.unwrap_or_else(|| of_new.next().expect("one for each document")))
            .collect()
    }

    /// Notes that the document of an instance has faults. The record of a known instance stays in
    /// force. An instance without a record is quarantined, and no other instance is served at its
    /// attachments, until its document is registered, or withdrawn.
    pub async fn register_faulty(
        self: &Arc<Self>,
        id: &InstanceId,
        attachments: Vec<InstanceAttachment>,
    ) -> FaultyOutcome {
        let faulty = vec![(id.clone(), attachments)];
        let mut outcomes = self.register_all_faulty(faulty).await;
        outcomes.pop().expect("one outcome for each document").1
    }

    /// Notes that the documents of several instances have faults, each as
    /// [`Registry::register_faulty`] does, in one publication.
    pub async fn register_all_faulty(
        self: &Arc<Self>,
        faulty: Vec<(InstanceId, Vec<InstanceAttachment>)>,
    ) -> Vec<(InstanceId, FaultyOutcome)> {
        let registry = Arc::clone(self);
        to_completion(async move {
            let turn = registry.turns.alone().await;
            blocking(move || {
                let _turn = turn;
                registry.register_faulty_now(faulty)
            })
            .await
        })
        .await
    }

    fn register_faulty_now(
        &self,
        faulty: Vec<(InstanceId, Vec<InstanceAttachment>)>,
    ) -> Vec<(InstanceId, FaultyOutcome)> {
        let (mut outcomes, mut without_record) = (Vec::new(), Vec::new());
        let snapshot = self.snapshot();
        for (id, attachments) in faulty {
            let mut outcome = FaultyOutcome::NotServed;
            if snapshot.is_unreadable(&id) {
                self.reserve_attachments_of_quarantined(&id, &attachments);
            } else if let Some(entry) = snapshot.entry(&id) {
                outcome = match entry.instance.state {
                    InstanceState::Terminated => FaultyOutcome::NotServed,
                    InstanceState::Pending
                    | InstanceState::Running
                    | InstanceState::ShuttingDown
                    | InstanceState::Stopping
                    | InstanceState::Stopped => FaultyOutcome::Recorded,
                };
            } else if !snapshot.is_tombstone(&id) {
                without_record.push((id.clone(), attachments));
            }
            outcomes.push((id, outcome));
        }
        let reason = QuarantineReason::FaultyDocument;
        self.publish_each(&without_record, |snapshot, (id, attachments)| {
            snapshot.with_unregistered(id, reason, attachments)
        });
        outcomes
    }

    /// Reserves attachments that files name for instances that are not known, in place of those that
    /// were reserved before: no instance is served there, and none can be given one.
    pub async fn reserve_unowned(self: &Arc<Self>, unowned: UnownedAttachments) {
        let registry = Arc::clone(self);
        to_completion(async move {
            let _turn = registry.turns.alone().await;
            registry.publish(|snapshot| snapshot.with_unowned(unowned));
        })
        .await;
    }

    /// Withdraws a document that was not registered: its attachments are no longer reserved.
    pub async fn withdraw(self: &Arc<Self>, id: &InstanceId) {
        self.withdraw_all(vec![id.clone()]).await;
    }

    /// Withdraws documents that were not registered, each as [`Registry::withdraw`] does, in one
    /// publication.
    pub async fn withdraw_all(self: &Arc<Self>, ids: Vec<InstanceId>) {
        let registry = Arc::clone(self);
        to_completion(async move {
            let _turn = registry.turns.alone().await;
            for id in &ids {
                let mut writer = registry.writer.lock();
                if let Some(previous @ PreviousState::Offered) = writer.state_unknown.get_mut(id) {
                    *previous = PreviousState::Absent;
                }
            }
            registry.publish_each(&ids, |snapshot, id| match snapshot.quarantine_reason(id) {
                Some(
                    QuarantineReason::NotStored
                    | QuarantineReason::FaultyDocument
                    | QuarantineReason::BeingRegistered,
                ) => Some(snapshot.without(id)),
                Some(QuarantineReason::Unreadable | QuarantineReason::StateUnknown) | None => None,
            });
        })
        .await;
    }

    /// Reserves the document's attachments for a quarantined instance, if its record is unreadable
    /// or was never stored: the document may be the only source of its attachments.
    fn reserve_attachments_of_quarantined(
        &self,
        id: &InstanceId,
        attachments: &[InstanceAttachment],
    ) {
        let snapshot = self.snapshot();
        let is_unreadable = snapshot.quarantine_reason(id) == Some(QuarantineReason::Unreadable);
        let is_offered = matches!(
            self.writer.lock().state_unknown.get(id),
            Some(PreviousState::Offered)
        );
        if is_unreadable || is_offered {
            self.publish(|snapshot| snapshot.with_reserved_attachments(id, attachments));
        }
    }

    /// Returns the outcome of documents that were registered before, each an id with the state and
    /// the digest of its document, as [`Registry::register`] returns it. Leaves out an instance that
    /// has no record any more: it was deleted meanwhile.
    pub fn known_outcomes(
        &self,
        documents: impl IntoIterator<Item = (InstanceId, InstanceState, String)>,
    ) -> Vec<(InstanceId, RegisterOutcome)> {
        let snapshot = self.snapshot();
        let outcome = |id: &InstanceId, state, digest: &str| match snapshot.is_unreadable(id) {
            true => Some(RegisterOutcome::Unreadable),
            false => known_outcome(&snapshot, id, state, digest),
        };
        let documents = documents.into_iter();
        documents
            .filter_map(|(id, state, digest)| {
                let outcome = outcome(&id, state, &digest)?;
                Some((id, outcome))
            })
            .collect()
    }

    /// Returns the outcome for an instance that has a record; `None` for a new instance.
    fn outcome_for_known(&self, document: &Document) -> Option<RegisterOutcome> {
        let Document { instance, digest } = document;
        let (id, snapshot) = (&instance.instance_id, self.snapshot());
        if snapshot.is_unreadable(id) {
            self.reserve_attachments_of_quarantined(id, &instance.imds.attachments);
            return Some(RegisterOutcome::Unreadable);
        }
        known_outcome(&snapshot, id, instance.state, digest)
    }

    /// Stores and publishes new instances. If that fails, each is tried on its own: a document that
    /// cannot be stored affects no other.
    fn register_new(
        &self,
        documents: &[Arc<Document>],
        now: Timestamp,
    ) -> Vec<Result<RegisterOutcome, StoreError>> {
        if documents.is_empty() {
            return Vec::new();
        }
        let account = self.account().account().ok();
        let new = in_parallel(documents, |document| {
            let Document { instance, digest } = &**document;
            // The digest is that of the document, whatever the account's defaults are.
            let mut resolved = instance.clone();
            self.resolve_options(&mut resolved, account.as_ref());
            self.new_entry(Record::first(resolved, digest.clone(), None, now), None)
        });
        let stored = self.store_and_publish(&new, BTreeMap::new());
        self.wake_consumers();
        let Err(failed) = stored else {
            return documents.iter().map(|_| Ok(RegisterOutcome::New)).collect();
        };
        if let [document] = documents {
            self.quarantine_not_stored(&document.instance);
            return vec![Err(failed.error)];
        }
        let each = documents.iter().map(|document| {
            if failed.unknown.contains(&document.instance.instance_id) {
                self.quarantine_not_stored(&document.instance);
                return vec![Err(copy_of(&failed.error))];
            }
            self.register_new(std::slice::from_ref(document), now)
        });
        each.flatten().collect()
    }

    /// Quarantines an instance whose document could not be stored. Its guest may be behind its
    /// attachments, so no other instance is served there.
    fn quarantine_not_stored(&self, document: &Instance) {
        let (id, attachments) = (&document.instance_id, active_attachments(document));
        let mut writer = self.writer.lock();
        let unknown = writer.state_unknown.get_mut(id);
        let is_unknown = unknown.is_some();
        unknown
            .into_iter()
            .for_each(|previous| *previous = PreviousState::Offered);
        drop(writer);
        self.publish(|snapshot| match is_unknown {
            true => snapshot.with_reserved_attachments(id, attachments),
            false => snapshot.with_unregistered(id, QuarantineReason::NotStored, attachments),
        });
    }
}

/// Returns the attachments that a document claims. A stopped instance has no guest.
fn active_attachments(document: &Instance) -> &[InstanceAttachment] {
    match document.state.is_active() {
        true => &document.imds.attachments,
        false => &[],
    }
}

/// Takes documents of different instances, as many as are registered at a time.
fn next_batch(remaining: &mut Peekable<impl Iterator<Item = Arc<Document>>>) -> Vec<Arc<Document>> {
    let (mut batch, mut ids) = (Vec::new(), HashSet::new());
    while batch.len() < REGISTERED_AT_ONCE
        && let Some(document) =
            remaining.next_if(|document| ids.insert(document.instance.instance_id.clone()))
    {
        batch.push(document);
    }
    batch
}

/// Returns the error again: several instances have it.
fn copy_of(error: &StoreError) -> StoreError {
    StoreError {
        action: error.action.clone(),
        reason: io::Error::new(error.reason.kind(), error.reason.to_string()),
        stored: StoredState::Unknown,
    }
}

/// Returns the outcome for a document of an instance that has a record; `None` for a new instance.
fn known_outcome(
    snapshot: &Snapshot,
    id: &InstanceId,
    state: InstanceState,
    digest: &str,
) -> Option<RegisterOutcome> {
    if snapshot.is_tombstone(id) {
        return Some(RegisterOutcome::Terminated);
    }
    let known = snapshot.entry(id)?;
    let is_terminated = |state| state == InstanceState::Terminated;
    if is_terminated(known.instance.state) && !is_terminated(state) {
        return Some(RegisterOutcome::Terminated);
    }
    Some(match known.document_digest == digest {
        true => RegisterOutcome::Known,
        false => RegisterOutcome::Edited,
    })
}
