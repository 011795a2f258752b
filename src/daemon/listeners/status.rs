//! The status of the listeners for the admin socket, and the log of attachments that are not
//! served.

use std::collections::{BTreeMap, BTreeSet};

use tracing::{error, info};

use crate::daemon::listeners::attachments::AttachmentsInput;
use crate::daemon::listeners::desired::{DesiredListener, ListenerConfig};
use crate::daemon::listeners::key::ListenerKey;
use crate::daemon::listeners::socket::FamilySocket;
use crate::instance::InstanceId;
use crate::net::status;
use crate::registry::{Claimants, Snapshot};

/// Returns the status of every listener and of every attachment.
pub(super) fn listeners_status(
    input: &AttachmentsInput<'_>,
    desired: &BTreeMap<ListenerKey, DesiredListener<'_>>,
    attachments: Vec<status::AttachmentStatus>,
) -> status::ListenersStatus {
    let unserved = input.snapshot.claims().filter_map(|(attachment, _)| {
        let reason = input.unserved_reason(attachment)?;
        Some((attachment.clone(), reason))
    });
    status::ListenersStatus {
        listeners: desired
            .iter()
            .map(|(key, desired)| input.listener_status(key, desired))
            .collect(),
        unserved: unserved.collect(),
        attachments,
    }
}

impl AttachmentsInput<'_> {
    fn listener_status(
        &self,
        key: &ListenerKey,
        desired: &DesiredListener<'_>,
    ) -> status::ListenerStatus {
        let (kind, by_address) = match key {
            ListenerKey::Listener(name) => {
                let by_address = self.config.listener(name).anti_spoofed;
                (status::ListenerKind::Listener, by_address)
            }
            ListenerKey::Interface(_) => (status::ListenerKind::Interface, false),
            ListenerKey::Bridge(_) => (status::ListenerKind::Bridge, false),
            ListenerKey::Namespace(_) => (status::ListenerKind::NetworkNamespace, false),
        };
        let listener = self.open.get(key);
        let sockets = listener.iter().flat_map(|listener| &listener.sockets);
        status::ListenerStatus {
            kind,
            name: key.name().to_string(),
            by_address,
            instances: desired.instances().into_iter().cloned().collect(),
            waits_for: listener.is_none().then(|| self.missing(key)),
            sockets: sockets.map(socket_status).collect(),
        }
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
    unserved: BTreeSet<String>,
    void: BTreeSet<String>,
    waiting: BTreeMap<ListenerKey, String>,
}

impl ConflictLog {
    /// Logs listeners that became unusable on this host, and why.
    pub(super) fn log_unusable(&mut self, unusable: &BTreeMap<ListenerKey, String>) {
        for (key, reason) in unusable {
            if self.unusable.get(key) != Some(reason) {
                error!("no instance is served at {key}: {reason}");
            }
        }
        self.unusable = unusable.clone();
    }

    /// Logs attachments that became void, and why. A guest that ended leaves one, so it is no
    /// fault.
    pub(super) fn log_void(&mut self, attachments: &[status::AttachmentStatus]) {
        let mut void = BTreeSet::new();
        for status in attachments {
            if let (status::AttachmentState::Void, Some(reason)) = (status.state, &status.reason) {
                let (id, attachment) = (&status.instance, &status.attachment);
                void.insert(format!("{id} gives up {attachment}: {reason}"));
            }
        }
        for line in void.difference(&self.void) {
            info!("attachment void: {line}");
        }
        self.void = void;
    }

    /// Logs listeners that began to wait for what is missing on this host.
    pub(super) fn log_waiting(
        &mut self,
        input: &AttachmentsInput<'_>,
        desired: &BTreeMap<ListenerKey, DesiredListener<'_>>,
    ) {
        let is_waiting = |key: &&ListenerKey| {
            !input.open.contains_key(*key) && !input.unusable.contains_key(*key)
        };
        let waiting: BTreeMap<ListenerKey, String> = desired
            .keys()
            .filter(is_waiting)
            .map(|key| (key.clone(), input.missing(key)))
            .collect();
        for (key, missing) in &waiting {
            if self.waiting.get(key) != Some(missing) {
                info!("waiting for {key}: {missing}");
            }
        }
        self.waiting = waiting;
    }

    /// Logs attachments with a conflict, and those that the configuration does not serve.
    pub(super) fn log_unserved(&mut self, config: &ListenerConfig, snapshot: &Snapshot) {
        let mut unserved = BTreeSet::new();
        for (attachment, claimants) in snapshot.claims() {
            match (claimants, config.unserved_reason(attachment)) {
                (Claimants::Conflict(ids), _) => {
                    let ids: Vec<&str> = ids.iter().map(InstanceId::as_str).collect();
                    unserved.insert(format!(
                        "{attachment} is claimed by {}: none of them is served there",
                        ids.join(" and ")
                    ));
                }
                (Claimants::One(id), Some(reason)) => {
                    unserved.insert(format!("{id} is not served at {attachment}: {reason}"));
                }
                (Claimants::One(_), None) => {}
            }
        }
        for fault in unserved.difference(&self.unserved) {
            error!("{fault}");
        }
        self.unserved = unserved;
    }
}
