//! Links and their addresses, updated by netlink messages.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::instance::{LinkIdentities, LinkIdentity};

/// Identifies a link among all that ever existed, even if another one had the same name and index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(u64);

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number, which another link may have later.
    pub index: u32,
    /// Its name, which another link may have later.
    pub name: String,
    /// Which link it is.
    pub incarnation: Incarnation,
    /// Whether it is administratively up.
    pub up: bool,
    /// How often it came up. The kernel removes IPv6 addresses and routes when a link goes down.
    pub ups: u64,
    /// Its Ethernet address as colon-separated lower-case hexadecimal; empty when it has none.
    pub mac: String,
    /// The kernel's name for its kind: `bridge`, `vlan`, `veth`, `tun`; empty for hardware.
    pub kind: String,
    /// The index of the bridge or VRF that it is a port of.
    pub controller: Option<u32>,
    /// The index of the link below it, for example of a VLAN device.
    pub below: Option<u32>,
    /// The longest packet that it carries, in bytes.
    pub mtu: u32,
    /// Its usable addresses: without those for which duplicate address detection is running or has
    /// failed.
    pub addresses: BTreeSet<IpAddr>,
}

impl Link {
    /// Returns what bindings of attachments are compared with. A bridge takes the MAC address of
    /// one of its ports, so it changes as guests come and go.
    pub fn identity(&self) -> LinkIdentity {
        let is_stable = !self.mac.is_empty() && self.kind != "bridge";
        LinkIdentity {
            index: self.index,
            mac_address: is_stable.then(|| self.mac.clone()),
        }
    }
}

#[cfg(test)]
impl Link {
    /// Returns a link for tests: up, and without addresses.
    pub(in crate::host) fn example(index: u32, name: &str, kind: &str) -> Link {
        Link {
            index,
            name: name.to_string(),
            incarnation: Incarnation(index.into()),
            up: true,
            ups: 1,
            mac: format!("02:00:00:00:00:{index:02x}"),
            kind: kind.to_string(),
            controller: None,
            below: None,
            mtu: 1500,
            addresses: BTreeSet::new(),
        }
    }
}

/// All links of the host.
#[derive(Clone, Debug, Default)]
pub struct Links {
    links: BTreeMap<u32, Link>,
    indexes: HashMap<String, u32>,
    /// How many links there have been.
    created: u64,
}

impl Links {
    /// Returns the link that currently has this name.
    pub fn named(&self, name: &str) -> Option<&Link> {
        self.links.get(self.indexes.get(name)?)
    }

    /// Returns the link that currently has this index.
    pub fn indexed(&self, index: u32) -> Option<&Link> {
        self.links.get(&index)
    }

