//! The EC2 Query API: reads and changes instances for callers who sign with Signature Version 4.
//!
//! ```text
//! bytes ─► signature ─► parameters ─► action ─► typed input ─► state ─► DryRun? ─► registry ─► XML
//! ```
//!
//! Served: `ModifyInstanceMetadataOptions` and `DescribeInstances`, by GET and POST, version 2016-11-15. Everything
//! else is refused, in the XML that EC2 SDKs read. This module has no sockets; whoever has them collects the body, at
//! most [`MOST_BODY`] bytes of it, and answers [`too_large`] beyond that.

mod actions;
mod error;
mod filters;
mod keys;
mod params;
mod reply;
#[cfg(test)]
mod tests;
mod xml;

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::http::request::Parts;
use hyper::{Method, Response};

use crate::clock::Moment;
use crate::registry::Registry;
use crate::sigv4::{self, AuthError, HttpRequest, Regions, Scope, Verified};
use actions::Action;
use error::{Code, Ec2Error};
pub use keys::AccessKeys;
use params::Parameters;
use reply::RequestId;
use xml::Document;

/// The most bytes a request's body may have.
pub const MOST_BODY: usize = 65_536;

/// The names that this endpoint has in a credential's scope.
const SERVICES: [&str; 1] = ["ec2"];

/// The EC2 endpoint of one host.
pub struct Control {
    registry: Arc<Registry>,
    keys: AccessKeys,
    regions: Regions,
}

impl Control {
    /// An endpoint over `registry` for callers who have one of `keys` and sign for one of `regions`.
    pub fn new(registry: Arc<Registry>, keys: AccessKeys, regions: Regions) -> Control {
        Control { registry, keys, regions }
    }

    /// Answers one request. Every answer, a refusal included, is logged here and nowhere else.
    pub async fn answer(&self, head: &Parts, body: &[u8], now: Moment) -> Response<Full<Bytes>> {
        let request_id = RequestId::random();
        if !matches!(head.method, Method::GET | Method::POST) {
            tracing::debug!(%request_id, "control: refused: neither GET nor POST");
            return reply::wrong_method(&request_id, now);
        }
        // Nobody's parameters are looked at before it is known whose they are.
        let caller = match self.authenticate(head, body, now) {
            Ok(caller) => caller,
            Err(error) => {
                tracing::debug!(%request_id, code = error.code(), "control: refused: {error}");
                return reply::unauthenticated(&error, &request_id, now);
            }
        };
        let mut action = None;
        let outcome = self.perform(head, body, &mut action, &request_id, now).await;
        let action = action.map_or("none", Action::as_str);
        let code = outcome.as_ref().map_or_else(|error| error.code.as_str(), |_| "OK");
        tracing::info!(%request_id, action, access_key_id = caller.access_key_id, code, "control: answered");
        match outcome {
            Ok(document) => reply::success(document, &request_id, now),
            Err(error) => reply::refused(&error, &request_id, now),
        }
    }

    /// `action` is set as soon as it is known, for the log.
    async fn perform(
        &self,
        head: &Parts,
        body: &[u8],
        action: &mut Option<Action>,
        request_id: &RequestId,
        now: Moment,
    ) -> Result<Document, Ec2Error> {
        // The query and the body are one set of parameters: boto3 presigns a POST with all of them in the query.
        let mut parameters = Parameters::read(head.uri.query().unwrap_or(""), body)?;
        let asked = *action.insert(Action::read(&mut parameters)?);
        asked.perform(parameters, &self.registry, request_id, now).await
    }

    fn authenticate(&self, head: &Parts, body: &[u8], now: Moment) -> Result<Verified, AuthError> {
        let request = HttpRequest {
            method: head.method.as_str(),
            path: head.uri.path(),
            query: head.uri.query().unwrap_or(""),
            headers: &head.headers,
            body,
        };
        let scope = Scope { regions: &self.regions, services: &SERVICES };
        sigv4::verify(&request, |id| self.keys.find(id), &scope, now.wall)
    }
}

/// The answer to a body of more than [`MOST_BODY`] bytes. It was not read, so nobody knows who sent it.
pub fn too_large(now: Moment) -> Response<Full<Bytes>> {
    let error = Ec2Error::new(Code::RequestEntityTooLarge, format!("A request has at most {MOST_BODY} bytes."));
    reply::refused(&error, &RequestId::random(), now)
}
