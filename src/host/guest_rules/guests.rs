//! Guests whose names and addresses nft can hold, and the faults of the others.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sha2::{Digest as _, Sha256};

use super::{GuestWay, MetadataAddresses, Way};
use crate::instance::InstanceId;

/// A guest whose names and addresses nft can hold.
pub(super) struct Guest<'a> {
    pub(super) way: &'a GuestWay,
    pub(super) macs: Vec<String>,
    pub(super) ipv4: Vec<Block>,
    pub(super) ipv6: Vec<Block>,
    /// The link-local addresses that follow from its MACs.
    pub(super) link_local: Vec<Block>,
}

impl Guest<'_> {
    /// What an operator sees first, in the script.
    pub(super) fn headline(&self) -> String {
        let mut line = match &self.way.way {
            Way::Interface { name } => format!("# {} behind {name}", self.way.instance),
            Way::BridgePort { bridge, port, .. } => {
                format!("# {} behind {port} of {bridge}", self.way.instance)
            }
        };
        let lists = [
            ("MACs", self.macs.is_empty()),
            ("IPv4", self.ipv4.is_empty()),
            ("IPv6", self.ipv6.is_empty()),
        ];
        let none: Vec<&str> = lists
            .iter()
            .filter(|(_, is_empty)| *is_empty)
            .map(|(list, _)| *list)
            .collect();
        if !none.is_empty() {
            let _ = write!(
                line,
                "; no list of its {}, so only those of others are kept from it",
                none.join(", ")
            );
        }
        line
    }

    pub(super) fn digest(&self, texts: &[&str]) -> String {
        let way = format!("{:?}", self.way.way);
        digest(&[&[way.as_str()], texts].concat())
    }
}

/// Twelve hexadecimal digits.
pub(super) fn digest(texts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    }
    hash.finalize()[..6]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Reads every guest and reports every fault.
pub(super) fn read(
    guests: &[GuestWay],
    addresses: MetadataAddresses,
) -> Result<Vec<Guest<'_>>, Vec<(InstanceId, String)>> {
    let mut faults: Vec<(InstanceId, String)> = Vec::new();
    let mut interfaces: BTreeMap<&str, &InstanceId> = BTreeMap::new();
    let mut marks: BTreeMap<u32, &InstanceId> = BTreeMap::new();
    let bridges: BTreeSet<&str> = guests
        .iter()
        .filter_map(|guest| guest.way.bridge())
        .collect();
    let mut sound = Vec::new();
    for guest in guests {
        let mut wrong = Vec::new();
        let name = guest.way.interface();
        wrong.extend(
            [Some(name), guest.way.bridge()]
                .into_iter()
                .flatten()
                .filter_map(fault_of_name),
        );
        if let Some(other) = interfaces.insert(name, &guest.instance) {
            wrong.push(format!("'{name}' is a way in already, of {other}"));
        }
        if bridges.contains(name) {
            wrong.push(format!("'{name}' is a bridge that guests are on"));
        }
        let mut macs = Vec::new();
        let mut link_local = Vec::new();
        for mac in &guest.macs {
            match read_mac(mac) {
                Some(octets) => {
                    macs.push(mac.to_ascii_lowercase());
                    link_local.push(Block::of(eui_64(octets)));
                }
                None => wrong.push(format!("'{mac}' is not the MAC of an interface")),
            }
        }
        if let Way::BridgePort {
            bridge_mac, mark, ..
        } = &guest.way
        {
            if let Some(mac) = bridge_mac {
                if read_mac(mac).is_none() {
                    wrong.push(format!("'{mac}' is not the MAC of a bridge"));
                }
                if macs.contains(&mac.to_ascii_lowercase()) {
                    wrong.push(format!("'{mac}' is the bridge's own MAC"));
                }
            }
            match marks.insert(*mark, &guest.instance) {
                _ if *mark == 0 => wrong.push("0 is the mark of nobody".to_string()),
                Some(other) if *other != guest.instance => {
                    wrong.push(format!("the mark {mark:#x} is {other}'s"))
                }
                _ => {}
            }
        }
        let blocks = |single: Vec<Block>, prefixes: Vec<Block>, wrong: &mut Vec<String>| {
            let blocks: Vec<Block> = single.into_iter().chain(prefixes).collect();
            wrong.extend(blocks.iter().filter_map(|block| block.fault(addresses)));
            without_the_covered(&blocks)
        };
        let ipv4 = blocks(
            guest
                .ipv4
                .iter()
                .map(|&address| Block::of(address))
                .collect(),
            guest
                .ipv4_prefixes
                .iter()
                .map(|&(network, length)| Block {
                    address: network.into(),
                    length,
                })
                .collect(),
            &mut wrong,
        );
        let ipv6 = blocks(
            guest
                .ipv6
                .iter()
                .map(|&address| Block::of(address))
                .collect(),
            guest
                .ipv6_prefixes
                .iter()
                .map(|&(network, length)| Block {
                    address: network.into(),
                    length,
                })
                .collect(),
            &mut wrong,
        );
        // An anonymous set refuses an element that another one covers.
        macs.sort();
        macs.dedup();
        let link_local = without_the_covered(&link_local);
        let link_local = link_local
            .into_iter()
            .filter(|made| !ipv6.iter().any(|listed| listed.covers(made)))
            .collect();
        faults.extend(wrong.into_iter().map(|what| (guest.instance.clone(), what)));
        sound.push(Guest {
            way: guest,
            macs,
            ipv4,
            ipv6,
            link_local,
        });
    }
    if faults.is_empty() {
        Ok(sound)
    } else {
        Err(faults)
    }
}

