//! The record of an instance after a change.

use jiff::Timestamp;

use super::entry::Entry;
use super::record::Record;
use super::transaction::{Change, Launch};
use crate::instance::InstanceState;
use crate::instance::identity_document::identity_document;

/// Returns the record of an instance after a change; `None` when nothing changes.
pub(super) fn next_record(
    previous: Option<&Entry>,
    change: Change,
    now: Timestamp,
) -> Option<Record> {
    match previous {
        Some(previous) => changed_record(&previous.record, change, now),
        None => Some(first_record(change, now)),
    }
}

fn first_record(change: Change, now: Timestamp) -> Record {
    let Launch::First(request) = change.launch else {
        unreachable!("an instance without an entry is created")
    };
    let document_digest = change.document_digest.unwrap_or_default();
    Record::first(change.instance, document_digest, request, now)
}

fn changed_record(previous: &Record, change: Change, now: Timestamp) -> Option<Record> {
    let Change {
        instance,
        launch,
        document_digest,
    } = change;
    let document_digest = document_digest.unwrap_or_else(|| previous.document_digest.clone());
    let options_change = previous.instance.options_change(&instance);
    let is_same_instance = options_change.is_some_and(|(before, after)| before == after);
    let (launch_epoch, identity_document) = match launch {
        Launch::Same if is_same_instance && document_digest == previous.document_digest => {
            return None;
        }
        Launch::Same => (previous.launch_epoch, previous.identity_document.clone()),
        Launch::Relaunch => (rand::random(), identity_document(&instance)),
        Launch::First(_) => unreachable!("an instance is created once"),
    };
    // A new document digest alone is not a change that the sockets have to apply.
    let is_change = matches!(launch, Launch::Relaunch) || !is_same_instance;
    Some(Record {
        generation: previous.generation + u64::from(is_change),
        launch_epoch,
        identity_document,
        document_digest,
        launch_request: previous.launch_request.clone(),
        terminated: termination_time(previous, instance.state, now),
        // The options decide who may read; they do not change what a guest reads, so they do not
        // change its age either.
        changed: match options_change {
            Some(_) => previous.changed,
            None => now,
        },
        instance,
    })
}

/// Returns when the instance was terminated. A change of a terminated instance keeps the time.
fn termination_time(previous: &Record, state: InstanceState, now: Timestamp) -> Option<Timestamp> {
    match state {
        InstanceState::Terminated => previous.terminated.or(Some(now)),
        InstanceState::Pending
        | InstanceState::Running
        | InstanceState::ShuttingDown
        | InstanceState::Stopping
        | InstanceState::Stopped => None,
    }
}
