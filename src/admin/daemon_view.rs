//! What the admin API asks of the daemon around it. The daemon implements [`DaemonView`], so that
//! the API need not know the other planes.

use std::collections::BTreeSet;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use serde::Serialize;

use crate::clock::Moment;
use crate::fault::{Fault, FieldFault};
use crate::instance::{Instance, InstanceId, LinkIdentities};
use crate::origin::Family;
use crate::registry::Entry;

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

    /// Reads again what may change while the daemon runs. Any fault in the files changes nothing.
    fn reload(&self) -> Pin<Box<dyn Future<Output = Result<ReloadReport, Vec<Fault>>> + Send>>;

    /// Returns the links of this host that have these names now, as the kernel has them.
    fn links(
        &self,
        names: BTreeSet<String>,
    ) -> Pin<Box<dyn Future<Output = io::Result<LinkIdentities>> + Send>>;

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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ReloadReport {
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
    /// The number of access keys in force; `None` without a control endpoint that reads a key file.
    pub access_keys: Option<usize>,
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
