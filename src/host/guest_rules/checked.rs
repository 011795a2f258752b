//! Guests whose names and addresses nft accepts, and the faults of the others.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;

use sha2::{Digest as _, Sha256};

use super::block::{Block, eui_64, without_overlaps};
use super::inputs::{FilteredGuest, GuestLink, MetadataAddresses};
use crate::instance::InstanceId;

/// A guest whose names and addresses nft accepts.
pub(super) struct CheckedGuest<'a> {
    pub(super) instance: &'a InstanceId,
    pub(super) link: &'a GuestLink,
    pub(super) macs: Vec<String>,
    pub(super) ipv4: Vec<Block>,
    pub(super) ipv6: Vec<Block>,
    /// The link-local addresses that its MACs imply, except those that `ipv6` covers.
    pub(super) link_local: Vec<Block>,
}

impl CheckedGuest<'_> {
    /// Returns the comment above the guest's rules in the script.
    pub(super) fn headline(&self) -> String {
        let mut line = match self.link {
            GuestLink::Interface { name } => format!("# {} behind {name}", self.instance),
            GuestLink::BridgePort { bridge, port, .. } => {
                format!("# {} behind {port} of {bridge}", self.instance)
            }
        };
        let lists = [
            ("MACs", self.macs.is_empty()),
            ("IPv4", self.ipv4.is_empty()),
            ("IPv6", self.ipv6.is_empty()),
        ];
        let unlisted: Vec<&str> = lists
            .iter()
            .filter(|(_, is_empty)| *is_empty)
            .map(|(list, _)| *list)
            .collect();
        if !unlisted.is_empty() {
            let _ = write!(
                line,
                "; not listed: {}; only those of other guests are blocked",
                unlisted.join(", ")
            );
        }
        line
    }

    /// Returns the digest of the guest's link and of these texts, for the names of its chains.
    pub(super) fn digest(&self, texts: &[&str]) -> String {
        let link = format!("{:?}", self.link);
        digest(&[&[link.as_str()], texts].concat())
    }

    /// Returns all its IPv6 addresses: the listed ones and the link-local ones.
    pub(super) fn all_ipv6(&self) -> Vec<Block> {
        self.ipv6.iter().chain(&self.link_local).copied().collect()
    }
}

/// Returns twelve hexadecimal digits.
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

/// Checks every guest and returns every fault.
pub(super) fn check(
    guests: &[FilteredGuest],
    addresses: MetadataAddresses,
) -> Result<Vec<CheckedGuest<'_>>, Vec<(InstanceId, String)>> {
    let mut links = LinkCheck::new(guests);
    let mut checked = Vec::new();
    let mut faults: Vec<(InstanceId, String)> = Vec::new();
    for guest in guests {
        let mut of_guest = links.faults(guest);
        checked.push(check_lists(guest, addresses, &mut of_guest));
        faults.extend(
            of_guest
                .into_iter()
                .map(|fault| (guest.instance.clone(), fault)),
        );
    }
    if faults.is_empty() {
        Ok(checked)
    } else {
        Err(faults)
    }
}

/// The interfaces and marks of the guests that were checked so far.
struct LinkCheck<'a> {
    bridges: BTreeSet<&'a str>,
    interfaces: BTreeMap<&'a str, &'a InstanceId>,
    marks: BTreeMap<u32, &'a InstanceId>,
}

