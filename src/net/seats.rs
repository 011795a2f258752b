//! The connections of a listener in the order they came, so that at the limit the right one makes room.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// All connections of a listener.
#[derive(Default)]
pub(super) struct Seats {
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

/// One connection's place among the others. Clones are of the same place.
#[derive(Clone)]
pub struct Seat {
    number: u64,
    state: Arc<State>,
    seats: Arc<Seats>,
}

impl Seats {
    /// Takes in the newest connection.
    pub(super) fn take(seats: &Arc<Seats>) -> Seat {
        let mut taken = seats.taken.lock();
        let number = taken.next;
        taken.next += 1;
        let state = Arc::new(State::default());
        taken.by_age.insert(number, Arc::clone(&state));
        Seat { number, state, seats: Arc::clone(seats) }
    }

    /// Tells the oldest connection without a complete request to go, once.
    pub(super) fn make_room(&self) {
        let mut taken = self.taken.lock();
        let idle =
            taken.by_age.iter().find(|(_, state)| !state.busy.load(Ordering::Relaxed)).map(|(number, _)| *number);
        if let Some(state) = idle.and_then(|number| taken.by_age.remove(&number)) {
            state.leave.notify_one();
        }
    }
}

impl Seat {
    /// Says that a complete request has come, or that it was answered.
    pub fn set_busy(&self, busy: bool) {
        self.state.busy.store(busy, Ordering::Relaxed);
    }

    /// Returns when this connection is to make room.
    pub async fn told_to_leave(&self) {
        self.state.leave.notified().await;
    }

    /// The connection has ended.
    pub(super) fn leave(&self) {
        self.seats.taken.lock().by_age.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_that_waits_for_a_request_makes_room() {
        let seats = Arc::new(Seats::default());
        let [first, second, third] = [0; 3].map(|_| Seats::take(&seats));
        first.set_busy(true);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let is_told = |seat: &Seat| {
            let now = std::time::Duration::ZERO;
            runtime.block_on(async { tokio::time::timeout(now, seat.told_to_leave()).await.is_ok() })
        };
        seats.make_room();
        assert_eq!([is_told(&first), is_told(&second), is_told(&third)], [false, true, false]);
        // One that was told is not told for another; the busy one never is.
        seats.make_room();
        assert_eq!([is_told(&first), is_told(&second), is_told(&third)], [false, false, true]);
        seats.make_room();
        assert!(!is_told(&first));
        first.set_busy(false);
        seats.make_room();
        assert!(is_told(&first));
        first.leave();
    }
}
