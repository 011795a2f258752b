//! Attachments: how a guest is connected to its instance. The host recognizes a guest by where its
//! packets come in, never by what it sends.
//!
//! An [`Attachment`] belongs to one instance. [`claims`](crate::instance::claims) decides whether two of them conflict.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::instance::text::SharedText;

/// How a guest is connected to an instance. An instance can have several attachments: session
/// tokens belong to the instance, not to the attachment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Attachment {
    /// All connections to this listener, by its name in the configuration: loopback and sidecars.
    Listener(SharedText),
    /// All packets from this network interface of the host: a tap, a veth, a VLAN device.
    Interface(SharedText),
    /// All packets from this port of a bridge.
    BridgePort(BridgePort),
    /// All connections from inside this network namespace: a name below /run/netns, or an absolute
    /// path.
    NetworkNamespace(SharedText),
    /// All connections from this address on a listener with `anti_spoofed = true`.
    SourceAddress(SourceAddress),
}

/// A port of a bridge. The IP layer sees only the bridge, so an nftables rule marks the packets of
/// the port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct BridgePort {
    /// The bridge interface, which has the metadata addresses.
    pub bridge: SharedText,
    /// The interface of the port.
    pub port: SharedText,
    /// The mark of the port's packets, 1 to 2³²−1. It identifies the guest and must be unique on
    /// the host.
    pub mark: u32,
}

/// A guest on a network where source addresses can be trusted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct SourceAddress {
    /// A listener of the configuration with `anti_spoofed = true`: the operator guarantees that no
    /// guest there can use the address of another.
    pub listener: SharedText,
    /// The guest's address.
    pub address: IpAddr,
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Attachment::Listener(name) => write!(f, "listener '{name}'"),
            Attachment::Interface(name) => write!(f, "interface '{name}'"),
            Attachment::BridgePort(BridgePort { bridge, port, mark }) => {
                write!(f, "port '{port}' of bridge '{bridge}' (mark {mark:#x})")
            }
            Attachment::NetworkNamespace(name) => write!(f, "network namespace '{name}'"),
            Attachment::SourceAddress(SourceAddress { listener, address }) => {
                write!(f, "address {address} on listener '{listener}'")
            }
        }
    }
}

/// Returns the path of a network namespace: `ip netns` keeps named ones below /run/netns. An
/// absolute path is returned as it is.
pub fn namespace_path(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}

/// Returns what is wrong with the name of a network interface; `None` if the kernel accepts it.
pub fn interface_name_fault(name: &str) -> Option<String> {
    // dev_valid_name() in Linux; IFNAMSIZ is 16, including the terminating NUL.
    let is_valid = (1..16).contains(&name.len())
        && !matches!(name, "." | "..")
        && name
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':');
    (!is_valid).then(|| {
        let name = name.escape_debug();
        format!(
            "an interface name is 1 to 15 printable ASCII characters without spaces, '/' and ':', not \
             '{name}'"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_name_is_one_that_linux_accepts() {
        for name in [
            "eth0",
            "tap100i0",
            "br0.100",
            "vnet-3_a@x",
            "123456789012345",
        ] {
            assert_eq!(interface_name_fault(name), None, "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "a:b",
            "a b",
            "a\n",
            "1234567890123456",
            "é",
        ] {
            assert!(interface_name_fault(name).is_some(), "{name:?}");
        }
    }
}
