//! Answers as EC2 sends them: headers and statuses. Documents come ready-made.

use std::fmt;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, DATE, HeaderValue, SERVER};
use hyper::{Response, StatusCode};

use super::error::{Code, Ec2Error};
use super::service::Service;
use super::xml::Document;
use crate::clock::{Moment, http_date};
use crate::sigv4::AuthError;

/// Names one request in the answer and in the log. SDKs take it from the header or from the body, so both have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RequestId(String);

impl RequestId {
    /// A random UUID (version 4).
    pub(super) fn random() -> RequestId {
        let random = rand::random::<u128>();
        let versioned = random & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
        let hex = format!("{versioned:032x}");
        RequestId(format!(
            "{}-{}-{}-{}-{}",
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..]
        ))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An action's own document.
pub(super) fn success(
    service: Service,
    document: Document,
    id: &RequestId,
    now: Moment,
) -> Response<Full<Bytes>> {
    respond(service, (StatusCode::OK, document), id, now)
}

/// A refusal of a caller who is known.
pub(super) fn refused(
    service: Service,
    error: &Ec2Error,
    id: &RequestId,
    now: Moment,
) -> Response<Full<Bytes>> {
    respond(service, service.refusal(error, id), id, now)
}

/// A refusal of a caller who is not.
pub(super) fn unauthenticated(
    service: Service,
    error: &AuthError,
    id: &RequestId,
    now: Moment,
) -> Response<Full<Bytes>> {
    respond(service, service.unauthenticated(error, id), id, now)
}

/// EC2 is said to redirect other methods to its manual. SDKs can't read that, and 405 is what HTTP has for it; the code
/// is the one that S3 uses with this status.
pub(super) fn wrong_method(id: &RequestId, now: Moment) -> Response<Full<Bytes>> {
    let error = Ec2Error::new(
        Code::MethodNotAllowed,
        "The specified method is not allowed against this resource.",
    );
    let mut response = refused(Service::Ec2, &error, id, now);
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("GET, POST"));
    response
}

fn respond(
    service: Service,
    (status, document): (StatusCode, Document),
    id: &RequestId,
    now: Moment,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(document.into_bytes()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static(service.content_type()),
    );
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-store"),
    );
    headers.insert(SERVER, HeaderValue::from_static("AmazonEC2"));
    // SDKs with a wrong clock correct it by this date.
    for (name, value) in [
        (DATE.as_str(), http_date(now.wall)),
        ("x-amzn-requestid", id.to_string()),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_a_uuid_of_version_4() {
        for _ in 0..1000 {
            let id = RequestId::random().to_string();
            let places: Vec<_> = id
                .char_indices()
                .filter(|(_, c)| *c == '-')
                .map(|(place, _)| place)
                .collect();
            assert_eq!((id.len(), places), (36, vec![8, 13, 18, 23]), "{id}");
            assert!(
                id.as_bytes()[14] == b'4' && b"89ab".contains(&id.as_bytes()[19]),
                "{id}"
            );
        }
        assert_ne!(RequestId::random(), RequestId::random());
    }
}
