//! Finds out whether the host uses a metadata service itself, at the address where its guests
//! should reach imdsd.
//!
//! If the host had that address itself, it would be cut off from its own service. Two things are
//! evidence: a route to exactly that address by an interface that leads to no guest, as DHCP
//! servers of clouds assign it; and a default route on a machine whose firmware names a cloud.
//! Nothing is sent.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use super::netlink::{Links, Netlink};

/// Returns why the host seems to use a metadata service itself; `None` when it does not. `guests`
/// are the interfaces that lead to guests.
pub async fn evidence(
    netlink: &Netlink,
    links: &Links,
    guests: &BTreeSet<&str>,
    (ipv4, ipv6): (Ipv4Addr, Ipv6Addr),
) -> io::Result<Option<String>> {
    let addresses = [IpAddr::V4(ipv4), IpAddr::V6(ipv6)];
    let ipv4_table = fs::read_to_string("/proc/self/net/route")?;
    // The file does not exist in a kernel without IPv6.
    let ipv6_table = fs::read_to_string("/proc/self/net/ipv6_route").unwrap_or_default();
    // An interface that has the address has a route to it, but no other service behind it.
    let is_own_address = |route: &MainRoute<'_>| {
        links.named(route.interface).is_some_and(|link| {
            is_host_route(route.to, route.prefix) && link.addresses.contains(&route.to)
        })
    };
    let routes = ipv4_routes(&ipv4_table)
        .chain(ipv6_routes(&ipv6_table))
        .filter(|route| !is_own_address(route));
    if let Some(found) = evidence_in(routes, addresses, guests, cloud()) {
        return Ok(Some(found));
    }
    evidence_in_other_tables(netlink, links, guests, addresses).await
}

/// Returns the cloud that this machine's firmware names.
fn cloud() -> Option<&'static str> {
    [
        "sys_vendor",
        "chassis_vendor",
        "chassis_asset_tag",
        "product_name",
        "bios_vendor",
        "bios_version",
    ]
    .iter()
    .filter_map(|name| fs::read_to_string(Path::new("/sys/class/dmi/id").join(name)).ok())
    .find_map(|text| cloud_of(&text))
}

/// Looks for routes in other tables, as the host's rules select them. If an interface has the
/// address already, the lookup finds that local address first, except for packets bound to another
/// interface.
async fn evidence_in_other_tables(
    netlink: &Netlink,
    links: &Links,
    guests: &BTreeSet<&str>,
    addresses: [IpAddr; 2],
) -> io::Result<Option<String>> {
    let others: Vec<u32> = links
        .iter()
        .filter(|link| link.up && link.name != "lo" && !guests.contains(link.name.as_str()))
        .map(|link| link.index)
        .collect();
    for address in addresses {
        let mut bound = vec![None];
        while let Some(link) = bound.pop() {
            let Some(route) = netlink.route_to(address, link).await? else {
                continue;
            };
            if route.is_local {
                if link.is_none() {
                    bound.extend(others.iter().copied().map(Some));
                }
                continue;
            }
            let mut uses = route.links.iter().filter_map(|index| links.indexed(*index));
            let own = uses.find(|link| !guests.contains(link.name.as_str()));
            if let Some(link) = own.filter(|_| is_host_route(address, route.prefix)) {
                let name = &link.name;
                return Ok(Some(format!("there is a route to {address} by {name}")));
            }
        }
    }
    Ok(None)
}

/// A route in the main table.
pub(super) struct MainRoute<'t> {
    pub(super) interface: &'t str,
    pub(super) to: IpAddr,
    pub(super) prefix: u8,
    pub(super) metric: u32,
}

/// Parses /proc/net/route: a line of headings, then one route a line, with hexadecimal numbers in
/// the machine's byte order.
fn ipv4_routes(text: &str) -> impl Iterator<Item = MainRoute<'_>> {
    text.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [interface, to, _, _, _, _, metric, mask, ..] = fields[..] else {
            return None;
        };
        let number = |text| u32::from_str_radix(text, 16).ok();
        let to = IpAddr::V4(number(to)?.to_ne_bytes().into());
        Some(MainRoute {
            interface,
            to,
            prefix: number(mask)?.count_ones() as u8,
            metric: metric.parse().ok()?,
        })
    })
}

