//! The daemon as the admin API sees it: answers that need the other planes, which `admin` does not
//! import.
//!
//! A reload first reads the documents, the access keys and the certificate again, and changes
//! nothing until all of them are read. It replaces keys and certificate before documents, so that a
//! revoked key stops working even if a document cannot be stored. The configuration itself is read
//! only at the start: listeners and directories do not change while the daemon runs.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::Mutex;
use tracing::{error, info, warn};

use crate::admin::{DaemonView, ExplainedRequest, PredictedReply, ReloadReport, StoreFailure};
use crate::clock::Moment;
use crate::config::{AccessKeySource, Config};
use crate::control::{AccessKeys, Control};
use crate::daemon::control_endpoint::control_tls;
use crate::daemon::documents;
use crate::daemon::guest_plane::GuestPlane;
use crate::fault::{Fault, FieldFault};
use crate::guest::Decision;
use crate::guest::gate::Visit;
use crate::host::netlink;
use crate::http::{Body, HttpVersion, RawRequest};
use crate::instance::{Instance, InstanceId, LinkIdentities};
use crate::net::tls::Tls;
use crate::net::{MAX_HEAD_BYTES, MAX_HEADERS};
use crate::origin::Family;
use crate::registry::{Entry, QuarantineReason, RegisterOutcome, Registry, StoreError};

/// The daemon behind the admin socket.
pub(super) struct AdminHost {
    pub(super) registry: Arc<Registry>,
    pub(super) plane: Arc<GuestPlane>,
    pub(super) control: Option<Arc<Control>>,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) config: Arc<Config>,
    /// Instances whose documents could not be stored yet. Neither they nor other claimants of their
    /// attachments are served.
    pub(super) unstored: Arc<Mutex<VecDeque<Instance>>>,
    /// The identity of this boot of the host, for bindings.
    pub(super) boot_id: String,
}

impl AdminHost {
    /// Registers the instances of all documents. Remembers those that cannot be stored;
    /// [`AdminHost::retry_failed_writes`] registers them later.
    pub(super) async fn register_all(
        &self,
        instances: Vec<Instance>,
        now: Timestamp,
    ) -> Vec<(InstanceId, Result<RegisterOutcome, StoreError>)> {
        register_all(&self.registry, &self.unstored, instances, now).await
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
            let registered = self
                .registry
                .register(instance.clone(), Moment::now().wall)
                .await;
            if is_unstored(&self.registry, &id, &registered) {
                // The next retry starts with another one, which may fail for another reason or not
                // at all.
                unstored.push_back(instance);
                return;
            }
            info!(instance = %id, "registered: its document could be stored after a retry");
        }
    }
}

/// Registers the instances of all documents, and withdraws unstored ones that no document has any
/// more.
async fn register_all(
    registry: &Arc<Registry>,
    unstored: &Mutex<VecDeque<Instance>>,
    instances: Vec<Instance>,
    now: Timestamp,
) -> Vec<(InstanceId, Result<RegisterOutcome, StoreError>)> {
    let mut unstored = unstored.lock().await;
    let unstored_before: Vec<InstanceId> = unstored
        .drain(..)
        .map(|instance| instance.instance_id)
        .collect();
    let mut outcomes = Vec::new();
    for instance in instances {
        let id = instance.instance_id.clone();
        let registered = registry.register(instance.clone(), now).await;
        if is_unstored(registry, &id, &registered) {
            unstored.push_back(instance);
        }
        outcomes.push((id, registered));
    }
    for id in unstored_before {
        if outcomes.iter().all(|(registered, _)| *registered != id) {
            registry.withdraw(&id).await;
        }
    }
    outcomes
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

impl DaemonView for AdminHost {
    fn faults(&self, instance: &Instance) -> Vec<FieldFault> {
        documents::instance_faults(instance, &self.config)
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
        PredictedReply {
            status: reply.map(|reply| reply.status),
            rule: verdict.to_string(),
        }
    }

    fn reload(&self) -> Pin<Box<dyn Future<Output = Result<ReloadReport, Vec<Fault>>> + Send>> {
        let (registry, unstored) = (Arc::clone(&self.registry), Arc::clone(&self.unstored));
        let (control, tls, config) = (
            self.control.clone(),
            self.tls.clone(),
            Arc::clone(&self.config),
        );
        Box::pin(reload(registry, unstored, control, tls, config))
    }

    fn links(
        &self,
        names: BTreeSet<String>,
    ) -> Pin<Box<dyn Future<Output = io::Result<LinkIdentities>> + Send>> {
        let boot_id = self.boot_id.clone();
        Box::pin(async move {
            let by_name = netlink::link_identities(names.iter().map(String::as_str)).await?;
            Ok(LinkIdentities { boot_id, by_name })
        })
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

/// Reads documents, access keys and the certificate again, and applies them. Returns all faults,
/// and changes nothing, if one of them cannot be read.
async fn reload(
    registry: Arc<Registry>,
    unstored: Arc<Mutex<VecDeque<Instance>>>,
    control: Option<Arc<Control>>,
    tls: Option<Arc<Tls>>,
    config: Arc<Config>,
) -> Result<ReloadReport, Vec<Fault>> {
    let (instances, keys, new_tls) = read_all(&config).await?;

    let mut reloaded = ReloadReport::default();
    if let (Some(tls), Some(new)) = (tls, new_tls) {
        tls.replace(new);
    }
    if let (Some(control), Some(keys)) = (control, keys) {
        reloaded.access_keys = Some(keys.count());
        control.replace_keys(keys);
    }
    for (id, registered) in register_all(&registry, &unstored, instances, Moment::now().wall).await
    {
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
    log_reload(&reloaded);
    Ok(reloaded)
}

/// What a reload reads.
type ReloadInput = (Vec<Instance>, Option<AccessKeys>, Option<Tls>);

/// Reads documents, access keys and the certificate outside the async runtime. Returns the faults
/// of all three.
async fn read_all(config: &Arc<Config>) -> Result<ReloadInput, Vec<Fault>> {
    let config = Arc::clone(config);
    let read = move || {
        (
            documents::read_instances(&config),
            access_keys(&config),
            control_tls(&config),
        )
    };
    match tokio::task::spawn_blocking(read)
        .await
        .expect("reading does not panic")
    {
        (Ok(instances), Ok(keys), Ok(tls)) => Ok((instances, keys, tls)),
        (instances, keys, tls) => Err(instances
            .err()
            .into_iter()
            .chain(keys.err())
            .chain(tls.err())
            .flatten()
            .collect()),
    }
}

/// Returns the access keys of the file that the configuration names; `None` if it names none.
fn access_keys(config: &Config) -> Result<Option<AccessKeys>, Vec<Fault>> {
    match config.control.as_ref().map(|control| &control.access_keys) {
        Some(AccessKeySource::File(file)) => AccessKeys::read(file).map(Some),
        Some(AccessKeySource::Demo) | None => Ok(None),
    }
}

fn log_reload(reloaded: &ReloadReport) {
    for id in &reloaded.registered {
        info!(instance = %id, "registered");
    }
    for id in &reloaded.edited {
        warn!(instance = %id, "its document was edited; the stored record is served. To apply the edit: imdsd instance put FILE");
    }
    for StoreFailure {
        instance_id,
        reason,
    } in &reloaded.not_stored
    {
        error!(instance = %instance_id, "not served: {reason}. It will be registered as soon as it can be stored");
    }
    info!(
        registered = reloaded.registered.len(),
        access_keys = reloaded.access_keys,
        "reloaded"
    );
}
