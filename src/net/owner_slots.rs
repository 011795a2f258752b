//! The connection slots of an endpoint whose callers are not guests, shared among their owners:
//! peers or users.
//!
//! At the limit the owner with the most connections gives one up: first those that have sent
//! nothing, last those that have begun a request, and never one that is being answered. So a caller
//! with many connections takes no slot from a caller with few. An [`EvictionOrder`] decides among
//! requests that have come equally far.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;

use super::slot_state::{BusySlot, CallerProgress, SlotState};

/// All connections of an endpoint.
pub(crate) struct OwnerSlots<K> {
    /// The most connections at once.
    limit: usize,
    order: EvictionOrder,
    open: Mutex<OpenOwnerSlots<K>>,
}

struct OpenOwnerSlots<K> {
    next: u64,
    by_age: BTreeMap<u64, (K, Arc<SlotState>)>,
}

/// Which of an owner's requests that are not answered yet gives way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EvictionOrder {
    /// The oldest, also for a new connection of the same owner: its bytes have been slow to come.
    OldestFirst,
    /// The newest, and only of an owner that has more connections afterwards than the new one's:
    /// requests wait for their turns and keep their order.
    NewestRequestFirst,
}

/// The slot of one connection. It is free again when this is dropped.
pub(crate) struct OwnerSlot<K: Ord> {
    number: u64,
    state: Arc<SlotState>,
    slots: Arc<OwnerSlots<K>>,
}

/// Where a caller's connection comes from: its IPv4 address, or the network of its IPv6 address.
///
/// A network of 64 bits is what one site gets, and every address in it is free to use (RFC 6177).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PeerNetwork(IpAddr);

impl PeerNetwork {
    /// Returns the network of an address.
    pub(crate) fn of(address: IpAddr) -> PeerNetwork {
        PeerNetwork(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            ipv4 @ IpAddr::V4(_) => ipv4,
        })
    }
}

impl<K: Ord> OwnerSlots<K> {
    /// Returns `limit` slots.
    pub(crate) fn new(limit: usize, order: EvictionOrder) -> Arc<OwnerSlots<K>> {
        Arc::new(OwnerSlots {
            limit,
            order,
            open: Mutex::new(OpenOwnerSlots {
                next: 0,
                by_age: BTreeMap::new(),
            }),
        })
    }

    /// Takes a slot for a new connection of an owner. Returns `None` if the endpoint is at its limit
    /// and no connection can be evicted for it.
    pub(crate) fn take(self: &Arc<OwnerSlots<K>>, owner: K) -> Option<OwnerSlot<K>> {
        let mut open = self.open.lock();
        if open.by_age.len() >= self.limit {
            // A connection may become busy meanwhile; then the next best is evicted.
            let number = loop {
                let number = open.evictable(&owner, self.order)?;
                if open.by_age.get(&number)?.1.evict() {
                    break number;
                }
            };
            open.by_age.remove(&number);
        }
        let number = open.next;
        open.next += 1;
        let state = Arc::new(SlotState::default());
        open.by_age.insert(number, (owner, Arc::clone(&state)));
        Some(OwnerSlot {
            number,
            state,
            slots: Arc::clone(self),
        })
    }
}

impl<K: Ord> OpenOwnerSlots<K> {
    /// Returns the connection that makes room for a new one of `newcomer`. No owner with fewer
    /// connections than `newcomer` gives one up.
    fn evictable(&self, newcomer: &K, order: EvictionOrder) -> Option<u64> {
        let mut counts: BTreeMap<&K, usize> = BTreeMap::from([(newcomer, 1)]);
        for (owner, _) in self.by_age.values() {
            *counts.entry(owner).or_default() += 1;
        }
        let least = counts[newcomer];
        let candidates = self.by_age.iter().filter_map(|(number, (owner, state))| {
            let count = counts[owner];
            let progress = state.progress()?;
            let waits =
                order == EvictionOrder::NewestRequestFirst && progress == CallerProgress::Request;
            let may_be_evicted = count > least || (count == least && !waits);
            let age = if waits { u64::MAX - number } else { *number };
            may_be_evicted.then_some((usize::MAX - count, progress, age, *number))
        });
        candidates.min().map(|(.., number)| number)
    }
}

impl<K: Ord> OwnerSlot<K> {
    /// Notes how far the connection has come.
    pub(super) fn note(&self, progress: CallerProgress) {
        self.state.note(progress);
    }

    /// Begins to answer a complete request; `None` if the connection was evicted just before.
    pub(super) fn begin(&self) -> Option<BusySlot<'_>> {
        self.state.begin()
    }

    /// Returns when this connection has to make room for another.
    pub(super) async fn evicted(&self) {
        self.state.evicted().await;
    }
}

