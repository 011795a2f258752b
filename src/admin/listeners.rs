//! `GET /v1/listeners`: the status that the reconciler of listeners publishes, as JSON.

use serde_json::{Value, json};

use crate::net::status::{AttachmentStatus, ListenerStatus, ListenersStatus};

/// Returns every listener, and every attachment of every instance with its state.
pub(super) fn list(status: &ListenersStatus) -> Value {
    let listeners: Vec<&ListenerStatus> = status.listeners().collect();
    let attachments: Vec<Value> = status.attachments().map(attachment).collect();
    json!({ "Listeners": listeners, "Attachments": attachments })
}

fn attachment(status: &AttachmentStatus) -> Value {
    json!({
        "InstanceId": status.instance,
        "Attachment": status.attachment,
        "Text": status.attachment.to_string(),
        "State": status.state.as_str(),
        "Reason": status.reason,
    })
}
