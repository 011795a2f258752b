//! The metadata addresses on the guests' interfaces, and the routes back to IPv6 guests.
//!
//! [`InterfaceAddresses::settle`] adds what is desired and missing, and removes what it added and
//! is no longer desired. What it adds is first recorded in the runtime directory, so that the next
//! daemon can remove what a killed one left. What something else added is never recorded and so
//! never removed.

use std::cell::LazyCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::{debug, info, warn};

use super::netlink::{Incarnation, Link, Links, Netlink, route_metric};
use super::own_metadata::{MainRoute, ipv6_routes};
use crate::host::examine::unusable::{self, UnusableAddress};

/// The name of the record in the runtime directory.
const RECORD: &str = "host.json";

/// The addresses and routes that one interface should have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DesiredAddresses {
    /// Addresses of its own.
    pub addresses: BTreeSet<IpAddr>,
    /// The guests that it should lead to.
    pub routes: BTreeSet<Ipv6Addr>,
}

/// An address or a route that was added to an interface. The fields are the format of the record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ManagedEntry {
    interface: String,
    index: u32,
    mac: String,
    what: EntryKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum EntryKind {
    Address(IpAddr),
    Route(Ipv6Addr),
}

/// The addresses and routes that this daemon, or one before it, added to the host's interfaces.
pub struct InterfaceAddresses {
    netlink: Netlink,
    record: Option<PathBuf>,
    entries: BTreeSet<ManagedEntry>,
    /// The entries that are known to exist, each with its link and how often that had come up by
    /// then: when a link goes down, the kernel removes routes without a message.
    present: BTreeMap<ManagedEntry, (Incarnation, u64)>,
    /// What could not be added, by interface, as last logged.
    faults: BTreeMap<String, String>,
    /// Why the record could not be written, as last logged.
    unrecorded: Option<String>,
}

/// The result of adding one entry.
enum AddOutcome {
    Added,
    /// The interface has it already.
    Exists,
    Failed(io::Error),
    /// The kernel did not answer the request before.
    NotTried,
}

impl InterfaceAddresses {
    /// Returns whether an earlier daemon left anything.
    pub fn are_recorded(directory: &Path) -> bool {
        directory.join(RECORD).exists()
    }

    /// Reads what an earlier daemon left. `directory` is the runtime directory; without one,
    /// nothing is recorded.
    ///
    /// Fails if there is a record that cannot be read: then it is unknown what to remove.
    pub fn open(netlink: Netlink, directory: Option<&Path>) -> io::Result<InterfaceAddresses> {
        let record = directory.map(|directory| directory.join(RECORD));
        let entries = match record.as_deref().map(fs::read) {
            Some(Ok(bytes)) => serde_json::from_slice(&bytes).map_err(|reason| {
                let path = record.as_deref().unwrap_or(Path::new("")).display();
                io::Error::other(format!(
                    "{path}, the record of addresses added to interfaces, cannot be read: {reason}; remove it, and the \
                     addresses and routes (proto {}) that `ip address` and `ip -6 route` show",
                    super::netlink::PROTOCOL
                ))
            })?,
            Some(Err(reason)) if reason.kind() != io::ErrorKind::NotFound => return Err(reason),
            _ => BTreeSet::new(),
        };
        Ok(InterfaceAddresses {
            netlink,
            record,
            entries,
            present: BTreeMap::new(),
            faults: BTreeMap::new(),
            unrecorded: None,
        })
    }

    /// Gives the interfaces what is desired of them. An interface that does not exist or is down is
    /// left alone until it is up.
    ///
    /// What cannot be added is logged once and tried again by the next call.
    pub async fn settle(&mut self, links: &Links, desired: &BTreeMap<String, DesiredAddresses>) {
        let before = self.entries.clone();
        // 1. What went with its interface is forgotten; what is no longer desired is removed.
        self.follow(links);
        self.remove_undesired(desired).await;

        // 2. Everything that is missing is recorded before any of it is added.
        let recorded_before = self.entries.clone();
        let up: Vec<(&Link, &DesiredAddresses)> = desired
            .iter()
            .filter_map(|(name, desired)| {
                Some((links.named(name).filter(|link| link.up)?, desired))
            })
            .collect();
        let missing: Vec<(ManagedEntry, &Link)> = up
            .iter()
            .flat_map(|(link, desired)| self.missing(link, desired))
            .collect();
        self.entries
            .extend(missing.iter().map(|(entry, _)| entry.clone()));
        if self.entries != before && !self.record() {
            self.entries = recorded_before;
            return;
        }

        // 3. What exists already and is not recorded was added by something else, and is left
        //    alone.
        let recorded = self.entries.clone();
        let guests: BTreeSet<u32> = up.iter().map(|(link, _)| link.index).collect();
        let faults = self
            .add_missing(missing, &recorded_before, &guests, links)
            .await;
        if self.entries != recorded {
            self.record();
        }
        for (interface, fault) in faults
            .iter()
            .filter(|(name, fault)| self.faults.get(*name) != Some(*fault))
        {
            warn!(interface, "{fault}");
        }
        self.faults = faults;
    }

