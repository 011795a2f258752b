//! Changing instances and the account: plan, store, publish.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::entry::Entry;
use super::next_record::next_record;
use super::persistence::blocking;
use super::state::{Registry, to_completion};
use super::transaction::Transaction;
use super::update_error::{PartialEffect, UpdateError};
use crate::instance::{Instance, InstanceId};

/// What a change published, and the value that its plan returned.
type Changed<T> = (Vec<Arc<Entry>>, T);

/// Why the plan of [`Registry::update`] failed.
enum PlanError<E> {
    UnknownInstance(InstanceId),
    Refused(E),
}

/// What became of a change that was planned beside others.
enum Attempt<P, T, E> {
    Done(Result<Changed<T>, UpdateError<E>>),
    /// It changes more than it may beside others. Contains its plan.
    NeedsTurnAlone(P),
}

impl Registry {
    /// Changes one instance: copy, `change`, store, publish. A change that leaves the instance as
    /// it was stores nothing.
    ///
    /// It waits for other changes of the instance only. `change` may be called again, on another
    /// copy: if it changes what others decide by, such as attachments.
    ///
    /// Returns the entry as published, and the value that `change` returned.
    pub async fn update<T, E>(
        self: &Arc<Self>,
        id: &InstanceId,
        now: Timestamp,
        change: impl Fn(&mut Instance) -> Result<T, E> + Send + 'static,
    ) -> Result<(Arc<Entry>, T), UpdateError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let of_plan = id.clone();
        let plan = move |transaction: &mut Transaction| {
            let Some(previous) = transaction.entry(&of_plan).cloned() else {
                return Err(PlanError::UnknownInstance(of_plan.clone()));
            };
            let instance = transaction.instance(&of_plan).expect("it has an entry");
            change(instance)
                .map(|outcome| (previous, outcome))
                .map_err(PlanError::Refused)
        };
        match self.change_beside([id.clone()], now, plan).await {
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

    /// Like [`Registry::change`], for a plan that changes these instances and is expected to leave
    /// their attachments, states, launches and documents as they are. It waits for changes of these
    /// instances only. If the plan changes more, it is dropped and made again when it is alone.
    pub async fn change_beside<T, E>(
        self: &Arc<Self>,
        ids: impl IntoIterator<Item = InstanceId>,
        now: Timestamp,
        plan: impl Fn(&mut Transaction) -> Result<T, E> + Send + 'static,
    ) -> Result<Changed<T>, UpdateError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let registry = Arc::clone(self);
        let ids: BTreeSet<InstanceId> = ids.into_iter().collect();
        to_completion(async move {
            let turn = registry.turns.beside(&ids).await;
            let own = Arc::clone(&registry);
            let attempt = blocking(move || {
                let _turn = turn;
                let mut transaction = own.begin();
                let outcome = match plan(&mut transaction) {
                    Ok(outcome) => outcome,
                    Err(error) => return Attempt::Done(Err(UpdateError::Refused(error))),
                };
                if !transaction.is_about_only(&ids) {
                    return Attempt::NeedsTurnAlone(plan);
                }
                let published = own.commit(transaction, now);
                Attempt::Done(published.map(|published| (published, outcome)))
            });
            let attempt = attempt.await;
            registry.wake_consumers();
            match attempt {
                Attempt::Done(done) => done,
                Attempt::NeedsTurnAlone(plan) => registry.change_alone(now, plan).await,
            }
        })
        .await
    }

    /// Makes the changes that `plan` prepares: to several instances, new instances, the account.
    /// Instances that it leaves as they were are not stored.
    ///
    /// All of them are stored and then published in one snapshot, or none; the account is stored
    /// before the instances, and stays changed if they cannot be stored. An instance whose on-disk
    /// state is unknown after a failure is quarantined.
    ///
    /// Returns the entries as published, and the value that `plan` returned.
    pub async fn change<T, E>(
        self: &Arc<Self>,
        now: Timestamp,
        plan: impl FnOnce(&mut Transaction) -> Result<T, E> + Send + 'static,
    ) -> Result<Changed<T>, UpdateError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let registry = Arc::clone(self);
        to_completion(async move { registry.change_alone(now, plan).await }).await
    }

    async fn change_alone<T, E>(
        self: &Arc<Self>,
        now: Timestamp,
        plan: impl FnOnce(&mut Transaction) -> Result<T, E> + Send + 'static,
    ) -> Result<Changed<T>, UpdateError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let turn = self.turns.alone().await;
        let registry = Arc::clone(self);
        // Off the runtime: a plan for a thousand instances must not delay other tasks.
        let changed = blocking(move || {
            let mut transaction = registry.begin();
            let outcome = plan(&mut transaction).map_err(UpdateError::Refused)?;
            // Every plan may decide by the account.
            let _turn = match transaction.new_account {
                Some(_) => Err(turn),
                None => Ok(turn.narrow(transaction.ids())),
            };
            let published = registry.commit(transaction, now)?;
            Ok((published, outcome))
        });
        let changed = changed.await;
        self.wake_consumers();
        changed
    }

    /// Returns a transaction on what is in force now.
    fn begin(&self) -> Transaction {
        Transaction::new(self.snapshot(), self.account())
    }

    /// Stores and publishes a transaction: the account first, then the instances. The caller wakes the
    /// consumers.
    fn commit<E>(
        &self,
        mut transaction: Transaction,
        now: Timestamp,
    ) -> Result<Vec<Arc<Entry>>, UpdateError<E>> {
        let mut effect = PartialEffect::None;
        let account = transaction.account().ok();
        if let Some(account) = transaction.new_account.take() {
            self.persist_account(account)
                .map_err(|error| UpdateError::store(error, effect))?;
            effect = PartialEffect::Possible;
        }
        let mut new = Vec::new();
        for mut change in transaction.changes {
            let previous = transaction.snapshot.entry(&change.instance.instance_id);
            if previous.is_none() {
                self.resolve_options(&mut change.instance, account.as_ref());
            }
            let record = next_record(previous.map(Arc::as_ref), change, now);
            new.extend(record.map(|record| self.new_entry(record, previous.cloned())));
        }
        if !new.is_empty() {
            self.store_and_publish(&new, transaction.observed)
                .map_err(|failed| UpdateError::store(failed.error, effect))?;
        }
        Ok(new.into_iter().map(|new| new.entry).collect())
    }
}
