//! `[[listener]]`

use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::config::resolve::addresses::UsedAddresses;
use crate::config::resolve::exposure::{AddressReach, reach};
use crate::config::resolve::values::{interface_name, listener_name, not_an_address};
use crate::config::section::{Faults, Section};
use crate::config::settings::{EXTRA_HOPS_RANGE, ListenerSettings};

/// The listeners that have a name, with the line of each.
#[derive(Default)]
pub(super) struct ListenerTables {
    pub(super) listeners: Vec<ListenerSettings>,
    pub(super) lines: Vec<usize>,
}

pub(super) fn read(
    root: &mut Section<'_>,
    used: &mut UsedAddresses,
    faults: &mut Faults<'_>,
) -> ListenerTables {
    let beside_interfaces = root.has("interfaces");
    let mut read = ListenerTables::default();
    for section in root.tables("listener", faults) {
        let line = faults.line(section.start);
        let listener = read_one(section, &read.listeners, beside_interfaces, used, faults);
        if let Some(listener) = listener {
            read.listeners.push(listener);
            read.lines.push(line);
        }
    }
    read
}

fn read_one(
    mut section: Section<'_>,
    before: &[ListenerSettings],
    beside_interfaces: bool,
    used: &mut UsedAddresses,
    faults: &mut Faults<'_>,
) -> Option<ListenerSettings> {
    let name = section.required("name", faults, |name| {
        let name = listener_name(name)?;
        match before.iter().any(|listener| listener.name == name) {
            true => Err(format!("another listener is named '{name}'")),
            false => Ok(name),
        }
    });
    let owner = name.as_deref().map_or("a listener".to_string(), |name| {
        format!("listener '{name}'")
    });
    let ipv4 = section.parsed("ipv4", faults, |text| {
        let address: SocketAddrV4 = text
            .parse()
            .map_err(|_| not_an_address(text, "an IPv4", "127.0.0.1:1338"))?;
        used.add(address.into(), &owner).map(|()| address)
    });
    let ipv6 = section.parsed("ipv6", faults, |text| {
        let address: SocketAddrV6 = text
            .parse()
            .map_err(|_| not_an_address(text, "an IPv6", "[::1]:1338"))?;
        used.add(address.into(), &owner).map(|()| address)
    });
    if !section.has("ipv4") && !section.has("ipv6") {
        section.missing("ipv4", "a listener needs ipv4, ipv6 or both", faults);
    }
    let interface = section.parsed("interface", faults, interface_name);
    let anti_spoofed = section.boolean("anti_spoofed", faults).unwrap_or(false);
    let extra_hops = section
        .integer("extra_hops", EXTRA_HOPS_RANGE, "routers", faults)
        .unwrap_or(0) as u8;

    let serves_networks = section
        .boolean("expose_credentials_to_every_network", faults)
        .unwrap_or(false);
    if !section.has("interface") {
        let addresses = [
            ("ipv4", ipv4.map(SocketAddr::from)),
            ("ipv6", ipv6.map(SocketAddr::from)),
        ];
        let without_interface = WithoutInterface {
            anti_spoofed,
            beside_interfaces,
            serves_networks,
        };
        check_reachable_without_interface(&section, addresses, without_interface, faults);
    }
    section.finish(faults);
    Some(ListenerSettings {
        name: name?,
        ipv4,
        ipv6,
        interface,
        anti_spoofed,
        extra_hops,
    })
}

/// What the configuration says about a listener that accepts connections from every interface.
struct WithoutInterface {
    anti_spoofed: bool,
    beside_interfaces: bool,
    /// Whether the operator accepts that other hosts read the instance's credentials.
    serves_networks: bool,
}

/// Guests can reach every address of the host through any interface. A listener that is not on
/// loopback would therefore also accept the guests of other interfaces, and one with an address that
/// other hosts reach serves the instance's credentials to them.
fn check_reachable_without_interface(
    section: &Section<'_>,
    addresses: [(&'static str, Option<SocketAddr>); 2],
    without_interface: WithoutInterface,
    faults: &mut Faults<'_>,
) {
    let reached = |(key, address): (&'static str, Option<SocketAddr>)| {
        let address = address?.ip();
        Some((key, address, reach(address)))
    };
    let addresses = addresses.into_iter().filter_map(reached);
    let mut beyond_host = addresses
        .filter(|(_, _, reach)| *reach != AddressReach::Host)
        .peekable();
    if beyond_host.peek().is_none() {
        return;
    }
    if without_interface.anti_spoofed {
        let message = "needs interface: guests on other interfaces could use any source address";
        section.fault("anti_spoofed", message, faults);
    } else if without_interface.beside_interfaces {
        let message = "together with [interfaces], a listener that is not on loopback needs interface: it would \
                       answer guests of other interfaces as its own instance";
        section.missing("interface", message, faults);
    } else if !without_interface.serves_networks {
        for (key, address, _) in beyond_host.filter(|(_, _, reach)| *reach == AddressReach::Network)
        {
            section.fault(key, exposure_fault(address), faults);
        }
    }
}

fn exposure_fault(address: IpAddr) -> String {
    format!(
        "every host that reaches {address} could read this instance's credentials: set interface to the guests' \
         interface, listen on 127.0.0.1, [::1] or a metadata address, or set expose_credentials_to_every_network = \
         true if the network itself keeps others out"
    )
}
