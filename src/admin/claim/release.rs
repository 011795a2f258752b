//! Releasing attachments.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::admin::api::AdminApi;
use crate::admin::instances::check_generation;
use crate::admin::refusal::Refusal;
use crate::admin::reply::AdminReply;
use crate::audit::Trail;
use crate::clock::Moment;
use crate::instance::{Instance, InstanceAttachment, InstanceId, InstanceState};
use crate::registry::{Transaction, UpdateError};

/// `{"ClaimedBy": "libvirt", "Stop": true}`. Without `Attachments` and `ClaimedBy`, all attachments
/// are released.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct ReleaseRequest {
    /// Only these. One with a binding is released only if the instance has it with that binding.
    #[serde(default)]
    attachments: Option<Vec<InstanceAttachment>>,
    /// Only those that were claimed with this word.
    #[serde(default)]
    claimed_by: Option<String>,
    /// Only if the instance is still in this launch: a release that comes late must not cut off
    /// the next launch.
    #[serde(default)]
    launch_time: Option<Timestamp>,
    /// Stops the instance, too, unless it keeps attachments.
    #[serde(default)]
    stop: bool,
}

/// What a release did.
enum Released {
    /// The instance gave these up, and was stopped if that was asked for.
    Attachments(Vec<InstanceAttachment>),
    /// Nothing, for this reason.
    Nothing(&'static str),
}

/// Takes attachments from an instance if it still has them. Succeeds without a change if it does
/// not, and if there is no such instance.
pub(in crate::admin) async fn release(
    api: &Arc<AdminApi>,
    id: InstanceId,
    generation: Option<u64>,
    body: &[u8],
    trail: &Trail,
) -> Result<AdminReply, Refusal> {
    trail.name([&id]);
    let body = if body.is_empty() { b"{}" } else { body };
    let request: ReleaseRequest =
        serde_json::from_slice(body).map_err(|error| Refusal::invalid(error.to_string()))?;
    let of = id.clone();
    let plan = move |transaction: &mut Transaction| {
        if transaction.before().quarantine_reason(&of).is_some() {
            return Err(Refusal::absent_instance(transaction.before(), &of));
        }
        check_generation(transaction.entry(&of).map(AsRef::as_ref), generation)?;
        Ok(apply(transaction, &of, &request))
    };
    let released = match trail.change(&api.registry, Moment::now().wall, plan).await {
        Ok((_, released)) => released,
        Err(UpdateError::Refused(refusal)) => return Err(refusal),
        Err(UpdateError::Unknown(id)) => return Err(Refusal::unknown_instance(&id)),
        Err(UpdateError::Store(error, changed)) => {
            let partial = "the instance may have been changed; release again";
            return Err(Refusal::partly_stored(&error, changed, partial));
        }
    };
    let (released, reason) = match released {
        Released::Attachments(released) => (released, Value::Null),
        Released::Nothing(reason) => (Vec::new(), reason.into()),
    };
    let snapshot = api.registry.snapshot();
    let entry = snapshot.entry(&id);
    Ok(AdminReply::Json(json!({
        "InstanceId": id,
        "Generation": entry.map(|entry| entry.generation),
        "State": entry.map(|entry| entry.instance.state.as_str()),
        "Released": released,
        "Reason": reason,
    })))
}

fn apply(transaction: &mut Transaction, id: &InstanceId, request: &ReleaseRequest) -> Released {
    let Some(instance) = transaction.instance(id) else {
        return Released::Nothing("there is no such instance");
    };
    if request
        .launch_time
        .is_some_and(|launch_time| launch_time != instance.launch_time)
    {
        return Released::Nothing("the instance was launched again");
    }
    let (released, kept) = instance
        .imds
        .attachments
        .drain(..)
        .partition(|attachment| request.names(attachment));
    instance.imds.attachments = kept;
    if request.stop && instance.imds.attachments.is_empty() {
        stop(instance);
    }
    Released::Attachments(released)
}

impl ReleaseRequest {
    /// Returns whether the request is about an attachment that the instance has.
    fn names(&self, held: &InstanceAttachment) -> bool {
        let is_listed = self.attachments.as_ref().is_none_or(|attachments| {
            attachments.iter().any(|named| {
                named.attachment == held.attachment
                    && (named.binding.is_none() || named.binding == held.binding)
            })
        });
        let is_of_claimant = self
            .claimed_by
            .as_ref()
            .is_none_or(|word| held.claimed_by.as_deref() == Some(word));
        is_listed && is_of_claimant
    }
}

/// A terminated instance stays terminated.
fn stop(instance: &mut Instance) {
    if instance.state.is_active() {
        instance.state = InstanceState::Stopped;
    }
}
