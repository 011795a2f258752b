//! Takes the instance documents into the registry, at a start and at each reload.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::sync::Mutex;
use tracing::{error, info, warn};

use crate::clock::Moment;
use crate::config::Config;
use crate::daemon::documents::{CheckedDocuments, Registered, RemovedDocuments};
use crate::fault::Fault;
use crate::instance::{Instance, InstanceId};
use crate::registry::{FaultyOutcome, QuarantineReason, RegisterOutcome, Registry, StoreError};

/// The way of documents into the registry.
pub(super) struct Intake {
    registry: Arc<Registry>,
    config: Arc<Config>,
    /// Instances whose documents could not be stored yet. Neither they nor other claimants of their
    /// attachments are served.
    unstored: Mutex<VecDeque<Instance>>,
    /// The faults that the operator's files had when they were last read.
    file_faults: ArcSwap<Vec<Fault>>,
}

/// What became of each instance that has a document.
pub(super) struct TakenIn {
    /// The instances of documents without faults.
    pub(super) registered: Vec<(InstanceId, Result<RegisterOutcome, StoreError>)>,
    /// Instances whose documents have faults.
    pub(super) faulty: Vec<(InstanceId, FaultyOutcome)>,
    /// The faults of the documents.
    pub(super) faults: Vec<Fault>,
    /// What keeps guests from being served, but is allowed.
    pub(super) warnings: Vec<Fault>,
    /// How many values are probably not intended.
    pub(super) doubts: usize,
    /// Registered instances whose documents were removed.
    pub(super) without_document: Vec<InstanceId>,
}

impl Intake {
    pub(super) fn new(registry: Arc<Registry>, config: Arc<Config>) -> Intake {
        Intake {
            registry,
            config,
            unstored: Mutex::default(),
            file_faults: ArcSwap::default(),
        }
    }

    /// Returns the faults that the operator's files had when they were last read.
    pub(super) fn file_faults(&self) -> Arc<Vec<Fault>> {
        self.file_faults.load_full()
    }

    /// Sets the faults that the operator's files have now.
    pub(super) fn set_file_faults(&self, faults: Vec<Fault>) {
        self.file_faults.store(Arc::new(faults));
    }

    /// Reads the documents of the configuration, outside the async runtime, and takes them in.
    pub(super) async fn read_documents(&self) -> TakenIn {
        let tombstones = self.registry.tombstones().await;
        let registered = Registered::of_snapshot(&self.registry.snapshot(), &tombstones);
        let config = Arc::clone(&self.config);
        let read = move || {
            let documents = CheckedDocuments::read(&config, &registered);
            let removed = RemovedDocuments::find(&config, &documents, &registered);
            (documents, removed)
        };
        let read = tokio::task::spawn_blocking(read).await;
        let (documents, removed) = read.expect("reading does not panic");
        let mut taken_in = self.take_in(documents, Moment::now().wall).await;
        if let Some(removed) = removed {
            taken_in.without_document = removed.ids.clone();
            store_documents(removed).await;
        }
        taken_in
    }

    /// Registers the instances of documents without faults, and reserves the attachments of the
    /// others. Remembers what cannot be stored; [`Intake::retry_failed_writes`] registers it later.
    pub(super) async fn take_in(&self, documents: CheckedDocuments, now: Timestamp) -> TakenIn {
        let CheckedDocuments {
            instances,
            faulty,
            faults,
            warnings,
            doubts,
            unreadable_files: _,
        } = documents;
        let mut unstored = self.unstored.lock().await;
        let mut withdrawn = self.unregistered(&unstored);
        unstored.clear();

        let mut taken_in = TakenIn {
            registered: Vec::new(),
            faulty: Vec::new(),
            faults,
            warnings,
            doubts: doubts.len(),
            without_document: Vec::new(),
        };
        for instance in instances {
            let id = instance.instance_id.clone();
            withdrawn.remove(&id);
            let outcome = self.registry.register(instance.clone(), now).await;
            if is_unstored(&self.registry, &id, &outcome) {
                unstored.push_back(instance);
            }
            taken_in.registered.push((id, outcome));
        }
        for instance in faulty {
            // What has no id is reported by its fault.
            let Some(id) = instance.id else { continue };
            let attachments = instance.attachments;
            let outcome = self.registry.register_faulty(&id, attachments).await;
            withdrawn.remove(&id);
            taken_in.faulty.push((id, outcome));
        }
        for id in withdrawn {
            self.registry.withdraw(&id).await;
        }
        taken_in
    }