impl<K: Ord> Drop for OwnerSlot<K> {
    fn drop(&mut self) {
        self.slots.open.lock().by_age.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a connection is doing: nothing, started, in a request, or busy.
    #[derive(Clone, Copy)]
    enum Doing {
        Nothing,
        Started,
        Request,
        Busy,
    }
    use Doing::{Busy, Nothing, Request, Started};

    #[test]
    fn the_owner_with_the_most_connections_gives_up_the_one_that_has_come_least_far() {
        // The open connections by age, the owner of the new one, and the number of the evicted one.
        type Row = (&'static [(char, Doing)], char, Option<u64>);
        let rows: &[Row] = &[
            // Of a crowd and a caller with one, the crowd gives one up: its oldest.
            (
                &[('a', Nothing), ('s', Nothing), ('s', Nothing)],
                'b',
                Some(1),
            ),
            (
                &[('a', Nothing), ('s', Nothing), ('s', Nothing)],
                'a',
                Some(0),
            ),
            // Also for itself, and so does a caller that would have as many.
            (
                &[('a', Nothing), ('s', Nothing), ('s', Nothing)],
                's',
                Some(1),
            ),
            (&[('a', Nothing), ('s', Nothing)], 's', Some(1)),
            // First what has sent nothing, last what has begun a request.
            (
                &[('s', Request), ('s', Started), ('s', Nothing)],
                'a',
                Some(2),
            ),
            (
                &[('s', Request), ('s', Started), ('a', Nothing)],
                'a',
                Some(2),
            ),
            (
                &[('s', Request), ('s', Started), ('a', Nothing)],
                'b',
                Some(1),
            ),
            (
                &[('s', Request), ('s', Request), ('a', Nothing)],
                'b',
                Some(0),
            ),
            // Never what is being answered: then the owner with the next most connections.
            (
                &[('s', Busy), ('s', Busy), ('s', Busy), ('a', Started)],
                'b',
                Some(3),
            ),
            (
                &[('s', Busy), ('s', Busy), ('s', Nothing), ('a', Started)],
                'b',
                Some(2),
            ),
            // But no owner with fewer than the new one would have.
            (&[('s', Busy), ('s', Busy), ('a', Nothing)], 's', None),
            (&[('s', Busy), ('a', Nothing), ('a', Nothing)], 's', Some(1)),
            (&[('s', Busy), ('a', Busy)], 'b', None),
            // Equals: what has come least far, then the oldest.
            (
                &[('a', Request), ('b', Nothing), ('c', Nothing)],
                'd',
                Some(1),
            ),
        ];
        for (open, newcomer, expected) in rows {
            check(open, *newcomer, EvictionOrder::OldestFirst, *expected);
        }
    }

    /// The connections that are open, the owner of a new one, and which one gives way.
    type EvictionRow<'r> = (&'r [(char, Doing)], char, Option<u64>);

    #[test]
    fn of_requests_that_wait_for_their_turns_the_newest_gives_way_and_none_within_an_owner() {
        let rows: &[EvictionRow<'_>] = &[
            (&[('s', Request), ('s', Request), ('s', Busy)], 'a', Some(1)),
            (&[('s', Busy), ('s', Request), ('s', Request)], 's', None),
            // What has sent nothing still goes first, and its oldest: also for the same owner.
            (
                &[('s', Request), ('s', Nothing), ('s', Nothing)],
                'a',
                Some(1),
            ),
            (
                &[('s', Request), ('s', Nothing), ('s', Request)],
                's',
                Some(1),
            ),
            // Owners with as many as the new one would have keep theirs.
            (&[('s', Request), ('a', Request)], 'b', None),
            (&[('s', Request), ('s', Request), ('a', Request)], 'a', None),
            (
                &[
                    ('s', Request),
                    ('s', Request),
                    ('s', Request),
                    ('a', Request),
                ],
                'a',
                Some(2),
            ),
            (
                &[
                    ('s', Request),
                    ('s', Request),
                    ('a', Request),
                    ('a', Request),
                ],
                'a',
                None,
            ),
        ];
        for (open, newcomer, expected) in rows {
            check(
                open,
                *newcomer,
                EvictionOrder::NewestRequestFirst,
                *expected,
            );
        }
    }

    /// Checks which of these connections gives way to a new one of `newcomer`.
    fn check(open: &[(char, Doing)], newcomer: char, order: EvictionOrder, expected: Option<u64>) {
        let slots = OwnerSlots::new(open.len(), order);
        let taken: Vec<_> = open
            .iter()
            .map(|(owner, _)| slots.take(*owner).unwrap())
            .collect();
        let mut busy = Vec::new();
        for (slot, (_, doing)) in taken.iter().zip(open) {
            match doing {
                Nothing => {}
                Started => slot.note(CallerProgress::Started),
                Request => slot.note(CallerProgress::Request),
                Busy => busy.push(slot.begin().unwrap()),
            }
        }
        let new = slots.take(newcomer);
        assert_eq!(new.is_some(), expected.is_some());
        let evicted: Vec<u64> = taken
            .iter()
            .filter(|slot| !slots.open.lock().by_age.contains_key(&slot.number))
            .map(|slot| slot.number)
            .collect();
        assert_eq!(evicted, Vec::from_iter(expected));
    }

    #[test]
    fn nothing_is_left_of_connections_that_have_ended() {
        let slots = OwnerSlots::new(2, EvictionOrder::OldestFirst);
        for number in 0..100 {
            let slot = slots.take(number).unwrap();
            drop(slots.take(number).unwrap());
            drop(slot);
        }
        assert!(slots.open.lock().by_age.is_empty());
    }

    #[test]
    fn a_peer_is_an_ipv4_address_or_an_ipv6_network_of_64_bits() {
        let peer = |address: &str| PeerNetwork::of(address.parse().unwrap());
        assert_eq!(peer("2001:db8::1"), peer("2001:db8::ffff:0:0:2"));
        assert_ne!(peer("2001:db8::1"), peer("2001:db8:0:1::1"));
        assert_ne!(peer("192.0.2.1"), peer("192.0.2.2"));
        assert_eq!(peer("::ffff:192.0.2.1"), peer("192.0.2.1"));
    }
}
