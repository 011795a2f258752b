//! The connection slots of one guest, in the order of its connections, and its share of the thread's
//! time. At the limit, the connection that has waited longest without a request is evicted.
//!
//! The limit is per guest, whatever address, interface or family its connections use: no guest
//! takes another's slots.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::guest_turns::GuestTurns;
use super::rate::{RateBudget, RateLimit};
use super::slot_state::{BusySlot, SlotState};
use super::turn_queue::{FreeTurn, TurnQueue};

/// How many connections a guest may open for each request of its rate. Connections beyond that are
/// reset, which costs the thread the least of all answers.
const ARRIVALS_PER_REQUEST: u32 = 2;

/// All connections of one guest.
pub(crate) struct ConnectionSlots {
    /// The most connections at once; one number for all guests.
    limit: Arc<AtomicUsize>,
    open: Mutex<OpenSlots>,
    /// Whose turn it is among the connections.
    turns: TurnQueue,
}

struct OpenSlots {
    next: u64,
    by_age: BTreeMap<u64, Arc<SlotState>>,
    /// How many connections may arrive; `None` without a limit.
    arrivals: Option<RateBudget>,
}

/// Why a connection gets no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoSlot {
    /// All slots are busy with requests.
    AllBusy,
    /// The guest opens connections much faster than its request rate.
    TooFast,
}

/// The slot of one connection. It is free again when this is dropped.
pub(crate) struct ConnectionSlot {
    number: u64,
    state: Arc<SlotState>,
    slots: Arc<ConnectionSlots>,
}

impl ConnectionSlots {
    /// Returns the slots of one guest with this request rate; `None` means no limit of the rate.
    /// `limit` is read again for every connection.
    pub(crate) fn new(
        limit: Arc<AtomicUsize>,
        rate: Option<RateLimit>,
        now: Instant,
    ) -> Arc<ConnectionSlots> {
        let arrivals = rate.map(|rate| RateBudget::new(rate.times(ARRIVALS_PER_REQUEST), now));
        Arc::new(ConnectionSlots {
            limit,
            open: Mutex::new(OpenSlots {
                next: 0,
                by_age: BTreeMap::new(),
                arrivals,
            }),
            turns: TurnQueue::new(rate, now),
        })
    }

    /// Returns how many slots are in use.
    pub(crate) fn count(&self) -> usize {
        self.open.lock().by_age.len()
    }

    /// Takes a slot for a new connection. At the limit, the oldest connection that waits for a
    /// request is evicted.
    pub(crate) fn take(
        self: &Arc<ConnectionSlots>,
        now: Instant,
    ) -> Result<ConnectionSlot, NoSlot> {
        let mut open = self.open.lock();
        if let Some(arrivals) = &mut open.arrivals
            && !arrivals.try_spend(now)
        {
            return Err(NoSlot::TooFast);
        }
        if open.by_age.len() >= self.limit.load(Ordering::Relaxed) {
            // A guest's answer is made without waiting, so at most one connection of each thread is
            // busy, and the search ends soon.
            let idle = open.by_age.iter().find(|(_, state)| state.evict());
            let number = idle.map(|(number, _)| *number).ok_or(NoSlot::AllBusy)?;
            open.by_age.remove(&number);
        }
        let number = open.next;
        open.next += 1;
        let state = Arc::new(SlotState::default());
        open.by_age.insert(number, Arc::clone(&state));
        Ok(ConnectionSlot {
            number,
            state,
            slots: Arc::clone(self),
        })
    }
}

