//! Writes to the store. A failed write that leaves the on-disk state unknown quarantines the
//! instance or makes the account unreadable; `recovery` restores them.

use std::collections::BTreeMap;
use std::sync::Arc;

use tracing::error;

use super::account::{Account, AccountState};
use super::entry::Entry;
use super::record::Record;
use super::state::Registry;
use super::store::{StoreError, StoredState};
use super::writer::{PreviousState, Writer};
use crate::instance::{InstanceId, LaunchToken};

impl Registry {
    /// Stores a record and then publishes it. Returns the entry as published.
    pub(super) async fn store_and_publish(
        &self,
        writer: &mut Writer,
        record: Record,
        previous: Option<&Arc<Entry>>,
    ) -> Result<Arc<Entry>, StoreError> {
        let entry = self.store_record(writer, record, previous).await?;
        self.publish_entries(std::slice::from_ref(&entry), &BTreeMap::new());
        Ok(entry)
    }

    /// Stores a record. Returns the entry to publish.
    pub(super) async fn store_record(
        &self,
        writer: &mut Writer,
        record: Record,
        previous: Option<&Arc<Entry>>,
    ) -> Result<Arc<Entry>, StoreError> {
        self.persist(writer, record.clone(), previous).await?;
        Ok(Arc::new(match previous {
            Some(previous) => previous.succeeded_by(record),
            None => Entry::of_record(record),
        }))
    }

    /// Stores a record. If the on-disk state is unknown after a failed write, the instance is
    /// quarantined: the options on the disk might be weaker than those in memory.
    async fn persist(
        &self,
        writer: &mut Writer,
        record: Record,
        previous: Option<&Arc<Entry>>,
    ) -> Result<(), StoreError> {
        let id = record.instance.instance_id.clone();
        let client_token = record.launch_token();
        let previous_record = previous.map(|entry| entry.record.clone());
        let store = Arc::clone(&self.store);
        let result = blocking(move || store.put(&record, previous_record.as_ref())).await;
        if let Err(error) = &result
            && error.stored == StoredState::Unknown
        {
            let previous = previous
                .cloned()
                .map_or(PreviousState::Absent, PreviousState::Stored);
            self.quarantine(writer, &id, previous, client_token, error);
        }
        result
    }

    /// Stops serving an instance until its `previous` state is restored. `client_token` is that of an
    /// instance that has not been published.
    pub(super) fn quarantine(
        &self,
        writer: &mut Writer,
        id: &InstanceId,
        previous: PreviousState,
        client_token: Option<LaunchToken>,
        error: &StoreError,
    ) {
        error!(
            instance = %id,
            "{error}; on-disk state unknown after the failed write; instance quarantined; retrying to restore \
             the previous record (a restart would serve what the file then contains)"
        );
        writer.state_unknown.insert(id.clone(), previous);
        self.publish(|snapshot| Some(snapshot.with_state_unknown(id, client_token)));
    }

    /// Removes a record from the store.
    pub(super) async fn remove_record(&self, id: &InstanceId) -> Result<(), StoreError> {
        let (store, id) = (Arc::clone(&self.store), id.clone());
        blocking(move || store.remove(&id)).await
    }

    /// Stores and publishes the account's record. If the on-disk state is unknown after a failed
    /// write, the account becomes unreadable: its defaults on the disk might be stricter than those
    /// in memory.
    pub(super) async fn persist_account(
        &self,
        writer: &mut Writer,
        account: Account,
    ) -> Result<(), StoreError> {
        let previous = match &*self.account() {
            AccountState::Known(previous) => previous.clone(),
            // Transactions cannot read an unreadable account, so none of them changes it.
            AccountState::Unreadable => None,
        };
        if previous.as_ref() == Some(&account) {
            return Ok(());
        }
        let store = Arc::clone(&self.store);
        let (stored, before) = (account.clone(), previous.clone());
        let result = blocking(move || store.put_account(&stored, before.as_ref())).await;
        match &result {
            Ok(()) => self.publish_account(AccountState::Known(Some(account))),
            Err(error) if error.stored == StoredState::Unknown => {
                error!(
                    "{error}; on-disk state of the account's metadata defaults unknown after the failed write; \
                     retrying to restore the previous defaults. Until then no instance can be launched and \
                     tokens cannot be made optional"
                );
                writer.account_state_unknown = Some(previous);
                self.publish_account(AccountState::Unreadable);
            }
            Err(_) => {}
        }
        result
    }

    /// Publishes the account.
    pub(super) fn publish_account(&self, account: AccountState) {
        self.account.store(Arc::new(account));
    }
}

/// Runs blocking work, such as file writes and fsync, on a thread outside the runtime.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work)
        .await
        .expect("blocking work of the registry does not panic")
}
