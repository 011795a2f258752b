//! The EC2 API for operators: reads and changes instances for callers who sign with Signature Version 4.
//!
//! ```text
//! bytes ─► signature ─► parameters ─► action ─► typed input ─► policy ─► state ─► DryRun? ─► registry ─► XML
//! ```
//!
//! Served, by GET and POST on one port: the EC2 Query API in version 2016-11-15 as far as [`actions`] lists it,
//! GetCallerIdentity of STS, and SendSSHPublicKey of EC2 Instance Connect. Everything else is refused, in the form that
//! SDKs of the service read. This module has no sockets; whoever has them collects the body, at most [`MAX_BODY_BYTES`]
//! bytes of it, and answers [`too_large`] beyond that, and [`without_length`] where its length is not said.

mod access_keys;
mod actions;
mod error;
mod filters;
mod pages;
mod params;
mod policy;
mod reply;
mod service;
#[cfg(test)]
mod tests;
mod xml;

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body_util::Full;
use hyper::http::request::Parts;
use hyper::{Method, Response};

use crate::clock::Moment;
pub use crate::control::access_keys::AccessKeys;
use crate::registry::Registry;
use crate::sigv4::{self, AuthError, HttpRequest, Regions, Scope, Signer};
use actions::{Action, Call, Caller};
use error::{Code, Ec2Error};
use params::Parameters;
use reply::RequestId;
use service::Service;
use xml::Document;

/// The most bytes a request's body may have.
pub const MAX_BODY_BYTES: usize = 65_536;

/// The EC2 endpoint of one host.
pub struct Control {
    registry: Arc<Registry>,
    keys: ArcSwap<AccessKeys>,
    regions: Regions,
}

impl Control {
    /// An endpoint over `registry` for callers who have one of `keys` and sign for one of `regions`.
    pub fn new(registry: Arc<Registry>, keys: AccessKeys, regions: Regions) -> Control {
        Control {
            registry,
            keys: ArcSwap::from_pointee(keys),
            regions,
        }
    }

    /// Other keys, with their rules, for every request that begins from here on. One that has begun ends under the old.
    pub fn replace_keys(&self, keys: AccessKeys) {
        self.keys.store(Arc::new(keys));
    }

    /// Answers one request. Every answer, a refusal included, is logged here and nowhere else.
    pub async fn answer(&self, head: &Parts, body: &[u8], now: Moment) -> Response<Full<Bytes>> {
        let request_id = RequestId::random();
        if !matches!(head.method, Method::GET | Method::POST) {
            tracing::debug!(%request_id, "control: refused: neither GET nor POST");
            return reply::wrong_method(&request_id, now);
        }
        // Nobody's parameters are looked at before it is known whose they are.
        let keys = self.keys.load_full();
        let verified = match self.authenticate(&keys, head, body, now) {
            Ok(verified) => verified,
            Err(error) => {
                tracing::debug!(%request_id, code = error.code(), "control: refused: {error}");
                return reply::unauthenticated(Service::seems(head), &error, &request_id, now);
            }
        };
        let caller = Caller::new(&keys, &verified, head);
        let call = Call {
            registry: &self.registry,
            regions: &self.regions,
            caller,
            request_id: &request_id,
            now,
        };
        let mut action = None;
        let outcome = perform(&call, &verified, head, body, &mut action).await;
        let service = action.map_or_else(|| Service::seems(head), Action::service);
        let action = action.map_or("none", Action::as_str);
        let code = outcome
            .as_ref()
            .map_or_else(|error| error.code.as_str(), |_| "OK");
        tracing::info!(%request_id, action, access_key_id = verified.access_key_id, code, "control: answered");
        match outcome {
            Ok(document) => reply::success(service, document, &request_id, now),
            Err(error) => reply::refused(service, &error, &request_id, now),
        }
    }

    fn authenticate(
        &self,
        keys: &AccessKeys,
        head: &Parts,
        body: &[u8],
        now: Moment,
    ) -> Result<Signer, AuthError> {
        let request = HttpRequest {
            method: head.method.as_str(),
            path: head.uri.path(),
            query: head.uri.query().unwrap_or(""),
            headers: &head.headers,
            body,
        };
        let scope = Scope {
            regions: &self.regions,
            services: &Service::SCOPES,
        };
        sigv4::verify(&request, |id| keys.find(id), &scope, now.wall)
    }
}

/// Carries a call out. `action` is set as soon as it is known, for the log and for the form of the answer.
async fn perform(
    call: &Call<'_>,
    verified: &Signer,
    head: &Parts,
    body: &[u8],
    action: &mut Option<Action>,
) -> Result<Document, Ec2Error> {
    let query = head.uri.query().unwrap_or("");
    let (asked, input) = match head.headers.get(service::TARGET) {
        Some(target) => {
            let target = target.to_str().unwrap_or("");
            // The body is JSON; of the query only what signatures put there is left to have.
            Parameters::read(query, b"")?.finish()?;
            (Action::of_target(target)?, actions::Input::Json(body))
        }
        None => {
            // The query and the body are one set of parameters: boto3 presigns a POST with all of them in the query.
            let mut parameters = Parameters::read(query, body)?;
            (
                Action::read(&mut parameters)?,
                actions::Input::Parameters(parameters),
            )
        }
    };
    *action = Some(asked);
    if verified.service != asked.service().as_str() {
        return Err(asked.service().wrong_scope());
    }
    asked.perform(input, call).await
}

/// The answer to a body of more than [`MAX_BODY_BYTES`] bytes. It was not read, so nobody knows who sent it.
pub fn too_large(now: Moment) -> Response<Full<Bytes>> {
    let error = Ec2Error::new(
        Code::RequestEntityTooLarge,
        format!("A request has at most {MAX_BODY_BYTES} bytes."),
    );
    reply::refused(Service::Ec2, &error, &RequestId::random(), now)
}

/// The answer to a body that came in pieces, whose length nobody said.
pub fn without_length(now: Moment) -> Response<Full<Bytes>> {
    let error = Ec2Error::new(
        Code::MissingContentLength,
        "A request with a body needs the header Content-Length.",
    );
    reply::refused(Service::Ec2, &error, &RequestId::random(), now)
}
