//! A store that keeps nothing: for the demo, which says so, and for tests.

use super::account::Account;
use super::record::Record;
use super::store::{Loaded, Store, StoreError};
use crate::instance::InstanceId;

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

    fn remove(&self, _id: &InstanceId) -> Result<(), StoreError> {
        Ok(())
    }

    fn put_account(&self, _account: &Account, _before: Option<&Account>) -> Result<(), StoreError> {
        Ok(())
    }
}
