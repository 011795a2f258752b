//! The addresses of this network namespace: where its processes can send from and get replies.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::RwLock;
use rtnetlink::packet_route::RouteNetlinkMessage;

use super::links::address_of;

/// The addresses of all links, as they change. Clones share them.
///
/// An address counts from the kernel's first notice of it, before it is usable. When notices were
/// lost, the known addresses still count until all are read again.
#[derive(Clone, Debug, Default)]
pub struct OwnAddresses(Arc<RwLock<BTreeSet<(IpAddr, u32)>>>);

impl OwnAddresses {
    /// Returns whether some link has this address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let known = self.0.read();
        known
            .range((address, 0)..=(address, u32::MAX))
            .next()
            .is_some()
    }

    /// Applies a message of the kernel about an address.
    pub(super) fn apply(&self, message: &RouteNetlinkMessage) {
        match message {
            RouteNetlinkMessage::NewAddress(of) => {
                if let Some(address) = address_of(of) {
                    self.0.write().insert((address, of.header.index));
                }
            }
            RouteNetlinkMessage::DelAddress(of) => {
                if let Some(address) = address_of(of) {
                    self.0.write().remove(&(address, of.header.index));
                }
            }
            _ => {}
        }
    }

    /// Replaces all addresses.
    pub(super) fn replace(&self, addresses: BTreeSet<(IpAddr, u32)>) {
        *self.0.write() = addresses;
    }
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};

    use super::*;

    #[test]
    fn an_address_counts_while_any_link_has_it() {
        let own = OwnAddresses::default();
        let fd11: IpAddr = "fd11::5".parse().unwrap();
        let of = |index: u32| {
            let mut message = AddressMessage::default();
            message.header.index = index;
            // Not usable yet.
            message.header.flags = AddressHeaderFlags::Tentative;
            message.attributes = vec![AddressAttribute::Address(fd11)];
            message
        };
        assert!(!own.contains(fd11));
        own.apply(&RouteNetlinkMessage::NewAddress(of(5)));
        own.apply(&RouteNetlinkMessage::NewAddress(of(7)));
        assert!(own.contains(fd11));
        assert!(!own.contains("fd11::6".parse().unwrap()));
        own.apply(&RouteNetlinkMessage::DelAddress(of(5)));
        assert!(own.contains(fd11));
        own.apply(&RouteNetlinkMessage::DelAddress(of(7)));
        assert!(!own.contains(fd11));
        own.replace(BTreeSet::from([(fd11, 9)]));
        assert!(own.contains(fd11));
    }
}
