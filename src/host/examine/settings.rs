//! Section 4: kernel settings for ARP, forged sources and router advertisements.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use super::commands::{join, lower, sysctl};
use super::device::GuestDevice;
use super::findings::{Problem, Report};
use super::routing::{RouteToGuest, route_to_guest};
use crate::host::guests::HostGuest;
use crate::host::netlink::Links;

/// Checks the settings of the interface.
pub(super) fn check(device: &GuestDevice<'_>, report: &mut Report) {
    let name = device.name();
    let addresses = join(&device.guest.ipv4);
    if let Some(values) = device.ipv4_settings("arp_ignore") {
        report.problems.extend(arp_ignore(name, values));
    }
    if let (Some(values), Some(route)) =
        (device.ipv4_settings("arp_filter"), route_to_guest(device))
    {
        let problem = arp_filter(name, values, route, &addresses);
        report.problems.extend(problem);
    }
    if let Some(values) = device.ipv4_settings("accept_local") {
        let shared = shared_with_host(device.guest, &device.network.links);
        report.problems.extend(accept_local(name, values, &shared));
    }
    if let (Some(accepts), Some(forwards), false) = (
        device.ipv6_setting("accept_ra"),
        device.ipv6_setting("forwarding"),
        device.is_ipv6_disabled(),
    ) && let Some(problem) = accept_ra(name, accepts, forwards, device.is_bridge)
    {
        report.advice(problem);
    }
}

/// Only the values 2 (same subnet only) and 8 (never) prevent ARP replies for an address that is on
/// the interface (Documentation/networking/ip-sysctl.rst of Linux).
pub(super) fn arp_ignore(interface: &str, (all, own): (i64, i64)) -> Option<Problem> {
    let effective = all.max(own);
    let consequence = match effective {
        2 => "ARP is answered only within the subnet of the address, where no guest is",
        8 => "no ARP request is answered",
        _ => return None,
    };
    Some(Problem {
        what: format!(
            "arp_ignore is {effective} on {interface}: the greater of conf.all ({all}) and conf.{interface} ({own}) \
             applies, and {consequence}"
        ),
        fix: lower(interface, "arp_ignore", (all, own), 1, 1),
    })
}

/// With arp_filter, ARP is answered only if the route to the sender uses the interface of the
/// request.
pub(super) fn arp_filter(
    interface: &str,
    (all, own): (i64, i64),
    route: RouteToGuest,
    guests: &str,
) -> Option<Problem> {
    ((all > 0 || own > 0) && route != RouteToGuest::SameInterface).then(|| Problem {
        what: format!(
            "arp_filter is on for {interface} (conf.all is {all}, conf.{interface} is {own}; either is enough), and no \
             route leads to {guests} by {interface}: the guest's ARP is not answered"
        ),
        fix: lower(interface, "arp_filter", (all, own), 0, 0),
    })
}

/// Returns the addresses that both the guest and the host have.
fn shared_with_host(guest: &HostGuest, links: &Links) -> BTreeSet<Ipv4Addr> {
    let is_on_host = |address: &&Ipv4Addr| {
        links
            .iter()
            .any(|link| link.addresses.contains(&IpAddr::V4(**address)))
    };
    guest.ipv4.iter().filter(is_on_host).copied().collect()
}

fn accept_local(
    interface: &str,
    (all, own): (i64, i64),
    shared: &BTreeSet<Ipv4Addr>,
) -> Option<Problem> {
    (!shared.is_empty() && all <= 0 && own <= 0).then(|| Problem {
        what: format!(
            "{} is an address of the host too, so the kernel drops the guest's packets as forged",
            join(shared)
        ),
        fix: sysctl(&[(format!("ipv4/conf/{interface}/accept_local"), 1)]),
    })
}

/// A host that forwards accepts router advertisements only with the value 2.
pub(super) fn accept_ra(
    interface: &str,
    accepts: i64,
    forwards: i64,
    is_bridge: bool,
) -> Option<Problem> {
    let is_accepted = accepts == 2 || (accepts == 1 && forwards == 0);
    let sender = if is_bridge {
        "any node on the bridge"
    } else {
        "the guest"
    };
    is_accepted.then(|| Problem {
        what: format!(
            "{sender} could give the host a default route: it accepts router advertisements on {interface}"
        ),
        fix: sysctl(&[(format!("ipv6/conf/{interface}/accept_ra"), 0)]),
    })
}
