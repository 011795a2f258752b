//! Converts between hyper's types and ours: request heads come in, replies go out. No rule is here.

use std::borrow::Cow;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use hyper::ext::ReasonPhrase;
use hyper::header::CONNECTION;
use hyper::http::request::Parts;
use hyper::http::{HeaderName, HeaderValue, Version};
use hyper::{Response, StatusCode};

use super::reply_bytes::{self, PrintedDates, SentParts};
use crate::http::{Body, HttpVersion, RawRequest, Reply};

/// Calls `answer` with a parsed head as a raw request.
pub(super) fn with_raw_request<T>(
    head: &Parts,
    body: Body,
    answer: impl FnOnce(RawRequest<'_>) -> T,
) -> T {
    let headers: Vec<(&str, &[u8])> = head
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    // A path prints as it was sent. An absolute target gets a path if it has none, and its scheme in
    // lower case, which mean the same.
    let target = head.uri.to_string();
    let version = match head.version {
        Version::HTTP_10 => HttpVersion::Http10,
        _ => HttpVersion::Http11,
    };
    answer(RawRequest {
        method: head.method.as_str(),
        target: &target,
        version,
        headers: &headers,
        body,
    })
}

/// Returns a reply as hyper writes it.
pub(super) fn response(reply: Reply<'_>) -> Response<ReplyBody> {
    let body = match reply.body {
        Cow::Borrowed(bytes) => Bytes::copy_from_slice(bytes),
        Cow::Owned(bytes) => bytes.into(),
    };
    let mut response = Response::new(ReplyBody(Full::new(body)));
    *response.status_mut() =
        StatusCode::from_u16(reply.status).expect("replies have valid status codes");
    if let Some(reason) = reply.reason {
        response
            .extensions_mut()
            .insert(ReasonPhrase::from_static(reason.as_bytes()));
    }
    for (name, value) in reply.headers.as_slice() {
        let name: HeaderName = name.parse().expect("reply header names are constants");
        let value = HeaderValue::try_from(value.to_string())
            .expect("reply header values are dates, numbers and constants");
        response.headers_mut().append(name, value);
    }
    response
}

/// Ends the connection with this response: the rest of the request is not read.
pub(super) fn close_after<B>(response: &mut Response<B>) {
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
}

/// Returns the bytes of an answer that hyper does not write: to a request that it cannot read. It
/// ends the connection.
pub(super) fn refusal(response: Response<Full<Bytes>>) -> Bytes {
    let (head, body) = response.into_parts();
    let body = body.into_inner().unwrap_or_default();
    let mut bytes = Vec::new();
    reply_bytes::write_status_line(head.status.as_u16(), None, &mut bytes);
    for (name, value) in &head.headers {
        push_header(&mut bytes, name.as_str(), value.as_bytes());
    }
    push_header(
        &mut bytes,
        "content-length",
        body.len().to_string().as_bytes(),
    );
    push_header(&mut bytes, "connection", b"close");
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(&body);
    bytes.into()
}

/// The same for a guest, whose headers keep their order and spelling.
pub(super) fn guest_refusal(reply: &Reply<'_>) -> Bytes {
    let mut bytes = Vec::new();
    reply_bytes::write(
        reply,
        SentParts::Whole,
        &mut PrintedDates::default(),
        &mut bytes,
    );
    bytes.into()
}

fn push_header(bytes: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        bytes.extend_from_slice(part);
    }
}

/// A body that hyper does not recognize as empty. For an empty body hyper would move Content-Length
/// behind all other headers, and their order is part of the answer.
pub(super) struct ReplyBody(Full<Bytes>);

impl hyper::body::Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        false
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.0.size_hint()
    }
}
