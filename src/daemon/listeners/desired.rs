//! The desired state: which listeners the configuration and the instances need, and what the
//! guests' interfaces need.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, InterfaceSettings, ListenerSettings};
use crate::daemon::listeners::key::ListenerKey;
use crate::daemon::unserved::AttachmentSettings;
use crate::guest::gate;
use crate::host::addresses::DesiredAddresses;
use crate::instance::{Attachment, BridgePort, InstanceId};
use crate::origin::Family;
use crate::registry::{Entry, Snapshot};

/// What the configuration says about listeners.
pub(super) struct ListenerConfig {
    pub(super) listeners: Vec<ListenerSettings>,
    pub(super) interfaces: Option<InterfaceSettings>,
    /// The time limit for a request's head.
    pub(super) head_time: Duration,
}

impl ListenerConfig {
    pub(super) fn new(config: &Config) -> ListenerConfig {
        ListenerConfig {
            listeners: config.listeners.clone(),
            interfaces: config.interfaces.clone(),
            head_time: config.guest.head_time,
        }
    }

    /// Returns a listener by name. A document may name one that the configuration does not have.
    pub(super) fn find(&self, name: &str) -> Option<&ListenerSettings> {
        self.listeners.iter().find(|listener| listener.name == name)
    }

    /// Returns a listener that is known to be configured.
    pub(super) fn listener(&self, name: &str) -> &ListenerSettings {
        self.find(name)
            .expect("only configured listeners are opened")
    }

    /// Returns the table `[interfaces]`, which every interface, bridge and namespace needs.
    pub(super) fn interfaces(&self) -> &InterfaceSettings {
        self.interfaces
            .as_ref()
            .expect("without the table, no attachment needs it")
    }

    /// Returns the name of the interface that a listener is bound to, if any.
    pub(super) fn interface_of<'k>(&'k self, key: &'k ListenerKey) -> Option<&'k str> {
        match key {
            ListenerKey::Listener(name) => self.find(name)?.interface.as_deref(),
            ListenerKey::Interface(name) | ListenerKey::Bridge(name) => Some(name.as_str()),
            ListenerKey::Namespace(_) => None,
        }
    }

    /// Returns whether something besides the interface identifies the guests there: the mark of a
    /// bridge port, or a source address that can be trusted.
    pub(super) fn identifies_beyond_interface(&self, key: &ListenerKey) -> bool {
        match key {
            ListenerKey::Bridge(_) => true,
            ListenerKey::Listener(name) => self
                .find(name)
                .is_some_and(|listener| listener.anti_spoofed),
            ListenerKey::Interface(_) | ListenerKey::Namespace(_) => false,
        }
    }

    /// Returns why no instance can be served at an attachment under this configuration.
    pub(super) fn unserved_reason(&self, attachment: &Attachment) -> Option<String> {
        let settings = AttachmentSettings {
            listeners: &self.listeners,
            interfaces: self.interfaces.as_ref(),
        };
        settings.unserved_reason(attachment)
    }
}

/// A listener that should exist, with its instances. An instance that is attached several times
/// appears several times.
#[derive(Default)]
pub(super) struct DesiredListener<'s> {
    attached: Vec<(&'s Attachment, &'s Arc<Entry>)>,
}

impl DesiredListener<'_> {
    /// Returns whether a socket of this family should be open. A configured listener without
    /// instances stays open on IPv4, and its connections are reset.
    pub(super) fn wants(&self, key: &ListenerKey, family: Family) -> bool {
        let is_free = self.attached.is_empty() && key.is_configured() && family == Family::Ipv4;
        is_free || self.instances_listening(family).next().is_some()
    }

    /// Returns the instances whose options open a socket of this family.
    pub(super) fn instances_listening(&self, family: Family) -> impl Iterator<Item = &InstanceId> {
        self.attached
            .iter()
            .filter(move |(_, entry)| gate::listens(entry, family))
            .map(|(_, entry)| &entry.instance.instance_id)
    }

    /// Returns all instances of the listener.
    pub(super) fn instances(&self) -> BTreeSet<&InstanceId> {
        self.attached
            .iter()
            .map(|(_, entry)| &entry.instance.instance_id)
            .collect()
    }

    /// Returns the attachments of a bridge by the mark of their ports.
    pub(super) fn bridge_ports(&self) -> HashMap<u32, Attachment> {
        self.attached
            .iter()
            .filter_map(|(attachment, _)| match attachment {
                Attachment::BridgePort(BridgePort { mark, .. }) => {
                    Some((*mark, (*attachment).clone()))
                }
                _ => None,
            })
            .collect()
    }
}

/// Returns the listeners of the configuration, and those that the instances need. An attachment
/// with a conflict needs none.
pub(super) fn desired_listeners<'s>(
    config: &ListenerConfig,
    snapshot: &'s Snapshot,
) -> BTreeMap<ListenerKey, DesiredListener<'s>> {
    let mut desired: BTreeMap<ListenerKey, DesiredListener<'s>> = config
        .listeners
        .iter()
        .map(|listener| ListenerKey::Listener(listener.name.clone()))
        .map(|key| (key, DesiredListener::default()))
        .collect();
    for (attachment, _) in snapshot.claims() {
        let Some(entry) = snapshot.attached_to(attachment) else {
            continue;
        };
        if config.unserved_reason(attachment).is_none() {
            let listener = desired.entry(ListenerKey::of(attachment)).or_default();
            listener.attached.push((attachment, entry));
        }
    }
    desired
}

/// Returns what the guests' interfaces need: the addresses of the service, and routes to the
/// guests' IPv6 addresses.
pub(super) fn desired_addresses(
    config: &ListenerConfig,
    snapshot: &Snapshot,
) -> BTreeMap<String, DesiredAddresses> {
    let mut desired: BTreeMap<String, DesiredAddresses> = BTreeMap::new();
    let Some(interfaces) = &config.interfaces else {
        return desired;
    };
    let service: [IpAddr; 2] = [
        SocketAddr::from(interfaces.ipv4).ip(),
        SocketAddr::from(interfaces.ipv6).ip(),
    ];
    for (key, listener) in desired_listeners(config, snapshot) {
        let (ListenerKey::Interface(name) | ListenerKey::Bridge(name)) = key else {
            continue;
        };
        let of_interface = desired.entry(name).or_default();
        of_interface.addresses.extend(service);
        for (_, entry) in listener.attached {
            let routes = entry.instance.routable_ipv6_addresses();
            of_interface.routes.extend(routes);
        }
    }
    desired
}
