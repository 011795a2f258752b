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

/// Formats a time as RFC 1123 in GMT, for HTTP's `Date` and `Last-Modified`: `Thu, 16 May 2024
/// 16:25:00 GMT`. Every reply has one or two, so it is made without an allocation.
pub fn http_date(time: Timestamp) -> [u8; 29] {
    const SECONDS_PER_DAY: i64 = 86_400;
    let seconds = time.as_second();
    let (day, second) = (
        seconds.div_euclid(SECONDS_PER_DAY),
        seconds.rem_euclid(SECONDS_PER_DAY),
    );
    let (year, month, day_of_month) = civil_date(day);
    let mut text = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    // 1 January 1970 was a Thursday.
    let weekday = 3 * (day + 4).rem_euclid(7) as usize;
    text[..3].copy_from_slice(&b"SunMonTueWedThuFriSat"[weekday..weekday + 3]);
    text[5..7].copy_from_slice(&two_digits(day_of_month));
    let month = 3 * (month as usize - 1);
    text[8..11].copy_from_slice(&b"JanFebMarAprMayJunJulAugSepOctNovDec"[month..month + 3]);
    text[12..14].copy_from_slice(&two_digits(year / 100));
    text[14..16].copy_from_slice(&two_digits(year % 100));
    text[17..19].copy_from_slice(&two_digits(second / 3_600));
    text[20..22].copy_from_slice(&two_digits(second / 60 % 60));
    text[23..25].copy_from_slice(&two_digits(second % 60));
    text
}

/// Returns year, month (1 to 12) and day of the month of a day, counted from 1 January 1970, in the
/// Gregorian calendar.
fn civil_date(day: i64) -> (i64, i64, i64) {
    // Years that begin on 1 March, so that the leap day is the last one. 400 of them have the same
    // number of days.
    const DAYS_PER_ERA: i64 = 146_097;
    const FROM_YEAR_ZERO: i64 = 719_468;
    let day = day + FROM_YEAR_ZERO;
    let (era, day) = (day.div_euclid(DAYS_PER_ERA), day.rem_euclid(DAYS_PER_ERA));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // From March on, five months have 153 days.
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (400 * era + year + next_year, month, day_of_month)
}

fn two_digits(number: i64) -> [u8; 2] {
    [b'0' + (number / 10 % 10) as u8, b'0' + (number % 10) as u8]
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
        assert_eq!(&http_date(time), b"Thu, 16 May 2024 16:25:07 GMT");
        assert_eq!(iso_seconds(time), "2024-05-16T16:25:07Z");
        assert_eq!(iso_milliseconds(time), "2024-05-16T16:25:07.060Z");
    }

    /// The calendar of jiff is the reference: every eleventh day of 800 years, and the ends of its
    /// range.
    #[test]
    fn http_dates_are_those_of_the_calendar() {
        let first: Timestamp = "1900-01-01T00:00:00Z".parse().unwrap();
        let days = (0..292_200)
            .step_by(11)
            .map(|day| first.as_second() + 86_400 * day + day * 7_919 % 86_400);
        let ends = ["0000-01-01T00:00:00Z", "9999-12-30T21:59:59Z"].map(|end| {
            let end: Timestamp = end.parse().unwrap();
            end.as_second()
        });
        for second in days.chain(ends) {
            let time = Timestamp::from_second(second).unwrap();
            let expected = time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
            assert_eq!(http_date(time), expected.as_bytes());
        }
    }
}
