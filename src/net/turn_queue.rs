//! Whose turn it is among the connections of one guest.
//!
//! A connection needs its guest's turn to read bytes, and to answer each request that it read
//! together with an earlier one. A turn ends when an answer is written or the connection has to
//! wait for its peer; then the next connection in line is woken, behind everything that the thread
//! has to do by then. So however many connections a guest has, and whatever it sends on them, the
//! thread does about one thing for it before every other guest had its turn.
//!
//! A guest that exceeds its request rate is first not read from: the first connection in line waits
//! until a request is free again. A connection that has waited for [`MAX_DELAY`] is read from
//! beyond the rate, and its request is refused (503).

use std::collections::BTreeMap;
use std::mem;
use std::task::Waker;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::rate::{RateBudget, RateLimit};

/// How long a connection waits for its turn before its request is refused. SDKs give up an attempt
/// after a second, so they see the refusal.
pub(super) const MAX_DELAY: Duration = Duration::from_millis(500);

/// The turns of one guest's connections.
#[derive(Debug)]
pub(super) struct TurnQueue(Mutex<Line>);

/// The number of a connection's place in line. Each turn has another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

/// Whether a turn is within the guest's request rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// The request is answered.
    Within,
    /// The request is refused.
    Beyond,
}

/// What a connection gets that asks for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// It is its turn, until it ends it.
    Granted(Pace),
    /// It is its turn once the guest's request rate allows it. It is not woken: it asks again then.
    NotBefore(Instant),
    /// Other connections come first. It is woken.
    InLine,
}

#[derive(Debug)]
struct Line {
    next: u64,
    /// The connection whose turn it is, and since when it has been in line.
    current: Option<(Ticket, Instant)>,
    /// The others, first come, first served.
    waiting: BTreeMap<Ticket, (Instant, Waker)>,
    /// `None` without a limit.
    budget: Option<RateBudget>,
}

impl TurnQueue {
    /// Returns the turns of a guest with this request rate; `None` means no limit.
    pub(super) fn new(rate: Option<RateLimit>, now: Instant) -> TurnQueue {
        TurnQueue(Mutex::new(Line {
            next: 0,
            current: None,
            waiting: BTreeMap::new(),
            budget: rate.map(|limit| RateBudget::new(limit, now)),
        }))
    }

    /// Asks for a turn. `ticket` is the connection's place in line, which it gets when it asks first
    /// and keeps until it ends the turn.
    pub(super) fn ask(&self, ticket: &mut Option<Ticket>, now: Instant, waker: &Waker) -> Offer {
        let mut line = self.0.lock();
        let mine = *ticket.get_or_insert_with(|| {
            line.next += 1;
            Ticket(line.next)
        });
        let (current, since) = *line.current.get_or_insert((mine, now));
        if current != mine {
            let (_, waiting) = line
                .waiting
                .entry(mine)
                .or_insert_with(|| (now, waker.clone()));
            waiting.clone_from(waker);
            return Offer::InLine;
        }
        let wait = line
            .budget
            .map_or(Duration::ZERO, |budget| budget.wait(now));
        let patience = (since + MAX_DELAY).saturating_duration_since(now);
        match (wait.is_zero(), patience.is_zero()) {
            (true, _) => Offer::Granted(Pace::Within),
            (false, true) => Offer::Granted(Pace::Beyond),
            (false, false) => Offer::NotBefore(now + wait.min(patience)),
        }
    }

    /// Takes a turn if no connection has it or waits for it, and the guest is within its request
    /// rate.
    pub(super) fn free_turn(&self, now: Instant) -> Option<FreeTurn<'_>> {
        let mut line = self.0.lock();
        let is_within = line.budget.is_none_or(|budget| budget.wait(now).is_zero());
        if line.current.is_some() || !is_within {
            return None;
        }
        line.next += 1;
        let ticket = Ticket(line.next);
        line.current = Some((ticket, now));
        Some(FreeTurn {
            queue: self,
            ticket,
            used: None,
        })
    }

    /// Ends a turn, or leaves the line. `used` is when a request of the guest's rate was used;
    /// `None` if the connection did nothing with its turn.
    pub(super) fn end(&self, ticket: Ticket, used: Option<Instant>) {
        let mut line = self.0.lock();
        if let (Some(budget), Some(now)) = (&mut line.budget, used) {
            budget.spend(now);
        }
        if line.current.is_none_or(|(current, _)| current != ticket) {
            line.waiting.remove(&ticket);
            return;
        }
        let next = line.waiting.pop_first();
        line.current = next.as_ref().map(|(next, (since, _))| (*next, *since));
        drop(line);
        if let Some((_, (_, waker))) = next {
            waker.wake();
        }
    }
}

