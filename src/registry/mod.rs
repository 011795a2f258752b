//! Who is on this host: one snapshot for readers, one writer, and for every instance a desired and an applied generation.
//!
//! ```text
//!   change ──► store (durable) ──► publish (next request sees it) ──► apply (listeners) ──► applied ≥ desired
//!                │ fails: nothing changed                                  DescribeInstances: pending → applied
//! ```
//!
//! Readers take a [`Snapshot`] once per request and keep it. Writers queue; a change that was begun is finished even when
//! the caller goes away, so that memory and disk can't part.

pub mod file;
pub mod memory;
pub mod snapshot;
pub mod store;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::sync::{Mutex, watch};

use crate::fault::Fault;
use crate::instance::identity_document::identity_document;
use crate::instance::{Instance, InstanceId, document};
pub use snapshot::{Claim, Entry, OptionsState, Snapshot};
pub use store::{Left, Record, Store, StoreError};

/// The instances of this host.
pub struct Registry {
    snapshot: ArcSwap<Snapshot>,
    store: Arc<dyn Store>,
    /// Held by the one writer, from reading the old record to publishing the new one.
    writer: Mutex<()>,
    /// Counts publications, so that whoever applies them can wait for the next.
    published: watch::Sender<u64>,
}

/// Why a change did not happen. Nothing is different from before.
#[derive(Debug)]
pub enum UpdateError<E> {
    /// No such instance.
    Unknown(InstanceId),
    /// The change itself was refused.
    Refused(E),
    /// It could not be stored durably; the old values stay in force.
    Store(StoreError),
}

/// What came of offering a document to the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registered {
    /// The instance is new and now stored.
    New,
    /// The instance was known; its stored record stays in force.
    Known,
    /// The instance was known from another version of the document; its stored record stays in force.
    Edited,
    /// Its record can't be read, so it is not served, and no document takes its place.
    Unreadable,
}

impl Registry {
    /// Opens the registry over a store. Records that can't be read are returned as faults; those instances are not served.
    pub fn open(store: Arc<dyn Store>) -> Result<(Arc<Registry>, Vec<Fault>), StoreError> {
        let loaded = store.load()?;
        let entries = loaded.records.into_iter().map(Entry::of_record);
        let unreadable = loaded.unreadable.iter().map(|(id, _)| id.clone());
        let snapshot = Snapshot::new(entries, unreadable);
        let registry = Registry {
            snapshot: ArcSwap::from_pointee(snapshot),
            store,
            writer: Mutex::new(()),
            published: watch::Sender::new(0),
        };
        Ok((Arc::new(registry), loaded.unreadable.into_iter().map(|(_, fault)| fault).collect()))
    }

    /// The instances as they are now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// A receiver that changes with every publication.
    pub fn publications(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }

    /// Takes in a document of an instance. A known instance keeps its record: the store owns it.
    pub async fn register(self: &Arc<Self>, instance: Instance, now: Timestamp) -> Result<Registered, StoreError> {
        let registry = Arc::clone(self);
        finish(async move {
            let _writer = registry.writer.lock().await;
            let snapshot = registry.snapshot();
            if snapshot.is_unreadable(&instance.instance_id) {
                return Ok(Registered::Unreadable);
            }
            if let Some(known) = snapshot.entry(&instance.instance_id) {
                return Ok(match known.document_digest == digest(&instance) {
                    true => Registered::Known,
                    false => Registered::Edited,
                });
            }
            let record = Record {
                generation: 1,
                launch_epoch: rand::random(),
                identity_document: identity_document(&instance),
                document_digest: digest(&instance),
                changed: now,
                instance,
            };
            registry.persist(record.clone(), None).await?;
            registry.publish(Entry::of_record(record));
            Ok(Registered::New)
        })
        .await
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
        let registry = Arc::clone(self);
        let id = id.clone();
        finish(async move {
            let _writer = registry.writer.lock().await;
            let Some(before) = registry.snapshot().entry(&id).cloned() else {
                return Err(UpdateError::Unknown(id));
            };
            let mut instance = before.instance.clone();
            let outcome = change(&mut instance).map_err(UpdateError::Refused)?;
            if instance == before.instance {
                return Ok((before, outcome));
            }
            let old = before.record();
            // The options say who may read; what there is to read is as old as before.
            let only_options =
                instance == Instance { metadata_options: instance.metadata_options, ..old.instance.clone() };
            let changed = if only_options { old.changed } else { now };
            let record = Record { generation: old.generation + 1, changed, instance, ..old.clone() };
            registry.persist(record.clone(), Some(old)).await.map_err(UpdateError::Store)?;
            let entry = registry.publish(before.succeeded_by(record));
            Ok((entry, outcome))
        })
        .await
    }

    /// Says that an entry, and with it every one before, is carried out on the sockets.
    pub fn confirm(&self, entry: &Entry) {
        entry.applied.fetch_max(entry.generation, Ordering::AcqRel);
    }

    /// Stores a record. When nobody can be sure what a failed write left, the instance is served no longer: what is on the
    /// disk might be weaker than what is in memory.
    async fn persist(&self, record: Record, before: Option<Record>) -> Result<(), StoreError> {
        let store = Arc::clone(&self.store);
        let id = record.instance.instance_id.clone();
        // Files and their fsync block; the runtime must not.
        let put = move || store.put(&record, before.as_ref());
        let outcome = tokio::task::spawn_blocking(put).await.expect("a store does not panic");
        if outcome.as_ref().is_err_and(|error| error.left == Left::Unknown) {
            self.snapshot.store(Arc::new(self.snapshot.load().without(&id)));
            self.published.send_modify(|count| *count += 1);
        }
        outcome
    }

    fn publish(&self, entry: Entry) -> Arc<Entry> {
        let entry = Arc::new(entry);
        self.snapshot.store(Arc::new(self.snapshot.load().with(Arc::clone(&entry))));
        self.published.send_modify(|count| *count += 1);
        entry
    }
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
    tokio::spawn(work).await.expect("a registry change does not panic")
}

/// The applied generation is shared by all entries of one instance, old snapshots' included.
type Applied = Arc<AtomicU64>;

#[cfg(test)]
mod tests;
