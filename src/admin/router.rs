//! Maps each request to its handler, answers it and logs what changed.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use tracing::info;

use super::api::AdminApi;
use super::put::PutOptions;
use super::refusal::Refusal;
use super::reply::{AdminReply, LoggedChange};
use super::request::{AdminRequest, Query, generation, instance_id};
use super::{claim, events, explain, health, instances, listeners, metrics, put, set_options};
use crate::clock::Moment;
use crate::instance::InstanceId;

impl AdminApi {
    /// Answers one request.
    pub(super) async fn respond(
        self: &Arc<AdminApi>,
        request: AdminRequest<'_>,
    ) -> Response<Full<Bytes>> {
        let (uid, method) = (request.uid, request.method.to_string());
        let (path, query) = (request.path.to_string(), request.query.to_string());
        let (response, status, change) = match self.route(request).await {
            Ok(reply) => {
                let change = reply.logged_change();
                (reply.into_response(), 200, change)
            }
            Err(refusal) => {
                let status = refusal.status;
                (refusal.into_response(), status, LoggedChange::default())
            }
        };
        // The log names the user for everything that changes an instance or shows secrets.
        if method != "GET" || query.contains("secrets=shown") {
            let LoggedChange { instances, events } = change;
            info!(
                uid,
                method, path, query, status, instances, events, "admin: answered"
            );
        }
        response
    }

    async fn route(self: &Arc<AdminApi>, request: AdminRequest<'_>) -> Result<AdminReply, Refusal> {
        let path: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
        let mut query = Query::parse(request.query)?;
        match (request.method, path.as_slice()) {
            ("GET", ["v1", "instances"]) => {
                query.finish()?;
                Ok(AdminReply::Json(instances::list(&self.registry.snapshot())))
            }
            ("GET", ["v1", "instances", id]) => {
                let (id, secrets) = (instance_id(id)?, query.secrets()?);
                query.finish()?;
                instances::get(&self.registry, &id, secrets)
            }
            ("PUT", ["v1", "instances", id]) => {
                let id = Some(instance_id(id)?);
                let options = put_options(id, request.if_match, query)?;
                put::put(self, options, request.body).await
            }
            ("POST", ["v1", "instances"]) => {
                let options = put_options(None, request.if_match, query)?;
                put::put(self, options, request.body).await
            }
            ("POST", ["v1", "instances", id, "claim"]) => {
                query.finish()?;
                let (id, expected) = (instance_id(id)?, generation(request.if_match)?);
                claim::claim(self, id, expected, &request.body).await
            }
            ("POST", ["v1", "instances", id, "release"]) => {
                query.finish()?;
                let (id, expected) = (instance_id(id)?, generation(request.if_match)?);
                claim::release(self, id, expected, &request.body).await
            }
            ("DELETE", ["v1", "instances", id]) => {
                query.finish()?;
                let expected = generation(request.if_match)?;
                instances::delete(&self.registry, &instance_id(id)?, expected).await
            }
            ("PATCH", ["v1", "instances", id, "metadata-options"]) => {
                query.finish()?;
                let (id, expected) = (instance_id(id)?, generation(request.if_match)?);
                set_options::modify(self, id, expected, &request.body).await
            }
            ("GET", ["v1", "export"]) => {
                let secrets = query.secrets()?;
                query.finish()?;
                let documents = instances::export(&self.registry.snapshot(), secrets);
                Ok(AdminReply::Json(documents))
            }
            ("POST", ["v1", "reload"]) => {
                query.finish()?;
                Ok(AdminReply::Json(self.daemon.reload().await.to_json()))
            }
            ("POST", ["v1", "explain"]) => {
                query.finish()?;
                explain::explain(self, &request.body, Moment::now())
            }
            ("GET", ["v1", "events"]) => {
                query.finish()?;
                let events = events::list(&self.registry.snapshot(), Moment::now().wall);
                Ok(AdminReply::Json(events))
            }
            ("POST", ["v1", "events"]) => {
                query.finish()?;
                events::inject(self, &request.body, Moment::now().wall).await
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
            "instances" | "export" | "reload" | "explain" | "events" | "listeners" | "health",
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
