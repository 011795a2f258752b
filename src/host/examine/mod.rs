//! What on this host keeps a guest from being served, and the command that mends it.
//!
//! [`examine`] looks at every way in of a guest's own: interface, bridge port, network namespace. It changes nothing and
//! sends nothing. [`seen`] reads; everything here is a function of what was read, in the order in which it would be mended:
//!
//! 1. the interface, the bridge, the port, the namespace: there, up, and what the attachment says it is;
//! 2. the metadata addresses on it;
//! 3. the way back: routes to the guest, and what the kernel thinks of a source that no route leads to (`rp_filter`);
//! 4. ARP, IPv6 switched off, guests that could give the host a route, guests with an address of the host's;
//! 5. on bridges: marks that reach the socket, a MAC that stays, the guest rules.
//!
//! Refused: judging firewalls. Whether other people's rules let a guest pass can't be told by reading them.

mod probe;
#[cfg(test)]
mod tests;
pub(super) mod unusable;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::guest_rules::{self, MetadataAddresses};
use super::guests::{self, Guest, Way, ways};
use super::netlink::{self, Link, Links, Route, route_metric};
use super::own_metadata;
use crate::document::near_miss;
use crate::host::examine::probe::{Daemon, Hidden, Interest, Seen};
use crate::host::examine::unusable::Unusable;
use crate::instance::{Attachment, BridgePort, Instance, InstanceId, namespace_path};

/// Something that keeps a guest from being served, or that its neighbours could turn against it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Whose way in it is.
    pub instance: InstanceId,
    /// Which way in, as log lines name it.
    pub attachment: String,
    /// What is wrong.
    pub what: String,
    /// The command that mends it; where none can, what to do.
    pub mend: String,
}

/// Something that could not be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unseen {
    /// Whose way in it is.
    pub instance: InstanceId,
    /// Which way in, as log lines name it.
    pub attachment: String,
    /// What was not seen, and why.
    pub what: String,
}

/// All that an examination found.
#[derive(Clone, Debug, Default)]
pub struct Examination {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What could not be looked at.
    pub unseen: Vec<Unseen>,
    /// The guests with ways in of their own.
    pub guests: BTreeSet<InstanceId>,
}

impl Examination {
    /// The guests about which all was seen and nothing found.
    pub fn fine(&self) -> usize {
        let is_fine = |guest: &&InstanceId| {
            !self
                .findings
                .iter()
                .any(|finding| finding.instance == **guest)
                && !self.unseen.iter().any(|unseen| unseen.instance == **guest)
        };
        self.guests.iter().filter(is_fine).count()
    }
}

/// What guests are to reach.
#[derive(Clone, Debug)]
pub struct Service {
    /// The IPv4 address of the service.
    pub ipv4: Ipv4Addr,
    /// The IPv6 address of the service.
    pub ipv6: Ipv6Addr,
    /// Who puts them on interfaces.
    pub addresses: Addresses,
    /// What there is to be said where the host itself asks at them.
    pub hosts_own: HostsOwn,
    /// Where a daemon that runs is found.
    pub daemon: Option<PathBuf>,
    /// The command that loads the guest rules.
    pub load_rules: String,
}

/// Who puts the addresses of the service, and the routes to IPv6 guests, on the guests' interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// The operator: what is missing is found.
    Operator,
    /// The daemon, while it runs.
    Daemon,
}

/// Whether the host's interfaces may have the addresses although the host seems to ask there itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostsOwn {
    /// They would cut it off from the service that it asks.
    Spared,
    /// The operator says that it needs no such service.
    Shadowed,
}

