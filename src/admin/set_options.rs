//! `PATCH /v1/instances/ID/metadata-options`: changes metadata options of one instance.
//!
//! The operator's counterpart of ModifyInstanceMetadataOptions. Options that the body omits keep
//! their value. The account's `HttpTokensEnforced` and the rules of access keys restrict the EC2 API
//! only.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::api::AdminApi;
use super::instances::check_generation;
use super::refusal::Refusal;
use super::reply::AdminReply;
use crate::audit::Trail;
use crate::clock::Moment;
use crate::document;
use crate::fault::FieldFault;
use crate::instance::{Instance, InstanceId, InstanceState, OptionsUpdate};
use crate::registry::{Entry, Transaction, UpdateError};

/// Applies the options in a body. The instance must be at the expected generation, if there is one.
pub(super) async fn modify(
    api: &Arc<AdminApi>,
    id: InstanceId,
    expected: Option<u64>,
    body: &[u8],
    trail: &Trail,
) -> Result<AdminReply, Refusal> {
    trail.name([&id]);
    let update = read(body)?;
    let of_plan = id.clone();
    let plan = move |transaction: &mut Transaction| apply(transaction, &of_plan, expected, update);
    let (ids, now) = ([id.clone()], Moment::now().wall);
    let changed = trail.change_beside(&api.registry, ids, now, plan).await;
    let (published, before) = changed.map_err(|error| match error {
        UpdateError::Unknown(id) => Refusal::absent_instance(&api.registry.snapshot(), &id),
        UpdateError::Refused(refusal) => refusal,
        UpdateError::Store(error, changed) => {
            Refusal::partly_stored(&error, changed, "the instance is unchanged")
        }
    })?;
    // Nothing is published if the options had these values already.
    let entry = published.into_iter().next().unwrap_or(before);
    Ok(AdminReply::Json(json!({ "Instances": [summary(&entry)] })))
}

fn summary(entry: &Entry) -> Value {
    json!({
        "InstanceId": entry.instance.instance_id,
        "Generation": entry.generation,
        "MetadataOptions": entry.instance.metadata_options,
        "OptionsState": entry.options_state().as_str(),
    })
}

fn read(body: &[u8]) -> Result<OptionsUpdate, Refusal> {
    let options: Map<String, Value> =
        serde_json::from_slice(body).map_err(|error| Refusal::invalid(error.to_string()))?;
    let known = OptionsUpdate::NAMES;
    if let Some(unknown) = options.keys().find(|name| !known.contains(&name.as_str())) {
        let message = format!("'{unknown}' is not known (known: {})", known.join(", "));
        return Err(Refusal::invalid(message));
    }
    // Again, from the text: a map does not show an option that appears twice.
    let update: OptionsUpdate = serde_json::from_slice(body)
        .map_err(|error| Refusal::invalid(error.to_string().replace('`', "'")))?;
    match update == OptionsUpdate::default() {
        true => Err(Refusal::invalid(
            "there is no option in the body; name at least one, such as {\"HttpTokens\": \"required\"}",
        )),
        false => Ok(update),
    }
}

fn apply(
    transaction: &mut Transaction,
    id: &InstanceId,
    expected: Option<u64>,
    update: OptionsUpdate,
) -> Result<Arc<Entry>, Refusal> {
    let before = transaction.entry(id).map(Arc::clone);
    check_generation(before.as_deref(), expected)?;
    let absent = Refusal::absent_instance(transaction.before(), id);
    let Some(before) = before else {
        return Err(absent);
    };
    refuse_by_state(&before.instance)?;
    let instance = transaction.instance(id).expect("the instance has an entry");
    update.apply(&mut instance.metadata_options);
    match document::faults(instance).first() {
        None => Ok(before),
        Some(FieldFault { field, message }) => Err(Refusal::invalid(format!("{field}: {message}"))),
    }
}

fn refuse_by_state(instance: &Instance) -> Result<(), Refusal> {
    match instance.state {
        InstanceState::ShuttingDown | InstanceState::Terminated => {
            Err(Refusal::incorrect_state(format!(
                "{} is {}, so its metadata options cannot be changed",
                instance.instance_id,
                instance.state.as_str()
            )))
        }
        InstanceState::Pending
        | InstanceState::Running
        | InstanceState::Stopping
        | InstanceState::Stopped => Ok(()),
    }
}
