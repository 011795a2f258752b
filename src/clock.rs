//! Time as an argument. Rules take a [`Moment`]; only the outermost callers ask [`Moment::now`].

use std::time::Duration;

use jiff::Timestamp;

/// One moment, on both clocks that matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Time since the host booted, suspended time included (CLOCK_BOOTTIME). The life of a token is measured on it: it
    /// can't be set, and it does not stand still while the host sleeps.
    pub since_boot: Duration,
    /// The wall clock, for what the protocol prints: `Date`, `Last-Modified`, `Expiration`, signatures.
    pub wall: Timestamp,
}

impl Moment {
    /// Asks the kernel.
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

    /// This moment, `duration` later on both clocks.
    pub fn after(self, duration: Duration) -> Moment {
        let later = jiff::SignedDuration::try_from(duration).unwrap_or(jiff::SignedDuration::MAX);
        Moment {
            since_boot: self.since_boot.saturating_add(duration),
            wall: self.wall.saturating_add(later).unwrap_or(Timestamp::MAX),
        }
    }
}

/// RFC 1123 in GMT, as HTTP's `Date` and `Last-Modified` want it: `Thu, 16 May 2024 16:25:00 GMT`.
pub fn http_date(time: Timestamp) -> String {
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// ISO 8601 in UTC to the second, as EC2's metadata prints times: `2024-05-16T16:25:00Z`.
pub fn iso_seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// ISO 8601 in UTC with milliseconds, as EC2's API prints times: `2024-05-16T16:25:00.000Z`.
pub fn iso_milliseconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_printed_as_ec2_prints_them() {
        let time: Timestamp = "2024-05-16T16:25:07.0609Z".parse().unwrap();
        assert_eq!(http_date(time), "Thu, 16 May 2024 16:25:07 GMT");
        assert_eq!(iso_seconds(time), "2024-05-16T16:25:07Z");
        assert_eq!(iso_milliseconds(time), "2024-05-16T16:25:07.060Z");
    }
}