/// Looks at the ways in of these instances. Fails when the kernel can't be asked by netlink at all.
pub async fn examine(instances: &[Instance], service: &Service) -> io::Result<Examination> {
    let ways = ways(instances);
    let mut examination = Examination {
        guests: ways.iter().map(|way| way.guest.id.clone()).collect(),
        ..Examination::default()
    };
    if ways.is_empty() {
        return Ok(examination);
    }
    let mut seen = Seen::read(&interests(&ways)).await?;
    seen.hosts_own = hosts_own(&ways, service).await;
    if let (Addresses::Daemon, Some(socket)) = (service.addresses, &service.daemon) {
        seen.daemon = probe::daemon(socket).await;
    }
    let rules = Rules {
        listed: probe::rules().await.map(|listed| {
            let addresses = MetadataAddresses {
                ipv4: service.ipv4,
                ipv6: service.ipv6,
            };
            let lacking =
                guest_rules::lacking(&listed, &guests::ruled(&ways, &seen.links), addresses);
            (
                guest_rules::are_loaded(&listed),
                lacking.into_iter().collect(),
            )
        }),
        sharing: if seen.tracks {
            sharing(&ways)
        } else {
            BTreeMap::new()
        },
        load: &service.load_rules,
    };
    for way in &ways {
        let mut notes = Notes::default();
        match way.attachment {
            Attachment::Interface(name) => {
                if let Some(device) = interface(name, way, &ways, &seen.links, &mut notes) {
                    device_of_guest(device, way, &seen, service, &mut notes);
                }
            }
            Attachment::BridgePort(port) => {
                if let Some(device) = bridge_of(port, &seen.links, &mut notes) {
                    device_of_guest(device, way, &seen, service, &mut notes);
                    bridge(device, &seen, &mut notes);
                }
            }
            Attachment::NetworkNamespace(name) => {
                let path = namespace_path(name);
                let inside = Seen::read_in(path.clone(), way.guest.addresses()).await;
                namespace(name, &path, way, inside, service, &mut notes);
            }
            Attachment::Listener(_) | Attachment::SourceAddress(_) => {}
        }
        if !matches!(way.attachment, Attachment::NetworkNamespace(_)) {
            rules.judge(way, &mut notes);
        }
        examination.take(way, notes);
    }
    Ok(examination)
}

/// What is wrong, and what mends it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wrong {
    what: String,
    mend: String,
}

/// What is to be said of one way in.
#[derive(Debug, Default)]
struct Notes {
    wrong: Vec<Wrong>,
    unseen: Vec<String>,
}

impl Notes {
    fn wrong(&mut self, what: impl fmt::Display, mend: impl fmt::Display) {
        self.wrong.push(Wrong {
            what: what.to_string(),
            mend: mend.to_string(),
        });
    }

    fn unseen(&mut self, what: impl fmt::Display) {
        self.unseen.push(what.to_string());
    }
}

impl Examination {
    fn take(&mut self, way: &Way<'_>, notes: Notes) {
        let (instance, attachment) = (&way.guest.id, way.attachment.to_string());
        self.findings
            .extend(notes.wrong.into_iter().map(|Wrong { what, mend }| Finding {
                instance: instance.clone(),
                attachment: attachment.clone(),
                what,
                mend,
            }));
        self.unseen
            .extend(notes.unseen.into_iter().map(|what| Unseen {
                instance: instance.clone(),
                attachment: attachment.clone(),
                what,
            }));
    }
}

/// The interfaces where the guests' packets reach the host's IP layer.
fn interests(ways: &[Way<'_>]) -> Vec<Interest> {
    let mut interests: BTreeMap<&str, BTreeSet<IpAddr>> = BTreeMap::new();
    for way in ways {
        let interface = match way.attachment {
            Attachment::Interface(name) => name,
            Attachment::BridgePort(port) => &port.bridge,
            Attachment::NetworkNamespace(_)
            | Attachment::Listener(_)
            | Attachment::SourceAddress(_) => continue,
        };
        interests
            .entry(interface)
            .or_default()
            .extend(way.guest.addresses());
    }
    interests
        .into_iter()
        .map(|(name, guests)| Interest {
            interface: name.to_string(),
            guests,
        })
        .collect()
}

// 1. The ways in themselves.

/// The interface of a guest's own, when it is one.
fn interface<'s>(
    name: &str,
    way: &Way<'_>,
    ways: &[Way<'_>],
    links: &'s Links,
    notes: &mut Notes,
) -> Option<&'s Link> {
    let link = up(name, links, notes)?;
    let Some(controller) = link.controller.and_then(|index| links.indexed(index)) else {
        return Some(link);
    };
    match controller.kind.as_str() {
        // A VRF hands packets on with the name of the interface they came by.
        "vrf" => Some(link),
        "bridge" => {
            let is_free = |mark: &u32| {
                !ways.iter().any(|way| matches!(way.attachment, Attachment::BridgePort(port) if port.mark == *mark))
            };
            let mark = (1..).find(is_free).unwrap_or(1);
            notes.wrong(
                format_args!("it is a port of bridge {}: the bridge takes its packets before it hears them", controller.name),
                format_args!(
                    r#"attach {} in its document by {{"BridgePort": {{"Bridge": "{}", "Port": "{name}", "Mark": {mark}}}}}"#,
                    way.guest.id, controller.name
                ),
            );
            None
        }
        kind => {
            notes.wrong(
                format_args!(
                    "it is part of {} ({kind}), which takes its packets before it hears them",
                    controller.name
                ),
                format_args!("ip link set {} nomaster", word(name)),
            );
            None
        }
    }
}

