//! Links and their addresses, updated by netlink messages.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use rpds::{HashTrieMapSync, RedBlackTreeMapSync};

use super::message::{AddressReport, KernelReport, LinkReport};
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

    /// Returns which link receives the packets of which other one according to this link: the
    /// index of the lower one and that of the upper one.
    fn receptions(&self) -> impl Iterator<Item = (u32, u32)> {
        // The kernel names the other end of a veth in the same attribute, but that end does not
        // receive its packets.
        let receives_a_share = matches!(
            self.kind.as_str(),
            "vlan" | "macvlan" | "macvtap" | "ipvlan" | "ipvtap"
        );
        let from_below = self.below.filter(|_| receives_a_share);
        let from_below = from_below.map(|below| (below, self.index));
        let to_controller = self.controller.map(|controller| (self.index, controller));
        from_below.into_iter().chain(to_controller)
    }
}

#[cfg(test)]
impl Link {
    /// Returns a link for tests: up, and without addresses.
    pub(crate) fn example(index: u32, name: &str, kind: &str) -> Link {
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

/// How many changes of links a [`Links`] remembers.
const MAX_REMEMBERED: usize = 4096;

/// All links of the host. A clone shares them and costs the same whatever their number is.
#[derive(Clone, Debug, Default)]
pub struct Links {
    links: RedBlackTreeMapSync<u32, Arc<Link>>,
    indexes: HashTrieMapSync<String, u32>,
    /// How many links there have been.
    created: u64,
    /// How many changes there have been.
    version: u64,
    /// The latest changes, each with the index of its link.
    recent: RedBlackTreeMapSync<u64, u32>,
}

impl Links {
    /// Returns the link that currently has this name.
    pub fn named(&self, name: &str) -> Option<&Link> {
        self.indexed(*self.indexes.get(name)?)
    }

    /// Returns the link that currently has this index.
    pub fn indexed(&self, index: u32) -> Option<&Link> {
        self.links.get(&index).map(Arc::as_ref)
    }

    /// Returns all links.
    pub fn iter(&self) -> impl Iterator<Item = &Link> {
        self.links.values().map(Arc::as_ref)
    }

    /// Returns how many changes of links there have been.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Returns the indexes of the links that were created, changed or deleted since `earlier`, an
    /// earlier state of these links; all of both if that is too long ago.
    pub fn changed_since(&self, earlier: &Links) -> BTreeSet<u32> {
        let later: Vec<u32> = match self.version.checked_sub(earlier.version) {
            Some(0) => return BTreeSet::new(),
            _ => self
                .recent
                .range(earlier.version + 1..)
                .map(|(_, index)| *index)
                .collect(),
        };
        match self.version.checked_sub(earlier.version) == Some(later.len() as u64) {
            true => later.into_iter().collect(),
            false => self
                .links
                .keys()
                .chain(earlier.links.keys())
                .copied()
                .collect(),
        }
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
        let mut upper_links = UpperLinks::default();
        for link in self.iter() {
            upper_links.update(None, Some(link));
        }
        upper_links
    }

    /// Applies a message of the kernel. Returns whether anything changed.
    pub(super) fn apply(&mut self, report: &KernelReport) -> bool {
        match report {
            KernelReport::NewLink(of) => self.apply_link(of),
            KernelReport::DeletedLink(of) => of.is_of_link && self.remove(of.index),
            KernelReport::NewAddress(of) => self.apply_address(of, of.is_usable),
            KernelReport::DeletedAddress(of) => self.apply_address(of, false),
            _ => false,
        }
    }

    /// Applies a new or changed link. Returns whether anything changed.
    pub(super) fn apply_link(&mut self, report: &LinkReport) -> bool {
        let (Some(name), true) = (&report.name, report.is_of_link) else {
            return false;
        };
        let (index, up) = (report.index, report.is_up);
        let (kind, mtu) = (report.kind.clone(), report.mtu.unwrap_or(u32::MAX));
        let (controller, below) = (report.controller, report.below);
        let mac = match report.mac.len() {
            6 => mac_text(&report.mac),
            _ => String::new(),
        };
        let before = self.indexed(index).cloned();
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
        let is_changed = is_changed || self.indexes.get(name) != Some(&index);
        if is_changed {
            self.indexes.insert_mut(name.clone(), index);
            self.put(link);
        }
        is_changed
    }

    /// Replaces a link, or adds it.
    fn put(&mut self, link: Link) {
        self.note_change(link.index);
        self.links.insert_mut(link.index, Arc::new(link));
    }

    fn note_change(&mut self, index: u32) {
        self.version += 1;
        self.recent.insert_mut(self.version, index);
        if self.recent.size() > MAX_REMEMBERED
            && let Some(oldest) = self.recent.first().map(|(version, _)| *version)
        {
            self.recent.remove_mut(&oldest);
        }
    }

    fn remove(&mut self, index: u32) -> bool {
        let Some(link) = self.links.get(&index).cloned() else {
            return false;
        };
        self.note_change(index);
        self.links.remove_mut(&index);
        self.forget_name(&link);
        true
    }

    /// Forgets the name of a link, unless another link has it by now.
    fn forget_name(&mut self, link: &Link) {
        if self.indexes.get(&link.name) == Some(&link.index) {
            self.indexes.remove_mut(&link.name);
        }
    }

    /// Adds or removes the address of the message. Returns whether anything changed.
    pub(super) fn apply_address(&mut self, report: &AddressReport, is_present: bool) -> bool {
        let (Some(address), Some(link)) = (report.address, self.indexed(report.index)) else {
            return false;
        };
        let mut changed = link.clone();
        let is_changed = match is_present {
            true => changed.addresses.insert(address),
            false => changed.addresses.remove(&address),
        };
        if is_changed {
            self.put(changed);
        }
        is_changed
    }

    /// Returns links for tests.
    #[cfg(test)]
    pub(crate) fn of(examples: impl IntoIterator<Item = Link>) -> Links {
        let mut links = Links::default();
        for link in examples {
            links.set(link);
        }
        links
    }

    /// Replaces a link for tests, or adds it.
    #[cfg(test)]
    pub(crate) fn set(&mut self, link: Link) {
        if let Some(before) = self.indexed(link.index).cloned() {
            self.forget_name(&before);
        }
        self.indexes.insert_mut(link.name.clone(), link.index);
        self.put(link);
    }

    /// Deletes a link for tests.
    #[cfg(test)]
    pub(crate) fn delete(&mut self, index: u32) {
        self.remove(index);
    }

    pub(super) fn clear_addresses(&mut self) {
        self.replace_addresses(|_| Some(BTreeSet::new()));
    }

    /// Copies the addresses of all links that are the same in `other`. Returns whether any changed.
    pub(super) fn copy_addresses(&mut self, other: &Links) -> bool {
        self.replace_addresses(|link| {
            let same = other.indexed(link.index);
            let same = same.filter(|same| same.incarnation == link.incarnation)?;
            Some(same.addresses.clone())
        })
    }

    /// Gives every link the addresses that `addresses_of` returns for it. Returns whether any
    /// changed.
    fn replace_addresses(
        &mut self,
        addresses_of: impl Fn(&Link) -> Option<BTreeSet<IpAddr>>,
    ) -> bool {
        let mut changed = Vec::new();
        for link in self.iter() {
            let addresses = addresses_of(link).filter(|addresses| *addresses != link.addresses);
            changed.extend(addresses.map(|addresses| Link {
                addresses,
                ..link.clone()
            }));
        }
        let is_changed = !changed.is_empty();
        changed.into_iter().for_each(|link| self.put(link));
        is_changed
    }

    /// Forgets all links. Links that are added afterwards count as new.
    pub(super) fn clear(&mut self) {
        let indexes: Vec<u32> = self.links.keys().copied().collect();
        for index in indexes {
            self.remove(index);
        }
    }
}

/// Which links receive the packets of others: a bridge, bond or VRF those of its ports, and a
/// device on top of a link, such as a VLAN device, its share of them.
#[derive(Default)]
pub struct UpperLinks {
    above: HashMap<u32, BTreeMap<u32, usize>>,
    below: HashMap<u32, BTreeMap<u32, usize>>,
}

impl UpperLinks {
    /// Follows a change of one link. Returns the links whose packets other links receive now.
    pub fn update(&mut self, before: Option<&Link>, now: Option<&Link>) -> BTreeSet<u32> {
        let of = |link: Option<&Link>| -> BTreeSet<(u32, u32)> {
            link.into_iter().flat_map(Link::receptions).collect()
        };
        let (before, now) = (of(before), of(now));
        for (lower, upper) in before.difference(&now) {
            uncount(&mut self.above, *lower, *upper);
            uncount(&mut self.below, *upper, *lower);
        }
        for (lower, upper) in now.difference(&before) {
            count(&mut self.above, *lower, *upper);
            count(&mut self.below, *upper, *lower);
        }
        let changed = before.symmetric_difference(&now);
        changed.map(|(lower, _)| *lower).collect()
    }

    /// Returns all links that receive packets of the link with this index, directly or through
    /// others.
    pub fn of(&self, index: u32) -> BTreeSet<u32> {
        reachable(&self.above, index)
    }

    /// Returns all links whose packets the link with this index receives, directly or through
    /// others.
    pub fn below(&self, index: u32) -> BTreeSet<u32> {
        reachable(&self.below, index)
    }

    /// Returns the links whose packets the link with this index receives directly.
    pub fn directly_below(&self, index: u32) -> impl Iterator<Item = u32> {
        self.below
            .get(&index)
            .into_iter()
            .flat_map(BTreeMap::keys)
            .copied()
    }
}

/// Two links can say the same of one another, so every statement counts.
fn count(direct: &mut HashMap<u32, BTreeMap<u32, usize>>, from: u32, to: u32) {
    *direct.entry(from).or_default().entry(to).or_default() += 1;
}

fn uncount(direct: &mut HashMap<u32, BTreeMap<u32, usize>>, from: u32, to: u32) {
    let Some(of_link) = direct.get_mut(&from) else {
        return;
    };
    if let Some(count) = of_link.get_mut(&to) {
        *count -= 1;
        if *count == 0 {
            of_link.remove(&to);
        }
    }
    if of_link.is_empty() {
        direct.remove(&from);
    }
}

fn reachable(direct: &HashMap<u32, BTreeMap<u32, usize>>, index: u32) -> BTreeSet<u32> {
    let (mut all, mut next) = (BTreeSet::new(), vec![index]);
    while let Some(here) = next.pop() {
        let further = direct.get(&here).into_iter().flat_map(BTreeMap::keys);
        next.extend(further.filter(|link| **link != index && all.insert(**link)));
    }
    all
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

    /// Each step is compared with the links that are read from the beginning.
    #[test]
    fn upper_links_that_follow_single_changes_are_those_of_all_links() {
        let mut links = Links::default();
        let mut upper_links = UpperLinks::default();
        let port = |index: u32, controller| Link {
            controller,
            ..Link::example(index, &format!("tap{index}"), "tun")
        };
        let vlan = |index: u32, below| Link {
            below: Some(below),
            ..Link::example(index, &format!("vlan{index}"), "vlan")
        };
        let steps: [(u32, Option<Link>); 9] = [
            (2, Some(port(2, None))),
            (1, Some(Link::example(1, "br0", "bridge"))),
            (2, Some(port(2, Some(1)))),
            (3, Some(port(3, Some(1)))),
            (4, Some(vlan(4, 1))),
            // It says the same as its port.
            (
                1,
                Some(Link {
                    below: Some(2),
                    ..Link::example(1, "br0", "vlan")
                }),
            ),
            (2, Some(port(2, None))),
            (1, None),
            (4, None),
        ];
        for (index, link) in steps {
            let before = links.clone();
            match link {
                Some(link) => links.set(link),
                None => links.delete(index),
            }
            assert_eq!(links.changed_since(&before), BTreeSet::from([index]));
            upper_links.update(before.indexed(index), links.indexed(index));
            let whole = links.upper_links();
            for index in 1..6 {
                assert_eq!(upper_links.of(index), whole.of(index), "above {index}");
                assert_eq!(
                    upper_links.below(index),
                    whole.below(index),
                    "below {index}"
                );
            }
        }
        assert!(
            upper_links.above.len() + upper_links.below.len() <= 2,
            "nothing is left over"
        );
    }

    #[test]
    fn changes_that_are_not_remembered_are_all_links() {
        let mut links = Links::of([Link::example(1, "tap1", "tun")]);
        let first = links.clone();
        assert_eq!(links.changed_since(&first), BTreeSet::new());
        links.set(Link::example(2, "tap2", "tun"));
        assert_eq!(links.changed_since(&first), BTreeSet::from([2]));
        for _ in 0..MAX_REMEMBERED {
            links.set(Link::example(3, "tap3", "tun"));
        }
        assert_eq!(links.changed_since(&first), BTreeSet::from([1, 2, 3]));
        assert_eq!(links.recent.size(), MAX_REMEMBERED);
        // Links that were read from the beginning do not continue the earlier ones.
        let other = Links::of([Link::example(9, "tap9", "tun")]);
        assert_eq!(other.changed_since(&links), BTreeSet::from([1, 2, 3, 9]));
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

    fn link(index: u32, name: &str, is_up: bool) -> KernelReport {
        KernelReport::NewLink(LinkReport {
            index,
            is_of_link: true,
            is_up,
            name: Some(name.to_string()),
            mac: vec![2, 0, 0, 0, 0, index as u8],
            ..LinkReport::default()
        })
    }

    fn deleted(index: u32) -> KernelReport {
        KernelReport::DeletedLink(LinkReport {
            index,
            is_of_link: true,
            ..LinkReport::default()
        })
    }

    fn address(index: u32, text: &str, is_usable: bool) -> AddressReport {
        AddressReport {
            index,
            address: Some(text.parse().unwrap()),
            is_usable,
            protocol: None,
        }
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
        links.apply(&KernelReport::NewAddress(address(5, fd00, false)));
        assert!(!has(&links));
        links.apply(&KernelReport::NewAddress(address(5, fd00, true)));
        assert!(has(&links));
        // Duplicate address detection has failed.
        links.apply(&KernelReport::NewAddress(address(5, fd00, false)));
        assert!(!has(&links));
        links.apply(&KernelReport::NewAddress(address(5, fd00, true)));
        links.apply(&KernelReport::DeletedAddress(address(5, fd00, true)));
        assert!(!has(&links));
        // The address of a deleted link.
        assert!(!links.apply(&KernelReport::NewAddress(address(9, fd00, true))));
    }

    #[test]
    fn messages_of_the_bridge_family_do_not_change_the_link() {
        let mut links = Links::default();
        let KernelReport::NewLink(of_link) = link(5, "tap0", true) else {
            unreachable!()
        };
        let of_port = LinkReport {
            is_of_link: false,
            ..of_link
        };
        assert!(!links.apply(&KernelReport::NewLink(of_port.clone())));
        assert_eq!(links.iter().count(), 0);
        // The port leaves the bridge; the link still exists.
        links.apply(&link(5, "tap0", true));
        assert!(!links.apply(&KernelReport::DeletedLink(of_port)));
        assert!(links.named("tap0").is_some());
    }
}