/// A turn that was free. It ends when this is dropped.
pub(super) struct FreeTurn<'q> {
    queue: &'q TurnQueue,
    ticket: Ticket,
    used: Option<Instant>,
}

impl FreeTurn<'_> {
    /// Notes that a request was answered in this turn.
    pub(super) fn note_used(&mut self, now: Instant) {
        self.used = Some(now);
    }
}

impl Drop for FreeTurn<'_> {
    fn drop(&mut self) {
        self.queue.end(self.ticket, self.used);
    }
}

impl Line {
    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.current.is_none() && self.waiting.is_empty()
    }
}

/// The turn of one connection: none, in line, or its own.
#[derive(Debug, Default)]
pub(super) struct TurnHold {
    ticket: Option<Ticket>,
    granted: Option<Pace>,
    /// When bytes were read, or a request began.
    used: Option<Instant>,
}

impl TurnHold {
    /// Asks for the turn; if the connection has it, it keeps it.
    pub(super) fn ask(&mut self, queue: &TurnQueue, now: Instant, waker: &Waker) -> Offer {
        if let Some(pace) = self.granted {
            return Offer::Granted(pace);
        }
        let offer = queue.ask(&mut self.ticket, now, waker);
        if let Offer::Granted(pace) = offer {
            self.granted = Some(pace);
        }
        offer
    }

    /// Notes that bytes were read or a request began, which counts once in a turn.
    pub(super) fn note_used(&mut self, now: Instant) {
        self.used.get_or_insert(now);
    }

    /// Returns the pace of the turn in which the bytes of a request were read; `None` if they were
    /// read in an earlier one.
    pub(super) fn used(&self) -> Option<Pace> {
        self.used.and(self.granted)
    }

