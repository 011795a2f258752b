//! The guests of this host, as the documents of their instances describe them: their addresses, and
//! how they are attached to the host's network. Guests on listeners are left out: they share the
//! listener's network.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::guest_rules::{FilteredGuest, GuestLink};
use super::netlink::Links;
use crate::instance::{
    Attachment, BridgePort, Instance, InstanceAttachment, InstanceId, LinkIdentities,
};
use crate::origin::Family;

/// The network side of a guest.
#[derive(Clone, Debug)]
pub struct HostGuest {
    /// The guest's instance.
    pub id: InstanceId,
    /// Its IPv4 addresses.
    pub ipv4: BTreeSet<Ipv4Addr>,
    /// Its IPv6 addresses without link-local ones, which are on every link.
    pub ipv6: BTreeSet<Ipv6Addr>,
    /// Whether a listener is open for it on IPv6 too.
    pub uses_ipv6: bool,
    /// The number of its attachments. With several, it is unknown which address it uses on which.
    pub attachments: usize,
}

/// One attachment of a guest to the host's network.
#[derive(Clone, Debug)]
pub struct GuestAttachment<'i> {
    /// The attachment: an interface, a bridge port or a network namespace.
    pub attachment: &'i Attachment,
    /// The guest.
    pub guest: HostGuest,
    instance: &'i Instance,
}

/// Returns the attachments of an instance to the host's network.
///
/// `families` are those for which a listener is open for the instance. An instance without any has
/// no guest to serve: the result is empty. Attachments that are void on a host with these `links` are
/// left out: their interfaces are gone, or are those of other guests.
pub fn attachments<'i>(
    instance: &'i Instance,
    families: &[Family],
    links: &LinkIdentities,
) -> Vec<GuestAttachment<'i>> {
    if families.is_empty() {
        return Vec::new();
    }
    let guest = HostGuest::of(instance, families);
    let on_the_host = |attachment: &&InstanceAttachment| match attachment.attachment {
        Attachment::Interface(_) | Attachment::BridgePort(_) | Attachment::NetworkNamespace(_) => {
            true
        }
        Attachment::Listener(_) | Attachment::SourceAddress(_) => false,
    };
    let attachments = instance.claimed_attachments(links).filter(on_the_host);
    attachments
        .map(|attachment| GuestAttachment {
            attachment: &attachment.attachment,
            guest: guest.clone(),
            instance,
        })
        .collect()
}

/// Returns what the packet rules are made from: the guests on interfaces and bridge ports, with the
/// current MACs of the bridges.
pub fn filtered(attachments: &[GuestAttachment<'_>], links: &Links) -> Vec<FilteredGuest> {
    attachments
        .iter()
        .filter_map(|attachment| attachment.filtered(links))
        .collect()
}

impl HostGuest {
    pub(super) fn of(instance: &Instance, families: &[Family]) -> HostGuest {
        HostGuest {
            id: instance.instance_id.clone(),
            ipv4: instance.private_addresses().collect(),
            ipv6: instance.routable_ipv6_addresses().collect(),
            uses_ipv6: families.contains(&Family::Ipv6),
            attachments: instance.imds.attachments.len(),
        }
    }

    /// Returns the addresses of both families.
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        let ipv4 = self.ipv4.iter().map(|address| IpAddr::V4(*address));
        ipv4.chain(self.ipv6.iter().map(|address| IpAddr::V6(*address)))
            .collect()
    }
}

