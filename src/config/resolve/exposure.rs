//! From how far away a socket can be reached: one rule for everything that listens on an address.
//!
//! | Address | AddressReach |
//! |---|---|
//! | 127.0.0.0/8, ::1 | this host |
//! | 169.254.0.0/16, fe80::/10 | the links of this host: routers must not forward them (RFC 3927, 2.7; RFC 4291, 2.5.6) |
//! | fd00:ec2::254 | the same: the metadata address, which nothing else routes |
//! | any other, and 0.0.0.0, :: | a network; private ones too, because they have other hosts |

use std::net::{IpAddr, Ipv6Addr};

/// EC2's metadata address of IPv6.
const METADATA_IPV6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254);

/// From where an address can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AddressReach {
    /// From this host.
    Host,
    /// From the links of this host.
    Links,
    /// From other hosts, over routers.
    Network,
}

/// Returns from where an address can be reached.
pub(super) fn reach(address: IpAddr) -> AddressReach {
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local() || address == METADATA_IPV6,
    };
    match (address.is_loopback(), is_link_local) {
        (true, _) => AddressReach::Host,
        (false, true) => AddressReach::Links,
        (false, false) => AddressReach::Network,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_and_link_local_addresses_are_out_of_reach_of_networks() {
        for (address, expected) in [
            ("127.0.0.1", AddressReach::Host),
            ("127.9.9.9", AddressReach::Host),
            ("::1", AddressReach::Host),
            ("169.254.169.254", AddressReach::Links),
            ("fe80::1", AddressReach::Links),
            ("fd00:ec2::254", AddressReach::Links),
            ("0.0.0.0", AddressReach::Network),
            ("::", AddressReach::Network),
            ("10.0.0.1", AddressReach::Network),
            ("172.17.0.1", AddressReach::Network),
            ("192.168.122.1", AddressReach::Network),
            ("100.64.0.1", AddressReach::Network),
            ("203.0.113.7", AddressReach::Network),
            ("169.253.255.255", AddressReach::Network),
            ("fd00:ec2::253", AddressReach::Network),
            ("fd12::1", AddressReach::Network),
            ("2001:db8::1", AddressReach::Network),
            // The kernel may accept IPv4 there; no client needs it.
            ("::ffff:127.0.0.1", AddressReach::Network),
        ] {
            assert_eq!(reach(address.parse().unwrap()), expected, "{address}");
        }
    }
}
