//! The EC2 API for operators: reads and changes instances for callers who sign with Signature
//! Version 4.
//!
//! ```text
//! bytes ─► signature ─► parameters ─► action ─► typed input ─► policy ─► state ─► DryRun? ─► registry ─► XML
//! ```
//!
//! GET and POST on one port serve the EC2 Query API, version 2016-11-15 and older ones, with the
//! actions in the table of `action.rs`; GetCallerIdentity of STS; and SendSSHPublicKey of EC2 Instance Connect.
//! Everything else is refused, in the format that the service's SDKs read. This module has no
//! sockets: its caller collects the body, at most [`MAX_BODY_BYTES`] bytes, and replies with
//! [`too_large`] beyond that, with [`without_length`] to a body without Content-Length, and with
//! [`unreadable`] to what is not a complete request.
//!
//! | step | file |
//! |---|---|
//! | access keys, accounts and rules | `access_keys.rs`, `policy/` |
//! | actions | `action.rs` (the table), `api_version.rs`, `operation.rs` (what an action provides), `actions/` |
//! | call and caller | `call.rs`, `caller.rs` |
//! | input | `params.rs`, `syntax.rs`, `filters.rs`, `pages.rs`, `instance_list.rs`, `images.rs`, `checks.rs` |
//! | reply | `reply.rs`, `service.rs`, `error.rs`, `xml.rs`, `render.rs`, `instance_xml.rs`, `request_id.rs` |

mod access_keys;
mod action;
mod actions;
mod api_version;
mod call;
mod caller;
mod checks;
mod error;
mod filters;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod images;
mod instance_list;
mod instance_xml;
mod launch_options;
mod operation;
mod pages;
mod params;
mod policy;
mod render;
mod reply;
mod request_id;
mod resource_list;
mod service;
mod syntax;
#[cfg(test)]
mod tests;
mod xml;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body_util::Full;
use hyper::http::request::Parts;
use hyper::{Method, Response};

use crate::audit::AuditedCall;
use crate::clock::Moment;
pub(crate) use crate::control::access_keys::AccessKeys;
use crate::http::UnreadableRequest;
use crate::refusals::Refusals;
use crate::registry::Registry;
pub(crate) use crate::sigv4::access_key_file::FileKeys;
use crate::sigv4::{self, AuthError, HttpRequest, Regions, Scope, Signer};
use action::Action;
use call::ApiCall;
use caller::Caller;
use error::{Code, Ec2Error};
use operation::Input;
use params::Parameters;
use request_id::RequestId;
use service::AwsService;
use xml::ResponseBody;

/// The maximum size of a request body.
pub(crate) const MAX_BODY_BYTES: usize = 65_536;

/// The EC2 endpoint of a host.
pub(crate) struct Control {
    registry: Arc<Registry>,
    keys: ArcSwap<AccessKeys>,
    regions: Regions,
    refusals: Arc<Refusals>,
}

impl Control {
    /// Returns an endpoint for callers who have one of `keys` and sign for one of `regions`.
    pub(crate) fn new(registry: Arc<Registry>, keys: AccessKeys, regions: Regions) -> Control {
        Control {
            registry,
            keys: ArcSwap::from_pointee(keys),
            regions,
            refusals: Arc::default(),
        }
    }

    /// Replaces the keys and their rules for all later requests. A request in progress ends under
    /// the old ones.
    pub(crate) fn replace_keys(&self, keys: AccessKeys) {
        self.keys.store(Arc::new(keys));
    }

    /// Keeps of the keys and their rules only those whose ids are in the set, like
    /// [`Control::replace_keys`].
    pub(crate) fn keep_keys(&self, ids: &HashSet<String>) {
        self.keys.rcu(|keys| keys.only(ids));
    }

    /// Returns the number of keys that callers can sign with.
    pub(crate) fn key_count(&self) -> usize {
        self.keys.load().count()
    }

    /// Handles one request. All replies, including refusals, are logged here and nowhere else.
    pub(crate) async fn answer(
        &self,
        head: &Parts,
        body: &[u8],
        now: Moment,
    ) -> Response<Full<Bytes>> {
        let request_id = RequestId::random();
        if !matches!(head.method, Method::GET | Method::POST) {
            tracing::debug!(%request_id, "control: refused: neither GET nor POST");
            return reply::wrong_method(&request_id, now);
        }
        // Parameters are not parsed before the caller is authenticated.
        let keys = self.keys.load_full();
        let verified = match self.authenticate(&keys, head, body, now) {
            Ok(verified) => verified,
            Err(error) => {
                self.log_unauthenticated(&error, head, body, &request_id, now);
                return reply::unauthenticated(AwsService::guess(head), &error, &request_id, now);
            }
        };
        let caller = caller(&keys, &verified, head);
        let trail = Arc::clone(&caller.trail);
        let call = ApiCall {
            registry: &self.registry,
            regions: &self.regions,
            caller,
            request_id: &request_id,
            now,
        };
        let mut action = None;
        let outcome = perform(&call, &verified, head, body, &mut action).await;
        let service = action.map_or_else(|| AwsService::guess(head), Action::service);
        let action = action.map_or("none", Action::name);
        let code = outcome
            .as_ref()
            .map_or_else(|error| error.code.as_str(), |_| "OK");
        if matches!(&outcome, Err(error) if error.code == Code::UnauthorizedOperation) {
            // The audit line is the log of it.
            self.refusals.count("policy", now.since_boot);
        }
        let audited = AuditedCall {
            api: "ec2",
            action,
            access_key_id: Some(&verified.access_key_id),
            uid: None,
            peer: &peer_of(head),
            outcome: code,
            request_id: Some(&request_id.to_string()),
        };
        audited.log(&trail);
        match outcome {
            Ok(body) => reply::success(service, body, &request_id, now),
            Err(error) => reply::refused(service, &error, &request_id, now),
        }
    }

