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

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::instance::InstanceId;

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
pub fn script(guests: &[GuestWay], addresses: MetadataAddresses) -> Result<String, Vec<(InstanceId, String)>> {
    let tables = tables(guests, addresses)?;
    let mut text =
        String::from("# The guests' way to the metadata service. Written by imdsd: it replaces these tables.\n");
    for table in &tables {
        table.write(&mut text);
    }
    Ok(text)
}

/// The guests that lack rules, or have those of another document or version, and what is missing.
///
/// `listed` is what `nft --json list ruleset` printed. The chains of a guest carry a digest of all that concerns it in
/// their names; the shared chains are known by their hooks and the number of their rules.
pub fn lacking(listed: &Value, guests: &[GuestWay], addresses: MetadataAddresses) -> Vec<(InstanceId, String)> {
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
        let missing = needed.flat_map(|table| table.missing(&listed, index)).next();
        lacking.extend(missing.map(|what| (guest.instance.clone(), what)));
    }
    lacking
}

/// Whether anything of these tables is there at all, of whatever guests.
pub fn are_loaded(listed: &Value) -> bool {
    let entries = listed["nftables"].as_array().into_iter().flatten();
    entries.filter_map(|entry| entry.get("table")).any(|table| table["name"] == TABLE)
}

const INET: &str = "inet";
const BRIDGE: &str = "bridge";
/// The name of our tables.
const TABLE: &str = "imdsd";

/// Both tables, or what is wrong with the guests.
fn tables(guests: &[GuestWay], addresses: MetadataAddresses) -> Result<[Table; 2], Vec<(InstanceId, String)>> {
    let guests = read(guests, addresses)?;
    Ok([inet_table(&guests, addresses), bridge_table(&guests, addresses)])
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
            "# Equal addresses behind two interfaces would share an entry of connection tracking.".to_string(),
            format!("iifname @served ip daddr {ipv4} notrack"),
            format!("iifname @served ip6 daddr {ipv6} notrack"),
            "iifname vmap @guests".to_string(),
        ],
    );
    table.chain(
        "leaving",
        Some("output priority raw"),
        None,
        [format!("oifname @served ip saddr {ipv4} notrack"), format!("oifname @served ip6 saddr {ipv6} notrack")],
    );
    table.chain("metadata-claims", None, None, claims_of_addresses(addresses));

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
        table.element("guests", Some(index), format!("\"{name}\" : jump {guest_chain}"));
    }
    table
}

/// What a guest on an interface of its own sends to the metadata addresses.
fn requests_by_interface(guest: &Guest) -> Vec<String> {
    let mut rules = Vec::new();
    if !guest.macs.is_empty() {
        rules.push(format!("{} counter drop", none_of("ether saddr", &guest.macs)));
    }
    rules.push(limit());
    if !guest.ipv4.is_empty() {
        rules.push(format!("{} counter drop", none_of("ip saddr", &guest.ipv4)));
    }
    if !guest.ipv6.is_empty() {
        // Link-local addresses are the guest's own to choose here: nobody else is on the link.
        rules.push(NEIGHBOURS_ASK.to_string());
        rules.push(format!("{} counter drop", none_of("ip6 saddr", &with(&guest.ipv6, LINK_LOCAL))));
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
    table.chain("arriving", Some("prerouting priority -300"), None, ["iifname vmap @guests".to_string()]);
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
    table.chain("to-guests", Some("forward priority -200"), None, ["oifname @ports jump metadata-claims".to_string()]);
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
        "# Two tags, the outer of which is none: no rule below would see what is in the frame.".to_string(),
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
        let Way::BridgePort { bridge, bridge_mac, port, mark } = &guest.way.way else { continue };
        let taken = Taken::on(bridge);
        for (name, form) in [
            (&taken.macs, "type ether_addr"),
            (&taken.ipv4, "type ipv4_addr\n    flags interval\n    auto-merge"),
            (&taken.ipv6, "type ipv6_addr\n    flags interval\n    auto-merge"),
            (&taken.targets, "typeof @th,64,128\n    flags interval\n    auto-merge"),
        ] {
            table.collection("set", name, form);
        }
        let ipv6_taken = guest.ipv6.iter().chain(&guest.link_local);
        guest.macs.iter().for_each(|mac| table.element(&taken.macs, None, mac.clone()));
        guest.ipv4.iter().for_each(|block| table.element(&taken.ipv4, None, block.to_string()));
        ipv6_taken.clone().for_each(|block| table.element(&taken.ipv6, None, block.to_string()));
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
        let mut rules = vec![guest.headline(), "jump metadata-claims".to_string(), format!("jump {sender_chain}")];
        rules.extend(frames);
        rules.push(format!("ip daddr {ipv4} jump {requests_chain}"));
        rules.push(format!("ip6 daddr {ipv6} jump {requests_chain}"));
        table.chain(&sender_chain, None, Some(index), [sender]);
        table.chain(&requests_chain, None, Some(index), requests);
        table.chain(&guest_chain, None, Some(index), rules);
        table.element("senders", Some(index), format!("\"{port}\" : jump {sender_chain}"));
        table.element("guests", Some(index), format!("\"{port}\" : jump {guest_chain}"));
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
        "# Solicitations are claims of their source, advertisements and redirects of their target.".to_string(),
        format!("ip6 saddr {ipv6} counter drop"),
        format!("meta protocol ip6 icmpv6 type {{ nd-neighbor-advert, nd-redirect }} @th,64,128 {target} counter drop"),
    ]
}

