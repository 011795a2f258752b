//! The listeners in as they are: what whoever opens them publishes, and an operator reads.

use std::fmt;
use std::net::SocketAddr;

use serde::Serialize;

use crate::instance::{Attachment, InstanceId};
use crate::origin::Family;

/// All listeners in at one moment.
#[derive(Clone, Debug, Default)]
pub struct ListenersStatus {
    /// Those that the configuration or an instance asks for.
    pub listeners: Vec<ListenerStatus>,
    /// Claims that can't be served under this configuration or on this host, and why.
    pub unserved: Vec<(Attachment, String)>,
}

/// One way in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListenerStatus {
    /// What it is.
    pub kind: ListenerKind,
    /// Its name: of the listener, the interface, the bridge, the network namespace.
    pub name: String,
    /// Whether the guests there are told apart by their addresses.
    pub by_address: bool,
    /// The instances that are served there, once it is open.
    pub instances: Vec<InstanceId>,
    /// Why it is not there; `None` when it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// Its sockets, one for each family.
    pub sockets: Vec<Socket>,
}

/// The kinds of listeners in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum ListenerKind {
    /// A listener of the configuration.
    Listener,
    /// An interface of one guest's own.
    Interface,
    /// A bridge, whose ports are guests.
    Bridge,
    /// A network namespace.
    NetworkNamespace,
}

/// One socket of a way in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Socket {
    /// `169.254.169.254:80`
    pub address: SocketAddr,
    /// What it does.
    pub state: SocketState,
    /// Why it can't be opened, when it can't.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What a socket does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SocketState {
    /// It takes connections.
    Listening,
    /// No instance there answers on this family.
    Closed,
    /// It could not be opened, and is tried again.
    Refused,
}

impl ListenersStatus {
    /// The way in that an attachment leads through.
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
            .find(|way| way.kind == kind && way.name == *name)
    }

    /// Why nobody can be served at an attachment, whoever claims it.
    pub fn unserved(&self, attachment: &Attachment) -> Option<&str> {
        self.unserved
            .iter()
            .find(|(unserved, _)| unserved == attachment)
            .map(|(_, reason)| reason.as_str())
    }
}

impl ListenerStatus {
    /// The socket of one family; `None` where it has none.
    pub fn socket(&self, family: Family) -> Option<&Socket> {
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
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            SocketState::Listening => "listening",
            SocketState::Closed => "closed",
            SocketState::Refused => "refused",
        }
    }
}
