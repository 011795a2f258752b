//! The status of listeners: the reconciler publishes it, operators read it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use rpds::{RedBlackTreeMapSync, RedBlackTreeSetSync};
use serde::{Serialize, Serializer};

use crate::instance::{Attachment, InstanceId};
use crate::origin::Family;

/// All listeners at one moment. A clone shares them, so publishing a change of one costs the same
/// whatever their number is.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListenersStatus {
    /// The listeners that the configuration or an instance needs.
    listeners: RedBlackTreeMapSync<(ListenerKind, String), Arc<ListenerStatus>>,
    /// Claimed attachments that this configuration or this host cannot serve, with the reason.
    unserved: RedBlackTreeMapSync<Attachment, String>,
    /// Every attachment of every known instance.
    attachments: RedBlackTreeMapSync<InstanceId, Arc<[AttachmentStatus]>>,
    counts: StatusCounts,
}

/// What is counted as it changes.
#[derive(Clone, Copy, Debug, Default)]
struct StatusCounts {
    /// Instances that are registered.
    instances: usize,
    /// Listeners that wait for something.
    waiting: usize,
    /// Sockets by state.
    sockets: [usize; SocketState::ALL.len()],
    /// Attachments by state.
    attachments: [usize; AttachmentState::ALL.len()],
}

/// One attachment of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AttachmentStatus {
    /// The instance.
    pub instance: InstanceId,
    /// The attachment.
    pub attachment: Attachment,
    /// Its state.
    pub state: AttachmentState,
    /// Why it is not open.
    pub reason: Option<String>,
}

/// Whether an instance is served at one of its attachments. Each attachment is in exactly one
/// state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum AttachmentState {
    /// Requests are answered as the instance's options say.
    Open,
    /// The options enable no address family that its listener has.
    Closed,
    /// One address family is open; another one, which the options enable, is not.
    Partial,
    /// Its link or network namespace does not exist, or is not up; or its instance is being
    /// registered.
    Waiting,
    /// Nothing listens for the instance, although it claims the attachment.
    Refused,
    /// It is bound to a link that is gone. It claims nothing.
    Void,
    /// The instance is stopped or terminated. It claims nothing.
    Inactive,
    /// The instance is quarantined. No instance is served there.
    Quarantined,
}

impl AttachmentState {
    /// All states.
    pub(crate) const ALL: [AttachmentState; 8] = [
        AttachmentState::Open,
        AttachmentState::Closed,
        AttachmentState::Partial,
        AttachmentState::Waiting,
        AttachmentState::Refused,
        AttachmentState::Void,
        AttachmentState::Inactive,
        AttachmentState::Quarantined,
    ];

    /// Returns the word for the state in JSON and in labels.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            AttachmentState::Open => "open",
            AttachmentState::Closed => "closed",
            AttachmentState::Partial => "partial",
            AttachmentState::Waiting => "waiting",
            AttachmentState::Refused => "refused",
            AttachmentState::Void => "void",
            AttachmentState::Inactive => "inactive",
            AttachmentState::Quarantined => "quarantined",
        }
    }
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ListenerStatus {
    /// What it listens on.
    pub kind: ListenerKind,
    /// The name of the listener, interface, bridge or network namespace.
    pub name: String,
    /// Whether it identifies guests by source address.
    pub by_address: bool,
    /// The instances that it serves when it is open.
    #[serde(serialize_with = "serialize_ids")]
    pub instances: RedBlackTreeSetSync<InstanceId>,
    /// What it waits for, such as a missing link; `None` if its link is ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// Its sockets, at most one for each address family.
    pub sockets: Vec<SocketStatus>,
}

/// The kinds of listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) enum ListenerKind {
    /// A `[[listener]]` of the configuration.
    Listener,
    /// An interface that belongs to one guest.
    Interface,
    /// A bridge with guests as its ports.
    Bridge,
    /// A network namespace.
    NetworkNamespace,
}

/// One socket of a listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct SocketStatus {
    /// `169.254.169.254:80`
    pub address: SocketAddr,
    /// Its state.
    pub state: SocketState,
    /// Why it could not be opened, if it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The state of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SocketState {
    /// It accepts connections.
    Listening,
    /// No instance there is served over this address family.
    Closed,
    /// It could not be opened. The reconciler tries again.
    Refused,
}

impl SocketState {
    /// All states.
    const ALL: [SocketState; 3] = [
        SocketState::Listening,
        SocketState::Closed,
        SocketState::Refused,
    ];
}

/// Reading.
impl ListenersStatus {
    /// Returns all listeners, ordered by kind and name.
    pub(crate) fn listeners(&self) -> impl Iterator<Item = &ListenerStatus> {
        self.listeners.values().map(Arc::as_ref)
    }

    /// Returns the number of listeners.
    pub(crate) fn listener_count(&self) -> usize {
        self.listeners.size()
    }

    /// Returns the number of listeners that wait for something.
    pub(crate) fn waiting_count(&self) -> usize {
        self.counts.waiting
    }

    /// Returns the number of sockets in a state.
    pub(crate) fn sockets_in(&self, state: SocketState) -> usize {
        self.counts.sockets[state as usize]
    }

