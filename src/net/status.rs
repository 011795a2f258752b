//! The status of listeners: the reconciler publishes it, operators read it.

use std::fmt;
use std::net::SocketAddr;

use serde::Serialize;

use crate::instance::{Attachment, InstanceId};
use crate::origin::Family;

/// All listeners at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListenersStatus {
    /// The listeners that the configuration or an instance needs.
    pub listeners: Vec<ListenerStatus>,
    /// Claimed attachments that this configuration or this host cannot serve, with the reason.
    pub unserved: Vec<(Attachment, String)>,
    /// Every attachment of every known instance.
    pub attachments: Vec<AttachmentStatus>,
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
    /// Its link or network namespace does not exist, or is not up.
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
    pub instances: Vec<InstanceId>,
    /// What it waits for, such as a missing link; `None` if its link is ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// Its sockets, at most one for each address family.
    pub sockets: Vec<SocketStatus>,
}

/// The kinds of listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
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

impl ListenersStatus {
    /// Returns the listener that serves an attachment.
    pub(crate) fn of(&self, attachment: &Attachment) -> Option<&ListenerStatus> {
        let (kind, name) = match attachment {
            Attachment::Listener(name) => (ListenerKind::Listener, name),
            Attachment::SourceAddress(of) => (ListenerKind::Listener, &of.listener),
            Attachment::Interface(name) => (ListenerKind::Interface, name),
            Attachment::BridgePort(port) => (ListenerKind::Bridge, &port.bridge),
            Attachment::NetworkNamespace(name) => (ListenerKind::NetworkNamespace, name),
        };
        self.listeners
            .iter()
            .find(|listener| listener.kind == kind && listener.name == *name)
    }

    /// Returns why an attachment cannot be served; `None` if it can, or if no instance claims it.
    pub(crate) fn unserved(&self, attachment: &Attachment) -> Option<&str> {
        self.unserved
            .iter()
            .find(|(unserved, _)| unserved == attachment)
            .map(|(_, reason)| reason.as_str())
    }
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
