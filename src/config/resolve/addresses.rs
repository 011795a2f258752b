//! Which addresses a configuration uses: no two of its sockets may need the same one.

use std::net::{IpAddr, SocketAddr};

/// The addresses that are used so far, each with what uses it.
#[derive(Default)]
pub(super) struct UsedAddresses(Vec<(SocketAddr, String)>);

impl UsedAddresses {
    /// Adds an address. Fails if an earlier one overlaps with it.
    pub(super) fn add(&mut self, address: SocketAddr, owner: &str) -> Result<(), String> {
        let earlier = self
            .0
            .iter()
            .find(|(other, _)| overlap(*other, address))
            .cloned();
        self.0.push((address, owner.to_string()));
        match earlier {
            Some((other, owner)) => Err(format!("{other} is already used by {owner}")),
            None => Ok(()),
        }
    }
}

/// Port 0 is any free port, and the unspecified address is every address of its family.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let is_every = |address: IpAddr| address.is_unspecified();
    let same_address = one == other || is_every(one.ip()) || is_every(other.ip());
    one.port() != 0
        && one.port() == other.port()
        && one.is_ipv4() == other.is_ipv4()
        && same_address
}
