//! The table of the family `bridge`: guests on the ports of bridges.
//!
//! Several daemons may have such a table on one host. Each marks and judges the frames of its own
//! ports, and the chain that clears marks runs before the chains of all daemons that set them.
//!
//! Every rule about ARP or ICMPv6 names `meta protocol`. Without it, nft looks for these protocols
//! in the type field of the Ethernet header, where a tagged frame has the tag: a claim in a frame
//! tagged with VLAN 0 passed, and the host believed it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::block::{Block, LINK_LOCAL, with};
use super::checked::{CheckedGuest, digest};
use super::conditions::{
    ACCEPT_SOLICITATIONS, ICMPV6, TCP, claims_of_addresses, except_own, limit, none_of,
};
use super::inputs::{GuestLink, MetadataAddresses};
use super::table::{BRIDGE, Table};
use super::table_name::TableName;

const ARP: &str = "meta protocol arp";
const TWO_TAGS: &str = "meta protocol { 8021q, 8021ad }";

/// Returns the table for these guests, empty when none of them is on a bridge.
pub(super) fn table(
    name: &TableName,
    guests: &[CheckedGuest],
    addresses: MetadataAddresses,
) -> Table {
    let mut table = Table::new(BRIDGE, name);
    let bridged: Vec<(usize, &CheckedGuest, GuestPort)> = guests
        .iter()
        .enumerate()
        .filter_map(|(index, guest)| Some((index, guest, GuestPort::of(guest.link)?)))
        .collect();
    if bridged.is_empty() {
        return table;
    }
    add_request_chains(&mut table, addresses);
    add_reply_chains(&mut table, addresses);
    add_claims_chain(&mut table, addresses);
    table.collection("map", "guests", "type ifname : verdict");
    table.collection("map", "senders", "type ifname : verdict");
    table.collection("set", "ports", "type ifname");
    table.collection("map", "marks", "type ifname : mark");
    table.collection("set", "marked", "type mark");
    table.collection("set", "port-marks", "type ifname . mark");
    let shared = table.shared_text();
    for (index, guest, port) in bridged {
        let sets = OwnedSets::of(port.bridge);
        sets.declare(&mut table);
        sets.fill(&mut table, guest, port.bridge_mac);
        add_guest_chains(&mut table, index, guest, &port, &sets, &shared, addresses);
        let name = port.name;
        let mark = format!("{:#x}", port.mark);
        table.element("ports", Some(index), format!("\"{name}\""));
        table.element("marks", Some(index), format!("\"{name}\" : {mark}"));
        table.element("marked", Some(index), mark.clone());
        table.element("port-marks", Some(index), format!("\"{name}\" . {mark}"));
    }
    table
}

/// The port of one guest.
struct GuestPort<'a> {
    bridge: &'a str,
    bridge_mac: Option<&'a str>,
    name: &'a str,
    mark: u32,
}

impl GuestPort<'_> {
    fn of(link: &GuestLink) -> Option<GuestPort<'_>> {
        match link {
            GuestLink::Interface { .. } => None,
            GuestLink::BridgePort {
                bridge,
                bridge_mac,
                port,
                mark,
            } => Some(GuestPort {
                bridge,
                bridge_mac: bridge_mac.as_deref(),
                name: port,
                mark: *mark,
            }),
        }
    }
}

/// Adds the chains that filter frames from ports and mark requests.
fn add_request_chains(table: &mut Table, MetadataAddresses { ipv4, ipv6 }: MetadataAddresses) {
    // Before the bridge learns a source MAC, and before anything is forwarded.
    table.chain(
        "arriving",
        Some("prerouting priority -300"),
        None,
        ["iifname vmap @guests".to_string()],
    );
    // Frames to the host. Marks are cleared and set here and not earlier, so that no other table
    // sets a mark after these. They are cleared for every port of every bridge: an unlisted port
    // must get mark 0, whatever marked its packets before. Another daemon's ports may be among
    // them, so its marks are set later.
    table.chain(
        "clear-marks",
        Some("input priority 299"),
        None,
        [
            "# Identify the guest by its port's mark, set below; 0 identifies none.".to_string(),
            format!("ip daddr {ipv4} meta mark set 0"),
            format!("ip6 daddr {ipv6} meta mark set 0"),
        ],
    );
    table.chain(
        "to-host",
        Some("input priority 300"),
        None,
        [
            "# Frames to 01:80:c2:00:00:0x skip the chain above, and the bridge learns from them."
                .to_string(),
            "iifname vmap @senders".to_string(),
            "# The host would remove both tags of a double-tagged frame; the rules above look under one."
                .to_string(),
            format!("iifname @ports {TWO_TAGS} counter drop"),
            "# Guests must not redirect the host.".to_string(),
            "iifname @ports meta protocol ip6 icmpv6 type nd-redirect counter drop".to_string(),
            format!("ip daddr {ipv4} meta mark set iifname map @marks"),
            format!("ip6 daddr {ipv6} meta mark set iifname map @marks"),
        ],
    );
    // Frames from unlisted ports too: a machine on the uplink is not the metadata service of these
    // guests.
    table.chain(
        "to-guests",
        Some("forward priority -200"),
        None,
        ["oifname @ports jump metadata-claims".to_string()],
    );
}

