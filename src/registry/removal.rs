//! Removing instances: the terminated ones after an hour, and any one on the operator's request.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::entry::Entry;
use super::persistence::blocking;
use super::snapshot::Snapshot;
use super::state::{Registry, to_completion};
use super::store::{CommitError, Expected, StoreError, StoredState};
use super::turns::Alone;
use super::update_error::{PartialEffect, UpdateError};
use super::writer::PreviousState;
use crate::instance::InstanceId;

/// How long a terminated instance is still listed.
const TERMINATED_LISTED: SignedDuration = SignedDuration::from_hours(1);

impl Registry {
    /// Forgets the instances that were terminated at least an hour ago. An instance whose record
    /// could not be removed is forgotten too, until the next start; the errors name the records.
    pub async fn forget_terminated(self: &Arc<Self>, now: Timestamp) -> Vec<StoreError> {
        if expired(&self.snapshot(), now).next().is_none() {
            return Vec::new();
        }
        let registry = Arc::clone(self);
        to_completion(async move {
            let turn = registry.turns.alone().await;
            blocking(move || registry.forget_expired(turn, now)).await
        })
        .await
    }

    /// Forgets terminated instances. The record of one that came from a document stays, so that
    /// the document does not bring the instance back; the record of one from the API is removed.
    fn forget_expired(&self, turn: Alone, now: Timestamp) -> Vec<StoreError> {
        let snapshot = self.snapshot();
        let expired: Vec<&Arc<Entry>> = expired(&snapshot, now).collect();
        let ids = expired.iter().map(|entry| &entry.instance.instance_id);
        let _turn = turn.narrow(ids.clone());
        let is_from_api = |entry: &&&Arc<Entry>| entry.launch_request.is_some();
        let removal = |entry: &&Arc<Entry>| {
            let expected = Expected::Generation(entry.generation);
            (entry.instance.instance_id.clone(), expected)
        };
        let removed: Vec<_> = expired.iter().filter(is_from_api).map(removal).collect();
        let (mut kept, mut errors) = (BTreeSet::new(), Vec::new());
        if !removed.is_empty() && self.remove_records(removed.clone()).is_err() {
            // One after the other: a record that cannot be removed keeps no other.
            for (id, expected) in removed {
                if let Err(failed) = self.remove_records([(id.clone(), expected)]) {
                    kept.insert(id);
                    errors.push(failed.error);
                }
            }
        }
        let of_documents = expired.iter().filter(|entry| !is_from_api(entry));
        kept.extend(of_documents.map(|entry| entry.instance.instance_id.clone()));
        self.publish_each(ids, |snapshot, id| {
            Some(match kept.contains(id) {
                true => snapshot.with_tombstone(id),
                false => snapshot.without(id),
            })
        });
        errors
    }

    /// Removes one instance with its record, also a terminated one and one whose record cannot be
    /// trusted. `check` gets the instance if it is listed, and can refuse; then nothing changes.
    ///
    /// If the store fails, the instance stays as it was, or is quarantined while the on-disk state
    /// is unknown.
    pub async fn delete<E>(
        self: &Arc<Self>,
        id: &InstanceId,
        check: impl FnOnce(Option<&Arc<Entry>>) -> Result<(), E> + Send + 'static,
    ) -> Result<(), UpdateError<E>>
    where
        E: Send + 'static,
    {
        let (registry, id) = (Arc::clone(self), id.clone());
        to_completion(async move {
            let turn = registry.turns.alone().await;
            blocking(move || registry.delete_now(turn, id, check)).await
        })
        .await
    }

    fn delete_now<E>(
        &self,
        turn: Alone,
        id: InstanceId,
        check: impl FnOnce(Option<&Arc<Entry>>) -> Result<(), E>,
    ) -> Result<(), UpdateError<E>> {
        let snapshot = self.snapshot();
        let entry = snapshot.entry(&id);
        if entry.is_none() && !snapshot.is_unreadable(&id) && !snapshot.is_tombstone(&id) {
            return Err(UpdateError::Unknown(id));
        }
        check(entry).map_err(UpdateError::Refused)?;
        let _turn = turn.narrow([&id].into_iter());
        let expected = entry.map_or(Expected::Anything, |entry| {
            Expected::Generation(entry.generation)
        });
        if let Err(CommitError { error, .. }) = self.remove_records([(id.clone(), expected)]) {
            if let (Some(entry), StoredState::Unknown) = (entry, error.stored) {
                let previous = PreviousState::Stored(Arc::clone(entry));
                self.quarantine_unknown(&id, previous, &error, None);
            }
            return Err(UpdateError::store(error, PartialEffect::None));
        }
        self.writer.lock().state_unknown.remove(&id);
        self.publish(|snapshot| Some(snapshot.without_record(&id)));
        Ok(())
    }
}

/// Returns the instances that were terminated so long ago that they are no longer listed.
fn expired(snapshot: &Snapshot, now: Timestamp) -> impl Iterator<Item = &Arc<Entry>> {
    let terminated = snapshot.terminated();
    terminated.take_while(move |entry| is_expired(entry, now))
}

/// Returns whether an instance was terminated so long ago that it is no longer listed.
fn is_expired(entry: &Entry, now: Timestamp) -> bool {
    entry
        .terminated
        .is_some_and(|terminated| now.duration_since(terminated) >= TERMINATED_LISTED)
}
