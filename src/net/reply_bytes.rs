//! The bytes of a reply: its head in EC2's order and spelling, and its body.

use hyper::StatusCode;

use crate::http::Reply;

/// Which of a reply's parts are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SentParts {
    /// The head and the body.
    Whole,
    /// The head only: the request was HEAD.
    Head,
}

/// Appends the bytes of a reply.
pub(super) fn write(reply: &Reply<'_>, parts: SentParts, bytes: &mut Vec<u8>) {
    match (reply.status, reply.reason) {
        // Most replies.
        (200, None) => bytes.extend_from_slice(b"HTTP/1.1 200 OK\r\n"),
        (status, reason) => write_status_line(status, reason, bytes),
    }
    for (name, value) in reply.headers.as_slice() {
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(b": ");
        value.write_to(bytes);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    if parts == SentParts::Whole {
        bytes.extend_from_slice(&reply.body);
    }
}

/// Appends a status line; `None` for the usual reason phrase.
pub(super) fn write_status_line(status: u16, reason: Option<&str>, bytes: &mut Vec<u8>) {
    let usual = || StatusCode::from_u16(status).ok()?.canonical_reason();
    let reason = reason.or_else(usual).unwrap_or_default();
    bytes.extend_from_slice(format!("HTTP/1.1 {status} {reason}\r\n").as_bytes());
}
