//! The turns of one guest connection: when it may read, and when it may answer.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::time::{Sleep, sleep_until};

use super::turn_queue::{Offer, Pace, TurnHold, TurnQueue};

/// The turns of one connection in its guest's queue. They are shared by what reads bytes and what
/// answers requests.
pub(super) struct GuestTurns<'q> {
    queue: &'q TurnQueue,
    hold: Mutex<TurnHold>,
}

/// The timer of a connection that waits for its guest's request rate. It is allocated when it is
/// first needed.
#[derive(Default)]
pub(super) struct RateTimer(Option<Pin<Box<Sleep>>>);

impl<'q> GuestTurns<'q> {
    pub(super) fn new(queue: &'q TurnQueue) -> GuestTurns<'q> {
        GuestTurns {
            queue,
            hold: Mutex::default(),
        }
    }

    /// Returns when it is this connection's turn. It keeps the turn until [`GuestTurns::end`].
    pub(super) fn poll(&self, timer: &mut RateTimer, cx: &mut Context<'_>) -> Poll<Pace> {
        loop {
            let offer = self.hold.lock().ask(self.queue, Instant::now(), cx.waker());
            match offer {
                Offer::Granted(pace) => return Poll::Ready(pace),
                Offer::InLine => return Poll::Pending,
                Offer::NotBefore(at) => ready!(timer.poll_until(at, cx)),
            }
        }
    }

    /// Notes that bytes were read in this turn, at this time.
    pub(super) fn note_read(&self, now: Instant) {
        self.hold.lock().note_used(now);
    }

    /// Ends the turn: an answer is written, or the connection waits for its peer.
    pub(super) fn end(&self) {
        self.hold.lock().end(self.queue);
    }

    /// Waits for the turn to read.
    pub(super) async fn wait(&self) {
        let mut timer = RateTimer::default();
        poll_fn(|cx| self.poll(&mut timer, cx)).await;
    }

    /// Waits for the turn of a request whose head is complete. A request that was read in the
    /// present turn has it already. Any other was read together with an earlier one, so the
    /// connection yields to other guests first.
    pub(super) async fn begin_request(&self) -> Pace {
        if let Some(pace) = self.hold.lock().used() {
            return pace;
        }
        let (mut timer, mut has_yielded) = (RateTimer::default(), false);
        let pace = poll_fn(|cx| {
            let turn = self.poll(&mut timer, cx);
            if turn.is_ready() && !has_yielded {
                has_yielded = true;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            has_yielded = true;
            turn
        })
        .await;
        self.note_read(Instant::now());
        pace
    }
}

impl Drop for GuestTurns<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

impl RateTimer {
    fn poll_until(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let at = at.into();
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if timer.deadline() != at {
            timer.as_mut().reset(at);
        }
        timer.as_mut().poll(cx)
    }
}
