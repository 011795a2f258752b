//! The admin API behind its Unix socket: `net` calls it for each request.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{DATE, HeaderValue, IF_MATCH, RETRY_AFTER, SERVER};
use hyper::http::request::Parts;

use super::api::AdminApi;
use super::refusal::Refusal;
use super::request::AdminRequest;
use crate::clock::Moment;
use crate::http::UnreadableRequest;
use crate::http::http_date;
use crate::net::unix::{self, UnixCaller, UnixService};

impl UnixService for AdminApi {
    fn answer(
        self: Arc<Self>,
        caller: UnixCaller,
        head: Parts,
        body: Bytes,
    ) -> Pin<Box<dyn Future<Output = Response<Full<Bytes>>> + Send>> {
        Box::pin(async move {
            let if_match = head.headers.get(IF_MATCH);
            let request = AdminRequest {
                caller,
                method: head.method.as_str(),
                path: head.uri.path(),
                query: head.uri.query().unwrap_or(""),
                if_match: if_match.and_then(|value: &HeaderValue| value.to_str().ok()),
                body,
            };
            stamped(self.respond(request).await)
        })
    }

    fn refuse(&self, uid: Option<u32>) -> Response<Full<Bytes>> {
        stamped(Refusal::unauthorized(uid).into_response())
    }

    fn turn_away(&self, uid: Option<u32>, places: usize) -> Response<Full<Bytes>> {
        let mut response = stamped(Refusal::no_place(uid, places).into_response());
        let seconds = HeaderValue::from(unix::TRY_AGAIN.as_secs());
        response.headers_mut().insert(RETRY_AFTER, seconds);
        response
    }

    fn refuse_body(&self, max_bytes: usize) -> Response<Full<Bytes>> {
        let message = format!(
            "a request has at most {max_bytes} bytes; send the documents in several requests"
        );
        stamped(Refusal::new(413, "RequestEntityTooLarge", message).into_response())
    }

    fn refuse_unreadable(&self, reason: UnreadableRequest) -> Response<Full<Bytes>> {
        let (code, message) = match reason {
            UnreadableRequest::Syntax => ("InvalidRequest", "the request is not valid HTTP/1.1"),
            UnreadableRequest::TimedOut => (
                "RequestTimeout",
                "the request was not completely received in time",
            ),
            UnreadableRequest::TargetTooLong | UnreadableRequest::HeadTooLarge => {
                ("InvalidRequest", "the head of the request is too large")
            }
        };
        stamped(Refusal::new(reason.status(), code, message).into_response())
    }
}

/// Adds what every response has: the time and the server's name.
fn stamped(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    let headers = response.headers_mut();
    headers.insert(SERVER, HeaderValue::from_static("imdsd"));
    if let Ok(date) = HeaderValue::from_bytes(&http_date(Moment::now().wall)) {
        headers.insert(DATE, date);
    }
    response
}