/// The bridge would learn from a frame of any protocol that the other guest is here.
fn sender_of_another(guest: &Guest, taken: &Taken) -> String {
    but_own("ether saddr", &guest.macs, format!("ether saddr @{} counter drop", taken.macs))
}

/// Whatever frame comes out of a bridge port: it claims nothing that is another's.
fn frames_by_port(guest: &Guest, taken: &Taken) -> Vec<String> {
    let mut rules = Vec::new();
    // ARP. Probes have no sender address and are not learned from.
    if guest.ipv4.is_empty() {
        rules.push(format!("{ARP} arp saddr ip @{} counter drop", taken.ipv4));
    } else {
        let own = with(&guest.ipv4, Block { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), length: 32 });
        rules.push(format!("{ARP} {} counter drop", none_of("arp saddr ip", &own)));
        if !guest.macs.is_empty() {
            rules.push(format!("{ARP} {} counter drop", none_of("arp saddr ether", &guest.macs)));
        }
    }
    // Neighbour discovery. The source of a solicitation (of a neighbour or of a router), a router's advertisement or a
    // redirect is learned when a link-layer address comes with it; of a neighbour's advertisement, the target is.
    // These are the types from 133 to 137 (nft reads no range of names, they have hyphens).
    const SAYS: &str = "meta protocol ip6 icmpv6 type 133-137";
    const ADVERTISES: &str = "meta protocol ip6 icmpv6 type nd-neighbor-advert";
    let own: Vec<Block> = guest.ipv6.iter().chain(&guest.link_local).copied().collect();
    let own_targets: Vec<String> = own.iter().map(Block::as_number).collect();
    if !guest.ipv6.is_empty() {
        // Link-local addresses are made by guests and stand in no document: any that is nobody else's will do.
        let unspecified = Block::of(Ipv6Addr::UNSPECIFIED);
        let sources = with(&with(&own, LINK_LOCAL), unspecified);
        let targets: Vec<String> = with(&own, LINK_LOCAL).iter().map(Block::as_number).collect();
        rules.push(format!("{SAYS} {} counter drop", none_of("ip6 saddr", &sources)));
        rules.push(format!("{ADVERTISES} {} counter drop", none_of("@th,64,128", &targets)));
    }
    let source_of_another = but_own("ip6 saddr", &own, format!("ip6 saddr @{} counter drop", taken.ipv6));
    rules.push(format!("{SAYS} {source_of_another}"));
    let target_of_another = but_own("@th,64,128", &own_targets, format!("@th,64,128 @{} counter drop", taken.targets));
    rules.push(format!("{ADVERTISES} {target_of_another}"));
    rules
}

/// What a guest on a bridge sends to the metadata addresses.
fn requests_by_port(guest: &Guest, taken: &Taken, bridge_mac: Option<&str>) -> Vec<String> {
    let mut rules = Vec::new();
    if !guest.macs.is_empty() {
        rules.push(format!("{} counter drop", none_of("ether saddr", &guest.macs)));
    }
    rules.push(limit());
    if let Some(mac) = bridge_mac {
        // The frame may be addressed to a gateway that is another box, or to everybody.
        rules.push(format!("ether daddr set {} meta pkttype set host", mac.to_ascii_lowercase()));
    }
    rules.push(NEIGHBOURS_ASK.to_string());
    match guest.ipv4.is_empty() {
        true => rules.push(format!("ip saddr @{} counter drop", taken.ipv4)),
        false => rules.push(format!("{} counter drop", none_of("ip saddr", &guest.ipv4))),
    }
    let own: Vec<Block> = guest.ipv6.iter().chain(&guest.link_local).copied().collect();
    if !guest.ipv6.is_empty() {
        // No link-local address but those that follow from its MACs: by neighbour discovery anybody could claim another.
        rules.push(format!("{} counter drop", none_of("ip6 saddr", &own)));
    } else {
        if !guest.link_local.is_empty() {
            rules.push(format!("ip6 saddr {LINK_LOCAL} {} counter drop", none_of("ip6 saddr", &guest.link_local)));
        }
        rules.push(but_own("ip6 saddr", &own, format!("ip6 saddr @{} counter drop", taken.ipv6)));
    }
    rules
}

