//! Whether the host itself asks a metadata service at the address that its guests are to find this one at.
//!
//! An address of the host's own would cut it off from the other service. A route to exactly that address by an interface
//! that is no guest's is a sign, as DHCP servers of clouds give it; so is a default route on a machine that says it belongs
//! to a cloud. Nothing is sent to find out.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use super::netlink::{Links, Netlink};

/// Why the host seems to ask there itself; `None` where it does not. `guests` are the interfaces that lead to guests.
pub async fn evidence(
    netlink: &Netlink,
    links: &Links,
    guests: &BTreeSet<&str>,
    (ipv4, ipv6): (Ipv4Addr, Ipv6Addr),
) -> io::Result<Option<String>> {
    let maker = [
        "sys_vendor",
        "chassis_vendor",
        "chassis_asset_tag",
        "product_name",
        "bios_vendor",
        "bios_version",
    ]
    .iter()
    .filter_map(|name| fs::read_to_string(Path::new("/sys/class/dmi/id").join(name)).ok())
    .find_map(|text| cloud_of(&text));
    let of_ipv4 = fs::read_to_string("/proc/self/net/route")?;
    // Not there in a kernel without IPv6.
    let of_ipv6 = fs::read_to_string("/proc/self/net/ipv6_route").unwrap_or_default();
    // An interface with the address itself has a route to it, and nobody else behind it.
    let has_it = |route: &MainRoute<'_>| {
        links.named(route.interface).is_some_and(|link| {
            is_whole(route.to, route.prefix) && link.addresses.contains(&route.to)
        })
    };
    let routes = ipv4_routes(&of_ipv4)
        .chain(ipv6_routes(&of_ipv6))
        .filter(|route| !has_it(route));
    if let Some(sign) = sign_of(routes, [ipv4.into(), ipv6.into()], guests, maker) {
        return Ok(Some(sign));
    }
    // Other tables, as the host's rules choose them. Where the address is on an interface already, whoever put it there, that
    // is found first, but not for a packet that is to leave by another interface.
    let others = || {
        links
            .iter()
            .filter(|link| link.up && link.name != "lo" && !guests.contains(link.name.as_str()))
    };
    for address in [IpAddr::V4(ipv4), IpAddr::V6(ipv6)] {
        let mut bound = vec![None];
        while let Some(by) = bound.pop() {
            let Some(route) = netlink.route_to(address, by).await? else {
                continue;
            };
            if route.is_local {
                if by.is_none() {
                    bound.extend(others().map(|link| Some(link.index)));
                }
                continue;
            }
            let mut leaves_by = route.by.iter().filter_map(|index| links.indexed(*index));
            let own = leaves_by.find(|link| !guests.contains(link.name.as_str()));
            if let Some(link) = own.filter(|_| is_whole(address, route.prefix)) {
                return Ok(Some(format!(
                    "there is a route to {address} by {}",
                    link.name
                )));
            }
        }
    }
    Ok(None)
}

/// A route of a main table.
pub(super) struct MainRoute<'t> {
    pub(super) interface: &'t str,
    pub(super) to: IpAddr,
    pub(super) prefix: u8,
    pub(super) metric: u32,
}

/// Of /proc/net/route: hexadecimal in the machine's own byte order, one route a line, after a line of headings.
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

/// Of /proc/net/ipv6_route. Addresses of the host stand there too, as routes to loopback.
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

fn sign_of<'t>(
    routes: impl Iterator<Item = MainRoute<'t>>,
    addresses: [IpAddr; 2],
    guests: &BTreeSet<&str>,
    maker: Option<&'static str>,
) -> Option<String> {
    for MainRoute {
        interface,
        to,
        prefix,
        ..
    } in routes.filter(|route| !guests.contains(route.interface))
    {
        if addresses.contains(&to) && is_whole(to, prefix) {
            return Some(format!("there is a route to {to} by {interface}"));
        }
        if let (0, Some(maker)) = (prefix, maker) {
            return Some(format!(
                "this is a machine of {maker}, and its default route by {interface} leads there"
            ));
        }
    }
    None
}

fn is_whole(address: IpAddr, prefix: u8) -> bool {
    prefix == if address.is_ipv4() { 32 } else { 128 }
}

/// The cloud that a machine's firmware says it belongs to.
fn cloud_of(text: &str) -> Option<&'static str> {
    // As cloud-init's ds-identify and datasources know them, where their service is at this address.
    const CLOUDS: [(&str, &str); 25] = [
        ("Amazon EC2", "Amazon EC2"),
        // Of Xen's firmware there, "4.11.amazon".
        (".amazon", "Amazon EC2"),
        ("Google", "Google Cloud"),
        // The asset tag of every machine of Azure; Hyper-V elsewhere has the same vendor.
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
        // Asset tags of clouds of OpenStack that say it in other words.
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
        .find(|(sign, _)| text.contains(sign))
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
    fn a_host_asks_where_a_route_of_its_own_says_so() {
        const ALL: [u8; 4] = [255; 4];
        let metadata = [169, 254, 169, 254];
        for (routes, maker, sign) in [
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
            // Zeroconf, which many distributions have.
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
            let found = sign_of(
                ipv4_routes(&text),
                ADDRESSES,
                &BTreeSet::from(["tap0"]),
                maker,
            );
            assert_eq!(
                found.is_some(),
                sign.is_some(),
                "{routes:?} {maker:?}: {found:?}"
            );
            assert!(found.unwrap_or_default().contains(sign.unwrap_or_default()));
        }
    }

    #[test]
    fn a_host_asks_by_ipv6_where_a_route_says_so() {
        const ZERO: &str = "00000000000000000000000000000000";
        let line = |to: &str, prefix: &str, interface: &str| {
            format!(
                "{to} {prefix} {ZERO} 00 {ZERO} 00000400 00000001 00000000 00000001 {interface}\n"
            )
        };
        let metadata = "fd000ec2000000000000000000000254";
        for (text, maker, is_sign) in [
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
            let found = sign_of(
                ipv6_routes(&text),
                ADDRESSES,
                &BTreeSet::from(["tap0"]),
                maker,
            );
            assert_eq!(found.is_some(), is_sign, "{text} {maker:?}: {found:?}");
        }
    }

    #[test]
    fn a_cloud_is_known_by_its_firmware() {
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
            // A server of Huawei's or IBM's own is no machine of their clouds.
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