impl GuestAttachment<'_> {
    fn filtered(&self, links: &Links) -> Option<FilteredGuest> {
        let interfaces = self.instance.interfaces();
        let ipv4_prefixes = interfaces
            .iter()
            .flat_map(|interface| &interface.ipv4_prefixes);
        let ipv6_prefixes = interfaces
            .iter()
            .flat_map(|interface| &interface.ipv6_prefixes);
        Some(FilteredGuest {
            instance: self.guest.id.clone(),
            link: self.link(links)?,
            macs: interfaces
                .iter()
                .map(|interface| interface.mac_address.to_string())
                .collect(),
            ipv4: self.guest.ipv4.iter().copied().collect(),
            ipv4_prefixes: ipv4_prefixes
                .filter_map(|prefix| parse_prefix(&prefix.ipv4_prefix))
                .collect(),
            ipv6: self.guest.ipv6.iter().copied().collect(),
            ipv6_prefixes: ipv6_prefixes
                .filter_map(|prefix| parse_prefix(&prefix.ipv6_prefix))
                .collect(),
        })
    }

    /// `None` for a network namespace, to which the rules do not apply.
    fn link(&self, links: &Links) -> Option<GuestLink> {
        match self.attachment {
            Attachment::Interface(name) => Some(GuestLink::Interface {
                name: name.to_string(),
            }),
            Attachment::BridgePort(BridgePort { bridge, port, mark }) => {
                let bridge_mac = links
                    .named(bridge)
                    .map(|link| link.mac.clone())
                    .filter(|mac| !mac.is_empty());
                Some(GuestLink::BridgePort {
                    bridge: bridge.to_string(),
                    bridge_mac,
                    port: port.to_string(),
                    mark: *mark,
                })
            }
            Attachment::NetworkNamespace(_)
            | Attachment::Listener(_)
            | Attachment::SourceAddress(_) => None,
        }
    }
}

/// Reads a prefix such as `10.0.0.16/28`. Reading a document has already rejected any other form.
fn parse_prefix<Address: std::str::FromStr>(text: &str) -> Option<(Address, u8)> {
    let (address, length) = text.split_once('/')?;
    Some((address.parse().ok()?, length.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::demo_instance;
    use crate::host::netlink::Link;

    #[test]
    fn the_rules_are_made_from_the_document() {
        let mut instance = demo_instance();
        instance.network_interfaces[0].ipv4_prefixes = vec![crate::instance::Ipv4Prefix {
            ipv4_prefix: "10.0.0.16/28".to_string(),
        }];
        instance.imds.attachments = vec![
            Attachment::Listener("demo".into()).into(),
            Attachment::Interface("tap0".into()).into(),
            Attachment::BridgePort(BridgePort {
                bridge: "br0".into(),
                port: "tap1".into(),
                mark: 7,
            })
            .into(),
            Attachment::BridgePort(BridgePort {
                bridge: "br1".into(),
                port: "tap2".into(),
                mark: 7,
            })
            .into(),
            Attachment::NetworkNamespace("blue".into()).into(),
        ];
        let links = Links::of([Link::example(5, "br0", "bridge")]);
        let attached = attachments(&instance, &[Family::Ipv4], &LinkIdentities::default());
        assert_eq!(attached.len(), 4);
        assert_eq!(attached[0].guest.attachments, 5);
        let found = filtered(&attached, &links);
        let port = |bridge: &str, mac: Option<&str>, port: &str| GuestLink::BridgePort {
            bridge: bridge.to_string(),
            bridge_mac: mac.map(str::to_string),
            port: port.to_string(),
            mark: 7,
        };
        assert_eq!(
            found
                .iter()
                .map(|guest| guest.link.clone())
                .collect::<Vec<_>>(),
            [
                GuestLink::Interface {
                    name: "tap0".to_string()
                },
                port("br0", Some("02:00:00:00:00:05"), "tap1"),
                port("br1", None, "tap2"),
            ]
        );
        assert_eq!(found[0].macs, ["02:00:00:00:00:10"]);
        assert_eq!(found[0].ipv4, [Ipv4Addr::new(10, 0, 0, 10)]);
        assert_eq!(found[0].ipv4_prefixes, [(Ipv4Addr::new(10, 0, 0, 16), 28)]);
        assert_eq!(found[0].ipv6, ["2001:db8::10".parse::<Ipv6Addr>().unwrap()]);
    }

    #[test]
    fn an_instance_without_listeners_has_no_guest() {
        let mut instance = demo_instance();
        instance.imds.attachments = vec![Attachment::Interface("tap0".into()).into()];
        assert_eq!(
            attachments(&instance, &[], &LinkIdentities::default()).len(),
            0
        );
        for (families, uses_ipv6) in [
            (&[Family::Ipv4][..], false),
            (&[Family::Ipv4, Family::Ipv6][..], true),
        ] {
            let attached = attachments(&instance, families, &LinkIdentities::default());
            assert_eq!(attached[0].guest.uses_ipv6, uses_ipv6);
        }
    }
}
