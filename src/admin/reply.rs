//! The successful answers of the admin API, and what the audit line says about them.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{CONTENT_TYPE, ETAG, HeaderValue};
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::audit::Trail;
use crate::instance::InstanceId;

/// A successful answer.
pub(super) enum AdminReply {
    Json(Value),
    /// One instance's document and its generation.
    Document(Value, u64),
    Metrics(String),
    /// JSON that is text already.
    Rendered(Vec<u8>),
}

impl AdminReply {
    /// Adds the instances that the answer names and the kinds of the injected events, without their
    /// contents. Nothing else of a body is logged.
    pub(super) fn add_events(&self, trail: &Trail) {
        let AdminReply::Json(body) = self else {
            return;
        };
        let elements = |field: &str| body[field].as_array().into_iter().flatten();
        let named: Vec<InstanceId> = elements("Instances")
            .filter_map(|instance| InstanceId::parse(instance["InstanceId"].as_str()?))
            .collect();
        trail.name(&named);
        let events: Vec<&str> = elements("Steps")
            .filter_map(|step| Some(step["Set"].as_object()?.keys().next()?.as_str()))
            .collect();
        if !events.is_empty() {
            trail.add(format!("events: {}", events.join(" ")));
        }
    }

    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        match self {
            AdminReply::Json(value) => json_response(200, &value),
            AdminReply::Rendered(text) => json_text_response(200, text),
            AdminReply::Document(value, generation) => {
                let mut response = json_response(200, &value);
                let tag =
                    HeaderValue::try_from(format!("\"{generation}\"")).expect("digits in quotes");
                response.headers_mut().insert(ETAG, tag);
                response
            }
            AdminReply::Metrics(text) => {
                let mut response = Response::new(Full::from(text));
                let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                response.headers_mut().insert(CONTENT_TYPE, kind);
                response
            }
        }
    }
}

/// Builds a JSON response, indented and with a newline at its end.
pub(super) fn json_response(status: u16, value: &Value) -> Response<Full<Bytes>> {
    json_text_response(status, json_text(value))
}

/// Returns the text of a JSON response. A value that is serialized element by element is never in
/// memory as a whole.
pub(super) fn json_text(value: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(value).expect("plain JSON data");
    text.push(b'\n');
    text
}

fn json_text_response(status: u16, text: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = hyper::StatusCode::from_u16(status).expect("a valid status code");
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A JSON array whose elements are made one after the other while it is serialized.
pub(super) struct Elements<F>(pub(super) F);

impl<F, I> Serialize for Elements<F>
where
    F: Fn() -> I,
    I: Iterator<Item = Value>,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}