/// Parses /proc/net/ipv6_route. Skips the host's own addresses, which it lists as routes to
/// loopback.
pub(super) fn ipv6_routes(text: &str) -> impl Iterator<Item = MainRoute<'_>> {
    text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [to, prefix, _, _, _, metric, _, _, _, interface] = fields[..] else {
            return None;
        };
        let metric = u32::from_str_radix(metric, 16).ok()?;
        let to = IpAddr::V6(u128::from_str_radix(to, 16).ok()?.into());
        let prefix = u8::from_str_radix(prefix, 16).ok()?;
        (interface != "lo").then_some(MainRoute {
            interface,
            to,
            prefix,
            metric,
        })
    })
}

fn evidence_in<'t>(
    routes: impl Iterator<Item = MainRoute<'t>>,
    addresses: [IpAddr; 2],
    guests: &BTreeSet<&str>,
    cloud: Option<&'static str>,
) -> Option<String> {
    for MainRoute {
        interface,
        to,
        prefix,
        ..
    } in routes.filter(|route| !guests.contains(route.interface))
    {
        if addresses.contains(&to) && is_host_route(to, prefix) {
            return Some(format!("there is a route to {to} by {interface}"));
        }
        if let (0, Some(cloud)) = (prefix, cloud) {
            return Some(format!(
                "this is a machine of {cloud}, and its default route by {interface} leads there"
            ));
        }
    }
    None
}

/// Returns whether a prefix covers one address only.
fn is_host_route(address: IpAddr, prefix: u8) -> bool {
    prefix == if address.is_ipv4() { 32 } else { 128 }
}