/// The bridge of a port, when the port is one of it.
fn bridge_of<'s>(attachment: &BridgePort, links: &'s Links, notes: &mut Notes) -> Option<&'s Link> {
    let BridgePort { bridge, port, .. } = attachment;
    let port = up(port, links, notes);
    let bridge = match links.named(bridge) {
        Some(link) => up(&link.name, links, notes)?,
        None => {
            notes.wrong(
                format_args!("there is no bridge {bridge}"),
                format_args!(
                    "ip link add {0} type bridge && ip link set {0} up",
                    word(bridge)
                ),
            );
            return None;
        }
    };
    let Some(carrier) = carrier(bridge, links) else {
        let kind = if bridge.kind.is_empty() {
            "hardware"
        } else {
            &bridge.kind
        };
        notes.wrong(
            format_args!(
                "{} is no bridge of Linux ({kind}), so no rule can mark what comes by its ports",
                bridge.name
            ),
            "use a bridge of Linux, or attach the guest by an interface of its own",
        );
        return None;
    };
    if let Some(port) = port.filter(|port| port.controller != Some(carrier.index)) {
        notes.wrong(
            format_args!("{} is not a port of {}", port.name, carrier.name),
            format_args!(
                "ip link set {} master {}",
                word(&port.name),
                word(&carrier.name)
            ),
        );
    }
    Some(bridge)
}

/// The bridge itself; that below, where it is a VLAN of one.
fn carrier<'s>(bridge: &'s Link, links: &'s Links) -> Option<&'s Link> {
    match bridge.kind.as_str() {
        "bridge" => Some(bridge),
        "vlan" => links
            .indexed(bridge.below?)
            .filter(|below| below.kind == "bridge"),
        _ => None,
    }
}

fn up<'s>(name: &str, links: &'s Links, notes: &mut Notes) -> Option<&'s Link> {
    let Some(link) = links.named(name) else {
        let names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
        let hint = near_miss(name, &names)
            .map(|near| format!("; did you mean {near}?"))
            .unwrap_or_default();
        notes.wrong(
            format_args!("there is no interface {name}{hint}"),
            "start the guest, whose hypervisor makes its interface, or correct the name in its document",
        );
        return None;
    };
    if !link.up {
        notes.wrong(
            format_args!("{name} is down"),
            format_args!("ip link set {} up", word(name)),
        );
        return None;
    }
    Some(link)
}

// 2. to 4. The interface where the guest's packets reach the IP layer.

fn device_of_guest(
    device: &Link,
    way: &Way<'_>,
    seen: &Seen,
    service: &Service,
    notes: &mut Notes,
) {
    let name = &device.name;
    let is_bridge = matches!(way.attachment, Attachment::BridgePort(_));
    let guest = &way.guest;
    let ipv6_is_off = seen.setting(&format!("ipv6/conf/{name}/disable_ipv6")) == Some(1);

    notes.wrong.extend(takes_the_hosts(device, seen, service));
    // What the operator must decide first makes no command out of what is missing.
    let is_asked_for = seen.hosts_own.is_none();
    if is_asked_for {
        missing(device, service.ipv4.into(), way, seen, service, notes);
    }
    let ipv6_fits = device.mtu >= MIN_IPV6_MTU;
    if guest.asks_by_ipv6 && !ipv6_fits {
        notes.wrong.push(too_small("ip", device));
    }
    if guest.asks_by_ipv6 && ipv6_fits {
        if ipv6_is_off {
            let mend = sysctl(&[(format!("ipv6/conf/{name}/disable_ipv6"), 0)]);
            notes.wrong(format_args!("IPv6 is switched off on {name}"), mend);
        }
        let found = seen
            .unusable
            .iter()
            .find(|found| found.index == device.index && found.address == service.ipv6);
        match found {
            _ if !is_asked_for => {}
            Some(found) => {
                let wrong = unusable("ip", name, found);
                notes.wrong.push(match service.addresses {
                    Addresses::Operator => wrong,
                    Addresses::Daemon => Wrong {
                        mend: found.take_away("ip", name),
                        ..wrong
                    },
                });
            }
            // The daemon puts it as soon as it can be put.
            None if ipv6_is_off && service.addresses == Addresses::Daemon => {}
            None => missing(device, service.ipv6.into(), way, seen, service, notes),
        }
    }
    ways_back(device, guest, is_bridge, service.addresses, seen, notes);

    let number = |family: &str, of: &str, setting: &str| {
        seen.setting(&format!("{family}/conf/{of}/{setting}"))
    };
    let both = |setting: &str| {
        Some((
            number("ipv4", "all", setting)?,
            number("ipv4", name, setting)?,
        ))
    };
    let leads = leads(device, guest, seen);
    let addresses = listed(&guest.ipv4);
    match (both("rp_filter"), leads) {
        (Some(values), Some(leads)) => notes.wrong.extend(rp_filter(name, values, leads, &addresses)),
        (Some(values @ (1.., _) | values @ (_, 1..)), None) => notes.unseen(format_args!(
            "whether rp_filter {} lets it pass: its document lists no IPv4 address, or its route can't be read",
            values.0.max(values.1)
        )),
        (Some(_), None) => {}
        (None, _) => notes.unseen(format_args!("/proc/sys/net/ipv4/conf/{name}")),
    }
    notes
        .wrong
        .extend(both("arp_ignore").and_then(|values| arp_ignore(name, values)));
    if let (Some(values), Some(leads)) = (both("arp_filter"), leads) {
        notes
            .wrong
            .extend(arp_filter(name, values, leads, &addresses));
    }
    if let Some(values) = both("accept_local") {
        notes
            .wrong
            .extend(accept_local(name, values, &of_the_host(guest, &seen.links)));
    }
    if let (Some(accepts), Some(forwards), false) = (
        number("ipv6", name, "accept_ra"),
        number("ipv6", name, "forwarding"),
        ipv6_is_off,
    ) {
        notes
            .wrong
            .extend(accept_ra(name, accepts, forwards, is_bridge));
    }
}

