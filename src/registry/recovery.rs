//! Recovery from failed writes: restores the previous records of quarantined instances.

use std::collections::BTreeMap;
use std::sync::Arc;

use tracing::info;

use super::account::AccountState;
use super::persistence::blocking;
use super::state::{Registry, to_completion};
use super::store::{Expected, Write};
use super::writer::PreviousState;
use crate::instance::InstanceId;

impl Registry {
    /// Restores the previous records of everything whose on-disk state is unknown, and serves the
    /// instances again once their records are stored. The daemon calls this periodically.
    pub async fn retry_failed_writes(self: &Arc<Self>) {
        let is_needed = {
            let writer = self.writer.lock();
            !writer.state_unknown.is_empty() || writer.account_state_unknown.is_some()
        };
        // No need to wait for another change: the next retry comes soon.
        let Some(turn) = is_needed.then(|| self.turns.try_narrow()).flatten() else {
            return;
        };
        let registry = Arc::clone(self);
        to_completion(blocking(move || {
            let _turn = turn;
            let unknown = registry.writer.lock().state_unknown.clone();
            for (id, previous) in unknown {
                registry.restore_instance(&id, previous);
            }
            registry.restore_account();
        }))
        .await;
    }

    fn restore_instance(&self, id: &InstanceId, previous: PreviousState) {
        let write = match &previous {
            PreviousState::Stored(entry) => {
                Write::put(Arc::clone(&entry.record), Expected::Anything)
            }
            PreviousState::Absent | PreviousState::Offered => {
                Write::remove(id.clone(), Expected::Anything)
            }
        };
        if self.store.write(write).is_err() {
            return;
        }
        self.writer.lock().state_unknown.remove(id);
        match previous {
            PreviousState::Stored(entry) => {
                self.publish_entries(&[entry], &BTreeMap::new());
                self.wake_consumers();
                info!(instance = %id, "previous record restored after a failed write; instance served again");
            }
            PreviousState::Absent => {
                self.publish(|snapshot| Some(snapshot.without(id)));
                info!(instance = %id, "remains of a failed write removed; instance does not exist");
            }
            PreviousState::Offered => {
                self.publish(|snapshot| Some(snapshot.with_reason_not_stored(id)));
            }
        }
    }

    fn restore_account(&self) {
        let Some(previous) = self.writer.lock().account_state_unknown.clone() else {
            return;
        };
        // No record and a record without preferences mean the same.
        let account = previous.unwrap_or_default();
        if self.store.put_account(&account).is_ok() {
            self.writer.lock().account_state_unknown = None;
            self.publish_account(AccountState::Known(Some(account)));
            info!("previous metadata defaults of the account restored after a failed write");
        }
    }
}
