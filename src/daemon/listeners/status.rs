//! The status of one listener for the admin socket, and the log of attachments that are not served.

use std::collections::BTreeMap;

use tracing::{error, info};

use crate::daemon::listeners::attachments::AttachmentsInput;
use crate::daemon::listeners::desired::{DesiredListener, ListenerConfig};
use crate::daemon::listeners::key::ListenerKey;
use crate::daemon::listeners::socket::FamilySocket;
use crate::instance::{Attachment, InstanceId};
use crate::net::status;
use crate::registry::Claimants;

impl AttachmentsInput<'_> {
    /// Returns the status of a listener.
    pub(super) fn listener_status(
        &self,
        key: &ListenerKey,
        desired: &DesiredListener,
    ) -> status::ListenerStatus {
        let by_address = match key {
            ListenerKey::Listener(name) => self.config.listener(name).anti_spoofed,
            ListenerKey::Interface(_) | ListenerKey::Bridge(_) | ListenerKey::Namespace(_) => false,
        };
        let listener = self.open.get(key);
        let sockets = listener.iter().flat_map(|listener| &listener.sockets);
        status::ListenerStatus {
            kind: kind_of(key),
            name: key.name().to_string(),
            by_address,
            instances: desired.instances().clone(),
            waits_for: listener.is_none().then(|| self.missing(key)),
            sockets: sockets.map(socket_status).collect(),
        }
    }
}

/// Returns the kind under which a listener is published.
pub(super) fn kind_of(key: &ListenerKey) -> status::ListenerKind {
    match key {
        ListenerKey::Listener(_) => status::ListenerKind::Listener,
        ListenerKey::Interface(_) => status::ListenerKind::Interface,
        ListenerKey::Bridge(_) => status::ListenerKind::Bridge,
        ListenerKey::Namespace(_) => status::ListenerKind::NetworkNamespace,
    }
}

fn socket_status(socket: &FamilySocket) -> status::SocketStatus {
    let state = match (socket.is_open(), &socket.refused) {
        (true, _) => status::SocketState::Listening,
        (false, Some(_)) => status::SocketState::Refused,
        (false, None) => status::SocketState::Closed,
    };
    status::SocketStatus {
        address: socket.address,
        state,
        reason: socket.refused.clone(),
    }
}

/// What was logged last, so that each change is logged once.
#[derive(Default)]
pub(super) struct ConflictLog {
    unusable: BTreeMap<ListenerKey, String>,
    waiting: BTreeMap<ListenerKey, String>,
    unserved: BTreeMap<Attachment, String>,
}

impl ConflictLog {
    /// Logs that a listener became unusable on this host, and why. Returns whether that changed.
    pub(super) fn log_unusable(&mut self, key: &ListenerKey, reason: Option<String>) -> bool {
        let is_changed = self.unusable.get(key) != reason.as_ref();
        if let (true, Some(reason)) = (is_changed, &reason) {
            error!("no instance is served at {key}: {reason}");
        }
        set(&mut self.unusable, key, reason);
        is_changed
    }

    /// Logs that a listener began to wait for what is missing on this host.
    pub(super) fn log_waiting(&mut self, key: &ListenerKey, missing: Option<String>) {
        let is_changed = self.waiting.get(key) != missing.as_ref();
        if let (true, Some(missing)) = (is_changed, &missing) {
            info!("waiting for {key}: {missing}");
        }
        set(&mut self.waiting, key, missing);
    }

    /// Logs that an attachment has a conflict, or that the configuration does not serve it.
    pub(super) fn log_unserved(
        &mut self,
        attachment: &Attachment,
        claimants: Option<&Claimants>,
        config: &ListenerConfig,
    ) {
        let fault = match (claimants, config.unserved_reason(attachment)) {
            (Some(Claimants::Conflict(ids)), _) => {
                let ids: Vec<&str> = ids.iter().map(InstanceId::as_str).collect();
                Some(format!(
                    "{attachment} is claimed by {}: none of them is served there",
                    ids.join(" and ")
                ))
            }
            (Some(Claimants::One(id)), Some(reason)) => {
                Some(format!("{id} is not served at {attachment}: {reason}"))
            }
            (Some(Claimants::One(_)), None) | (None, _) => None,
        };
        let is_changed = self.unserved.get(attachment) != fault.as_ref();
        if let (true, Some(fault)) = (is_changed, &fault) {
            error!("{fault}");
        }
        set(&mut self.unserved, attachment, fault);
    }
}

/// Logs the attachments of an instance that became void, and why. A guest that ended leaves one, so
/// this is not a fault.
pub(super) fn log_void(before: &[status::AttachmentStatus], now: &[status::AttachmentStatus]) {
    let is_void =
        |status: &&status::AttachmentStatus| status.state == status::AttachmentState::Void;
    for status in now.iter().filter(is_void) {
        if let (false, Some(reason)) = (before.contains(status), &status.reason) {
            let (id, attachment) = (&status.instance, &status.attachment);
            info!("attachment void: {id} gives up {attachment}: {reason}");
        }
    }
}

fn set<K: Clone + Ord>(logged: &mut BTreeMap<K, String>, key: &K, text: Option<String>) {
    match text {
        Some(text) => drop(logged.insert(key.clone(), text)),
        None => drop(logged.remove(key)),
    }
}
