//! The daemon as the operator's socket sees it: what `admin` asks of the other planes, which it does not know.
//!
//! A reload reads the documents, the access keys and the certificate again, all of them before anything is changed.
//! Keys and certificate are replaced first, so that a revoked key is void even where a document can't be stored. The
//! configuration itself is read at a start only: listeners and directories do not change under a running daemon.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::Mutex;
use tracing::{error, info, warn};

use crate::admin::{DaemonView, ExplainedRequest, PredictedReply, ReloadReport, StoreFailure};
use crate::clock::Moment;
use crate::config::{AccessKeySource, Config};
use crate::control::{AccessKeys, Control};
use crate::daemon::{GuestPlane, documents};
use crate::fault::{Fault, FieldFault};
use crate::guest::Decision;
use crate::guest::gate::Visit;
use crate::http::{Body, HttpVersion, RawRequest};
use crate::instance::{Instance, InstanceId};
use crate::net::tls::Tls;
use crate::net::{MAX_HEAD_BYTES, MAX_HEADERS};
use crate::origin::Family;
use crate::registry::{Entry, QuarantineReason, RegisterOutcome, Registry, StoreError};

/// The daemon behind the operator's socket.
pub(super) struct AdminHost {
    pub(super) registry: Arc<Registry>,
    pub(super) plane: Arc<GuestPlane>,
    pub(super) control: Option<Arc<Control>>,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) config: Arc<Config>,
    /// Instances of the documents that could not be stored, and so are not served yet, nor is anybody at their ways in.
    pub(super) left_out: Arc<Mutex<VecDeque<Instance>>>,
}

impl AdminHost {
    /// Offers all documents to the registry. Those that can't be stored are left out, and offered again now and then.
    pub(super) async fn offer(
        &self,
        instances: Vec<Instance>,
        now: Timestamp,
    ) -> Vec<(InstanceId, Result<RegisterOutcome, StoreError>)> {
        offer(&self.registry, &self.left_out, instances, now).await
    }

    /// Stores what could not be stored before, as far as that is possible by now.
    pub(super) async fn store_again(&self) {
        self.registry.retry_failed_writes().await;
        let Ok(mut left_out) = self.left_out.try_lock() else {
            return;
        };
        while let Some(instance) = left_out.pop_front() {
            let id = instance.instance_id.clone();
            let registered = self
                .registry
                .register(instance.clone(), Moment::now().wall)
                .await;
            if is_left_out(&self.registry, &id, &registered) {
                // The next time another is the first: it need not fail for the same reason.
                left_out.push_back(instance);
                return;
            }
            info!(instance = %id, "registered, as it could be stored now");
        }
    }
}

async fn offer(
    registry: &Arc<Registry>,
    left_out: &Mutex<VecDeque<Instance>>,
    instances: Vec<Instance>,
    now: Timestamp,
) -> Vec<(InstanceId, Result<RegisterOutcome, StoreError>)> {
    let mut left_out = left_out.lock().await;
    let before: Vec<InstanceId> = left_out
        .drain(..)
        .map(|instance| instance.instance_id)
        .collect();
    let mut offered = Vec::new();
    for instance in instances {
        let id = instance.instance_id.clone();
        let registered = registry.register(instance.clone(), now).await;
        if is_left_out(registry, &id, &registered) {
            left_out.push_back(instance);
        }
        offered.push((id, registered));
    }
    for id in before
        .iter()
        .filter(|id| offered.iter().all(|(offered, _)| offered != *id))
    {
        registry.withdraw(id).await;
    }
    offered
}

