//! Time as an argument. Rules take a [`Moment`]; only the outermost callers use [`Moment::now`].

use std::time::Duration;

use jiff::Timestamp;

/// A moment on the two clocks that matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The time since the host booted, including suspended time (CLOCK_BOOTTIME). It measures the
    /// lifetime of tokens, because it cannot be set and does not stop while the host is suspended.
    pub since_boot: Duration,
    /// The wall clock, for the times that the protocol prints: `Date`, `Last-Modified`,
    /// `Expiration`, signatures.
    pub wall: Timestamp,
}

impl Moment {
    /// Returns the current moment.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the wall clock"
    )]
    pub fn now() -> Moment {
        let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Moment {
            since_boot: Duration::new(
                boot.tv_sec.unsigned_abs(),
                u32::try_from(boot.tv_nsec).unwrap_or(0),
            ),
            wall: Timestamp::now(),
        }
    }

    /// Returns the moment `duration` later on both clocks.
    pub fn after(self, duration: Duration) -> Moment {
        let later = jiff::SignedDuration::try_from(duration).unwrap_or(jiff::SignedDuration::MAX);
        Moment {
            since_boot: self.since_boot.saturating_add(duration),
            wall: self.wall.saturating_add(later).unwrap_or(Timestamp::MAX),
        }
    }
}

/// Formats a time as ISO 8601 in UTC with seconds, as EC2's metadata does: `2024-05-16T16:25:00Z`.
pub fn iso_seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Formats a time as ISO 8601 in UTC with milliseconds, as EC2's API does:
/// `2024-05-16T16:25:00.000Z`.
pub fn iso_milliseconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_formats_of_ec2() {
        let time: Timestamp = "2024-05-16T16:25:07.0609Z".parse().unwrap();
        assert_eq!(iso_seconds(time), "2024-05-16T16:25:07Z");
        assert_eq!(iso_milliseconds(time), "2024-05-16T16:25:07.060Z");
    }
}