    async fn remove_undesired(&mut self, desired: &BTreeMap<String, DesiredAddresses>) {
        let undesired: Vec<ManagedEntry> = self
            .entries
            .iter()
            .filter(|entry| !is_desired(entry, desired))
            .cloned()
            .collect();
        for entry in undesired {
            if !self.remove(&entry).await {
                break;
            }
        }
    }

    /// Adds the missing entries, and keeps in the record those that this daemon is responsible for.
    /// `ours` are the entries that were recorded before. Returns the first fault of each interface.
    async fn add_missing(
        &mut self,
        missing: Vec<(ManagedEntry, &Link)>,
        ours: &BTreeSet<ManagedEntry>,
        guests: &BTreeSet<u32>,
        links: &Links,
    ) -> BTreeMap<String, String> {
        let mut faults = BTreeMap::new();
        // As long as the host's list of IPv6 addresses: read once, and only if it is needed.
        let unusable = LazyCell::new(|| by_place(unusable::read()));
        let mut kernel_answers = true;
        for (entry, link) in missing {
            let is_ours = ours.contains(&entry);
            let outcome = match kernel_answers {
                true => self.add(&entry, is_ours, guests, links).await,
                false => AddOutcome::NotTried,
            };
            let is_kept = match outcome {
                AddOutcome::Added => true,
                AddOutcome::Exists => {
                    // Only the program that added it may remove it: an unusable address is left
                    // alone and reported.
                    if let Some(fault) = entry.unusable_fault(&unusable) {
                        faults.entry(entry.interface.clone()).or_insert(fault);
                    }
                    is_ours
                }
                AddOutcome::Failed(reason) => {
                    // Whether a request without an answer was carried out is unknown: it stays
                    // recorded.
                    kernel_answers = reason.kind() != io::ErrorKind::TimedOut;
                    // The first fault of an interface is reported: its routes are useless without
                    // its address.
                    faults
                        .entry(entry.interface.clone())
                        .or_insert_with(|| add_fault(entry.what, &reason));
                    if !is_ours && kernel_answers {
                        self.entries.remove(&entry);
                    }
                    continue;
                }
                AddOutcome::NotTried => {
                    if !is_ours {
                        self.entries.remove(&entry);
                    }
                    continue;
                }
            };
            if is_kept {
                self.present.insert(entry, (link.incarnation, link.ups));
            } else {
                self.entries.remove(&entry);
            }
        }
        faults
    }

    async fn add(
        &self,
        entry: &ManagedEntry,
        is_ours: bool,
        guests: &BTreeSet<u32>,
        links: &Links,
    ) -> AddOutcome {
        let outcome = match entry.what {
            EntryKind::Address(address) => self.netlink.add_address(entry.index, address).await,
            EntryKind::Route(to) if is_ours => self.netlink.add_route(entry.index, to).await,
            EntryKind::Route(to) => self.add_new_route(entry.index, to, guests, links).await,
        };
        match outcome {
            Ok(()) => {
                debug!(interface = entry.interface, what = %entry.what, "added to interface");
                AddOutcome::Added
            }
            Err(reason) if reason.kind() == io::ErrorKind::AlreadyExists => AddOutcome::Exists,
            Err(reason) => AddOutcome::Failed(reason),
        }
    }

