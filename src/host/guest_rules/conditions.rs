//! Conditions and rules that both tables use.

use std::fmt;

use super::block::Block;
use super::inputs::MetadataAddresses;

/// How many packets a second a guest may send to the metadata addresses through one link: EC2's
/// number.
const PACKETS_PER_SECOND: u32 = 1024;

/// Protocols by their numbers (IANA): nft looks some names up in /etc/protocols, which a small system
/// does not have.
pub(super) const TCP: u8 = 6;
pub(super) const ICMPV6: u8 = 58;

/// Lets neighbour solicitations pass, from whatever address: with them the guest asks whether the
/// metadata address is still reachable. Other rules judge the claims that they carry.
pub(super) const ACCEPT_SOLICITATIONS: &str =
    "meta protocol ip6 icmpv6 type nd-neighbor-solicit return";

/// Returns the rules that drop packets from or about the metadata addresses: no guest is the
/// service.
pub(super) fn claims_of_addresses(
    MetadataAddresses { ipv4, ipv6 }: MetadataAddresses,
) -> Vec<String> {
    let target = Block::of(ipv6).as_number();
    vec![
        format!("ip saddr {ipv4} counter drop"),
        "# A solicitation claims its source address; an advertisement or a redirect claims its target."
            .to_string(),
        format!("ip6 saddr {ipv6} counter drop"),
        format!(
            "meta protocol ip6 icmpv6 type {{ nd-neighbor-advert, nd-redirect }} @th,64,128 {target} counter drop"
        ),
    ]
}

/// Returns the rule that drops packets above the rate limit.
pub(super) fn limit() -> String {
    format!(
        "limit rate over {PACKETS_PER_SECOND}/second burst {PACKETS_PER_SECOND} packets counter drop"
    )
}

/// Returns the rule, restricted to values that are not the guest's own.
pub(super) fn except_own(what: &str, own: &[impl fmt::Display], rule: String) -> String {
    if own.is_empty() {
        rule
    } else {
        format!("{} {rule}", none_of(what, own))
    }
}

/// Returns the condition that `what` is none of these elements.
///
/// A few elements are compared one by one. The kernel searches an anonymous set linearly: with nine
/// sets for each of 1,000 guests, loading took 30 seconds and replacing took 60; it now takes 1.5
/// seconds.
pub(super) fn none_of(what: &str, elements: &[impl fmt::Display]) -> String {
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
