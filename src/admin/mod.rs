//! The admin API: HTTP/1.1 and JSON over a Unix socket. `imdsd instance`, `imdsd event`,
//! `imdsd reload` and `imdsd listeners` use it, and curl can:
//!
//! ```text
//! curl --unix-socket /run/imdsd/admin.sock http://localhost/v1/instances
//! ```
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /v1/instances` | a summary of every instance |
//! | `GET /v1/instances/ID` | one instance's document, with its generation as `ETag` |
//! | `PUT /v1/instances/ID` | registers or replaces one instance; with `If-Match: GENERATION` only if nothing changed it since |
//! | `POST /v1/instances/ID/claim` | gives attachments to the instance and takes them from others, in one publication |
//! | `POST /v1/instances/ID/release` | takes attachments from the instance, if it still has them |
//! | `DELETE /v1/instances/ID` | removes the instance and its record |
//! | `POST /v1/instances` | registers or replaces several: a document, or `{"Documents": [{"File": …, "Text": …}]}` |
//! | `GET /v1/export` | every instance's document, in one document that `POST /v1/instances` accepts |
//! | `POST /v1/reload` | reads the configured documents and access keys again |
//! | `POST /v1/explain` | which instance an attachment or address belongs to, and how a request would be answered |
//! | `POST /v1/events` | injects events: `{"Targets": …, "Request": …}` or `{"Scenario": {"File": …, "Text": …}}` |
//! | `GET /v1/events` | active and scheduled events of each instance that has some |
//! | `GET /v1/listeners` | each listener: open, waiting for its link, or refused with the reason |
//! | `GET /v1/operations` | the long operations that are under way, and how far each is |
//! | `GET /v1/health`, `GET /metrics` | a few counts, as JSON and for Prometheus |
//!
//! Query parameters: `secrets=shown` where documents are returned; `relaunch=true`, `bind=true`,
//! `force=true` and `dry-run=true` where they are put; `operation=KEY`, under which `GET /v1/operations`
//! lists the request, where it may take long. A refusal is `{"Code": …, "Message": …}`, with `Faults` where
//! documents have some. A refused request changes nothing, except with status 500: the store
//! failed, and the message says what may have changed.
//!
//! The socket (`net::unix`) decides who may call, before this API sees the request. The caller operates the
//! host, so the policies of access keys and the account's HttpTokensEnforced, which bind callers
//! of the EC2 API, do not apply here. This module imports neither of the other two planes: it
//! asks the daemon through [`DaemonView`].

mod api;
mod bind;
mod claim;
pub(crate) mod client;
mod counts;
mod daemon_view;
mod events;
mod explain;
mod fault_json;
mod faults;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod health;
mod instances;
mod listeners;
mod metrics;
mod operations;
mod put;
mod refusal;
mod reply;
mod request;
mod router;
mod service;
mod set_options;
mod targets;
#[cfg(test)]
mod tests;

pub(crate) use api::AdminApi;
pub(crate) use daemon_view::{
    DaemonView, ExplainedRequest, KeptFile, PredictedReply, ReloadReport, StoreFailure,
};