    /// Logs the interfaces that have addresses or routes with imdsd's protocol number but not in
    /// the record.
    ///
    /// They are left alone: another imdsd on this host may have added them.
    pub async fn log_unrecorded(&self, links: &Links) {
        let ours = match self.netlink.own_entries().await {
            Ok(ours) => ours,
            Err(reason) => return debug!(%reason, "cannot read the existing addresses and routes"),
        };
        let recorded: BTreeSet<(u32, IpAddr)> = self
            .entries
            .iter()
            .map(|entry| (entry.index, entry.what.address()))
            .collect();
        let interfaces: BTreeSet<&str> = ours
            .difference(&recorded)
            .filter_map(|(index, _)| Some(links.indexed(*index)?.name.as_str()))
            .collect();
        if !interfaces.is_empty() {
            let interfaces: Vec<&str> = interfaces.into_iter().collect();
            warn!(
                interfaces = interfaces.join(" "),
                "these have addresses or routes of an imdsd (proto {}) that are not in this one's record and are left \
                 alone; if no other imdsd runs on this host, remove them",
                super::netlink::PROTOCOL
            );
        }
    }

    /// Makes the next call of [`InterfaceAddresses::settle`] check all routes again, because the
    /// kernel sends no message about removed ones. Removes routes that divert the host's own
    /// packets from a network that it joined since. `guests` are the interfaces that lead to
    /// guests.
    pub async fn recheck_routes(&mut self, guests: &BTreeSet<&str>) {
        self.present
            .retain(|entry, _| matches!(entry.what, EntryKind::Address(_)));
        // The file does not exist in a kernel without IPv6, which has no such routes either.
        let routes = fs::read_to_string("/proc/self/net/ipv6_route").unwrap_or_default();
        for entry in diverting(&self.entries, &routes, guests) {
            if !self.remove(&entry).await {
                break;
            }
        }
    }

    /// Follows links that were renamed, and forgets the entries of links that are gone.
    fn follow(&mut self, links: &Links) {
        for entry in std::mem::take(&mut self.entries) {
            let present = self.present.remove(&entry);
            let Some(link) = links.indexed(entry.index) else {
                continue;
            };
            // For an entry of an earlier daemon, or after all links were read again, the name or
            // MAC shows that the index was not reused.
            let is_known = present.is_some_and(|(incarnation, _)| incarnation == link.incarnation);
            if is_known
                || link.name == entry.interface
                || (!entry.mac.is_empty() && link.mac == entry.mac)
            {
                let entry = ManagedEntry {
                    interface: link.name.clone(),
                    mac: link.mac.clone(),
                    ..entry
                };
                // Links report their addresses, so only the link of an address must be known.
                let present = present.or(matches!(entry.what, EntryKind::Address(_))
                    .then_some((link.incarnation, link.ups)));
                self.present
                    .extend(present.map(|present| (entry.clone(), present)));
                self.entries.insert(entry);
            }
        }
    }

    /// Adds a route, unless it would divert the host's own packets: a route to one address is
    /// preferred to any route to its network, for every packet.
    async fn add_new_route(
        &self,
        index: u32,
        to: Ipv6Addr,
        guests: &BTreeSet<u32>,
        links: &Links,
    ) -> io::Result<()> {
        let Some(route) = self
            .netlink
            .route_to(to.into(), None)
            .await?
            .filter(|route| route.prefix > 0)
        else {
            return self.netlink.add_route(index, to).await;
        };
        match route
            .links
            .iter()
            .find(|index| !guests.contains(index))
            .and_then(|index| links.indexed(*index))
        {
            Some(other) => Err(io::Error::other(format!(
                "the route would divert the host's own packets to that address, which now leave by {}; give the guest another \
                 address, or add the route yourself",
                other.name
            ))),
            None => self.netlink.add_route(index, to).await,
        }
    }

    /// Removes everything that was added, when the daemon ends.
    pub async fn release(&mut self) {
        let count = self.entries.len();
        for entry in self.entries.clone() {
            if !self.remove(&entry).await {
                break;
            }
        }
        if count > 0 {
            info!(
                count = count - self.entries.len(),
                "removed addresses and routes from interfaces"
            );
        }
        self.record();
    }

