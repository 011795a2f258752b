//! A store that keeps nothing: for the demo, which says so, and for tests.

use super::store::{Loaded, Record, Store, StoreError};

/// Keeps nothing across restarts.
#[derive(Debug, Default)]
pub struct MemoryStore;

impl Store for MemoryStore {
    fn load(&self) -> Result<Loaded, StoreError> {
        Ok(Loaded::default())
    }

    fn put(&self, _record: &Record, _before: Option<&Record>) -> Result<(), StoreError> {
        Ok(())
    }
}
