//! What the guests' interfaces need: the addresses of the service, and routes to the guests' IPv6
//! addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::config::{AddressMode, InterfaceSettings};
use crate::host::addresses::DesiredAddresses;
use crate::instance::{Attachment, BridgePort};
use crate::registry::Entry;

/// The addresses and routes that each interface needs, as the instances change.
#[derive(Default)]
pub(super) struct NeededAddresses {
    /// The addresses of the service; `None` if the daemon adds none to interfaces.
    service: Option<[IpAddr; 2]>,
    /// The routes that each served attachment needs.
    routes: BTreeMap<Attachment, BTreeSet<Ipv6Addr>>,
    /// How many attachments need each interface, and each route there.
    counts: BTreeMap<String, InterfaceCounts>,
    desired: BTreeMap<String, DesiredAddresses>,
    version: u64,
}

#[derive(Default)]
struct InterfaceCounts {
    attachments: usize,
    routes: BTreeMap<Ipv6Addr, usize>,
}

impl NeededAddresses {
    pub(super) fn new(interfaces: Option<&InterfaceSettings>) -> NeededAddresses {
        let managed = interfaces.filter(|settings| settings.addresses == AddressMode::Manage);
        NeededAddresses {
            service: managed.map(|settings| {
                [
                    SocketAddr::from(settings.ipv4).ip(),
                    SocketAddr::from(settings.ipv6).ip(),
                ]
            }),
            ..NeededAddresses::default()
        }
    }

    /// Returns what the interfaces need, by name; nothing if the daemon adds no addresses.
    pub(super) fn desired(&self) -> &BTreeMap<String, DesiredAddresses> {
        &self.desired
    }

    /// Returns a number that is another one after each change of what the interfaces need.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Sets the instance that is served at an attachment.
    pub(super) fn set(&mut self, attachment: &Attachment, entry: Option<&Entry>) {
        let (Some(service), Some(interface)) = (self.service, interface_of(attachment)) else {
            return;
        };
        let routes =
            entry.map(|entry| BTreeSet::from_iter(entry.instance.routable_ipv6_addresses()));
        let before = self.routes.get(attachment);
        if before == routes.as_ref() {
            return;
        }
        self.version += 1;
        let counts = self.counts.entry(interface.to_string()).or_default();
        let desired = self.desired.entry(interface.to_string()).or_default();
        for route in before.into_iter().flatten() {
            let count = counts.routes.entry(*route).or_default();
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.routes.remove(route);
                desired.routes.remove(route);
            }
        }
        for route in routes.iter().flatten() {
            *counts.routes.entry(*route).or_default() += 1;
            desired.routes.insert(*route);
        }
        counts.attachments -= usize::from(before.is_some());
        counts.attachments += usize::from(routes.is_some());
        desired.addresses.extend(service);
        if counts.attachments == 0 {
            self.counts.remove(interface);
            self.desired.remove(interface);
        }
        match routes {
            Some(routes) => drop(self.routes.insert(attachment.clone(), routes)),
            None => drop(self.routes.remove(attachment)),
        }
    }
}

/// Returns the interface that needs the addresses for an attachment, if any.
fn interface_of(attachment: &Attachment) -> Option<&str> {
    match attachment {
        Attachment::Interface(name) | Attachment::BridgePort(BridgePort { bridge: name, .. }) => {
            Some(name)
        }
        Attachment::Listener(_)
        | Attachment::SourceAddress(_)
        | Attachment::NetworkNamespace(_) => None,
    }
}
