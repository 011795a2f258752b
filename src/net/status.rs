//! The status of the listeners: the daemon publishes it, and the operator reads it.

use std::fmt;
use std::net::SocketAddr;

use serde::Serialize;

use crate::instance::{Attachment, InstanceId};
use crate::origin::Family;

/// The status of all listeners at one moment.
#[derive(Clone, Debug, Default)]
pub struct ListenersStatus {
    /// The listeners that the configuration or an instance requires.
    pub listeners: Vec<ListenerStatus>,
    /// Attachments that cannot be served with this configuration or on this host, and why.
    pub unserved: Vec<(Attachment, String)>,
}

/// The status of one listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListenerStatus {
    /// What kind of listener it is.
    pub kind: ListenerKind,
    /// The name of the listener, interface, bridge or network namespace.
    pub name: String,
    /// Whether source addresses identify the guests there.
    pub by_address: bool,
    /// The instances that are served there once it is open.
    pub instances: Vec<InstanceId>,
    /// What it waits for; `None` when its interface or namespace is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// Its sockets, one for each family.
    pub sockets: Vec<SocketStatus>,
}

/// The kinds of listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum ListenerKind {
    /// A listener of the configuration.
    Listener,
    /// An interface that belongs to one guest.
    Interface,
    /// A bridge with a guest at each port.
    Bridge,
    /// A network namespace.
    NetworkNamespace,
}

/// The status of one socket of a listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct SocketStatus {
    /// `169.254.169.254:80`
    pub address: SocketAddr,
    /// Its state.
    pub state: SocketState,
    /// Why it cannot be opened; `None` unless it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The state of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SocketState {
    /// It accepts connections.
    Listening,
    /// No instance there answers by this address family.
    Closed,
    /// It could not be opened. The daemon keeps trying.
    Refused,
}

impl ListenersStatus {
    /// Returns the listener of an attachment.
    pub fn of(&self, attachment: &Attachment) -> Option<&ListenerStatus> {
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

    /// Returns why no instance can be served at an attachment; `None` if one can.
    pub fn unserved(&self, attachment: &Attachment) -> Option<&str> {
        self.unserved
            .iter()
            .find(|(unserved, _)| unserved == attachment)
            .map(|(_, reason)| reason.as_str())
    }
}

impl ListenerStatus {
    /// Returns the socket of one address family; `None` if the listener has none.
    pub fn socket(&self, family: Family) -> Option<&SocketStatus> {
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

impl SocketState {
    /// Returns the state's name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            SocketState::Listening => "listening",
            SocketState::Closed => "closed",
            SocketState::Refused => "refused",
        }
    }
}
