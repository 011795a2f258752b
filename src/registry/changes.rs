//! Changing instances and the account: prepare, store, publish.

use std::sync::Arc;

use jiff::Timestamp;

use super::account::Account;
use super::entry::Entry;
use super::next_record::next_record;
use super::persistence::blocking;
use super::recovery::StoredChange;
use super::state::{Registry, to_completion};
use super::transaction::Transaction;
use super::update_error::{PartialEffect, UpdateError};
use super::writer::Writer;
use crate::instance::{Instance, InstanceId};

/// Why the plan of [`Registry::update`] failed.
enum PlanError<E> {
    UnknownInstance(InstanceId),
    Refused(E),
}

impl Registry {
    /// Changes one instance: copy, `change`, store, publish. A change that leaves the instance as
    /// it was stores nothing.
    ///
    /// Returns the entry as published, and the value that `change` returned.
    pub async fn update<T, E>(
        self: &Arc<Self>,
        id: &InstanceId,
        now: Timestamp,
        change: impl FnOnce(&mut Instance) -> Result<T, E> + Send + 'static,
    ) -> Result<(Arc<Entry>, T), UpdateError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let id = id.clone();
        let plan = move |transaction: &mut Transaction| {
            let Some(previous) = transaction.entry(&id).cloned() else {
                return Err(PlanError::UnknownInstance(id));
            };
            let instance = transaction.instance(&id).expect("it has an entry");
            change(instance)
                .map(|outcome| (previous, outcome))
                .map_err(PlanError::Refused)
        };
        match self.change(now, plan).await {
            // An unchanged entry is not published again.
            Ok((published, (previous, outcome))) => {
                Ok((published.into_iter().next().unwrap_or(previous), outcome))
            }
            Err(
                UpdateError::Refused(PlanError::UnknownInstance(id)) | UpdateError::Unknown(id),
            ) => Err(UpdateError::Unknown(id)),
            Err(UpdateError::Refused(PlanError::Refused(error))) => {
                Err(UpdateError::Refused(error))
            }
            Err(UpdateError::Store(error, effect)) => Err(UpdateError::Store(error, effect)),
        }
    }

    /// Makes the changes that `plan` prepares: to several instances, new instances, the account.
    /// Instances that it leaves as they were are not stored.
    ///
    /// `plan` decides about the whole before anything is stored, so a refusal changes nothing. If
    /// the store fails in the middle, the instances before the failure stay changed, each of them
    /// completely; new instances are removed again.
    ///
    /// Returns the entries as published, and the value that `plan` returned.
    pub async fn change<T, E>(
        self: &Arc<Self>,
        now: Timestamp,
        plan: impl FnOnce(&mut Transaction) -> Result<T, E> + Send + 'static,
    ) -> Result<(Vec<Arc<Entry>>, T), UpdateError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let registry = Arc::clone(self);
        to_completion(async move {
            let mut writer = registry.writer.lock().await;
            let (transaction, outcome) =
                registry.prepare(plan).await.map_err(UpdateError::Refused)?;
            let published = registry.commit(&mut writer, transaction, now).await?;
            Ok((published, outcome))
        })
        .await
    }

    /// Runs `plan` off the runtime: a plan for a thousand instances must not delay guests.
    async fn prepare<T, E>(
        &self,
        plan: impl FnOnce(&mut Transaction) -> Result<T, E> + Send + 'static,
    ) -> Result<(Transaction, T), E>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let mut transaction = Transaction::new(self.snapshot(), self.account());
        blocking(move || plan(&mut transaction).map(|outcome| (transaction, outcome))).await
    }

    /// Stores and publishes a transaction: the account first, then one instance after the other.
    async fn commit<E>(
        &self,
        writer: &mut Writer,
        mut transaction: Transaction,
        now: Timestamp,
    ) -> Result<Vec<Arc<Entry>>, UpdateError<E>> {
        let mut effect = PartialEffect::None;
        let account = transaction.account().ok();
        if let Some(account) = transaction.new_account.take() {
            self.persist_account(writer, account)
                .await
                .map_err(|error| UpdateError::store(error, effect))?;
            effect = PartialEffect::Possible;
        }
        if transaction.is_published_at_once {
            let account = account.as_ref();
            return self
                .commit_at_once(writer, transaction, account, now, effect)
                .await;
        }
        let (mut published, mut created) = (Vec::new(), Vec::new());
        for mut change in transaction.changes {
            let id = change.instance.instance_id.clone();
            let previous = transaction.snapshot.entry(&id);
            if previous.is_none() {
                self.resolve_options(&mut change.instance, account.as_ref());
            }
            let Some(record) = next_record(previous.map(Arc::as_ref), change, now) else {
                continue;
            };
            match self.store_and_publish(writer, record, previous).await {
                Ok(entry) => published.push(entry),
                Err(error) => {
                    if self.roll_back(writer, created).await.is_err() {
                        effect = PartialEffect::Possible;
                    }
                    return Err(UpdateError::store(error, effect));
                }
            }
            match previous {
                Some(_) => effect = PartialEffect::Possible,
                None => created.push(id),
            }
        }
        Ok(published)
    }

    /// Stores all instances of a transaction and then publishes them in one snapshot. If one cannot
    /// be stored, the previous records of the others are stored again.
    async fn commit_at_once<E>(
        &self,
        writer: &mut Writer,
        transaction: Transaction,
        account: Option<&Account>,
        now: Timestamp,
        effect: PartialEffect,
    ) -> Result<Vec<Arc<Entry>>, UpdateError<E>> {
        let mut stored: Vec<StoredChange> = Vec::new();
        // Holders that lose an attachment were added last. They are stored first: a crash in
        // between then leaves the attachment with no holder, and not with two.
        for mut change in transaction.changes.into_iter().rev() {
            let id = &change.instance.instance_id;
            let previous = transaction.snapshot.entry(id).cloned();
            if previous.is_none() {
                self.resolve_options(&mut change.instance, account);
            }
            let Some(record) = next_record(previous.as_deref(), change, now) else {
                continue;
            };
            match self.store_record(writer, record, previous.as_ref()).await {
                Ok(entry) => stored.push(StoredChange { entry, previous }),
                Err(error) => {
                    let effect = match self.restore(writer, stored).await {
                        Ok(()) => effect,
                        Err(_) => PartialEffect::Possible,
                    };
                    return Err(UpdateError::store(error, effect));
                }
            }
        }
        let entries: Vec<Arc<Entry>> = stored
            .into_iter()
            .rev()
            .map(|stored| stored.entry)
            .collect();
        self.publish_entries(&entries, &transaction.observed);
        Ok(entries)
    }
}
