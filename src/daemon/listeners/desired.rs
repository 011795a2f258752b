//! The desired state: which listeners the configuration and the instances need.

use std::collections::BTreeMap;
use std::time::Duration;

use rpds::{HashTrieMapSync, RedBlackTreeSetSync};

use crate::config::{Config, InterfaceSettings, ListenerSettings};
use crate::daemon::listeners::key::ListenerKey;
use crate::daemon::unserved::AttachmentSettings;
use crate::guest::gate;
use crate::instance::{Attachment, BridgePort, InstanceId};
use crate::net::FastPath;
use crate::origin::Family;
use crate::registry::Entry;

/// What the configuration says about listeners.
pub(super) struct ListenerConfig {
    pub(super) listeners: Vec<ListenerSettings>,
    pub(super) interfaces: Option<InterfaceSettings>,
    /// The time limit for a request's head.
    pub(super) head_time: Duration,
    /// Whether ordinary requests take the fast path.
    pub(super) fast_path: FastPath,
}

impl ListenerConfig {
    pub(super) fn new(config: &Config) -> ListenerConfig {
        ListenerConfig {
            listeners: config.listeners.clone(),
            interfaces: config.interfaces.clone(),
            head_time: config.guest.head_time,
            fast_path: match config.guest.fast_path {
                true => FastPath::On,
                false => FastPath::Off,
            },
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

    /// Returns the names of the listeners that are bound to an interface.
    pub(super) fn listeners_on(&self, interface: &str) -> impl Iterator<Item = String> {
        let listeners = self.listeners.iter();
        listeners
            .filter(move |listener| listener.interface.as_deref() == Some(interface))
            .map(|listener| listener.name.clone())
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
pub(super) struct DesiredListener {
    attached: BTreeMap<Attachment, AttachedInstance>,
    /// How many of the attached instances listen, by address family.
    listening: [usize; Family::ALL.len()],
    /// How often each instance is attached.
    counts: BTreeMap<InstanceId, usize>,
    instances: RedBlackTreeSetSync<InstanceId>,
    bridge_ports: HashTrieMapSync<u32, Attachment>,
}

/// An instance at one of its attachments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AttachedInstance {
    id: InstanceId,
    /// Whether its options open a socket, by address family.
    listens: [bool; Family::ALL.len()],
}

impl AttachedInstance {
    pub(super) fn of(entry: &Entry) -> AttachedInstance {
        AttachedInstance {
            id: entry.instance.instance_id.clone(),
            listens: Family::ALL.map(|family| gate::listens(entry, family)),
        }
    }
}

impl DesiredListener {
    /// Returns whether a socket of this family should be open. A configured listener without
    /// instances stays open on IPv4, and its connections are reset.
    pub(super) fn wants(&self, key: &ListenerKey, family: Family) -> bool {
        let is_free = self.attached.is_empty() && key.is_configured() && family == Family::Ipv4;
        let listening = Family::ALL.into_iter().zip(self.listening);
        is_free
            || listening
                .into_iter()
                .any(|(of, count)| of == family && count > 0)
    }

    /// Returns whether no instance is attached.
    pub(super) fn is_empty(&self) -> bool {
        self.attached.is_empty()
    }

    /// Returns all instances of the listener.
    pub(super) fn instances(&self) -> &RedBlackTreeSetSync<InstanceId> {
        &self.instances
    }

    /// Returns the attachments of a bridge by the mark of their ports.
    pub(super) fn bridge_ports(&self) -> &HashTrieMapSync<u32, Attachment> {
        &self.bridge_ports
    }

    /// Sets the instance at an attachment. Returns whether that changed anything.
    pub(super) fn set(
        &mut self,
        attachment: &Attachment,
        attached: Option<AttachedInstance>,
    ) -> bool {
        if self.attached.get(attachment) == attached.as_ref() {
            return false;
        }
        if let Some(before) = self.attached.remove(attachment) {
            self.remove(attachment, &before);
        }
        if let Some(attached) = attached {
            self.add(attachment, &attached);
            self.attached.insert(attachment.clone(), attached);
        }
        true
    }

    fn remove(&mut self, attachment: &Attachment, before: &AttachedInstance) {
        for (count, listens) in self.listening.iter_mut().zip(before.listens) {
            *count -= usize::from(listens);
        }
        if let Some(count) = self.counts.get_mut(&before.id) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&before.id);
                self.instances.remove_mut(&before.id);
            }
        }
        if let Attachment::BridgePort(BridgePort { mark, .. }) = attachment
            && self.bridge_ports.get(mark) == Some(attachment)
        {
            self.bridge_ports.remove_mut(mark);
        }
    }

    fn add(&mut self, attachment: &Attachment, attached: &AttachedInstance) {
        for (count, listens) in self.listening.iter_mut().zip(attached.listens) {
            *count += usize::from(listens);
        }
        *self.counts.entry(attached.id.clone()).or_default() += 1;
        self.instances.insert_mut(attached.id.clone());
        if let Attachment::BridgePort(BridgePort { mark, .. }) = attachment {
            self.bridge_ports.insert_mut(*mark, attachment.clone());
        }
    }
}