    /// Returns whether there is nothing to add, to remove or to try again.
    pub fn is_settled(&self, links: &Links, desired: &BTreeMap<String, DesiredAddresses>) -> bool {
        let has_all = |(name, desired): (&String, &DesiredAddresses)| {
            let link = links.named(name).filter(|link| link.up);
            link.is_none_or(|link| self.missing(link, desired).is_empty())
        };
        self.faults.is_empty()
            && self.unrecorded.is_none()
            && self.entries.iter().all(|entry| is_desired(entry, desired))
            && desired.iter().all(has_all)
    }

    /// Returns what could not be added, by interface.
    pub fn faults(&self) -> &BTreeMap<String, String> {
        &self.faults
    }

    fn missing<'l>(
        &self,
        link: &'l Link,
        desired: &DesiredAddresses,
    ) -> Vec<(ManagedEntry, &'l Link)> {
        let entry = |what| ManagedEntry {
            interface: link.name.clone(),
            index: link.index,
            mac: link.mac.clone(),
            what,
        };
        let missing: Vec<IpAddr> = desired
            .addresses
            .difference(&link.addresses)
            .copied()
            .collect();
        // When the kernel removed an IPv6 address, it removed the routes as well.
        let routes_are_lost = missing.iter().any(IpAddr::is_ipv6);
        let routes = desired.routes.iter().map(|to| entry(EntryKind::Route(*to)));
        let routes = routes.filter(|route| {
            routes_are_lost || self.present.get(route) != Some(&(link.incarnation, link.ups))
        });
        let addresses = missing
            .iter()
            .map(|address| entry(EntryKind::Address(*address)));
        addresses.chain(routes).map(|entry| (entry, link)).collect()
    }

    /// Removes an entry. It stays recorded if that fails. Returns `false` when the kernel does not
    /// answer.
    async fn remove(&mut self, entry: &ManagedEntry) -> bool {
        let outcome = match entry.what {
            EntryKind::Address(address) => self.netlink.remove_address(entry.index, address).await,
            EntryKind::Route(to) => self.netlink.remove_route(entry.index, to).await,
        };
        self.present.remove(entry);
        match outcome {
            Err(reason) if !is_gone(&reason) => {
                warn!(interface = entry.interface, %reason, "cannot remove {}; retrying", entry.what);
                reason.kind() != io::ErrorKind::TimedOut
            }
            _ => {
                debug!(interface = entry.interface, what = %entry.what, "removed from interface");
                self.entries.remove(entry);
                true
            }
        }
    }

    /// Writes the record and returns whether that succeeded. A reason for a failure is logged once.
    fn record(&mut self) -> bool {
        let reason = self.write().err().map(|reason| reason.to_string());
        if let Some(reason) = reason.as_ref().filter(|_| reason != self.unrecorded) {
            warn!(
                reason,
                "cannot record addresses added to interfaces; no more are added"
            );
        }
        self.unrecorded = reason;
        self.unrecorded.is_none()
    }

    /// No fsync: the runtime directory and what is recorded both end with the boot.
    fn write(&self) -> io::Result<()> {
        let Some(record) = &self.record else {
            return Ok(());
        };
        if self.entries.is_empty() {
            return match fs::remove_file(record) {
                Err(reason) if reason.kind() != io::ErrorKind::NotFound => Err(reason),
                _ => Ok(()),
            };
        }
        let new = record.with_extension("new");
        fs::write(&new, serde_json::to_vec(&self.entries)?)?;
        fs::rename(&new, record)
    }
}

/// Unusable addresses, by the index of their link and by address.
type UnusableByPlace = BTreeMap<(u32, Ipv6Addr), UnusableAddress>;

fn by_place(unusable: Vec<UnusableAddress>) -> UnusableByPlace {
    unusable
        .into_iter()
        .map(|found| ((found.index, found.address), found))
        .collect()
}

impl ManagedEntry {
    /// Returns the fault of an address that something else added and that is unusable.
    fn unusable_fault(
        &self,
        unusable: &LazyCell<UnusableByPlace, impl FnOnce() -> UnusableByPlace>,
    ) -> Option<String> {
        let EntryKind::Address(IpAddr::V6(address)) = self.what else {
            return None;
        };
        let found = unusable.get(&(self.index, address))?;
        let remove = found.remove_command("ip", &self.interface);
        Some(format!(
            "{} exists already, {}: run `{remove}`, and imdsd adds it again",
            self.what,
            found.reason()
        ))
    }
}

