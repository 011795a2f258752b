//! Stores for tests that write one record after the other, and fail where a test wants it.

use super::account::Account;
use super::record::Record;
use super::store::{CommitError, Loaded, PreparedWrite, Store, StoreError, StoredState, Write};
use crate::instance::InstanceId;

/// A store that writes one record after the other, when they are committed.
pub(crate) trait StepwiseStore: Send + Sync {
    /// See [`Store::load`].
    fn load(&self) -> Result<Loaded, StoreError>;

    /// Stores one record.
    fn put(&self, record: &Record) -> Result<(), StoreError>;

    /// Removes one record.
    fn remove(&self, id: &InstanceId) -> Result<(), StoreError>;

    /// See [`Store::put_account`].
    fn put_account(&self, account: &Account) -> Result<(), StoreError>;
}

impl<S: StepwiseStore> Store for S {
    fn load(&self) -> Result<Loaded, StoreError> {
        StepwiseStore::load(self)
    }

    fn prepare(&self, writes: Vec<Write>) -> Result<Vec<PreparedWrite>, StoreError> {
        Ok(writes.into_iter().map(PreparedWrite::unstaged).collect())
    }

    /// The records before a failure count as undone.
    fn commit(&self, batches: Vec<Vec<PreparedWrite>>) -> Vec<Result<(), CommitError>> {
        let commit = |PreparedWrite { write, .. }| {
            let written = match &write.record {
                Some(record) => self.put(record),
                None => self.remove(&write.id),
            };
            written.map_err(|error| CommitError {
                unknown: match error.stored {
                    StoredState::Previous => Vec::new(),
                    StoredState::Unknown => vec![write.id],
                },
                error,
            })
        };
        let batches = batches.into_iter();
        batches
            .map(|batch| batch.into_iter().try_for_each(commit))
            .collect()
    }

    fn put_account(&self, account: &Account) -> Result<(), StoreError> {
        StepwiseStore::put_account(self, account)
    }
}
