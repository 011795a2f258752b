//! One request and one reply, as `net` and `guest` exchange them.
//!
//! No type of an HTTP library appears here, so the guest plane works behind any parser, a fuzzer or
//! a table of test cases.

use std::borrow::Cow;

use bytes::Bytes;

use crate::instance::HopLimit;

/// A request as the HTTP parser delivers it.
#[derive(Clone, Copy, Debug)]
pub struct RawRequest<'a> {
    /// The method as sent, for example `GET`.
    pub method: &'a str,
    /// The request target as sent: `/latest/meta-data/`, or an absolute URI.
    pub target: &'a str,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: HttpVersion,
    /// Header lines: names in lower case, values as sent. Lines of one name keep their order.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// Whether the request has a body.
    pub body: Body,
}

/// The HTTP version of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.0: needs no Host header and is never kept alive.
    Http10,
    /// HTTP/1.1
    Http11,
}

/// Whether a request has a body. Real clients send an empty chunked body with the token PUT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// No body, or an empty one, however it is framed.
    Empty,
    /// At least one byte.
    NotEmpty,
    /// No byte, and no end in time.
    Unfinished,
}

/// Why the HTTP parser delivers no request. It is answered all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnreadableRequest {
    /// 400: it is not HTTP/1, or its head is ambiguous.
    Syntax,
    /// 408: it began and did not end in time.
    TimedOut,
    /// 414: the target is longer than the parser reads.
    TargetTooLong,
    /// 431: the head has too many bytes or too many lines.
    HeadTooLarge,
}

impl UnreadableRequest {
    /// Returns the status of the answer (RFC 9110 section 15.5, RFC 6585 section 5).
    pub fn status(self) -> u16 {
        match self {
            UnreadableRequest::Syntax => 400,
            UnreadableRequest::TimedOut => 408,
            UnreadableRequest::TargetTooLong => 414,
            UnreadableRequest::HeadTooLarge => 431,
        }
    }
}

/// What happens to the connection after a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// EC2 closes it, also with HTTP/1.1, unless the client asks for keep-alive.
    Close,
    /// The client sent `Connection: keep-alive`.
    KeepAlive,
}

/// One reply, ready to be written.
#[derive(Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The reason phrase; `None` for the usual one.
    pub reason: Option<&'static str>,
    /// Header lines in EC2's order and spelling.
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
    /// The body that a GET gets. A HEAD gets the same headers and no body.
    pub body: Bytes,
    /// The hop limit that the packets of this reply must have; `None` for the system's default.
    pub hop_limit: Option<HopLimit>,
    /// What happens to the connection after this reply.
    pub connection: Connection,
}
