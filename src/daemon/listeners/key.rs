//! What identifies a listener.

use std::fmt;

use crate::instance::{Attachment, BridgePort, SharedText, SourceAddress};

/// The identity of a listener. Several attachments can belong to one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ListenerKey {
    /// A listener of the configuration.
    Listener(SharedText),
    /// An interface of one guest.
    Interface(SharedText),
    /// A bridge, whose ports are guests.
    Bridge(SharedText),
    /// A network namespace of one guest.
    Namespace(SharedText),
}

impl ListenerKey {
    /// Returns the listener that an attachment belongs to.
    pub(super) fn of(attachment: &Attachment) -> ListenerKey {
        match attachment {
            Attachment::Listener(name)
            | Attachment::SourceAddress(SourceAddress { listener: name, .. }) => {
                ListenerKey::Listener(name.clone())
            }
            Attachment::Interface(name) => ListenerKey::Interface(name.clone()),
            Attachment::BridgePort(BridgePort { bridge, .. }) => {
                ListenerKey::Bridge(bridge.clone())
            }
            Attachment::NetworkNamespace(name) => ListenerKey::Namespace(name.clone()),
        }
    }

    pub(super) fn name(&self) -> &str {
        match self {
            ListenerKey::Listener(name)
            | ListenerKey::Interface(name)
            | ListenerKey::Bridge(name)
            | ListenerKey::Namespace(name) => name,
        }
    }

    pub(super) fn is_configured(&self) -> bool {
        matches!(self, ListenerKey::Listener(_))
    }
}

impl fmt::Display for ListenerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenerKey::Listener(name) => write!(f, "listener '{name}'"),
            ListenerKey::Interface(name) => write!(f, "interface '{name}'"),
            ListenerKey::Bridge(name) => write!(f, "bridge '{name}'"),
            ListenerKey::Namespace(name) => write!(f, "network namespace '{name}'"),
        }
    }
}
