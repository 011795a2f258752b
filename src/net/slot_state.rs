//! What the connection of a slot is doing. Eviction and the beginning of an answer exclude each
//! other: both leave an idle phase in one atomic step, so a request that has begun is never cut off.

use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::Notify;

/// The phase of a connection, and how it learns that it must end.
#[derive(Debug, Default)]
pub(super) struct SlotState {
    /// A [`CallerProgress`] while it is idle; `BUSY` or `EVICTED`.
    phase: AtomicU8,
    evicted: Notify,
}

/// How far an idle connection has come: it waits for a request, or for the rest of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum CallerProgress {
    /// It has sent nothing.
    #[default]
    Nothing = 0,
    /// It has begun a TLS handshake, or was answered before.
    Started = 1,
    /// It has begun a request.
    Request = 2,
}

/// It has a complete request that is not answered yet.
const BUSY: u8 = 3;
/// It must end, and begins no request any more.
const EVICTED: u8 = 4;

/// A request that is being answered. Its connection is not evicted until this is dropped.
pub(super) struct BusySlot<'s>(&'s SlotState);

impl SlotState {
    /// Notes how far the connection has come.
    pub(super) fn note(&self, progress: CallerProgress) {
        let _ = self.change(|phase| (phase < progress as u8).then_some(progress as u8));
    }

    /// Returns how far the connection has come; `None` if it is busy, or evicted.
    pub(super) fn progress(&self) -> Option<CallerProgress> {
        let phases = [
            CallerProgress::Nothing,
            CallerProgress::Started,
            CallerProgress::Request,
        ];
        let phase = self.phase.load(Ordering::Acquire);
        phases.into_iter().find(|progress| *progress as u8 == phase)
    }

    /// Begins to answer a complete request; `None` if the connection was evicted just before. Then
    /// the request must not be carried out: its answer could not be delivered.
    pub(super) fn begin(&self) -> Option<BusySlot<'_>> {
        self.leave_idle(BUSY).then(|| BusySlot(self))
    }

    /// Evicts the connection. Returns `false` if it is busy, or evicted already.
    pub(super) fn evict(&self) -> bool {
        let is_evicted = self.leave_idle(EVICTED);
        if is_evicted {
            self.evicted.notify_one();
        }
        is_evicted
    }

    /// Returns whether the connection has to make room for another.
    pub(super) fn is_evicted(&self) -> bool {
        self.phase.load(Ordering::Acquire) == EVICTED
    }

    /// Returns when the connection has to make room for another.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }

    fn leave_idle(&self, next: u8) -> bool {
        self.change(|phase| (phase < BUSY).then_some(next))
    }

    fn change(&self, change: impl FnMut(u8) -> Option<u8>) -> bool {
        let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
        self.phase.fetch_update(success, failure, change).is_ok()
    }
}

impl Drop for BusySlot<'_> {
    fn drop(&mut self) {
        let progress = CallerProgress::Started as u8;
        self.0.phase.store(progress, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_only_increases_until_a_request_is_answered() {
        let state = SlotState::default();
        for (noted, expected) in [
            (CallerProgress::Nothing, CallerProgress::Nothing),
            (CallerProgress::Started, CallerProgress::Started),
            (CallerProgress::Request, CallerProgress::Request),
            (CallerProgress::Started, CallerProgress::Request),
        ] {
            state.note(noted);
            assert_eq!(state.progress(), Some(expected));
        }
        let busy = state.begin().unwrap();
        state.note(CallerProgress::Request);
        assert_eq!(state.progress(), None);
        assert!(!state.evict() && state.begin().is_none());
        drop(busy);
        assert_eq!(state.progress(), Some(CallerProgress::Started));
        assert!(state.evict());
        state.note(CallerProgress::Request);
        assert!(state.progress().is_none() && state.begin().is_none() && !state.evict());
    }
}
