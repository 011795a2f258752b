//! The admin API behind its Unix socket: `net` calls it for each request.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{HeaderValue, IF_MATCH};
use hyper::http::request::Parts;

use super::api::AdminApi;
use super::refusal::Refusal;
use super::request::AdminRequest;
use crate::net::unix::UnixService;

impl UnixService for AdminApi {
    fn answer(
        self: Arc<Self>,
        uid: Option<u32>,
        head: Parts,
        body: Bytes,
    ) -> Pin<Box<dyn Future<Output = Response<Full<Bytes>>> + Send>> {
        Box::pin(async move {
            let if_match = head.headers.get(IF_MATCH);
            let request = AdminRequest {
                uid,
                method: head.method.as_str(),
                path: head.uri.path(),
                query: head.uri.query().unwrap_or(""),
                if_match: if_match.and_then(|value: &HeaderValue| value.to_str().ok()),
                body,
            };
            self.respond(request).await
        })
    }

    fn refuse(&self, uid: Option<u32>) -> Response<Full<Bytes>> {
        Refusal::unauthorized(uid).into_response()
    }

    fn refuse_body(&self, max_bytes: usize) -> Response<Full<Bytes>> {
        let message = format!(
            "a request has at most {max_bytes} bytes; send the documents in several requests"
        );
        Refusal::new(413, "RequestEntityTooLarge", message).into_response()
    }
}