/// Adds the chains that hold replies to the port of their request.
fn add_reply_chains(table: &mut Table, MetadataAddresses { ipv4, ipv6 }: MetadataAddresses) {
    table.chain(
        "from-host",
        Some("output priority 300"),
        None,
        [
            format!("ip saddr {ipv4} ip protocol {TCP} goto answers"),
            format!("ip6 saddr {ipv6} meta l4proto != {ICMPV6} goto answers"),
        ],
    );
    table.chain(
        "answers",
        None,
        None,
        [
            "# Only through the port of the request, whose mark the connection carries."
                .to_string(),
            "oifname . meta mark @port-marks accept".to_string(),
            "# A refused connection has no mark and carries no data.".to_string(),
            "tcp flags & rst == rst accept".to_string(),
            "meta mark @marked counter drop".to_string(),
            "oifname @ports counter drop".to_string(),
        ],
    );
}

fn add_claims_chain(table: &mut Table, addresses: MetadataAddresses) {
    // The receiver of a frame removes a tag of VLAN 0, and may find another tag below it. The tag
    // is read as bits, which works for both kinds of tag; `vlan id` reads 802.1Q tags only.
    let mut rules = vec![
        "# Two tags, the outer one VLAN 0: no rule below could see the content of the frame."
            .to_string(),
        format!("@ll,112,16 & 0x0fff == 0 {TWO_TAGS} counter drop"),
        "# ARP requests, replies and gratuitous ARP all name their sender.".to_string(),
        format!("{ARP} arp saddr ip {} counter drop", addresses.ipv4),
    ];
    rules.extend(claims_of_addresses(addresses));
    table.chain("metadata-claims", None, None, rules);
}

fn add_guest_chains(
    table: &mut Table,
    index: usize,
    guest: &CheckedGuest,
    port: &GuestPort<'_>,
    sets: &OwnedSets,
    shared: &str,
    MetadataAddresses { ipv4, ipv6 }: MetadataAddresses,
) {
    let sender = sender_rule(guest, sets);
    let frames = frame_rules(guest, sets);
    let requests = request_rules(guest, sets, port.bridge_mac);
    let digest = guest.digest(&[shared, &sender, &frames.join("\n"), &requests.join("\n")]);
    let sender_chain = format!("sender-{}-{digest}", guest.instance);
    let requests_chain = format!("requests-{}-{digest}", guest.instance);
    let guest_chain = format!("guest-{}-{digest}", guest.instance);
    let mut rules = vec![
        guest.headline(),
        "jump metadata-claims".to_string(),
        format!("jump {sender_chain}"),
    ];
    rules.extend(frames);
    rules.push(format!("ip daddr {ipv4} jump {requests_chain}"));
    rules.push(format!("ip6 daddr {ipv6} jump {requests_chain}"));
    table.chain(&sender_chain, None, Some(index), [sender]);
    table.chain(&requests_chain, None, Some(index), requests);
    table.chain(&guest_chain, None, Some(index), rules);
    for (map, chain) in [("senders", sender_chain), ("guests", guest_chain)] {
        let element = format!("\"{}\" : jump {chain}", port.name);
        table.element(map, Some(index), element);
    }
}

/// The names of the sets of what the guests of one bridge own. They contain a digest of the
/// bridge's name, because nft does not accept every interface name in an identifier.
struct OwnedSets {
    macs: String,
    ipv4: String,
    ipv6: String,
    targets: String,
}

impl OwnedSets {
    fn of(bridge: &str) -> OwnedSets {
        let bridge = digest(&[bridge]);
        let name = |what: &str| format!("{what}-{bridge}");
        OwnedSets {
            macs: name("macs"),
            ipv4: name("ipv4"),
            ipv6: name("ipv6"),
            targets: name("nd-targets"),
        }
    }

    fn declare(&self, table: &mut Table) {
        for (name, form) in [
            (&self.macs, "type ether_addr"),
            (
                &self.ipv4,
                "type ipv4_addr\n    flags interval\n    auto-merge",
            ),
            (
                &self.ipv6,
                "type ipv6_addr\n    flags interval\n    auto-merge",
            ),
            (
                &self.targets,
                "typeof @th,64,128\n    flags interval\n    auto-merge",
            ),
        ] {
            table.collection("set", name, form);
        }
    }

    fn fill(&self, table: &mut Table, guest: &CheckedGuest, bridge_mac: Option<&str>) {
        for mac in &guest.macs {
            table.element(&self.macs, None, mac.clone());
        }
        for block in &guest.ipv4 {
            table.element(&self.ipv4, None, block.to_string());
        }
        for block in guest.all_ipv6() {
            table.element(&self.ipv6, None, block.to_string());
            table.element(&self.targets, None, block.as_number());
        }
        if let Some(mac) = bridge_mac {
            table.element(&self.macs, None, mac.to_ascii_lowercase());
        }
    }
}

