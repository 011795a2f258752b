//! Section 2: the metadata addresses on the guest's interface.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::commands::{add_address, shell_word, sysctl};
use super::device::{GuestDevice, MIN_IPV6_MTU};
use super::findings::{Problem, Report};
use super::probe::{DaemonState, GuestInterface};
use super::service::{AddressOwner, HostMetadata, MetadataService};
use super::unusable::UnusableAddress;
use crate::host::netlink::{self, Link};
use crate::host::own_metadata;

/// Checks that the interface has the service's addresses and can use them.
pub(super) fn check(device: &GuestDevice<'_>, report: &mut Report) {
    report.problems.extend(conflict_with_host(device));
    check_ipv4(device, report);
    if device.guest.uses_ipv6 && !device.has_ipv6() {
        report.problems.push(mtu_too_small("ip", device.link));
    }
    if device.has_ipv6() {
        check_ipv6(device, report);
    }
}

fn check_ipv4(device: &GuestDevice<'_>, report: &mut Report) {
    // While the operator has to decide about the host's own service, no command adds an address.
    if device.network.host_metadata.is_none() {
        check_presence(device, device.service.ipv4.into(), report);
    }
}

fn check_ipv6(device: &GuestDevice<'_>, report: &mut Report) {
    let (name, service) = (device.name(), device.service);
    let is_disabled = device.is_ipv6_disabled();
    if is_disabled {
        report.problem(
            format_args!("IPv6 is disabled on {name}"),
            sysctl(&[(format!("ipv6/conf/{name}/disable_ipv6"), 0)]),
        );
    }
    if device.network.host_metadata.is_some() {
        return;
    }
    let unusable =
        device.network.unusable.iter().find(|unusable| {
            unusable.index == device.link.index && unusable.address == service.ipv6
        });
    match (unusable, service.address_owner) {
        (Some(unusable), owner) => {
            report
                .problems
                .push(unusable_address("ip", name, unusable, owner));
        }
        // The daemon adds the address as soon as IPv6 is enabled.
        (None, AddressOwner::Daemon) if is_disabled => {}
        (None, _) => check_presence(device, service.ipv6.into(), report),
    }
}

/// Checks that the interface has the address. If a daemon manages addresses, a missing address is a
/// problem only while the daemon runs.
fn check_presence(device: &GuestDevice<'_>, address: IpAddr, report: &mut Report) {
    if device.link.addresses.contains(&address) {
        return;
    }
    let name = device.name();
    match (device.service.address_owner, &device.network.daemon) {
        (AddressOwner::Operator, _) => {
            let mut links = device.network.links.iter();
            let elsewhere = links
                .find(|link| link.addresses.contains(&address))
                .map(|link| format!(" (it is on {})", link.name))
                .unwrap_or_default();
            report.problem(
                format_args!("{name} lacks the address {address}{elsewhere}"),
                add_address("ip", name, address),
            );
        }
        (AddressOwner::Daemon, DaemonState::Absent) => {}
        (
            AddressOwner::Daemon,
            DaemonState::Running {
                may_change_interfaces: Some(false),
            },
        ) => report.problem(
            format_args!(
                "imdsd is running but cannot put the address {address} on {name}: it lacks CAP_NET_ADMIN"
            ),
            "give imdsd CAP_NET_ADMIN, as systemd/manage-addresses.conf does, and restart it",
        ),
        (AddressOwner::Daemon, DaemonState::Running { .. }) => report.problem(
            format_args!("imdsd is running but has not put the address {address} on {name}"),
            format_args!(
                "see the reason in its log, or run: imdsd instance explain {}",
                device.guest.id
            ),
        ),
        (AddressOwner::Daemon, DaemonState::Unknown(reason)) => {
            report.unchecked(format_args!(
                "whether imdsd is running, which puts the address {address} on {name}: {reason}"
            ));
        }
    }
}

/// Returns the problem of an interface whose MTU is too small for IPv6.
pub(super) fn mtu_too_small(ip: &str, link: &Link) -> Problem {
    Problem {
        what: format!(
            "the MTU of {} is {}, and the kernel disables IPv6 below {MIN_IPV6_MTU}",
            link.name, link.mtu
        ),
        fix: format!(
            "{ip} link set {} mtu {MIN_IPV6_MTU}",
            shell_word(&link.name)
        ),
    }
}

/// Returns the problem of an address that duplicate address detection keeps unusable.
pub(super) fn unusable_address(
    ip: &str,
    interface: &str,
    unusable: &UnusableAddress,
    owner: AddressOwner,
) -> Problem {
    Problem {
        what: format!(
            "{interface} has the address {}, {}",
            unusable.address,
            unusable.reason()
        ),
        fix: match owner {
            AddressOwner::Operator => unusable.replace_command(ip, interface),
            AddressOwner::Daemon => unusable.remove_command(ip, interface),
        },
    }
}

/// Returns why the host seems to use a metadata service itself; `None` when it does not or when the
/// operator does not mind.
pub(super) async fn host_metadata(
    interfaces: &[GuestInterface],
    service: &MetadataService,
) -> Option<String> {
    if service.host_metadata == HostMetadata::Shadowed {
        return None;
    }
    let interfaces: BTreeSet<&str> = interfaces
        .iter()
        .map(|guests| guests.interface.as_str())
        .collect();
    let addresses = (service.ipv4, service.ipv6);
    let evidence = async {
        let (netlink, links) = netlink::read_links().await?;
        own_metadata::evidence(&netlink, &links, &interfaces, addresses).await
    };
    // The daemon adds no addresses either when it cannot read the routes.
    evidence
        .await
        .unwrap_or_else(|reason| Some(format!("its routes cannot be read: {reason}")))
}

/// Returns the problem of a host that uses a metadata service itself: with a service address on any
/// of its interfaces, its own requests would reach imdsd.
fn conflict_with_host(device: &GuestDevice<'_>) -> Option<Problem> {
    let evidence = device.network.host_metadata.as_ref()?;
    let consequence = match device.service.address_owner {
        AddressOwner::Daemon => "so imdsd adds no address to it".to_string(),
        AddressOwner::Operator => format!(
            "with an address of imdsd on {}, its requests would reach imdsd instead",
            device.name()
        ),
    };
    Some(Problem {
        what: format!("the host seems to use a metadata service of its own ({evidence}): {consequence}"),
        fix: "if the host needs no such service, set shadow_host_metadata = true in [interfaces]; otherwise attach guests \
              by network namespaces, whose addresses are separate from the host's"
            .to_string(),
    })
}
