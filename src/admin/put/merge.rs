//! How a document and the stored instance become one.
//!
//! A document replaces the stored instance, except for:
//!
//! 1. What the EC2 API and `imdsd event` change while an instance runs, and its attachments: each
//!    metadata option and each field of [`RUNTIME_FIELDS`] stays as stored if the document does not
//!    name it.
//! 2. All of `Imds`, if the document has none, as in the output of `aws ec2 describe-instances`.
//! 3. A secret that an export left out.
//! 4. `LaunchTime`, which belongs to a launch: it counts only if the instance is launched again.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::document::{self, InstanceDocument, export};
use crate::fault::FieldFault;
use crate::instance::Instance;
use crate::registry::Entry;

/// Copies one field from the stored instance.
type CopyField = fn(&mut Instance, &Instance);

/// The fields, besides the metadata options, that stay as stored if a document does not name them.
const RUNTIME_FIELDS: [(&str, CopyField); 14] = [
    ("State", |instance, stored| instance.state = stored.state),
    // The reasons belong to the stored state, so another state does not have them.
    ("StateTransitionReason", |instance, stored| {
        if instance.state == stored.state {
            let stored = &stored.state_transition_reason;
            instance.state_transition_reason.clone_from(stored);
        }
    }),
    ("StateReason", |instance, stored| {
        if instance.state == stored.state {
            instance.state_reason.clone_from(&stored.state_reason);
        }
    }),
    ("EbsOptimized", |instance, stored| {
        instance.ebs_optimized = stored.ebs_optimized;
    }),
    ("Monitoring", |instance, stored| {
        instance.monitoring.clone_from(&stored.monitoring);
    }),
    ("SourceDestCheck", |instance, stored| {
        match stored.source_dest_check {
            Some(check) => instance.set_source_dest_check(check),
            None => instance.source_dest_check = None,
        }
    }),
    // An edit of a role's name, for example, must not cut off the guest.
    ("Imds.Attachments", |instance, stored| {
        let stored = &stored.imds.attachments;
        instance.imds.attachments.clone_from(stored);
    }),
    ("Imds.Events", |instance, stored| {
        instance.imds.events = stored.imds.events.clone();
    }),
    ("Imds.Timeline", |instance, stored| {
        instance.imds.timeline = stored.imds.timeline.clone();
    }),
    ("Imds.Overrides", |instance, stored| {
        instance.imds.overrides = stored.imds.overrides.clone();
    }),
    ("Imds.ManagedSshKeys", |instance, stored| {
        let stored = &stored.imds.managed_ssh_keys;
        instance.imds.managed_ssh_keys.clone_from(stored);
    }),
    ("Imds.DisableApiTermination", |instance, stored| {
        instance.imds.disable_api_termination = stored.imds.disable_api_termination;
    }),
    ("Imds.DisableApiStop", |instance, stored| {
        instance.imds.disable_api_stop = stored.imds.disable_api_stop;
    }),
    (
        "Imds.InstanceInitiatedShutdownBehavior",
        |instance, stored| {
            let stored = stored.imds.instance_initiated_shutdown_behavior;
            instance.imds.instance_initiated_shutdown_behavior = stored;
        },
    ),
];

/// A document merged with the stored instance.
pub(super) struct Merged {
    /// The instance that results.
    pub(super) instance: Instance,
    /// What a reload will compare the configured document with; `None` if that does not change.
    pub(super) source: Option<Instance>,
    /// The faults of the result. Stored and new fields may not fit together.
    pub(super) faults: Vec<FieldFault>,
}

/// Merges a document with the stored instance, if there is one.
pub(super) fn merge(document: &InstanceDocument, stored: Option<&Entry>) -> Merged {
    let mut instance = document.instance.clone();
    let stored_instance = stored.map(|entry| &entry.instance);
    let mut faults = export::restore_secrets(&mut instance, stored_instance);
    let source = new_source(document, &instance, stored);
    if let Some(stored) = stored_instance {
        keep_runtime_fields(&mut instance, stored, document);
        faults.extend(document::faults(&instance));
    }
    Merged {
        instance,
        source,
        faults,
    }
}

/// Returns the instance that a reload compares the configured document with from now on; `None` if
/// it keeps the earlier one.
///
/// A document without `Imds`, as EC2 prints it, is not an edit of the configured document that the
/// stored `Imds` came from. So a reload must not report that document as edited.
fn new_source(
    document: &InstanceDocument,
    instance: &Instance,
    stored: Option<&Entry>,
) -> Option<Instance> {
    let keeps_source = !document.fields.has("Imds")
        && stored.is_some_and(|stored| {
            !stored.document_digest.is_empty() && has_own_imds(&stored.instance, instance)
        });
    (!keeps_source).then(|| instance.clone())
}

/// Whether the stored `Imds` has more than run-time changes and what a reservation says, compared
/// with that of a document without one.
fn has_own_imds(stored: &Instance, instance: &Instance) -> bool {
    let mut rest = stored.clone();
    for (field, copy) in &RUNTIME_FIELDS {
        // A document without `Imds` gave no attachments, so these count.
        if *field != "Imds.Attachments" {
            copy(&mut rest, instance);
        }
    }
    let (rest, imds) = (&mut rest.imds, &instance.imds);
    rest.owner_id.clone_from(&imds.owner_id);
    rest.reservation_id.clone_from(&imds.reservation_id);
    rest.requester_id.clone_from(&imds.requester_id);
    rest.reservation_groups.clone_from(&imds.reservation_groups);
    rest != imds
}

/// Copies from the stored instance what the document does not name.
fn keep_runtime_fields(instance: &mut Instance, stored: &Instance, document: &InstanceDocument) {
    instance.metadata_options = stored.metadata_options;
    document
        .fields
        .options
        .apply(&mut instance.metadata_options);
    if !document.fields.has("Imds") {
        // EC2's output has nothing of it, except what a reservation says.
        let named = std::mem::replace(&mut instance.imds, stored.imds.clone());
        let imds = &mut instance.imds;
        imds.owner_id = named.owner_id.or(imds.owner_id.take());
        imds.reservation_id = named.reservation_id.or(imds.reservation_id.take());
        imds.requester_id = named.requester_id.or(imds.requester_id.take());
        if !named.reservation_groups.is_empty() {
            imds.reservation_groups = named.reservation_groups;
        }
    }
    for (field, copy) in &RUNTIME_FIELDS {
        if !document.fields.has(field) {
            copy(instance, stored);
        }
    }
}

/// Returns the names of the fields that differ; those of `Imds` one by one.
pub(super) fn changed_fields(before: &Instance, after: &Instance) -> Vec<String> {
    let (before, after) = (document::to_value(before), document::to_value(after));
    let mut fields = differing_keys(&before, &after, "");
    if let Some(index) = fields.iter().position(|field| field == "Imds") {
        let of_imds = differing_keys(&before["Imds"], &after["Imds"], "Imds.");
        fields.splice(index..=index, of_imds);
    }
    fields
}

fn differing_keys(before: &Value, after: &Value, prefix: &str) -> Vec<String> {
    let keys = |value: &Value| -> BTreeSet<String> {
        let map = value.as_object().into_iter();
        map.flat_map(Map::keys).cloned().collect()
    };
    let keys = &keys(before) | &keys(after);
    keys.into_iter()
        .filter(|key| before.get(key) != after.get(key))
        .map(|key| format!("{prefix}{key}"))
        .collect()
}
