//! The index of who claims which attachment. It is the only place that decides whether two
//! attachments conflict.
//!
//! An attachment claims one or more [`ClaimKey`]s: what the kernel distinguishes guests by. Two
//! attachments conflict when they claim the same key and at least one of them claims it
//! exclusively. The kernel could then not tell the two guests apart, so neither is served there.
//!
//! The check of instance documents and the document format use the index of this file. The registry
//! has one that can be changed, and takes the rule from here.
//!
//! [`Instance::claimed_attachments`] is the other half of the rule: a stopped or terminated instance
//! claims nothing, and neither does a void attachment.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::instance::attachment::{Attachment, BridgePort, SourceAddress};
use crate::instance::binding::LinkIdentities;
use crate::instance::instance_attachment::InstanceAttachment;
use crate::instance::model::Instance;

/// What the kernel distinguishes guests by. Its names are borrowed or shared.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ClaimKey<Name> {
    /// A listener of the configuration.
    Listener(Name),
    /// A network interface.
    Interface(Name),
    /// A packet mark. The guest rules send answers out by the port with their mark, whatever bridge
    /// it is on.
    Mark(u32),
    /// A network namespace.
    NetworkNamespace(Name),
    /// A source address on a listener.
    Address(Name, IpAddr),
}

/// Whether other attachments may claim the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClaimMode {
    /// No other attachment may.
    Exclusive,
    /// Others may if they share it too: a bridge is shared by its ports, a listener by its source
    /// addresses.
    Shared,
}

impl ClaimMode {
    /// Returns the modes of other claims of the same key that a claim of this mode conflicts with.
    pub fn conflicting(self) -> &'static [ClaimMode] {
        match self {
            ClaimMode::Exclusive => &[ClaimMode::Exclusive, ClaimMode::Shared],
            ClaimMode::Shared => &[ClaimMode::Exclusive],
        }
    }
}

impl ClaimKey<&str> {
    /// Returns the key with names of its own.
    pub fn shared(&self) -> ClaimKey<Arc<str>> {
        match *self {
            ClaimKey::Listener(name) => ClaimKey::Listener(name.into()),
            ClaimKey::Interface(name) => ClaimKey::Interface(name.into()),
            ClaimKey::Mark(mark) => ClaimKey::Mark(mark),
            ClaimKey::NetworkNamespace(name) => ClaimKey::NetworkNamespace(name.into()),
            ClaimKey::Address(listener, address) => ClaimKey::Address(listener.into(), address),
        }
    }
}

/// The attachments of several claimants, indexed by what they claim.
pub struct Claims<'a, C> {
    by_key: HashMap<ClaimKey<&'a str>, KeyClaims<'a, C>>,
    count: usize,
}

/// The claims of one key, by mode: a bridge with a thousand ports has a thousand shared claims,
/// which conflict only with exclusive ones.
struct KeyClaims<'a, C> {
    exclusive: Vec<AttachmentClaim<'a, C>>,
    shared: Vec<AttachmentClaim<'a, C>>,
}

/// One attachment of one claimant.
#[derive(Clone, Copy)]
pub struct AttachmentClaim<'a, C> {
    /// The attachment.
    pub attachment: &'a Attachment,
    /// The claimant.
    pub claimant: C,
    /// The position among all claims.
    number: usize,
}

impl<'a, C: Copy + PartialEq> Claims<'a, C> {
    /// Returns an empty index.
    pub fn new() -> Claims<'a, C> {
        Claims {
            by_key: HashMap::new(),
            count: 0,
        }
    }

    /// Adds an attachment of `claimant`.
    pub fn add(&mut self, attachment: &'a Attachment, claimant: C) {
        for (key, mode) in attachment.claim_keys() {
            let claims = self.by_key.entry(key).or_insert_with(KeyClaims::new);
            let claim = AttachmentClaim {
                attachment,
                claimant,
                number: self.count,
            };
            match mode {
                ClaimMode::Exclusive => claims.exclusive.push(claim),
                ClaimMode::Shared => claims.shared.push(claim),
            }
        }
        self.count += 1;
    }

    /// Returns every claim of another claimant that conflicts with `attachment`.
    pub fn conflicts(
        &self,
        attachment: &'a Attachment,
        claimant: C,
    ) -> impl Iterator<Item = &AttachmentClaim<'a, C>> {
        attachment
            .claim_keys()
            .into_iter()
            .flat_map(move |(key, mode)| self.conflicts_at(&key, mode, claimant))
    }

    /// Returns the earliest added claim that conflicts with `attachment`, of the first key with a
    /// conflict.
    pub fn first_conflict(
        &self,
        attachment: &'a Attachment,
        claimant: C,
    ) -> Option<&AttachmentClaim<'a, C>> {
        attachment.claim_keys().into_iter().find_map(|(key, mode)| {
            self.conflicts_at(&key, mode, claimant)
                .min_by_key(|claim| claim.number)
        })
    }

    /// Returns whether any attachment claims `key`.
    pub fn is_claimed(&self, key: &ClaimKey<&'a str>) -> bool {
        self.by_key.contains_key(key)
    }

    fn conflicts_at(
        &self,
        key: &ClaimKey<&'a str>,
        mode: ClaimMode,
        claimant: C,
    ) -> impl Iterator<Item = &AttachmentClaim<'a, C>> + use<'_, 'a, C> {
        self.by_key
            .get(key)
            .into_iter()
            .flat_map(move |claims| claims.conflicting(mode))
            .filter(move |claim| claim.claimant != claimant)
    }
}

