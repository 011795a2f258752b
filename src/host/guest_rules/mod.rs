//! The host's packet rules: each guest reaches the metadata address as itself, and nothing else can
//! pose as that address or as that guest.
//!
//! [`script`] turns the host's guests into one script for `nft -f -`. [`lacking`] reads `nft --json
//! list ruleset` and returns the guests whose rules are missing. Nothing here runs `nft`: the
//! caller does, with the privilege it needs.
//!
//! What the kernel reports to the daemon about a request (the interface, or the bridge port's mark)
//! cannot be forged. The **reply** can go astray: on a bridge its path depends on the host's
//! neighbour cache and the bridge's forwarding table, and both learn from what guests send. So the
//! rules hold four lines of defence, each on its own:
//!
//! 1. No guest claims the metadata addresses, neither towards the host nor towards another guest.
//! 2. No guest on a bridge claims an address or a MAC of another guest: ARP, neighbour discovery,
//!    source MACs of any frame.
//! 3. A request comes from the guest's own MACs and addresses, with at most 1,024 packets a second,
//!    as on EC2 (EC2 counts by network interface; here the limit counts by interface or bridge
//!    port).
//! 4. A reply leaves a bridge only through the port whose mark its connection carries. This holds
//!    even where line 2 does not: against unlisted ports (an uplink), guests without a list of
//!    addresses, and frames flooded to every port.
//!
//! Every daemon has two tables of its own, of the families `inet` and `bridge` ([`TableName`]). They
//! are replaced as a whole in one transaction. Tables that earlier versions loaded, under a name
//! common to all daemons, are removed; no other table is touched. There is none of the family `arp`:
//! behind an interface of its own a guest can only mislead the host about itself, and ARP on a bridge
//! passes the bridge's own hooks first.
//!
//! What the operator must know:
//!
//! - Marks reach the daemon only with `net.ipv4.tcp_fwmark_accept=1` (it applies to IPv6 too).
//!   Without it no bridged guest is identified, and line 4 drops every reply.
//! - Replies go to a bridged guest directly: the host needs the guest's addresses on-link on the
//!   bridge. A reply that would be routed through a gateway is dropped.
//! - Packets to and from the metadata addresses are not tracked. An input chain that accepts only
//!   `ct state established` must accept the metadata addresses as well.
//! - LLDP's group address (01:80:c2:00:00:0e) passes no hook of a bridge, and the bridge learns
//!   from such frames. Only `ip link set br0 type bridge no_linklocal_learn 1` keeps a guest from
//!   moving another guest's MAC to its own port with them. Line 4 holds regardless; without the
//!   setting, replies are lost.
//! - Load the rules before the guest starts: a port that is not listed yet is not served, but its
//!   frames are not filtered. Router advertisements never are: `accept_ra=0` on the bridge is up to
//!   the host.
//! - A guest whose document lists addresses is held to them, in ARP and neighbour discovery too.
//!   Without a list for a family, only the addresses of other guests are blocked. IPv6 addresses
//!   that a guest chooses for itself (privacy extensions) are in no document: they get no metadata
//!   and, if the guest's other addresses are listed, cannot use the bridge.
//! - Do not load the output of `nft list`: it omits `meta protocol`, and with that the protection
//!   against tagged frames.
//!
//! Refused: interface names that `nft` reads as something else, addresses that cannot be a guest's,
//! and ports, interfaces or marks that two guests share. Not covered: an IPv6 neighbour claim in
//! fragments on a host that accepts them (`suppress_frag_ndisc=0`), and availability against ports
//! that are not listed.
//!
//! Tested with nft 1.0.6. It has no `icmpv6 taddr`, so the target of a claim is read as
//! `@th,64,128`, which starts after every extension header. The kernel needs `NF_TABLES_BRIDGE`
//! even for a host without bridges (the script removes an earlier bridge table); `meta ibrname`
//! (`NFT_BRIDGE_META`) is not in every kernel, so rules match ports and never bridges.

mod block;
mod bridge;
mod checked;
mod conditions;
mod inet;
mod inputs;
mod listed;
mod table;
mod table_name;
#[cfg(test)]
mod tests;

use serde_json::Value;

use crate::instance::InstanceId;

use checked::check;
use listed::ListedTables;
use table::{INET, Table};

pub use inputs::{FilteredGuest, GuestLink, MetadataAddresses};
pub use listed::Interference;
pub use table_name::TableName;

/// Returns the whole script. It replaces the tables in one transaction: the old rules apply until
/// the new ones do, and a script that fails changes nothing.
///
/// On error, returns every fault with its guest. A caller who omits those guests gets rules for the
/// others.
pub fn script(
    name: &TableName,
    guests: &[FilteredGuest],
    addresses: MetadataAddresses,
) -> Result<String, Vec<(InstanceId, String)>> {
    let tables = tables(name, guests, addresses)?;
    let mut text = format!(
        "# The guests' access to the metadata service. Generated by imdsd; it replaces the tables {name}.\n"
    );
    for table in &tables {
        table.write(&mut text);
    }
    Ok(text)
}

/// Returns the guests whose rules are missing or belong to another document or version, and what is
/// missing.
///
/// `listed` is the output of `nft --json list ruleset`. The names of a guest's chains contain a
/// digest of everything that concerns the guest; shared chains are compared by their hooks and the
/// number of their rules.
pub fn lacking(
    listed: &Value,
    name: &TableName,
    guests: &[FilteredGuest],
    addresses: MetadataAddresses,
) -> Vec<(InstanceId, String)> {
    let tables = match tables(name, guests, addresses) {
        Ok(tables) => tables,
        Err(faults) => return faults,
    };
    let listed = ListedTables::read(listed, name.as_str());
    let mut lacking = Vec::new();
    for (index, guest) in guests.iter().enumerate() {
        let needed = tables.iter().filter(|table| match guest.link {
            GuestLink::Interface { .. } => table.family == INET,
            GuestLink::BridgePort { .. } => true,
        });
        let missing = needed.flat_map(|table| listed.missing(table, index)).next();
        lacking.extend(missing.map(|what| (guest.instance.clone(), what)));
    }
    lacking
}

/// Returns the guests with which rules of other daemons, or of this one under an earlier name,
/// interfere.
pub fn interferences(
    listed: &Value,
    name: &TableName,
    guests: &[FilteredGuest],
) -> Vec<(InstanceId, Interference)> {
    let found = |guest: &FilteredGuest| {
        let interference = listed::interference(listed, name, guest)?;
        Some((guest.instance.clone(), interference))
    };
    guests.iter().filter_map(found).collect()
}

/// Returns whether either table exists, for any guests at all.
pub fn are_loaded(listed: &Value, name: &TableName) -> bool {
    let entries = listed["nftables"].as_array().into_iter().flatten();
    entries
        .filter_map(|entry| entry.get("table"))
        .any(|table| table["name"] == name.as_str())
}

/// Returns both tables, or the faults of the guests.
fn tables(
    name: &TableName,
    guests: &[FilteredGuest],
    addresses: MetadataAddresses,
) -> Result<[Table; 2], Vec<(InstanceId, String)>> {
    let guests = check(guests, addresses)?;
    Ok([
        inet::table(name, &guests, addresses),
        bridge::table(name, &guests, addresses),
    ])
}
