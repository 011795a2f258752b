//! Section 3: routes from the host to the guest, and what the kernel does with packets whose source
//! has no such route (`rp_filter`).

use std::net::IpAddr;

use super::commands::{join, lower, shell_word, sysctl};
use super::device::GuestDevice;
use super::findings::{Problem, Report};
use super::service::AddressOwner;
use crate::host::netlink::{Route, route_metric};

/// Checks the routes that replies take, and `rp_filter`.
pub(super) fn check(device: &GuestDevice<'_>, report: &mut Report) {
    check_replies(device, true, report);
    if device.has_ipv6() {
        check_replies(device, false, report);
    }
    check_rp_filter(device, report);
}

/// Checks the routes that replies take, for one family. An IPv4 reply from a socket bound to the
/// interface needs no route, an IPv6 reply does. On a bridge, a reply through a gateway would leave
/// by another port than the guest's.
fn check_replies(device: &GuestDevice<'_>, is_ipv4: bool, report: &mut Report) {
    let addresses: Vec<IpAddr> = device
        .guest
        .addresses()
        .into_iter()
        .filter(|to| to.is_ipv4() == is_ipv4)
        .collect();
    let needs_route = !is_ipv4 && device.service.address_owner == AddressOwner::Operator;
    let mut lost = Vec::new();
    let mut has_gateway = false;
    for to in &addresses {
        match device.network.routes.get(&(*to, Some(device.link.index))) {
            Some(Ok(None)) if needs_route => lost.push(*to),
            Some(Ok(Some(route))) if device.is_bridge && !route.is_direct => {
                has_gateway = true;
                lost.push(*to);
            }
            Some(Ok(_)) => {}
            Some(Err(reason)) => report.unchecked(format_args!("the route to {to}: {reason}")),
            None => report.unchecked(format_args!("the route to {to}")),
        }
    }
    // A guest with several attachments may use each address on another one.
    let some_arrive = device.guest.attachments > 1 && lost.len() < addresses.len();
    if lost.is_empty() || some_arrive {
        return;
    }
    let route = if has_gateway {
        "only a route through a gateway leads"
    } else {
        "no route leads"
    };
    report.problem(
        format_args!(
            "{route} to {} by {}, so replies do not arrive",
            join(&lost),
            device.name()
        ),
        add_routes(device, &lost),
    );
}

fn add_routes(device: &GuestDevice<'_>, to: &[IpAddr]) -> String {
    let metric = route_metric(device.link.index);
    let add = |to: &IpAddr| {
        let (ip, prefix) = if to.is_ipv4() {
            ("ip", 32)
        } else {
            ("ip -6", 128)
        };
        let name = shell_word(device.name());
        format!("{ip} route add {to}/{prefix} dev {name} metric {metric}")
    };
    to.iter().map(add).collect::<Vec<_>>().join(" && ")
}

/// Where the host's routing table sends packets to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RouteToGuest {
    /// Through the interface that receives the guest's packets.
    SameInterface,
    OtherInterface,
    Missing,
}

/// Returns the route to the guest's IPv4 addresses; `None` if it has none or one cannot be read. If
/// the routes differ, the worst one counts, or the best one for a guest with several attachments.
pub(super) fn route_to_guest(device: &GuestDevice<'_>) -> Option<RouteToGuest> {
    let route = |to| match device.network.routes.get(&(IpAddr::V4(to), None)) {
        Some(Ok(Some(Route { links, .. }))) if links.contains(&device.link.index) => {
            Some(RouteToGuest::SameInterface)
        }
        Some(Ok(Some(_))) => Some(RouteToGuest::OtherInterface),
        Some(Ok(None)) => Some(RouteToGuest::Missing),
        Some(Err(_)) | None => None,
    };
    let ipv4 = device.guest.ipv4.iter().copied();
    let routes: Vec<RouteToGuest> = ipv4.map(route).collect::<Option<_>>()?;
    if device.guest.attachments > 1 {
        routes.into_iter().min()
    } else {
        routes.into_iter().max()
    }
}

fn check_rp_filter(device: &GuestDevice<'_>, report: &mut Report) {
    let Some(values) = device.ipv4_settings("rp_filter") else {
        report.unchecked(format_args!("/proc/sys/net/ipv4/conf/{}", device.name()));
        return;
    };
    match (values, route_to_guest(device)) {
        (_, Some(route)) => {
            let addresses = join(&device.guest.ipv4);
            report
                .problems
                .extend(rp_filter(device.name(), values, route, &addresses));
        }
        ((1.., _) | (_, 1..), None) => report.unchecked(format_args!(
            "whether rp_filter {} accepts its packets: its document lists no IPv4 address, or its route cannot be read",
            values.0.max(values.1)
        )),
        (_, None) => {}
    }
}

/// Reverse path filtering, as Linux' fib_validate_source() does it on an interface with an address.
/// Strict (1) accepts a source only from the interface that the route to it uses; loose (2) accepts
/// a source that any route leads to, including a default route.
pub(super) fn rp_filter(
    interface: &str,
    (all, own): (i64, i64),
    route: RouteToGuest,
    guests: &str,
) -> Option<Problem> {
    let effective = all.max(own);
    let passes = match effective {
        ..=0 => true,
        1 => route == RouteToGuest::SameInterface,
        2.. => route != RouteToGuest::Missing,
    };
    if passes {
        return None;
    }
    let mode = if effective == 1 { "strict" } else { "loose" };
    let (reason, fix) = match route {
        // Loose is enough, and the greater value applies, so conf.all stays as others need it.
        RouteToGuest::SameInterface | RouteToGuest::OtherInterface => (
            format!("the route to {guests} leaves by another interface"),
            sysctl(&[(format!("ipv4/conf/{interface}/rp_filter"), 2)]),
        ),
        RouteToGuest::Missing => (
            format!("no route leads to {guests}"),
            lower(interface, "rp_filter", (all, own), 0, 0),
        ),
    };
    let note = match (route, all) {
        (RouteToGuest::Missing, 1..) => {
            "; conf.all applies to every interface, so set rp_filter on the interfaces that need it"
        }
        _ => "",
    };
    Some(Problem {
        what: format!(
            "rp_filter is {effective} ({mode}) on {interface}: the greater of conf.all ({all}) and conf.{interface} ({own}) \
             applies. {reason}, so the kernel drops the guest's packets{note}"
        ),
        fix,
    })
}
