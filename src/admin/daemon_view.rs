//! What the admin API asks of the daemon around it. The daemon implements [`DaemonView`], so that
//! the API need not know the other planes.

use std::collections::BTreeSet;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::fault_json::fault_json;
use crate::clock::Moment;
use crate::fault::{Fault, FieldFault};
use crate::instance::events::injected_fault::FaultPath;
use crate::instance::{Instance, InstanceId, LinkIdentities};
use crate::lab::InjectedFaults;
use crate::origin::Family;
use crate::registry::{Entry, Progress};

/// The daemon as the admin API sees it.
pub(crate) trait DaemonView: Send + Sync {
    /// Returns what keeps this daemon from serving an instance, by the same rules as for a document
    /// at start.
    fn faults(&self, instance: &Instance) -> Vec<FieldFault>;

    /// Returns how the guest plane would answer a request for an instance.
    fn predict(
        &self,
        entry: &Arc<Entry>,
        family: Family,
        request: &ExplainedRequest,
        now: Moment,
    ) -> PredictedReply;

    /// Returns whether some instance could have the paths that a fault affects.
    fn knows_path(&self, path: &FaultPath) -> bool;

    /// Returns the faults that operators injected.
    fn injected_faults(&self) -> &InjectedFaults;

    /// Reads again what may change while the daemon runs, and takes in what has no faults. `progress`
    /// is of the documents.
    fn reload(
        &self,
        progress: watch::Sender<Progress>,
    ) -> Pin<Box<dyn Future<Output = ReloadReport> + Send>>;

    /// Returns the faults that the operator's files had at the last start or reload.
    fn file_faults(&self) -> Arc<Vec<Fault>>;

    /// Returns the links of this host that have these names now, as the kernel has them.
    fn links(
        &self,
        names: BTreeSet<String>,
    ) -> Pin<Box<dyn Future<Output = io::Result<LinkIdentities>> + Send>>;

    /// Returns how many callers the control endpoint refused since the start, by reason.
    fn control_refusals(&self) -> Vec<(&'static str, u64)>;

    /// Returns how often guests exceeded their request rate since the start, by the answer that they
    /// got.
    fn throttled(&self) -> [(&'static str, u64); 2];

    /// Returns the number of open guest connections.
    fn connections(&self) -> usize;
}

/// A guest request to explain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExplainedRequest {
    /// `GET`
    pub method: String,
    /// `/latest/meta-data/`
    pub path: String,
    /// Header lines; names in lower case.
    pub headers: Vec<(String, String)>,
    /// Whether it has a body.
    pub has_body: bool,
}

/// How the guest plane would answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PredictedReply {
    /// The status of the response; `None` if the connection would be closed without one.
    pub status: Option<u16>,
    /// The rule that decided it.
    pub rule: String,
}

/// The outcome of a reload.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReloadReport {
    /// The faults of the files. What has no faults was taken in.
    pub faults: Vec<Fault>,
    /// New instances, which were registered.
    pub registered: Vec<InstanceId>,
    /// Instances that did not change.
    pub unchanged: Vec<InstanceId>,
    /// Instances whose document was edited since it was put. The stored one stays in force.
    pub edited: Vec<InstanceId>,
    /// Terminated instances. Their documents do not bring them back.
    pub terminated: Vec<InstanceId>,
    /// Instances whose record cannot be read. They stay unserved.
    pub unreadable: Vec<InstanceId>,
    /// New instances that could not be stored. They are not served until a retry succeeds.
    pub not_stored: Vec<StoreFailure>,
    /// Instances whose documents have faults, and that are served from their records.
    pub faulty_recorded: Vec<InstanceId>,
    /// Instances whose documents have faults, and that are not served.
    pub faulty_not_served: Vec<InstanceId>,
    /// Registered instances whose documents were removed. They stay registered.
    pub without_document: Vec<InstanceId>,
    /// The number of access keys in force; `None` without a control endpoint that reads a key file.
    pub access_keys: Option<usize>,
    /// Files that could not be used, so that what was read of them before stays in force.
    pub kept: Vec<KeptFile>,
}

/// A file that could not be used at a reload. What was read of it before stays in force; of the access
/// keys, unless the file says which there are, and has them no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum KeptFile {
    /// The file of access keys.
    AccessKeys,
    /// The certificate of the control endpoint, or its key.
    Certificate,
}

impl ReloadReport {
    /// Returns the report as the admin API sends it.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "Faults": self.faults.iter().map(fault_json).collect::<Vec<_>>(),
            "Registered": self.registered,
            "Unchanged": self.unchanged,
            "Edited": self.edited,
            "Terminated": self.terminated,
            "Unreadable": self.unreadable,
            "NotStored": self.not_stored,
            "FaultyRecorded": self.faulty_recorded,
            "FaultyNotServed": self.faulty_not_served,
            "WithoutDocument": self.without_document,
            "AccessKeys": self.access_keys,
            "Kept": self.kept,
        })
    }
}

/// An instance that could not be stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct StoreFailure {
    /// Its id.
    pub instance_id: InstanceId,
    /// What failed.
    pub reason: String,
}
