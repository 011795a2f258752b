//! Takes the instance documents into the registry, at a start and at each reload.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::sync::{Mutex, watch};
use tracing::{error, info, warn};

use crate::clock::Moment;
use crate::config::Config;
use crate::daemon::documents::{CheckedDocuments, KnownDocuments, Registered, RemovedDocuments};
use crate::fault::Fault;
use crate::host::netlink;
use crate::instance::{InstanceAttachment, InstanceId, LinkIdentities};
use crate::registry::{
    Document, FaultyOutcome, Phase, Progress, QuarantineReason, RegisterOutcome, Registry,
    StoreError, UnownedAttachments,
};

/// How many documents are registered together.
const BATCH: usize = 500;

/// The way of documents into the registry.
pub(super) struct Intake {
    registry: Arc<Registry>,
    config: Arc<Config>,
    /// This boot of the host.
    boot_id: String,
    /// Instances whose documents could not be stored yet. Neither they nor other claimants of their
    /// attachments are served.
    unstored: Mutex<VecDeque<Arc<Document>>>,
    /// The faults that the operator's files had when they were last read.
    file_faults: ArcSwap<Vec<Fault>>,
}

/// How often a start or a reload logs how far it is.
pub(super) const PROGRESS_LOGGED: Duration = Duration::from_secs(3);
/// How many lines are logged before other tasks get their turn.
const LINES_PER_TURN: usize = 64;

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
    pub(super) fn new(registry: Arc<Registry>, config: Arc<Config>, boot_id: &str) -> Intake {
        Intake {
            registry,
            config,
            boot_id: boot_id.to_string(),
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
    pub(super) async fn read_documents(&self, progress: watch::Sender<Progress>) -> TakenIn {
        let registered = Registered::of_snapshot(&self.registry.snapshot());
        let registered = registered.on_links(self.links().await);
        let config = Arc::clone(&self.config);
        let read = move || {
            let known = KnownDocuments::read(&config);
            let mut documents = CheckedDocuments::read_changed(&config, &registered, &known);
            let removed = RemovedDocuments::find(&config, &documents, &registered);
            if let Err(reason) = known.store(&std::mem::take(&mut documents.texts)) {
                warn!(%reason, "cannot remember which documents were judged: all are judged again");
            }
            (documents, removed)
        };
        let read = tokio::task::spawn_blocking(read).await;
        let (documents, removed) = read.expect("reading does not panic");
        let mut taken_in = self.take_in(documents, Moment::now().wall, progress).await;
        if let Some(removed) = removed {
            taken_in.without_document = removed.ids.clone();
            store_documents(removed).await;
        }
        taken_in
    }

    /// Returns the host's links as they are, which the bindings of attachments are compared with;
    /// `None` where no attachment can be bound.
    async fn links(&self) -> Option<LinkIdentities> {
        self.config.interfaces.as_ref()?;
        match netlink::read_links().await {
            Ok((_netlink, links)) => Some(links.identities(&self.boot_id)),
            Err(reason) => {
                warn!(%reason, "cannot read the interfaces of this host: bindings are compared with those that are known");
                Some(self.registry.snapshot().links().clone())
            }
        }
    }

    /// Registers the instances of documents without faults, and reserves the attachments of the
    /// others. Remembers what cannot be stored; [`Intake::retry_failed_writes`] registers it later.
    ///
    /// `progress` is [`Phase::Committing`] as soon as the attachments of all documents are known to
    /// the registry: from then on, no instance is served where a document says that another one is.
    pub(super) async fn take_in(
        &self,
        documents: CheckedDocuments,
        now: Timestamp,
        progress: watch::Sender<Progress>,
    ) -> TakenIn {
        let CheckedDocuments {
            instances,
            known,
            faulty,
            faults,
            warnings,
            doubts: _,
            doubt_count,
            texts: _,
            unreadable_files: _,
            unread_paths,
        } = documents;
        let mut unstored = self.unstored.lock().await;
        let mut withdrawn = self.unregistered(&unstored);
        unstored.clear();

        let mut taken_in = TakenIn {
            registered: Vec::new(),
            faulty: Vec::new(),
            faults,
            warnings,
            doubts: doubt_count,
            without_document: Vec::new(),
        };
        let known = known.into_iter();
        let known = known.map(|document| (document.id, document.state, document.digest));
        for (id, outcome) in self.registry.known_outcomes(known) {
            withdrawn.remove(&id);
            taken_in.registered.push((id, Ok(outcome)));
        }
        let documents: Vec<Arc<Document>> = instances.into_iter().map(Arc::new).collect();
        // 1. What the documents claim, before any of them is stored.
        self.registry.reserve_new(&documents).await;
        // An id may have several documents with faults.
        let mut reserved = BTreeMap::<InstanceId, Vec<InstanceAttachment>>::new();
        let mut unowned = self.unowned_of(&unread_paths);
        for instance in faulty {
            match instance.id {
                Some(id) => reserved.entry(id).or_default().extend(instance.attachments),
                // Its fault reports it.
                None if instance.attachments.is_empty() => {}
                None => unowned
                    .entry(instance.file)
                    .or_default()
                    .extend(instance.attachments),
            }
        }
        // After the instances: until then, what the files reserved before is still reserved.
        self.registry.reserve_unowned(unowned).await;
        taken_in.faulty = self
            .registry
            .register_all_faulty(reserved.into_iter().collect())
            .await;
        let total = documents.len();
        let done = |done| {
            progress.send_replace(Progress {
                phase: Phase::Committing,
                done,
                total,
            })
        };
        done(0);

        // 2. The instances.
        let mut remaining = documents.into_iter();
        while remaining.len() > 0 {
            let batch: Vec<Arc<Document>> = remaining.by_ref().take(BATCH).collect();
            let unheard = watch::Sender::default();
            let outcomes = self
                .registry
                .register_all(batch.clone(), now, unheard)
                .await;
            for (document, (id, outcome)) in batch.into_iter().zip(&outcomes) {
                withdrawn.remove(id);
                if is_unstored(&self.registry, id, outcome) {
                    unstored.push_back(document);
                }
            }
            taken_in.registered.extend(outcomes);
            done(total - remaining.len());
        }
        for (id, _) in &taken_in.faulty {
            withdrawn.remove(id);
        }
        // A file that cannot be read may still have the document.
        if unread_paths.is_empty() {
            self.registry
                .withdraw_all(withdrawn.into_iter().collect())
                .await;
        }
        taken_in
    }

    /// Returns what is reserved for unknown instances of files that cannot be read now.
    fn unowned_of(&self, unread_paths: &BTreeSet<PathBuf>) -> UnownedAttachments {
        let snapshot = self.registry.snapshot();
        let is_unread = |file: &Path| unread_paths.iter().any(|path| file.starts_with(path));
        let kept = snapshot
            .unowned()
            .iter()
            .filter(|(file, _)| is_unread(file));
        kept.map(|(file, attachments)| (file.clone(), attachments.clone()))
            .collect()
    }

    /// Returns the instances that have a document and no record.
    fn unregistered(&self, unstored: &VecDeque<Arc<Document>>) -> BTreeSet<InstanceId> {
        let snapshot = self.registry.snapshot();
        let unstored = unstored
            .iter()
            .map(|document| &document.instance.instance_id);
        unstored
            .chain(snapshot.faulty_documents())
            // Of an earlier reload that was interrupted.
            .chain(snapshot.being_registered())
            .chain(snapshot.not_stored())
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
        while let Some(document) = unstored.pop_front() {
            let (now, unheard) = (Moment::now().wall, watch::Sender::default());
            let one = vec![Arc::clone(&document)];
            let outcomes = self.registry.register_all(one, now, unheard).await;
            let failed = outcomes
                .iter()
                .any(|(id, outcome)| is_unstored(&self.registry, id, outcome));
            if failed {
                // The next retry starts with another one, which may fail for another reason or not
                // at all.
                unstored.push_back(document);
                return;
            }
            let id = &document.instance.instance_id;
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
    pub(super) async fn log(&self) {
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
        for outcomes in self.registered.chunks(LINES_PER_TURN) {
            for (id, outcome) in outcomes {
                log_registered(id, outcome);
            }
            tokio::task::yield_now().await;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::instance::Attachment;
    use crate::registry::Transaction;
    use crate::registry::memory::MemoryStore;

    const ONE: &str = "i-00000001";

    fn document(id: &str, listener: &str) -> String {
        format!(
            "{{\"InstanceId\":\"{id}\",\"LaunchTime\":\"2026-01-01T00:00:00Z\",\
             \"Imds\":{{\"Attachments\":[{{\"Listener\":\"{listener}\"}}]}}}}"
        )
    }

    /// The instance `ONE` at listener `a`, and a file with the text of a case.
    struct IntakeHost {
        directory: tempfile::TempDir,
        registry: Arc<Registry>,
        intake: Intake,
    }

    impl IntakeHost {
        fn new() -> IntakeHost {
            let directory = tempfile::tempdir().unwrap();
            let text = "instances = \"instances.d\"\n\
                        [[listener]]\nname = \"a\"\nipv4 = \"127.0.0.1:1\"\n\
                        [[listener]]\nname = \"b\"\nipv4 = \"127.0.0.1:2\"\n";
            std::fs::write(directory.path().join("imdsd.toml"), text).unwrap();
            std::fs::create_dir(directory.path().join("instances.d")).unwrap();
            let config = Arc::new(config::read(&directory.path().join("imdsd.toml")).unwrap());
            let (registry, _) = Registry::open(Arc::new(MemoryStore)).unwrap();
            let intake = Intake::new(Arc::clone(&registry), config, "boot");
            let host = IntakeHost {
                directory,
                registry,
                intake,
            };
            host.write("1.json", &document(ONE, "a"));
            host
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.directory.path().join("instances.d").join(name), text).unwrap();
        }

        async fn read_documents(&self) -> TakenIn {
            self.intake.read_documents(watch::Sender::default()).await
        }

        /// Returns why instance `ONE` cannot have listener `b` as well.
        async fn refusal(&self) -> Option<String> {
            let plan = |transaction: &mut Transaction| -> Result<(), Option<String>> {
                let id = InstanceId::parse(ONE).unwrap();
                let listener = Attachment::Listener("b".into()).into();
                let instance = transaction.instance(&id).unwrap();
                instance.imds.attachments.push(listener);
                let unowned = transaction.unowned_conflicts();
                let conflicts = transaction.new_conflicts();
                let unowned = unowned.iter().map(ToString::to_string);
                let mut owned = conflicts.iter().map(|conflict| conflict.holder.to_string());
                Err(unowned.chain(owned.by_ref()).next())
            };
            let now = "2026-01-01T00:00:00Z".parse().unwrap();
            match self.registry.change(now, plan).await {
                Err(crate::registry::UpdateError::Refused(refusal)) => refusal,
                _ => panic!("the plan refuses"),
            }
        }
    }

    /// A fault in a file must not give the guest of one instance the metadata of another.
    #[tokio::test]
    async fn attachments_stay_reserved_whatever_fault_hides_whose_they_are() {
        let (two, three) = (document("i-00000002", "b"), document("i-00000003", "c"));
        let with = |more: &str| two.replacen('{', &format!("{{{more},"), 1);
        let is_unowned = |what: &str| what != "an attachment list that appears twice";
        for (what, text) in [
            (
                "two ids in a text that is not JSON",
                format!("[{two},{three}"),
            ),
            (
                "an id that cannot be read, beside another",
                format!("[{},{two}", three.replace("i-0", "i-?")),
            ),
            (
                "the id of a registered instance, beside another",
                format!("[{},{two}", document(ONE, "a")),
            ),
            (
                "a registered id and one that cannot be read",
                format!("[{},{}", document(ONE, "a"), two.replace("i-0", "?")),
            ),
            ("an invalid id", two.replace("i-0", "i-?")),
            ("no id", two.replace("InstanceId", "Instance")),
            (
                "an attachment list that appears twice",
                two.replace("]}}", "]},\"Imds\":{}}"),
            ),
            (
                "an id that appears twice, the last of a registered instance",
                with("\"InstanceId\":\"i-00000004\"").replace("i-00000002", ONE),
            ),
            (
                "instances that appear twice",
                format!("{{\"Instances\":[{two}],\"Instances\":[{three}]}}"),
            ),
            (
                "instances that are no array",
                format!("{{\"Instances\":{two}}}"),
            ),
        ] {
            let host = IntakeHost::new();
            host.read_documents().await;
            assert_eq!(host.refusal().await, None, "{what}");
            host.write("2.json", &text);
            host.read_documents().await;
            let refusal = host.refusal().await.unwrap_or_default();
            let expected = match is_unowned(what) {
                true => "2.json names it",
                false => "i-00000002",
            };
            assert!(refusal.contains(expected), "{what}: {refusal:?}");

            // The registered instance is served; so is the other one once the file is fixed.
            let is_served = |listener: &str| {
                let attachment = Attachment::Listener(listener.into());
                host.registry.snapshot().attached_to(&attachment).is_some()
            };
            assert!(is_served("a") && !is_served("b"), "{what}");
            host.write("2.json", &two);
            host.read_documents().await;
            assert!(is_served("a") && is_served("b"), "{what}");
        }
    }

    #[tokio::test]
    async fn attachments_stay_reserved_while_their_file_cannot_be_read() {
        let host = IntakeHost::new();
        let (two, three) = (document("i-00000002", "b"), document("i-00000003", "c"));
        for (text, expected) in [
            (format!("[{two},{three}"), "2.json names it"),
            (two.replace("LaunchTime", "Launched"), "i-00000002"),
        ] {
            host.write("2.json", &text);
            host.read_documents().await;
            let documents = host.directory.path().join("instances.d");
            let file = documents.join("2.json");
            std::fs::remove_file(&file).unwrap();
            std::os::unix::fs::symlink("nowhere", &file).unwrap();
            host.read_documents().await;
            assert!(host.refusal().await.unwrap().contains(expected));
            std::fs::rename(&documents, documents.with_extension("away")).unwrap();
            host.read_documents().await;
            assert!(host.refusal().await.unwrap().contains(expected));
            std::fs::rename(documents.with_extension("away"), &documents).unwrap();
            std::fs::remove_file(&file).unwrap();
            host.read_documents().await;
            assert_eq!(host.refusal().await, None);
        }
    }

    /// Two documents of one id: what the first names is reserved too.
    #[tokio::test]
    async fn the_attachments_of_all_documents_of_one_id_are_reserved() {
        let host = IntakeHost::new();
        host.read_documents().await;
        let two = |listener| document("i-00000002", listener);
        host.write("2.json", &format!("[{},{}]", two("b"), two("c")));
        host.read_documents().await;
        assert_eq!(host.refusal().await.as_deref(), Some("i-00000002"));
    }
}