    /// Returns the instances that have a document and no record.
    fn unregistered(&self, unstored: &VecDeque<Instance>) -> BTreeSet<InstanceId> {
        let snapshot = self.registry.snapshot();
        let unstored = unstored.iter().map(|instance| &instance.instance_id);
        unstored
            .chain(snapshot.faulty_documents())
            .cloned()
            .collect()
    }

    /// Retries writes that failed before: of records, then of documents. Stops at the first document
    /// that still cannot be stored.
    pub(super) async fn retry_failed_writes(&self) {
        self.registry.retry_failed_writes().await;
        let Ok(mut unstored) = self.unstored.try_lock() else {
            return;
        };
        while let Some(instance) = unstored.pop_front() {
            let id = instance.instance_id.clone();
            let outcome = self
                .registry
                .register(instance.clone(), Moment::now().wall)
                .await;
            if is_unstored(&self.registry, &id, &outcome) {
                // The next retry starts with another one, which may fail for another reason or not
                // at all.
                unstored.push_back(instance);
                return;
            }
            info!(instance = %id, "registered: its document could be stored after a retry");
        }
    }
}

/// Remembers which instances have a document. If that fails, a document that is removed later is not
/// missed.
async fn store_documents(removed: RemovedDocuments) {
    let stored = tokio::task::spawn_blocking(move || removed.store()).await;
    if let Err(reason) = stored.expect("writing does not panic") {
        warn!(%reason, "cannot remember which instances have a document");
    }
}

/// Returns whether a document must be registered again later. A document of an unreadable record
/// must not: no document replaces such a record.
fn is_unstored(
    registry: &Registry,
    id: &InstanceId,
    registered: &Result<RegisterOutcome, StoreError>,
) -> bool {
    match registered {
        Err(_) => true,
        Ok(RegisterOutcome::Unreadable) => {
            registry.snapshot().quarantine_reason(id) == Some(QuarantineReason::StateUnknown)
        }
        Ok(
            RegisterOutcome::New
            | RegisterOutcome::Known
            | RegisterOutcome::Edited
            | RegisterOutcome::Terminated,
        ) => false,
    }
}

impl TakenIn {
    /// Logs what an operator should know of it.
    pub(super) fn log(&self) {
        for warning in &self.warnings {
            warn!("{warning}");
        }
        if self.doubts > 0 {
            warn!(
                doubts = self.doubts,
                "some values of documents are probably not intended; `imdsd check` names them"
            );
        }
        for id in &self.without_document {
            warn!(
                instance = %id,
                "its document was removed, and it stays registered. To remove it: imdsd instance delete {id}"
            );
        }
        for fault in &self.faults {
            error!("{fault}");
        }
        for (id, outcome) in &self.faulty {
            match outcome {
                FaultyOutcome::Recorded => {
                    warn!(instance = %id, "its document has faults; it is served from its record");
                }
                FaultyOutcome::NotServed => {
                    error!(
                        instance = %id,
                        "not served: its document has faults. Fix the document, then run: imdsd reload"
                    );
                }
            }
        }
        for (id, outcome) in &self.registered {
            log_registered(id, outcome);
        }
    }
}

fn log_registered(id: &InstanceId, outcome: &Result<RegisterOutcome, StoreError>) {
    match outcome {
        Err(error) => {
            error!(instance = %id, "not served: {error}. It will be registered as soon as it can be stored");
        }
        Ok(RegisterOutcome::New) => info!(instance = %id, "registered"),
        Ok(RegisterOutcome::Known) => {}
        Ok(RegisterOutcome::Edited) => {
            warn!(
                instance = %id,
                "its document was edited after it was registered; the stored record is served. To \
                 apply the edit: imdsd instance put FILE"
            );
        }
        Ok(RegisterOutcome::Unreadable) => {
            error!(instance = %id, "not served: its record is unreadable, and no document replaces it");
        }
        Ok(RegisterOutcome::Terminated) => {
            warn!(
                instance = %id,
                "not served: it was terminated, and its document does not restore it. Remove the \
                 document, or register it again: imdsd instance delete {id} && imdsd reload"
            );
        }
    }
}