fn add_fault(what: EntryKind, reason: &io::Error) -> String {
    let needs = match reason.kind() {
        io::ErrorKind::PermissionDenied => "; addresses = \"manage\" needs CAP_NET_ADMIN",
        _ => "",
    };
    format!("cannot add {what}: {reason}{needs}")
}

fn is_desired(entry: &ManagedEntry, desired: &BTreeMap<String, DesiredAddresses>) -> bool {
    desired
        .get(&entry.interface)
        .is_some_and(|desired| match entry.what {
            EntryKind::Address(address) => desired.addresses.contains(&address),
            EntryKind::Route(to) => desired.routes.contains(&to),
        })
}

/// Returns the routes that were added and that divert packets from an interface that leads to no
/// guest: the routes that [`InterfaceAddresses::add_new_route`] refuses to add.
fn diverting(
    entries: &BTreeSet<ManagedEntry>,
    routes: &str,
    guests: &BTreeSet<&str>,
) -> Vec<ManagedEntry> {
    let mut ours: BTreeMap<u128, Vec<&ManagedEntry>> = BTreeMap::new();
    for entry in entries {
        if let EntryKind::Route(to) = entry.what {
            ours.entry(to.to_bits()).or_default().push(entry);
        }
    }
    // For each destination, the most specific other route; of equal ones, the one that the kernel
    // prefers.
    let mut others: BTreeMap<u128, (u8, Reverse<u32>, &str)> = BTreeMap::new();
    for MainRoute {
        interface,
        to,
        prefix,
        metric,
    } in ipv6_routes(routes).filter(|route| route.prefix > 0)
    {
        let IpAddr::V6(network) = to else { continue };
        let first = network.to_bits();
        let last = first | u128::MAX.checked_shr(prefix.into()).unwrap_or(0);
        for (to, entries) in ours.range(first..=last) {
            let is_ours = prefix == 128
                && entries
                    .iter()
                    .any(|entry| metric == route_metric(entry.index));
            if !is_ours {
                let best = others
                    .entry(*to)
                    .or_insert((prefix, Reverse(metric), interface));
                *best = (*best).max((prefix, Reverse(metric), interface));
            }
        }
    }
    let by_others = others
        .into_iter()
        .filter(|(_, (_, _, interface))| !guests.contains(interface));
    by_others
        .flat_map(|(to, _)| ours[&to].iter().copied().cloned())
        .collect()
}

/// Returns whether a removal failed because the address, the route or the interface is already
/// gone.
fn is_gone(reason: &io::Error) -> bool {
    use rustix::io::Errno;
    let code = reason.raw_os_error().map(Errno::from_raw_os_error);
    matches!(
        code,
        Some(Errno::ADDRNOTAVAIL | Errno::SRCH | Errno::NODEV | Errno::NXIO)
    )
}

impl EntryKind {
    fn address(self) -> IpAddr {
        match self {
            EntryKind::Address(address) => address,
            EntryKind::Route(to) => to.into(),
        }
    }
}

