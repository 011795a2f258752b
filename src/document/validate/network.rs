//! Rules for network interfaces and address blocks.

use std::net::IpAddr;

use crate::document::fields::IMDS;
use crate::document::json_path::{JsonPath, PathFault};
use crate::instance::{Instance, NetworkInterface};

pub(super) fn check_interfaces(instance: &Instance, faults: &mut Vec<PathFault>) {
    let path = JsonPath::root().key("NetworkInterfaces");
    for (index, interface) in instance.network_interfaces.iter().enumerate() {
        let earlier = &instance.network_interfaces[..index];
        let path = path.index(index);
        check_mac_address(&path, interface, earlier, faults);
        check_device_index(&path, interface, earlier, faults);
        check_primary_address(&path, interface, faults);
        for (index, prefix) in interface.ipv4_prefixes.iter().enumerate() {
            let path = path.key("Ipv4Prefixes").index(index).key("Ipv4Prefix");
            check_block(path, &prefix.ipv4_prefix, BlockFamily::Ipv4, faults);
        }
        for (index, prefix) in interface.ipv6_prefixes.iter().enumerate() {
            let path = path.key("Ipv6Prefixes").index(index).key("Ipv6Prefix");
            check_block(path, &prefix.ipv6_prefix, BlockFamily::Ipv6, faults);
        }
    }
    let of_interface = instance
        .primary_interface()
        .and_then(|interface| interface.private_ip_address);
    if let (Some(address), Some(of_interface)) = (instance.private_ip_address, of_interface)
        && address != of_interface
    {
        let message =
            format!("must be the address of the interface with device index 0, {of_interface}");
        faults.push(PathFault::new(
            JsonPath::root().key("PrivateIpAddress"),
            message,
        ));
    }
}

/// The MAC address is the interface's name in metadata, so it must be valid and unique.
fn check_mac_address(
    path: &JsonPath,
    interface: &NetworkInterface,
    earlier: &[NetworkInterface],
    faults: &mut Vec<PathFault>,
) {
    let path = path.key("MacAddress");
    let mac = &interface.mac_address;
    if !is_mac_address(mac) {
        let message = "a MAC address is six pairs of hexadecimal digits between colons, such as \
                       02:00:00:00:00:10";
        faults.push(PathFault::new(path, message));
    } else if earlier.iter().any(|other| other.mac_address == *mac) {
        let message = "another interface of the instance has this MAC address";
        faults.push(PathFault::new(path, message));
    }
}

fn check_device_index(
    path: &JsonPath,
    interface: &NetworkInterface,
    earlier: &[NetworkInterface],
    faults: &mut Vec<PathFault>,
) {
    let position = |interface: &NetworkInterface| {
        let attachment = &interface.attachment;
        (
            attachment.network_card_index.unwrap_or(0),
            attachment.device_index,
        )
    };
    let taken = earlier
        .iter()
        .any(|other| position(other) == position(interface));
    if taken {
        faults.push(PathFault::new(
            path.key("Attachment").key("DeviceIndex"),
            "another interface of the instance has this device index on this network card",
        ));
    }
}

fn check_primary_address(
    path: &JsonPath,
    interface: &NetworkInterface,
    faults: &mut Vec<PathFault>,
) {
    let mut addresses = interface.private_ip_addresses.iter();
    let primary = addresses.find(|address| address.primary);
    if let (Some(address), Some(primary)) = (interface.private_ip_address, primary)
        && address != primary.private_ip_address
    {
        let message = format!(
            "the primary address in PrivateIpAddresses is {}",
            primary.private_ip_address
        );
        faults.push(PathFault::new(path.key("PrivateIpAddress"), message));
    }
}

/// Lower case only: `read` lowers the addresses of documents.
pub(super) fn is_mac_address(text: &str) -> bool {
    let pair = |pair: &str| {
        pair.len() == 2 && pair.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    text.split(':').count() == 6 && text.split(':').all(pair)
}

pub(super) fn check_address_blocks(instance: &Instance, faults: &mut Vec<PathFault>) {
    let imds = JsonPath::root().key(IMDS);
    for (field, networks) in [
        ("Subnets", &instance.imds.subnets),
        ("Vpcs", &instance.imds.vpcs),
    ] {
        for (id, blocks) in networks {
            let path = imds.key(field).key(id);
            for (index, block) in blocks.ipv4_cidr_blocks.iter().enumerate() {
                let path = path.key("Ipv4CidrBlocks").index(index);
                check_block(path, block, BlockFamily::Ipv4, faults);
            }
            for (index, block) in blocks.ipv6_cidr_blocks.iter().enumerate() {
                let path = path.key("Ipv6CidrBlocks").index(index);
                check_block(path, block, BlockFamily::Ipv6, faults);
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum BlockFamily {
    Ipv4,
    Ipv6,
}

fn check_block(path: JsonPath, block: &str, family: BlockFamily, faults: &mut Vec<PathFault>) {
    let form = match family {
        BlockFamily::Ipv4 => {
            "an IPv4 address block is an address and a prefix length, such as 10.0.0.0/24"
        }
        BlockFamily::Ipv6 => {
            "an IPv6 address block is an address and a prefix length, such as 2001:db8::/64"
        }
    };
    let Some((address, length)) = address_and_length(block, family) else {
        return faults.push(PathFault::new(path, form));
    };
    let start = first_address(address, length);
    if start != address {
        let message =
            format!("the address has bits beyond the prefix; the block is {start}/{length}");
        faults.push(PathFault::new(path, message));
    }
}

fn address_and_length(block: &str, family: BlockFamily) -> Option<(IpAddr, u32)> {
    let (address, length) = block.split_once('/')?;
    // `u32::from_str` accepts a plus sign.
    let length = length
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| length.parse::<u32>().ok())??;
    let (address, max_length) = match family {
        BlockFamily::Ipv4 => (IpAddr::V4(address.parse().ok()?), 32),
        BlockFamily::Ipv6 => (IpAddr::V6(address.parse().ok()?), 128),
    };
    (length <= max_length).then_some((address, length))
}

fn first_address(address: IpAddr, length: u32) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    }
}
