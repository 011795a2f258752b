//! The connections of one guest in the order they came, so that at its limit the right one makes room.
//!
//! The limit is the guest's, by whatever address, interface or family its connections come: no guest takes another's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// All connections of one guest.
pub struct ConnectionSlots {
    /// The most at once; one number for all guests.
    most: Arc<AtomicUsize>,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    next: u64,
    by_age: BTreeMap<u64, Arc<State>>,
}

/// What a connection is doing, and how it is told to go.
#[derive(Default)]
struct State {
    /// It has a complete request that is not answered yet.
    busy: AtomicBool,
    leave: Notify,
}

/// One connection's place among the others. It is free again when this is dropped.
pub struct ConnectionSlot {
    number: u64,
    state: Arc<State>,
    slots: Arc<ConnectionSlots>,
}

impl ConnectionSlots {
    /// For one guest. `most` is read anew for every connection.
    pub fn new(most: Arc<AtomicUsize>) -> Arc<ConnectionSlots> {
        Arc::new(ConnectionSlots {
            most,
            taken: Mutex::default(),
        })
    }

    /// How many are taken.
    pub fn count(&self) -> usize {
        self.taken.lock().by_age.len()
    }

    /// Takes in the newest connection. When all places are taken, the oldest that waits for a request is told to go; `None`
    /// when every one of them is being answered.
    pub fn take(self: &Arc<ConnectionSlots>) -> Option<ConnectionSlot> {
        let mut taken = self.taken.lock();
        if taken.by_age.len() >= self.most.load(Ordering::Relaxed) {
            let idle = taken
                .by_age
                .iter()
                .find(|(_, state)| !state.busy.load(Ordering::Relaxed));
            let number = idle.map(|(number, _)| *number)?;
            taken.by_age.remove(&number)?.leave.notify_one();
        }
        let number = taken.next;
        taken.next += 1;
        let state = Arc::new(State::default());
        taken.by_age.insert(number, Arc::clone(&state));
        Some(ConnectionSlot {
            number,
            state,
            slots: Arc::clone(self),
        })
    }
}

impl ConnectionSlot {
    /// Says that a complete request has come, or that it was answered.
    pub fn set_busy(&self, busy: bool) {
        self.state.busy.store(busy, Ordering::Relaxed);
    }

    /// Returns when this connection is to make room.
    pub async fn told_to_leave(&self) {
        self.state.leave.notified().await;
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.slots.taken.lock().by_age.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_that_waits_for_a_request_makes_room() {
        let slots = ConnectionSlots::new(Arc::new(AtomicUsize::new(3)));
        let [first, second, third] = [0; 3].map(|_| slots.take().unwrap());
        first.set_busy(true);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let is_told = |slot: &ConnectionSlot| {
            let now = std::time::Duration::ZERO;
            runtime.block_on(async {
                tokio::time::timeout(now, slot.told_to_leave())
                    .await
                    .is_ok()
            })
        };
        let fourth = slots.take().unwrap();
        assert_eq!(
            [is_told(&first), is_told(&second), is_told(&third)],
            [false, true, false]
        );
        // One that was told is not told for another; the busy one never is.
        let fifth = slots.take().unwrap();
        assert_eq!(
            [is_told(&first), is_told(&second), is_told(&third)],
            [false, false, true]
        );
        fourth.set_busy(true);
        fifth.set_busy(true);
        assert!(slots.take().is_none());
        first.set_busy(false);
        assert!(slots.take().is_some());
        assert!(is_told(&first));
    }

    #[test]
    fn a_place_is_free_when_its_connection_has_ended() {
        let most = Arc::new(AtomicUsize::new(1));
        let slots = ConnectionSlots::new(Arc::clone(&most));
        let first = slots.take().unwrap();
        first.set_busy(true);
        assert!(slots.take().is_none());
        // Another guest's places are its own.
        assert!(ConnectionSlots::new(Arc::clone(&most)).take().is_some());
        drop(first);
        let second = slots.take().unwrap();
        second.set_busy(true);
        most.store(2, Ordering::Relaxed);
        assert!(slots.take().is_some());
    }
}
