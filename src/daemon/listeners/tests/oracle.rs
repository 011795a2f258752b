//! The reconciler's results, computed from all instances, links and namespaces. What it keeps
//! and follows by single changes must be the same.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use crate::daemon::listeners::attachments::AttachmentsInput;
use crate::daemon::listeners::desired::ListenerConfig;
use crate::daemon::listeners::key::ListenerKey;
use crate::daemon::listeners::presence::{ListenerPresence, link_presence, namespace_presence};
use crate::daemon::listeners::socket::OpenListener;
use crate::guest::gate;
use crate::host::addresses::DesiredAddresses;
use crate::host::netlink::Links;
use crate::instance::{Attachment, BridgePort, InstanceId, namespace_path};
use crate::net::status::AttachmentStatus;
use crate::origin::Family;
use crate::registry::{Entry, Snapshot};

/// Everything that follows from one state of the registry and the host.
pub(super) struct Oracle<'s> {
    config: &'s ListenerConfig,
    snapshot: &'s Snapshot,
    links: &'s Links,
    pub(super) desired: BTreeMap<ListenerKey, Vec<(&'s Attachment, &'s Arc<Entry>)>>,
    pub(super) present: BTreeMap<ListenerKey, ListenerPresence>,
    pub(super) unusable: BTreeMap<ListenerKey, String>,
}

