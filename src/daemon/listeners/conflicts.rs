//! Interfaces that also receive the packets of another instance's guest.
//!
//! A bridge receives the packets of its ports, and a VLAN device receives the packets of every
//! guest that may tag on the interface below it. It does no harm where something besides the
//! interface identifies the guests: the marks of bridge ports, or source addresses that can be
//! trusted. Every claim counts, whether the instance is served there or not.

use std::collections::{BTreeMap, BTreeSet};

use crate::daemon::listeners::desired::ListenerConfig;
use crate::daemon::listeners::key::ListenerKey;
use crate::host::netlink::Links;
use crate::instance::{Attachment, BridgePort, InstanceId};
use crate::registry::Snapshot;

/// The claims at each interface, by its index.
type ClaimsByLink<'s> = BTreeMap<u32, BTreeSet<(ListenerKey, &'s InstanceId)>>;

/// Returns the listeners that cannot be served because an interface carries the packets of two
/// instances, with the reason.
pub(super) fn interface_conflicts(
    config: &ListenerConfig,
    snapshot: &Snapshot,
    links: &Links,
) -> BTreeMap<ListenerKey, String> {
    let claimed = claims_by_link(config, snapshot, links);
    let upper = claims_without_bridges(&claimed);
    let upper_links = links.upper_links();
    let mut conflicts = BTreeMap::new();
    for (index, here) in &claimed {
        let above = upper_links.of(*index);
        for (above, other) in above.iter().filter_map(|link| upper.get(link)).flatten() {
            for (key, guest) in here.iter().filter(|(_, guest)| guest != other) {
                if !config.identifies_beyond_interface(above) {
                    let reason = format!("it also receives packets of {key}, which is {guest}'s");
                    conflicts.insert(above.clone(), reason);
                }
                if !config.identifies_beyond_interface(key) {
                    let reason = format!("{above} also receives its packets and is {other}'s");
                    conflicts.insert(key.clone(), reason);
                }
            }
        }
    }
    conflicts
}

fn claims_by_link<'s>(
    config: &ListenerConfig,
    snapshot: &'s Snapshot,
    links: &Links,
) -> ClaimsByLink<'s> {
    let mut claimed = ClaimsByLink::new();
    for (attachment, claimants) in snapshot.claims() {
        let key = ListenerKey::of(attachment);
        let port = match attachment {
            Attachment::BridgePort(BridgePort { port, .. }) => Some(port.as_str()),
            _ => None,
        };
        let interfaces = config.interface_of(&key).into_iter().chain(port);
        for link in interfaces.filter_map(|name| links.named(name)) {
            let claims = claimed.entry(link.index).or_default();
            claims.extend(claimants.ids().map(|id| (key.clone(), id)));
        }
    }
    claimed
}

/// Leaves out bridges. A bridge with a thousand ports has a thousand claims, and receives its
/// ports' packets on purpose.
fn claims_without_bridges<'s>(claimed: &ClaimsByLink<'s>) -> ClaimsByLink<'s> {
    let mut others = claimed.clone();
    others
        .values_mut()
        .for_each(|claims| claims.retain(|(key, _)| !matches!(key, ListenerKey::Bridge(_))));
    others.retain(|_, claims| !claims.is_empty());
    others
}