fn limit() -> String {
    format!("limit rate over {PACKETS_A_SECOND}/second burst {PACKETS_A_SECOND} packets counter drop")
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
        Taken { macs: name("macs"), ipv4: name("ipv4"), ipv6: name("ipv6"), targets: name("nd-targets") }
    }
}

/// A rule that is for everything but one's own.
fn but_own(what: &str, own: &[impl std::fmt::Display], rule: String) -> String {
    if own.is_empty() { rule } else { format!("{} {rule}", none_of(what, own)) }
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
    let each: Vec<String> = elements.iter().map(|element| format!("{what} != {element}")).collect();
    each.join(" ")
}

// ---------------------------------------------------------------------------------------------------------------------
// Guests, read

/// A guest whose names and addresses nft can hold.
struct Guest<'a> {
    way: &'a GuestWay,
    macs: Vec<String>,
    ipv4: Vec<Block>,
    ipv6: Vec<Block>,
    /// The link-local addresses that follow from its MACs.
    link_local: Vec<Block>,
}

impl Guest<'_> {
    /// What an operator sees first, in the script.
    fn headline(&self) -> String {
        let mut line = match &self.way.way {
            Way::Interface { name } => format!("# {} behind {name}", self.way.instance),
            Way::BridgePort { bridge, port, .. } => format!("# {} behind {port} of {bridge}", self.way.instance),
        };
        let lists = [("MACs", self.macs.is_empty()), ("IPv4", self.ipv4.is_empty()), ("IPv6", self.ipv6.is_empty())];
        let none: Vec<&str> = lists.iter().filter(|(_, is_empty)| *is_empty).map(|(list, _)| *list).collect();
        if !none.is_empty() {
            let _ = write!(line, "; no list of its {}, so only those of others are kept from it", none.join(", "));
        }
        line
    }

    fn digest(&self, texts: &[&str]) -> String {
        let way = format!("{:?}", self.way.way);
        digest(&[&[way.as_str()], texts].concat())
    }
}

/// Twelve hexadecimal digits.
fn digest(texts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    }
    hash.finalize()[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads every guest and reports every fault.
fn read(guests: &[GuestWay], addresses: MetadataAddresses) -> Result<Vec<Guest<'_>>, Vec<(InstanceId, String)>> {
    let mut faults: Vec<(InstanceId, String)> = Vec::new();
    let mut interfaces: BTreeMap<&str, &InstanceId> = BTreeMap::new();
    let mut marks: BTreeMap<u32, &InstanceId> = BTreeMap::new();
    let bridges: BTreeSet<&str> = guests.iter().filter_map(|guest| guest.way.bridge()).collect();
    let mut sound = Vec::new();
    for guest in guests {
        let mut wrong = Vec::new();
        let name = guest.way.interface();
        wrong.extend([Some(name), guest.way.bridge()].into_iter().flatten().filter_map(fault_of_name));
        if let Some(other) = interfaces.insert(name, &guest.instance) {
            wrong.push(format!("'{name}' is a way in already, of {other}"));
        }
        if bridges.contains(name) {
            wrong.push(format!("'{name}' is a bridge that guests are on"));
        }
        let mut macs = Vec::new();
        let mut link_local = Vec::new();
        for mac in &guest.macs {
            match read_mac(mac) {
                Some(octets) => {
                    macs.push(mac.to_ascii_lowercase());
                    link_local.push(Block::of(eui_64(octets)));
                }
                None => wrong.push(format!("'{mac}' is not the MAC of an interface")),
            }
        }
        if let Way::BridgePort { bridge_mac, mark, .. } = &guest.way {
            if let Some(mac) = bridge_mac {
                if read_mac(mac).is_none() {
                    wrong.push(format!("'{mac}' is not the MAC of a bridge"));
                }
                if macs.contains(&mac.to_ascii_lowercase()) {
                    wrong.push(format!("'{mac}' is the bridge's own MAC"));
                }
            }
            match marks.insert(*mark, &guest.instance) {
                _ if *mark == 0 => wrong.push("0 is the mark of nobody".to_string()),
                Some(other) if *other != guest.instance => wrong.push(format!("the mark {mark:#x} is {other}'s")),
                _ => {}
            }
        }
        let blocks = |single: Vec<Block>, prefixes: Vec<Block>, wrong: &mut Vec<String>| {
            let blocks: Vec<Block> = single.into_iter().chain(prefixes).collect();
            wrong.extend(blocks.iter().filter_map(|block| block.fault(addresses)));
            without_the_covered(&blocks)
        };
        let ipv4 = blocks(
            guest.ipv4.iter().map(|&address| Block::of(address)).collect(),
            guest.ipv4_prefixes.iter().map(|&(network, length)| Block { address: network.into(), length }).collect(),
            &mut wrong,
        );
        let ipv6 = blocks(
            guest.ipv6.iter().map(|&address| Block::of(address)).collect(),
            guest.ipv6_prefixes.iter().map(|&(network, length)| Block { address: network.into(), length }).collect(),
            &mut wrong,
        );
        // An anonymous set refuses an element that another one covers.
        macs.sort();
        macs.dedup();
        let link_local = without_the_covered(&link_local);
        let link_local = link_local.into_iter().filter(|made| !ipv6.iter().any(|listed| listed.covers(made))).collect();
        faults.extend(wrong.into_iter().map(|what| (guest.instance.clone(), what)));
        sound.push(Guest { way: guest, macs, ipv4, ipv6, link_local });
    }
    if faults.is_empty() { Ok(sound) } else { Err(faults) }
}