impl fmt::Display for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EntryKind::Address(address) => write!(f, "address {address}"),
            EntryKind::Route(to) => write!(f, "a route to {to}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_names_the_capability_that_is_missing() {
        let what = EntryKind::Address("169.254.169.254".parse().unwrap());
        for (errno, needs) in [
            (rustix::io::Errno::PERM, true),
            (rustix::io::Errno::NODEV, false),
        ] {
            let fault = add_fault(what, &errno.into());
            assert!(
                fault.starts_with("cannot add address 169.254.169.254: "),
                "{fault}"
            );
            assert_eq!(fault.contains("CAP_NET_ADMIN"), needs, "{fault}");
        }
    }

    /// A host has at least as many addresses as guests, so the list is read once.
    #[test]
    fn unusable_addresses_are_read_at_most_once() {
        let entry = |index, what| ManagedEntry {
            interface: format!("tap{index}"),
            index,
            mac: String::new(),
            what,
        };
        let of_service: Ipv6Addr = "fd00:ec2::254".parse().unwrap();
        let found = |index| UnusableAddress {
            index,
            address: of_service,
            prefix: 128,
            detection: unusable::DuplicateDetection::Failed,
        };
        let reads = std::cell::Cell::new(0);
        let unusable = LazyCell::new(|| {
            reads.set(reads.get() + 1);
            by_place(vec![found(2), found(3)])
        });
        for what in [
            EntryKind::Address("169.254.169.254".parse().unwrap()),
            EntryKind::Route(of_service),
        ] {
            assert_eq!(entry(2, what).unusable_fault(&unusable), None);
        }
        assert_eq!(reads.get(), 0);
        let faults = (1..=3).map(|index| {
            entry(index, EntryKind::Address(of_service.into())).unusable_fault(&unusable)
        });
        let has_command: Vec<bool> = faults
            .map(|fault| fault.is_some_and(|fault| fault.contains("ip address del")))
            .collect();
        assert_eq!(
            (has_command.as_slice(), reads.get()),
            (&[false, true, true][..], 1)
        );
    }

    #[test]
    fn a_route_that_diverts_from_a_network_joined_later_is_found() {
        const ZERO: &str = "00000000000000000000000000000000";
        let guest: Ipv6Addr = "fd11::5".parse().unwrap();
        let line = |to: &str, prefix: u8, metric: u32, interface: &str| {
            let to = to.parse::<Ipv6Addr>().unwrap().to_bits();
            format!(
                "{to:032x} {prefix:02x} {ZERO} 00 {ZERO} {metric:08x} 00000001 00000000 00000001 {interface}\n"
            )
        };
        let entry = |index, what| ManagedEntry {
            interface: format!("tap{index}"),
            index,
            mac: String::new(),
            what,
        };
        let address = entry(1, EntryKind::Address("fd11::7".parse().unwrap()));
        let entries = BTreeSet::from([
            entry(1, EntryKind::Route(guest)),
            entry(2, EntryKind::Route(guest)),
            address,
        ]);
        let ours = [1, 2]
            .map(|index| line("fd11::5", 128, route_metric(index), &format!("tap{index}")))
            .concat();
        for (others, is_diverting) in [
            (String::new(), false),
            (line("fd11::", 64, 1024, "eth0"), true),
            (line("fd11::", 64, 1024, "tap1"), false),
            (
                line("fd11::", 64, 1024, "eth0") + &line("fd11::", 65, 1024, "tap1"),
                false,
            ),
            (
                line("fd11::", 64, 1024, "eth0") + &line("fd11::", 64, 256, "tap1"),
                false,
            ),
            (
                line("fd11::", 64, 256, "eth0") + &line("fd11::", 64, 1024, "tap1"),
                true,
            ),
            (line("fd11::5", 128, 1, "eth0"), true),
            (line("fd11::5", 128, 1, "tap1"), false),
            (line("fd12::", 16, 1024, "eth0"), false),
            (line("fd11::6", 128, 1024, "eth0"), false),
            (line("::", 0, 1024, "eth0"), false),
        ] {
            let found = diverting(
                &entries,
                &format!("{ours}{others}"),
                &BTreeSet::from(["tap1", "tap2"]),
            );
            assert_eq!(found.len(), if is_diverting { 2 } else { 0 }, "{others}");
        }
    }

    /// A link without a MAC address is recognised by its incarnation; rechecking routes keeps
    /// addresses.
    #[test]
    fn entries_follow_a_link_to_its_new_name() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let named = |name: &str| {
                Links::of([Link {
                    mac: String::new(),
                    ..Link::example(7, name, "tun")
                }])
            };
            let (netlink, _) = super::super::netlink::read_links().await.unwrap();
            let mut addresses = InterfaceAddresses::open(netlink, None).unwrap();
            let what = EntryKind::Address("169.254.169.254".parse().unwrap());
            addresses.entries.insert(ManagedEntry {
                interface: "tun0".to_string(),
                index: 7,
                mac: String::new(),
                what,
            });
            addresses.follow(&named("tun0"));
            addresses.recheck_routes(&BTreeSet::new()).await;
            addresses.follow(&named("tun1"));
            let interfaces: Vec<&str> = addresses
                .entries
                .iter()
                .map(|entry| entry.interface.as_str())
                .collect();
            assert_eq!(interfaces, ["tun1"]);
            // A link that reuses the index is another link.
            let mut another = Link {
                mac: String::new(),
                ..Link::example(7, "tun2", "tun")
            };
            another.incarnation = Link::example(8, "", "").incarnation;
            addresses.follow(&Links::of([another]));
            assert!(addresses.entries.is_empty());
        });
    }
}
