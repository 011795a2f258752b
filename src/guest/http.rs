//! Between the HTTP library's types and ours: heads come in, replies go out. No rule lives here.

use bytes::Bytes;
use http_body_util::Full;
use hyper::ext::ReasonPhrase;
use hyper::http::request::Parts;
use hyper::http::{HeaderName, HeaderValue, Version};
use hyper::{Response, StatusCode};

use super::Guest;
use super::reply::{Answer, Reply};
use super::request::{Body, HttpVersion, RawRequest};
use crate::clock::Moment;
use crate::instance::HopLimit;
use crate::origin::Origin;

impl Guest {
    /// [`Guest::handle`] for a parsed head. Returns the response and the hop limit its packets must have; `None` is silence.
    pub fn respond(
        &self,
        origin: &Origin,
        head: &Parts,
        body: Body,
        now: Moment,
    ) -> Option<(Response<Full<Bytes>>, Option<HopLimit>)> {
        let target = head.uri.to_string();
        let raw = RawRequest {
            method: head.method.as_str(),
            // An absolute target prints as it was sent, and so does a path; only the authority form has neither.
            target: &target,
            version: if head.version == Version::HTTP_10 {
                HttpVersion::Http10
            } else {
                HttpVersion::Http11
            },
            headers: head
                .headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_bytes())),
            body,
        };
        match self.handle(origin, raw, now) {
            Answer::Reply(reply) => {
                let hop_limit = reply.hop_limit;
                Some((response(reply), hop_limit))
            }
            Answer::Silence => None,
        }
    }
}

fn response(reply: Reply) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(reply.body));
    *response.status_mut() =
        StatusCode::from_u16(reply.status).expect("replies have real statuses");
    if let Some(reason) = reply.reason {
        response
            .extensions_mut()
            .insert(ReasonPhrase::from_static(reason.as_bytes()));
    }
    for (name, value) in reply.headers {
        let name: HeaderName = name.parse().expect("reply header names are constants");
        let value = HeaderValue::try_from(value.as_ref())
            .expect("reply header values are dates, numbers and constants");
        response.headers_mut().append(name, value);
    }
    response
}