    /// Returns how many callers were refused since the start, by reason.
    pub(crate) fn refusals(&self) -> &Arc<Refusals> {
        &self.refusals
    }

    /// Counts a request without a valid signature, and logs it unless there were many. The key id
    /// is what the caller claims.
    fn log_unauthenticated(
        &self,
        error: &AuthError,
        head: &Parts,
        body: &[u8],
        request_id: &RequestId,
        now: Moment,
    ) {
        let reason = error.reason();
        let Some(unlogged) = self.refusals.count(reason, now.since_boot) else {
            tracing::debug!(%request_id, reason, "control: refused: {error}");
            return;
        };
        let access_key_id = sigv4::claimed_key_id(&http_request(head, body));
        tracing::warn!(
            reason,
            access_key_id,
            peer = peer_of(head).as_str(),
            unlogged,
            %request_id,
            "control: refused a request: {error}"
        );
    }

    fn authenticate(
        &self,
        keys: &AccessKeys,
        head: &Parts,
        body: &[u8],
        now: Moment,
    ) -> Result<Signer, AuthError> {
        let request = http_request(head, body);
        let scope = Scope {
            regions: &self.regions,
            services: &AwsService::SCOPES,
        };
        sigv4::verify(&request, |id| keys.find(id), &scope, now.wall)
    }
}

/// Returns a request as the verifier reads it.
fn http_request<'r>(head: &'r Parts, body: &'r [u8]) -> HttpRequest<'r> {
    HttpRequest {
        method: head.method.as_str(),
        path: head.uri.path(),
        query: head.uri.query().unwrap_or(""),
        headers: &head.headers,
        body,
    }
}

/// Returns the address of the caller, for the log.
fn peer_of(head: &Parts) -> String {
    let peer = head.extensions.get::<SocketAddr>();
    peer.map_or_else(|| "unknown".to_string(), SocketAddr::to_string)
}

/// Returns the caller whose key signed the request.
fn caller(keys: &AccessKeys, verified: &Signer, head: &Parts) -> Caller {
    let grant = keys
        .grant(&verified.access_key_id)
        .expect("the key that signed was found in these keys");
    let host = head
        .headers
        .get("host")
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    Caller {
        access_key_id: verified.access_key_id.clone(),
        account: grant.account.clone(),
        region: verified.region.clone(),
        endpoint: host.to_string(),
        policy: Arc::clone(&grant.policy),
        trail: Arc::default(),
    }
}

/// Carries a call out. Sets `action` as soon as it is known, for the log and the format of the
/// reply.
async fn perform(
    call: &ApiCall<'_>,
    verified: &Signer,
    head: &Parts,
    body: &[u8],
    action: &mut Option<Action>,
) -> Result<ResponseBody, Ec2Error> {
    let query = head.uri.query().unwrap_or("");
    let (requested, version, parameters) = match head.headers.get(service::TARGET) {
        Some(target) => {
            let target = target.to_str().unwrap_or("");
            // The body is JSON. The query can only have the parameters of a signature.
            Parameters::read(query, b"")?.finish()?;
            (Action::from_target(target)?, None, Parameters::default())
        }
        None => {
            // Query and body form one set of parameters: boto3 presigns a POST with all of them in
            // the query.
            let mut parameters = Parameters::read(query, body)?;
            let (action, version) = Action::from_parameters(&mut parameters)?;
            (action, Some(version), parameters)
        }
    };
    *action = Some(requested);
    if verified.service != requested.service().as_str() {
        return Err(requested.service().wrong_scope());
    }
    let reply = actions::perform(requested, Input { parameters, body }, call).await?;
    Ok(match (requested.service(), version) {
        (AwsService::Ec2, Some(version)) => reply.in_version(version),
        _ => reply,
    })
}

/// Returns the reply to a body of more than [`MAX_BODY_BYTES`] bytes. It was not read, so the
/// caller is unknown.
pub(crate) fn too_large(now: Moment) -> Response<Full<Bytes>> {
    let error = Ec2Error::new(
        Code::RequestEntityTooLarge,
        format!("A request has at most {MAX_BODY_BYTES} bytes."),
    );
    reply::refused(AwsService::Ec2, &error, &RequestId::random(), now)
}

/// Returns the reply to a body without Content-Length.
pub(crate) fn without_length(now: Moment) -> Response<Full<Bytes>> {
    let error = Ec2Error::new(
        Code::MissingContentLength,
        "A request with a body needs the header Content-Length.",
    );
    reply::refused(AwsService::Ec2, &error, &RequestId::random(), now)
}

/// Returns the reply to a request that cannot be read.
pub(crate) fn unreadable(reason: UnreadableRequest, now: Moment) -> Response<Full<Bytes>> {
    let (code, message) = match reason {
        UnreadableRequest::Syntax => (
            Code::MalformedHttpRequest,
            "The request is not a valid HTTP/1.1 request.",
        ),
        UnreadableRequest::TimedOut => (
            Code::RequestTimeout,
            "The request was not completely received in time.",
        ),
        UnreadableRequest::TargetTooLong => (
            Code::RequestUriTooLong,
            "The target of the request is too long; send the parameters in the body of a POST.",
        ),
        UnreadableRequest::HeadTooLarge => (
            Code::RequestHeaderSectionTooLarge,
            "The headers of the request are too large.",
        ),
    };
    let error = Ec2Error::new(code, message);
    reply::refused(AwsService::Ec2, &error, &RequestId::random(), now)
}
