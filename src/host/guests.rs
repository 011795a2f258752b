//! The guests of this host, as their instances' documents describe them: what addresses they have, and by which ways of
//! their own they come in. Listeners are not their own, and instances that nobody answers for are no guests.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::guest_rules::{self, GuestWay};
use super::netlink::Links;
use crate::instance::{Attachment, BridgePort, Instance, InstanceId, Switch};

/// A guest, as far as the host is concerned.
#[derive(Clone, Debug)]
pub struct Guest {
    /// Whose it is.
    pub id: InstanceId,
    /// Its IPv4 addresses.
    pub ipv4: BTreeSet<Ipv4Addr>,
    /// Its IPv6 addresses, without link-local ones, which are on every link.
    pub ipv6: BTreeSet<Ipv6Addr>,
    /// Whether a socket will be opened for it by IPv6 too.
    pub asks_by_ipv6: bool,
    /// How many ways in it has. With several, which of its addresses it uses on which is not known.
    pub ways: usize,
}

/// One way in of a guest's own.
#[derive(Clone, Debug)]
pub struct Way<'i> {
    /// The way in: never a listener, nor an address on one.
    pub attachment: &'i Attachment,
    /// Whose it is.
    pub guest: Guest,
    instance: &'i Instance,
}

/// The ways in that lead over the host's network, of the instances that are answered.
pub fn ways(instances: &[Instance]) -> Vec<Way<'_>> {
    let answered = instances
        .iter()
        .filter(|instance| instance.state.is_active());
    let ways = answered.flat_map(|instance| {
        let guest = Guest::of(instance);
        instance.imds.attachments.iter().map(move |attachment| Way {
            attachment,
            guest: guest.clone(),
            instance,
        })
    });
    ways.filter(|way| {
        !matches!(
            way.attachment,
            Attachment::Listener(_) | Attachment::SourceAddress(_)
        )
    })
    .collect()
}

/// What the packet rules are made from: the ways in by interfaces and ports, with the bridges' MACs as they are now.
pub fn ruled(ways: &[Way<'_>], links: &Links) -> Vec<GuestWay> {
    ways.iter().filter_map(|way| way.ruled(links)).collect()
}

impl Guest {
    pub(super) fn of(instance: &Instance) -> Guest {
        let interfaces = &instance.network_interfaces;
        let of_interfaces = interfaces.iter().flat_map(|interface| {
            let listed = interface
                .private_ip_addresses
                .iter()
                .map(|listed| listed.private_ip_address);
            listed.chain(interface.private_ip_address)
        });
        Guest {
            id: instance.instance_id.clone(),
            ipv4: of_interfaces.chain(instance.private_ip_address).collect(),
            ipv6: instance.routable_ipv6_addresses().collect(),
            // What the options mean for a request is the gate's business; here it is only which socket will be opened.
            asks_by_ipv6: instance.metadata_options.http_protocol_ipv6 == Switch::Enabled,
            ways: instance.imds.attachments.len(),
        }
    }

    /// Those of both families.
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        let ipv4 = self.ipv4.iter().map(|address| IpAddr::V4(*address));
        ipv4.chain(self.ipv6.iter().map(|address| IpAddr::V6(*address)))
            .collect()
    }
}

impl Way<'_> {
    fn ruled(&self, links: &Links) -> Option<GuestWay> {
        let way = match self.attachment {
            Attachment::Interface(name) => guest_rules::Way::Interface { name: name.clone() },
            Attachment::BridgePort(BridgePort { bridge, port, mark }) => {
                guest_rules::Way::BridgePort {
                    bridge: bridge.clone(),
                    bridge_mac: links
                        .named(bridge)
                        .map(|link| link.mac.clone())
                        .filter(|mac| !mac.is_empty()),
                    port: port.clone(),
                    mark: *mark,
                }
            }
            Attachment::NetworkNamespace(_)
            | Attachment::Listener(_)
            | Attachment::SourceAddress(_) => return None,
        };
        let interfaces = &self.instance.network_interfaces;
        let ipv4_prefixes = interfaces
            .iter()
            .flat_map(|interface| &interface.ipv4_prefixes);
        let ipv6_prefixes = interfaces
            .iter()
            .flat_map(|interface| &interface.ipv6_prefixes);
        Some(GuestWay {
            instance: self.guest.id.clone(),
            way,
            macs: interfaces
                .iter()
                .map(|interface| interface.mac_address.clone())
                .collect(),
            ipv4: self.guest.ipv4.iter().copied().collect(),
            ipv4_prefixes: ipv4_prefixes
                .filter_map(|prefix| block(&prefix.ipv4_prefix))
                .collect(),
            ipv6: self.guest.ipv6.iter().copied().collect(),
            ipv6_prefixes: ipv6_prefixes
                .filter_map(|prefix| block(&prefix.ipv6_prefix))
                .collect(),
        })
    }
}

/// `10.0.0.16/28`. Documents with other words for a prefix are refused where they are read.
fn block<Address: std::str::FromStr>(text: &str) -> Option<(Address, u8)> {
    let (address, length) = text.split_once('/')?;
    Some((address.parse().ok()?, length.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::demo_instance;
    use crate::host::netlink::Link;
    use crate::instance::InstanceState;

    #[test]
    fn the_rules_are_made_from_what_documents_say() {
        let mut instance = demo_instance();
        instance.network_interfaces[0].ipv4_prefixes = vec![crate::instance::Ipv4Prefix {
            ipv4_prefix: "10.0.0.16/28".to_string(),
        }];
        instance.imds.attachments = vec![
            Attachment::Listener("demo".to_string()),
            Attachment::Interface("tap0".to_string()),
            Attachment::BridgePort(BridgePort {
                bridge: "br0".to_string(),
                port: "tap1".to_string(),
                mark: 7,
            }),
            Attachment::BridgePort(BridgePort {
                bridge: "br1".to_string(),
                port: "tap2".to_string(),
                mark: 7,
            }),
            Attachment::NetworkNamespace("blue".to_string()),
        ];
        let links = Links::of([Link::made_up(5, "br0", "bridge")]);
        let instances = [instance.clone()];
        let found = ruled(&ways(&instances), &links);
        assert_eq!(ways(&instances).len(), 4);
        let port = |bridge: &str, mac: Option<&str>, port: &str| guest_rules::Way::BridgePort {
            bridge: bridge.to_string(),
            bridge_mac: mac.map(str::to_string),
            port: port.to_string(),
            mark: 7,
        };
        assert_eq!(
            found.iter().map(|way| way.way.clone()).collect::<Vec<_>>(),
            [
                guest_rules::Way::Interface {
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

        // Rules are for every guest that is answered, one that is about to stop included.
        for (state, count) in [
            (InstanceState::Stopping, 4),
            (InstanceState::Stopped, 0),
            (InstanceState::Terminated, 0),
        ] {
            instance.state = state;
            assert_eq!(
                ways(std::slice::from_ref(&instance)).len(),
                count,
                "{}",
                state.as_str()
            );
        }
    }
}
