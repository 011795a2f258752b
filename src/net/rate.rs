//! How often something may happen: so many times a second, and a burst after a pause.
//!
//! The clock is an argument. There is no timer: what has become free is computed when it is asked
//! for.

use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

/// A rate with a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RateLimit {
    /// The time that one use takes.
    interval: Duration,
    /// The time that a whole burst takes.
    burst: Duration,
}

/// What is left of a rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RateBudget {
    limit: RateLimit,
    /// When the whole burst is free again.
    full_at: Instant,
}

impl RateLimit {
    /// Returns a limit of `per_second` uses a second, and `burst` at once; `None` for 0 a second,
    /// which means no limit.
    pub(crate) fn new(per_second: u32, burst: u32) -> Option<RateLimit> {
        let interval = SECOND.checked_div(per_second)?;
        Some(RateLimit {
            interval,
            burst: interval * burst.max(1),
        })
    }

    /// Returns a limit that is `factor` times as high.
    pub(super) fn times(self, factor: u32) -> RateLimit {
        RateLimit {
            interval: self.interval / factor,
            burst: self.burst,
        }
    }
}

impl RateBudget {
    /// Returns a budget with the whole burst.
    pub(crate) fn new(limit: RateLimit, now: Instant) -> RateBudget {
        RateBudget {
            limit,
            full_at: now,
        }
    }

    /// Returns how long it takes until the next use is free; zero if one is free now.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        let used = self.full_at.saturating_duration_since(now);
        (used + self.limit.interval).saturating_sub(self.limit.burst)
    }

    /// Uses one.
    pub(super) fn spend(&mut self, now: Instant) {
        self.full_at = self.full_at.max(now) + self.limit.interval;
    }

    /// Uses one if one is free.
    pub(crate) fn try_spend(&mut self, now: Instant) -> bool {
        let is_free = self.wait(now).is_zero();
        if is_free {
            self.spend(now);
        }
        is_free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns how many uses are free at `now`.
    fn spend_all(budget: &mut RateBudget, now: Instant) -> usize {
        (0..1_000).take_while(|_| budget.try_spend(now)).count()
    }

    #[test]
    fn a_burst_is_free_at_once_and_then_so_many_a_second() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut budget = RateBudget::new(RateLimit::new(10, 25).unwrap(), start);
        assert_eq!(spend_all(&mut budget, at(0)), 25);
        for (now, expected) in [
            (50, 0),
            (100, 1),
            (199, 0),
            (200, 1),
            (1_200, 10),
            // A pause frees the burst, and no more.
            (100_000, 25),
            (100_100, 1),
        ] {
            assert_eq!(spend_all(&mut budget, at(now)), expected, "at {now} ms");
        }
        // An earlier clock frees nothing.
        assert_eq!(spend_all(&mut budget, at(0)), 0);
    }

    #[test]
    fn the_wait_ends_when_a_use_is_free() {
        let start = Instant::now();
        let mut budget = RateBudget::new(RateLimit::new(4, 2).unwrap(), start);
        assert_eq!(budget.wait(start), Duration::ZERO);
        spend_all(&mut budget, start);
        let wait = budget.wait(start);
        assert_eq!(wait, Duration::from_millis(250));
        let before = start + wait - Duration::from_nanos(1);
        assert!(!budget.try_spend(before));
        assert!(budget.try_spend(start + wait));
    }

    #[test]
    fn zero_a_second_is_no_limit_and_a_burst_is_at_least_one() {
        assert_eq!(RateLimit::new(0, 100), None);
        let start = Instant::now();
        let mut budget = RateBudget::new(RateLimit::new(1, 0).unwrap(), start);
        assert_eq!(spend_all(&mut budget, start), 1);
        // Twice as many a second, and twice the burst.
        let mut twice = RateBudget::new(RateLimit::new(10, 5).unwrap().times(2), start);
        assert_eq!(spend_all(&mut twice, start), 10);
        assert_eq!(spend_all(&mut twice, start + Duration::from_millis(50)), 1);
    }
}
