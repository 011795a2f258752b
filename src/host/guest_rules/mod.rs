//! The host's packet rules: a guest reaches the metadata address as itself, and nobody else is that address or that guest.
//!
//! One function turns the host's guests into one script for `nft -f -`, and another reads `nft --json list ruleset` and
//! says whose rules are missing. Nothing here runs `nft`: that is the caller's business, and so is the privilege.
//!
//! What the kernel tells the daemon about a request (the interface, or the bridge port's mark) can't be forged. The
//! **answer** is another matter: on a bridge it finds its way by the host's neighbour cache and by the bridge's forwarding
//! table, and both believe what guests send. So the rules hold four lines, each of them by itself:
//!
//! 1. Nobody behind a guest's interface or port claims the metadata addresses, to the host or to another guest.
//! 2. Nobody on a bridge claims an address or a MAC of another guest: ARP, neighbour discovery, source MACs of any frame.
//! 3. A request comes from the guest's own MACs and addresses, 1,024 packets a second at most, as on EC2 (which counts by
//!    network interface; here it is by way in).
//! 4. An answer leaves a bridge by the port whose mark its connection carries, and by no other. This one holds even where
//!    2 does not: against unlisted ports (an uplink), guests without a list of addresses, and frames flooded to every port.
//!
//! The tables are `inet imdsd` and `bridge imdsd`; they are replaced as a whole in one transaction, and no other table is
//! named. There is no `arp imdsd`: on an interface of its own a guest can only mislead the host about itself, and ARP on a
//! bridge passes the bridge's own hooks first.
//!
//! What the operator must know:
//!
//! - Marks reach the daemon only with `net.ipv4.tcp_fwmark_accept=1` (it counts for IPv6 too). Without it nobody is
//!   anybody, and line 4 drops every answer.
//! - Answers go to a bridged guest directly: the host needs its addresses on-link on the bridge. An answer that would take
//!   the way over a gateway is dropped.
//! - Packets here are untracked. An input chain that accepts `ct state established` only must accept the metadata
//!   addresses as well.
//! - LLDP's group address (01:80:c2:00:00:0e) passes no hook of a bridge, and the bridge learns from such frames: only
//!   `ip link set br0 type bridge no_linklocal_learn 1` keeps guests from moving another's MAC to their port with them.
//!   Line 4 holds regardless; what is lost without it are answers.
//! - Rules come before the guest: a port that is not listed yet is nobody, but nothing that it says is filtered. Router
//!   advertisements never are: `accept_ra=0` on the bridge is the host's own business.
//! - A guest whose document lists addresses is held to them, in ARP and neighbour discovery too. Without a list of a
//!   family, it is only kept from the addresses of others. IPv6 addresses that a guest makes for itself (privacy
//!   extensions) are not in any document; they get no metadata, and when others are listed, not onto the bridge either.
//! - Don't load what `nft list` prints: it leaves out `meta protocol`, and with that the guard against tagged frames.
//!
//! Refused: interface names that `nft` reads as something else, addresses that can't be a guest's, ports, interfaces and
//! marks that two guests have. Not guarded: an IPv6 neighbour claim in fragments where the host was told to listen to such
//! (`suppress_frag_ndisc=0`), and availability against ports that are not listed.
//!
//! Tried with nft 1.0.6. It has no `icmpv6 taddr`, so the target of a claim is read as `@th,64,128`, which begins behind
//! every extension header. The kernel needs `NF_TABLES_BRIDGE` even for a host without bridges (the script removes what was
//! there before); `meta ibrname` (`NFT_BRIDGE_META`) is not in every kernel, so rules go by port and never by bridge.

mod guests;
mod table;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use crate::instance::InstanceId;

use guests::{Block, Guest, LINK_LOCAL, digest, read, with};
use table::{Listed, Table};

/// What a way in may send to the metadata addresses in a second; EC2's number.
const PACKETS_A_SECOND: u32 = 1024;

