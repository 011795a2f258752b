//! Refusals of the admin API: status, code, message, and the faults of documents.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use serde_json::json;

use super::fault_json::fault_json;
use super::reply::json_response;
use crate::fault::Fault;
use crate::instance::InstanceId;
use crate::registry::{PartialEffect, QuarantineReason, Snapshot, StoreError, StoredState};

/// Why a request was not carried out.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) faults: Vec<Fault>,
}

impl Refusal {
    pub(super) fn new(status: u16, code: &'static str, message: impl Into<String>) -> Refusal {
        Refusal {
            status,
            code,
            message: message.into(),
            faults: Vec::new(),
        }
    }

    /// 400: the request itself is malformed.
    pub(super) fn invalid(message: impl Into<String>) -> Refusal {
        Refusal::new(400, "InvalidRequest", message)
    }

    /// 422: an event that makes no sense.
    pub(super) fn invalid_event(message: impl Into<String>) -> Refusal {
        Refusal::new(422, "InvalidEvent", message)
    }

    /// 404: no such instance.
    pub(super) fn unknown_instance(id: &InstanceId) -> Refusal {
        Refusal::new(
            404,
            "InvalidInstanceID.NotFound",
            format!("there is no instance {id}; `imdsd instance list` shows those that exist"),
        )
    }

    /// 409: the instance's state does not allow it.
    pub(super) fn incorrect_state(message: impl Into<String>) -> Refusal {
        Refusal::new(409, "IncorrectInstanceState", message)
    }

    /// The caller closed the connection before the answer. No one reads this; the audit line says it.
    pub(super) fn client_gone() -> Refusal {
        let message =
            "the client disconnected: the change was given up, unless its commit had begun";
        Refusal::new(499, "ClientDisconnected", message)
    }

    /// Says why a snapshot has no entry of an instance: it is quarantined (409) or unknown (404).
    pub(super) fn absent_instance(snapshot: &Snapshot, id: &InstanceId) -> Refusal {
        match snapshot.quarantine_reason(id) {
            Some(reason) => Refusal::incorrect_state(quarantine_message(id, reason)),
            None => Refusal::unknown_instance(id),
        }
    }

    /// 422: faults in documents or files.
    pub(super) fn faulty(faults: Vec<Fault>) -> Refusal {
        let message = match faults.len() {
            1 => "1 fault; nothing was changed".to_string(),
            count => format!("{count} faults; nothing was changed"),
        };
        Refusal {
            faults,
            ..Refusal::new(422, "InvalidDocument", message)
        }
    }

    /// 500: the store failed; `consequence` says what that means for the request.
    pub(super) fn store(error: &StoreError, consequence: &str) -> Refusal {
        tracing::error!("admin: {consequence}: {error}");
        Refusal::new(500, "InternalError", format!("{error}; {consequence}"))
    }

    /// 500: the store failed in the middle of a transaction; `partial` says which instances may
    /// have changed.
    pub(super) fn partly_stored(
        error: &StoreError,
        changed: PartialEffect,
        partial: &str,
    ) -> Refusal {
        match (changed, error.stored) {
            (PartialEffect::None, _) => Refusal::store(error, "nothing was changed"),
            (PartialEffect::Possible, StoredState::Previous) => Refusal::store(error, partial),
            (PartialEffect::Possible, StoredState::Unknown) => {
                let quarantined = "the instance whose write failed is not served until its stored \
                                   record is known";
                Refusal::store(error, &format!("{quarantined}; {partial}"))
            }
        }
    }

    /// 403: the caller may not use the admin socket.
    pub(super) fn unauthorized(uid: Option<u32>) -> Refusal {
        let message = format!(
            "{} may not use the admin socket; root, imdsd's own user and the users listed in \
             admin.users of the configuration may",
            user_name(uid)
        );
        Refusal::new(403, "UnauthorizedOperation", message)
    }

    /// 503: all places of the admin socket are taken, and the caller's user has the most of them.
    pub(super) fn no_place(uid: Option<u32>, places: usize) -> Refusal {
        let message = format!(
            "the admin socket has {places} places for calls that wait; all are taken, most by {}. \
             Nothing was done; try again",
            user_name(uid)
        );
        Refusal::new(503, "RequestLimitExceeded", message)
    }

    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let mut value = json!({ "Code": self.code, "Message": self.message });
        if !self.faults.is_empty() {
            value["Faults"] = self.faults.iter().map(fault_json).collect();
        }
        json_response(self.status, &value)
    }
}

fn user_name(uid: Option<u32>) -> String {
    uid.map_or(
        "a user that the kernel does not identify".to_string(),
        |uid| format!("user {uid}"),
    )
}

/// Says why an instance with a record or a document is quarantined, and what to do.
pub(super) fn quarantine_message(id: &InstanceId, reason: QuarantineReason) -> String {
    match reason {
        QuarantineReason::Unreadable => format!(
            "the record of {id} can't be read, so the instance is not served; restore its file \
             from a backup, or delete the instance (`imdsd instance delete {id}`) and put its \
             document"
        ),
        QuarantineReason::StateUnknown => format!(
            "a write of the record of {id} failed and its on-disk state is unknown, so the \
             instance is not served; the daemon keeps trying to restore the previous record, and \
             its log says what failed"
        ),
        QuarantineReason::NotStored => format!(
            "the document of {id} could not be stored, so the instance is not served; the daemon \
             tries again every second, and its log says what failed. To give the instance up, \
             remove its document and run `imdsd reload`"
        ),
        QuarantineReason::FaultyDocument => format!(
            "the document of {id} has faults, and it has no record, so the instance is not served; \
             `imdsd check` and the daemon's log name the faults. Fix the document and run `imdsd \
             reload`"
        ),
        QuarantineReason::BeingRegistered => format!(
            "{id} is being registered from its document by the start or reload that is under way, so \
             nothing else can change it yet; try again in a moment"
        ),
    }
}