impl Way {
    fn interface(&self) -> &str {
        match self {
            Way::Interface { name } => name,
            Way::BridgePort { port, .. } => port,
        }
    }

    fn bridge(&self) -> Option<&str> {
        match self {
            Way::Interface { .. } => None,
            Way::BridgePort { bridge, .. } => Some(bridge),
        }
    }
}

/// A name that the kernel can't have, or that nft reads as something else: it ends a string at `"`, and `tap*` is every tap.
fn fault_of_name(name: &str) -> Option<String> {
    let can_be_held = |b: u8| b.is_ascii_graphic() && !b"\"\\*/:".contains(&b);
    let is_name = matches!(name.len(), 1..=15) && name != "." && name != ".." && name.bytes().all(can_be_held);
    (!is_name).then(|| format!("{name:?} is not an interface name that nft can hold"))
}

/// `02:00:…`: six octets, not a group's and not nobody's.
fn read_mac(text: &str) -> Option<[u8; 6]> {
    let mut octets = [0; 6];
    let mut parts = text.split(':');
    for octet in &mut octets {
        let part = parts.next().filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))?;
        *octet = u8::from_str_radix(part, 16).ok()?;
    }
    (parts.next().is_none() && octets[0] & 1 == 0 && octets != [0; 6]).then_some(octets)
}

/// The link-local address that an interface makes of its MAC.
fn eui_64([a, b, c, d, e, f]: [u8; 6]) -> Ipv6Addr {
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// An address, or a network of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Block {
    address: IpAddr,
    length: u8,
}

const LINK_LOCAL: Block = Block { address: IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), length: 10 };

impl Block {
    fn of(address: impl Into<IpAddr>) -> Block {
        let address = address.into();
        Block { address, length: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// The first and the last address. IPv4 is counted in the same width.
    fn range(&self) -> (u128, u128) {
        let (number, width) = match self.address {
            IpAddr::V4(address) => (u128::from(u32::from(address)), 32),
            IpAddr::V6(address) => (u128::from(address), 128),
        };
        let hosts = 1u128.checked_shl(width - u32::from(self.length)).map_or(u128::MAX, |count| count - 1);
        (number & !hosts, number | hosts)
    }

    fn covers(&self, other: &Block) -> bool {
        let ((first, last), (others_first, others_last)) = (self.range(), other.range());
        self.address.is_ipv4() == other.address.is_ipv4() && first <= others_first && others_last <= last
    }

    /// As nft has it in a payload that it knows no type for.
    fn as_number(&self) -> String {
        match self.range() {
            (first, last) if first == last => format!("{first:#034x}"),
            (first, last) => format!("{first:#034x}-{last:#034x}"),
        }
    }

    /// Why it can't be a guest's.
    fn fault(&self, addresses: MetadataAddresses) -> Option<String> {
        let width = if self.address.is_ipv4() { 32 } else { 128 };
        if self.length > width || self.length == 0 {
            return Some(format!("{}/{} is not a prefix", self.address, self.length));
        }
        let service = [Block::of(addresses.ipv4), Block::of(addresses.ipv6)];
        if service.iter().any(|address| self.covers(address)) {
            return Some(format!("{self} is the metadata service's"));
        }
        let address = self.address;
        let is_nobodys = address.is_unspecified() || address.is_multicast() || address.is_loopback();
        is_nobodys.then(|| format!("{self} can't be a guest's"))
    }
}

impl std::fmt::Display for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (first, last) = self.range();
        let first_address = match self.address {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from(first as u32)),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(first)),
        };
        if first == last { write!(f, "{first_address}") } else { write!(f, "{first_address}/{}", self.length) }
    }
}