/// Whether a document is to be offered again. One whose record can't be read is not: no document takes its place.
fn is_left_out(
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

impl DaemonView for AdminHost {
    fn faults(&self, instance: &Instance) -> Vec<FieldFault> {
        documents::instance_faults(instance, &self.config)
    }

    fn predict(
        &self,
        entry: &Arc<Entry>,
        family: Family,
        asked: &ExplainedRequest,
        now: Moment,
    ) -> PredictedReply {
        if let Some(rule) = too_large(asked) {
            return PredictedReply {
                status: Some(431),
                rule,
            };
        }
        let headers: Vec<(&str, &[u8])> = asked
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        let raw = RawRequest {
            method: &asked.method,
            target: &asked.path,
            version: HttpVersion::Http11,
            headers: &headers,
            body: if asked.has_body {
                Body::NotEmpty
            } else {
                Body::Empty
            },
        };
        // A token that this issues goes nowhere, so its nonce need not be random.
        let visit = Visit::new(Arc::clone(entry), family);
        let Decision { verdict, reply } = self.plane.guest.decide(&visit, raw, now, [0; 6]);
        PredictedReply {
            status: reply.map(|reply| reply.status),
            rule: verdict.to_string(),
        }
    }

    fn reload(&self) -> Pin<Box<dyn Future<Output = Result<ReloadReport, Vec<Fault>>> + Send>> {
        let (registry, left_out) = (Arc::clone(&self.registry), Arc::clone(&self.left_out));
        let (control, tls, config) = (
            self.control.clone(),
            self.tls.clone(),
            Arc::clone(&self.config),
        );
        Box::pin(reload(registry, left_out, control, tls, config))
    }

    fn connections(&self) -> usize {
        self.plane.connection_limits.connections()
    }
}

/// Why a head is refused while it is read, before anybody looks at the instance.
fn too_large(asked: &ExplainedRequest) -> Option<String> {
    let line = format!("{} {} HTTP/1.1\r\n", asked.method, asked.path).len();
    let headers: usize = asked
        .headers
        .iter()
        .map(|(name, value)| name.len() + value.len() + ": \r\n".len())
        .sum();
    let (size, count) = (line + headers + "\r\n".len(), asked.headers.len());
    match (size > MAX_HEAD_BYTES, count > MAX_HEADERS) {
        (true, _) => Some(format!(
            "the head of the request has {size} bytes, and {MAX_HEAD_BYTES} are the most"
        )),
        (false, true) => Some(format!(
            "the request has {count} header lines, and {MAX_HEADERS} are the most"
        )),
        (false, false) => None,
    }
}

/// Reads documents, access keys and the certificate again. On any fault in them nothing is changed.
async fn reload(
    registry: Arc<Registry>,
    left_out: Arc<Mutex<VecDeque<Instance>>>,
    control: Option<Arc<Control>>,
    tls: Option<Arc<Tls>>,
    config: Arc<Config>,
) -> Result<ReloadReport, Vec<Fault>> {
    // 1. Read everything, off the runtime.
    let reading = {
        let config = Arc::clone(&config);
        move || {
            (
                documents::read_instances(&config),
                access_keys(&config),
                super::control_tls(&config),
            )
        }
    };
    let read = tokio::task::spawn_blocking(reading)
        .await
        .expect("reading does not panic");
    let (instances, keys, new_tls) = match read {
        (Ok(instances), Ok(keys), Ok(tls)) => (instances, keys, tls),
        (instances, keys, tls) => {
            return Err(instances
                .err()
                .into_iter()
                .chain(keys.err())
                .chain(tls.err())
                .flatten()
                .collect());
        }
    };

    // 2. Take it in.
    let mut reloaded = ReloadReport::default();
    if let (Some(tls), Some(new)) = (tls, new_tls) {
        tls.replace(new);
    }
    if let (Some(control), Some(keys)) = (control, keys) {
        reloaded.access_keys = Some(keys.count());
        control.replace_keys(keys);
    }
    for (id, registered) in offer(&registry, &left_out, instances, Moment::now().wall).await {
        match registered {
            Ok(RegisterOutcome::New) => reloaded.registered.push(id),
            Ok(RegisterOutcome::Known) => reloaded.unchanged.push(id),
            Ok(RegisterOutcome::Edited) => reloaded.edited.push(id),
            Ok(RegisterOutcome::Unreadable) => reloaded.unreadable.push(id),
            Ok(RegisterOutcome::Terminated) => reloaded.terminated.push(id),
            Err(error) => reloaded.not_stored.push(StoreFailure {
                instance_id: id,
                reason: error.to_string(),
            }),
        }
    }
    tell(&reloaded);
    Ok(reloaded)
}

/// The access keys of the file that the configuration names, if it names one.
fn access_keys(config: &Config) -> Result<Option<AccessKeys>, Vec<Fault>> {
    match config.control.as_ref().map(|control| &control.access_keys) {
        Some(AccessKeySource::File(file)) => AccessKeys::read(file).map(Some),
        Some(AccessKeySource::Demo) | None => Ok(None),
    }
}

fn tell(reloaded: &ReloadReport) {
    for id in &reloaded.registered {
        info!(instance = %id, "registered");
    }
    for id in &reloaded.edited {
        warn!(instance = %id, "its document was edited; to take the edit in: imdsd instance put FILE");
    }
    for StoreFailure {
        instance_id,
        reason,
    } in &reloaded.not_stored
    {
        error!(instance = %instance_id, "not served: {reason}. It is registered as soon as it can be stored");
    }
    info!(
        registered = reloaded.registered.len(),
        access_keys = reloaded.access_keys,
        "reloaded"
    );
}