/// The address of the service, where it is missing. One that a daemon is to put is not missing before it runs.
fn missing(
    device: &Link,
    address: IpAddr,
    way: &Way<'_>,
    seen: &Seen,
    service: &Service,
    notes: &mut Notes,
) {
    if device.addresses.contains(&address) {
        return;
    }
    let name = &device.name;
    match (service.addresses, &seen.daemon) {
        (Addresses::Operator, _) => {
            let elsewhere = seen
                .links
                .iter()
                .find(|link| link.addresses.contains(&address));
            let elsewhere = elsewhere
                .map(|link| format!(" (it is on {})", link.name))
                .unwrap_or_default();
            notes.wrong(
                format_args!("{name} lacks the address {address}{elsewhere}"),
                add_address("ip", name, address),
            );
        }
        (Addresses::Daemon, Daemon::Absent) => {}
        (Addresses::Daemon, Daemon::Runs { may: Some(false) }) => notes.wrong(
            format_args!(
                "imdsd runs and may not put the address {address} on {name}: it lacks CAP_NET_ADMIN"
            ),
            "give it CAP_NET_ADMIN, as systemd/manage-addresses.conf does, and start it again",
        ),
        (Addresses::Daemon, Daemon::Runs { .. }) => notes.wrong(
            format_args!("imdsd runs and has not put the address {address} on {name}"),
            format_args!(
                "its log says why, and so does: imdsd instance explain {}",
                way.guest.id
            ),
        ),
        (Addresses::Daemon, Daemon::Hidden(reason)) => {
            notes.unseen(format_args!(
                "whether imdsd runs, which is to put the address {address} on {name}: {reason}"
            ));
        }
    }
}

/// RFC 8200; the kernel has no IPv6 on an interface with less.
const MIN_IPV6_MTU: u32 = 1280;

fn too_small(ip: &str, device: &Link) -> Wrong {
    Wrong {
        what: format!(
            "the MTU of {} is {}, and with less than {MIN_IPV6_MTU} the kernel has no IPv6 on it",
            device.name, device.mtu
        ),
        mend: format!("{ip} link set {} mtu {MIN_IPV6_MTU}", word(&device.name)),
    }
}

fn unusable(ip: &str, device: &str, found: &Unusable) -> Wrong {
    Wrong {
        what: format!(
            "{device} has the address {}, {}",
            found.address,
            found.why()
        ),
        mend: found.mend(ip, device),
    }
}

/// The command that puts an address on an interface, `nodad` where a guest could otherwise claim it first.
pub(super) fn add_address(ip: &str, device: &str, address: IpAddr) -> String {
    let (prefix, nodad) = if address.is_ipv4() {
        (32, "")
    } else {
        (128, " nodad")
    };
    format!(
        "{ip} address add {address}/{prefix} dev {}{nodad}",
        word(device)
    )
}

