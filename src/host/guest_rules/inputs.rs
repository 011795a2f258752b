//! What the rules are made from: each guest with its link to the host, and the addresses of the
//! service.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::instance::InstanceId;

/// A guest at one of its links. A guest with several links appears several times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilteredGuest {
    /// The guest's instance.
    pub instance: InstanceId,
    /// Where its packets arrive.
    pub link: GuestLink,
    /// Its MACs from its document; empty when none are listed.
    pub macs: Vec<String>,
    /// Its IPv4 addresses. Without addresses and prefixes the family has no list, and only other
    /// guests' addresses are blocked.
    pub ipv4: Vec<Ipv4Addr>,
    /// Delegated IPv4 prefixes: network and length.
    pub ipv4_prefixes: Vec<(Ipv4Addr, u8)>,
    /// Its IPv6 addresses, treated like IPv4.
    pub ipv6: Vec<Ipv6Addr>,
    /// Delegated IPv6 prefixes: network and length.
    pub ipv6_prefixes: Vec<(Ipv6Addr, u8)>,
}

/// Where a guest's packets arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestLink {
    /// An interface that leads to this guest only.
    Interface {
        /// For example `tap0`.
        name: String,
    },
    /// A port of a bridge that other guests use too.
    BridgePort {
        /// The interface that receives what the bridge passes to the host: `br0`, or `br0.100` if
        /// the bridge filters VLANs.
        bridge: String,
        /// Its MAC. With it, requests that the guest sends to the MAC of another gateway are caught
        /// as well.
        bridge_mac: Option<String>,
        /// For example `tap0`.
        port: String,
        /// The `SO_MARK` that the daemon finds on a connection from this port. Never 0, which
        /// identifies no guest.
        mark: u32,
    },
}

impl GuestLink {
    /// Returns the interface of the guest's own: its tap, or its bridge port.
    pub(super) fn interface(&self) -> &str {
        match self {
            GuestLink::Interface { name } => name,
            GuestLink::BridgePort { port, .. } => port,
        }
    }

    pub(super) fn bridge(&self) -> Option<&str> {
        match self {
            GuestLink::Interface { .. } => None,
            GuestLink::BridgePort { bridge, .. } => Some(bridge),
        }
    }
}

/// The addresses of the service. All their ports belong to the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetadataAddresses {
    /// 169.254.169.254
    pub ipv4: Ipv4Addr,
    /// fd00:ec2::254
    pub ipv6: Ipv6Addr,
}

impl MetadataAddresses {
    /// EC2's addresses, which clients have built in.
    pub const EC2: MetadataAddresses = MetadataAddresses {
        ipv4: Ipv4Addr::new(169, 254, 169, 254),
        ipv6: Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    };
}
