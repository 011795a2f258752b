//! A daemon with fixed answers, a store that fails, and the API over them.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::sync::watch;

use crate::admin::request::AdminRequest;
use crate::admin::{AdminApi, DaemonView, ExplainedRequest, PredictedReply, ReloadReport};
use crate::clock::Moment;
use crate::config::demo_instance;
use crate::document;
use crate::fault::{Fault, FieldFault};
use crate::instance::events::injected_fault::FaultPath;
use crate::instance::{Attachment, Instance, InstanceId, LinkIdentities, LinkIdentity};
use crate::lab::InjectedFaults;
use crate::net::unix::UnixCaller;
use crate::origin::Family;
use crate::registry::memory::MemoryStore;
use crate::registry::stepwise::StepwiseStore;
use crate::registry::store::Loaded;
use crate::registry::{
    Account, Entry, Progress, Record, Registry, Store, StoreError, StoredState, UnreadableRecord,
};

/// A daemon with fixed answers. It refuses instances on the listener `elsewhere`.
#[derive(Default)]
struct FakeDaemon {
    injected_faults: InjectedFaults,
}

/// The boot of its host.
pub(super) const BOOT_ID: &str = "6e1a0000-0000-4000-8000-000000000001";

impl DaemonView for FakeDaemon {
    fn faults(&self, instance: &Instance) -> Vec<FieldFault> {
        let elsewhere = instance
            .imds
            .attachments
            .contains(&Attachment::Listener("elsewhere".into()).into());
        elsewhere
            .then(|| FieldFault::new("Imds.Attachments[0]", "no such listener"))
            .into_iter()
            .collect()
    }

    fn predict(
        &self,
        _: &Arc<Entry>,
        _: Family,
        request: &ExplainedRequest,
        _: Moment,
    ) -> PredictedReply {
        PredictedReply {
            status: Some(401),
            rule: format!("{} {}", request.method, request.path),
        }
    }

    /// The tree has `meta-data` and nothing else.
    fn knows_path(&self, path: &FaultPath) -> bool {
        let (path, is_beginning) = path.text();
        path.starts_with("meta-data") || path.is_empty() && is_beginning
    }

    fn injected_faults(&self) -> &InjectedFaults {
        &self.injected_faults
    }

    fn reload(
        &self,
        _: watch::Sender<Progress>,
    ) -> Pin<Box<dyn Future<Output = ReloadReport> + Send>> {
        Box::pin(async {
            ReloadReport {
                faults: vec![Fault::of_file(Path::new("i.json"), "not JSON")],
                access_keys: Some(1),
                ..ReloadReport::default()
            }
        })
    }

    fn file_faults(&self) -> Arc<Vec<Fault>> {
        Arc::default()
    }

    /// The host has one interface, `vnet0`.
    fn links(
        &self,
        names: BTreeSet<String>,
    ) -> Pin<Box<dyn Future<Output = io::Result<LinkIdentities>> + Send>> {
        let vnet0 = LinkIdentity {
            index: 17,
            mac_address: Some("fe:54:00:00:00:05".to_string()),
        };
        let found = names.into_iter().filter(|name| name == "vnet0");
        let links = LinkIdentities {
            boot_id: BOOT_ID.to_string(),
            by_name: found.map(|name| (name, vnet0.clone())).collect(),
        };
        Box::pin(async { Ok(links) })
    }

    fn control_refusals(&self) -> Vec<(&'static str, u64)> {
        vec![("wrong_signature", 3)]
    }

    fn throttled(&self) -> [(&'static str, u64); 2] {
        [("503", 5), ("reset", 6)]
    }

    fn connections(&self) -> usize {
        3
    }
}

/// The API over a registry with the demo instance.
pub(super) struct TestApi {
    pub(super) api: Arc<AdminApi>,
    pub(super) runtime: tokio::runtime::Runtime,
}

impl TestApi {
    pub(super) fn new() -> TestApi {
        TestApi::over(MemoryStore)
    }

    pub(super) fn over(store: impl Store + 'static) -> TestApi {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let (registry, _) = Registry::open(Arc::new(store)).unwrap();
        runtime
            .block_on(registry.register(demo_instance(), Moment::now().wall))
            .unwrap();
        TestApi {
            api: Arc::new(AdminApi::new(
                registry,
                Arc::default(),
                Arc::new(FakeDaemon::default()),
            )),
            runtime,
        }
    }

    /// Sends one request; returns the status and the body, as JSON if it is JSON.
    pub(super) fn send(
        &self,
        method: &str,
        target: &str,
        if_match: Option<&str>,
        body: &str,
    ) -> (u16, Value) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let request = AdminRequest {
            caller: UnixCaller::new(Some(0), None),
            method,
            path,
            query,
            if_match,
            body: Bytes::copy_from_slice(body.as_bytes()),
        };
        self.runtime.block_on(async {
            let response = self.api.respond(request).await;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            (
                status,
                serde_json::from_slice(&body)
                    .unwrap_or(Value::String(String::from_utf8_lossy(&body).into())),
            )
        })
    }

    pub(super) fn post(&self, target: &str, document: &Value) -> (u16, Value) {
        self.send("POST", target, None, &document.to_string())
    }

    /// The entry of the demo instance.
    pub(super) fn demo(&self) -> Arc<Entry> {
        Arc::clone(
            self.api
                .registry
                .snapshot()
                .entry(&demo_instance().instance_id)
                .unwrap(),
        )
    }

    /// Changes the demo instance as the EC2 API would.
    pub(super) fn change(&self, change: impl Fn(&mut Instance) + Send + 'static) {
        let change = move |instance: &mut Instance| {
            change(instance);
            Ok::<_, ()>(())
        };
        let id = demo_instance().instance_id;
        self.runtime
            .block_on(self.api.registry.update(&id, Moment::now().wall, change))
            .unwrap();
    }
}

pub(super) fn demo_document() -> Value {
    document::to_value(&demo_instance())
}

/// The demo document with a change.
pub(super) fn demo_with(change: impl FnOnce(&mut Value)) -> Value {
    let mut document = demo_document();
    change(&mut document);
    document
}

/// The id of the demo instance.
pub(super) const ID: &str = "i-0123456789abcdef0";

/// A store that fails after a number of writes, and has one unreadable record, `i-99999999`.
pub(super) struct FailingStore {
    writes: AtomicUsize,
    stored: StoredState,
}

impl FailingStore {
    pub(super) fn after(writes: usize, stored: StoredState) -> FailingStore {
        FailingStore {
            writes: writes.into(),
            stored,
        }
    }
}

impl StepwiseStore for FailingStore {
    fn load(&self) -> Result<Loaded, StoreError> {
        let id = InstanceId::parse("i-99999999").unwrap();
        let fault = Fault::of_file(Path::new("i-99999999.json"), "broken");
        let unreadable = vec![UnreadableRecord {
            id,
            fault,
            attachments: Vec::new(),
            client_tokens: Vec::new(),
        }];
        Ok(Loaded {
            unreadable,
            ..Loaded::default()
        })
    }

    fn put(&self, _: &Record) -> Result<(), StoreError> {
        match self
            .writes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |writes| {
                writes.checked_sub(1)
            }) {
            Ok(_) => Ok(()),
            Err(_) => {
                let reason = std::io::Error::other("disk");
                Err(StoreError {
                    action: "write".into(),
                    reason,
                    stored: self.stored,
                })
            }
        }
    }

    fn remove(&self, _: &InstanceId) -> Result<(), StoreError> {
        Ok(())
    }

    fn put_account(&self, _: &Account) -> Result<(), StoreError> {
        Ok(())
    }
}