impl ConnectionSlot {
    /// Begins to answer a complete request; `None` if the connection was evicted just before. Then
    /// the request must not be carried out: its answer could not be delivered.
    pub(super) fn begin(&self) -> Option<BusySlot<'_>> {
        self.state.begin()
    }

    /// Returns when this connection has to make room for another.
    pub(super) async fn evicted(&self) {
        self.state.evicted().await;
    }

    /// Returns whether this connection has to make room for another.
    pub(super) fn is_evicted(&self) -> bool {
        self.state.is_evicted()
    }

    /// Takes a turn of this connection's guest if no connection has it and the guest is within its
    /// request rate.
    pub(super) fn free_turn(&self, now: Instant) -> Option<FreeTurn<'_>> {
        self.slots.turns.free_turn(now)
    }

    /// Returns the turns of this connection among those of its guest.
    pub(super) fn turns(&self) -> GuestTurns<'_> {
        GuestTurns::new(&self.slots.turns)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.slots.open.lock().by_age.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn slots_of(limit: usize) -> Arc<ConnectionSlots> {
        ConnectionSlots::new(Arc::new(AtomicUsize::new(limit)), None, Instant::now())
    }

    fn take(slots: &Arc<ConnectionSlots>) -> Result<ConnectionSlot, NoSlot> {
        slots.take(Instant::now())
    }

    #[test]
    fn the_oldest_connection_that_waits_for_a_request_is_evicted() {
        let slots = slots_of(3);
        let [first, second, third] = [0; 3].map(|_| take(&slots).unwrap());
        let busy = first.begin().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let is_evicted = |slot: &ConnectionSlot| {
            let now = std::time::Duration::ZERO;
            runtime.block_on(async { tokio::time::timeout(now, slot.evicted()).await.is_ok() })
        };
        let fourth = take(&slots).unwrap();
        assert_eq!(
            [is_evicted(&first), is_evicted(&second), is_evicted(&third)],
            [false, true, false]
        );
        // An evicted connection is not evicted twice, and the busy one never is.
        let fifth = take(&slots).unwrap();
        assert_eq!(
            [is_evicted(&first), is_evicted(&second), is_evicted(&third)],
            [false, false, true]
        );
        let _busy = [fourth.begin().unwrap(), fifth.begin().unwrap()];
        assert!(take(&slots).is_err());
        drop(busy);
        assert!(take(&slots).is_ok());
        assert!(is_evicted(&first));
    }

    /// Otherwise a change would be carried out whose caller never gets the answer.
    #[test]
    fn an_evicted_connection_begins_no_request_and_one_that_has_begun_is_not_evicted() {
        let slots = slots_of(1);
        let first = take(&slots).unwrap();
        let second = take(&slots).unwrap();
        assert!(first.begin().is_none(), "it was evicted");
        let busy = second.begin().unwrap();
        assert!(second.begin().is_none(), "one request at a time");
        assert!(take(&slots).is_err());
        drop(busy);
        // Kept alive, it can begin the next request.
        drop(second.begin().unwrap());
        assert!(take(&slots).is_ok());
        assert!(second.begin().is_none());
    }

    #[test]
    fn a_slot_is_free_when_its_connection_has_ended() {
        let limit = Arc::new(AtomicUsize::new(1));
        let slots = ConnectionSlots::new(Arc::clone(&limit), None, Instant::now());
        let first = take(&slots).unwrap();
        let busy = first.begin().unwrap();
        assert!(take(&slots).is_err());
        // Another guest has its own slots.
        assert!(take(&slots_of(1)).is_ok());
        drop(busy);
        drop(first);
        let second = take(&slots).unwrap();
        let _busy = second.begin().unwrap();
        limit.store(2, Ordering::Relaxed);
        assert!(take(&slots).is_ok());
    }

    #[test]
    fn connections_that_arrive_too_fast_get_no_slot_and_evict_none() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let limit = Arc::new(AtomicUsize::new(1_000));
        let slots = ConnectionSlots::new(limit, RateLimit::new(10, 20), start);
        let mut open = Vec::new();
        let mut arrive = |count: usize, now| {
            let arrived = (0..count).map(|_| slots.take(now));
            open.extend(arrived.filter_map(Result::ok));
            open.len()
        };
        // Twice the burst of requests, and twice the rate.
        assert_eq!(arrive(100, at(0)), 40);
        assert_eq!(arrive(100, at(49)), 40);
        assert_eq!(arrive(100, at(50)), 41);
        assert_eq!(arrive(100, at(1_050)), 61);
        assert_eq!(slots.take(at(1_050)).err(), Some(NoSlot::TooFast));
        assert_eq!(slots.count(), 61);
    }
}
