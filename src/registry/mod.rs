//! Who is on this host: one snapshot for readers, one writer, and for every instance a desired and an applied generation.
//!
//! ```text
//!   change ──► store (durable) ──► publish (next request sees it) ──► apply (listeners) ──► applied ≥ desired
//!                │ fails: nothing changed                                  DescribeInstances: pending → applied
//! ```
//!
//! Readers take a [`Snapshot`] once per request and keep it. Writers queue; a change that was begun is finished even when
//! the caller goes away, so that memory and disk can't part.
//!
//! A terminated instance stays for an hour, as on EC2, and is then forgotten. The record of one that came from a document
//! stays in the store, where it keeps the document from bringing the instance back at the next start.

pub mod file;
pub mod memory;
pub mod snapshot;
pub mod store;
pub mod transaction;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Mutex, watch};
use tracing::{error, info};

use crate::document;
use crate::fault::Fault;
use crate::instance::identity_document::identity_document;
use crate::instance::{Instance, InstanceId, InstanceState};
pub use crate::registry::transaction::{AccountUnreadable, Transaction};
use crate::registry::transaction::{Change, Launch};
use snapshot::Quarantined;
pub use snapshot::{Claimants, Entry, OptionsState, QuarantineReason, Snapshot};
use store::LoadedAccount;
pub use store::{Account, Record, Store, StoreError, StoredState, UnreadableRecord};

/// How long a terminated instance is still shown.
const TERMINATED_SHOWN: SignedDuration = SignedDuration::from_hours(1);

/// The instances of this host.
pub struct Registry {
    snapshot: ArcSwap<Snapshot>,
    account: ArcSwap<AccountState>,
    store: Arc<dyn Store>,
    /// Held by the one writer, from reading the old record to publishing the new one.
    writer: Mutex<Writer>,
    /// Counts publications, so that whoever applies them can wait for the next.
    published: watch::Sender<u64>,
}

/// What only the writer knows.
#[derive(Default)]
struct Writer {
    /// Terminated instances that are shown no longer and still have a record.
    buried: BTreeSet<InstanceId>,
    /// Instances of which nobody can be sure what is stored, each as it was before the write that failed.
    unsure: BTreeMap<InstanceId, Before>,
    /// The same of the account.
    unsure_account: Option<Option<Account>>,
}

/// An instance before a write that failed.
enum Before {
    /// It was this.
    Stored(Arc<Entry>),
    /// It was not there.
    Absent,
    /// It was not there, and its document is offered again.
    Offered,
}

/// The account's record, as far as it is known.
#[derive(Debug)]
pub enum AccountState {
    /// This; no record is as one without preferences.
    Known(Option<Account>),
    /// Nobody knows what it says.
    Unreadable,
}

impl AccountState {
    /// The account, or why not.
    pub fn account(&self) -> Result<Account, AccountUnreadable> {
        match self {
            AccountState::Known(account) => Ok(account.unwrap_or_default()),
            AccountState::Unreadable => Err(AccountUnreadable),
        }
    }
}

/// Why a change did not happen. Nothing is different from before, unless a store that failed says so.
#[derive(Debug)]
pub enum UpdateError<E> {
    /// No such instance.
    Unknown(InstanceId),
    /// The change itself was refused.
    Refused(E),
    /// It could not be stored durably. Where it was not, the old values stay in force.
    Store(StoreError, PartialEffect),
}

/// What a change that failed leaves of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartialEffect {
    /// Nothing: everything is as before.
    None,
    /// Perhaps some: instances before the failure were changed, or nobody knows what the store holds.
    Possible,
}

impl<E> UpdateError<E> {
    /// A store that failed after `changed`.
    fn store(error: StoreError, changed: PartialEffect) -> UpdateError<E> {
        let changed = match error.stored {
            StoredState::Previous => changed,
            StoredState::Unknown => PartialEffect::Possible,
        };
        UpdateError::Store(error, changed)
    }
}

