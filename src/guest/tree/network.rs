//! `meta-data/network/`: one directory for each interface, named by its MAC address.

use std::borrow::Cow;

use super::category::{
    Category, Child, Focus, Kind, directory, each, leaf, lines, maybe, printed, text,
};
use crate::instance::{CidrBlocks, NetworkInterface};

pub(super) const NETWORK: &[Category] = &[directory("interfaces", "2011-01-01", INTERFACES)];

const INTERFACES: &[Category] = &[each(
    "macs",
    "2011-01-01",
    interfaces,
    &Kind::Directory(INTERFACE),
)];

const INTERFACE: &[Category] = &[
    leaf("device-number", "2011-01-01", |focus| {
        printed(Some(focus.interface?.attachment.device_index))
    }),
    leaf("interface-id", "2011-01-01", |focus| {
        not_empty(&focus.interface?.network_interface_id)
    }),
    each(
        "ipv4-associations",
        "2011-01-01",
        associations,
        &Kind::Leaf(|focus| printed(Some(focus.address?.private_ip_address))),
    ),
    leaf("ipv4-prefix", "2011-01-01", |focus| {
        lines(
            focus
                .interface?
                .ipv4_prefixes
                .iter()
                .map(|prefix| &prefix.ipv4_prefix),
        )
    }),
    leaf("ipv6-prefix", "2011-01-01", |focus| {
        lines(
            focus
                .interface?
                .ipv6_prefixes
                .iter()
                .map(|prefix| &prefix.ipv6_prefix),
        )
    }),
    leaf("ipv6s", "2016-06-30", |focus| {
        lines(
            focus
                .interface?
                .ipv6_addresses
                .iter()
                .map(|address| address.ipv6_address),
        )
    }),
    leaf("local-hostname", "2007-01-19", |focus| {
        focus.instance().interface_host_name(focus.interface?)
    }),
    leaf("local-ipv4s", "2011-01-01", |focus| {
        let addresses = focus.interface?.private_addresses();
        lines(addresses.map(|address| address.private_ip_address))
    }),
    leaf("mac", "2011-01-01", |focus| {
        text(&focus.interface?.mac_address)
    }),
    // Instance types with a single card have no such key. Clients read its absence as 0.
    leaf("network-card", "2011-01-01", |focus| {
        let card = |interface: &NetworkInterface| interface.attachment.network_card_index;
        let has_several = focus
            .instance()
            .interfaces()
            .iter()
            .any(|interface| card(interface) > Some(0));
        printed(card(focus.interface?).filter(|_| has_several))
    }),
    leaf("owner-id", "2011-01-01", |focus| {
        text(focus.instance().interface_owner(focus.interface?))
    }),
    leaf("public-hostname", "2011-01-01", |focus| {
        maybe(
            &focus
                .interface?
                .primary_association()?
                .association
                .as_ref()?
                .public_dns_name,
        )
    }),
    leaf("public-ipv4s", "2011-01-01", |focus| {
        let mapped = focus
            .interface?
            .private_ip_addresses
            .iter()
            .filter_map(|address| address.association.as_ref());
        lines(mapped.filter_map(|association| association.public_ip))
    }),
    leaf("security-group-ids", "2011-01-01", |focus| {
        lines(focus.interface?.groups.iter().map(|group| &group.group_id))
    }),
    leaf("security-groups", "2011-01-01", |focus| {
        lines(
            focus
                .interface?
                .groups
                .iter()
                .map(|group| &group.group_name),
        )
    }),
    leaf("subnet-id", "2011-01-01", |focus| {
        maybe(&focus.interface?.subnet_id)
    }),
    leaf("subnet-ipv4-cidr-block", "2011-01-01", |focus| {
        text(subnet(focus)?.ipv4_cidr_blocks.first()?)
    }),
    leaf("subnet-ipv6-cidr-blocks", "2016-06-30", |focus| {
        lines(&subnet(focus)?.ipv6_cidr_blocks)
    }),
    leaf("vpc-id", "2011-01-01", |focus| {
        maybe(&focus.interface?.vpc_id)
    }),
    leaf("vpc-ipv4-cidr-block", "2011-01-01", |focus| {
        text(vpc(focus)?.ipv4_cidr_blocks.first()?)
    }),
    leaf("vpc-ipv4-cidr-blocks", "2016-06-30", |focus| {
        lines(&vpc(focus)?.ipv4_cidr_blocks)
    }),
    leaf("vpc-ipv6-cidr-blocks", "2016-06-30", |focus| {
        lines(&vpc(focus)?.ipv6_cidr_blocks)
    }),
];

fn interfaces(focus: Focus<'_>) -> Vec<Child<'_>> {
    let interfaces = focus.instance().interfaces();
    let child = |interface| {
        Focus {
            interface: Some(interface),
            ..focus
        }
        .child(&interface.mac_address)
    };
    interfaces.iter().map(child).collect()
}

/// Returns one child for each public address; its value is the private address it is mapped to.
fn associations(focus: Focus<'_>) -> Vec<Child<'_>> {
    let addresses = focus
        .interface
        .map(|interface| &interface.private_ip_addresses[..])
        .unwrap_or_default();
    let associated = addresses.iter().filter_map(|address| {
        let public = address.association.as_ref()?.public_ip?;
        Some((address, public))
    });
    let child = |(address, public): (_, std::net::Ipv4Addr)| {
        let focus = Focus {
            address: Some(address),
            ..focus
        };
        focus.child(public.to_string())
    };
    associated.map(child).collect()
}

fn subnet(focus: Focus<'_>) -> Option<&CidrBlocks> {
    focus
        .instance()
        .imds
        .subnets
        .get(focus.interface?.subnet_id.as_ref()?)
}

fn vpc(focus: Focus<'_>) -> Option<&CidrBlocks> {
    focus
        .instance()
        .imds
        .vpcs
        .get(focus.interface?.vpc_id.as_ref()?)
}

fn not_empty(value: &str) -> Option<Cow<'_, str>> {
    (!value.is_empty()).then_some(Cow::Borrowed(value))
}