/// The way answers take. An IPv4 answer of a socket bound to the interface needs no route; an IPv6 one does. On a bridge the
/// way over a gateway would leave by another port than the guest's.
fn ways_back(
    device: &Link,
    guest: &Guest,
    is_bridge: bool,
    puts: Addresses,
    seen: &Seen,
    notes: &mut Notes,
) {
    for (is_ipv4, name) in [(true, "ip"), (false, "ip -6")] {
        if !is_ipv4 && (!guest.asks_by_ipv6 || device.mtu < MIN_IPV6_MTU) {
            continue;
        }
        let addresses: Vec<IpAddr> = guest
            .addresses()
            .into_iter()
            .filter(|to| to.is_ipv4() == is_ipv4)
            .collect();
        let mut lost = Vec::new();
        let mut over_gateway = false;
        for to in &addresses {
            match seen.routes.get(&(*to, Some(device.index))) {
                Some(Ok(None)) if !is_ipv4 && puts == Addresses::Operator => lost.push(*to),
                Some(Ok(Some(route))) if is_bridge && !route.is_direct => {
                    over_gateway = true;
                    lost.push(*to);
                }
                Some(Ok(_)) => {}
                Some(Err(reason)) => notes.unseen(format_args!("the route to {to}: {reason}")),
                None => notes.unseen(format_args!("the route to {to}")),
            }
        }
        if lost.is_empty() || (guest.ways > 1 && lost.len() < addresses.len()) {
            continue;
        }
        let how = if over_gateway {
            "only a route over a gateway leads"
        } else {
            "no route leads"
        };
        let add = |to: &IpAddr| {
            let prefix = if is_ipv4 { 32 } else { 128 };
            format!(
                "{name} route add {to}/{prefix} dev {} metric {}",
                word(&device.name),
                route_metric(device.index)
            )
        };
        notes.wrong(
            format_args!(
                "{how} to {} by {}, so answers don't",
                listed(&lost),
                device.name
            ),
            lost.iter().map(add).collect::<Vec<_>>().join(" && "),
        );
    }
}

/// Where the host would send packets to the guest, of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Leads {
    /// By the interface that the guest's packets come by.
    Here,
    Elsewhere,
    Nowhere,
}

/// `None` when it can't be told.
fn leads(device: &Link, guest: &Guest, seen: &Seen) -> Option<Leads> {
    let each = guest
        .ipv4
        .iter()
        .map(|to| match seen.routes.get(&(IpAddr::V4(*to), None)) {
            Some(Ok(Some(Route { by, .. }))) if by.contains(&device.index) => Some(Leads::Here),
            Some(Ok(Some(_))) => Some(Leads::Elsewhere),
            Some(Ok(None)) => Some(Leads::Nowhere),
            Some(Err(_)) | None => None,
        });
    let each: Vec<Leads> = each.collect::<Option<_>>()?;
    if guest.ways > 1 {
        each.into_iter().min()
    } else {
        each.into_iter().max()
    }
}

/// Reverse path filtering, as fib_validate_source() of Linux does it on an interface that has an address: strict takes a
/// source only from where its route leads, loose takes one that any route leads to, a default route included.
fn rp_filter(interface: &str, (all, own): (i64, i64), leads: Leads, guests: &str) -> Option<Wrong> {
    let effective = all.max(own);
    let passes = match effective {
        ..=0 => true,
        1 => leads == Leads::Here,
        2.. => leads != Leads::Nowhere,
    };
    if passes {
        return None;
    }
    let is_strict = effective == 1;
    let (route, mend) = match leads {
        // Loose is enough, and the greater of the two counts: what others have of conf.all stays.
        Leads::Here | Leads::Elsewhere => (
            format!("the route to {guests} leaves by another interface"),
            sysctl(&[(format!("ipv4/conf/{interface}/rp_filter"), 2)]),
        ),
        Leads::Nowhere => (
            format!("no route leads to {guests}"),
            lower(interface, "rp_filter", (all, own), 0, 0),
        ),
    };
    let all_counts = match (leads, all) {
        (Leads::Nowhere, 1..) => {
            "; conf.all counts for every interface, so give those that need it their own value"
        }
        _ => "",
    };
    Some(Wrong {
        what: format!(
            "rp_filter is {effective} ({}) on {interface}: the greater of conf.all ({all}) and conf.{interface} ({own}) \
             counts. {route}, so the kernel drops what the guest sends{all_counts}",
            if is_strict { "strict" } else { "loose" },
        ),
        mend,
    })
}

/// Only 2 (the asker's own subnet) and 8 (nobody) keep a guest from an address that is on the interface.
fn arp_ignore(interface: &str, (all, own): (i64, i64)) -> Option<Wrong> {
    let effective = all.max(own);
    let answers = match effective {
        2 => "ARP is answered only to who asks from the address's own subnet, which nobody is in",
        8 => "no ARP request is answered",
        _ => return None,
    };
    Some(Wrong {
        what: format!(
            "arp_ignore is {effective} on {interface}: the greater of conf.all ({all}) and conf.{interface} ({own}) counts, \
             and {answers}"
        ),
        mend: lower(interface, "arp_ignore", (all, own), 1, 1),
    })
}

