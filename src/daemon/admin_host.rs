//! The daemon as the admin API sees it: answers that need the other planes, which `admin` does not
//! import.

use std::collections::BTreeSet;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;

use crate::admin::{DaemonView, ExplainedRequest, PredictedReply, ReloadReport};
use crate::clock::Moment;
use crate::daemon::documents;
use crate::daemon::guest_plane::GuestPlane;
use crate::daemon::reload::Reload;
use crate::fault::{Fault, FieldFault};
use crate::guest::Decision;
use crate::guest::gate::Visit;
use crate::guest::tree::{self, PathExtent};
use crate::host::netlink;
use crate::http::{Body, HttpVersion, RawRequest};
use crate::instance::events::injected_fault::FaultPath;
use crate::instance::{Instance, LinkIdentities};
use crate::lab::InjectedFaults;
use crate::net::{MAX_HEAD_BYTES, MAX_HEADERS};
use crate::origin::Family;
use crate::registry::{Entry, Progress};

/// The path of a session token, without the version.
const TOKEN_PATH: &str = "api/token";

/// The daemon behind the admin socket.
pub(super) struct AdminHost {
    pub(super) plane: Arc<GuestPlane>,
    pub(super) reload: Reload,
    /// The identity of this boot of the host, for bindings.
    pub(super) boot_id: String,
}

impl DaemonView for AdminHost {
    fn faults(&self, instance: &Instance) -> Vec<FieldFault> {
        documents::instance_faults(instance, &self.reload.config)
    }

    fn predict(
        &self,
        entry: &Arc<Entry>,
        family: Family,
        request: &ExplainedRequest,
        now: Moment,
    ) -> PredictedReply {
        if let Some(rule) = head_limit_exceeded(request) {
            return PredictedReply {
                status: Some(431),
                rule,
            };
        }
        let headers: Vec<(&str, &[u8])> = request
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        let raw = RawRequest {
            method: &request.method,
            target: &request.path,
            version: HttpVersion::Http11,
            headers: &headers,
            body: match request.has_body {
                true => Body::NotEmpty,
                false => Body::Empty,
            },
        };
        // No guest receives a token that is issued here, so its nonce need not be random.
        let visit = Visit::new(Arc::clone(entry), family);
        let Decision { verdict, reply } = self.plane.guest.decide(&visit, raw, now, [0; 6]);
        let mut rule = verdict.to_string();
        if let Some(faults) = self.plane.injected_faults.of(visit.instance_id()) {
            let path = self.plane.guest.path_below_version(raw);
            for fault in faults.matching(path.as_deref(), now.wall) {
                rule += &format!("; an injected fault may change it: {fault}");
            }
        }
        PredictedReply {
            status: reply.map(|reply| reply.status),
            rule,
        }
    }

    fn knows_path(&self, path: &FaultPath) -> bool {
        let (path, extent) = match path.text() {
            (path, true) => (path, PathExtent::Beginning),
            (path, false) => (path, PathExtent::Whole),
        };
        let is_token = match extent {
            PathExtent::Whole => path == TOKEN_PATH,
            PathExtent::Beginning => TOKEN_PATH.starts_with(path),
        };
        is_token || tree::is_known(path, extent)
    }

    fn injected_faults(&self) -> &InjectedFaults {
        &self.plane.injected_faults
    }

    fn reload(
        &self,
        progress: watch::Sender<Progress>,
    ) -> Pin<Box<dyn Future<Output = ReloadReport> + Send>> {
        Box::pin(self.reload.clone().run(progress))
    }

    fn file_faults(&self) -> Arc<Vec<Fault>> {
        self.reload.intake.file_faults()
    }

    fn links(
        &self,
        names: BTreeSet<String>,
    ) -> Pin<Box<dyn Future<Output = io::Result<LinkIdentities>> + Send>> {
        let boot_id = self.boot_id.clone();
        Box::pin(async move {
            let by_name = netlink::link_identities(names.iter().map(String::as_str)).await?;
            let by_name = by_name.into_iter().collect();
            Ok(LinkIdentities { boot_id, by_name })
        })
    }

    fn control_refusals(&self) -> Vec<(&'static str, u64)> {
        let control = self.reload.control.as_ref();
        control.map_or_else(Vec::new, |control| control.refusals().counts())
    }

    fn throttled(&self) -> [(&'static str, u64); 2] {
        self.plane.connection_limits.throttled()
    }

    fn connections(&self) -> usize {
        self.plane.connection_limits.connections()
    }
}

/// Returns which limit the head of a request exceeds. The server rejects such a head while it reads
/// it, whatever the instance is.
fn head_limit_exceeded(request: &ExplainedRequest) -> Option<String> {
    let line = format!("{} {} HTTP/1.1\r\n", request.method, request.path).len();
    let headers: usize = request
        .headers
        .iter()
        .map(|(name, value)| name.len() + value.len() + ": \r\n".len())
        .sum();
    let (size, count) = (line + headers + "\r\n".len(), request.headers.len());
    match (size > MAX_HEAD_BYTES, count > MAX_HEADERS) {
        (true, _) => Some(format!(
            "the head of the request has {size} bytes; the maximum is {MAX_HEAD_BYTES}"
        )),
        (false, true) => Some(format!(
            "the request has {count} header lines; the maximum is {MAX_HEADERS}"
        )),
        (false, false) => None,
    }
}
