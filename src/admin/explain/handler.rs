//! The handler: selects the attachments, follows a packet from each, asks the daemon for the reply.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::attachments::{SelectedAttachments, has_address, select};
use super::question::ExplainQuestion;
use super::reach::{Reach, follow};
use crate::admin::api::AdminApi;
use crate::admin::daemon_view::PredictedReply;
use crate::admin::refusal::Refusal;
use crate::admin::reply::AdminReply;
use crate::clock::Moment;
use crate::instance::Attachment;

/// Explains each attachment that the question in the body names.
pub(in crate::admin) fn explain(
    api: &AdminApi,
    body: &[u8],
    now: Moment,
) -> Result<AdminReply, Refusal> {
    let question: ExplainQuestion = match body.trim_ascii() {
        [] => ExplainQuestion::default(),
        body => {
            serde_json::from_slice(body).map_err(|error| Refusal::invalid(error.to_string()))?
        }
    };
    let (snapshot, listeners) = (api.registry.snapshot(), api.listeners.load());
    let (request, family) = (question.request.as_sent(), question.request.family());
    let SelectedAttachments { attachments, notes } = select(&question, &snapshot, &listeners)?;
    let explain_one = |attachment: &Attachment| {
        let reach = follow(&snapshot, &listeners, attachment, family);
        let reply = reach
            .entry
            .map(|entry| api.daemon.predict(entry, family, &request, now));
        explanation(&reach, attachment, question.address, reply)
    };
    let explanations: Vec<Value> = attachments.iter().map(explain_one).collect();
    Ok(AdminReply::Json(
        json!({ "Explanations": explanations, "Notes": notes }),
    ))
}

fn explanation(
    reach: &Reach<'_>,
    attachment: &Attachment,
    address: Option<IpAddr>,
    reply: Option<PredictedReply>,
) -> Value {
    let mut reason = reach.reason.clone();
    if let (Some(entry), Some(address)) = (reach.entry, address)
        && !matches!(attachment, Attachment::SourceAddress(_))
        && !has_address(&entry.instance, address)
    {
        reason += &format!(
            "; its document does not have the address {address}, but addresses are not checked here"
        );
    }
    let reply =
        reply.map(|PredictedReply { status, rule }| json!({ "Status": status, "Rule": rule }));
    json!({
        "Attachment": attachment.to_string(),
        "InstanceId": reach.entry.map(|entry| entry.instance.instance_id.as_str()),
        "Why": reason,
        "Reached": reach.reaches_gate,
        "Answer": reply,
    })
}
