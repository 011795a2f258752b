//! The table of the family `inet`: guests on interfaces of their own, no connection tracking for any
//! guest, and nothing for the host's own processes.

use super::block::{LINK_LOCAL, with};
use super::checked::CheckedGuest;
use super::conditions::{ACCEPT_SOLICITATIONS, TCP, claims_of_addresses, limit, none_of};
use super::inputs::{GuestLink, MetadataAddresses};
use super::table::{INET, Table};
use super::table_name::TableName;

/// Returns the table for these guests.
pub(super) fn table(
    name: &TableName,
    guests: &[CheckedGuest],
    addresses: MetadataAddresses,
) -> Table {
    let mut table = Table::new(INET, name);
    if guests.is_empty() {
        return table;
    }
    add_shared_chains(&mut table, addresses);
    table.collection("set", "served", "type ifname");
    table.collection("map", "guests", "type ifname : verdict");
    let shared = table.shared_text();
    for (index, guest) in guests.iter().enumerate() {
        match guest.link {
            GuestLink::Interface { name } => {
                add_guest(&mut table, index, guest, name, &shared, addresses);
            }
            GuestLink::BridgePort { bridge, .. } => {
                table.element("served", Some(index), format!("\"{bridge}\""));
            }
        }
    }
    table
}

fn add_shared_chains(table: &mut Table, addresses: MetadataAddresses) {
    let MetadataAddresses { ipv4, ipv6 } = addresses;
    // Guests may have equal addresses, and connection tracking would merge their connections. The
    // rules apply to our interfaces only: a host that forwards the real metadata service to other
    // machines needs tracking for that.
    table.chain(
        "arriving",
        Some("prerouting priority raw"),
        None,
        [
            "# Processes of the host are not guests. The daemon drops their connections too."
                .to_string(),
            format!("iifname \"lo\" ip daddr {ipv4} meta l4proto {TCP} counter drop"),
            format!("iifname \"lo\" ip6 daddr {ipv6} meta l4proto {TCP} counter drop"),
            "# Connection tracking would merge connections of guests with equal addresses."
                .to_string(),
            format!("iifname @served ip daddr {ipv4} notrack"),
            format!("iifname @served ip6 daddr {ipv6} notrack"),
            "iifname vmap @guests".to_string(),
        ],
    );
    table.chain(
        "leaving",
        Some("output priority raw"),
        None,
        [
            format!("oifname @served ip saddr {ipv4} notrack"),
            format!("oifname @served ip6 saddr {ipv6} notrack"),
        ],
    );
    table.chain(
        "metadata-claims",
        None,
        None,
        claims_of_addresses(addresses),
    );
}

fn add_guest(
    table: &mut Table,
    index: usize,
    guest: &CheckedGuest,
    interface: &str,
    shared: &str,
    MetadataAddresses { ipv4, ipv6 }: MetadataAddresses,
) {
    let requests = requests(guest);
    let digest = guest.digest(&[shared, &requests.join("\n")]);
    let requests_chain = format!("requests-{}-{digest}", guest.instance);
    let guest_chain = format!("guest-{}-{digest}", guest.instance);
    table.chain(&requests_chain, None, Some(index), requests);
    table.chain(
        &guest_chain,
        None,
        Some(index),
        [
            guest.headline(),
            "jump metadata-claims".to_string(),
            format!("ip daddr {ipv4} jump {requests_chain}"),
            format!("ip6 daddr {ipv6} jump {requests_chain}"),
        ],
    );
    table.element("served", Some(index), format!("\"{interface}\""));
    table.element(
        "guests",
        Some(index),
        format!("\"{interface}\" : jump {guest_chain}"),
    );
}

/// Returns the rules for what the guest sends to the metadata addresses.
fn requests(guest: &CheckedGuest) -> Vec<String> {
    let mut rules = Vec::new();
    if !guest.macs.is_empty() {
        rules.push(format!(
            "{} counter drop",
            none_of("ether saddr", &guest.macs)
        ));
    }
    rules.push(limit());
    if !guest.ipv4.is_empty() {
        rules.push(format!("{} counter drop", none_of("ip saddr", &guest.ipv4)));
    }
    if !guest.ipv6.is_empty() {
        // The guest may choose any link-local address: it is alone on the link.
        rules.push(ACCEPT_SOLICITATIONS.to_string());
        rules.push(format!(
            "{} counter drop",
            none_of("ip6 saddr", &with(&guest.ipv6, LINK_LOCAL))
        ));
    }
    rules
}