/// What came of offering a document to the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterOutcome {
    /// The instance is new and now stored.
    New,
    /// The instance was known; its stored record stays in force.
    Known,
    /// The instance was known from another version of the document; its stored record stays in force.
    Edited,
    /// Its record can't be read, so it is not served, and no document takes its place.
    Unreadable,
    /// The instance was terminated, and no document brings it back.
    Terminated,
}

impl Registry {
    /// Opens the registry over a store. Records that can't be read are returned as faults; those instances are not served.
    pub fn open(store: Arc<dyn Store>) -> Result<(Arc<Registry>, Vec<Fault>), StoreError> {
        let loaded = store.load()?;
        let entries = loaded.records.into_iter().map(Entry::of_record);
        let mut faults = Vec::new();
        let mut quarantined = BTreeMap::new();
        for UnreadableRecord {
            id,
            fault,
            attachments,
        } in loaded.unreadable
        {
            faults.push(fault);
            let attachments = attachments.into_iter().collect();
            quarantined.insert(
                id,
                Quarantined {
                    doubt: QuarantineReason::Unreadable,
                    attachments,
                },
            );
        }
        let snapshot = Snapshot::new(entries, quarantined);
        let account = match loaded.account {
            LoadedAccount::Absent => AccountState::Known(None),
            LoadedAccount::Read(account) => AccountState::Known(Some(account)),
            LoadedAccount::Unreadable(fault) => {
                faults.push(fault);
                AccountState::Unreadable
            }
        };
        let registry = Registry {
            snapshot: ArcSwap::from_pointee(snapshot),
            account: ArcSwap::from_pointee(account),
            store,
            writer: Mutex::new(Writer::default()),
            published: watch::Sender::new(0),
        };
        Ok((Arc::new(registry), faults))
    }

    /// The instances as they are now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The account as it is now.
    pub fn account(&self) -> Arc<AccountState> {
        self.account.load_full()
    }

    /// A receiver that changes with every publication.
    pub fn publications(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }

    /// Takes in a document of an instance. A known instance keeps its record: the store owns it.
    ///
    /// When the store fails, the instance is not served, nor is anybody else at its ways in, until its document is offered
    /// again and stored, or withdrawn.
    pub async fn register(
        self: &Arc<Self>,
        instance: Instance,
        now: Timestamp,
    ) -> Result<RegisterOutcome, StoreError> {
        let registry = Arc::clone(self);
        finish(async move {
            let mut writer = registry.writer.lock().await;
            let snapshot = registry.snapshot();
            if let Some(doubt) = snapshot
                .quarantine_reason(&instance.instance_id)
                .filter(|doubt| *doubt != QuarantineReason::NotStored)
            {
                let is_offered = matches!(
                    writer.unsure.get(&instance.instance_id),
                    Some(Before::Offered)
                );
                // The document may be all that tells which guest it is.
                if doubt == QuarantineReason::Unreadable || is_offered {
                    let kept = snapshot.keeping(&instance.instance_id, &instance.imds.attachments);
                    kept.into_iter().for_each(|kept| registry.show(kept));
                }
                return Ok(RegisterOutcome::Unreadable);
            }
            if writer.buried.contains(&instance.instance_id) {
                return Ok(RegisterOutcome::Terminated);
            }
            if let Some(known) = snapshot.entry(&instance.instance_id)
                && known.instance.state == InstanceState::Terminated
                && instance.state != InstanceState::Terminated
            {
                return Ok(RegisterOutcome::Terminated);
            }
            if let Some(known) = snapshot.entry(&instance.instance_id) {
                return Ok(match known.document_digest == digest(&instance) {
                    true => RegisterOutcome::Known,
                    false => RegisterOutcome::Edited,
                });
            }
            let record = Record {
                generation: 1,
                launch_epoch: rand::random(),
                identity_document: identity_document(&instance),
                document_digest: digest(&instance),
                launch_request: None,
                terminated: (instance.state == InstanceState::Terminated).then_some(now),
                changed: now,
                instance,
            };
            if let Err(error) = registry.persist(&mut writer, record.clone(), None).await {
                registry.leave_out(&mut writer, &record.instance);
                return Err(error);
            }
            registry.publish(Arc::new(Entry::of_record(record)));
            Ok(RegisterOutcome::New)
        })
        .await
    }

