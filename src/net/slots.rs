//! The connection slots of one guest, in the order of its connections. At the limit, the connection
//! that has waited longest without a request is evicted.
//!
//! The limit is per guest, whatever address, interface or family its connections use: no guest
//! takes another's slots.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// All connections of one guest.
pub(crate) struct ConnectionSlots {
    /// The most connections at once; one number for all guests.
    limit: Arc<AtomicUsize>,
    open: Mutex<OpenSlots>,
}

#[derive(Default)]
struct OpenSlots {
    next: u64,
    by_age: BTreeMap<u64, Arc<SlotState>>,
}

/// What a connection is doing. Eviction and the beginning of an answer exclude each other: both
/// leave `IDLE` in one atomic step, so a request that has begun is never cut off.
#[derive(Default)]
struct SlotState {
    /// `IDLE`, `BUSY` or `EVICTED`.
    phase: AtomicU8,
    evicted: Notify,
}

/// It waits for a request, or for the rest of one.
const IDLE: u8 = 0;
/// It has a complete request that is not answered yet.
const BUSY: u8 = 1;
/// It must end, and begins no request any more.
const EVICTED: u8 = 2;

/// A request that is being answered. Its connection is not evicted until this is dropped.
pub(crate) struct BusySlot<'s>(&'s SlotState);

/// The slot of one connection. It is free again when this is dropped.
pub(crate) struct ConnectionSlot {
    number: u64,
    state: Arc<SlotState>,
    slots: Arc<ConnectionSlots>,
}

impl ConnectionSlots {
    /// Returns the slots of one guest. `limit` is read again for every connection.
    pub(crate) fn new(limit: Arc<AtomicUsize>) -> Arc<ConnectionSlots> {
        Arc::new(ConnectionSlots {
            limit,
            open: Mutex::default(),
        })
    }

    /// Returns how many slots are in use.
    pub(crate) fn count(&self) -> usize {
        self.open.lock().by_age.len()
    }

    /// Takes a slot for a new connection. At the limit, the oldest connection that waits for a
    /// request is evicted. Returns `None` when all of them are busy with a request.
    pub(crate) fn take(self: &Arc<ConnectionSlots>) -> Option<ConnectionSlot> {
        let mut open = self.open.lock();
        if open.by_age.len() >= self.limit.load(Ordering::Relaxed) {
            let idle = open
                .by_age
                .iter()
                .find(|(_, state)| state.leave_idle(EVICTED));
            let number = idle.map(|(number, _)| *number)?;
            open.by_age.remove(&number)?.evicted.notify_one();
        }
        let number = open.next;
        open.next += 1;
        let state = Arc::new(SlotState::default());
        open.by_age.insert(number, Arc::clone(&state));
        Some(ConnectionSlot {
            number,
            state,
            slots: Arc::clone(self),
        })
    }
}

impl ConnectionSlot {
    /// Begins to answer a complete request; `None` if the connection was evicted just before. Then
    /// the request must not be carried out: its answer could not be delivered.
    pub(crate) fn begin(&self) -> Option<BusySlot<'_>> {
        self.state.leave_idle(BUSY).then(|| BusySlot(&self.state))
    }

    /// Returns when this connection has to make room for another.
    pub(crate) async fn evicted(&self) {
        self.state.evicted.notified().await;
    }
}

impl SlotState {
    /// Goes from `IDLE` to another phase. Returns `false` if the phase is not `IDLE`.
    fn leave_idle(&self, phase: u8) -> bool {
        let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
        self.phase
            .compare_exchange(IDLE, phase, success, failure)
            .is_ok()
    }
}

impl Drop for BusySlot<'_> {
    fn drop(&mut self) {
        self.0.phase.store(IDLE, Ordering::Release);
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.slots.open.lock().by_age.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_connection_that_waits_for_a_request_is_evicted() {
        let slots = ConnectionSlots::new(Arc::new(AtomicUsize::new(3)));
        let [first, second, third] = [0; 3].map(|_| slots.take().unwrap());
        let busy = first.begin().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let is_evicted = |slot: &ConnectionSlot| {
            let now = std::time::Duration::ZERO;
            runtime.block_on(async { tokio::time::timeout(now, slot.evicted()).await.is_ok() })
        };
        let fourth = slots.take().unwrap();
        assert_eq!(
            [is_evicted(&first), is_evicted(&second), is_evicted(&third)],
            [false, true, false]
        );
        // An evicted connection is not evicted twice, and the busy one never is.
        let fifth = slots.take().unwrap();
        assert_eq!(
            [is_evicted(&first), is_evicted(&second), is_evicted(&third)],
            [false, false, true]
        );
        let _busy = [fourth.begin().unwrap(), fifth.begin().unwrap()];
        assert!(slots.take().is_none());
        drop(busy);
        assert!(slots.take().is_some());
        assert!(is_evicted(&first));
    }

    /// Otherwise a change would be carried out whose caller never gets the answer.
    #[test]
    fn an_evicted_connection_begins_no_request_and_one_that_has_begun_is_not_evicted() {
        let slots = ConnectionSlots::new(Arc::new(AtomicUsize::new(1)));
        let first = slots.take().unwrap();
        let second = slots.take().unwrap();
        assert!(first.begin().is_none(), "it was evicted");
        let busy = second.begin().unwrap();
        assert!(second.begin().is_none(), "one request at a time");
        assert!(slots.take().is_none());
        drop(busy);
        // Kept alive, it can begin the next request.
        drop(second.begin().unwrap());
        assert!(slots.take().is_some());
        assert!(second.begin().is_none());
    }

    #[test]
    fn a_slot_is_free_when_its_connection_has_ended() {
        let limit = Arc::new(AtomicUsize::new(1));
        let slots = ConnectionSlots::new(Arc::clone(&limit));
        let first = slots.take().unwrap();
        let busy = first.begin().unwrap();
        assert!(slots.take().is_none());
        // Another guest has its own slots.
        assert!(ConnectionSlots::new(Arc::clone(&limit)).take().is_some());
        drop(busy);
        drop(first);
        let second = slots.take().unwrap();
        let _busy = second.begin().unwrap();
        limit.store(2, Ordering::Relaxed);
        assert!(slots.take().is_some());
    }
}
