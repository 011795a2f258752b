//! The addresses of this network namespace: where its processes can send from and get replies.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::RwLock;

use super::message::KernelReport;

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
    pub(super) fn apply(&self, report: &KernelReport) {
        match report {
            KernelReport::NewAddress(of) => {
                if let Some(address) = of.address {
                    self.0.write().insert((address, of.index));
                }
            }
            KernelReport::DeletedAddress(of) => {
                if let Some(address) = of.address {
                    self.0.write().remove(&(address, of.index));
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
    use super::*;
    use crate::host::netlink::message::AddressReport;

    #[test]
    fn an_address_counts_while_any_link_has_it() {
        let own = OwnAddresses::default();
        let fd11: IpAddr = "fd11::5".parse().unwrap();
        let of = |index: u32| AddressReport {
            index,
            address: Some(fd11),
            is_usable: false,
            protocol: None,
        };
        assert!(!own.contains(fd11));
        own.apply(&KernelReport::NewAddress(of(5)));
        own.apply(&KernelReport::NewAddress(of(7)));
        assert!(own.contains(fd11));
        assert!(!own.contains("fd11::6".parse().unwrap()));
        own.apply(&KernelReport::DeletedAddress(of(5)));
        assert!(own.contains(fd11));
        own.apply(&KernelReport::DeletedAddress(of(7)));
        assert!(!own.contains(fd11));
        own.replace(BTreeSet::from([(fd11, 9)]));
        assert!(own.contains(fd11));
    }
}