/// With it, ARP is answered only where the route to the asker leaves by the interface that was asked on.
fn arp_filter(
    interface: &str,
    (all, own): (i64, i64),
    leads: Leads,
    guests: &str,
) -> Option<Wrong> {
    ((all > 0 || own > 0) && leads != Leads::Here).then(|| Wrong {
        what: format!(
            "arp_filter is on for {interface} (one of conf.all, {all}, and conf.{interface}, {own}, is enough), and no \
             route leads to {guests} by {interface}: the guest's ARP is not answered"
        ),
        mend: lower(interface, "arp_filter", (all, own), 0, 0),
    })
}

/// The addresses that the guest and the host both have.
fn of_the_host(guest: &Guest, links: &Links) -> BTreeSet<Ipv4Addr> {
    let has = |address: &&Ipv4Addr| {
        links
            .iter()
            .any(|link| link.addresses.contains(&IpAddr::V4(**address)))
    };
    guest.ipv4.iter().filter(has).copied().collect()
}

fn accept_local(
    interface: &str,
    (all, own): (i64, i64),
    both: &BTreeSet<Ipv4Addr>,
) -> Option<Wrong> {
    (!both.is_empty() && all <= 0 && own <= 0).then(|| Wrong {
        what: format!(
            "{} is an address of the host too, so the kernel takes the guest's packets for forged ones",
            listed(both)
        ),
        mend: sysctl(&[(format!("ipv4/conf/{interface}/accept_local"), 1)]),
    })
}

/// A host that forwards heeds router advertisements only with the value 2.
fn accept_ra(interface: &str, accepts: i64, forwards: i64, is_bridge: bool) -> Option<Wrong> {
    let heeds = accepts == 2 || (accepts == 1 && forwards == 0);
    let whose = if is_bridge {
        "whoever is on the bridge"
    } else {
        "the guest"
    };
    heeds.then(|| Wrong {
        what: format!("{whose} could give the host a default route: it heeds router advertisements on {interface}"),
        mend: sysctl(&[(format!("ipv6/conf/{interface}/accept_ra"), 0)]),
    })
}

// 5. Bridges, and guests that look alike.

fn bridge(bridge: &Link, seen: &Seen, notes: &mut Notes) {
    match seen.setting("ipv4/tcp_fwmark_accept") {
        Some(0) => notes.wrong(
            "tcp_fwmark_accept is 0: the mark of the port does not reach the connection, so nobody is told from nobody",
            sysctl(&[("ipv4/tcp_fwmark_accept".to_string(), 1)]),
        ),
        Some(_) => {}
        None => notes.unseen("/proc/sys/net/ipv4/tcp_fwmark_accept"),
    }
    let Some(carrier) = carrier(bridge, &seen.links) else {
        return;
    };
    match seen.pinned.get(&carrier.index) {
        Some(Ok(true)) => {}
        Some(Ok(false)) => notes.wrong(
            format_args!(
                "{} has no MAC of its own: it takes its ports', and loses it when they go, with what the guest rules and \
                 the guests know of it",
                carrier.name
            ),
            format_args!("ip link set {} address {}", word(&carrier.name), carrier.mac),
        ),
        Some(Err(reason)) => notes.unseen(format_args!("whether the MAC of {} is its own: {reason}", carrier.name)),
        None => notes.unseen(format_args!("whether the MAC of {} is its own", carrier.name)),
    }
}

/// For every guest that has an address of another's: which, and whose.
fn sharing(ways: &[Way<'_>]) -> BTreeMap<InstanceId, (IpAddr, InstanceId)> {
    let mut holders: BTreeMap<IpAddr, BTreeSet<&InstanceId>> = BTreeMap::new();
    for way in ways
        .iter()
        .filter(|way| !matches!(way.attachment, Attachment::NetworkNamespace(_)))
    {
        for address in way.guest.addresses() {
            holders.entry(address).or_default().insert(&way.guest.id);
        }
    }
    let mut sharing = BTreeMap::new();
    for (address, holders) in holders {
        for holder in &holders {
            if let Some(other) = holders.iter().find(|other| *other != holder) {
                sharing
                    .entry((*holder).clone())
                    .or_insert_with(|| (address, (*other).clone()));
            }
        }
    }
    sharing
}

/// The guest rules, and who needs them.
struct Rules<'s> {
    /// Whether any are loaded, and what guests lack of theirs; or why that can't be told.
    listed: Result<(bool, BTreeMap<InstanceId, String>), String>,
    /// Guests that connection tracking takes for one another.
    sharing: BTreeMap<InstanceId, (IpAddr, InstanceId)>,
    load: &'s str,
}

