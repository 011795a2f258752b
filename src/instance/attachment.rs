//! Attachments: how a guest is connected to its instance. The host recognizes a guest by where its
//! packets come in, never by what it sends.
//!
//! An [`Attachment`] belongs to one instance. Two attachments conflict if they have the same
//! [`ClaimKey`] and one of them needs it for itself: the kernel could not tell their packets apart.
//! If two instances conflict, neither is served there.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// How a guest is connected to an instance. An instance can have several attachments: session
/// tokens belong to the instance, not to the attachment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Attachment {
    /// All connections to this listener, by its name in the configuration: loopback and sidecars.
    Listener(String),
    /// All packets from this network interface of the host: a tap, a veth, a VLAN device.
    Interface(String),
    /// All packets from this port of a bridge.
    BridgePort(BridgePort),
    /// All connections from inside this network namespace: a name below /run/netns, or an absolute
    /// path.
    NetworkNamespace(String),
    /// All connections from this address on a listener with `anti_spoofed = true`.
    SourceAddress(SourceAddress),
}

/// A port of a bridge. The IP layer sees only the bridge, so an nftables rule marks the packets of
/// the port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct BridgePort {
    /// The bridge interface, which has the metadata addresses.
    pub bridge: String,
    /// The interface of the port.
    pub port: String,
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
    pub listener: String,
    /// The guest's address.
    pub address: IpAddr,
}

/// A property by which the kernel tells guests apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ClaimKey<'a> {
    /// A listener.
    Listener(&'a str),
    /// A network interface.
    Interface(&'a str),
    /// A packet mark. It is unique on the host: the guest rules send answers out of the port with
    /// their mark, on any bridge.
    Mark(u32),
    /// A network namespace.
    NetworkNamespace(&'a str),
    /// A source address on a listener.
    Address(&'a str, IpAddr),
}

/// Whether attachments can share a claim key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimMode {
    /// The attachment needs the key for itself.
    Exclusive,
    /// Other shared claims are allowed: the ports of a bridge share it, the addresses of a listener
    /// share it.
    Shared,
}

impl Attachment {
    /// Returns the claim keys of this attachment and whether it shares each of them.
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
                    ClaimKey::NetworkNamespace(namespace_name(name)),
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

    /// Returns whether two attachments of one instance conflict. Unlike those of two instances, its
    /// ports on different bridges can have the same mark.
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

    /// Returns whether two attachments conflict: the kernel could mistake a packet of one for a
    /// packet of the other.
    pub fn collides(&self, other: &Attachment) -> bool {
        let others = other.claim_keys();
        self.claim_keys().iter().any(|(key, mode)| {
            let mut same = others.iter().filter(|(other, _)| other == key);
            same.any(|(_, other)| *mode == ClaimMode::Exclusive || *other == ClaimMode::Exclusive)
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

/// Returns the path of a network namespace: `ip netns` keeps named ones below /run/netns. An
/// absolute path is returned as it is.
pub fn namespace_path(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}

/// Returns the name of a network namespace that may be given as a path.
fn namespace_name(name: &str) -> &str {
    let below = ["/run/netns/", "/var/run/netns/"]
        .iter()
        .find_map(|directory| name.strip_prefix(directory));
    below.filter(|name| !name.contains('/')).unwrap_or(name)
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
            "an interface name is 1 to 15 printable characters without '/' and ':', not '{name}'"
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
    fn two_attachments_conflict_if_the_kernel_cannot_tell_them_apart() {
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
            // A port is recognized by its mark, which is unique on the host.
            (port("br0", "a", 1), port("br0", "b", 2), false),
            (port("br0", "a", 1), port("br0", "b", 1), true),
            (port("br0", "a", 1), port("br0", "a", 2), true),
            (port("br0", "a", 1), port("br1", "b", 1), true),
            (port("br0", "a", 1), port("br1", "b", 2), false),
            // A port is on one bridge only.
            (port("br0", "a", 1), port("br1", "a", 2), true),
            // An attachment to the whole bridge covers every port of it.
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
    fn ports_of_one_instance_on_different_bridges_can_have_the_same_mark() {
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

    /// dev_valid_name() in Linux (net/core/dev.c).
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
