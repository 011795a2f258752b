//! What a put did to each instance, or the faults that refuse it.

use serde::Serialize;
use serde_json::{Value, json};

use crate::admin::refusal::Refusal;
use crate::document::InstanceDocument;
use crate::fault::{Fault, FieldFault};
use crate::instance::InstanceId;
use crate::registry::Snapshot;

/// What a document did to its instance.
pub(super) struct PutResult {
    pub(super) id: InstanceId,
    pub(super) outcome: PutOutcome,
    /// The fields that changed.
    pub(super) changed: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum PutOutcome {
    Registered,
    Replaced,
    Relaunched,
    Unchanged,
}

impl PutResult {
    pub(super) fn to_json(&self, snapshot: &Snapshot) -> Value {
        let generation = snapshot.entry(&self.id).map(|entry| entry.generation);
        json!({
            "InstanceId": self.id,
            "Outcome": self.outcome,
            "Generation": generation,
            "Changed": self.changed,
        })
    }
}

/// The reasons that refuse the documents of a request, all of them together.
#[derive(Default)]
pub(super) struct PutFaults {
    /// The request has one document, so its conflict needs no file name.
    pub(super) single: bool,
    /// Faults within documents.
    pub(super) faults: Vec<Fault>,
    /// Documents that are valid, but cannot be applied to the instance as it is now.
    pub(super) conflicts: Vec<Fault>,
}

impl PutFaults {
    pub(super) fn add(&mut self, document: &InstanceDocument, fault: FieldFault) {
        self.faults.push(located(document, fault));
    }

    pub(super) fn add_conflict(&mut self, document: &InstanceDocument, message: String) {
        self.conflicts.push(Fault {
            file: document.file.clone(),
            line: document.line,
            field: String::new(),
            message,
        });
    }

    /// Returns the refusal that all of them amount to; `None` if there are none.
    pub(super) fn into_refusal(mut self) -> Option<Refusal> {
        if !self.faults.is_empty() {
            self.faults.append(&mut self.conflicts);
            return Some(Refusal::faulty(self.faults));
        }
        match self.conflicts.len() {
            0 => None,
            1 if self.single => Some(Refusal::incorrect_state(self.conflicts.remove(0).message)),
            count => {
                let message = format!(
                    "{count} documents can't be applied to their instances; nothing was changed"
                );
                Some(Refusal {
                    faults: self.conflicts,
                    ..Refusal::incorrect_state(message)
                })
            }
        }
    }
}

/// A fault of an instance, with the place of its document.
pub(super) fn located(document: &InstanceDocument, fault: FieldFault) -> Fault {
    let id = &document.instance.instance_id;
    Fault {
        file: document.file.clone(),
        line: document.line,
        field: format!("{id}: {}", fault.field),
        message: fault.message,
    }
}
