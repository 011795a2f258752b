//! Maps each request to its handler, answers it and logs what changed.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use tokio::sync::watch;

use super::api::AdminApi;
use super::operations::ListedOperation;
use super::put::PutOptions;
use super::refusal::Refusal;
use super::reply::AdminReply;
use super::request::{AdminRequest, Query, generation, instance_id};
use super::{claim, events, explain, health, instances, listeners, metrics, put, set_options};
use crate::audit::{AuditedCall, Trail};
use crate::clock::Moment;
use crate::instance::InstanceId;
use crate::registry::Progress;

impl AdminApi {
    /// Answers one request.
    pub(super) async fn respond(
        self: &Arc<AdminApi>,
        request: AdminRequest<'_>,
    ) -> Response<Full<Bytes>> {
        let uid = request.caller.uid;
        // The log names the user for everything that changes an instance or shows secrets.
        let is_audited = request.method != "GET" || request.query.contains("secrets=shown");
        // The key under which a client asks for progress says nothing about the call.
        let pairs = request.query.split('&');
        let pairs: Vec<&str> = pairs
            .filter(|pair| !pair.starts_with("operation="))
            .collect();
        let action = match pairs.join("&").as_str() {
            "" => format!("{} {}", request.method, request.path),
            query => format!("{} {}?{query}", request.method, request.path),
        };
        let trail = Trail::default();
        let (response, outcome) = match self.route(request, &trail).await {
            Ok(reply) => {
                reply.add_events(&trail);
                (reply.into_response(), "OK")
            }
            Err(refusal) => {
                let code = refusal.code;
                (refusal.into_response(), code)
            }
        };
        if is_audited {
            let audited = AuditedCall {
                api: "admin",
                action: &action,
                access_key_id: None,
                uid,
                peer: "admin socket",
                outcome,
                request_id: None,
            };
            audited.log(&trail);
        }
        response
    }

    async fn route(
        self: &Arc<AdminApi>,
        request: AdminRequest<'_>,
        trail: &Trail,
    ) -> Result<AdminReply, Refusal> {
        let path: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
        let mut query = Query::parse(request.query)?;
        let uid = request.caller.uid;
        match (request.method, path.as_slice()) {
            ("GET", ["v1", "instances"]) => {
                query.finish()?;
                let snapshot = self.registry.snapshot();
                let faults = self.daemon.injected_faults().all();
                rendered(move || instances::list(&snapshot, &faults)).await
            }
            ("GET", ["v1", "instances", id]) => {
                let (id, secrets) = (instance_id(id)?, query.secrets()?);
                query.finish()?;
                trail.name([&id]);
                instances::get(&self.registry, &id, secrets)
            }
            ("PUT", ["v1", "instances", id]) => {
                let id = Some(instance_id(id)?);
                let _listed = self.begin("PUT /v1/instances/ID", &mut query, uid)?;
                let options = put_options(id, request.if_match, query)?;
                put::put(self, options, request.body, trail).await
            }
            ("POST", ["v1", "instances"]) => {
                let _listed = self.begin("POST /v1/instances", &mut query, uid)?;
                let options = put_options(None, request.if_match, query)?;
                put::put(self, options, request.body, trail).await
            }
            ("POST", ["v1", "instances", id, "claim"]) => {
                query.finish()?;
                let (id, expected) = (instance_id(id)?, generation(request.if_match)?);
                claim::claim(self, id, expected, &request.body, trail).await
            }
            ("POST", ["v1", "instances", id, "release"]) => {
                query.finish()?;
                let (id, expected) = (instance_id(id)?, generation(request.if_match)?);
                claim::release(self, id, expected, &request.body, trail).await
            }
            ("DELETE", ["v1", "instances", id]) => {
                query.finish()?;
                let expected = generation(request.if_match)?;
                instances::delete(&self.registry, &instance_id(id)?, expected, trail).await
            }
            ("PATCH", ["v1", "instances", id, "metadata-options"]) => {
                query.finish()?;
                let (id, expected) = (instance_id(id)?, generation(request.if_match)?);
                set_options::modify(self, id, expected, &request.body, trail).await
            }
            ("GET", ["v1", "export"]) => {
                let secrets = query.secrets()?;
                query.finish()?;
                let snapshot = self.registry.snapshot();
                rendered(move || instances::export(&snapshot, secrets)).await
            }
            ("POST", ["v1", "reload"]) => {
                let (_listed, progress) = self.begin("POST /v1/reload", &mut query, uid)?;
                query.finish()?;
                let report = self.daemon.reload(progress).await;
                Ok(AdminReply::Json(report.to_json()))
            }
            ("POST", ["v1", "explain"]) => {
                query.finish()?;
                explain::explain(self, &request.body, Moment::now())
            }
            ("GET", ["v1", "events"]) => {
                query.finish()?;
                let (snapshot, now) = (self.registry.snapshot(), Moment::now().wall);
                let faults = self.daemon.injected_faults().all();
                rendered(move || events::list(&snapshot, &faults, now)).await
            }
            ("POST", ["v1", "events"]) => {
                let (_listed, progress) = self.begin("POST /v1/events", &mut query, uid)?;
                query.finish()?;
                let now = Moment::now().wall;
                let injection = events::inject(self, &request.body, now, trail, progress);
                tokio::select! {
                    biased;
                    injected = injection => injected,
                    () = request.caller.gone() => Err(Refusal::client_gone()),
                }
            }
            ("GET", ["v1", "operations"]) => {
                query.finish()?;
                Ok(AdminReply::Json(self.operations.list(Moment::now())))
            }
            ("GET", ["v1", "listeners"]) => {
                query.finish()?;
                Ok(AdminReply::Json(listeners::list(&self.listeners.load())))
            }
            ("GET", ["v1", "health"]) => Ok(AdminReply::Json(health::report(self))),
            ("GET", ["metrics"]) => Ok(AdminReply::Metrics(metrics::render(self))),
            (method, path) => Err(no_route(method, path)),
        }
    }

