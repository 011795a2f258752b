//! Removing instances: the terminated ones after an hour, and any one on the operator's request.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::entry::Entry;
use super::snapshot::Snapshot;
use super::state::{Registry, to_completion};
use super::store::{StoreError, StoredState};
use super::update_error::{PartialEffect, UpdateError};
use super::writer::PreviousState;
use crate::instance::InstanceId;

/// How long a terminated instance is still listed.
const TERMINATED_LISTED: SignedDuration = SignedDuration::from_hours(1);

impl Registry {
    /// Forgets the instances that were terminated at least an hour ago. An instance whose record
    /// could not be removed is forgotten too, until the next start; the errors name the records.
    pub async fn forget_terminated(self: &Arc<Self>, now: Timestamp) -> Vec<StoreError> {
        let has_expired = |snapshot: &Snapshot| expired(snapshot, now).next().is_some();
        if !has_expired(&self.snapshot()) {
            return Vec::new();
        }
        let registry = Arc::clone(self);
        to_completion(async move {
            let _writer = registry.writer.lock().await;
            let snapshot = registry.snapshot();
            let mut errors = Vec::new();
            for entry in expired(&snapshot, now) {
                errors.extend(registry.forget(entry).await.err());
            }
            errors
        })
        .await
    }

    /// Forgets a terminated instance. The record of one that came from a document stays, so that
    /// the document does not bring the instance back; the record of one from the API is removed.
    async fn forget(&self, entry: &Entry) -> Result<(), StoreError> {
        let id = &entry.instance.instance_id;
        let is_from_api = entry.launch_request.is_some();
        let removed = match is_from_api {
            true => self.remove_record(id).await,
            false => Ok(()),
        };
        let has_record = !is_from_api || removed.is_err();
        self.publish(|snapshot| {
            Some(match has_record {
                true => snapshot.with_tombstone(id),
                false => snapshot.without(id),
            })
        });
        removed
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
            let mut writer = registry.writer.lock().await;
            let snapshot = registry.snapshot();
            let entry = snapshot.entry(&id);
            if entry.is_none() && !snapshot.is_unreadable(&id) && !snapshot.is_tombstone(&id) {
                return Err(UpdateError::Unknown(id));
            }
            check(entry).map_err(UpdateError::Refused)?;
            if let Err(error) = registry.remove_record(&id).await {
                if let (Some(entry), StoredState::Unknown) = (entry, error.stored) {
                    let previous = PreviousState::Stored(Arc::clone(entry));
                    registry.quarantine(&mut writer, &id, previous, None, &error);
                }
                return Err(UpdateError::store(error, PartialEffect::None));
            }
            writer.state_unknown.remove(&id);
            registry.publish(|snapshot| Some(snapshot.without_record(&id)));
            Ok(())
        })
        .await
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
