//! `GET /v1/listeners`: the status that the reconciler of listeners publishes, as JSON.

use serde_json::{Value, json};

use crate::instance::Attachment;
use crate::net::status::ListenersStatus;

/// Returns every listener, and the claimed attachments that cannot be served.
pub(super) fn list(status: &ListenersStatus) -> Value {
    let unserved = |(attachment, reason): &(Attachment, String)| json!({ "Attachment": attachment.to_string(), "Reason": reason });
    let unserved: Vec<Value> = status.unserved.iter().map(unserved).collect();
    json!({ "Listeners": status.listeners, "Unserved": unserved })
}
