//! The metadata addresses on the guests' interfaces, and the routes that lead back to IPv6 guests.
//!
//! [`InterfaceAddresses::settle`] puts what is wanted and missing, and takes away what it put and nobody wants any more. What it puts
//! is written down first, in the runtime directory, so that a daemon that was killed leaves nothing that its successor does
//! not know. What somebody else put is never recorded, and so never taken away.

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
use crate::host::examine::unusable;
use crate::host::examine::unusable::Unusable;

/// The name of the record in the runtime directory.
const RECORD: &str = "host.json";

/// What one interface should have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DesiredAddresses {
    /// InterfaceAddresses of its own.
    pub addresses: BTreeSet<IpAddr>,
    /// Guests that it leads to.
    pub routes: BTreeSet<Ipv6Addr>,
}

/// Something that was put on an interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Put {
    interface: String,
    index: u32,
    mac: String,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum What {
    Address(IpAddr),
    Route(Ipv6Addr),
}

/// The addresses and routes that this daemon, or one before it, put on the host's interfaces.
pub struct InterfaceAddresses {
    netlink: Netlink,
    record: Option<PathBuf>,
    put: BTreeSet<Put>,
    /// What is known to be there, with the link that it is on and how often that had come up by then: when a link goes down,
    /// the kernel drops routes and tells nobody.
    there: BTreeMap<Put, (Incarnation, u64)>,
    /// What could not be put, by interface, as it was told last.
    faults: BTreeMap<String, String>,
    /// Why the record could not be written, as it was told last.
    unrecorded: Option<String>,
}

impl InterfaceAddresses {
    /// Whether an earlier daemon left anything.
    pub fn are_recorded(directory: &Path) -> bool {
        directory.join(RECORD).exists()
    }