/// One guest's way in, as the rules see it. A guest has as many as it has interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestWay {
    /// Whose way it is.
    pub instance: InstanceId,
    /// Where its packets arrive.
    pub way: Way,
    /// Its MACs, as its document lists them; empty when it lists none.
    pub macs: Vec<String>,
    /// Its IPv4 addresses; with no prefix either, the family has no list and is guarded as far as the others' lists go.
    pub ipv4: Vec<Ipv4Addr>,
    /// Delegated IPv4 prefixes: network and length.
    pub ipv4_prefixes: Vec<(Ipv4Addr, u8)>,
    /// Its IPv6 addresses; as with IPv4.
    pub ipv6: Vec<Ipv6Addr>,
    /// Delegated IPv6 prefixes: network and length.
    pub ipv6_prefixes: Vec<(Ipv6Addr, u8)>,
}

/// Where a guest's packets arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// An interface that only this guest is behind.
    Interface {
        /// `tap0`, say.
        name: String,
    },
    /// A port of a bridge that others are on too.
    BridgePort {
        /// The interface that hears what the bridge hands to the host: `br0`, or `br0.100` where the bridge knows VLANs.
        bridge: String,
        /// Its MAC. With it, requests that the guest sends to some other gateway's MAC are caught as well.
        bridge_mac: Option<String>,
        /// `tap0`, say.
        port: String,
        /// What the daemon finds as `SO_MARK` of a connection that came by this port. Not 0: that is nobody's.
        mark: u32,
    },
}

/// The addresses of the service. Every port of them is the service's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetadataAddresses {
    /// 169.254.169.254
    pub ipv4: Ipv4Addr,
    /// fd00:ec2::254
    pub ipv6: Ipv6Addr,
}

impl MetadataAddresses {
    /// Those of EC2, which clients have built in.
    pub const EC2: MetadataAddresses = MetadataAddresses {
        ipv4: Ipv4Addr::new(169, 254, 169, 254),
        ipv6: Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    };
}

/// The whole script. It replaces the tables in one transaction: before it the old rules hold, after it the new, and a
/// script that fails changes nothing.
///
/// Or every fault, with the guest that has it: a caller who leaves those guests out gets rules for the others.
pub fn script(
    guests: &[GuestWay],
    addresses: MetadataAddresses,
) -> Result<String, Vec<(InstanceId, String)>> {
    let tables = tables(guests, addresses)?;
    let mut text = String::from(
        "# The guests' way to the metadata service. Written by imdsd: it replaces these tables.\n",
    );
    for table in &tables {
        table.write(&mut text);
    }
    Ok(text)
}

/// The guests that lack rules, or have those of another document or version, and what is missing.
///
/// `listed` is what `nft --json list ruleset` printed. The chains of a guest carry a digest of all that concerns it in
/// their names; the shared chains are known by their hooks and the number of their rules.
pub fn lacking(
    listed: &Value,
    guests: &[GuestWay],
    addresses: MetadataAddresses,
) -> Vec<(InstanceId, String)> {
    let tables = match tables(guests, addresses) {
        Ok(tables) => tables,
        Err(faults) => return faults,
    };
    let listed = Listed::read(listed);
    let mut lacking = Vec::new();
    for (index, guest) in guests.iter().enumerate() {
        let needed = tables.iter().filter(|table| match guest.way {
            Way::Interface { .. } => table.family == INET,
            Way::BridgePort { .. } => true,
        });
        let missing = needed
            .flat_map(|table| table.missing(&listed, index))
            .next();
        lacking.extend(missing.map(|what| (guest.instance.clone(), what)));
    }
    lacking
}

/// Whether anything of these tables is there at all, of whatever guests.
pub fn are_loaded(listed: &Value) -> bool {
    let entries = listed["nftables"].as_array().into_iter().flatten();
    entries
        .filter_map(|entry| entry.get("table"))
        .any(|table| table["name"] == TABLE)
}

const INET: &str = "inet";
const BRIDGE: &str = "bridge";
/// The name of our tables.
const TABLE: &str = "imdsd";

