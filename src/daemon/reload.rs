//! A reload: access keys, certificate and documents are read again.
//!
//! Each is taken in by itself, and a document costs its own instance only: whatever else has
//! faults, a removed key stops working. The configuration itself is read only at the start:
//! listeners and directories do not change while the daemon runs.
//!
//! One reload follows another. Otherwise an older content of a file, with a key that has been removed
//! meanwhile, could replace a newer one. Of the reloads that SIGHUP asks for, one at most waits.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore, watch};
use tracing::{error, info};

use crate::admin::{KeptFile, ReloadReport, StoreFailure};
use crate::config::{AccessKeySource, Config};
use crate::control::{Control, FileKeys};
use crate::daemon::control_files::{ControlFiles, ReadFile};
use crate::daemon::intake::{Intake, PROGRESS_LOGGED, TakenIn};
use crate::net::tls::Tls;
use crate::registry::{FaultyOutcome, Progress, RegisterOutcome};

/// What a reload replaces.
#[derive(Clone)]
pub(super) struct Reload {
    pub(super) intake: Arc<Intake>,
    pub(super) control: Option<Arc<Control>>,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) config: Arc<Config>,
    /// Held by the reload in progress.
    pub(super) turn: Arc<Mutex<()>>,
    /// Held by the reload for SIGHUP that waits for its turn.
    pub(super) waiting: Arc<Semaphore>,
}

impl Reload {
    /// Reads everything again, takes in what has no faults, and logs the outcome. Waits for the
    /// reloads that began before. `progress` is that of [`Intake::take_in`].
    pub(super) async fn run(self, progress: watch::Sender<Progress>) -> ReloadReport {
        // Before anything is read: what is read later is newer.
        let _turn = self.turn.lock().await;
        self.run_with(self.control_files(), progress).await
    }

    /// The same for SIGHUP, whose result is in the log. While such a reload waits for its turn, the
    /// next one is not needed: the one that waits has read nothing yet.
    pub(super) async fn run_on_signal(self) {
        let Ok(waiting) = self.waiting.try_acquire() else {
            return;
        };
        let _turn = self.turn.lock().await;
        drop(waiting);
        let progress = watch::Sender::default();
        self.run_with(self.control_files(), progress).await;
    }

    /// Reads the files of the control endpoint.
    async fn control_files(&self) -> ControlFiles {
        let config = Arc::clone(&self.config);
        let read = tokio::task::spawn_blocking(move || ControlFiles::read(&config)).await;
        read.expect("reading does not panic")
    }

    /// Takes in the files of the control endpoint that `read` returns, and the documents.
    async fn run_with(
        &self,
        read: impl Future<Output = ControlFiles>,
        progress: watch::Sender<Progress>,
    ) -> ReloadReport {
        let mut report = ReloadReport::default();
        // The keys first: they are replaced even if reading the documents takes long.
        self.take_in_control_files(read.await, &mut report);
        let seen = progress.subscribe();
        let log = || {
            let Progress { done, total, .. } = *seen.borrow();
            info!(stored = done, new = total, "reloading");
        };
        let read = self.intake.read_documents(progress);
        let taken_in = reported(read, PROGRESS_LOGGED, log).await;
        taken_in.log().await;
        add_documents(taken_in, &mut report);
        self.intake.set_file_faults(report.faults.clone());
        info!(
            registered = report.registered.len(),
            access_keys = report.access_keys,
            faults = report.faults.len(),
            "reloaded"
        );
        report
    }

    fn take_in_control_files(&self, files: ControlFiles, report: &mut ReloadReport) {
        for fault in &files.faults {
            error!("{fault}");
        }
        report.faults.extend(files.faults);
        match (&self.tls, files.certificate) {
            (Some(tls), ReadFile::Read(new)) => tls.replace(new),
            (_, ReadFile::Unreadable) => report.kept.push(KeptFile::Certificate),
            (None, ReadFile::Read(_)) | (_, ReadFile::NotConfigured) => {}
        }
        let Some(control) = self.control.as_ref().filter(|_| self.has_key_file()) else {
            return;
        };
        match files.access_keys {
            Some(FileKeys::Known(keys)) => control.replace_keys(keys),
            Some(FileKeys::Exposed(ids)) => {
                control.keep_keys(&ids);
                report.kept.push(KeptFile::AccessKeys);
            }
            Some(FileKeys::Unknown) => report.kept.push(KeptFile::AccessKeys),
            None => {}
        }
        report.access_keys = Some(control.key_count());
        for kept in &report.kept {
            match kept {
                KeptFile::AccessKeys => error!(
                    access_keys = report.access_keys,
                    "the file of access keys cannot be used; previous keys stay in force"
                ),
                KeptFile::Certificate => {
                    error!("the certificate cannot be read; the previous one stays in use");
                }
            }
        }
    }