/// The same addresses, each in one block only.
fn without_the_covered(blocks: &[Block]) -> Vec<Block> {
    let mut kept: Vec<Block> = Vec::new();
    for block in blocks.iter().filter(|block| block.length <= if block.address.is_ipv4() { 32 } else { 128 }) {
        if !kept.iter().any(|other| other.covers(block)) {
            kept.retain(|other| !block.covers(other));
            kept.push(*block);
        }
    }
    kept
}

fn with(blocks: &[Block], one: Block) -> Vec<Block> {
    without_the_covered(&[blocks, &[one]].concat())
}

// ---------------------------------------------------------------------------------------------------------------------
// Tables, written and compared

/// A table as data, so that what is written and what is looked for are the same.
struct Table {
    family: &'static str,
    collections: Vec<Collection>,
    chains: Vec<Chain>,
}

/// A set or a map.
struct Collection {
    kind: &'static str,
    name: String,
    form: &'static str,
    /// With the guest whose way in it is, where it is one's.
    elements: Vec<(Option<usize>, String)>,
}

struct Chain {
    name: String,
    /// `prerouting priority -300`; none for a chain that others jump to.
    hook: Option<&'static str>,
    /// The guest whose chain it is; none for the shared ones.
    guest: Option<usize>,
    /// Rules, and comments that begin with `#`.
    lines: Vec<String>,
}

impl Chain {
    fn rules(&self) -> usize {
        self.lines.iter().filter(|line| !line.starts_with('#')).count()
    }
}

impl Table {
    fn new(family: &'static str) -> Table {
        Table { family, collections: Vec::new(), chains: Vec::new() }
    }

    fn chain(
        &mut self,
        name: &str,
        hook: Option<&'static str>,
        guest: Option<usize>,
        lines: impl IntoIterator<Item = String>,
    ) {
        self.chains.push(Chain { name: name.to_string(), hook, guest, lines: lines.into_iter().collect() });
    }

    /// Has a set or map of this name from here on.
    fn collection(&mut self, kind: &'static str, name: &str, form: &'static str) {
        if !self.collections.iter().any(|collection| collection.name == name) {
            self.collections.push(Collection { kind, name: name.to_string(), form, elements: Vec::new() });
        }
    }

    fn element(&mut self, name: &str, guest: Option<usize>, element: String) {
        let collection = self.collections.iter_mut().find(|collection| collection.name == name);
        collection.expect("the collection is declared before it is filled").elements.push((guest, element));
    }

    /// What every guest's digest covers.
    fn shared_text(&self) -> String {
        self.chains.iter().map(|chain| format!("{} {:?} {:?}\n", chain.name, chain.hook, chain.lines)).collect()
    }

    fn write(&self, text: &mut String) {
        let _ = writeln!(text, "\nadd table {} {TABLE}\ndelete table {} {TABLE}", self.family, self.family);
        if self.chains.is_empty() {
            return;
        }
        let _ = writeln!(text, "table {} {TABLE} {{", self.family);
        for Collection { kind, name, form, elements } in &self.collections {
            let _ = writeln!(text, "  {kind} {name} {{\n    {form}");
            let elements: BTreeSet<&str> = elements.iter().map(|(_, element)| element.as_str()).collect();
            let elements: Vec<&str> = elements.into_iter().collect();
            if !elements.is_empty() {
                let _ = writeln!(text, "    elements = {{\n      {}\n    }}", elements.join(",\n      "));
            }
            text.push_str("  }\n");
        }
        // Those with hooks last, as what they lead to is known by then.
        let order = |chain: &&Chain| (chain.hook.is_some(), chain.guest.is_some());
        let mut chains: Vec<&Chain> = self.chains.iter().collect();
        chains.sort_by_key(order);
        for chain in chains {
            let _ = writeln!(text, "  chain {} {{", chain.name);
            if let Some(hook) = chain.hook {
                let _ = writeln!(text, "    type filter hook {hook}; policy accept;");
            }
            for line in &chain.lines {
                let _ = writeln!(text, "    {line}");
            }
            text.push_str("  }\n");
        }
        text.push_str("}\n");
    }