    /// Says that a document that could not be stored is there no longer: its ways in are whose they are without it.
    pub async fn withdraw(self: &Arc<Self>, id: &InstanceId) {
        let (registry, id) = (Arc::clone(self), id.clone());
        finish(async move {
            let mut writer = registry.writer.lock().await;
            if let Some(before @ Before::Offered) = writer.unsure.get_mut(&id) {
                *before = Before::Absent;
            }
            if registry.snapshot().quarantine_reason(&id) == Some(QuarantineReason::NotStored) {
                registry.forget(&id);
            }
        })
        .await;
    }

    /// Changes one instance: copy, `change`, store, publish. A change that leaves it as it was stores nothing.
    ///
    /// Returns the entry as published, and what `change` returned.
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
        enum Not<E> {
            Known(InstanceId),
            Allowed(E),
        }
        let id = id.clone();
        let of_one = move |transaction: &mut Transaction| {
            let Some(before) = transaction.entry(&id).cloned() else {
                return Err(Not::Known(id));
            };
            let instance = transaction.instance(&id).expect("it has an entry");
            change(instance)
                .map(|outcome| (before, outcome))
                .map_err(Not::Allowed)
        };
        match self.change(now, of_one).await {
            // What is as it was is not published again.
            Ok((published, (before, outcome))) => {
                Ok((published.into_iter().next().unwrap_or(before), outcome))
            }
            Err(UpdateError::Refused(Not::Known(id)) | UpdateError::Unknown(id)) => {
                Err(UpdateError::Unknown(id))
            }
            Err(UpdateError::Refused(Not::Allowed(error))) => Err(UpdateError::Refused(error)),
            Err(UpdateError::Store(error, changed)) => Err(UpdateError::Store(error, changed)),
        }
    }

    /// Changes whatever `plan` says: several instances, new ones, the account. What it leaves as it was is not stored.
    ///
    /// `plan` decides about the whole before anything is stored, so a refusal changes nothing. A store that fails in the
    /// middle leaves the instances before the failure changed, each of them whole; new instances are taken back.
    ///
    /// Returns the entries as published, and what `plan` returned.
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
        finish(async move {
            let mut writer = registry.writer.lock().await;
            let snapshot = registry.snapshot();
            let mut transaction = Transaction::new(
                Arc::clone(&snapshot),
                registry.account(),
                writer.buried.clone(),
            );
            // Off the runtime: a plan for a thousand instances must not keep guests waiting.
            let planning = move || plan(&mut transaction).map(|outcome| (transaction, outcome));
            let planned = tokio::task::spawn_blocking(planning)
                .await
                .expect("a plan does not panic");
            let (transaction, outcome) = planned.map_err(UpdateError::Refused)?;
            if let Some(account) = transaction.new_account {
                let failed = |error: StoreError| UpdateError::store(error, PartialEffect::None);
                registry
                    .persist_account(&mut writer, account)
                    .await
                    .map_err(failed)?;
            }
            let mut published = Vec::new();
            let mut changed = if transaction.new_account.is_some() {
                PartialEffect::Possible
            } else {
                PartialEffect::None
            };
            let mut made = Vec::new();
            for Change {
                instance,
                launch,
                digest,
            } in transaction.changes
            {
                let id = instance.instance_id.clone();
                let before = snapshot.entry(&id);
                let Some(record) = next_record(before, instance, launch, digest, now) else {
                    continue;
                };
                if let Err(error) = registry.persist(&mut writer, record.clone(), before).await {
                    for id in made {
                        if registry.take_back(&mut writer, id).await.is_err() {
                            changed = PartialEffect::Possible;
                        }
                    }
                    return Err(UpdateError::store(error, changed));
                }
                match before {
                    Some(before) => {
                        published.push(registry.publish(Arc::new(before.succeeded_by(record))));
                        changed = PartialEffect::Possible;
                    }
                    None => {
                        published.push(registry.publish(Arc::new(Entry::of_record(record))));
                        made.push(id);
                    }
                }
            }
            Ok((published, outcome))
        })
        .await
    }

    /// Forgets the instances that were terminated more than an hour ago. Whose record could not be removed is forgotten
    /// too, until the next start; the errors say which.
    pub async fn forget_terminated(self: &Arc<Self>, now: Timestamp) -> Vec<StoreError> {
        let expired = move |entry: &&Arc<Entry>| {
            entry
                .terminated
                .is_some_and(|terminated| now.duration_since(terminated) >= TERMINATED_SHOWN)
        };
        if self.snapshot().entries().find(expired).is_none() {
            return Vec::new();
        }
        let registry = Arc::clone(self);
        finish(async move {
            let mut writer = registry.writer.lock().await;
            let snapshot = registry.snapshot();
            let mut errors = Vec::new();
            for entry in snapshot.entries().filter(expired) {
                let id = entry.instance.instance_id.clone();
                let removed = match entry.launch_request {
                    Some(_) => registry
                        .remove(id.clone())
                        .await
                        .map_err(|error| errors.push(error))
                        .is_ok(),
                    None => false,
                };
                if !removed {
                    writer.buried.insert(id.clone());
                }
                registry.forget(&id);
            }
            errors
        })
        .await
    }

    /// Removes one instance with its record: a shown one, a terminated one, or one whose record can't be read. `may` decides,
    /// of what is shown; nothing is changed when it refuses.
    ///
    /// When the store fails, the instance stays as it was; or it is served no longer, while nobody can be sure what is
    /// stored.
    pub async fn delete<E>(
        self: &Arc<Self>,
        id: &InstanceId,
        may: impl FnOnce(Option<&Arc<Entry>>) -> Result<(), E> + Send + 'static,
    ) -> Result<(), UpdateError<E>>
    where
        E: Send + 'static,
    {
        let (registry, id) = (Arc::clone(self), id.clone());
        finish(async move {
            let mut writer = registry.writer.lock().await;
            let snapshot = registry.snapshot();
            let entry = snapshot.entry(&id);
            if entry.is_none() && !snapshot.is_unreadable(&id) && !writer.buried.contains(&id) {
                return Err(UpdateError::Unknown(id));
            }
            may(entry).map_err(UpdateError::Refused)?;
            if let Err(error) = registry.remove(id.clone()).await {
                if let (Some(entry), StoredState::Unknown) = (entry, error.stored) {
                    registry.withhold(&mut writer, &id, Before::Stored(Arc::clone(entry)), &error);
                }
                return Err(UpdateError::store(error, PartialEffect::None));
            }
            writer.buried.remove(&id);
            writer.unsure.remove(&id);
            registry.forget(&id);
            Ok(())
        })
        .await
    }

    /// Stores again what there was before writes that left nobody sure what is stored, and serves it once it is. To be
    /// called now and then.
    pub async fn retry_failed_writes(self: &Arc<Self>) {
        let registry = Arc::clone(self);
        finish(async move {
            // Whoever writes now need not be waited for: the next time is soon.
            let Ok(mut writer) = registry.writer.try_lock() else { return };
            for (id, before) in std::mem::take(&mut writer.unsure) {
                let stored = match &before {
                    Before::Stored(entry) => {
                        let (store, record) = (Arc::clone(&registry.store), entry.record());
                        blocking(move || store.put(&record, Some(&record))).await
                    }
                    Before::Absent | Before::Offered => registry.remove(id.clone()).await,
                };
                match (stored, before) {
                    (Ok(()), Before::Stored(entry)) => {
                        info!(instance = %id, "served again: its record is stored as it was before the failed write");
                        registry.publish(entry);
                    }
                    (Ok(()), Before::Absent) => {
                        info!(instance = %id, "a failed write left nothing of it");
                        registry.forget(&id);
                    }
                    (Ok(()), Before::Offered) => registry.show(registry.snapshot.load().not_storing(&id)),
                    (Err(_), before) => drop(writer.unsure.insert(id, before)),
                }
            }
            if let Some(before) = writer.unsure_account {
                let store = Arc::clone(&registry.store);
                // No record is as one without preferences.
                let account = before.unwrap_or_default();
                if blocking(move || store.put_account(&account, Some(&account))).await.is_ok() {
                    info!("the account's metadata defaults are stored as they were before the failed write");
                    writer.unsure_account = None;
                    registry.account.store(Arc::new(AccountState::Known(Some(account))));
                }
            }
        })
        .await;
    }

    /// Says that an entry, and with it every one before, is carried out on the sockets.
    pub fn confirm(&self, entry: &Entry) {
        entry.applied.fetch_max(entry.generation, Ordering::AcqRel);
    }

    /// Stores a record. When nobody can be sure what a failed write left, the instance is served no longer: what is on the
    /// disk might be weaker than what is in memory.
    async fn persist(
        &self,
        writer: &mut Writer,
        record: Record,
        before: Option<&Arc<Entry>>,
    ) -> Result<(), StoreError> {
        let (store, old) = (Arc::clone(&self.store), before.map(|entry| entry.record()));
        let id = record.instance.instance_id.clone();
        let outcome = blocking(move || store.put(&record, old.as_ref())).await;
        if let Err(error) = outcome.as_ref()
            && error.stored == StoredState::Unknown
        {
            self.withhold(
                writer,
                &id,
                before.cloned().map_or(Before::Absent, Before::Stored),
                error,
            );
        }
        outcome
    }

    /// Serves nobody at the ways in of an instance that could not be stored: behind them may be its guest.
    fn leave_out(&self, writer: &mut Writer, instance: &Instance) {
        let (id, attachments) = (&instance.instance_id, &instance.imds.attachments);
        let snapshot = self.snapshot();
        let left_out = match writer.unsure.get_mut(id) {
            Some(before) => {
                *before = Before::Offered;
                snapshot.keeping(id, attachments)
            }
            None => snapshot.leaving_out(id, attachments),
        };
        left_out
            .into_iter()
            .for_each(|left_out| self.show(left_out));
    }

    /// Serves an instance no longer, until it is stored again as it was `before`.
    fn withhold(&self, writer: &mut Writer, id: &InstanceId, before: Before, error: &StoreError) {
        error!(
            instance = %id,
            "{error}; nobody can be sure what is stored. Not served until what was there before is stored again, which is tried \
             over and over; a restart serves what the file then says"
        );
        writer.unsure.insert(id.clone(), before);
        self.show(self.snapshot.load().without(id));
    }

    /// Stores the account's record. When nobody can be sure what a failed write left, the account is unreadable from here
    /// on: its defaults might be stricter on the disk than in memory.
    async fn persist_account(
        &self,
        writer: &mut Writer,
        account: Account,
    ) -> Result<(), StoreError> {
        let before = match *self.account.load_full() {
            AccountState::Known(before) => before,
            // Nobody is shown such an account, so nobody changes it.
            AccountState::Unreadable => None,
        };
        if before == Some(account) {
            return Ok(());
        }
        let store = Arc::clone(&self.store);
        let outcome = blocking(move || store.put_account(&account, before.as_ref())).await;
        match &outcome {
            Ok(()) => self
                .account
                .store(Arc::new(AccountState::Known(Some(account)))),
            Err(error) if error.stored == StoredState::Unknown => {
                error!(
                    "{error}; nobody can be sure what is stored of the account's metadata defaults. No instance can be launched \
                     and no tokens be made optional until the defaults of before are stored again, which is tried over and over"
                );
                writer.unsure_account = Some(before);
                self.account.store(Arc::new(AccountState::Unreadable));
            }
            Err(_) => {}
        }
        outcome
    }

    async fn remove(&self, id: InstanceId) -> Result<(), StoreError> {
        let store = Arc::clone(&self.store);
        blocking(move || store.remove(&id)).await
    }

    /// Undoes the making of an instance whose call failed.
    async fn take_back(&self, writer: &mut Writer, id: InstanceId) -> Result<(), StoreError> {
        let removed = self.remove(id.clone()).await;
        match &removed {
            Ok(()) => self.forget(&id),
            Err(error) => self.withhold(writer, &id, Before::Absent, error),
        }
        removed
    }

    fn forget(&self, id: &InstanceId) {
        self.show(self.snapshot.load().forgetting(id));
    }

    fn publish(&self, entry: Arc<Entry>) -> Arc<Entry> {
        self.show(self.snapshot.load().with(Arc::clone(&entry)));
        entry
    }

    /// The next request sees it.
    fn show(&self, snapshot: Snapshot) {
        self.snapshot.store(Arc::new(snapshot));
        self.published.send_modify(|count| *count += 1);
    }
}

