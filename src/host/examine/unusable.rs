//! IPv6 addresses that are on a link and yet are not the link's: duplicate address detection waits, or somebody claimed them.
//!
//! Netlink's own list leaves them out, since nothing can be bound to them; whoever wonders why asks here.

use std::fs;
use std::net::Ipv6Addr;

use crate::host::examine::{add_address, word};

/// An IPv6 address that is on a link and can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unusable {
    pub(crate) index: u32,
    pub(crate) address: Ipv6Addr,
    pub(crate) prefix: u8,
    pub(crate) why: Duplicate,
}

/// How far duplicate address detection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Duplicate {
    /// It waits for somebody who claims the address.
    Awaited,
    /// Somebody claimed it.
    Found,
}

/// Those of the network namespace of the calling thread.
pub(crate) fn read() -> Vec<Unusable> {
    // Not there in a kernel without IPv6.
    let list = fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap_or_default();
    list.lines().filter_map(Unusable::read).collect()
}

impl Unusable {
    /// Reads a line of /proc/net/if_inet6: address, index, length of the prefix, scope, flags (hexadecimal) and name.
    fn read(line: &str) -> Option<Unusable> {
        // linux/if_addr.h
        const IFA_F_DADFAILED: u8 = 0x08;
        const IFA_F_TENTATIVE: u8 = 0x40;
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [address, index, prefix, _, flags, _] = fields[..] else {
            return None;
        };
        let flags = u8::from_str_radix(flags, 16).ok()?;
        let why = match (flags & IFA_F_DADFAILED != 0, flags & IFA_F_TENTATIVE != 0) {
            (true, _) => Duplicate::Found,
            (false, true) => Duplicate::Awaited,
            (false, false) => return None,
        };
        Some(Unusable {
            index: u32::from_str_radix(index, 16).ok()?,
            address: Ipv6Addr::from(u128::from_str_radix(address, 16).ok()?),
            prefix: u8::from_str_radix(prefix, 16).ok()?,
            why,
        })
    }

    /// Why, and what it needs.
    pub(crate) fn why(&self) -> String {
        let why = match self.why {
            Duplicate::Awaited => "the kernel still asks whether somebody else has it",
            Duplicate::Found => "somebody behind the interface claimed it first",
        };
        format!("which can't be used: {why}; it needs nodad")
    }

    /// The command that takes it away; where a daemon is to put it, that is all.
    pub(crate) fn take_away(&self, ip: &str, device: &str) -> String {
        format!(
            "{ip} address del {}/{} dev {}",
            self.address,
            self.prefix,
            word(device)
        )
    }

    /// The command that puts it there anew.
    pub(crate) fn mend(&self, ip: &str, device: &str) -> String {
        format!(
            "{} && {}",
            self.take_away(ip, device),
            add_address(ip, device, self.address.into())
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_cant_be_used_are_found() {
        for (line, found) in [
            (
                "fd000ec2000000000000000000000254 05 80 00 80     tap0",
                None,
            ),
            (
                "fd000ec2000000000000000000000254 05 80 00 40     tap0",
                Some((5, 128, Duplicate::Awaited)),
            ),
            (
                "fd000ec2000000000000000000000254 1f 40 00 48     tap0",
                Some((31, 64, Duplicate::Found)),
            ),
            (
                "fd000ec2000000000000000000000254 05 80 00 c8     tap0",
                Some((5, 128, Duplicate::Found)),
            ),
            ("nonsense", None),
            ("", None),
        ] {
            let read = Unusable::read(line);
            assert_eq!(
                read.as_ref()
                    .map(|read| (read.index, read.prefix, read.why)),
                found,
                "{line}"
            );
            if let Some(read) = read {
                assert_eq!(read.address.to_string(), "fd00:ec2::254");
            }
        }
    }
}
