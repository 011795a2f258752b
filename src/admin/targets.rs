//! Which instances an event is for.

use super::refusal::Refusal;
use crate::instance::events::request::Targets;
use crate::instance::{Instance, InstanceId, InstanceState};
use crate::registry::Snapshot;

/// Returns whether the targets select an instance. Terminated instances get no events.
pub(super) fn is_for(targets: Option<&Targets>, instance: &Instance) -> bool {
    instance.state != InstanceState::Terminated
        && targets.is_none_or(|targets| targets.matches(instance))
}

/// Returns the instances that the targets select; refuses if none is selected.
pub(super) fn target_ids(
    snapshot: &Snapshot,
    targets: Option<&Targets>,
) -> Result<Vec<InstanceId>, Refusal> {
    let ids: Vec<InstanceId> = snapshot
        .entries()
        .map(|entry| &entry.instance)
        .filter(|instance| is_for(targets, instance))
        .map(|instance| instance.instance_id.clone())
        .collect();
    match (ids.len(), targets) {
        (1, None) | (1.., Some(_)) => Ok(ids),
        (count, None) => Err(Refusal::invalid(format!(
            "there are {count} instances; select some with --instance ID, --tag KEY=VALUE or --all"
        ))),
        (0, Some(targets)) => Err(no_target(snapshot, targets)),
    }
}

fn no_target(snapshot: &Snapshot, targets: &Targets) -> Refusal {
    let not_found = |message: String| Refusal::new(404, "InvalidInstanceID.NotFound", message);
    match targets {
        Targets::Instance(id) if snapshot.entry(id).is_some() => {
            Refusal::incorrect_state(format!("{id} was terminated"))
        }
        Targets::Instance(id) => Refusal::absent_instance(snapshot, id),
        Targets::Tag(tag) => not_found(format!(
            "no instance has the tag {} = {}",
            tag.key, tag.value
        )),
        Targets::All => not_found("there is no instance".to_string()),
    }
}