impl Way {
    fn interface(&self) -> &str {
        match self {
            Way::Interface { name } => name,
            Way::BridgePort { port, .. } => port,
        }
    }

    fn bridge(&self) -> Option<&str> {
        match self {
            Way::Interface { .. } => None,
            Way::BridgePort { bridge, .. } => Some(bridge),
        }
    }
}

/// A name that the kernel can't have, or that nft reads as something else: it ends a string at `"`, and `tap*` is every tap.
pub(super) fn fault_of_name(name: &str) -> Option<String> {
    let can_be_held = |b: u8| b.is_ascii_graphic() && !b"\"\\*/:".contains(&b);
    let is_name = matches!(name.len(), 1..=15)
        && name != "."
        && name != ".."
        && name.bytes().all(can_be_held);
    (!is_name).then(|| format!("{name:?} is not an interface name that nft can hold"))
}

/// `02:00:…`: six octets, not a group's and not nobody's.
pub(super) fn read_mac(text: &str) -> Option<[u8; 6]> {
    let mut octets = [0; 6];
    let mut parts = text.split(':');
    for octet in &mut octets {
        let part = parts
            .next()
            .filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))?;
        *octet = u8::from_str_radix(part, 16).ok()?;
    }
    (parts.next().is_none() && octets[0] & 1 == 0 && octets != [0; 6]).then_some(octets)
}

/// The link-local address that an interface makes of its MAC.
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

/// An address, or a network of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) address: IpAddr,
    pub(super) length: u8,
}

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

    /// The first and the last address. IPv4 is counted in the same width.
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

    fn covers(&self, other: &Block) -> bool {
        let ((first, last), (others_first, others_last)) = (self.range(), other.range());
        self.address.is_ipv4() == other.address.is_ipv4()
            && first <= others_first
            && others_last <= last
    }

    /// As nft has it in a payload that it knows no type for.
    pub(super) fn as_number(&self) -> String {
        match self.range() {
            (first, last) if first == last => format!("{first:#034x}"),
            (first, last) => format!("{first:#034x}-{last:#034x}"),
        }
    }

    /// Why it can't be a guest's.
    fn fault(&self, addresses: MetadataAddresses) -> Option<String> {
        let width = if self.address.is_ipv4() { 32 } else { 128 };
        if self.length > width || self.length == 0 {
            return Some(format!("{}/{} is not a prefix", self.address, self.length));
        }
        let service = [Block::of(addresses.ipv4), Block::of(addresses.ipv6)];
        if service.iter().any(|address| self.covers(address)) {
            return Some(format!("{self} is the metadata service's"));
        }
        let address = self.address;
        let is_nobodys =
            address.is_unspecified() || address.is_multicast() || address.is_loopback();
        is_nobodys.then(|| format!("{self} can't be a guest's"))
    }
}

impl std::fmt::Display for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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

/// The same addresses, each in one block only.
pub(super) fn without_the_covered(blocks: &[Block]) -> Vec<Block> {
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

pub(super) fn with(blocks: &[Block], one: Block) -> Vec<Block> {
    without_the_covered(&[blocks, &[one]].concat())
}
