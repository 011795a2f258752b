//! Sections 1 and 5 for bridges: the bridge exists, is up and has the port; marks reach the socket,
//! and the bridge's MAC is fixed.

use super::commands::{shell_word, sysctl};
use super::findings::Report;
use super::interface;
use super::probe::NetworkState;
use crate::host::netlink::{Link, Links};
use crate::instance::BridgePort;

/// Returns the bridge of the port, if it is a Linux bridge that is up.
pub(super) fn check<'s>(
    attachment: &BridgePort,
    links: &'s Links,
    report: &mut Report,
) -> Option<&'s Link> {
    let BridgePort { bridge, port, .. } = attachment;
    let port = interface::existing(port, links, report);
    let Some(bridge) = links.named(bridge) else {
        report.problem(
            format_args!("there is no bridge {bridge}"),
            format_args!(
                "ip link add {0} type bridge && ip link set {0} up",
                shell_word(bridge)
            ),
        );
        return None;
    };
    let bridge = interface::existing(&bridge.name, links, report)?;
    let Some(carrier) = carrier(bridge, links) else {
        let kind = match bridge.kind.as_str() {
            "" => "hardware",
            kind => kind,
        };
        report.problem(
            format_args!(
                "{} is not a Linux bridge ({kind}), so no rule can mark packets by their port",
                bridge.name
            ),
            "use a Linux bridge, or attach the guest by an interface of its own",
        );
        return None;
    };
    if let Some(port) = port.filter(|port| port.controller != Some(carrier.index)) {
        let (port, bridge) = (&port.name, &carrier.name);
        report.problem(
            format_args!("{port} is not a port of {bridge}"),
            format_args!(
                "ip link set {} master {}",
                shell_word(port),
                shell_word(bridge)
            ),
        );
    }
    Some(bridge)
}

/// Returns the bridge itself, which is below the interface if that is a VLAN device.
fn carrier<'s>(bridge: &'s Link, links: &'s Links) -> Option<&'s Link> {
    match bridge.kind.as_str() {
        "bridge" => Some(bridge),
        "vlan" => links
            .indexed(bridge.below?)
            .filter(|below| below.kind == "bridge"),
        _ => None,
    }
}

/// Checks what guests on any port of the bridge need.
pub(super) fn check_settings(bridge: &Link, network: &NetworkState, report: &mut Report) {
    match network.setting("ipv4/tcp_fwmark_accept") {
        Some(0) => report.problem(
            "tcp_fwmark_accept is 0: the port's mark does not reach the connection, so no guest is identified",
            sysctl(&[("ipv4/tcp_fwmark_accept".to_string(), 1)]),
        ),
        Some(_) => {}
        None => report.unchecked("/proc/sys/net/ipv4/tcp_fwmark_accept"),
    }
    let Some(carrier) = carrier(bridge, &network.links) else {
        return;
    };
    let name = &carrier.name;
    match network.fixed_macs.get(&carrier.index) {
        Some(Ok(true)) => {}
        Some(Ok(false)) => report.problem(
            format_args!(
                "{name} has no fixed MAC: it uses the MAC of a port and changes it when that port leaves, but the guest \
                 rules and the guests still use the old one"
            ),
            format_args!("ip link set {} address {}", shell_word(name), carrier.mac),
        ),
        Some(Err(reason)) => report.unchecked(format_args!("whether the MAC of {name} is fixed: {reason}")),
        None => report.unchecked(format_args!("whether the MAC of {name} is fixed")),
    }
}