impl<'s> Oracle<'s> {
    /// `before` is what the open sockets depended on.
    pub(super) fn new(
        config: &'s ListenerConfig,
        snapshot: &'s Snapshot,
        links: &'s Links,
        before: &BTreeMap<ListenerKey, ListenerPresence>,
    ) -> Oracle<'s> {
        let names = config.listeners.iter().map(|listener| &listener.name);
        let mut oracle = Oracle {
            config,
            snapshot,
            links,
            desired: names
                .map(|name| (ListenerKey::Listener(name.clone().into()), Vec::new()))
                .collect(),
            present: BTreeMap::new(),
            unusable: BTreeMap::new(),
        };
        for (attachment, _) in snapshot.claims() {
            let Some(entry) = snapshot.attached_to(attachment) else {
                continue;
            };
            if config.unserved_reason(attachment).is_none() {
                let attached = oracle
                    .desired
                    .entry(ListenerKey::of(attachment))
                    .or_default();
                attached.push((attachment, entry));
            }
        }
        oracle.survey(before);
        oracle
    }

    fn survey(&mut self, before: &BTreeMap<ListenerKey, ListenerPresence>) {
        let keys: Vec<ListenerKey> = self.desired.keys().cloned().collect();
        for key in keys {
            let presence = match (&key, self.config.interface_of(&key)) {
                (ListenerKey::Namespace(name), _) => namespace_presence(&namespace_path(name))
                    .unwrap_or_else(|reason| {
                        self.unusable.insert(key.clone(), reason);
                        None
                    }),
                (_, Some(interface)) => {
                    let link = self.links.named(interface);
                    if let Some(vrf) = link.and_then(|link| self.links.vrf_of(link)) {
                        let reason = format!(
                            "in a VRF ({}), the host's own processes cannot be distinguished from the guest",
                            vrf.name
                        );
                        self.unusable.insert(key.clone(), reason);
                    }
                    link_presence(interface, before.get(&key).copied(), self.links)
                }
                (_, None) => Some(ListenerPresence::Always),
            };
            self.present
                .extend(presence.map(|presence| (key, presence)));
        }
        self.reject_namespaces();
        let conflicts = self.interface_conflicts();
        self.unusable.extend(conflicts);
        let unusable = &self.unusable;
        self.present.retain(|key, _| !unusable.contains_key(key));
    }

    fn reject_namespaces(&mut self) {
        let own = namespace_presence(Path::new("/proc/self/ns/net"))
            .unwrap()
            .unwrap();
        let mut keys_of: HashMap<ListenerPresence, Vec<ListenerKey>> = HashMap::new();
        for (key, presence) in &self.present {
            match key {
                _ if *presence == own => {
                    let reason = "it is the host's own namespace".to_string();
                    self.unusable.insert(key.clone(), reason);
                }
                ListenerKey::Namespace(_) => {
                    keys_of.entry(*presence).or_default().push(key.clone())
                }
                _ => {}
            }
        }
        for keys in keys_of.into_values().filter(|keys| keys.len() > 1) {
            let names: Vec<String> = keys.iter().map(ListenerKey::to_string).collect();
            let reason = format!("{} are the same namespace", names.join(" and "));
            self.unusable
                .extend(keys.into_iter().map(|key| (key, reason.clone())));
        }
    }

    fn interface_conflicts(&self) -> BTreeMap<ListenerKey, String> {
        let mut claimed: BTreeMap<u32, BTreeSet<(ListenerKey, &InstanceId)>> = BTreeMap::new();
        for (attachment, claimants) in self.snapshot.claims() {
            let key = ListenerKey::of(attachment);
            let port = match attachment {
                Attachment::BridgePort(BridgePort { port, .. }) => Some(port.as_str()),
                _ => None,
            };
            let interfaces = self.config.interface_of(&key).into_iter().chain(port);
            for link in interfaces.filter_map(|name| self.links.named(name)) {
                let claims = claimed.entry(link.index).or_default();
                claims.extend(claimants.ids().map(|id| (key.clone(), id)));
            }
        }
        let upper_links = self.links.upper_links();
        let mut conflicts = BTreeMap::new();
        for (index, here) in &claimed {
            let above = upper_links.of(*index).into_iter();
            let above = above.filter_map(|link| claimed.get(&link)).flatten();
            let above = above.filter(|(key, _)| !matches!(key, ListenerKey::Bridge(_)));
            for (above, other) in above {
                for (key, guest) in here.iter().filter(|(_, guest)| guest != other) {
                    if !self.config.identifies_beyond_interface(above) {
                        let reason =
                            format!("it also receives packets of {key}, which is {guest}'s");
                        conflicts.insert(above.clone(), reason);
                    }
                    if !self.config.identifies_beyond_interface(key) {
                        let reason = format!("{above} also receives its packets and is {other}'s");
                        conflicts.insert(key.clone(), reason);
                    }
                }
            }
        }
        conflicts
    }

    /// Returns whether a socket of this family should be open.
    pub(super) fn wants(&self, key: &ListenerKey, family: Family) -> bool {
        let attached = &self.desired[key];
        let is_free = attached.is_empty() && key.is_configured() && family == Family::Ipv4;
        is_free
            || attached
                .iter()
                .any(|(_, entry)| gate::listens(entry, family))
    }

    /// Returns the instances of a listener.
    pub(super) fn instances(&self, key: &ListenerKey) -> BTreeSet<InstanceId> {
        let attached = self.desired[key].iter();
        attached
            .map(|(_, entry)| entry.instance.instance_id.clone())
            .collect()
    }

    /// Returns the state of every attachment of every instance, and which instances are applied.
    pub(super) fn attachments(
        &self,
        open: &BTreeMap<ListenerKey, OpenListener>,
    ) -> (Vec<AttachmentStatus>, BTreeMap<InstanceId, bool>) {
        let input = AttachmentsInput {
            config: self.config,
            open,
            unusable: &|key| self.unusable.get(key).cloned(),
            links: self.links,
            snapshot: self.snapshot,
        };
        let entries = self.snapshot.entries();
        let applied =
            entries.map(|entry| (entry.instance.instance_id.clone(), input.is_applied(entry)));
        let ids = self
            .snapshot
            .entries()
            .map(|entry| &entry.instance.instance_id);
        let reserved = self.snapshot.reserved().map(|(id, _)| id);
        let ids: BTreeSet<&InstanceId> = ids.chain(reserved).collect();
        let statuses = ids
            .into_iter()
            .flat_map(|id| input.of_instance(id))
            .collect();
        (statuses, applied.collect())
    }

    /// Returns what listeners wait for.
    pub(super) fn waiting(
        &self,
        open: &BTreeMap<ListenerKey, OpenListener>,
    ) -> BTreeSet<ListenerKey> {
        self.desired
            .keys()
            .filter(|key| !open.contains_key(*key))
            .cloned()
            .collect()
    }

    /// Returns the claimed attachments that are not served, with the reasons.
    pub(super) fn unserved(&self) -> BTreeMap<&Attachment, String> {
        let reason = |attachment: &Attachment| {
            let unusable = || self.unusable.get(&ListenerKey::of(attachment)).cloned();
            self.config.unserved_reason(attachment).or_else(unusable)
        };
        let claims = self.snapshot.claims();
        claims
            .filter_map(|(attachment, _)| Some((attachment, reason(attachment)?)))
            .collect()
    }

    /// Returns the addresses and routes that the interfaces need.
    pub(super) fn addresses(&self) -> BTreeMap<String, DesiredAddresses> {
        let interfaces = self.config.interfaces();
        let service: [IpAddr; 2] = [
            SocketAddr::from(interfaces.ipv4).ip(),
            SocketAddr::from(interfaces.ipv6).ip(),
        ];
        let mut addresses: BTreeMap<String, DesiredAddresses> = BTreeMap::new();
        for (key, attached) in &self.desired {
            let (ListenerKey::Interface(name) | ListenerKey::Bridge(name)) = key else {
                continue;
            };
            let of_interface = addresses.entry(name.to_string()).or_default();
            of_interface.addresses.extend(service);
            for (_, entry) in attached {
                of_interface
                    .routes
                    .extend(entry.instance.routable_ipv6_addresses());
            }
        }
        addresses
    }
}
