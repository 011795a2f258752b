//! The connection slots of one guest, in the order of its connections. At the limit, the connection
//! that has waited longest without a request is evicted.
//!
//! The limit is per guest, whatever address, interface or family its connections use: no guest
//! takes another's slots.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

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

/// What a connection is doing.
#[derive(Default)]
struct SlotState {
    /// It has a complete request that is not answered yet.
    busy: AtomicBool,
    evicted: Notify,
}

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
                .find(|(_, state)| !state.busy.load(Ordering::Relaxed));
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
    /// Marks that a complete request has arrived, or that it was answered.
    pub(crate) fn set_busy(&self, busy: bool) {
        self.state.busy.store(busy, Ordering::Relaxed);
    }

    /// Returns when this connection has to make room for another.
    pub(crate) async fn evicted(&self) {
        self.state.evicted.notified().await;
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
        first.set_busy(true);
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
        fourth.set_busy(true);
        fifth.set_busy(true);
        assert!(slots.take().is_none());
        first.set_busy(false);
        assert!(slots.take().is_some());
        assert!(is_evicted(&first));
    }

    #[test]
    fn a_slot_is_free_when_its_connection_has_ended() {
        let limit = Arc::new(AtomicUsize::new(1));
        let slots = ConnectionSlots::new(Arc::clone(&limit));
        let first = slots.take().unwrap();
        first.set_busy(true);
        assert!(slots.take().is_none());
        // Another guest has its own slots.
        assert!(ConnectionSlots::new(Arc::clone(&limit)).take().is_some());
        drop(first);
        let second = slots.take().unwrap();
        second.set_busy(true);
        limit.store(2, Ordering::Relaxed);
        assert!(slots.take().is_some());
    }
}
