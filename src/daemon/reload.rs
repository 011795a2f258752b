//! A reload: access keys, certificate and documents are read again.
//!
//! Each is taken in by itself, and a document costs its own instance only: whatever else has
//! faults, a removed key stops working. The configuration itself is read only at the start:
//! listeners and directories do not change while the daemon runs.

use std::sync::Arc;

use tracing::{error, info};

use crate::admin::{KeptFile, ReloadReport, StoreFailure};
use crate::config::{AccessKeySource, Config};
use crate::control::Control;
use crate::daemon::control_files::{ControlFiles, ReadFile};
use crate::daemon::intake::{Intake, TakenIn};
use crate::net::tls::Tls;
use crate::registry::{FaultyOutcome, RegisterOutcome};

/// What a reload replaces.
#[derive(Clone)]
pub(super) struct Reload {
    pub(super) intake: Arc<Intake>,
    pub(super) control: Option<Arc<Control>>,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) config: Arc<Config>,
}

impl Reload {
    /// Reads everything again, takes in what has no faults, and logs the outcome.
    pub(super) async fn run(self) -> ReloadReport {
        let mut report = ReloadReport::default();
        // The keys first: they are replaced even if reading the documents takes long.
        self.read_control_files(&mut report).await;
        let taken_in = self.intake.read_documents().await;
        taken_in.log();
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

    async fn read_control_files(&self, report: &mut ReloadReport) {
        let config = Arc::clone(&self.config);
        let read = tokio::task::spawn_blocking(move || ControlFiles::read(&config)).await;
        let files = read.expect("reading does not panic");
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
            ReadFile::Read(keys) => control.replace_keys(keys),
            ReadFile::Unreadable => report.kept.push(KeptFile::AccessKeys),
            ReadFile::NotConfigured => {}
        }
        report.access_keys = Some(control.key_count());
        for kept in &report.kept {
            match kept {
                KeptFile::AccessKeys => error!(
                    access_keys = report.access_keys,
                    "the file of access keys cannot be read; the previous keys stay in force"
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