    /// Returns all links.
    pub fn iter(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    /// Returns what identifies the links in this boot of the host.
    pub fn identities(&self, boot_id: &str) -> LinkIdentities {
        let by_name = self.iter().map(|link| (link.name.clone(), link.identity()));
        LinkIdentities {
            boot_id: boot_id.to_string(),
            by_name: by_name.collect(),
        }
    }

    /// Returns the VRF whose device the kernel names as the device of the link's packets: the VRF
    /// that the link is in, or the link if it is one.
    pub fn vrf_of(&self, link: &Link) -> Option<&Link> {
        let controller = link.controller.and_then(|index| self.indexed(index));
        [self.indexed(link.index), controller]
            .into_iter()
            .flatten()
            .find(|link| link.kind == "vrf")
    }

    /// Returns which links also receive the packets that another link receives.
    pub fn upper_links(&self) -> UpperLinks {
        // The kernel names the other end of a veth in the same attribute, but that end does not
        // receive its packets.
        let receives_a_share =
            |kind: &str| matches!(kind, "vlan" | "macvlan" | "macvtap" | "ipvlan" | "ipvtap");
        let mut direct: HashMap<u32, Vec<u32>> = HashMap::new();
        for link in self.links.values() {
            if let Some(below) = link.below.filter(|_| receives_a_share(&link.kind)) {
                direct.entry(below).or_default().push(link.index);
            }
            if let Some(controller) = link.controller {
                direct.entry(link.index).or_default().push(controller);
            }
        }
        UpperLinks(direct)
    }

    /// Applies a message of the kernel. Returns whether anything changed.
    pub(super) fn apply(&mut self, message: &RouteNetlinkMessage) -> bool {
        match message {
            RouteNetlinkMessage::NewLink(message) => self.apply_link(message),
            RouteNetlinkMessage::DelLink(message) => {
                is_of_link(message) && self.remove(message.header.index)
            }
            RouteNetlinkMessage::NewAddress(message) => {
                self.apply_address(message, is_usable(message))
            }
            RouteNetlinkMessage::DelAddress(message) => self.apply_address(message, false),
            _ => false,
        }
    }

    /// Applies a new or changed link. Returns whether anything changed.
    pub(super) fn apply_link(&mut self, message: &LinkMessage) -> bool {
        let index = message.header.index;
        let up = message.header.flags.contains(LinkFlags::Up);
        let (mut name, mut mac, mut controller) = (None, String::new(), None);
        let (mut kind, mut below, mut mtu) = (String::new(), None, u32::MAX);
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(value) => name = Some(value),
                LinkAttribute::Address(bytes) if bytes.len() == 6 => mac = mac_text(bytes),
                LinkAttribute::Controller(value) => controller = (*value != 0).then_some(*value),
                LinkAttribute::Mtu(value) => mtu = *value,
                LinkAttribute::Link(value) => below = (*value != 0).then_some(*value),
                LinkAttribute::LinkInfo(infos) => {
                    let of_info = infos.iter().find_map(|info| match info {
                        LinkInfo::Kind(kind) => Some(kind.to_string()),
                        _ => None,
                    });
                    kind = of_info.unwrap_or_default();
                }
                _ => {}
            }
        }
        let (Some(name), true) = (name, is_of_link(message)) else {
            return false;
        };
        let before = self.links.get(&index).cloned();
        let link = match &before {
            Some(known) => Link {
                name: name.clone(),
                up,
                ups: known.ups + u64::from(up && !known.up),
                mac,
                kind,
                controller,
                below,
                mtu,
                ..known.clone()
            },
            None => {
                self.created += 1;
                let incarnation = Incarnation(self.created);
                let (ups, addresses) = (u64::from(up), BTreeSet::new());
                Link {
                    index,
                    name: name.clone(),
                    incarnation,
                    up,
                    ups,
                    mac,
                    kind,
                    controller,
                    below,
                    mtu,
                    addresses,
                }
            }
        };
        let is_changed = before.as_ref() != Some(&link);
        if let Some(before) = before.filter(|before| before.name != *name) {
            self.forget_name(&before);
        }
        self.indexes.insert(name.clone(), index);
        self.links.insert(index, link);
        is_changed
    }

    fn remove(&mut self, index: u32) -> bool {
        let Some(link) = self.links.remove(&index) else {
            return false;
        };
        self.forget_name(&link);
        true
    }

    /// Forgets the name of a link, unless another link has it by now.
    fn forget_name(&mut self, link: &Link) {
        if self.indexes.get(&link.name) == Some(&link.index) {
            self.indexes.remove(&link.name);
        }
    }

    /// Adds or removes the address of the message. Returns whether anything changed.
    pub(super) fn apply_address(&mut self, message: &AddressMessage, is_present: bool) -> bool {
        let (Some(address), Some(link)) = (
            address_of(message),
            self.links.get_mut(&message.header.index),
        ) else {
            return false;
        };
        if is_present {
            link.addresses.insert(address)
        } else {
            link.addresses.remove(&address)
        }
    }

    /// Returns links for tests.
    #[cfg(test)]
    pub(in crate::host) fn of(examples: impl IntoIterator<Item = Link>) -> Links {
        let mut links = Links::default();
        for link in examples {
            links.indexes.insert(link.name.clone(), link.index);
            links.links.insert(link.index, link);
        }
        links
    }

    pub(super) fn clear_addresses(&mut self) {
        self.links
            .values_mut()
            .for_each(|link| link.addresses.clear());
    }

    /// Copies the addresses of all links that are the same in `other`. Returns whether any changed.
    pub(super) fn copy_addresses(&mut self, other: &Links) -> bool {
        let mut is_changed = false;
        for link in self.links.values_mut() {
            let same = other
                .indexed(link.index)
                .filter(|same| same.incarnation == link.incarnation);
            if let Some(same) = same.filter(|same| same.addresses != link.addresses) {
                link.addresses.clone_from(&same.addresses);
                is_changed = true;
            }
        }
        is_changed
    }

    /// Forgets all links. Links that are added afterwards count as new.
    pub(super) fn clear(&mut self) {
        self.links.clear();
        self.indexes.clear();
    }
}

