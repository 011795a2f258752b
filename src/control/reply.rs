//! HTTP replies as EC2 sends them: status and headers around a finished body.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, DATE, HeaderValue, SERVER};
use hyper::{Response, StatusCode};

use super::error::{Code, Ec2Error};
use super::request_id::RequestId;
use super::service::AwsService;
use super::xml::ResponseBody;
use crate::clock::Moment;
use crate::http::http_date;
use crate::sigv4::AuthError;

/// Returns the reply to a call that succeeded.
pub(super) fn success(
    service: AwsService,
    body: ResponseBody,
    id: &RequestId,
    now: Moment,
) -> Response<Full<Bytes>> {
    respond(service, (StatusCode::OK, body), id, now)
}

/// Returns the reply to an authenticated call that was refused.
pub(super) fn refused(
    service: AwsService,
    error: &Ec2Error,
    id: &RequestId,
    now: Moment,
) -> Response<Full<Bytes>> {
    respond(service, service.refusal(error, id), id, now)
}

/// Returns the reply to a call whose signature was refused.
pub(super) fn unauthenticated(
    service: AwsService,
    error: &AuthError,
    id: &RequestId,
    now: Moment,
) -> Response<Full<Bytes>> {
    respond(service, service.unauthenticated(error, id), id, now)
}

/// Returns the reply to a method other than GET and POST: 405, with the code that S3 uses for this
/// status.
///
/// EC2 redirects other methods to its manual, which SDKs cannot read.
pub(super) fn wrong_method(id: &RequestId, now: Moment) -> Response<Full<Bytes>> {
    let error = Ec2Error::new(
        Code::MethodNotAllowed,
        "The specified method is not allowed against this resource.",
    );
    let mut response = refused(AwsService::Ec2, &error, id, now);
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("GET, POST"));
    response
}

fn respond(
    service: AwsService,
    (status, body): (StatusCode, ResponseBody),
    id: &RequestId,
    now: Moment,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into_bytes()));
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
        (DATE.as_str(), &http_date(now.wall)[..]),
        ("x-amzn-requestid", id.to_string().as_bytes()),
    ] {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.insert(name, value);
        }
    }
    response
}