    /// Lists a request as an operation that may take long.
    fn begin(
        &self,
        action: &'static str,
        query: &mut Query<'_>,
        uid: Option<u32>,
    ) -> Result<(ListedOperation, watch::Sender<Progress>), Refusal> {
        let key = query.operation()?;
        Ok(self.operations.begin(action, key, uid, Moment::now()))
    }
}

/// Renders an answer about all instances on a thread of its own: nothing else waits for it.
async fn rendered(
    render: impl FnOnce() -> Vec<u8> + Send + 'static,
) -> Result<AdminReply, Refusal> {
    let text = tokio::task::spawn_blocking(render).await;
    Ok(AdminReply::Rendered(
        text.expect("rendering does not panic"),
    ))
}

fn put_options(
    only: Option<InstanceId>,
    if_match: Option<&str>,
    mut query: Query<'_>,
) -> Result<PutOptions, Refusal> {
    let options = PutOptions {
        only,
        generation: generation(if_match)?,
        relaunch: query.flag("relaunch")?,
        bind: query.flag("bind")?,
        force: query.flag("force")?,
        dry_run: query.flag("dry-run")?,
    };
    query.finish()?;
    Ok(options)
}

/// 405 for a known path, 404 for any other.
fn no_route(method: &str, path: &[&str]) -> Refusal {
    match path {
        [
            "v1",
            "instances" | "export" | "reload" | "explain" | "events" | "listeners" | "health"
            | "operations",
        ]
        | ["v1", "instances", _]
        | [
            "v1",
            "instances",
            _,
            "claim" | "release" | "metadata-options",
        ]
        | ["metrics"] => Refusal::new(
            405,
            "MethodNotAllowed",
            format!("{method} is not allowed for this path; docs/admin.md lists the requests"),
        ),
        _ => Refusal::new(
            404,
            "NotFound",
            "there is no such path; docs/admin.md lists them",
        ),
    }
}
