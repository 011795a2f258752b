//! Interfaces that also receive the packets of another instance's guest.
//!
//! A bridge receives the packets of its ports, and a VLAN device receives the packets of every
//! guest that may tag on the interface below it. It does no harm where something besides the
//! interface identifies the guests: the marks of bridge ports, or source addresses that can be
//! trusted. Every claim counts, whether the instance is served there or not.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::daemon::listeners::desired::ListenerConfig;
use crate::daemon::listeners::key::ListenerKey;
use crate::host::netlink::{Links, UpperLinks};
use crate::instance::{Attachment, BridgePort, InstanceId};
use crate::registry::Claimants;

/// The instances with a claim at one interface, and by how many attachments each claims it.
type ClaimsOfInterface = BTreeMap<(ListenerKey, InstanceId), usize>;

/// The listeners that cannot be served because an interface carries the packets of two instances,
/// as claims and links change.
#[derive(Default)]
pub(super) struct InterfaceConflicts {
    /// The claims at each interface, by its name.
    claims: HashMap<String, ClaimsOfInterface>,
    /// The same without bridges. A bridge with a thousand ports has a thousand claims, and receives
    /// its ports' packets on purpose.
    claims_without_bridges: HashMap<String, ClaimsOfInterface>,
    upper_links: UpperLinks,
    /// The conflicts of each interface with those above it, by its index, and the reasons.
    found: HashMap<u32, BTreeMap<ListenerKey, String>>,
    /// At which interfaces each listener has conflicts.
    places: BTreeMap<ListenerKey, BTreeSet<u32>>,
    /// The interfaces that have to be judged again.
    outdated: BTreeSet<u32>,
}

impl InterfaceConflicts {
    /// Returns why a listener cannot be served.
    pub(super) fn reason(&self, key: &ListenerKey) -> Option<&str> {
        let place = self.places.get(key)?.last()?;
        self.found.get(place)?.get(key).map(String::as_str)
    }

    /// Returns the indexes of the links that are ports of a link.
    pub(super) fn ports_of(&self, index: u32) -> impl Iterator<Item = u32> {
        self.upper_links.directly_below(index)
    }

    /// Follows a change of the claimants of an attachment.
    pub(super) fn set_claims(
        &mut self,
        attachment: &Attachment,
        before: Option<&Claimants>,
        now: Option<&Claimants>,
        config: &ListenerConfig,
        links: &Links,
    ) {
        if before == now {
            return;
        }
        let key = ListenerKey::of(attachment);
        let port = match attachment {
            Attachment::BridgePort(BridgePort { port, .. }) => Some(port.as_str()),
            _ => None,
        };
        for name in config.interface_of(&key).into_iter().chain(port) {
            self.change_claims(name, &key, before, now);
            if let Some(link) = links.named(name) {
                self.outdated.insert(link.index);
                if !matches!(key, ListenerKey::Bridge(_)) {
                    self.outdated.extend(self.upper_links.below(link.index));
                }
            }
        }
    }

    fn change_claims(
        &mut self,
        name: &str,
        key: &ListenerKey,
        before: Option<&Claimants>,
        now: Option<&Claimants>,
    ) {
        let maps = [
            Some(&mut self.claims),
            Some(&mut self.claims_without_bridges)
                .filter(|_| !matches!(key, ListenerKey::Bridge(_))),
        ];
        for claims in maps.into_iter().flatten() {
            let of_interface = claims.entry(name.to_string()).or_default();
            for id in now.into_iter().flat_map(Claimants::ids) {
                *of_interface.entry((key.clone(), id.clone())).or_default() += 1;
            }
            for id in before.into_iter().flat_map(Claimants::ids) {
                let claim = (key.clone(), id.clone());
                if let Some(count) = of_interface.get_mut(&claim) {
                    *count -= 1;
                    if *count == 0 {
                        of_interface.remove(&claim);
                    }
                }
            }
            if of_interface.is_empty() {
                claims.remove(name);
            }
        }
    }

    /// Follows changes of links, whose indexes are `changed`.
    pub(super) fn follow_links(&mut self, before: &Links, now: &Links, changed: &BTreeSet<u32>) {
        let mut outdated = BTreeSet::new();
        for index in changed {
            let (earlier, later) = (before.indexed(*index), now.indexed(*index));
            outdated.extend(self.upper_links.update(earlier, later));
            // Names may have passed from one link to another.
            if earlier.map(|link| &link.name) != later.map(|link| &link.name) {
                outdated.insert(*index);
                for name in [earlier, later]
                    .into_iter()
                    .flatten()
                    .map(|link| &link.name)
                {
                    let holders = [before.named(name), now.named(name)];
                    outdated.extend(holders.into_iter().flatten().map(|link| link.index));
                }
            }
        }
        for index in outdated {
            self.outdated.extend(self.upper_links.below(index));
            self.outdated.insert(index);
        }
    }

    /// Judges what may have changed since the last call. Returns the listeners for which it did.
    pub(super) fn judge(
        &mut self,
        config: &ListenerConfig,
        links: &Links,
    ) -> BTreeSet<ListenerKey> {
        let mut changed = BTreeSet::new();
        for index in std::mem::take(&mut self.outdated) {
            let now = self.conflicts_at(index, config, links);
            let before = match now.is_empty() {
                true => self.found.remove(&index),
                false => self.found.insert(index, now.clone()),
            };
            let before = before.unwrap_or_default();
            for key in before.keys().filter(|key| !now.contains_key(key)) {
                if let Some(places) = self.places.get_mut(key) {
                    places.remove(&index);
                    if places.is_empty() {
                        self.places.remove(key);
                    }
                }
                changed.insert(key.clone());
            }
            for (key, reason) in now {
                if before.get(&key) != Some(&reason) {
                    self.places.entry(key.clone()).or_default().insert(index);
                    changed.insert(key);
                }
            }
        }
        changed
    }

    /// Returns the conflicts of the claims at one interface with those at the interfaces above it.
    fn conflicts_at(
        &self,
        index: u32,
        config: &ListenerConfig,
        links: &Links,
    ) -> BTreeMap<ListenerKey, String> {
        let mut conflicts = BTreeMap::new();
        let Some(here) = claims_at(&self.claims, index, links) else {
            return conflicts;
        };
        let above = self.upper_links.of(index).into_iter();
        let above = above.filter_map(|link| claims_at(&self.claims_without_bridges, link, links));
        for (above, other) in above.flat_map(BTreeMap::keys) {
            for (key, guest) in here.keys().filter(|(_, guest)| guest != other) {
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
        conflicts
    }
}

/// Returns the claims at the interface with an index. A claim names its interface.
fn claims_at<'c>(
    claims: &'c HashMap<String, ClaimsOfInterface>,
    index: u32,
    links: &Links,
) -> Option<&'c ClaimsOfInterface> {
    let name = &links.indexed(index)?.name;
    let is_named = links.named(name).is_some_and(|link| link.index == index);
    claims.get(name).filter(|_| is_named)
}
