//! `[interfaces]`

use std::net::SocketAddr;

use crate::config::resolve::addresses::UsedAddresses;
use crate::config::resolve::values::{not_an_address, rules_table};
use crate::config::section::{Faults, Section};
use crate::config::settings::{
    AddressMode, EXTRA_HOPS_RANGE, InterfaceSettings, METADATA_IPV4, METADATA_IPV6,
};

const ADDRESS_MODES: [(&str, AddressMode); 2] = [
    ("check", AddressMode::Check),
    ("manage", AddressMode::Manage),
];

pub(super) fn read(
    root: &mut Section<'_>,
    used: &mut UsedAddresses,
    faults: &mut Faults<'_>,
) -> Option<InterfaceSettings> {
    let mut section = root.table("interfaces", faults)?;
    let addresses = section.word("addresses", &ADDRESS_MODES, faults);
    let ipv4 = section.parsed("ipv4", faults, |text| {
        text.parse()
            .map_err(|_| not_an_address(text, "an IPv4", &METADATA_IPV4.to_string()))
    });
    let ipv6 = section.parsed("ipv6", faults, |text| {
        text.parse()
            .map_err(|_| not_an_address(text, "an IPv6", &METADATA_IPV6.to_string()))
    });
    let (ipv4, ipv6) = (ipv4.unwrap_or(METADATA_IPV4), ipv6.unwrap_or(METADATA_IPV6));
    check_address(&section, "ipv4", ipv4.into(), used, faults);
    check_address(&section, "ipv6", ipv6.into(), used, faults);
    let extra_hops = section.integer("extra_hops", EXTRA_HOPS_RANGE, "routers", faults);
    let extra_hops_of = section.integers("extra_hops_of", EXTRA_HOPS_RANGE, "routers", faults);
    let shadow_host_metadata = section.boolean("shadow_host_metadata", faults);
    let rules_table = section.parsed("rules_table", faults, rules_table);
    section.finish(faults);
    Some(InterfaceSettings {
        addresses: addresses.unwrap_or_default(),
        ipv4,
        ipv6,
        extra_hops: extra_hops.unwrap_or(0) as u8,
        extra_hops_of,
        shadow_host_metadata: shadow_host_metadata.unwrap_or(false),
        rules_table,
    })
}

/// A socket that accepts connections from every interface would also answer guests that must be
/// served on their own.
fn check_address(
    section: &Section<'_>,
    key: &'static str,
    address: SocketAddr,
    used: &mut UsedAddresses,
    faults: &mut Faults<'_>,
) {
    let ip = address.ip();
    let is_unreachable = address.port() == 0 || ip.is_unspecified() || ip.is_loopback();
    let outcome = match is_unreachable {
        true => Err(format!(
            "guests cannot reach {address}; expected an address of the interface and a port"
        )),
        false => used.add(address, "[interfaces]"),
    };
    match outcome {
        Err(message) if section.has(key) => section.fault(key, message, faults),
        Err(message) => section.missing(key, &message, faults),
        Ok(()) => {}
    }
}
