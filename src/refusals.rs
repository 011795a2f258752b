//! Refused callers, counted by reason, and which of them are logged.
//!
//! Anyone who reaches an endpoint can be refused at will, so the log shows only the first refusals
//! of each reason in a minute. Reasons are separate: a flood of unsigned requests does not hide a
//! wrong signature. The counts are complete.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;

/// How many refusals of one reason are logged within [`WINDOW`].
const MAX_LOGGED: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);

/// The refusals of one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<BTreeMap<&'static str, OfReason>>);

#[derive(Clone, Copy, Debug, Default)]
struct OfReason {
    count: u64,
    /// When the current window began, since the host's boot.
    window: Duration,
    logged: u32,
    unlogged: u64,
}

impl Refusals {
    /// Counts a refusal. If it should be logged, returns how many of its reason were not logged
    /// since the last one that was.
    pub(crate) fn count(&self, reason: &'static str, since_boot: Duration) -> Option<u64> {
        let mut reasons = self.0.lock();
        let of_reason = reasons.entry(reason).or_default();
        of_reason.count += 1;
        if since_boot.saturating_sub(of_reason.window) >= WINDOW {
            (of_reason.window, of_reason.logged) = (since_boot, 0);
        }
        if of_reason.logged == MAX_LOGGED {
            of_reason.unlogged += 1;
            return None;
        }
        of_reason.logged += 1;
        Some(std::mem::take(&mut of_reason.unlogged))
    }

    /// Returns how many refusals there were since the start, by reason.
    pub(crate) fn counts(&self) -> Vec<(&'static str, u64)> {
        let reasons = self.0.lock();
        reasons
            .iter()
            .map(|(reason, of_reason)| (*reason, of_reason.count))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_refusals_of_each_reason_are_logged_in_a_minute_and_all_are_counted() {
        let refusals = Refusals::default();
        let at = |seconds: u64| Duration::from_secs(1_000 + seconds);
        for _ in 0..10 {
            assert_eq!(refusals.count("flood", at(0)), Some(0));
        }
        for _ in 0..90 {
            assert_eq!(refusals.count("flood", at(59)), None);
        }
        assert_eq!(refusals.count("other", at(59)), Some(0));
        // The next line says how many it represents.
        assert_eq!(refusals.count("flood", at(60)), Some(90));
        assert_eq!(refusals.count("flood", at(61)), Some(0));
        assert_eq!(refusals.counts(), [("flood", 102), ("other", 1)]);
    }
}