/// Which links receive the packets of others: a bridge, bond or VRF those of its ports, and a
/// device on top of a link, such as a VLAN device, its share of them.
pub struct UpperLinks(HashMap<u32, Vec<u32>>);

impl UpperLinks {
    /// Returns all links that receive packets of the link with this index, directly or through
    /// others.
    pub fn of(&self, index: u32) -> BTreeSet<u32> {
        let (mut all, mut next) = (BTreeSet::new(), vec![index]);
        while let Some(here) = next.pop() {
            let above = self.0.get(&here).into_iter().flatten();
            next.extend(above.filter(|upper| **upper != index && all.insert(**upper)));
        }
        all
    }
}

/// Returns whether a message is about the link itself. A bridge reports its ports in messages of
/// the bridge family: they have fewer attributes, and a port that leaves the bridge is "deleted" in
/// them.
fn is_of_link(message: &LinkMessage) -> bool {
    message.header.interface_family == AddressFamily::Unspec
}

/// Returns the local address: IPv4 has it in `IFA_LOCAL`, IPv6 may have it in `IFA_ADDRESS` alone.
pub(super) fn address_of(message: &AddressMessage) -> Option<IpAddr> {
    let local = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            AddressAttribute::Local(address) => Some(*address),
            _ => None,
        });
    local.or_else(|| {
        message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                AddressAttribute::Address(address) => Some(*address),
                _ => None,
            })
    })
}

/// Returns whether duplicate address detection has passed or was not needed.
pub(super) fn is_usable(message: &AddressMessage) -> bool {
    !message
        .header
        .flags
        .intersects(AddressHeaderFlags::Tentative | AddressHeaderFlags::Dadfailed)
}

