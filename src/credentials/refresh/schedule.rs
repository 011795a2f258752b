//! When to fetch: functions of times and random numbers.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Credentials are renewed at least this long before they expire, as on EC2: "We make new
/// credentials available at least five minutes before the expiration of the old credentials." (IAM
/// roles for Amazon EC2)
const AHEAD: SignedDuration = SignedDuration::from_mins(5);
/// The random part by which a renewal is earlier still, so that the instances of a host do not all
/// renew at once.
const AHEAD_JITTER: SignedDuration = SignedDuration::from_mins(1);
/// The shortest time between two fetches of one session, however short its credentials are valid.
const MIN_WAIT: SignedDuration = SignedDuration::from_secs(1);
/// How often credentials without an expiration are fetched.
const UNLIMITED_INTERVAL: SignedDuration = SignedDuration::from_hours(1);
/// How long credentials without an expiration appear to be valid.
const UNLIMITED_VALIDITY: SignedDuration = SignedDuration::from_hours(6);
/// The longest wait for a renewal, however long the credentials are valid: a source may revoke
/// them.
const MAX_WAIT: SignedDuration = SignedDuration::from_hours(12);
/// The longest wait between a failure and the next attempt.
const MAX_RETRY: Duration = Duration::from_secs(60);
/// Returns when to renew credentials that were fetched at `updated`. `jitter` is from 0 to 1.
///
/// That is after half to two thirds of their validity, and at the latest five to six minutes before
/// they expire. Credentials that are valid for less than twice that long are renewed after half
/// their validity.
pub fn refresh_at(updated: Timestamp, expiration: Option<Timestamp>, jitter: f64) -> Timestamp {
    let Some(expiration) = expiration else {
        return later(updated, UNLIMITED_INTERVAL - AHEAD.mul_f64(jitter));
    };
    let validity = expiration.duration_since(updated);
    let ahead = (AHEAD + AHEAD_JITTER.mul_f64(jitter)).min(validity / 2);
    let wait = validity
        .mul_f64(0.5 + jitter / 6.0)
        .min(validity - ahead)
        .min(MAX_WAIT);
    later(updated, wait.max(MIN_WAIT))
}

/// Returns how long to wait after the `failures`th failure in a row. `jitter` is from 0 to 1.
pub fn retry_after(failures: u32, jitter: f64) -> Duration {
    let longest = Duration::from_secs(1 << failures.min(6)).min(MAX_RETRY);
    longest.mul_f64(0.5 + jitter / 2.0)
}

/// Returns `time` plus `duration`, at most the largest timestamp.
pub(super) fn later(time: Timestamp, duration: SignedDuration) -> Timestamp {
    time.saturating_add(duration).unwrap_or(Timestamp::MAX)
}

/// Returns when credentials that were fetched at `now` expire, for credentials that have no
/// expiration.
pub(super) fn unlimited_expiration(now: Timestamp) -> Timestamp {
    later(now, UNLIMITED_VALIDITY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        format!("2026-05-01T{text}Z").parse().unwrap()
    }

    /// "We make new credentials available at least five minutes before the expiration of the old
    /// credentials." (Amazon EC2 User Guide, IAM roles for Amazon EC2)
    #[test]
    fn credentials_are_renewed_at_least_five_minutes_before_they_expire() {
        for (expiration, jitter, due) in [
            ("18:00:00", 0.0, "15:00:00"),
            ("18:00:00", 1.0, "16:00:00"),
            ("13:00:00", 0.0, "12:30:00"),
            ("13:00:00", 0.5, "12:35:00"),
            ("12:15:00", 0.0, "12:07:30"),
            ("12:15:00", 1.0, "12:09:00"),
            ("12:12:00", 1.0, "12:06:00"),
            // Too short for five minutes: after half their validity.
            ("12:06:00", 0.0, "12:03:00"),
            ("12:06:00", 1.0, "12:03:00"),
            ("12:00:04", 1.0, "12:00:02"),
            ("12:00:01", 0.0, "12:00:01"),
            ("12:00:00.5", 0.0, "12:00:01"),
            ("12:00:00", 0.0, "12:00:01"),
            ("11:00:00", 1.0, "12:00:01"),
        ] {
            assert_eq!(
                refresh_at(time("12:00:00"), Some(time(expiration)), jitter),
                time(due),
                "{expiration} {jitter}"
            );
        }
        for (jitter, due) in [(0.0, "13:00:00"), (1.0, "12:55:00")] {
            assert_eq!(refresh_at(time("12:00:00"), None, jitter), time(due));
        }
        for minutes in 12..2000 {
            for jitter in [0.0, 0.1, 0.5, 0.9, 1.0] {
                let end = later(time("00:00:00"), SignedDuration::from_mins(minutes));
                let due = refresh_at(time("00:00:00"), Some(end), jitter);
                assert!(end.duration_since(due) >= AHEAD, "{minutes} {jitter} {due}");
            }
        }
        let far = refresh_at(Timestamp::MIN, Some(Timestamp::MAX), 1.0);
        assert!(far > Timestamp::MIN && far < Timestamp::MAX);
    }

    #[test]
    fn a_failed_source_is_retried_after_one_second_to_one_minute() {
        for (failures, shortest, longest) in [
            (1, 1, 2),
            (2, 2, 4),
            (3, 4, 8),
            (4, 8, 16),
            (5, 16, 32),
            (6, 30, 60),
            (7, 30, 60),
            (u32::MAX, 30, 60),
        ] {
            assert_eq!(retry_after(failures, 0.0), Duration::from_secs(shortest));
            assert_eq!(retry_after(failures, 1.0), Duration::from_secs(longest));
        }
    }
}
