//! How the host recognises a guest: by where its packets come in, never by what it says.
//!
//! An [`Attachment`] is a way in that belongs to one instance. What two attachments can't share is their [`ClaimKey`]s: where
//! two instances claim the same, the kernel could not tell them apart, and neither is served there.

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

/// Something that the kernel tells guests apart by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ClaimKey<'a> {
    /// A listener.
    Listener(&'a str),
    /// A network interface.
    Interface(&'a str),
    /// A mark: the guest rules let answers leave by the port of their mark, whatever bridge it is on.
    Mark(u32),
    /// A network namespace.
    NetworkNamespace(&'a str),
    /// A source address on a listener.
    Address(&'a str, IpAddr),
}

/// Whether others of the same kind may stand on the same ground.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimMode {
    /// Nobody else may.
    Exclusive,
    /// A bridge is shared by its ports, a listener by its addresses.
    Shared,
}

impl Attachment {
    /// What this attachment stands on, and whether it does so alone.
    pub fn claim_keys(&self) -> Vec<(ClaimKey<'_>, ClaimMode)> {
        match self {
            Attachment::Listener(name) => vec![(ClaimKey::Listener(name), ClaimMode::Exclusive)],
            Attachment::Interface(name) => vec![(ClaimKey::Interface(name), ClaimMode::Exclusive)],
            Attachment::BridgePort(BridgePort { bridge, port, mark }) => vec![
                (ClaimKey::Interface(bridge), ClaimMode::Shared),
                (ClaimKey::Interface(port), ClaimMode::Exclusive),
                (ClaimKey::Mark(*mark), ClaimMode::Exclusive),
            ],
            Attachment::NetworkNamespace(name) => {
                vec![(
                    ClaimKey::NetworkNamespace(plain(name)),
                    ClaimMode::Exclusive,
                )]
            }
            Attachment::SourceAddress(SourceAddress { listener, address }) => {
                vec![
                    (ClaimKey::Listener(listener), ClaimMode::Shared),
                    (ClaimKey::Address(listener, *address), ClaimMode::Exclusive),
                ]
            }
        }
    }

    /// Whether two attachments of one instance are one too many: its ports on different bridges may have one mark.
    pub fn repeats(&self, other: &Attachment) -> bool {
        match (self, other) {
            (Attachment::BridgePort(one), Attachment::BridgePort(other))
                if one.bridge != other.bridge =>
            {
                one.port == other.port
            }
            _ => self.collides(other),
        }
    }

    /// Whether the kernel could take a packet of the one for a packet of the other.
    pub fn collides(&self, other: &Attachment) -> bool {
        let others = other.claim_keys();
        self.claim_keys().iter().any(|(ground, hold)| {
            let mut same = others.iter().filter(|(other, _)| other == ground);
            same.any(|(_, other)| *hold == ClaimMode::Exclusive || *other == ClaimMode::Exclusive)
        })
    }
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

/// The name of a network namespace that may be given by its path.
fn plain(name: &str) -> &str {
    let below = ["/run/netns/", "/var/run/netns/"]
        .iter()
        .find_map(|directory| name.strip_prefix(directory));
    below.filter(|name| !name.contains('/')).unwrap_or(name)
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

    fn port(bridge: &str, port: &str, mark: u32) -> Attachment {
        Attachment::BridgePort(BridgePort {
            bridge: bridge.to_string(),
            port: port.to_string(),
            mark,
        })
    }

    fn address(listener: &str, address: &str) -> Attachment {
        let (listener, address) = (listener.to_string(), address.parse().unwrap());
        Attachment::SourceAddress(SourceAddress { listener, address })
    }

    #[test]
    fn two_attachments_collide_where_the_kernel_could_take_one_for_the_other() {
        let listener = |name: &str| Attachment::Listener(name.to_string());
        let interface = |name: &str| Attachment::Interface(name.to_string());
        let namespace = |name: &str| Attachment::NetworkNamespace(name.to_string());
        for (one, other, collide) in [
            (listener("a"), listener("a"), true),
            (listener("a"), listener("b"), false),
            (listener("a"), interface("a"), false),
            (interface("a"), interface("a"), true),
            (interface("a"), interface("b"), false),
            (namespace("a"), namespace("a"), true),
            (namespace("a"), interface("a"), false),
            (namespace("a"), namespace("/run/netns/a"), true),
            (
                namespace("/var/run/netns/a"),
                namespace("/run/netns/a"),
                true,
            ),
            (
                namespace("/proc/5/ns/net"),
                namespace("/proc/6/ns/net"),
                false,
            ),
            // A port is known by its mark, which is one guest's on the whole host.
            (port("br0", "a", 1), port("br0", "b", 2), false),
            (port("br0", "a", 1), port("br0", "b", 1), true),
            (port("br0", "a", 1), port("br0", "a", 2), true),
            (port("br0", "a", 1), port("br1", "b", 1), true),
            (port("br0", "a", 1), port("br1", "b", 2), false),
            // A port is on one bridge only.
            (port("br0", "a", 1), port("br1", "a", 2), true),
            // Whoever has the whole bridge has every guest on it.
            (port("br0", "a", 1), interface("br0"), true),
            (port("br0", "a", 1), interface("a"), true),
            (port("br0", "a", 1), interface("b"), false),
            (
                address("lan", "10.0.0.5"),
                address("lan", "10.0.0.6"),
                false,
            ),
            (address("lan", "10.0.0.5"), address("lan", "10.0.0.5"), true),
            (
                address("lan", "10.0.0.5"),
                address("wan", "10.0.0.5"),
                false,
            ),
            (address("lan", "10.0.0.5"), listener("lan"), true),
        ] {
            assert_eq!(one.collides(&other), collide, "{one} and {other}");
            assert_eq!(other.collides(&one), collide, "{other} and {one}");
        }
    }

    #[test]
    fn ports_of_one_instance_may_have_one_mark_on_different_bridges() {
        for (one, other, repeats) in [
            (port("br0", "a", 1), port("br1", "b", 1), false),
            (port("br0", "a", 1), port("br0", "b", 1), true),
            (port("br0", "a", 1), port("br1", "a", 2), true),
            (
                port("br0", "a", 1),
                Attachment::Interface("a".to_string()),
                true,
            ),
        ] {
            assert_eq!(one.repeats(&other), repeats, "{one} and {other}");
            assert_eq!(other.repeats(&one), repeats, "{other} and {one}");
        }
    }

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