    /// Reads what an earlier daemon left. `directory` is the runtime directory; without one, nothing is remembered.
    ///
    /// Fails when the record is there and can't be read: then nobody can say what to take away.
    pub fn open(netlink: Netlink, directory: Option<&Path>) -> io::Result<InterfaceAddresses> {
        let record = directory.map(|directory| directory.join(RECORD));
        let put = match record.as_deref().map(fs::read) {
            Some(Ok(bytes)) => serde_json::from_slice(&bytes).map_err(|reason| {
                let path = record.as_deref().unwrap_or(Path::new("")).display();
                io::Error::other(format!(
                    "{path}, the record of addresses put on interfaces, can't be read: {reason}; remove it, and the \
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
            put,
            there: BTreeMap::new(),
            faults: BTreeMap::new(),
            unrecorded: None,
        })
    }

    /// Makes the interfaces have what is wanted of them. An interface that is not there, or not up, is left alone until it is.
    ///
    /// What can't be put is told once and tried again by the next call.
    pub async fn settle(&mut self, links: &Links, wanted: &BTreeMap<String, DesiredAddresses>) {
        let before = self.put.clone();
        // 1. What went with its interface needs no taking away; what nobody wants any more does.
        self.follow(links);
        let unwanted: Vec<Put> = self
            .put
            .iter()
            .filter(|put| !is_wanted(put, wanted))
            .cloned()
            .collect();
        for put in unwanted {
            if !self.take_away(&put).await {
                break;
            }
        }

        // 2. All that is missing is recorded before any of it is put.
        let ours = self.put.clone();
        let up: Vec<(&Link, &DesiredAddresses)> = wanted
            .iter()
            .filter_map(|(name, wanted)| Some((links.named(name).filter(|link| link.up)?, wanted)))
            .collect();
        let missing: Vec<(Put, &Link)> = up
            .iter()
            .flat_map(|(link, wanted)| self.missing(link, wanted))
            .collect();
        self.put.extend(missing.iter().map(|(put, _)| put.clone()));
        if self.put != before && !self.record() {
            self.put = ours;
            return;
        }

        // 3. What is there already and is not recorded was put by somebody else, and stays theirs.
        let recorded = self.put.clone();
        let guests: BTreeSet<u32> = up.iter().map(|(link, _)| link.index).collect();
        let mut faults = BTreeMap::new();
        // The list is as long as the host has IPv6 addresses: it is read once, and only when it is asked.
        let unusable = LazyCell::new(|| by_place(unusable::read()));
        let mut answers = true;
        for (put, link) in missing {
            let is_ours = ours.contains(&put);
            if !answers {
                if !is_ours {
                    self.put.remove(&put);
                }
                continue;
            }
            let outcome = match put.what {
                What::Address(address) => self.netlink.add_address(put.index, address).await,
                What::Route(to) if is_ours => self.netlink.add_route(put.index, to).await,
                What::Route(to) => self.add_new_route(put.index, to, &guests, links).await,
            };
            match outcome {
                Ok(()) => {
                    debug!(interface = put.interface, what = %put.what, "put on the interface")
                }
                Err(reason) if reason.kind() == io::ErrorKind::AlreadyExists => {
                    // Only whoever put it there may say that it goes: it stays, and is told.
                    if let Some(fault) = put.is_there_and_unusable(&unusable) {
                        faults.entry(put.interface.clone()).or_insert(fault);
                    }
                    if !is_ours {
                        self.put.remove(&put);
                        continue;
                    }
                }
                Err(reason) => {
                    // Whether a request without an answer was carried out is not known: it stays recorded.
                    answers = reason.kind() != io::ErrorKind::TimedOut;
                    if !is_ours && answers {
                        self.put.remove(&put);
                    }
                    // The first of an interface: without its address, nobody asks for the routes.
                    faults
                        .entry(put.interface.clone())
                        .or_insert_with(|| cant_be_put(put.what, &reason));
                    continue;
                }
            }
            self.there.insert(put, (link.incarnation, link.ups));
        }
        if self.put != recorded {
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

    /// Tells which interfaces have what no record says was put there by this daemon or one before it.
    ///
    /// It is left there: by its protocol number it is an imdsd's, and that may be another one that runs on this host.
    pub async fn log_unrecorded(&self, links: &Links) {
        let ours = match self.netlink.ours().await {
            Ok(ours) => ours,
            Err(reason) => return debug!(%reason, "what is on interfaces already can't be read"),
        };
        let recorded: BTreeSet<(u32, IpAddr)> = self
            .put
            .iter()
            .map(|put| (put.index, put.what.address()))
            .collect();
        let interfaces: BTreeSet<&str> = ours
            .difference(&recorded)
            .filter_map(|(index, _)| Some(links.indexed(*index)?.name.as_str()))
            .collect();
        if !interfaces.is_empty() {
            let interfaces: Vec<&str> = interfaces.into_iter().collect();
            warn!(
                interfaces = interfaces.join(" "),
                "these have addresses or routes of an imdsd (proto {}) that this one has no record of, and it leaves them \
                 there: where no other runs on this host, take them away",
                super::netlink::PROTOCOL
            );
        }
    }

    /// Looks at everything again at the next call, since nobody tells of routes that somebody took away; and takes away those
    /// that now keep the host's own packets from a network that it has got since. `guests` are the interfaces that lead to
    /// guests.
    pub async fn recheck_routes(&mut self, guests: &BTreeSet<&str>) {
        self.there
            .retain(|put, _| matches!(put.what, What::Address(_)));
        // Not there in a kernel without IPv6, which has no such routes either.
        let routes = fs::read_to_string("/proc/self/net/ipv6_route").unwrap_or_default();
        for put in diverting(&self.put, &routes, guests) {
            if !self.take_away(&put).await {
                break;
            }
        }
    }

    /// Follows links that were renamed, and forgets what went with its link.
    fn follow(&mut self, links: &Links) {
        for put in std::mem::take(&mut self.put) {
            let there = self.there.remove(&put);
            let Some(link) = links.indexed(put.index) else {
                continue;
            };
            // What an earlier daemon recorded, or was read anew since, is told by what a number that was reused would not have.
            let is_known = there.is_some_and(|(incarnation, _)| incarnation == link.incarnation);
            if is_known
                || link.name == put.interface
                || (!put.mac.is_empty() && link.mac == put.mac)
            {
                let put = Put {
                    interface: link.name.clone(),
                    mac: link.mac.clone(),
                    ..put
                };
                // Of an address nothing is left to find out but which link it is on, should that be renamed.
                let there = there
                    .or(matches!(put.what, What::Address(_))
                        .then_some((link.incarnation, link.ups)));
                self.there.extend(there.map(|there| (put.clone(), there)));
                self.put.insert(put);
            }
        }
    }

    /// A route to one address is better than any to its network, for the host's own packets too.
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
            .by
            .iter()
            .find(|by| !guests.contains(by))
            .and_then(|by| links.indexed(*by))
        {
            Some(other) => Err(io::Error::other(format!(
                "the host's own packets to that address leave by {}, and would not any more; give the guest another address, \
                 or put the route there yourself",
                other.name
            ))),
            None => self.netlink.add_route(index, to).await,
        }
    }

    /// Takes away everything that was put, at the end.
    pub async fn release(&mut self) {
        let count = self.put.len();
        for put in self.put.clone() {
            if !self.take_away(&put).await {
                break;
            }
        }
        if count > 0 {
            info!(
                taken = count - self.put.len(),
                "addresses and routes taken from the interfaces"
            );
        }
        self.record();
    }

    /// What could not be put, by interface.
    pub fn faults(&self) -> &BTreeMap<String, String> {
        &self.faults
    }

    fn missing<'l>(&self, link: &'l Link, wanted: &DesiredAddresses) -> Vec<(Put, &'l Link)> {
        let put = |what| Put {
            interface: link.name.clone(),
            index: link.index,
            mac: link.mac.clone(),
            what,
        };
        let missing: Vec<IpAddr> = wanted
            .addresses
            .difference(&link.addresses)
            .copied()
            .collect();
        // Where the kernel dropped an IPv6 address it dropped the routes as well.
        let dropped = missing.iter().any(IpAddr::is_ipv6);
        let routes = wanted.routes.iter().map(|to| put(What::Route(*to)));
        let routes = routes.filter(|route| {
            dropped || self.there.get(route) != Some(&(link.incarnation, link.ups))
        });
        let addresses = missing.iter().map(|address| put(What::Address(*address)));
        addresses.chain(routes).map(|put| (put, link)).collect()
    }

    /// It stays recorded when it could not be taken away. `false` when the kernel does not answer.
    async fn take_away(&mut self, put: &Put) -> bool {
        let outcome = match put.what {
            What::Address(address) => self.netlink.remove_address(put.index, address).await,
            What::Route(to) => self.netlink.remove_route(put.index, to).await,
        };
        self.there.remove(put);
        match outcome {
            Err(reason) if !is_gone(&reason) => {
                warn!(interface = put.interface, %reason, "{} can't be taken away; trying again", put.what);
                reason.kind() != io::ErrorKind::TimedOut
            }
            _ => {
                debug!(interface = put.interface, what = %put.what, "taken from the interface");
                self.put.remove(put);
                true
            }
        }
    }

    /// Writes the record; whether it was written. A reason why not is told once.
    fn record(&mut self) -> bool {
        let reason = self.write().err().map(|reason| reason.to_string());
        if let Some(reason) = reason.as_ref().filter(|_| reason != self.unrecorded) {
            warn!(
                reason,
                "what is put on interfaces can't be recorded; nothing new is put"
            );
        }
        self.unrecorded = reason;
        self.unrecorded.is_none()
    }

    /// The runtime directory ends with the boot, as what is recorded does: no fsync is needed.
    fn write(&self) -> io::Result<()> {
        let Some(record) = &self.record else {
            return Ok(());
        };
        if self.put.is_empty() {
            return match fs::remove_file(record) {
                Err(reason) if reason.kind() != io::ErrorKind::NotFound => Err(reason),
                _ => Ok(()),
            };
        }
        let new = record.with_extension("new");
        fs::write(&new, serde_json::to_vec(&self.put)?)?;
        fs::rename(&new, record)
    }
}

/// InterfaceAddresses that can't be used, by the interface that they are on.
type ByPlace = BTreeMap<(u32, Ipv6Addr), Unusable>;

fn by_place(unusable: Vec<Unusable>) -> ByPlace {
    unusable
        .into_iter()
        .map(|found| ((found.index, found.address), found))
        .collect()
}

impl Put {
    /// What is to be said, where somebody put the address and it can't be used.
    fn is_there_and_unusable(
        &self,
        unusable: &LazyCell<ByPlace, impl FnOnce() -> ByPlace>,
    ) -> Option<String> {
        let What::Address(IpAddr::V6(address)) = self.what else {
            return None;
        };
        let found = unusable.get(&(self.index, address))?;
        let take_away = found.take_away("ip", &self.interface);
        Some(format!(
            "{} is there already, {}: `{take_away}`, and it is put there anew",
            self.what,
            found.why()
        ))
    }
}

fn cant_be_put(what: What, reason: &io::Error) -> String {
    let needs = match reason.kind() {
        io::ErrorKind::PermissionDenied => "; addresses = \"manage\" needs CAP_NET_ADMIN",
        _ => "",
    };
    format!("{what} can't be put there: {reason}{needs}")
}

fn is_wanted(put: &Put, wanted: &BTreeMap<String, DesiredAddresses>) -> bool {
    wanted
        .get(&put.interface)
        .is_some_and(|wanted| match put.what {
            What::Address(address) => wanted.addresses.contains(&address),
            What::Route(to) => wanted.routes.contains(&to),
        })
}

/// The routes that were put and without which packets would leave by an interface that is no guest's: the same that
/// [`InterfaceAddresses::add_new_route`] does not put.
fn diverting(put: &BTreeSet<Put>, routes: &str, guests: &BTreeSet<&str>) -> Vec<Put> {
    let ours: BTreeMap<u128, Vec<&Put>> = put.iter().fold(BTreeMap::new(), |mut ours, put| {
        if let What::Route(to) = put.what {
            ours.entry(to.to_bits()).or_insert_with(Vec::new).push(put);
        }
        ours
    });
    // The most specific of the others, by destination; of two the one that the kernel would take.
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
        for (to, puts) in ours.range(first..=last) {
            let is_ours = prefix == 128 && puts.iter().any(|put| metric == route_metric(put.index));
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

/// Whether what was to be taken away is not there any more: an address, a route, or the whole interface.
fn is_gone(reason: &io::Error) -> bool {
    use rustix::io::Errno;
    let code = reason.raw_os_error().map(Errno::from_raw_os_error);
    matches!(
        code,
        Some(Errno::ADDRNOTAVAIL | Errno::SRCH | Errno::NODEV | Errno::NXIO)
    )
}

impl What {
    fn address(self) -> IpAddr {
        match self {
            What::Address(address) => address,
            What::Route(to) => to.into(),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Address(address) => write!(f, "address {address}"),
            What::Route(to) => write!(f, "a route to {to}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_not_be_put_names_the_capability() {
        let what = What::Address("169.254.169.254".parse().unwrap());
        for (errno, needs) in [
            (rustix::io::Errno::PERM, true),
            (rustix::io::Errno::NODEV, false),
        ] {
            let told = cant_be_put(what, &errno.into());
            assert!(
                told.starts_with("address 169.254.169.254 can't be put there: "),
                "{told}"
            );
            assert_eq!(told.contains("CAP_NET_ADMIN"), needs, "{told}");
        }
    }

    /// A host has as many addresses as it has guests, at least.
    #[test]
    fn addresses_that_cant_be_used_are_read_once_for_all_that_are_there_already_and_not_for_others()
    {
        let put = |index, what| Put {
            interface: format!("tap{index}"),
            index,
            mac: String::new(),
            what,
        };
        let of_service: Ipv6Addr = "fd00:ec2::254".parse().unwrap();
        let found = |index| Unusable {
            index,
            address: of_service,
            prefix: 128,
            why: unusable::Duplicate::Found,
        };
        let reads = std::cell::Cell::new(0);
        let unusable = LazyCell::new(|| {
            reads.set(reads.get() + 1);
            by_place(vec![found(2), found(3)])
        });
        for what in [
            What::Address("169.254.169.254".parse().unwrap()),
            What::Route(of_service),
        ] {
            assert_eq!(put(2, what).is_there_and_unusable(&unusable), None);
        }
        assert_eq!(reads.get(), 0);
        let told = (1..=3).map(|index| {
            put(index, What::Address(of_service.into())).is_there_and_unusable(&unusable)
        });
        let told: Vec<bool> = told
            .map(|told| told.is_some_and(|told| told.contains("ip address del")))
            .collect();
        assert_eq!(
            (told.as_slice(), reads.get()),
            (&[false, true, true][..], 1)
        );
    }

    #[test]
    fn a_route_that_a_network_of_the_hosts_own_came_after_is_found() {
        const ZERO: &str = "00000000000000000000000000000000";
        let guest: Ipv6Addr = "fd11::5".parse().unwrap();
        let line = |to: &str, prefix: u8, metric: u32, interface: &str| {
            let to = to.parse::<Ipv6Addr>().unwrap().to_bits();
            format!(
                "{to:032x} {prefix:02x} {ZERO} 00 {ZERO} {metric:08x} 00000001 00000000 00000001 {interface}\n"
            )
        };
        let put = |index, what| Put {
            interface: format!("tap{index}"),
            index,
            mac: String::new(),
            what,
        };
        let address = put(1, What::Address("fd11::7".parse().unwrap()));
        let puts = BTreeSet::from([
            put(1, What::Route(guest)),
            put(2, What::Route(guest)),
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
                &puts,
                &format!("{ours}{others}"),
                &BTreeSet::from(["tap1", "tap2"]),
            );
            assert_eq!(found.len(), if is_diverting { 2 } else { 0 }, "{others}");
        }
    }

    /// A link without a MAC address is known by what was put on it; what is looked at anew is not forgotten.
    #[test]
    fn what_was_put_follows_a_link_to_its_new_name() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let named = |name: &str| {
                Links::of([Link {
                    mac: String::new(),
                    ..Link::made_up(7, name, "tun")
                }])
            };
            let (netlink, _) = super::super::netlink::read_links().await.unwrap();
            let mut addresses = InterfaceAddresses::open(netlink, None).unwrap();
            let what = What::Address("169.254.169.254".parse().unwrap());
            addresses.put.insert(Put {
                interface: "tun0".to_string(),
                index: 7,
                mac: String::new(),
                what,
            });
            addresses.follow(&named("tun0"));
            addresses.recheck_routes(&BTreeSet::new()).await;
            addresses.follow(&named("tun1"));
            let interfaces: Vec<&str> = addresses
                .put
                .iter()
                .map(|put| put.interface.as_str())
                .collect();
            assert_eq!(interfaces, ["tun1"]);
            // Another link that got its number is another.
            let mut another = Link {
                mac: String::new(),
                ..Link::made_up(7, "tun2", "tun")
            };
            another.incarnation = Link::made_up(8, "", "").incarnation;
            addresses.follow(&Links::of([another]));
            assert!(addresses.put.is_empty());
        });
    }
}
