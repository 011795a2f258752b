//! Addresses and networks as nft writes them, without overlaps.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::inputs::MetadataAddresses;

/// An address, or a network of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) address: IpAddr,
    pub(super) length: u8,
}

/// All link-local IPv6 addresses: fe80::/10.
pub(super) const LINK_LOCAL: Block = Block {
    address: IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)),
    length: 10,
};

impl Block {
    pub(super) fn of(address: impl Into<IpAddr>) -> Block {
        let address = address.into();
        Block {
            address,
            length: if address.is_ipv4() { 32 } else { 128 },
        }
    }

    /// Returns the first and the last address as numbers.
    fn range(&self) -> (u128, u128) {
        let (number, width) = match self.address {
            IpAddr::V4(address) => (u128::from(u32::from(address)), 32),
            IpAddr::V6(address) => (u128::from(address), 128),
        };
        let hosts = 1u128
            .checked_shl(width - u32::from(self.length))
            .map_or(u128::MAX, |count| count - 1);
        (number & !hosts, number | hosts)
    }

    pub(super) fn covers(&self, other: &Block) -> bool {
        let ((first, last), (others_first, others_last)) = (self.range(), other.range());
        self.address.is_ipv4() == other.address.is_ipv4()
            && first <= others_first
            && others_last <= last
    }

    /// Returns the form that nft uses for a payload without a type.
    pub(super) fn as_number(&self) -> String {
        match self.range() {
            (first, last) if first == last => format!("{first:#034x}"),
            (first, last) => format!("{first:#034x}-{last:#034x}"),
        }
    }

    /// Returns why this cannot be a guest's; `None` when it can.
    pub(super) fn fault(&self, addresses: MetadataAddresses) -> Option<String> {
        let width = if self.address.is_ipv4() { 32 } else { 128 };
        if self.length > width || self.length == 0 {
            return Some(format!("{}/{} is not a prefix", self.address, self.length));
        }
        let service = [Block::of(addresses.ipv4), Block::of(addresses.ipv6)];
        if service.contains(self) {
            return Some(format!("{self} is the address of the metadata service"));
        }
        if service.iter().any(|address| self.covers(address)) {
            return Some(format!(
                "{self} contains the address of the metadata service"
            ));
        }
        let address = self.address;
        let is_special =
            address.is_unspecified() || address.is_multicast() || address.is_loopback();
        is_special.then(|| format!("{self} cannot be a guest's address"))
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = self.range();
        let first_address = match self.address {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from(first as u32)),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(first)),
        };
        if first == last {
            write!(f, "{first_address}")
        } else {
            write!(f, "{first_address}/{}", self.length)
        }
    }
}

/// Returns the same addresses, each in one block only: nft rejects an element that another one
/// covers.
pub(super) fn without_overlaps(blocks: &[Block]) -> Vec<Block> {
    let mut kept: Vec<Block> = Vec::new();
    for block in blocks
        .iter()
        .filter(|block| block.length <= if block.address.is_ipv4() { 32 } else { 128 })
    {
        if !kept.iter().any(|other| other.covers(block)) {
            kept.retain(|other| !block.covers(other));
            kept.push(*block);
        }
    }
    kept
}

/// Returns the blocks with one more, without overlaps.
pub(super) fn with(blocks: &[Block], one: Block) -> Vec<Block> {
    without_overlaps(&[blocks, &[one]].concat())
}

/// Returns the link-local address that an interface derives from its MAC (RFC 4291, appendix A).
pub(super) fn eui_64([a, b, c, d, e, f]: [u8; 6]) -> Ipv6Addr {
    Ipv6Addr::from([
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        a ^ 2,
        b,
        c,
        0xff,
        0xfe,
        d,
        e,
        f,
    ])
}