    /// What one guest needs of this table and is not in the list.
    fn missing(&self, listed: &Listed, guest: usize) -> Vec<String> {
        let (family, concerns) = (self.family, |whose: Option<usize>| whose.is_none_or(|index| index == guest));
        let mut missing = Vec::new();
        for chain in self.chains.iter().filter(|chain| concerns(chain.guest)) {
            let Some(found) = listed.chains.get(&(family, chain.name.as_str())) else {
                missing.push(format!("chain {} of table {family} {TABLE} is not there", chain.name));
                continue;
            };
            if found.rules != chain.rules() {
                missing.push(format!("chain {} of table {family} {TABLE} was changed", chain.name));
            }
            let hook = chain.hook.map(|hook| hook.split(' ').next().unwrap_or_default());
            if found.hook != hook {
                missing.push(format!("chain {} of table {family} {TABLE} hangs elsewhere", chain.name));
            }
        }
        for collection in &self.collections {
            for (whose, element) in &collection.elements {
                let name = collection.name.as_str();
                let is_there = || listed.elements.get(&(family, name)).is_some_and(|all| all.contains(element));
                if *whose == Some(guest) && !is_there() {
                    missing.push(format!("{} {name} of table {family} {TABLE} has no {element}", collection.kind));
                }
            }
        }
        missing
    }
}

/// What `nft --json list ruleset` says about our tables.
#[derive(Default)]
struct Listed<'a> {
    chains: BTreeMap<(&'a str, &'a str), ListedChain<'a>>,
    /// Elements in the form that the script has.
    elements: BTreeMap<(&'a str, &'a str), BTreeSet<String>>,
}

struct ListedChain<'a> {
    hook: Option<&'a str>,
    rules: usize,
}

