//! The host operator's own door: HTTP/1.1 and JSON over a Unix socket, for `imdsd instance` and its kin, and for curl.
//!
//! ```text
//! curl --unix-socket /run/imdsd/admin.sock http://localhost/v1/instances
//! ```
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /v1/instances` | every instance in a few words |
//! | `GET /v1/instances/ID` | one instance's document, its generation as `ETag` |
//! | `PUT /v1/instances/ID` | takes in one document; with `If-Match: GENERATION` only if nobody changed it since |
//! | `DELETE /v1/instances/ID` | removes the instance with its record |
//! | `POST /v1/instances` | takes in several: a document, or `{"Documents": [{"File": …, "Text": …}]}` |
//! | `GET /v1/export` | every instance's document, as one that `POST /v1/instances` takes back |
//! | `POST /v1/reload` | reads the documents and access keys of the configuration again |
//! | `POST /v1/explain` | which instance an origin is, and what a request from there would be answered |
//! | `POST /v1/events` | lets something happen: `{"Targets": …, "Request": …}` or `{"Scenario": {"File": …, "Text": …}}` |
//! | `GET /v1/events` | what is in force and what is still to come, for each instance that has some |
//! | `GET /v1/listeners` | each way in: open, waiting for its link, or refused and why |
//! | `GET /v1/health`, `GET /metrics` | a few counts, as JSON and for Prometheus |
//!
//! Parameters of the query: `secrets=shown` on what shows documents, `relaunch=true` and `dry-run=true` on what takes
//! them in. A refusal is `{"Code": …, "Message": …}`, with `Faults` where documents have some; nothing is changed then,
//! unless it is a 500: the store failed, and the message says what may be changed.
//!
//! Who may call is decided by [`socket`], before this is asked. The door belongs to whoever runs the host: the policies of
//! access keys and the account's HttpTokensEnforced bind the EC2 API, not it. It knows neither of the other two planes. What
//! it needs of them comes as a [`DaemonView`].

pub mod client;
mod events;
mod explain;
mod instances;
mod metrics;
pub mod socket;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{CONTENT_TYPE, ETAG, HeaderValue};
use serde::Serialize;
use serde_json::{Value, json};
use tracing::info;

use crate::clock::Moment;
use crate::document::export::Secrets;
use crate::fault::{Fault, FieldFault};
use crate::instance::{Instance, InstanceId};
use crate::net::status::ListenersStatus;
use crate::origin::Family;
use crate::registry::{Entry, PartialEffect, Registry, StoreError, StoredState};

/// What this plane asks of the daemon around it.
pub trait DaemonView: Send + Sync {
    /// What keeps an instance from being served by this daemon: fields and sentences, as for a document at its start.
    fn faults(&self, instance: &Instance) -> Vec<FieldFault>;

    /// What the data plane would answer to a request for an instance.
    fn predict(
        &self,
        entry: &Entry,
        family: Family,
        asked: &ExplainedRequest,
        now: Moment,
    ) -> PredictedReply;

    /// Reads again what may change while the daemon runs. On any fault in what is read nothing is changed.
    fn reload(&self) -> Pin<Box<dyn Future<Output = Result<ReloadReport, Vec<Fault>>> + Send>>;

    /// How many connections guests have.
    fn connections(&self) -> usize;
}

/// A request that somebody asks about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainedRequest {
    /// `GET`
    pub method: String,
    /// `/latest/meta-data/`
    pub path: String,
    /// Header lines, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Whether it has a body.
    pub has_body: bool,
}

/// What the data plane would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PredictedReply {
    /// The status of the answer; `None` where there is none.
    pub status: Option<u16>,
    /// By which rule.
    pub rule: String,
}

/// What came of a reload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ReloadReport {
    /// Instances that are new.
    pub registered: Vec<InstanceId>,
    /// Instances that are as they were.
    pub unchanged: Vec<InstanceId>,
    /// Instances whose document was edited since it was put. The stored one stays in force.
    pub edited: Vec<InstanceId>,
    /// Instances that were terminated, and stay so.
    pub terminated: Vec<InstanceId>,
    /// Instances whose record can't be read, and which stay unserved.
    pub unreadable: Vec<InstanceId>,
    /// Instances that are new and could not be stored. They are not served before they are, which is tried over and
    /// over.
    pub not_stored: Vec<StoreFailure>,
    /// How many access keys are in force; `None` without a control endpoint of such.
    pub access_keys: Option<usize>,
}

/// An instance that could not be stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct StoreFailure {
    /// Which.
    pub instance_id: InstanceId,
    /// What failed.
    pub reason: String,
}

/// The operator's plane.
pub struct AdminApi {
    registry: Arc<Registry>,
    listeners: Arc<ArcSwap<ListenersStatus>>,
    daemon: Arc<dyn DaemonView>,
}

/// One request.
pub struct AdminRequest<'a> {
    /// Who asks, by the kernel's word.
    pub uid: Option<u32>,
    /// `GET`
    pub method: &'a str,
    /// `/v1/instances`
    pub path: &'a str,
    /// Behind the question mark.
    pub query: &'a str,
    /// `If-Match`
    pub if_match: Option<&'a str>,
    /// The body.
    pub body: Bytes,
}

/// An answer that is not a refusal.
enum Answer {
    Json(Value),
    /// One instance's document, and the generation it is of.
    Document(Value, u64),
    Metrics(String),
}

/// What an answer says was done, for the log.
#[derive(Default)]
struct Done {
    /// To which instances.
    instances: Option<String>,
    /// Which changes their events are; nothing of what is in them.
    events: Option<String>,
}

/// Why nothing was done.
#[derive(Debug)]
pub struct Refusal {
    status: u16,
    code: &'static str,
    message: String,
    faults: Vec<Fault>,
}

impl AdminApi {
    /// Over a registry, the listeners in as they are published, and what else the daemon is.
    pub fn new(
        registry: Arc<Registry>,
        listeners: Arc<ArcSwap<ListenersStatus>>,
        daemon: Arc<dyn DaemonView>,
    ) -> AdminApi {
        AdminApi {
            registry,
            listeners,
            daemon,
        }
    }

    /// Answers one request.
    pub async fn answer(self: &Arc<AdminApi>, call: AdminRequest<'_>) -> Response<Full<Bytes>> {
        let (uid, method) = (call.uid, call.method.to_string());
        let (path, query) = (call.path.to_string(), call.query.to_string());
        let outcome = self.perform(call).await;
        let (response, status, done) = match outcome {
            Ok(answer) => {
                let done = answer.in_a_few_words();
                (answer.response(), 200, done)
            }
            Err(refusal) => {
                let status = refusal.status;
                (refusal.response(), status, Done::default())
            }
        };
        // Whoever looks for who changed something, or has seen secrets, looks here.
        if method != "GET" || query.contains("secrets=shown") {
            let Done { instances, events } = done;
            info!(
                uid,
                method, path, query, status, instances, events, "admin: answered"
            );
        }
        response
    }

    async fn perform(self: &Arc<AdminApi>, call: AdminRequest<'_>) -> Result<Answer, Refusal> {
        let segments: Vec<&str> = call.path.trim_start_matches('/').split('/').collect();
        let mut query = Query::read(call.query)?;
        match (call.method, segments.as_slice()) {
            ("GET", ["v1", "instances"]) => {
                query.finish()?;
                Ok(Answer::Json(instances::list(&self.registry.snapshot())))
            }
            ("GET", ["v1", "instances", id]) => {
                let (id, secrets) = (instance_id(id)?, query.secrets()?);
                query.finish()?;
                instances::get(&self.registry, &id, secrets)
            }
            ("PUT", ["v1", "instances", id]) => {
                let expected = call.if_match.map(generation).transpose()?;
                let put = instances::Put {
                    only: Some(instance_id(id)?),
                    generation: expected,
                    relaunch: query.flag("relaunch")?,
                    dry_run: query.flag("dry-run")?,
                };
                query.finish()?;
                instances::put(self, put, call.body).await
            }
            ("POST", ["v1", "instances"]) => {
                let put = instances::Put {
                    only: None,
                    generation: call.if_match.map(generation).transpose()?,
                    relaunch: query.flag("relaunch")?,
                    dry_run: query.flag("dry-run")?,
                };
                query.finish()?;
                instances::put(self, put, call.body).await
            }
            ("DELETE", ["v1", "instances", id]) => {
                query.finish()?;
                let expected = call.if_match.map(generation).transpose()?;
                instances::delete(&self.registry, &instance_id(id)?, expected).await
            }
            ("GET", ["v1", "export"]) => {
                let secrets = query.secrets()?;
                query.finish()?;
                Ok(Answer::Json(instances::export(
                    &self.registry.snapshot(),
                    secrets,
                )))
            }
            ("POST", ["v1", "reload"]) => {
                query.finish()?;
                let reloaded = self.daemon.reload().await.map_err(Refusal::faulty)?;
                Ok(Answer::Json(
                    serde_json::to_value(reloaded).expect("plain data"),
                ))
            }
            ("POST", ["v1", "explain"]) => {
                query.finish()?;
                explain::explain(self, &call.body, Moment::now())
            }
            ("GET", ["v1", "events"]) => {
                query.finish()?;
                Ok(Answer::Json(events::list(
                    &self.registry.snapshot(),
                    Moment::now().wall,
                )))
            }
            ("POST", ["v1", "events"]) => {
                query.finish()?;
                events::happen(self, &call.body, Moment::now().wall).await
            }
            ("GET", ["v1", "listeners"]) => {
                query.finish()?;
                Ok(Answer::Json(self.listeners()))
            }
            ("GET", ["v1", "health"]) => Ok(Answer::Json(metrics::health(self))),
            ("GET", ["metrics"]) => Ok(Answer::Metrics(metrics::text(self))),
            (
                _,
                [
                    "v1",
                    "instances" | "export" | "reload" | "explain" | "events" | "listeners"
                    | "health",
                ]
                | ["v1", "instances", _]
                | ["metrics"],
            ) => Err(Refusal::new(
                405,
                "MethodNotAllowed",
                format!("{} is not taken there", call.method),
            )),
            _ => Err(Refusal::new(
                404,
                "NotFound",
                "there is no such path; docs/admin.md lists them",
            )),
        }
    }

    fn listeners(&self) -> Value {
        let published = self.listeners.load();
        let unserved: Vec<Value> = published.unserved.iter().map(unserved).collect();
        json!({ "ListenersStatus": published.listeners, "Unserved": unserved })
    }
}

fn unserved((attachment, reason): &(crate::instance::Attachment, String)) -> Value {
    json!({ "Attachment": attachment.to_string(), "Reason": reason })
}

/// The parameters of a query, each taken once.
struct Query<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Query<'a> {
    fn read(text: &'a str) -> Result<Query<'a>, Refusal> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let pairs: Vec<_> = pairs
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .collect();
        match pairs
            .iter()
            .enumerate()
            .find(|(index, (name, _))| pairs[..*index].iter().any(|(other, _)| other == name))
        {
            Some((_, (name, _))) => Err(Refusal::invalid(format!(
                "the parameter '{name}' stands twice"
            ))),
            None => Ok(Query(pairs)),
        }
    }

    fn take(&mut self, name: &str) -> Option<&'a str> {
        let place = self.0.iter().position(|(other, _)| *other == name)?;
        Some(self.0.remove(place).1)
    }

    fn flag(&mut self, name: &str) -> Result<bool, Refusal> {
        match self.take(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(Refusal::invalid(format!(
                "'{name}' is true or false, not '{other}'"
            ))),
        }
    }

    fn secrets(&mut self) -> Result<Secrets, Refusal> {
        match self.take("secrets") {
            None => Ok(Secrets::LeftOut),
            Some("shown") => Ok(Secrets::Shown),
            Some(other) => Err(Refusal::invalid(format!(
                "'secrets' is shown, not '{other}'"
            ))),
        }
    }

    fn finish(self) -> Result<(), Refusal> {
        match self.0.first() {
            Some((name, _)) => Err(Refusal::invalid(format!(
                "there is no parameter '{name}' here"
            ))),
            None => Ok(()),
        }
    }
}

fn instance_id(text: &str) -> Result<InstanceId, Refusal> {
    let wrong = || {
        Refusal::invalid(format!(
            "an instance id is i- and 8 or 17 hexadecimal digits, not '{text}'"
        ))
    };
    InstanceId::parse(text).ok_or_else(wrong)
}

/// The number alone, or in the quotes of an entity tag.
fn generation(text: &str) -> Result<u64, Refusal> {
    let number = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .unwrap_or(text);
    number
        .parse()
        .map_err(|_| Refusal::invalid(format!("If-Match is a generation, 7 say, not {text}")))
}

impl Answer {
    fn in_a_few_words(&self) -> Done {
        let Answer::Json(value) = self else {
            return Done::default();
        };
        let joined = |words: Vec<&str>| (!words.is_empty()).then(|| words.join(" "));
        let each = |field: &str| value[field].as_array().into_iter().flatten();
        let instances = each("Instances")
            .filter_map(|of| of["InstanceId"].as_str())
            .collect();
        let kinds =
            each("Steps").filter_map(|step| Some(step["Set"].as_object()?.keys().next()?.as_str()));
        Done {
            instances: joined(instances),
            events: joined(kinds.collect()),
        }
    }

    fn response(self) -> Response<Full<Bytes>> {
        match self {
            Answer::Json(value) => json_response(200, &value),
            Answer::Document(value, generation) => {
                let mut response = json_response(200, &value);
                let tag =
                    HeaderValue::try_from(format!("\"{generation}\"")).expect("digits in quotes");
                response.headers_mut().insert(ETAG, tag);
                response
            }
            Answer::Metrics(text) => {
                let mut response = Response::new(Full::from(text));
                let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                response.headers_mut().insert(CONTENT_TYPE, kind);
                response
            }
        }
    }
}

fn json_response(status: u16, value: &Value) -> Response<Full<Bytes>> {
    let mut text = serde_json::to_string_pretty(value).expect("plain JSON data");
    text.push('\n');
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = hyper::StatusCode::from_u16(status).expect("a real status");
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

impl Refusal {
    fn new(status: u16, code: &'static str, message: impl Into<String>) -> Refusal {
        Refusal {
            status,
            code,
            message: message.into(),
            faults: Vec::new(),
        }
    }

    fn invalid(message: impl Into<String>) -> Refusal {
        Refusal::new(400, "InvalidRequest", message)
    }

    fn unknown(id: &InstanceId) -> Refusal {
        Refusal::new(
            404,
            "InvalidInstanceID.NotFound",
            format!("there is no instance {id}; `imdsd instance list` has them"),
        )
    }

    fn faulty(faults: Vec<Fault>) -> Refusal {
        let count = faults.len();
        let message = match count {
            1 => "a fault; nothing was changed".to_string(),
            _ => format!("{count} faults; nothing was changed"),
        };
        Refusal {
            faults,
            ..Refusal::new(422, "InvalidDocument", message)
        }
    }

    fn store(error: &StoreError, what: &str) -> Refusal {
        tracing::error!("admin: {what}: {error}");
        Refusal::new(500, "InternalError", format!("{error}; {what}"))
    }

    /// A store that failed in the middle; `some` says which instances may be changed.
    fn half_stored(error: &StoreError, changed: PartialEffect, some: &str) -> Refusal {
        match (changed, error.stored) {
            (PartialEffect::None, _) => Refusal::store(error, "nothing was changed"),
            (PartialEffect::Possible, StoredState::Previous) => Refusal::store(error, some),
            (PartialEffect::Possible, StoredState::Unknown) => {
                let unsure = "the instance that could not be stored is served to nobody until it is known what is stored";
                Refusal::store(error, &format!("{unsure}; {some}"))
            }
        }
    }

    /// The answer to who may not call.
    fn stranger(uid: Option<u32>) -> Refusal {
        let who = uid.map_or("a user whom the kernel does not name".to_string(), |uid| {
            format!("user {uid}")
        });
        let message = format!(
            "{who} may not; root, imdsd's own user and those in admin.users of the configuration may"
        );
        Refusal::new(403, "UnauthorizedOperation", message)
    }

    fn response(self) -> Response<Full<Bytes>> {
        let mut value = json!({ "Code": self.code, "Message": self.message });
        if !self.faults.is_empty() {
            let fault = |fault: &Fault| {
                let Fault {
                    file,
                    line,
                    field,
                    message,
                } = fault;
                json!({ "File": file.display().to_string(), "Line": line, "Field": field, "Message": message })
            };
            value["Faults"] = self.faults.iter().map(fault).collect();
        }
        json_response(self.status, &value)
    }
}