    /// Returns one listener.
    pub(crate) fn listener(&self, kind: ListenerKind, name: &str) -> Option<&ListenerStatus> {
        let listener = self.listeners.get(&(kind, name.to_string()));
        listener.map(Arc::as_ref)
    }

    /// Returns the listener that serves an attachment.
    pub(crate) fn of(&self, attachment: &Attachment) -> Option<&ListenerStatus> {
        let (kind, name) = match attachment {
            Attachment::Listener(name) => (ListenerKind::Listener, name),
            Attachment::SourceAddress(of) => (ListenerKind::Listener, &of.listener),
            Attachment::Interface(name) => (ListenerKind::Interface, name),
            Attachment::BridgePort(port) => (ListenerKind::Bridge, &port.bridge),
            Attachment::NetworkNamespace(name) => (ListenerKind::NetworkNamespace, name),
        };
        self.listener(kind, name)
    }

    /// Returns why an attachment cannot be served; `None` if it can, or if no instance claims it.
    pub(crate) fn unserved(&self, attachment: &Attachment) -> Option<&str> {
        self.unserved.get(attachment).map(String::as_str)
    }

    /// Returns the number of claimed attachments that cannot be served.
    pub(crate) fn unserved_count(&self) -> usize {
        self.unserved.size()
    }

    /// Returns every attachment of every known instance, ordered by instance.
    pub(crate) fn attachments(&self) -> impl Iterator<Item = &AttachmentStatus> {
        self.attachments.values().flat_map(|of| of.iter())
    }

    /// Returns the attachments of one instance.
    pub(crate) fn of_instance(&self, id: &InstanceId) -> &[AttachmentStatus] {
        self.attachments.get(id).map_or(&[], Arc::as_ref)
    }

    /// Returns the number of attachments in a state.
    pub(crate) fn attachments_in(&self, state: AttachmentState) -> usize {
        self.counts.attachments[state as usize]
    }

    /// Returns the number of registered instances.
    pub(crate) fn instance_count(&self) -> usize {
        self.counts.instances
    }
}

/// Following changes.
impl ListenersStatus {
    /// Sets the number of registered instances.
    pub(crate) fn set_instance_count(&mut self, count: usize) {
        self.counts.instances = count;
    }

    /// Replaces one listener, or removes it. Returns whether its sockets or what it waits for
    /// changed.
    pub(crate) fn set_listener(
        &mut self,
        kind: ListenerKind,
        name: &str,
        status: Option<ListenerStatus>,
    ) -> bool {
        let key = (kind, name.to_string());
        let before = self.listeners.get(&key).cloned();
        if before.as_deref() == status.as_ref() {
            return false;
        }
        let parts = |status: Option<&ListenerStatus>| {
            status.map(|status| (status.waits_for.clone(), status.sockets.clone()))
        };
        let is_changed = parts(before.as_deref()) != parts(status.as_ref());
        if let Some(before) = &before {
            self.counts.waiting -= usize::from(before.waits_for.is_some());
            for socket in &before.sockets {
                self.counts.sockets[socket.state as usize] -= 1;
            }
        }
        match status {
            Some(status) => {
                self.counts.waiting += usize::from(status.waits_for.is_some());
                for socket in &status.sockets {
                    self.counts.sockets[socket.state as usize] += 1;
                }
                self.listeners.insert_mut(key, Arc::new(status));
            }
            None => drop(self.listeners.remove_mut(&key)),
        }
        is_changed
    }

    /// Sets why a claimed attachment cannot be served; `None` if it can, or is not claimed.
    pub(crate) fn set_unserved(&mut self, attachment: &Attachment, reason: Option<String>) {
        if self.unserved(attachment) == reason.as_deref() {
            return;
        }
        match reason {
            Some(reason) => self.unserved.insert_mut(attachment.clone(), reason),
            None => drop(self.unserved.remove_mut(attachment)),
        }
    }

    /// Replaces the attachments of an instance.
    pub(crate) fn set_attachments(&mut self, id: &InstanceId, statuses: Vec<AttachmentStatus>) {
        let before = self.attachments.get(id).cloned();
        let before = before.as_deref().unwrap_or_default();
        if before == statuses {
            return;
        }
        for status in before {
            self.counts.attachments[status.state as usize] -= 1;
        }
        for status in &statuses {
            self.counts.attachments[status.state as usize] += 1;
        }
        match statuses.is_empty() {
            true => drop(self.attachments.remove_mut(id)),
            false => self.attachments.insert_mut(id.clone(), statuses.into()),
        }
    }
}

/// A set of this kind has no serialization of its own.
fn serialize_ids<S: Serializer>(
    ids: &RedBlackTreeSetSync<InstanceId>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(ids.iter())
}

impl ListenerStatus {
    /// Returns the socket of an address family; `None` if the listener has no such address.
    pub(crate) fn socket(&self, family: Family) -> Option<&SocketStatus> {
        self.sockets
            .iter()
            .find(|socket| socket.address.is_ipv4() == (family == Family::Ipv4))
    }
}

impl fmt::Display for ListenerStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ListenerKind::Listener => "listener",
            ListenerKind::Interface => "interface",
            ListenerKind::Bridge => "bridge",
            ListenerKind::NetworkNamespace => "network namespace",
        };
        write!(f, "{kind} '{}'", self.name)
    }
}
