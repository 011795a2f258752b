//! Recovery from failed writes: restores the previous records of quarantined instances, and
//! removes the instances that a failed call created.

use std::sync::Arc;

use tracing::info;

use super::account::AccountState;
use super::persistence::blocking;
use super::state::{Registry, to_completion};
use super::store::StoreError;
use super::writer::{PreviousState, Writer};
use crate::instance::InstanceId;

impl Registry {
    /// Restores the previous records of everything whose on-disk state is unknown, and serves the
    /// instances again once their records are stored. The daemon calls this periodically.
    pub async fn retry_failed_writes(self: &Arc<Self>) {
        let registry = Arc::clone(self);
        to_completion(async move {
            // No need to wait for another writer: the next retry comes soon.
            let Ok(mut writer) = registry.writer.try_lock() else {
                return;
            };
            for (id, previous) in std::mem::take(&mut writer.state_unknown) {
                registry.restore_instance(&mut writer, id, previous).await;
            }
            registry.restore_account(&mut writer).await;
        })
        .await;
    }

    async fn restore_instance(&self, writer: &mut Writer, id: InstanceId, previous: PreviousState) {
        let restored = match &previous {
            PreviousState::Stored(entry) => {
                let (store, record) = (Arc::clone(&self.store), entry.record.clone());
                blocking(move || store.put(&record, Some(&record))).await
            }
            PreviousState::Absent | PreviousState::Offered => self.remove_record(&id).await,
        };
        match (restored, previous) {
            (Ok(()), PreviousState::Stored(entry)) => {
                info!(instance = %id, "previous record restored after a failed write; instance served again");
                self.publish_entry(entry);
            }
            (Ok(()), PreviousState::Absent) => {
                info!(instance = %id, "remains of a failed write removed; instance does not exist");
                self.unpublish(&id);
            }
            (Ok(()), PreviousState::Offered) => {
                self.publish_snapshot(self.snapshot().with_reason_not_stored(&id));
            }
            (Err(_), previous) => drop(writer.state_unknown.insert(id, previous)),
        }
    }

    async fn restore_account(&self, writer: &mut Writer) {
        let Some(previous) = writer.account_state_unknown.clone() else {
            return;
        };
        // No record and a record without preferences mean the same.
        let account = previous.unwrap_or_default();
        let (store, stored) = (Arc::clone(&self.store), account.clone());
        let restored = blocking(move || store.put_account(&stored, Some(&stored))).await;
        if restored.is_ok() {
            info!("previous metadata defaults of the account restored after a failed write");
            writer.account_state_unknown = None;
            self.publish_account(AccountState::Known(Some(account)));
        }
    }

    /// Removes the instances that a failed call created. Tries all of them, and returns the last
    /// error if there are any; those instances are quarantined.
    pub(super) async fn roll_back(
        &self,
        writer: &mut Writer,
        created: Vec<InstanceId>,
    ) -> Result<(), StoreError> {
        let mut result = Ok(());
        for id in created {
            match self.remove_record(&id).await {
                Ok(()) => self.unpublish(&id),
                Err(error) => {
                    self.quarantine(writer, &id, PreviousState::Absent, None, &error);
                    result = Err(error);
                }
            }
        }
        result
    }
}
