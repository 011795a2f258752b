//! The parts of an HTTP request that a signature covers.

use hyper::HeaderMap;

/// A request as it was signed, before anything is decoded.
#[derive(Clone, Copy, Debug)]
pub struct HttpRequest<'a> {
    /// `GET` or `POST`
    pub method: &'a str,
    /// The path as received, with its escapes.
    pub path: &'a str,
    /// The part after the `?` as received, with its escapes; empty if there was none.
    pub query: &'a str,
    /// All header fields.
    pub headers: &'a HeaderMap,
    /// The whole body.
    pub body: &'a [u8],
}
