//! Puts one document into a transaction.

use std::sync::Arc;

use super::merge::{Merged, changed_fields, merge};
use super::options::PutOptions;
use super::outcome::{PutFaults, PutOutcome, PutResult};
use crate::admin::bind::bind_attachments;
use crate::admin::instances::check_generation;
use crate::admin::refusal::{Refusal, quarantine_message};
use crate::document::InstanceDocument;
use crate::instance::identity_document::identity_document;
use crate::instance::{Instance, InstanceId, InstanceState, LinkIdentities};
use crate::registry::{Entry, QuarantineReason, Transaction};

/// Applies one document to the transaction.
///
/// Returns `None` if it cannot be applied; `faults` has the reason then.
pub(super) fn put_document(
    transaction: &mut Transaction,
    document: &InstanceDocument,
    options: &PutOptions,
    links: &LinkIdentities,
    faults: &mut PutFaults,
) -> Result<Option<PutResult>, Refusal> {
    let id = &document.instance.instance_id;
    let stored = transaction.entry(id).cloned();
    check_generation(stored.as_deref(), options.generation)?;

    match transaction.before().quarantine_reason(id) {
        // The put brings the document that was missing.
        Some(QuarantineReason::FaultyDocument) | None => {}
        Some(
            reason @ (QuarantineReason::Unreadable
            | QuarantineReason::StateUnknown
            | QuarantineReason::NotStored
            | QuarantineReason::BeingRegistered),
        ) => {
            faults.add_conflict(document, quarantine_message(id, reason));
            return Ok(None);
        }
    }
    if is_terminated(transaction, id, stored.as_ref()) {
        return Ok(put_terminated(document, faults));
    }

    let Merged {
        mut instance,
        source,
        faults: of_merge,
    } = merge(document, stored.as_deref());
    of_merge
        .into_iter()
        .for_each(|fault| faults.add(document, fault));
    if options.bind {
        let unbound = bind_attachments(transaction, &mut instance, links).into_iter();
        unbound.for_each(|fault| faults.add(document, fault));
    }
    let Some(entry) = stored else {
        transaction.register(instance);
        return Ok(Some(PutResult {
            id: id.clone(),
            outcome: PutOutcome::Registered,
            changed: Vec::new(),
        }));
    };
    let result = match replace(transaction, &entry.instance, instance, options) {
        Ok(result) => result,
        Err(message) => {
            faults.add_conflict(document, message);
            return Ok(None);
        }
    };
    if let Some(source) = source {
        transaction.set_document(id, &source);
    }
    Ok(Some(result))
}

fn is_terminated(transaction: &Transaction, id: &InstanceId, stored: Option<&Arc<Entry>>) -> bool {
    let is_terminated = |entry: &Arc<Entry>| entry.instance.state == InstanceState::Terminated;
    transaction.is_tombstone(id) || stored.is_some_and(is_terminated)
}

/// A terminated instance is not brought back. A document that has it terminated too, as in an
/// export, changes nothing.
fn put_terminated(document: &InstanceDocument, faults: &mut PutFaults) -> Option<PutResult> {
    let id = &document.instance.instance_id;
    if document.instance.state == InstanceState::Terminated {
        return Some(PutResult {
            id: id.clone(),
            outcome: PutOutcome::Unchanged,
            changed: Vec::new(),
        });
    }
    let message = format!(
        "{id} was terminated, and a document does not bring it back; to register it again, delete \
         it first (`imdsd instance delete {id}`)"
    );
    faults.add_conflict(document, message);
    None
}

/// Replaces a stored instance, as a new launch if one was asked for or a stopped instance starts.
///
/// Returns the conflict if the signed identity document of the current launch would change.
fn replace(
    transaction: &mut Transaction,
    before: &Instance,
    mut instance: Instance,
    options: &PutOptions,
) -> Result<PutResult, String> {
    let id = &before.instance_id;
    let was_stopped = before.state == InstanceState::Stopped;
    let runs = matches!(
        instance.state,
        InstanceState::Pending | InstanceState::Running
    );
    let launched = options.relaunch || (was_stopped && runs);
    if !launched {
        instance.launch_time = before.launch_time;
    }
    let changed = changed_fields(before, &instance);
    if !launched && !was_stopped && identity_document(before) != identity_document(&instance) {
        return Err(format!(
            "{id}: a change of the signed identity document needs a new launch ({}); put the \
             document with --relaunch (relaunch=true), which invalidates the session tokens of \
             the instance",
            changed.join(", ")
        ));
    }
    let outcome = match (launched, changed.is_empty()) {
        (true, _) => PutOutcome::Relaunched,
        (false, true) => PutOutcome::Unchanged,
        (false, false) => PutOutcome::Replaced,
    };
    let entry = match launched {
        true => transaction.relaunch(id),
        false => transaction.instance(id),
    };
    *entry.expect("the instance has an entry") = instance;
    Ok(PutResult {
        id: id.clone(),
        outcome,
        changed,
    })
}