impl<C: Copy + PartialEq> Default for Claims<'_, C> {
    fn default() -> Self {
        Claims::new()
    }
}

impl<'a, C> KeyClaims<'a, C> {
    fn new() -> KeyClaims<'a, C> {
        KeyClaims {
            exclusive: Vec::new(),
            shared: Vec::new(),
        }
    }

    /// Returns the claims that a claim of this mode conflicts with.
    fn conflicting(&self, mode: ClaimMode) -> impl Iterator<Item = &AttachmentClaim<'a, C>> {
        let modes = mode.conflicting().iter();
        modes.flat_map(|mode| match mode {
            ClaimMode::Exclusive => &self.exclusive,
            ClaimMode::Shared => &self.shared,
        })
    }
}

impl Instance {
    /// Returns the attachments that the instance claims on a host with these links.
    ///
    /// A stopped or terminated instance has no guest, so a packet at its attachments comes from
    /// another one. A void attachment's interface is gone, or is another guest's.
    pub fn claimed_attachments(
        &self,
        links: &LinkIdentities,
    ) -> impl Iterator<Item = &InstanceAttachment> + Clone {
        let attachments = match self.state.is_active() {
            true => self.imds.attachments.as_slice(),
            false => &[],
        };
        attachments
            .iter()
            .filter(|attachment| attachment.void_reason(links).is_none())
    }
}

impl Attachment {
    /// Returns what this attachment claims, and how.
    pub fn claim_keys(&self) -> Vec<(ClaimKey<&str>, ClaimMode)> {
        use ClaimMode::{Exclusive, Shared};
        match self {
            Attachment::Listener(name) => vec![(ClaimKey::Listener(name), Exclusive)],
            Attachment::Interface(name) => vec![(ClaimKey::Interface(name), Exclusive)],
            Attachment::BridgePort(BridgePort { bridge, port, mark }) => vec![
                (ClaimKey::Interface(bridge), Shared),
                (ClaimKey::Interface(port), Exclusive),
                (ClaimKey::Mark(*mark), Exclusive),
            ],
            Attachment::NetworkNamespace(name) => {
                vec![(ClaimKey::NetworkNamespace(namespace_name(name)), Exclusive)]
            }
            Attachment::SourceAddress(SourceAddress { listener, address }) => {
                vec![
                    (ClaimKey::Listener(listener), Shared),
                    (ClaimKey::Address(listener, *address), Exclusive),
                ]
            }
        }
    }

    /// Returns whether one instance cannot have both attachments. Its ports on different bridges
    /// may share a mark.
    pub fn repeats(&self, other: &Attachment) -> bool {
        match (self, other) {
            (Attachment::BridgePort(one), Attachment::BridgePort(other))
                if one.bridge != other.bridge =>
            {
                one.port == other.port
            }
            _ => conflict_between(self, other),
        }
    }
}

/// Returns whether the kernel could mistake a packet of one attachment for a packet of the other.
fn conflict_between(one: &Attachment, other: &Attachment) -> bool {
    let mut claims = Claims::new();
    claims.add(one, 0);
    claims.first_conflict(other, 1).is_some()
}