/// Files and their fsync block; the runtime must not.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work)
        .await
        .expect("a store does not panic")
}

/// The record of an instance after a change; `None` when it is as it was.
fn next_record(
    before: Option<&Arc<Entry>>,
    instance: Instance,
    launch: Launch,
    digest: Option<String>,
    now: Timestamp,
) -> Option<Record> {
    let Some(before) = before else {
        let Launch::First(request) = launch else {
            unreachable!("an instance that is not there is made")
        };
        return Some(Record {
            generation: 1,
            launch_epoch: rand::random(),
            identity_document: identity_document(&instance),
            document_digest: digest.unwrap_or_default(),
            launch_request: request,
            terminated: (instance.state == InstanceState::Terminated).then_some(now),
            changed: now,
            instance,
        });
    };
    let old = before.record();
    let document_digest = digest.unwrap_or_else(|| old.document_digest.clone());
    let (launch_epoch, identity_document) = match &launch {
        Launch::Same if instance == before.instance && document_digest == old.document_digest => {
            return None;
        }
        Launch::Same => (old.launch_epoch, old.identity_document.clone()),
        Launch::Anew => (rand::random(), identity_document(&instance)),
        Launch::First(_) => unreachable!("an instance is made once"),
    };
    // The options say who may read; what there is to read is as old as before.
    let only_options = instance
        == Instance {
            metadata_options: instance.metadata_options,
            ..old.instance.clone()
        };
    let terminated = match instance.state {
        InstanceState::Terminated => old.terminated.or(Some(now)),
        InstanceState::Pending
        | InstanceState::Running
        | InstanceState::ShuttingDown
        | InstanceState::Stopping
        | InstanceState::Stopped => None,
    };
    // Which document it is of is nothing that anybody applies.
    let is_change = !matches!(launch, Launch::Same) || instance != before.instance;
    Some(Record {
        generation: old.generation + u64::from(is_change),
        launch_epoch,
        identity_document,
        document_digest,
        terminated,
        changed: if only_options { old.changed } else { now },
        instance,
        ..old
    })
}

/// Tells two documents apart.
fn digest(instance: &Instance) -> String {
    use base64::Engine as _;
    use sha2::Digest as _;
    let bytes = sha2::Sha256::digest(document::to_value(instance).to_string());
    base64::engine::general_purpose::STANDARD_NO_PAD.encode(bytes)
}

/// Runs `work` to its end even when whoever awaits it goes away.
async fn finish<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    tokio::spawn(work)
        .await
        .expect("a registry change does not panic")
}

/// The applied generation is shared by all entries of one instance, old snapshots' included.
type Applied = Arc<AtomicU64>;

#[cfg(test)]
mod tests;