    fn has_key_file(&self) -> bool {
        let control = self.config.control.as_ref();
        control.is_some_and(|control| matches!(control.access_keys, AccessKeySource::File(_)))
    }
}

/// Waits for work that may take long, and calls `report` again and again meanwhile.
async fn reported<T>(
    work: impl Future<Output = T>,
    interval: Duration,
    mut report: impl FnMut(),
) -> T {
    let mut work = pin!(work);
    loop {
        match tokio::time::timeout(interval, work.as_mut()).await {
            Ok(done) => return done,
            Err(_) => report(),
        }
    }
}

fn add_documents(taken_in: TakenIn, report: &mut ReloadReport) {
    report.faults.extend(taken_in.faults);
    report.without_document = taken_in.without_document;
    for (id, outcome) in taken_in.registered {
        match outcome {
            Ok(RegisterOutcome::New) => report.registered.push(id),
            Ok(RegisterOutcome::Known) => report.unchanged.push(id),
            Ok(RegisterOutcome::Edited) => report.edited.push(id),
            Ok(RegisterOutcome::Unreadable) => report.unreadable.push(id),
            Ok(RegisterOutcome::Terminated) => report.terminated.push(id),
            Err(error) => report.not_stored.push(StoreFailure {
                instance_id: id,
                reason: error.to_string(),
            }),
        }
    }
    for (id, outcome) in taken_in.faulty {
        match outcome {
            FaultyOutcome::Recorded => report.faulty_recorded.push(id),
            FaultyOutcome::NotServed => report.faulty_not_served.push(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use tokio::sync::oneshot;

    use super::*;
    use crate::config;
    use crate::control::AccessKeys;
    use crate::registry::memory::MemoryStore;
    use crate::registry::{Phase, Registry};

    fn reload() -> Reload {
        let mut config = Config::demo();
        let control = config.control.as_mut().unwrap();
        control.access_keys = AccessKeySource::File("keys.toml".into());
        let regions = control.regions.clone();
        let config = Arc::new(config);
        let (registry, _) = Registry::open(Arc::new(MemoryStore)).unwrap();
        let control = Control::new(Arc::clone(&registry), AccessKeys::demo(), regions);
        Reload {
            intake: Arc::new(Intake::new(registry, Arc::clone(&config), "boot")),
            control: Some(Arc::new(control)),
            tls: None,
            config,
            turn: Arc::default(),
            waiting: Arc::new(Semaphore::new(1)),
        }
    }

    /// A long reload says how far it is, as a start does.
    #[tokio::test]
    async fn a_reload_reports_its_progress_until_all_new_instances_are_stored() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let text =
            "instances = \"instances.json\"\n[[listener]]\nname = \"a\"\nipv4 = \"127.0.0.1:1\"\n";
        std::fs::write(path("imdsd.toml"), text).unwrap();
        let document = |number: usize| {
            format!(
                r#"{{"InstanceId":"i-{number:08x}","LaunchTime":"2026-01-01T00:00:00Z","Imds":{{}}}}"#
            )
        };
        let documents: Vec<String> = (0..1001).map(document).collect();
        std::fs::write(path("instances.json"), format!("[{}]", documents.join(","))).unwrap();
        let config = Arc::new(config::read(&path("imdsd.toml")).unwrap());
        let (registry, _) = Registry::open(Arc::new(MemoryStore)).unwrap();
        let reload = Reload {
            intake: Arc::new(Intake::new(registry, Arc::clone(&config), "boot")),
            control: None,
            config,
            ..reload()
        };
        let (progress, mut seen) = watch::channel(Progress::default());
        let watched = tokio::spawn(async move {
            let mut all = vec![*seen.borrow_and_update()];
            while seen.changed().await.is_ok() {
                all.push(*seen.borrow_and_update());
            }
            all
        });
        let report = reload.run(progress).await;
        assert_eq!(report.registered.len(), 1001, "{:?}", report.faults);
        let watched = watched.await.unwrap();
        let counts = watched.iter().map(|of| (of.phase, of.done, of.total));
        let counts: Vec<_> = counts.collect();
        let committing = |done| (Phase::Committing, done, 1001);
        assert_eq!(counts[0], (Phase::Preparing, 0, 0));
        assert!(counts.contains(&committing(500)), "{counts:?}");
        assert_eq!(counts.last(), Some(&committing(1001)));
    }

    #[tokio::test]
    async fn long_work_is_reported_again_and_again_until_it_ends() {
        let reports = std::cell::Cell::new(0);
        let (sender, ends) = oneshot::channel();
        let mut sender = Some(sender);
        let count = || {
            reports.set(reports.get() + 1);
            if reports.get() == 3 {
                sender.take().unwrap().send("done").unwrap();
            }
        };
        let done = reported(ends, Duration::from_millis(1), count).await;
        assert_eq!((done, reports.get()), (Ok("done"), 3));
        let reported_none = reported(async {}, Duration::ZERO, || unreachable!());
        reported_none.await;
    }

    fn files(access_keys: FileKeys<AccessKeys>) -> ControlFiles {
        ControlFiles {
            access_keys: Some(access_keys),
            certificate: ReadFile::NotConfigured,
            faults: Vec::new(),
        }
    }

    /// [`Reload::run`] with the content of the files.
    async fn run_in_turn(
        reload: &Reload,
        read: impl Future<Output = ControlFiles>,
    ) -> ReloadReport {
        let _turn = reload.turn.lock().await;
        reload.run_with(read, watch::Sender::default()).await
    }

    /// A thousand signals are two reloads: the one that runs, and one that reads what is newer.
    #[tokio::test]
    async fn of_the_reloads_for_signals_one_waits_and_the_others_are_not_needed() {
        let reload = reload();
        let running = reload.turn.lock().await;
        let mut context = Context::from_waker(Waker::noop());
        let mut waiting = pin!(reload.clone().run_on_signal());
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        for _ in 0..1000 {
            let mut another = pin!(reload.clone().run_on_signal());
            assert!(another.as_mut().poll(&mut context).is_ready());
        }
        // What is asked for after the one that waited has begun to read is read again.
        drop(running);
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        let mut next = pin!(reload.clone().run_on_signal());
        assert!(next.as_mut().poll(&mut context).is_pending());
        waiting.await;
        next.await;
    }

    /// A removed key must not return because an earlier reload ends later.
    #[tokio::test]
    async fn a_reload_reads_nothing_before_the_one_that_began_earlier_has_ended() {
        let reload = reload();
        let control = reload.control.clone().unwrap();
        let (earlier_reads, content) = oneshot::channel();
        let mut context = Context::from_waker(Waker::noop());
        let mut earlier = pin!(run_in_turn(&reload, async { content.await.unwrap() }));
        assert!(earlier.as_mut().poll(&mut context).is_pending());

        let mut later = pin!(run_in_turn(&reload, async {
            files(FileKeys::Known(AccessKeys::default()))
        }));
        // The later one waits until the earlier one has read its file and has ended.
        for _ in 0..3 {
            assert!(later.as_mut().poll(&mut context).is_pending());
            assert_eq!(
                control.key_count(),
                1,
                "the later one has replaced the keys"
            );
        }
        let old = FileKeys::Known(AccessKeys::demo());
        assert!(earlier_reads.send(files(old)).is_ok());
        let (earlier, later) = tokio::join!(earlier, later);
        assert_eq!((earlier.access_keys, later.access_keys), (Some(1), Some(0)));
        assert_eq!(control.key_count(), 0);
    }

    #[tokio::test]
    async fn a_file_that_others_can_read_keeps_only_the_keys_that_it_has() {
        let demo = AccessKeys::DEMO.0.to_string();
        for (ids, in_force) in [
            (vec![demo.clone()], 1),
            (vec![demo, "AKIDNEW".to_string()], 1),
            (vec!["AKIDNEW".to_string()], 0),
            (vec![], 0),
        ] {
            let exposed = FileKeys::Exposed(ids.iter().cloned().collect());
            let report = run_in_turn(&reload(), async { files(exposed) }).await;
            assert_eq!(report.access_keys, Some(in_force), "{ids:?}");
            assert_eq!(report.kept, [KeptFile::AccessKeys], "{ids:?}");
        }
        let report = run_in_turn(&reload(), async { files(FileKeys::Unknown) }).await;
        assert_eq!(report.access_keys, Some(1));
    }
}