/// Returns the name of a network namespace, which a document may also give by its path.
fn namespace_name(name: &str) -> &str {
    let below = ["/run/netns/", "/var/run/netns/"]
        .iter()
        .find_map(|directory| name.strip_prefix(directory));
    below.filter(|name| !name.contains('/')).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(bridge: &str, port: &str, mark: u32) -> Attachment {
        Attachment::BridgePort(BridgePort {
            bridge: bridge.into(),
            port: port.into(),
            mark,
        })
    }

    fn address(listener: &str, address: &str) -> Attachment {
        let (listener, address) = (listener.to_string(), address.parse().unwrap());
        Attachment::SourceAddress(SourceAddress {
            listener: listener.into(),
            address,
        })
    }

    #[test]
    fn attachments_conflict_where_the_kernel_cannot_tell_them_apart() {
        let listener = |name: &str| Attachment::Listener(name.into());
        let interface = |name: &str| Attachment::Interface(name.into());
        let namespace = |name: &str| Attachment::NetworkNamespace(name.into());
        for (one, other, conflict) in [
            (listener("a"), listener("a"), true),
            (listener("a"), listener("b"), false),
            (listener("a"), interface("a"), false),
            (interface("a"), interface("a"), true),
            (interface("a"), interface("b"), false),
            (namespace("a"), namespace("a"), true),
            (namespace("a"), interface("a"), false),
            (namespace("a"), namespace("/run/netns/a"), true),
            (
                namespace("/var/run/netns/a"),
                namespace("/run/netns/a"),
                true,
            ),
            (
                namespace("/proc/5/ns/net"),
                namespace("/proc/6/ns/net"),
                false,
            ),
            // A mark identifies one guest on the whole host.
            (port("br0", "a", 1), port("br0", "b", 2), false),
            (port("br0", "a", 1), port("br0", "b", 1), true),
            (port("br0", "a", 1), port("br0", "a", 2), true),
            (port("br0", "a", 1), port("br1", "b", 1), true),
            (port("br0", "a", 1), port("br1", "b", 2), false),
            // A port belongs to one bridge only.
            (port("br0", "a", 1), port("br1", "a", 2), true),
            // An instance attached to the whole bridge receives every guest on it.
            (port("br0", "a", 1), interface("br0"), true),
            (port("br0", "a", 1), interface("a"), true),
            (port("br0", "a", 1), interface("b"), false),
            (
                address("lan", "10.0.0.5"),
                address("lan", "10.0.0.6"),
                false,
            ),
            (address("lan", "10.0.0.5"), address("lan", "10.0.0.5"), true),
            (
                address("lan", "10.0.0.5"),
                address("wan", "10.0.0.5"),
                false,
            ),
            (address("lan", "10.0.0.5"), listener("lan"), true),
        ] {
            assert_eq!(
                conflict_between(&one, &other),
                conflict,
                "{one} and {other}"
            );
            assert_eq!(
                conflict_between(&other, &one),
                conflict,
                "{other} and {one}"
            );
        }
    }

    #[test]
    fn ports_of_one_instance_may_share_a_mark_on_different_bridges() {
        for (one, other, repeats) in [
            (port("br0", "a", 1), port("br1", "b", 1), false),
            (port("br0", "a", 1), port("br0", "b", 1), true),
            (port("br0", "a", 1), port("br1", "a", 2), true),
            (port("br0", "a", 1), Attachment::Interface("a".into()), true),
        ] {
            assert_eq!(one.repeats(&other), repeats, "{one} and {other}");
            assert_eq!(other.repeats(&one), repeats, "{other} and {one}");
        }
    }

    #[test]
    fn the_first_conflict_is_the_earliest_claim_of_another_claimant() {
        let (a, b, c) = (
            port("br0", "a", 1),
            port("br0", "b", 2),
            port("br1", "a", 3),
        );
        let bridge = Attachment::Interface("br0".into());
        let mut claims = Claims::new();
        claims.add(&a, 1);
        claims.add(&b, 2);
        claims.add(&c, 3);
        let first = |attachment, claimant| {
            let claim = claims.first_conflict(attachment, claimant)?;
            Some((claim.attachment.clone(), claim.claimant))
        };
        assert_eq!(first(&bridge, 4), Some((a.clone(), 1)));
        assert_eq!(first(&bridge, 1), Some((b.clone(), 2)));
        assert_eq!(first(&a, 1), Some((c.clone(), 3)));
        assert_eq!(first(&b, 2), None);
        assert!(claims.is_claimed(&ClaimKey::Interface("br1")));
        assert!(!claims.is_claimed(&ClaimKey::Interface("br2")));
        assert_eq!(claims.conflicts(&bridge, 4).count(), 2);
    }
}
