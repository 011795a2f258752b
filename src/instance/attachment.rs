//! How the host recognises a guest: by where its packets come in, never by what it says.
//!
//! An [`Attachment`] belongs to one instance. `claims` decides which attachments conflict.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// One way in that belongs to an instance. Tokens belong to the instance, so an instance may have several.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Attachment {
    /// Whoever connects to this listener (by its name in the configuration) is the instance: loopback and sidecars.
    Listener(String),
    /// Whoever's packets come in by this network interface of the host: a tap, a veth, a VLAN device.
    Interface(String),
    /// Whoever's packets come in by this port of a bridge.
    BridgePort(BridgePort),
    /// Whoever connects inside this network namespace: a name below /run/netns, or an absolute path.
    NetworkNamespace(String),
    /// Whoever has this address, on a listener whose operator says that nobody there can have another's.
    SourceAddress(SourceAddress),
}

/// A port of a bridge. The IP layer sees only the bridge, so a rule of nftables marks what comes in by the port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct BridgePort {
    /// The bridge, which has the metadata addresses.
    pub bridge: String,
    /// The port's own interface.
    pub port: String,
    /// The mark of its packets, from 1. It identifies the guest, and no two ports on a host share one.
    pub mark: u32,
}

/// A guest on a link where addresses can be trusted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct SourceAddress {
    /// A listener of the configuration with `anti_spoofed = true`.
    pub listener: String,
    /// The guest's own address there.
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

/// Returns the path of a network namespace: `ip netns` keeps named ones below /run/netns. An absolute
/// path is returned as it is.
pub fn namespace_path(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}

/// What is wrong with the name of a network interface; `None` when the kernel would take it.
pub fn interface_name_fault(name: &str) -> Option<String> {
    // dev_valid_name() of Linux: IFNAMSIZ is 16 with the NUL at the end.
    let sound = (1..16).contains(&name.len())
        && !matches!(name, "." | "..")
        && name
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':');
    (!sound).then(|| {
        let name = name.escape_debug();
        format!(
            "an interface's name is 1 to 15 printable characters without '/' and ':', not '{name}'"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_has_a_name_that_linux_takes() {
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
