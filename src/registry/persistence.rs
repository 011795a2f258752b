//! Writes to the store. A failed write that leaves the on-disk state unknown quarantines the
//! instance or makes the account unreadable; `recovery` restores them.
//!
//! These functions block. The registry calls them off the runtime, when it is the change's turn.

use std::collections::BTreeMap;
use std::sync::Arc;

use tracing::error;

use super::account::{Account, AccountState};
use super::entry::Entry;
use super::group_commit::Publishable;
use super::record::Record;
use super::state::Registry;
use super::store::{CommitError, Expected, PreparedWrite, StoreError, StoredState, Write};
use super::writer::PreviousState;
use crate::instance::{InstanceId, LaunchToken, LinkIdentity};

/// The new entry of an instance, which is not stored yet.
pub(super) struct NewEntry {
    pub(super) entry: Arc<Entry>,
    /// The entry that it replaces.
    pub(super) previous: Option<Arc<Entry>>,
}

impl NewEntry {
    /// Returns the write that stores it.
    pub(super) fn write(&self) -> Write {
        let expected = match &self.previous {
            Some(previous) => Expected::Generation(previous.generation),
            None => Expected::Absent,
        };
        Write::put(Arc::clone(&self.entry.record), expected)
    }
}

impl Registry {
    /// Returns the entry of a new record.
    pub(super) fn new_entry(&self, mut record: Record, previous: Option<Arc<Entry>>) -> NewEntry {
        self.texts.share(&mut record.instance);
        let entry = match &previous {
            Some(previous) => previous.succeeded_by(record),
            None => Entry::of_record(record),
        };
        NewEntry {
            entry: Arc::new(entry),
            previous,
        }
    }

    /// Stores entries and then publishes them: all of them or none, as far as the error says. The
    /// caller wakes the consumers.
    pub(super) fn store_and_publish(
        &self,
        new: &[NewEntry],
        observed: BTreeMap<String, LinkIdentity>,
    ) -> Result<(), CommitError> {
        // Holders that lose an attachment were added last. They are stored first: a crash in
        // between then leaves the attachment with no holder, and not with two.
        let writes = new.iter().rev().map(NewEntry::write).collect();
        let prepared = self.store.prepare(writes)?;
        self.put_in_force(new, prepared, observed)
    }

    /// Puts entries whose writes are prepared in force, and publishes them. Those whose on-disk
    /// state is unknown after a failure are quarantined: the options on the disk might be weaker
    /// than those in memory. The caller wakes the consumers.
    pub(super) fn put_in_force(
        &self,
        new: &[NewEntry],
        prepared: Vec<PreparedWrite>,
        observed: BTreeMap<String, LinkIdentity>,
    ) -> Result<(), CommitError> {
        let publication = Publishable {
            entries: new.iter().map(|new| Arc::clone(&new.entry)).collect(),
            observed,
        };
        let ids = || new.iter().map(|new| new.entry.instance.instance_id.clone());
        let committed = self.commit_group(prepared, publication, || ids().collect());
        if let Err(failed) = &committed {
            for id in &failed.unknown {
                let of_id = |new: &&NewEntry| new.entry.instance.instance_id == *id;
                if let Some(new) = new.iter().find(of_id) {
                    self.quarantine(new, &failed.error);
                }
            }
        }
        committed
    }

    /// Removes records: all of them or none, as far as the error says.
    pub(super) fn remove_records(
        &self,
        removed: impl IntoIterator<Item = (InstanceId, Expected)>,
    ) -> Result<(), CommitError> {
        let removed = removed.into_iter();
        let writes = removed.map(|(id, expected)| Write::remove(id, expected));
        let prepared = self.store.prepare(writes.collect())?;
        let ids: Vec<InstanceId> = prepared.iter().map(|of| of.write.id.clone()).collect();
        self.commit_group(prepared, Publishable::default(), || ids)
    }

    fn commit_group(
        &self,
        prepared: Vec<PreparedWrite>,
        publication: Publishable,
        ids: impl FnOnce() -> Vec<InstanceId>,
    ) -> Result<(), CommitError> {
        let publish = |all: Publishable| self.publish_entries(&all.entries, &all.observed);
        self.group_commit
            .commit(&*self.store, prepared, publication, publish, ids)
    }

    /// Stops serving the instance of a failed write until its previous state is restored.
    fn quarantine(&self, new: &NewEntry, error: &StoreError) {
        let id = &new.entry.instance.instance_id;
        let previous = match &new.previous {
            Some(previous) => PreviousState::Stored(Arc::clone(previous)),
            None => PreviousState::Absent,
        };
        self.quarantine_unknown(id, previous, error, new.entry.record.launch_token());
    }

    /// Stops serving an instance until its `previous` state is restored. `client_token` is that of an
    /// instance that has not been published.
    pub(super) fn quarantine_unknown(
        &self,
        id: &InstanceId,
        previous: PreviousState,
        error: &StoreError,
        client_token: Option<LaunchToken>,
    ) {
        error!(
            instance = %id,
            "{error}; on-disk state unknown after the failed write; instance quarantined; retrying to restore \
             the previous record (a restart would serve what the file then contains)"
        );
        let mut writer = self.writer.lock();
        writer.state_unknown.insert(id.clone(), previous);
        drop(writer);
        self.publish(|snapshot| Some(snapshot.with_state_unknown(id, client_token)));
    }

    /// Stores and publishes the account's record. If the on-disk state is unknown after a failed
    /// write, the account becomes unreadable: its defaults on the disk might be stricter than those
    /// in memory.
    pub(super) fn persist_account(&self, account: Account) -> Result<(), StoreError> {
        let previous = match &*self.account() {
            AccountState::Known(previous) => previous.clone(),
            // Transactions cannot read an unreadable account, so none of them changes it.
            AccountState::Unreadable => None,
        };
        if previous.as_ref() == Some(&account) {
            return Ok(());
        }
        let result = self.store.put_account(&account);
        match &result {
            Ok(()) => self.publish_account(AccountState::Known(Some(account))),
            Err(error) if error.stored == StoredState::Unknown => {
                error!(
                    "{error}; on-disk state of the account's metadata defaults unknown after the failed write; \
                     retrying to restore the previous defaults. Until then no instance can be launched and \
                     tokens cannot be made optional"
                );
                self.writer.lock().account_state_unknown = Some(previous);
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