/// Both tables, or what is wrong with the guests.
fn tables(
    guests: &[GuestWay],
    addresses: MetadataAddresses,
) -> Result<[Table; 2], Vec<(InstanceId, String)>> {
    let guests = read(guests, addresses)?;
    Ok([
        inet_table(&guests, addresses),
        bridge_table(&guests, addresses),
    ])
}

/// Guests with interfaces of their own, and what is the same for every way in: no connection tracking.
fn inet_table(guests: &[Guest], addresses: MetadataAddresses) -> Table {
    let MetadataAddresses { ipv4, ipv6 } = addresses;
    let mut table = Table::new(INET);
    // Guests may have equal addresses, and connection tracking would take their connections for one another's. Bound to
    // our interfaces: a host that passes the real service on to somebody needs tracking for that.
    table.chain(
        "arriving",
        Some("prerouting priority raw"),
        None,
        [
            "# Equal addresses behind two interfaces would share an entry of connection tracking."
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

    table.collection("set", "served", "type ifname");
    table.collection("map", "guests", "type ifname : verdict");
    let shared = table.shared_text();
    for (index, guest) in guests.iter().enumerate() {
        let name = match &guest.way.way {
            Way::Interface { name } => name,
            Way::BridgePort { bridge, .. } => {
                table.element("served", Some(index), format!("\"{bridge}\""));
                continue;
            }
        };
        let requests = requests_by_interface(guest);
        let digest = guest.digest(&[&shared, &requests.join("\n")]);
        let requests_chain = format!("requests-{}-{digest}", guest.way.instance);
        let guest_chain = format!("guest-{}-{digest}", guest.way.instance);
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
        table.element("served", Some(index), format!("\"{name}\""));
        table.element(
            "guests",
            Some(index),
            format!("\"{name}\" : jump {guest_chain}"),
        );
    }
    table
}

/// What a guest on an interface of its own sends to the metadata addresses.
fn requests_by_interface(guest: &Guest) -> Vec<String> {
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
        // Link-local addresses are the guest's own to choose here: nobody else is on the link.
        rules.push(NEIGHBOURS_ASK.to_string());
        rules.push(format!(
            "{} counter drop",
            none_of("ip6 saddr", &with(&guest.ipv6, LINK_LOCAL))
        ));
    }
    rules
}

/// Neighbour discovery asks the metadata address itself whether it is still there, from whatever address it has. What it
/// claims is judged apart from that.
const NEIGHBOURS_ASK: &str = "meta protocol ip6 icmpv6 type nd-neighbor-solicit return";

/// Guests on bridges.
///
/// Every rule about ARP or ICMPv6 says `meta protocol`. Left to itself, nft looks for these in the Ethernet header's type
/// field, where a tagged frame has the tag: a claim with a tag of VLAN 0 passed, and the host believed it.
fn bridge_table(guests: &[Guest], addresses: MetadataAddresses) -> Table {
    let MetadataAddresses { ipv4, ipv6 } = addresses;
    let mut table = Table::new(BRIDGE);
    let is_bridged = |guest: &Guest| matches!(guest.way.way, Way::BridgePort { .. });
    if !guests.iter().any(is_bridged) {
        return table;
    }
    // Before the bridge learns a source MAC, and before anything is forwarded.
    table.chain(
        "arriving",
        Some("prerouting priority -300"),
        None,
        ["iifname vmap @guests".to_string()],
    );
    // What goes to the host. Marks are set here and not earlier, so that no other table's mark comes after ours, and for
    // every port of every bridge: an unlisted port must be nobody, whatever marked its packets before.
    table.chain(
        "to-host",
        Some("input priority 300"),
        None,
        [
            "# Frames to 01:80:c2:00:00:0x come here without the chain above, and the bridge learns from them."
                .to_string(),
            "iifname vmap @senders".to_string(),
            "# The host would take off both tags of a frame with two, and the rules above have looked under one."
                .to_string(),
            format!("iifname @ports {TWO_TAGS} counter drop"),
            "# Guests do not redirect the host.".to_string(),
            "iifname @ports meta protocol ip6 icmpv6 type nd-redirect counter drop".to_string(),
            "# Who asks: the port's mark, or nobody's.".to_string(),
            format!("ip daddr {ipv4} meta mark set 0"),
            format!("ip6 daddr {ipv6} meta mark set 0"),
            format!("ip daddr {ipv4} meta mark set iifname map @marks"),
            format!("ip6 daddr {ipv6} meta mark set iifname map @marks"),
        ],
    );
    // Also from ports that are not listed: the box on the uplink is not the metadata service of these guests.
    table.chain(
        "to-guests",
        Some("forward priority -200"),
        None,
        ["oifname @ports jump metadata-claims".to_string()],
    );
    table.chain(
        "from-host",
        Some("output priority 300"),
        None,
        [
            format!("ip saddr {ipv4} ip protocol tcp goto answers"),
            format!("ip6 saddr {ipv6} meta l4proto != ipv6-icmp goto answers"),
        ],
    );
    table.chain(
        "answers",
        None,
        None,
        [
            "# By the port that the question came by. The connection carries its mark.".to_string(),
            "oifname . meta mark @ways accept".to_string(),
            "# A refused connection has no mark; nothing is in it.".to_string(),
            "tcp flags & rst == rst accept".to_string(),
            "meta mark @marked counter drop".to_string(),
            "oifname @ports counter drop".to_string(),
        ],
    );
    // A tag of VLAN 0 is taken off by whoever gets the frame, and then there is another one. Read as bits, it is found in
    // tags of either kind; `vlan id` looks into 802.1Q's only.
    let mut claims = vec![
        "# Two tags, the outer of which is none: no rule below would see what is in the frame."
            .to_string(),
        format!("@ll,112,16 & 0x0fff == 0 {TWO_TAGS} counter drop"),
        "# Requests, replies and gratuitous ARP all name their sender.".to_string(),
        format!("{ARP} arp saddr ip {ipv4} counter drop"),
    ];
    claims.extend(claims_of_addresses(addresses));
    table.chain("metadata-claims", None, None, claims);

    table.collection("map", "guests", "type ifname : verdict");
    table.collection("map", "senders", "type ifname : verdict");
    table.collection("set", "ports", "type ifname");
    table.collection("map", "marks", "type ifname : mark");
    table.collection("set", "marked", "type mark");
    table.collection("set", "ways", "type ifname . mark");
    let shared = table.shared_text();
    for (index, guest) in guests.iter().enumerate() {
        let Way::BridgePort {
            bridge,
            bridge_mac,
            port,
            mark,
        } = &guest.way.way
        else {
            continue;
        };
        let taken = Taken::on(bridge);
        for (name, form) in [
            (&taken.macs, "type ether_addr"),
            (
                &taken.ipv4,
                "type ipv4_addr\n    flags interval\n    auto-merge",
            ),
            (
                &taken.ipv6,
                "type ipv6_addr\n    flags interval\n    auto-merge",
            ),
            (
                &taken.targets,
                "typeof @th,64,128\n    flags interval\n    auto-merge",
            ),
        ] {
            table.collection("set", name, form);
        }
        let ipv6_taken = guest.ipv6.iter().chain(&guest.link_local);
        guest
            .macs
            .iter()
            .for_each(|mac| table.element(&taken.macs, None, mac.clone()));
        guest
            .ipv4
            .iter()
            .for_each(|block| table.element(&taken.ipv4, None, block.to_string()));
        ipv6_taken
            .clone()
            .for_each(|block| table.element(&taken.ipv6, None, block.to_string()));
        ipv6_taken.for_each(|block| table.element(&taken.targets, None, block.as_number()));
        if let Some(mac) = bridge_mac {
            table.element(&taken.macs, None, mac.to_ascii_lowercase());
        }

        let sender = sender_of_another(guest, &taken);
        let frames = frames_by_port(guest, &taken);
        let requests = requests_by_port(guest, &taken, bridge_mac.as_deref());
        let digest = guest.digest(&[&shared, &sender, &frames.join("\n"), &requests.join("\n")]);
        let sender_chain = format!("sender-{}-{digest}", guest.way.instance);
        let requests_chain = format!("requests-{}-{digest}", guest.way.instance);
        let guest_chain = format!("guest-{}-{digest}", guest.way.instance);
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
        table.element(
            "senders",
            Some(index),
            format!("\"{port}\" : jump {sender_chain}"),
        );
        table.element(
            "guests",
            Some(index),
            format!("\"{port}\" : jump {guest_chain}"),
        );
        table.element("ports", Some(index), format!("\"{port}\""));
        table.element("marks", Some(index), format!("\"{port}\" : {mark:#x}"));
        table.element("marked", Some(index), format!("{mark:#x}"));
        table.element("ways", Some(index), format!("\"{port}\" . {mark:#x}"));
    }
    table
}

const ARP: &str = "meta protocol arp";
const TWO_TAGS: &str = "meta protocol { 8021q, 8021ad }";

/// Nobody behind the guest's port or interface is the metadata service: by its packets.
fn claims_of_addresses(MetadataAddresses { ipv4, ipv6 }: MetadataAddresses) -> Vec<String> {
    let target = Block::of(ipv6).as_number();
    vec![
        format!("ip saddr {ipv4} counter drop"),
        "# Solicitations are claims of their source, advertisements and redirects of their target."
            .to_string(),
        format!("ip6 saddr {ipv6} counter drop"),
        format!(
            "meta protocol ip6 icmpv6 type {{ nd-neighbor-advert, nd-redirect }} @th,64,128 {target} counter drop"
        ),
    ]
}

/// The bridge would learn from a frame of any protocol that the other guest is here.
fn sender_of_another(guest: &Guest, taken: &Taken) -> String {
    but_own(
        "ether saddr",
        &guest.macs,
        format!("ether saddr @{} counter drop", taken.macs),
    )
}

/// Whatever frame comes out of a bridge port: it claims nothing that is another's.
fn frames_by_port(guest: &Guest, taken: &Taken) -> Vec<String> {
    let mut rules = Vec::new();
    // ARP. Probes have no sender address and are not learned from.
    if guest.ipv4.is_empty() {
        rules.push(format!("{ARP} arp saddr ip @{} counter drop", taken.ipv4));
    } else {
        let own = with(
            &guest.ipv4,
            Block {
                address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                length: 32,
            },
        );
        rules.push(format!(
            "{ARP} {} counter drop",
            none_of("arp saddr ip", &own)
        ));
        if !guest.macs.is_empty() {
            rules.push(format!(
                "{ARP} {} counter drop",
                none_of("arp saddr ether", &guest.macs)
            ));
        }
    }
    // Neighbour discovery. The source of a solicitation (of a neighbour or of a router), a router's advertisement or a
    // redirect is learned when a link-layer address comes with it; of a neighbour's advertisement, the target is.
    // These are the types from 133 to 137 (nft reads no range of names, they have hyphens).
    const SAYS: &str = "meta protocol ip6 icmpv6 type 133-137";
    const ADVERTISES: &str = "meta protocol ip6 icmpv6 type nd-neighbor-advert";
    let own: Vec<Block> = guest
        .ipv6
        .iter()
        .chain(&guest.link_local)
        .copied()
        .collect();
    let own_targets: Vec<String> = own.iter().map(Block::as_number).collect();
    if !guest.ipv6.is_empty() {
        // Link-local addresses are made by guests and stand in no document: any that is nobody else's will do.
        let unspecified = Block::of(Ipv6Addr::UNSPECIFIED);
        let sources = with(&with(&own, LINK_LOCAL), unspecified);
        let targets: Vec<String> = with(&own, LINK_LOCAL)
            .iter()
            .map(Block::as_number)
            .collect();
        rules.push(format!(
            "{SAYS} {} counter drop",
            none_of("ip6 saddr", &sources)
        ));
        rules.push(format!(
            "{ADVERTISES} {} counter drop",
            none_of("@th,64,128", &targets)
        ));
    }
    let source_of_another = but_own(
        "ip6 saddr",
        &own,
        format!("ip6 saddr @{} counter drop", taken.ipv6),
    );
    rules.push(format!("{SAYS} {source_of_another}"));
    let target_of_another = but_own(
        "@th,64,128",
        &own_targets,
        format!("@th,64,128 @{} counter drop", taken.targets),
    );
    rules.push(format!("{ADVERTISES} {target_of_another}"));
    rules
}

/// What a guest on a bridge sends to the metadata addresses.
fn requests_by_port(guest: &Guest, taken: &Taken, bridge_mac: Option<&str>) -> Vec<String> {
    let mut rules = Vec::new();
    if !guest.macs.is_empty() {
        rules.push(format!(
            "{} counter drop",
            none_of("ether saddr", &guest.macs)
        ));
    }
    rules.push(limit());
    if let Some(mac) = bridge_mac {
        // The frame may be addressed to a gateway that is another box, or to everybody.
        rules.push(format!(
            "ether daddr set {} meta pkttype set host",
            mac.to_ascii_lowercase()
        ));
    }
    rules.push(NEIGHBOURS_ASK.to_string());
    match guest.ipv4.is_empty() {
        true => rules.push(format!("ip saddr @{} counter drop", taken.ipv4)),
        false => rules.push(format!("{} counter drop", none_of("ip saddr", &guest.ipv4))),
    }
    let own: Vec<Block> = guest
        .ipv6
        .iter()
        .chain(&guest.link_local)
        .copied()
        .collect();
    if !guest.ipv6.is_empty() {
        // No link-local address but those that follow from its MACs: by neighbour discovery anybody could claim another.
        rules.push(format!("{} counter drop", none_of("ip6 saddr", &own)));
    } else {
        if !guest.link_local.is_empty() {
            rules.push(format!(
                "ip6 saddr {LINK_LOCAL} {} counter drop",
                none_of("ip6 saddr", &guest.link_local)
            ));
        }
        rules.push(but_own(
            "ip6 saddr",
            &own,
            format!("ip6 saddr @{} counter drop", taken.ipv6),
        ));
    }
    rules
}

fn limit() -> String {
    format!(
        "limit rate over {PACKETS_A_SECOND}/second burst {PACKETS_A_SECOND} packets counter drop"
    )
}

/// The sets of what a bridge's guests own. They are named by a digest of the bridge's name, which nft could not hold.
struct Taken {
    macs: String,
    ipv4: String,
    ipv6: String,
    targets: String,
}

impl Taken {
    fn on(bridge: &str) -> Taken {
        let bridge = digest(&[bridge]);
        let name = |what: &str| format!("{what}-{bridge}");
        Taken {
            macs: name("macs"),
            ipv4: name("ipv4"),
            ipv6: name("ipv6"),
            targets: name("nd-targets"),
        }
    }
}

/// A rule that is for everything but one's own.
fn but_own(what: &str, own: &[impl std::fmt::Display], rule: String) -> String {
    if own.is_empty() {
        rule
    } else {
        format!("{} {rule}", none_of(what, own))
    }
}

/// The condition that it is none of these.
///
/// A few are compared one by one. The kernel finds an anonymous set by walking through all of them: with nine of them for
/// each of 1,000 guests, loading took half a minute and replacing a whole one, and now it is a second and a half.
fn none_of(what: &str, elements: &[impl std::fmt::Display]) -> String {
    const FEW: usize = 6;
    if elements.len() > FEW {
        let elements: Vec<String> = elements.iter().map(|element| element.to_string()).collect();
        return format!("{what} != {{ {} }}", elements.join(", "));
    }
    let each: Vec<String> = elements
        .iter()
        .map(|element| format!("{what} != {element}"))
        .collect();
    each.join(" ")
}

#[cfg(test)]
mod tests;