impl Rules<'_> {
    /// A guest on a bridge is nobody without them. One on an interface of its own is served without, unless it is taken for
    /// another; but rules of an earlier document may keep it out.
    fn judge(&self, way: &Way<'_>, notes: &mut Notes) {
        let is_bridged = matches!(way.attachment, Attachment::BridgePort(_));
        let alike = self.sharing.get(&way.guest.id);
        match &self.listed {
            Err(reason) if is_bridged || alike.is_some() => notes.unseen(format_args!("the guest rules: {reason}")),
            Err(_) => {}
            Ok((are_loaded, lacking)) => match (lacking.get(&way.guest.id), alike) {
                (Some(what), _) if is_bridged || *are_loaded => {
                    notes.wrong(format_args!("guest rules: {what}"), self.load);
                }
                (Some(_), Some((address, other))) => notes.wrong(
                    format_args!(
                        "{other} has the address {address} too, and connection tracking takes the connections of both for \
                         one: the guest rules keep it from that"
                    ),
                    self.load,
                ),
                _ => {}
            },
        }
    }
}

/// Why the host seems to ask a metadata service itself, where that matters.
async fn hosts_own(ways: &[Way<'_>], service: &Service) -> Option<String> {
    if service.hosts_own == HostsOwn::Shadowed {
        return None;
    }
    let guests = interests(ways);
    let guests: BTreeSet<&str> = guests
        .iter()
        .map(|interest| interest.interface.as_str())
        .collect();
    // Routes that can't be read keep the daemon from it as well.
    let looking = async {
        let (netlink, links) = netlink::read_links().await?;
        own_metadata::evidence(&netlink, &links, &guests, (service.ipv4, service.ipv6)).await
    };
    looking
        .await
        .unwrap_or_else(|reason| Some(format!("its routes can't be read: {reason}")))
}

/// With an address of the service on any interface of its own, the host would ask this service instead of its own.
fn takes_the_hosts(device: &Link, seen: &Seen, service: &Service) -> Option<Wrong> {
    let sign = seen.hosts_own.as_ref()?;
    let consequence = match service.addresses {
        Addresses::Daemon => "so imdsd puts no address on it".to_string(),
        Addresses::Operator => format!(
            "with an address of the service on {} it asks imdsd instead",
            device.name
        ),
    };
    Some(Wrong {
        what: format!("the host seems to ask a metadata service of its own ({sign}): {consequence}"),
        mend: "where the host needs no such service, set shadow_host_metadata = true in [interfaces]; where it does, attach \
               guests by network namespaces, whose addresses are not the host's"
            .to_string(),
    })
}

// Network namespaces: the same, as seen from inside.

fn namespace(
    name: &str,
    path: &Path,
    way: &Way<'_>,
    inside: Result<Seen, Hidden>,
    service: &Service,
    notes: &mut Notes,
) {
    let is_named = !Path::new(name).is_absolute();
    let seen = match inside {
        Ok(seen) => seen,
        Err(Hidden::Missing) if is_named => {
            return notes.wrong(
                "there is no such network namespace",
                format_args!("ip netns add {}", word(name)),
            );
        }
        Err(Hidden::Missing) => {
            return notes.wrong(
                "there is no such file",
                "start what makes the network namespace, or correct the path in the guest's document",
            );
        }
        Err(Hidden::Other) if is_named => {
            return notes.wrong(
                format_args!("{} is not a network namespace (any more)", path.display()),
                format_args!("ip netns delete {0} && ip netns add {0}", word(name)),
            );
        }
        Err(Hidden::Other) => {
            return notes.wrong(
                format_args!("{} is not a network namespace (any more)", path.display()),
                "start what makes the network namespace, or correct the path in the guest's document",
            );
        }
        Err(Hidden::Forbidden(reason)) => {
            return notes.unseen(format_args!("the inside: {reason}"));
        }
    };
    let ip = match is_named {
        true => format!("ip -n {}", word(name)),
        false => format!("nsenter --net={} ip", word(name)),
    };
    let device = device_inside(way, &seen);
    let small = seen
        .links
        .named(device)
        .filter(|link| way.guest.asks_by_ipv6 && link.mtu < MIN_IPV6_MTU);
    notes.wrong.extend(small.map(|link| too_small(&ip, link)));
    let asks_by_ipv6 = way.guest.asks_by_ipv6 && small.is_none();
    let families = [
        (IpAddr::V4(service.ipv4), true),
        (IpAddr::V6(service.ipv6), asks_by_ipv6),
    ];
    for (address, _) in families.into_iter().filter(|(_, is_asked)| *is_asked) {
        let holders: Vec<&Link> = seen
            .links
            .iter()
            .filter(|link| link.addresses.contains(&address))
            .collect();
        let found = seen
            .unusable
            .iter()
            .find(|found| IpAddr::V6(found.address) == address);
        match (holders.first(), found) {
            (Some(_), _) if holders.iter().any(|link| link.up) => {}
            (Some(link), _) => notes.wrong(
                format_args!(
                    "{}, which has the address {address} inside, is down",
                    link.name
                ),
                format_args!("{ip} link set {} up", word(&link.name)),
            ),
            (None, Some(found)) => {
                let holder = seen
                    .links
                    .indexed(found.index)
                    .map_or("", |link| &link.name);
                notes.wrong.push(unusable(&ip, holder, found));
            }
            (None, None) => notes.wrong(
                format_args!("no interface inside has the address {address}"),
                add_address(&ip, device, address),
            ),
        }
    }
    // Where there is nothing but lo, the guest is inside.
    if device == "lo" {
        return;
    }
    for (is_ipv4, ip) in [(true, ip.clone()), (false, format!("{ip} -6"))] {
        let lost: Vec<IpAddr> = way
            .guest
            .addresses()
            .into_iter()
            .filter(|to| to.is_ipv4() == is_ipv4 && (is_ipv4 || asks_by_ipv6))
            .filter(|to| matches!(seen.routes.get(&(*to, None)), Some(Ok(None))))
            .collect();
        if !lost.is_empty() {
            let add = |to: &IpAddr| {
                format!(
                    "{ip} route add {to}/{} dev {}",
                    if is_ipv4 { 32 } else { 128 },
                    word(device)
                )
            };
            notes.wrong(
                format_args!(
                    "no route inside leads to {}, so answers don't",
                    listed(&lost)
                ),
                lost.iter().map(add).collect::<Vec<_>>().join(" && "),
            );
        }
    }
}

/// The interface inside that leads to the guest: the route's, else the first besides lo.
fn device_inside<'s>(way: &Way<'_>, seen: &'s Seen) -> &'s str {
    let routed = way.guest.addresses().into_iter().find_map(|to| {
        let route = seen.routes.get(&(to, None))?.as_ref().ok()?.as_ref()?;
        seen.links.indexed(*route.by.first()?)
    });
    let first = || seen.links.iter().find(|link| link.name != "lo" && link.up);
    routed
        .filter(|link| link.name != "lo")
        .or_else(first)
        .map_or("lo", |link| &link.name)
}

// Commands.

/// Sets numbers below /proc/sys/net.
fn sysctl(settings: &[(String, i64)]) -> String {
    // sysctl ends a name at the first `=`, and takes these others for patterns.
    if settings
        .iter()
        .any(|(path, _)| path.contains(['=', '*', '?', '[']))
    {
        let write = |(path, value): &(String, i64)| {
            format!("echo {value} >{}", word(&format!("/proc/sys/net/{path}")))
        };
        return settings.iter().map(write).collect::<Vec<_>>().join(" && ");
    }
    let mut command = "sysctl -w".to_string();
    for (path, value) in settings {
        // Dots part the names, unless one has dots itself.
        let name = if path.contains('.') {
            format!("net/{path}")
        } else {
            format!("net/{path}").replace('/', ".")
        };
        command += &format!(" {}={value}", word(&name));
    }
    command
}

/// Sets those of conf.all and conf.INTERFACE that are above `most` to `value`.
fn lower(interface: &str, name: &str, (all, own): (i64, i64), most: i64, value: i64) -> String {
    let of = [("all", all), (interface, own)]
        .into_iter()
        .filter(|(_, now)| *now > most);
    let of: Vec<(String, i64)> = of
        .map(|(of, _)| (format!("ipv4/conf/{of}/{name}"), value))
        .collect();
    sysctl(&of)
}

/// A word as a shell reads it. The kernel allows nearly everything in the name of an interface.
pub fn word(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+@%:/".contains(&byte);
    match !text.is_empty() && text.bytes().all(is_plain) {
        true => text.to_string(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

fn listed(items: impl IntoIterator<Item = impl fmt::Display>) -> String {
    items
        .into_iter()
        .map(|item| item.to_string())
        .collect::<Vec<_>>()
        .join(", ")
}