/// Returns the cloud that a text of the firmware names.
fn cloud_of(text: &str) -> Option<&'static str> {
    // The clouds with a service at this address, as ds-identify and the datasources of cloud-init
    // detect them.
    const CLOUDS: [(&str, &str); 25] = [
        ("Amazon EC2", "Amazon EC2"),
        // The Xen firmware there: "4.11.amazon".
        (".amazon", "Amazon EC2"),
        ("Google", "Google Cloud"),
        // The asset tag of every Azure machine. Hyper-V elsewhere has the same vendor.
        ("7783-7084-3265-9085-8269-3286-77", "Azure"),
        ("OracleCloud.com", "Oracle Cloud"),
        ("Alibaba Cloud", "Alibaba Cloud"),
        ("DigitalOcean", "DigitalOcean"),
        ("Hetzner", "Hetzner"),
        ("Scaleway", "Scaleway"),
        ("OpenStack", "OpenStack"),
        ("CloudStack", "CloudStack"),
        ("Vultr", "Vultr"),
        ("Linode", "Akamai"),
        ("Akamai", "Akamai"),
        ("UpCloud", "UpCloud"),
        ("Exoscale", "Exoscale"),
        // Asset tags of OpenStack clouds that do not contain "OpenStack".
        ("HUAWEICLOUD", "Huawei Cloud"),
        ("OpenTelekomCloud", "Open Telekom Cloud"),
        ("SAP CCloud VM", "SAP Converged Cloud"),
        ("3DS Outscale", "Outscale"),
        (".zstack.io", "ZStack"),
        ("e24cloud", "e24cloud"),
        ("CloudCIX", "CloudCIX"),
        ("NWCS", "NWCS"),
        ("IBM:Cloud Compute Server", "IBM Cloud"),
    ];
    CLOUDS
        .iter()
        .find(|(mark, _)| text.contains(mark))
        .map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADINGS: &str =
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT";

    const ADDRESSES: [IpAddr; 2] = [
        IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    ];

    fn route(interface: &str, to: [u8; 4], mask: [u8; 4]) -> String {
        let hex = |bytes| format!("{:08X}", u32::from_ne_bytes(bytes));
        format!(
            "{interface}\t{}\t00000000\t0001\t0\t0\t0\t{}\t0\t0\t0",
            hex(to),
            hex(mask)
        )
    }

    #[test]
    fn an_ipv4_route_is_evidence_of_a_metadata_service() {
        const ALL: [u8; 4] = [255; 4];
        let metadata = [169, 254, 169, 254];
        for (routes, cloud, expected) in [
            (vec![], None, None),
            (vec![], Some("Amazon EC2"), None),
            (vec![route("eth0", [0; 4], [0; 4])], None, None),
            (
                vec![route("eth0", [0; 4], [0; 4])],
                Some("Amazon EC2"),
                Some("Amazon EC2"),
            ),
            (
                vec![route("tap0", [0; 4], [0; 4])],
                Some("Amazon EC2"),
                None,
            ),
            (vec![route("eth0", metadata, ALL)], None, Some("by eth0")),
            (vec![route("tap0", metadata, ALL)], None, None),
            (
                vec![route("tap0", metadata, ALL), route("eth0", metadata, ALL)],
                None,
                Some("by eth0"),
            ),
            // Zeroconf, which many distributions enable.
            (
                vec![route("eth0", [169, 254, 0, 0], [255, 255, 0, 0])],
                None,
                None,
            ),
            (
                vec!["nonsense".to_string(), route("eth0", metadata, ALL)],
                None,
                Some("by eth0"),
            ),
        ] {
            let text = format!("{HEADINGS}\n{}\n", routes.join("\n"));
            let found = evidence_in(
                ipv4_routes(&text),
                ADDRESSES,
                &BTreeSet::from(["tap0"]),
                cloud,
            );
            assert_eq!(
                found.is_some(),
                expected.is_some(),
                "{routes:?} {cloud:?}: {found:?}"
            );
            assert!(
                found
                    .unwrap_or_default()
                    .contains(expected.unwrap_or_default())
            );
        }
    }

    #[test]
    fn an_ipv6_route_is_evidence_of_a_metadata_service() {
        const ZERO: &str = "00000000000000000000000000000000";
        let line = |to: &str, prefix: &str, interface: &str| {
            format!(
                "{to} {prefix} {ZERO} 00 {ZERO} 00000400 00000001 00000000 00000001 {interface}\n"
            )
        };
        let metadata = "fd000ec2000000000000000000000254";
        for (text, cloud, is_evidence) in [
            (line(metadata, "80", "eth0"), None, true),
            (line(metadata, "80", "tap0"), None, false),
            (line(metadata, "80", "lo"), None, false),
            (
                line("fd000ec2000000000000000000000000", "20", "eth0"),
                None,
                false,
            ),
            (line(ZERO, "00", "eth0"), None, false),
            (line(ZERO, "00", "eth0"), Some("Amazon EC2"), true),
            (line(ZERO, "00", "lo"), Some("Amazon EC2"), false),
            ("nonsense\n".to_string(), Some("Amazon EC2"), false),
        ] {
            let found = evidence_in(
                ipv6_routes(&text),
                ADDRESSES,
                &BTreeSet::from(["tap0"]),
                cloud,
            );
            assert_eq!(found.is_some(), is_evidence, "{text} {cloud:?}: {found:?}");
        }
    }

    #[test]
    fn a_cloud_is_identified_by_its_firmware() {
        for (text, cloud) in [
            ("Amazon EC2\n", Some("Amazon EC2")),
            ("Google Compute Engine", Some("Google Cloud")),
            ("7783-7084-3265-9085-8269-3286-77", Some("Azure")),
            ("Microsoft Corporation", None),
            ("4.11.amazon", Some("Amazon EC2")),
            (
                "Apache Software Foundation CloudStack KVM Hypervisor",
                Some("CloudStack"),
            ),
            ("Vultr\n", Some("Vultr")),
            ("Linode", Some("Akamai")),
            ("Akamai", Some("Akamai")),
            ("UpCloud", Some("UpCloud")),
            ("Exoscale Compute Platform", Some("Exoscale")),
            ("HUAWEICLOUD", Some("Huawei Cloud")),
            ("OpenTelekomCloud", Some("Open Telekom Cloud")),
            ("SAP CCloud VM", Some("SAP Converged Cloud")),
            ("3DS Outscale VM", Some("Outscale")),
            ("12345.zstack.io", Some("ZStack")),
            ("e24cloud", Some("e24cloud")),
            ("CloudCIX", Some("CloudCIX")),
            ("NWCS", Some("NWCS")),
            ("IBM:Cloud Compute Server 1.0:bx2-2x8", Some("IBM Cloud")),
            // Servers made by Huawei or IBM are not machines of their clouds.
            ("Huawei", None),
            ("IBM", None),
            ("QEMU", None),
            ("Dell Inc.", None),
            ("", None),
        ] {
            assert_eq!(cloud_of(text), cloud, "{text}");
        }
    }
}