/// Returns the rule against source MACs of other guests: from a frame of any protocol, the bridge
/// would learn that the other guest is behind this port.
fn sender_rule(guest: &CheckedGuest, sets: &OwnedSets) -> String {
    except_own(
        "ether saddr",
        &guest.macs,
        format!("ether saddr @{} counter drop", sets.macs),
    )
}

/// Returns the rules for every frame from the port: it must not claim an address of another guest.
fn frame_rules(guest: &CheckedGuest, sets: &OwnedSets) -> Vec<String> {
    let mut rules = arp_rules(guest, sets);
    rules.extend(neighbour_rules(guest, sets));
    rules
}

/// ARP. Probes have no sender address, and nothing learns from them (RFC 5227, section 2.1.1).
fn arp_rules(guest: &CheckedGuest, sets: &OwnedSets) -> Vec<String> {
    if guest.ipv4.is_empty() {
        return vec![format!("{ARP} arp saddr ip @{} counter drop", sets.ipv4)];
    }
    let unspecified = Block {
        address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        length: 32,
    };
    let own = with(&guest.ipv4, unspecified);
    let mut rules = vec![format!(
        "{ARP} {} counter drop",
        none_of("arp saddr ip", &own)
    )];
    if !guest.macs.is_empty() {
        rules.push(format!(
            "{ARP} {} counter drop",
            none_of("arp saddr ether", &guest.macs)
        ));
    }
    rules
}

/// Neighbour discovery. When a link-layer address is included, nodes learn the source of a
/// solicitation (for a neighbour or a router), of a router advertisement and of a redirect; from a
/// neighbour advertisement they learn the target.
fn neighbour_rules(guest: &CheckedGuest, sets: &OwnedSets) -> Vec<String> {
    // Types 133 to 137 as numbers: nft accepts no range of names, because the names contain
    // hyphens.
    const DISCOVERY: &str = "meta protocol ip6 icmpv6 type 133-137";
    const ADVERTISEMENT: &str = "meta protocol ip6 icmpv6 type nd-neighbor-advert";
    let numbers = |blocks: &[Block]| blocks.iter().map(Block::as_number).collect::<Vec<_>>();
    let own = guest.all_ipv6();
    let mut rules = Vec::new();
    if !guest.ipv6.is_empty() {
        // Guests choose their link-local addresses, which no document lists: any that no other
        // guest owns is allowed.
        let targets = with(&own, LINK_LOCAL);
        let sources = with(&targets, Block::of(Ipv6Addr::UNSPECIFIED));
        rules.push(format!(
            "{DISCOVERY} {} counter drop",
            none_of("ip6 saddr", &sources)
        ));
        rules.push(format!(
            "{ADVERTISEMENT} {} counter drop",
            none_of("@th,64,128", &numbers(&targets))
        ));
    }
    let source_of_another = except_own(
        "ip6 saddr",
        &own,
        format!("ip6 saddr @{} counter drop", sets.ipv6),
    );
    rules.push(format!("{DISCOVERY} {source_of_another}"));
    let target_of_another = except_own(
        "@th,64,128",
        &numbers(&own),
        format!("@th,64,128 @{} counter drop", sets.targets),
    );
    rules.push(format!("{ADVERTISEMENT} {target_of_another}"));
    rules
}

/// Returns the rules for what the guest sends to the metadata addresses.
fn request_rules(guest: &CheckedGuest, sets: &OwnedSets, bridge_mac: Option<&str>) -> Vec<String> {
    let mut rules = Vec::new();
    if !guest.macs.is_empty() {
        rules.push(format!(
            "{} counter drop",
            none_of("ether saddr", &guest.macs)
        ));
    }
    rules.push(limit());
    if let Some(mac) = bridge_mac {
        // The frame may be addressed to another machine's MAC (the guest's gateway) or to a group.
        rules.push(format!(
            "ether daddr set {} meta pkttype set host",
            mac.to_ascii_lowercase()
        ));
    }
    rules.push(ACCEPT_SOLICITATIONS.to_string());
    match guest.ipv4.is_empty() {
        true => rules.push(format!("ip saddr @{} counter drop", sets.ipv4)),
        false => rules.push(format!("{} counter drop", none_of("ip saddr", &guest.ipv4))),
    }
    let own = guest.all_ipv6();
    if !guest.ipv6.is_empty() {
        // Only the link-local addresses that its MACs imply: any guest could claim another one by
        // neighbour discovery.
        rules.push(format!("{} counter drop", none_of("ip6 saddr", &own)));
        return rules;
    }
    if !guest.link_local.is_empty() {
        rules.push(format!(
            "ip6 saddr {LINK_LOCAL} {} counter drop",
            none_of("ip6 saddr", &guest.link_local)
        ));
    }
    rules.push(except_own(
        "ip6 saddr",
        &own,
        format!("ip6 saddr @{} counter drop", sets.ipv6),
    ));
    rules
}