fn mac_text(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_of_a_link_reach_its_bridge_and_the_devices_on_top_of_it() {
        let under = |link: Link, controller| Link {
            controller: Some(controller),
            ..link
        };
        let on = |link: Link, below| Link {
            below: Some(below),
            ..link
        };
        let links = Links::of([
            Link::example(1, "br0", "bridge"),
            under(Link::example(2, "tap2", "tun"), 1),
            under(Link::example(3, "tap3", "tun"), 1),
            on(Link::example(4, "br0.100", "vlan"), 1),
            on(Link::example(5, "tap2.7", "vlan"), 2),
            // The two ends of a veth: the kernel reports each as being on top of the other.
            on(Link::example(6, "veth6", "veth"), 7),
            on(Link::example(7, "veth7", "veth"), 6),
            // A loop, which the kernel does not allow.
            on(Link::example(8, "a", "vlan"), 9),
            on(Link::example(9, "b", "vlan"), 8),
        ]);
        let upper_links = links.upper_links();
        for (index, expected) in [
            (1, vec![4]),
            (2, vec![1, 4, 5]),
            (3, vec![1, 4]),
            (4, vec![]),
            (5, vec![]),
            (6, vec![]),
            (8, vec![9]),
            (99, vec![]),
        ] {
            assert_eq!(
                upper_links.of(index),
                BTreeSet::from_iter(expected),
                "{index}"
            );
        }
    }

    #[test]
    fn the_vrf_of_a_link_is_found() {
        let links = Links::of([
            Link::example(1, "blue", "vrf"),
            Link {
                controller: Some(1),
                ..Link::example(2, "tap2", "tun")
            },
            Link {
                controller: Some(4),
                ..Link::example(3, "tap3", "tun")
            },
            Link::example(4, "br0", "bridge"),
        ]);
        for (name, vrf) in [
            ("blue", Some("blue")),
            ("tap2", Some("blue")),
            ("tap3", None),
            ("br0", None),
        ] {
            let found = links.vrf_of(links.named(name).unwrap());
            assert_eq!(found.map(|link| link.name.as_str()), vrf, "{name}");
        }
    }

    fn link(index: u32, name: &str, up: bool) -> RouteNetlinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = if up {
            LinkFlags::Up
        } else {
            LinkFlags::empty()
        };
        message.attributes = vec![
            LinkAttribute::IfName(name.to_string()),
            LinkAttribute::Address(vec![2, 0, 0, 0, 0, index as u8]),
        ];
        RouteNetlinkMessage::NewLink(message)
    }

    fn deleted(index: u32) -> RouteNetlinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = index;
        RouteNetlinkMessage::DelLink(message)
    }

    fn address(index: u32, text: &str, flags: AddressHeaderFlags) -> AddressMessage {
        let mut message = AddressMessage::default();
        message.header.index = index;
        message.header.flags = flags;
        message.attributes = vec![AddressAttribute::Address(text.parse().unwrap())];
        message
    }

    #[test]
    fn a_link_that_is_deleted_and_created_again_is_another_link() {
        let mut links = Links::default();
        assert!(links.apply(&link(5, "tap0", true)));
        assert!(!links.apply(&link(5, "tap0", true)), "unchanged");
        let first = links.named("tap0").unwrap().clone();
        assert_eq!(
            (first.index, first.mac.as_str(), first.ups),
            (5, "02:00:00:00:00:05", 1)
        );

        // Down and up again: the same link.
        assert!(links.apply(&link(5, "tap0", false)));
        assert!(links.apply(&link(5, "tap0", true)));
        assert_eq!(links.named("tap0").unwrap().incarnation, first.incarnation);
        assert_eq!(links.named("tap0").unwrap().ups, 2);

        // Deleted and created again with the same name and index: another link.
        assert!(links.apply(&deleted(5)));
        assert_eq!(links.named("tap0"), None);
        assert!(links.apply(&link(5, "tap0", true)));
        assert_ne!(links.named("tap0").unwrap().incarnation, first.incarnation);
        assert!(!links.apply(&deleted(6)), "unknown");
    }

    #[test]
    fn a_name_belongs_to_the_link_that_has_it_now() {
        let mut links = Links::default();
        links.apply(&link(5, "tap0", true));
        links.apply(&link(6, "tap1", true));
        links.apply(&link(5, "old", true));
        assert_eq!(links.named("tap0"), None);
        links.apply(&link(6, "tap0", true));
        assert_eq!(links.named("tap0").map(|link| link.index), Some(6));
        // Deleting a link does not remove the name of another one.
        links.apply(&link(7, "old", true));
        links.apply(&deleted(5));
        assert_eq!(links.named("old").map(|link| link.index), Some(7));
    }

    #[test]
    fn an_address_is_listed_once_it_is_usable() {
        let mut links = Links::default();
        links.apply(&link(5, "tap0", true));
        let fd00 = "fd00:ec2::254";
        let has = |links: &Links| {
            links
                .named("tap0")
                .unwrap()
                .addresses
                .contains(&fd00.parse().unwrap())
        };
        links.apply(&RouteNetlinkMessage::NewAddress(address(
            5,
            fd00,
            AddressHeaderFlags::Tentative,
        )));
        assert!(!has(&links));
        links.apply(&RouteNetlinkMessage::NewAddress(address(
            5,
            fd00,
            AddressHeaderFlags::empty(),
        )));
        assert!(has(&links));
        links.apply(&RouteNetlinkMessage::NewAddress(address(
            5,
            fd00,
            AddressHeaderFlags::Dadfailed,
        )));
        assert!(!has(&links));
        links.apply(&RouteNetlinkMessage::NewAddress(address(
            5,
            fd00,
            AddressHeaderFlags::empty(),
        )));
        links.apply(&RouteNetlinkMessage::DelAddress(address(
            5,
            fd00,
            AddressHeaderFlags::empty(),
        )));
        assert!(!has(&links));
        // The address of a deleted link.
        assert!(!links.apply(&RouteNetlinkMessage::NewAddress(address(
            9,
            fd00,
            AddressHeaderFlags::empty()
        ))));
    }

    #[test]
    fn messages_of_the_bridge_family_do_not_change_the_link() {
        let mut links = Links::default();
        let RouteNetlinkMessage::NewLink(mut message) = link(5, "tap0", true) else {
            unreachable!()
        };
        message.header.interface_family = AddressFamily::Bridge;
        assert!(!links.apply(&RouteNetlinkMessage::NewLink(message.clone())));
        assert_eq!(links.iter().count(), 0);
        // The port leaves the bridge; the link still exists.
        links.apply(&link(5, "tap0", true));
        assert!(!links.apply(&RouteNetlinkMessage::DelLink(message)));
        assert!(links.named("tap0").is_some());
    }
}
