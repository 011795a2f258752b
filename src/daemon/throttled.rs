//! The guests that exceed their request rate: counted, and logged once a minute for each guest.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tracing::warn;

use crate::instance::InstanceId;

/// How often one guest is logged.
const LOG_AGAIN: Duration = Duration::from_secs(60);

/// What was done to a guest beyond its rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Throttling {
    /// A request was answered 503.
    Refused,
    /// A connection was reset.
    Reset,
}

/// How often it was done since the start, for all guests.
#[derive(Debug, Default)]
pub(super) struct ThrottleCounts {
    refused: AtomicU64,
    reset: AtomicU64,
}

/// What was done to one guest and not logged yet.
#[derive(Debug, Default)]
pub(super) struct ThrottleLog(Mutex<Unlogged>);

#[derive(Clone, Copy, Debug, Default)]
struct Unlogged {
    /// When the last line was logged, since the host's boot.
    logged: Option<Duration>,
    refused: u64,
    reset: u64,
}

impl ThrottleCounts {
    /// Counts it once more.
    pub(super) fn count(&self, done: Throttling) {
        let count = match done {
            Throttling::Refused => &self.refused,
            Throttling::Reset => &self.reset,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the counts by the answer that guests got.
    pub(super) fn by_answer(&self) -> [(&'static str, u64); 2] {
        [("503", &self.refused), ("reset", &self.reset)]
            .map(|(answer, count)| (answer, count.load(Ordering::Relaxed)))
    }
}

impl ThrottleLog {
    /// Counts it for the guest, and logs the guest if it was not logged for a minute.
    pub(super) fn note(&self, instance: &InstanceId, done: Throttling, since_boot: Duration) {
        if let Some((refused, reset)) = self.count(done, since_boot) {
            let instance = instance.as_str();
            warn!(
                instance,
                refused,
                reset,
                "guest exceeds guest.requests_per_second: its requests are delayed, then answered 503, and \
                 connections beyond that are reset"
            );
        }
    }

    /// Returns the requests that were refused and the connections that were reset since the last
    /// line, if it is time for the next one.
    fn count(&self, done: Throttling, since_boot: Duration) -> Option<(u64, u64)> {
        let mut unlogged = self.0.lock();
        match done {
            Throttling::Refused => unlogged.refused += 1,
            Throttling::Reset => unlogged.reset += 1,
        }
        let is_silent = |logged| since_boot.saturating_sub(logged) < LOG_AGAIN;
        if unlogged.logged.is_some_and(is_silent) {
            return None;
        }
        let Unlogged { refused, reset, .. } = *unlogged;
        *unlogged = Unlogged {
            logged: Some(since_boot),
            ..Unlogged::default()
        };
        Some((refused, reset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_logged_once_a_minute_with_what_was_done_to_it_since() {
        let log = ThrottleLog::default();
        let at = |seconds: u64| Duration::from_secs(1_000 + seconds);
        assert_eq!(log.count(Throttling::Refused, at(0)), Some((1, 0)));
        for second in 0..60 {
            assert_eq!(log.count(Throttling::Refused, at(second)), None);
            assert_eq!(log.count(Throttling::Reset, at(second)), None);
        }
        assert_eq!(log.count(Throttling::Reset, at(60)), Some((60, 61)));
        assert_eq!(log.count(Throttling::Reset, at(119)), None);
        assert_eq!(log.count(Throttling::Refused, at(500)), Some((1, 1)));
    }

    #[test]
    fn all_are_counted_by_answer() {
        let counts = ThrottleCounts::default();
        counts.count(Throttling::Refused);
        counts.count(Throttling::Reset);
        counts.count(Throttling::Reset);
        assert_eq!(counts.by_answer(), [("503", 1), ("reset", 2)]);
    }
}
