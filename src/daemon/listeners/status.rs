//! The status of the listeners for the admin socket, and the log of attachments that are not
//! served.

use std::collections::{BTreeMap, BTreeSet};

use tracing::{error, info};

use crate::daemon::listeners::desired::{DesiredListener, ListenerConfig};
use crate::daemon::listeners::key::ListenerKey;
use crate::daemon::listeners::socket::{FamilySocket, OpenListener};
use crate::host::netlink::Links;
use crate::instance::{Attachment, InstanceId, namespace_path};
use crate::net::status;
use crate::registry::{Claimants, Snapshot};

/// What the status is read from.
pub(super) struct StatusInput<'a> {
    pub(super) config: &'a ListenerConfig,
    pub(super) open: &'a BTreeMap<ListenerKey, OpenListener>,
    pub(super) unusable: &'a BTreeMap<ListenerKey, String>,
    pub(super) links: &'a Links,
}

/// Returns the status of every listener, and the attachments that are not served.
pub(super) fn listeners_status(
    input: &StatusInput<'_>,
    desired: &BTreeMap<ListenerKey, DesiredListener<'_>>,
    snapshot: &Snapshot,
) -> status::ListenersStatus {
    let unserved = snapshot.claims().filter_map(|(attachment, _)| {
        let reason = input.unserved_reason(attachment)?;
        Some((attachment.clone(), reason))
    });
    status::ListenersStatus {
        listeners: desired
            .iter()
            .map(|(key, desired)| input.listener_status(key, desired))
            .collect(),
        unserved: unserved.collect(),
    }
}

impl StatusInput<'_> {
    fn unserved_reason(&self, attachment: &Attachment) -> Option<String> {
        self.config
            .unserved_reason(attachment)
            .or_else(|| self.unusable.get(&ListenerKey::of(attachment)).cloned())
    }

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

    /// Returns what a listener waits for.
    fn missing(&self, key: &ListenerKey) -> String {
        if let Some(reason) = self.unusable.get(key) {
            return reason.clone();
        }
        if let ListenerKey::Namespace(name) = key {
            return format!("there is no {}", namespace_path(name).display());
        }
        match self
            .config
            .interface_of(key)
            .map(|name| (name, self.links.named(name)))
        {
            None => "it is opened next".to_string(),
            Some((name, None)) => format!("there is no interface '{name}'"),
            Some((name, Some(_))) => format!("interface '{name}' is not up"),
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

    /// Logs listeners that began to wait for what is missing on this host.
    pub(super) fn log_waiting(
        &mut self,
        input: &StatusInput<'_>,
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
