//! A store that keeps nothing: for the demo, which says so, and for tests.

use super::account::Account;
use super::store::{CommitError, Loaded, PreparedWrite, Store, StoreError, Write};

/// Keeps nothing across restarts.
#[derive(Debug, Default)]
pub struct MemoryStore;

impl Store for MemoryStore {
    fn load(&self) -> Result<Loaded, StoreError> {
        Ok(Loaded::default())
    }

    fn prepare(&self, writes: Vec<Write>) -> Result<Vec<PreparedWrite>, StoreError> {
        Ok(writes.into_iter().map(PreparedWrite::unstaged).collect())
    }

    fn commit(&self, batches: Vec<Vec<PreparedWrite>>) -> Vec<Result<(), CommitError>> {
        batches.into_iter().map(|_| Ok(())).collect()
    }

    fn put_account(&self, _account: &Account) -> Result<(), StoreError> {
        Ok(())
    }
}