impl<'a> Listed<'a> {
    fn read(listed: &'a Value) -> Listed<'a> {
        let mut found = Listed::default();
        for entry in listed["nftables"].as_array().into_iter().flatten() {
            let of = |kind: &str| {
                let object = entry.get(kind).filter(|object| kind_is_ours(object))?;
                Some((object, object["family"].as_str()?))
            };
            if let Some((chain, family)) = of("chain")
                && let Some(name) = chain["name"].as_str()
            {
                found.chains.insert((family, name), ListedChain { hook: chain["hook"].as_str(), rules: 0 });
            }
            // nft prints a table's rules behind its chains.
            if let Some((rule, family)) = of("rule")
                && let Some(chain) = rule["chain"].as_str().and_then(|chain| found.chains.get_mut(&(family, chain)))
            {
                chain.rules += 1;
            }
            if let Some((collection, family)) = of("set").or_else(|| of("map"))
                && let Some(name) = collection["name"].as_str()
            {
                let elements = collection["elem"].as_array().into_iter().flatten().filter_map(element_as_written);
                found.elements.insert((family, name), elements.collect());
            }
        }
        found
    }
}

fn kind_is_ours(object: &Value) -> bool {
    object["table"] == TABLE
}

/// `"tap0"`, `"tap0" : jump guest-…`, `"tap0" : 0x1001`, `"tap0" . 0x1001`, `0x1001`; what it is not is not ours.
fn element_as_written(element: &Value) -> Option<String> {
    let word = |value: &Value| match value {
        Value::String(name) => Some(format!("\"{name}\"")),
        Value::Number(mark) => Some(format!("{:#x}", mark.as_u64()?)),
        Value::Object(verdict) => Some(format!("jump {}", verdict.get("jump")?["target"].as_str()?)),
        _ => None,
    };
    match element {
        Value::Array(pair) => Some(format!("{} : {}", word(pair.first()?)?, word(pair.get(1)?)?)),
        Value::Object(object) if object.contains_key("concat") => {
            let parts: Option<Vec<String>> = object["concat"].as_array()?.iter().map(word).collect();
            Some(parts?.join(" . "))
        }
        value => word(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: u32) -> InstanceId {
        InstanceId::parse(&format!("i-0000000{digit}")).unwrap()
    }

    fn guest(digit: u32, way: Way) -> GuestWay {
        GuestWay {
            instance: id(digit),
            way,
            macs: vec![format!("02:00:00:00:00:0{digit}")],
            ipv4: vec![Ipv4Addr::new(10, 0, 0, digit as u8)],
            ipv4_prefixes: Vec::new(),
            ipv6: vec![Ipv6Addr::new(0xfd11, 0, 0, 0, 0, 0, 0, digit as u16)],
            ipv6_prefixes: Vec::new(),
        }
    }

    fn port(name: &str, mark: u32) -> Way {
        let bridge_mac = Some("02:00:00:00:00:FE".to_string());
        Way::BridgePort { bridge: "br0".to_string(), bridge_mac, port: name.to_string(), mark }
    }

    fn interface(name: &str) -> Way {
        Way::Interface { name: name.to_string() }
    }

    fn text(guests: &[GuestWay]) -> String {
        script(guests, MetadataAddresses::EC2).unwrap()
    }

    #[test]
    fn the_script_says_for_each_guest_what_it_may() {
        let bridged = text(&[guest(1, port("tap1", 0x1001)), guest(2, port("tap2", 0x1002))]);
        let own = text(&[guest(4, interface("tap4"))]);
        let mut unknown = guest(3, port("tap3", 3));
        (unknown.macs, unknown.ipv4, unknown.ipv6) = Default::default();
        let unknown = text(&[guest(1, port("tap1", 0x1001)), unknown]);
        #[rustfmt::skip]
        let table: &[(&str, &str)] = &[
            (&bridged, "# i-00000001 behind tap1 of br0\n"),
            (&bridged, "\"tap1\" : 0x1001,\n"),
            (&bridged, "\"tap2\" . 0x1002\n"),
            (&bridged, "ether saddr != 02:00:00:00:00:01 ether saddr @macs-"),
            (&bridged, "meta protocol arp arp saddr ip != 10.0.0.1 arp saddr ip != 0.0.0.0 counter drop"),
            (&bridged, "ip saddr != 10.0.0.1 counter drop"),
            (&bridged, "ip6 saddr != fd11::1 ip6 saddr != fe80::ff:fe00:1 counter drop"),
            (&bridged, "@th,64,128 0xfd000ec2000000000000000000000254 counter drop"),
            (&bridged, "ether daddr set 02:00:00:00:00:fe meta pkttype set host"),
            (&bridged, "iifname @served ip daddr 169.254.169.254 notrack"),
            (&own, "# i-00000004 behind tap4\n"),
            (&own, "ether saddr != 02:00:00:00:00:04 counter drop"),
            (&own, "ip6 saddr != fd11::4 ip6 saddr != fe80::/10 counter drop"),
            (&own, "delete table bridge imdsd\n"),
            (&unknown, "# i-00000003 behind tap3 of br0; no list of its MACs, IPv4, IPv6, so only those of others are kept from it\n"),
            (&unknown, "    meta protocol arp arp saddr ip @ipv4-"),
        ];
        for (script, line) in table {
            assert!(script.contains(line), "{line} is not in\n{script}");
        }
        assert!(!own.contains("table bridge imdsd {"));
        // nft looks for ARP and ICMPv6 behind a tag only when it is told to.
        for line in bridged.lines().filter(|line| line.contains(" arp saddr") || line.contains(" icmpv6 type")) {
            assert!(line.contains("meta protocol "), "{line}");
        }
        // One limit for each way in, and for both families.
        assert_eq!(bridged.matches("limit rate over 1024/second").count(), 2);
    }

    #[test]
    fn every_fault_is_reported_with_its_guest() {
        let with = |change: fn(&mut GuestWay)| {
            let mut faulty = guest(2, port("tap2", 2));
            change(&mut faulty);
            script(&[guest(1, port("tap1", 1)), faulty], MetadataAddresses::EC2)
        };
        #[rustfmt::skip]
        type Change = fn(&mut GuestWay);
        let table: &[(Change, &str)] = &[
            (|way| way.way = interface("tap*"), "\"tap*\" is not an interface name that nft can hold"),
            (|way| way.way = interface(""), "\"\" is not an interface name that nft can hold"),
            (
                |way| way.way = interface("a\" drop; \""),
                "\"a\\\" drop; \\\"\" is not an interface name that nft can hold",
            ),
            (|way| way.way = interface("tap\n"), "\"tap\\n\" is not an interface name that nft can hold"),
            (|way| way.way = interface("tap\\"), "\"tap\\\\\" is not an interface name that nft can hold"),
            (|way| way.way = interface("a name"), "\"a name\" is not an interface name that nft can hold"),
            (
                |way| way.way = interface("sixteen-letters-"),
                "\"sixteen-letters-\" is not an interface name that nft can hold",
            ),
            (|way| way.way = interface("täp"), "\"täp\" is not an interface name that nft can hold"),
            (|way| way.way = interface("br0"), "'br0' is a bridge that guests are on"),
            (|way| way.way = interface("tap1"), "'tap1' is a way in already, of i-00000001"),
            (|way| way.way = port("tap1", 2), "'tap1' is a way in already, of i-00000001"),
            (|way| way.way = port("tap2", 1), "the mark 0x1 is i-00000001's"),
            (|way| way.way = port("tap2", 0), "0 is the mark of nobody"),
            (|way| way.macs = vec!["02:00:00:00:00".into()], "'02:00:00:00:00' is not the MAC of an interface"),
            (|way| way.macs = vec!["02:00:00:00:00:+1".into()], "'02:00:00:00:00:+1' is not the MAC of an interface"),
            (|way| way.macs = vec!["03:00:00:00:00:01".into()], "'03:00:00:00:00:01' is not the MAC of an interface"),
            (|way| way.macs = vec!["00:00:00:00:00:00".into()], "'00:00:00:00:00:00' is not the MAC of an interface"),
            (|way| way.macs = vec!["02:00:00:00:00:fe".into()], "'02:00:00:00:00:FE' is the bridge's own MAC"),
            (|way| way.ipv4 = vec![Ipv4Addr::new(169, 254, 169, 254)], "169.254.169.254 is the metadata service's"),
            (|way| way.ipv4 = vec![Ipv4Addr::UNSPECIFIED], "0.0.0.0 can't be a guest's"),
            (
                |way| way.ipv4_prefixes = vec![(Ipv4Addr::new(169, 254, 0, 0), 16)],
                "169.254.0.0/16 is the metadata service's",
            ),
            (|way| way.ipv4_prefixes = vec![(Ipv4Addr::new(10, 0, 0, 0), 33)], "10.0.0.0/33 is not a prefix"),
            (|way| way.ipv6_prefixes = vec![(Ipv6Addr::UNSPECIFIED, 0)], "::/0 is not a prefix"),
            (|way| way.ipv6 = vec![MetadataAddresses::EC2.ipv6], "fd00:ec2::254 is the metadata service's"),
        ];
        for (change, fault) in table {
            assert_eq!(with(*change), Err(vec![(id(2), fault.to_string())]), "{fault}");
        }
        let both = with(|way| (way.way, way.macs) = (port("tap2", 0), vec![String::new()]));
        assert_eq!(both.unwrap_err().len(), 2);
    }

    #[test]
    fn an_address_stands_in_one_block_only() {
        let block = |address: &str, length| Block { address: address.parse().unwrap(), length };
        #[rustfmt::skip]
        let table: &[(&[Block], &str)] = &[
            (&[block("10.0.0.5", 32), block("10.0.0.5", 32)], "10.0.0.5"),
            (&[block("10.0.0.5", 32), block("10.0.0.9", 28)], "10.0.0.0/28"),
            (&[block("10.0.0.0", 28), block("10.0.0.5", 32)], "10.0.0.0/28"),
            (&[block("10.0.0.0", 28), block("10.0.0.16", 32)], "10.0.0.0/28, 10.0.0.16"),
            (&[block("fd11::5", 128), block("fd11::", 80)], "fd11::/80"),
            (&[block("fe80::5", 128), LINK_LOCAL], "fe80::/10"),
            (&[block("fd11::a00:5", 128), block("10.0.0.5", 32)], "fd11::a00:5, 10.0.0.5"),
        ];
        for (blocks, text) in table {
            let kept: Vec<String> = without_the_covered(blocks).iter().map(Block::to_string).collect();
            assert_eq!(kept.join(", "), *text);
        }
        let targets = "0xfe800000000000000000000000000000-0xfebfffffffffffffffffffffffffffff";
        assert_eq!(LINK_LOCAL.as_number(), targets);
        assert_eq!(eui_64([0x52, 0x54, 0, 0x12, 0x34, 0x56]).to_string(), "fe80::5054:ff:fe12:3456");
    }

    #[test]
    fn a_few_are_compared_and_many_are_a_set() {
        assert_eq!(none_of("ip saddr", &[1, 2]), "ip saddr != 1 ip saddr != 2");
        assert_eq!(none_of("ip saddr", &[1, 2, 3, 4, 5, 6, 7]), "ip saddr != { 1, 2, 3, 4, 5, 6, 7 }");
    }

    #[test]
    fn a_script_for_many_guests_is_made_at_once() {
        let many: Vec<GuestWay> =
            (1..=2000).map(|index| guest(index % 10, port(&format!("tap{index}"), index))).collect();
        assert!(text(&many).len() < 2000 * 4096);
    }
}