    /// Ends the turn, or leaves the line.
    pub(super) fn end(&mut self, queue: &TurnQueue) {
        let TurnHold {
            ticket,
            granted,
            used,
        } = mem::take(self);
        if let Some(ticket) = ticket {
            queue.end(ticket, used.filter(|_| granted == Some(Pace::Within)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A connection that asks, uses its turn and ends it.
    struct Asking {
        hold: TurnHold,
        wakes: Arc<Wakes>,
    }

    impl Asking {
        fn new() -> Asking {
            Asking {
                hold: TurnHold::default(),
                wakes: Arc::default(),
            }
        }

        fn ask(&mut self, queue: &TurnQueue, now: Instant) -> Offer {
            let waker = Waker::from(Arc::clone(&self.wakes));
            let offer = self.hold.ask(queue, now, &waker);
            if matches!(offer, Offer::Granted(_)) {
                self.hold.note_used(now);
            }
            offer
        }

        fn wakes(&self) -> usize {
            self.wakes.0.load(Ordering::Relaxed)
        }
    }

    const WITHIN: Offer = Offer::Granted(Pace::Within);
    const BEYOND: Offer = Offer::Granted(Pace::Beyond);

    #[test]
    fn the_connections_of_a_guest_take_turns_first_come_first_served() {
        let now = Instant::now();
        let queue = TurnQueue::new(None, now);
        let mut connections = [(); 4].map(|()| Asking::new());
        let offers = connections.each_mut().map(|one| one.ask(&queue, now));
        assert_eq!(
            offers,
            [WITHIN, Offer::InLine, Offer::InLine, Offer::InLine]
        );
        // A connection that has its turn keeps it, and asking twice is asking once.
        assert_eq!(connections[0].ask(&queue, now), WITHIN);
        assert_eq!(connections[2].ask(&queue, now), Offer::InLine);
        // The one that has ended its turn comes last when it asks again.
        let mut order = Vec::new();
        for _ in 0..8 {
            let number = (0..4)
                .find(|number| connections[*number].ask(&queue, now) == WITHIN)
                .unwrap();
            order.push(number);
            connections[number].hold.end(&queue);
            assert_eq!(connections[number].ask(&queue, now), Offer::InLine);
        }
        assert_eq!(order, [0, 1, 2, 3, 0, 1, 2, 3]);
        // Each was woken when its turn came, and no other.
        assert_eq!(connections.each_ref().map(Asking::wakes), [2, 2, 2, 2]);
    }

    /// Otherwise the guest's other connections would never be read from again.
    #[test]
    fn a_connection_that_ends_leaves_the_line_or_passes_its_turn_on() {
        let now = Instant::now();
        let queue = TurnQueue::new(None, now);
        let mut connections = [(); 4].map(|()| Asking::new());
        for connection in &mut connections {
            connection.ask(&queue, now);
        }
        // One in line, then the one whose turn it is, then one that was woken and has not asked.
        connections[1].hold.end(&queue);
        connections[0].hold.end(&queue);
        connections[2].hold.end(&queue);
        assert_eq!(
            connections.each_ref().map(Asking::wakes),
            [0, 0, 1, 1],
            "the second was not woken"
        );
        assert_eq!(connections[3].ask(&queue, now), WITHIN);
        connections[3].hold.end(&queue);
        connections[3].hold.end(&queue);
        assert!(queue.0.lock().is_empty());
    }

    #[test]
    fn beyond_the_rate_a_connection_waits_and_after_the_longest_delay_its_request_is_refused() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let queue = TurnQueue::new(RateLimit::new(1, 2), start);
        let turn = |connection: &mut Asking, now| {
            let offer = connection.ask(&queue, now);
            if matches!(offer, Offer::Granted(_)) {
                connection.hold.end(&queue);
            }
            offer
        };
        let mut connection = Asking::new();
        assert_eq!(turn(&mut connection, at(0)), WITHIN);
        assert_eq!(turn(&mut connection, at(0)), WITHIN);
        // The next use is free at 1,000 ms, which is longer than the longest delay.
        let delay = MAX_DELAY.as_millis() as u64;
        assert_eq!(turn(&mut connection, at(0)), Offer::NotBefore(at(delay)));
        // Others of this guest are in line meanwhile, in their order.
        let mut second = Asking::new();
        assert_eq!(turn(&mut second, at(10)), Offer::InLine);
        assert_eq!(turn(&mut connection, at(delay)), BEYOND);
        assert_eq!(
            turn(&mut second, at(delay)),
            Offer::NotBefore(at(delay + 10))
        );
        assert_eq!(turn(&mut second, at(delay + 10)), BEYOND);
        // A refusal uses nothing of the rate.
        let mut third = Asking::new();
        assert_eq!(turn(&mut third, at(900)), Offer::NotBefore(at(1_000)));
        assert_eq!(turn(&mut third, at(1_000)), WITHIN);
    }

    #[test]
    fn a_turn_in_which_nothing_was_read_uses_nothing_of_the_rate() {
        let now = Instant::now();
        let queue = TurnQueue::new(RateLimit::new(1, 1), now);
        let (mut hold, waker) = (TurnHold::default(), Waker::noop());
        for _ in 0..10 {
            assert_eq!(hold.ask(&queue, now, waker), WITHIN);
            assert_eq!(hold.used(), None);
            hold.end(&queue);
        }
        // However much is read in one turn, it counts once.
        assert_eq!(hold.ask(&queue, now, waker), WITHIN);
        hold.note_used(now);
        hold.note_used(now);
        assert_eq!(hold.used(), Some(Pace::Within));
        hold.end(&queue);
        assert_eq!(hold.used(), None);
        let free = now + Duration::from_secs(1);
        assert_eq!(hold.ask(&queue, free, waker), WITHIN);
    }
}