impl<'a> LinkCheck<'a> {
    fn new(guests: &'a [FilteredGuest]) -> LinkCheck<'a> {
        LinkCheck {
            bridges: guests
                .iter()
                .filter_map(|guest| guest.link.bridge())
                .collect(),
            interfaces: BTreeMap::new(),
            marks: BTreeMap::new(),
        }
    }

    /// Returns the faults of the guest's interface, bridge and mark.
    fn faults(&mut self, guest: &'a FilteredGuest) -> Vec<String> {
        let name = guest.link.interface();
        let names = [Some(name), guest.link.bridge()];
        let mut faults: Vec<String> = names.into_iter().flatten().filter_map(name_fault).collect();
        if let Some(other) = self.interfaces.insert(name, &guest.instance) {
            faults.push(format!("'{name}' is already attached to {other}"));
        }
        if self.bridges.contains(name) {
            faults.push(format!("'{name}' is a bridge with guests on its ports"));
        }
        let GuestLink::BridgePort {
            bridge_mac, mark, ..
        } = &guest.link
        else {
            return faults;
        };
        if let Some(mac) = bridge_mac {
            if parse_mac(mac).is_none() {
                faults.push(format!("'{mac}' is not the MAC of a bridge"));
            }
            if guest.macs.iter().any(|own| own.eq_ignore_ascii_case(mac)) {
                faults.push(format!("'{mac}' is the bridge's own MAC"));
            }
        }
        match self.marks.insert(*mark, &guest.instance) {
            _ if *mark == 0 => faults.push("the mark 0 identifies no guest".to_string()),
            Some(other) if *other != guest.instance => {
                faults.push(format!("the mark {mark:#x} already belongs to {other}"));
            }
            _ => {}
        }
        faults
    }
}

/// Reads the guest's MACs and addresses, and adds the faults of those that nft or the kernel would
/// not accept.
fn check_lists<'a>(
    guest: &'a FilteredGuest,
    addresses: MetadataAddresses,
    faults: &mut Vec<String>,
) -> CheckedGuest<'a> {
    let mut macs = Vec::new();
    let mut link_local = Vec::new();
    for mac in &guest.macs {
        match parse_mac(mac) {
            Some(octets) => {
                macs.push(mac.to_ascii_lowercase());
                link_local.push(Block::of(eui_64(octets)));
            }
            None => faults.push(format!("'{mac}' is not the MAC of an interface")),
        }
    }
    // An anonymous set rejects an element that another one covers.
    macs.sort();
    macs.dedup();
    let mut blocks = |single: Vec<Block>, prefixes: Vec<Block>| {
        let blocks = [single, prefixes].concat();
        faults.extend(blocks.iter().filter_map(|block| block.fault(addresses)));
        without_overlaps(&blocks)
    };
    let ipv4 = blocks(singles(&guest.ipv4), prefixes(&guest.ipv4_prefixes));
    let ipv6 = blocks(singles(&guest.ipv6), prefixes(&guest.ipv6_prefixes));
    let mut link_local = without_overlaps(&link_local);
    link_local.retain(|derived| !ipv6.iter().any(|listed| listed.covers(derived)));
    CheckedGuest {
        instance: &guest.instance,
        link: &guest.link,
        macs,
        ipv4,
        ipv6,
        link_local,
    }
}

fn singles<Address: Copy + Into<IpAddr>>(addresses: &[Address]) -> Vec<Block> {
    addresses
        .iter()
        .map(|&address| Block::of(address))
        .collect()
}

fn prefixes<Address: Copy + Into<IpAddr>>(prefixes: &[(Address, u8)]) -> Vec<Block> {
    let block = |&(network, length): &(Address, u8)| Block {
        address: network.into(),
        length,
    };
    prefixes.iter().map(block).collect()
}

/// Returns the fault of a name that the kernel does not allow, or that nft reads as something else:
/// a `"` ends a string, and `tap*` means every tap.
fn name_fault(name: &str) -> Option<String> {
    let is_allowed = |b: u8| b.is_ascii_graphic() && !b"\"\\*/:".contains(&b);
    let is_name =
        matches!(name.len(), 1..=15) && name != "." && name != ".." && name.bytes().all(is_allowed);
    (!is_name).then(|| format!("{name:?} is not an interface name that nft accepts"))
}

/// Reads `02:00:…`: six octets, neither a group address nor all zeros.
fn parse_mac(text: &str) -> Option<[u8; 6]> {
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
