//! Reading and deleting instances: list, get, export, delete.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use super::refusal::Refusal;
use super::reply::{AdminReply, Elements, json_text};
use crate::audit::Trail;
use crate::document::export::{self, Secrets};
use crate::instance::{InstanceAttachment, InstanceId};
use crate::lab::InstanceFaults;
use crate::registry::{Claimants, Entry, Registry, Snapshot, StoreError, StoredState, UpdateError};

/// Returns a summary of every instance, and the ids of those that are quarantined, as JSON text.
pub(super) fn list(
    snapshot: &Snapshot,
    faults: &BTreeMap<InstanceId, Arc<InstanceFaults>>,
) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct List<'a, I: Serialize> {
        being_registered: Vec<&'a InstanceId>,
        faulty_documents: Vec<&'a InstanceId>,
        instances: I,
        not_stored: Vec<&'a InstanceId>,
        unreadable: Vec<&'a InstanceId>,
    }
    json_text(&List {
        instances: Elements(|| {
            snapshot
                .entries()
                .map(|entry| summary(snapshot, faults, entry))
        }),
        unreadable: snapshot.unreadable().collect(),
        being_registered: snapshot.being_registered().collect(),
        not_stored: snapshot.not_stored().collect(),
        faulty_documents: snapshot.faulty_documents().collect(),
    })
}

fn summary(
    snapshot: &Snapshot,
    faults: &BTreeMap<InstanceId, Arc<InstanceFaults>>,
    entry: &Entry,
) -> Value {
    let instance = &entry.instance;
    let faults = faults.get(&instance.instance_id);
    let attachments: Vec<Value> = instance
        .imds
        .attachments
        .iter()
        .map(|attachment| attachment_summary(snapshot, attachment, &instance.instance_id))
        .collect();
    let name = instance
        .tags
        .iter()
        .find(|tag| tag.key == "Name")
        .map(|tag| tag.value.as_str());
    json!({
        "InstanceId": instance.instance_id,
        "Name": name,
        "State": instance.state.as_str(),
        "InstanceType": instance.instance_type,
        "PrivateIpAddress": instance.primary_private_address(),
        "LaunchTime": instance.launch_time,
        "Generation": entry.generation,
        "MetadataOptions": instance.metadata_options,
        "OptionsState": entry.options_state().as_str(),
        "Attachments": attachments,
        "InjectedFaults": faults.map_or(0, |faults| faults.iter().count()),
    })
}

/// An attachment, with the other instances that claim it, or why it is void.
fn attachment_summary(
    snapshot: &Snapshot,
    attachment: &InstanceAttachment,
    id: &InstanceId,
) -> Value {
    let mut summary = json!({ "Attachment": attachment, "Text": attachment.to_string() });
    if let Some(reason) = attachment.void_reason(snapshot.links()) {
        summary["Void"] = json!(reason);
        return summary;
    }
    if let Some(Claimants::Conflict(claimants)) = snapshot.claim(attachment)
        && claimants.contains(id)
    {
        let others: Vec<&InstanceId> = claimants.iter().filter(|other| *other != id).collect();
        if !others.is_empty() {
            summary["DisputedWith"] = json!(others);
        }
    }
    summary
}

/// Returns one instance's document.
pub(super) fn get(
    registry: &Registry,
    id: &InstanceId,
    secrets: Secrets,
) -> Result<AdminReply, Refusal> {
    let snapshot = registry.snapshot();
    let Some(entry) = snapshot.entry(id) else {
        return Err(Refusal::absent_instance(&snapshot, id));
    };
    Ok(AdminReply::Document(
        export::document_of(&entry.instance, secrets),
        entry.generation,
    ))
}

/// Returns every instance's document as an array, which is one of the shapes of a document, as JSON
/// text.
pub(super) fn export(snapshot: &Snapshot, secrets: Secrets) -> Vec<u8> {
    let document = |entry: &Arc<Entry>| export::document_of(&entry.instance, secrets);
    json_text(&Elements(|| snapshot.entries().map(document)))
}

/// Removes an instance and its record.
pub(super) async fn delete(
    registry: &Arc<Registry>,
    id: &InstanceId,
    expected: Option<u64>,
    trail: &Trail,
) -> Result<AdminReply, Refusal> {
    trail.name([id]);
    let check =
        move |entry: Option<&Arc<Entry>>| check_generation(entry.map(AsRef::as_ref), expected);
    let deleted = registry.delete(id, check).await;
    deleted.map_err(|error| match error {
        UpdateError::Unknown(id) => Refusal::absent_instance(&registry.snapshot(), &id),
        UpdateError::Refused(refusal) => refusal,
        UpdateError::Store(error, _) => Refusal::store(&error, after_failed_delete(&error)),
    })?;
    trail.add(format!("{id}: deleted"));
    Ok(AdminReply::Json(json!({
        "InstanceId": id,
        "Message": "removed with its record; a document in the configured directory registers it \
                    again at the next start or reload",
    })))
}

/// The state of an instance whose removal failed.
fn after_failed_delete(error: &StoreError) -> &'static str {
    match error.stored {
        StoredState::Previous => "the instance is unchanged",
        StoredState::Unknown => {
            "its record may or may not exist, and the instance is not served until that is known"
        }
    }
}

/// 412 unless the instance is at the generation that the caller expects.
pub(super) fn check_generation(
    entry: Option<&Entry>,
    expected: Option<u64>,
) -> Result<(), Refusal> {
    let found = entry.map(|entry| entry.generation);
    let Some(expected) = expected.filter(|expected| found != Some(*expected)) else {
        return Ok(());
    };
    let message = match found {
        None => format!("there is no such instance, so it is not at generation {expected}"),
        Some(found) => format!(
            "the instance is at generation {found}, not {expected}; get it again and repeat the \
             change"
        ),
    };
    Err(Refusal::new(412, "PreconditionFailed", message))
}
