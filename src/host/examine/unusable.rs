//! IPv6 addresses that are on a link but unusable: duplicate address detection is running or has
//! failed.
//!
//! [`Links`](crate::host::netlink::Links) leave them out, because no socket can be bound to them.
//! This file tells why an address is missing there.

use std::fs;
use std::net::Ipv6Addr;

use super::commands::{add_address, shell_word};

/// An IPv6 address that is on a link but unusable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnusableAddress {
    pub(crate) index: u32,
    pub(crate) address: Ipv6Addr,
    pub(crate) prefix: u8,
    pub(crate) detection: DuplicateDetection,
}

/// The state of duplicate address detection (RFC 4862).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DuplicateDetection {
    /// It is running.
    Pending,
    /// It failed: another node claimed the address.
    Failed,
}

/// Returns the unusable addresses in the network namespace of the calling thread.
pub(crate) fn read() -> Vec<UnusableAddress> {
    // The file does not exist in a kernel without IPv6.
    let list = fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap_or_default();
    list.lines().filter_map(UnusableAddress::parse).collect()
}

impl UnusableAddress {
    /// Parses a line of /proc/net/if_inet6: address, index, prefix length, scope, flags (all
    /// hexadecimal) and name. Returns `None` for a usable address.
    fn parse(line: &str) -> Option<UnusableAddress> {
        // linux/if_addr.h
        const IFA_F_DADFAILED: u8 = 0x08;
        const IFA_F_TENTATIVE: u8 = 0x40;
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [address, index, prefix, _, flags, _] = fields[..] else {
            return None;
        };
        let flags = u8::from_str_radix(flags, 16).ok()?;
        let detection = match (flags & IFA_F_DADFAILED != 0, flags & IFA_F_TENTATIVE != 0) {
            (true, _) => DuplicateDetection::Failed,
            (false, true) => DuplicateDetection::Pending,
            (false, false) => return None,
        };
        Some(UnusableAddress {
            index: u32::from_str_radix(index, 16).ok()?,
            address: Ipv6Addr::from(u128::from_str_radix(address, 16).ok()?),
            prefix: u8::from_str_radix(prefix, 16).ok()?,
            detection,
        })
    }

    /// Returns why the address is unusable and what it needs, as a relative clause.
    pub(crate) fn reason(&self) -> &'static str {
        match self.detection {
            DuplicateDetection::Pending => {
                "which is unusable while duplicate address detection is running; it needs nodad"
            }
            DuplicateDetection::Failed => {
                "which is unusable because a node behind the interface claimed it first; it needs nodad"
            }
        }
    }

    /// Returns the command that removes it. A daemon that manages addresses then adds it again.
    pub(crate) fn remove_command(&self, ip: &str, interface: &str) -> String {
        format!(
            "{ip} address del {}/{} dev {}",
            self.address,
            self.prefix,
            shell_word(interface)
        )
    }

    /// Returns the command that removes it and adds it again.
    pub(crate) fn replace_command(&self, ip: &str, interface: &str) -> String {
        format!(
            "{} && {}",
            self.remove_command(ip, interface),
            add_address(ip, interface, self.address.into())
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unusable_addresses_are_found_by_their_flags() {
        for (line, found) in [
            (
                "fd000ec2000000000000000000000254 05 80 00 80     tap0",
                None,
            ),
            (
                "fd000ec2000000000000000000000254 05 80 00 40     tap0",
                Some((5, 128, DuplicateDetection::Pending)),
            ),
            (
                "fd000ec2000000000000000000000254 1f 40 00 48     tap0",
                Some((31, 64, DuplicateDetection::Failed)),
            ),
            (
                "fd000ec2000000000000000000000254 05 80 00 c8     tap0",
                Some((5, 128, DuplicateDetection::Failed)),
            ),
            ("nonsense", None),
            ("", None),
        ] {
            let read = UnusableAddress::parse(line);
            assert_eq!(
                read.as_ref()
                    .map(|read| (read.index, read.prefix, read.detection)),
                found,
                "{line}"
            );
            if let Some(read) = read {
                assert_eq!(read.address.to_string(), "fd00:ec2::254");
            }
        }
    }
}
