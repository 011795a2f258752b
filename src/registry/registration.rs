//! Registering an instance from a document.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;

use super::progress::{Phase, Progress};
use super::quarantine::QuarantineReason;
use super::record::{Record, document_digest};
use super::snapshot::{Snapshot, UnownedAttachments};
use super::state::{Registry, to_completion};
use super::store::StoreError;
use super::writer::{PreviousState, Writer};
use crate::instance::{Instance, InstanceAttachment, InstanceId, InstanceState};

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
            let mut writer = registry.writer.lock().await;
            if registry.snapshot().is_unreadable(&instance.instance_id) {
                let (id, attachments) = (&instance.instance_id, &instance.imds.attachments);
                registry.reserve_attachments_of_quarantined(&writer, id, attachments);
                return Ok(RegisterOutcome::Unreadable);
            }
            match registry.outcome_for_known(&instance) {
                Some(outcome) => Ok(outcome),
                None => registry.register_new(&mut writer, instance, now).await,
            }
        })
        .await
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
        instances: Vec<Instance>,
        now: Timestamp,
        progress: watch::Sender<Progress>,
    ) -> Vec<(InstanceId, Result<RegisterOutcome, StoreError>)> {
        let total = instances.len();
        let mut outcomes = Vec::with_capacity(total);
        let mut remaining = instances.into_iter();
        while outcomes.len() < total {
            for instance in remaining.by_ref().take(REGISTERED_AT_ONCE) {
                let id = instance.instance_id.clone();
                outcomes.push((id, self.register(instance, now).await));
            }
            progress.send_replace(Progress {
                phase: Phase::Committing,
                done: outcomes.len(),
                total,
            });
        }
        outcomes
    }

    /// Notes that the documents of several instances have faults, each as
    /// [`Registry::register_faulty`] does.
    pub async fn register_all_faulty(
        self: &Arc<Self>,
        faulty: Vec<(InstanceId, Vec<InstanceAttachment>)>,
    ) -> Vec<(InstanceId, FaultyOutcome)> {
        let mut outcomes = Vec::with_capacity(faulty.len());
        for (id, attachments) in faulty {
            let outcome = self.register_faulty(&id, attachments).await;
            outcomes.push((id, outcome));
        }
        outcomes
    }

    /// Withdraws documents that were not registered, each as [`Registry::withdraw`] does.
    pub async fn withdraw_all(self: &Arc<Self>, ids: Vec<InstanceId>) {
        for id in ids {
            self.withdraw(&id).await;
        }
    }

    /// Notes that the document of an instance has faults. The record of a known instance stays in
    /// force. An instance without a record is quarantined, and no other instance is served at its
    /// attachments, until its document is registered, or withdrawn.
    pub async fn register_faulty(
        self: &Arc<Self>,
        id: &InstanceId,
        attachments: Vec<InstanceAttachment>,
    ) -> FaultyOutcome {
        let (registry, id) = (Arc::clone(self), id.clone());
        to_completion(async move {
            let writer = registry.writer.lock().await;
            let snapshot = registry.snapshot();
            if snapshot.is_unreadable(&id) {
                registry.reserve_attachments_of_quarantined(&writer, &id, &attachments);
                return FaultyOutcome::NotServed;
            }
            if let Some(entry) = snapshot.entry(&id) {
                return match entry.instance.state {
                    InstanceState::Terminated => FaultyOutcome::NotServed,
                    InstanceState::Pending
                    | InstanceState::Running
                    | InstanceState::ShuttingDown
                    | InstanceState::Stopping
                    | InstanceState::Stopped => FaultyOutcome::Recorded,
                };
            }
            if !snapshot.is_tombstone(&id) {
                let reason = QuarantineReason::FaultyDocument;
                registry.publish(|snapshot| snapshot.with_unregistered(&id, reason, &attachments));
            }
            FaultyOutcome::NotServed
        })
        .await
    }

    /// Reserves attachments that files name for instances that are not known, in place of those that
    /// were reserved before: no instance is served there, and none can be given one.
    pub async fn reserve_unowned(self: &Arc<Self>, unowned: UnownedAttachments) {
        let registry = Arc::clone(self);
        to_completion(async move {
            let _writer = registry.writer.lock().await;
            registry.publish(|snapshot| snapshot.with_unowned(unowned));
        })
        .await;
    }

    /// Withdraws a document that was not registered: its attachments are no longer reserved.
    pub async fn withdraw(self: &Arc<Self>, id: &InstanceId) {
        let (registry, id) = (Arc::clone(self), id.clone());
        to_completion(async move {
            let mut writer = registry.writer.lock().await;
            if let Some(previous @ PreviousState::Offered) = writer.state_unknown.get_mut(&id) {
                *previous = PreviousState::Absent;
            }
            match registry.snapshot().quarantine_reason(&id) {
                Some(QuarantineReason::NotStored | QuarantineReason::FaultyDocument) => {
                    registry.unpublish(&id);
                }
                Some(QuarantineReason::Unreadable | QuarantineReason::StateUnknown) | None => {}
            }
        })
        .await;
    }

    /// Reserves the document's attachments for a quarantined instance, if its record is unreadable
    /// or was never stored: the document may be the only source of its attachments.
    fn reserve_attachments_of_quarantined(
        &self,
        writer: &Writer,
        id: &InstanceId,
        attachments: &[InstanceAttachment],
    ) {
        let snapshot = self.snapshot();
        let is_unreadable = snapshot.quarantine_reason(id) == Some(QuarantineReason::Unreadable);
        let is_offered = matches!(writer.state_unknown.get(id), Some(PreviousState::Offered));
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
        let outcome = |id: &InstanceId, state, digest| match snapshot.is_unreadable(id) {
            true => Some(RegisterOutcome::Unreadable),
            false => known_outcome(&snapshot, id, state, || digest),
        };
        let documents = documents.into_iter();
        documents
            .filter_map(|(id, state, digest)| {
                let outcome = outcome(&id, state, digest)?;
                Some((id, outcome))
            })
            .collect()
    }

    /// Returns the outcome for an instance that has a record; `None` for a new instance.
    fn outcome_for_known(&self, document: &Instance) -> Option<RegisterOutcome> {
        let (id, state) = (&document.instance_id, document.state);
        known_outcome(&self.snapshot(), id, state, || document_digest(document))
    }

    async fn register_new(
        &self,
        writer: &mut Writer,
        mut instance: Instance,
        now: Timestamp,
    ) -> Result<RegisterOutcome, StoreError> {
        // The digest is that of the document, whatever the account's defaults are.
        let digest = document_digest(&instance);
        self.resolve_options(&mut instance, self.account().account().ok().as_ref());
        let record = Record::first(instance.clone(), digest, None, now);
        match self.store_and_publish(writer, record, None).await {
            Ok(_) => Ok(RegisterOutcome::New),
            Err(error) => {
                self.quarantine_not_stored(writer, &instance);
                Err(error)
            }
        }
    }

    /// Quarantines an instance whose document could not be stored. Its guest may be behind its
    /// attachments, so no other instance is served there.
    fn quarantine_not_stored(&self, writer: &mut Writer, document: &Instance) {
        // A stopped instance has no guest.
        let attachments: &[InstanceAttachment] = match document.state.is_active() {
            true => &document.imds.attachments,
            false => &[],
        };
        let id = &document.instance_id;
        match writer.state_unknown.get_mut(id) {
            Some(previous) => {
                *previous = PreviousState::Offered;
                self.publish(|snapshot| snapshot.with_reserved_attachments(id, attachments));
            }
            None => {
                let reason = QuarantineReason::NotStored;
                self.publish(|snapshot| snapshot.with_unregistered(id, reason, attachments));
            }
        }
    }
}

/// Returns the outcome for a document of an instance that has a record; `None` for a new instance.
fn known_outcome(
    snapshot: &Snapshot,
    id: &InstanceId,
    state: InstanceState,
    digest: impl FnOnce() -> String,
) -> Option<RegisterOutcome> {
    if snapshot.is_tombstone(id) {
        return Some(RegisterOutcome::Terminated);
    }
    let known = snapshot.entry(id)?;
    let is_terminated = |state| state == InstanceState::Terminated;
    if is_terminated(known.instance.state) && !is_terminated(state) {
        return Some(RegisterOutcome::Terminated);
    }
    Some(match known.document_digest == digest() {
        true => RegisterOutcome::Known,
        false => RegisterOutcome::Edited,
    })
}
