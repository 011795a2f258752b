//! Network namespaces: sections 1 to 3, read inside the namespace.

use std::net::IpAddr;
use std::path::Path;

use super::addresses::{mtu_too_small, unusable_address};
use super::commands::{add_address, join, shell_word};
use super::device::MIN_IPV6_MTU;
use super::findings::Report;
use super::probe::{NamespaceError, NetworkState};
use super::service::{AddressOwner, MetadataService};
use crate::host::guests::HostGuest;
use crate::host::netlink::Link;
use crate::instance::namespace_path;

/// Checks a namespace, given by its name or path, from what was read inside it.
pub(super) fn check(
    name: &str,
    guest: &HostGuest,
    inside: Result<NetworkState, NamespaceError>,
    service: &MetadataService,
    report: &mut Report,
) {
    let network = match inside {
        Ok(network) => network,
        Err(reason) => return unreadable(name, reason, report),
    };
    let device = device_inside(guest, &network);
    let too_small = network
        .links
        .named(device)
        .filter(|link| guest.uses_ipv6 && link.mtu < MIN_IPV6_MTU);
    let inside = Inside {
        ip: ip_command(name),
        network: &network,
        device,
        has_ipv6: guest.uses_ipv6 && too_small.is_none(),
    };
    let problem = too_small.map(|link| mtu_too_small(&inside.ip, link));
    report.problems.extend(problem);
    inside.check_address(service.ipv4.into(), report);
    if inside.has_ipv6 {
        inside.check_address(service.ipv6.into(), report);
    }
    // A namespace with nothing but lo has the guest inside: it needs no route.
    if device != "lo" {
        inside.check_routes(guest, true, report);
        if inside.has_ipv6 {
            inside.check_routes(guest, false, report);
        }
    }
}

/// Returns whether the attachment names the namespace, as `ip netns` does, or gives its path.
fn is_named(name: &str) -> bool {
    !Path::new(name).is_absolute()
}

/// Returns the `ip` command that works inside the namespace.
fn ip_command(name: &str) -> String {
    match is_named(name) {
        true => format!("ip -n {}", shell_word(name)),
        false => format!("nsenter --net={} ip", shell_word(name)),
    }
}

/// Reports why nothing was read.
fn unreadable(name: &str, reason: NamespaceError, report: &mut Report) {
    const CREATE: &str =
        "start what creates the network namespace, or correct the path in the guest's document";
    let word = shell_word(name);
    let path = namespace_path(name);
    let other = format_args!("{} is not a network namespace (any more)", path.display());
    match (reason, is_named(name)) {
        (NamespaceError::Missing, true) => report.problem(
            "there is no such network namespace",
            format_args!("ip netns add {word}"),
        ),
        (NamespaceError::Missing, false) => report.problem("there is no such file", CREATE),
        (NamespaceError::OtherFile, true) => report.problem(
            other,
            format_args!("ip netns delete {word} && ip netns add {word}"),
        ),
        (NamespaceError::OtherFile, false) => report.problem(other, CREATE),
        (NamespaceError::Inaccessible(reason), _) => {
            report.unchecked(format_args!("the inside of the namespace: {reason}"));
        }
    }
}

/// A namespace that was read.
struct Inside<'s> {
    /// The `ip` command that works inside it.
    ip: String,
    network: &'s NetworkState,
    /// The interface that leads to the guest.
    device: &'s str,
    has_ipv6: bool,
}

impl Inside<'_> {
    /// Checks that some interface that is up has the address.
    fn check_address(&self, address: IpAddr, report: &mut Report) {
        let links = &self.network.links;
        let holders: Vec<&Link> = links
            .iter()
            .filter(|link| link.addresses.contains(&address))
            .collect();
        if holders.iter().any(|link| link.up) {
            return;
        }
        if let Some(link) = holders.first() {
            return report.problem(
                format_args!(
                    "{}, which has the address {address} inside, is down",
                    link.name
                ),
                format_args!("{} link set {} up", self.ip, shell_word(&link.name)),
            );
        }
        let mut unusable = self.network.unusable.iter();
        match unusable.find(|unusable| IpAddr::V6(unusable.address) == address) {
            Some(unusable) => {
                let holder = links.indexed(unusable.index).map_or("", |link| &link.name);
                let owner = AddressOwner::Operator;
                let problem = unusable_address(&self.ip, holder, unusable, owner);
                report.problems.push(problem);
            }
            None => report.problem(
                format_args!("no interface inside has the address {address}"),
                add_address(&self.ip, self.device, address),
            ),
        }
    }

    /// Checks that a route leads to each address of the guest, for one family.
    fn check_routes(&self, guest: &HostGuest, is_ipv4: bool, report: &mut Report) {
        let lost: Vec<IpAddr> = guest
            .addresses()
            .into_iter()
            .filter(|to| to.is_ipv4() == is_ipv4)
            .filter(|to| matches!(self.network.routes.get(&(*to, None)), Some(Ok(None))))
            .collect();
        if lost.is_empty() {
            return;
        }
        let (family, prefix) = if is_ipv4 { ("", 32) } else { (" -6", 128) };
        let (ip, device) = (&self.ip, shell_word(self.device));
        let add = |to: &IpAddr| format!("{ip}{family} route add {to}/{prefix} dev {device}");
        report.problem(
            format_args!(
                "no route inside leads to {}, so replies do not arrive",
                join(&lost)
            ),
            lost.iter().map(add).collect::<Vec<_>>().join(" && "),
        );
    }
}

/// Returns the interface that leads to the guest: that of the route to it, else the first one that
/// is up besides lo, else lo.
fn device_inside<'s>(guest: &HostGuest, network: &'s NetworkState) -> &'s str {
    let routed = guest.addresses().into_iter().find_map(|to| {
        let route = network.routes.get(&(to, None))?.as_ref().ok()?.as_ref()?;
        network.links.indexed(*route.links.first()?)
    });
    let first = || {
        let mut links = network.links.iter();
        links.find(|link| link.name != "lo" && link.up)
    };
    routed
        .filter(|link| link.name != "lo")
        .or_else(first)
        .map_or("lo", |link| &link.name)
}
