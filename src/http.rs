//! One request and one reply, as `net` and `guest` exchange them.
//!
//! No type of an HTTP library appears here, so the guest plane works behind any parser, a fuzzer or
//! a table of test cases.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;

use crate::instance::HopLimit;

/// A request as the HTTP parser delivers it.
#[derive(Clone, Copy, Debug)]
pub struct RawRequest<'a> {
    /// The method as sent, for example `GET`.
    pub method: &'a str,
    /// The request target as sent: `/latest/meta-data/`, or an absolute URI.
    pub target: &'a str,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: HttpVersion,
    /// Header lines: names in lower case, values as sent. Lines of one name keep their order.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// Whether the request has a body.
    pub body: Body,
}

/// The HTTP version of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.0: needs no Host header and is never kept alive.
    Http10,
    /// HTTP/1.1
    Http11,
}

/// Whether a request has a body. Real clients send an empty chunked body with the token PUT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// No body, or an empty one, however it is framed.
    Empty,
    /// At least one byte.
    NotEmpty,
    /// No byte, and no end in time.
    Unfinished,
}

/// Why the HTTP parser delivers no request. It is answered all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnreadableRequest {
    /// 400: it is not HTTP/1, or its head is ambiguous.
    Syntax,
    /// 408: it began and did not end in time.
    TimedOut,
    /// 414: the target is longer than the parser reads.
    TargetTooLong,
    /// 431: the head has too many bytes or too many lines.
    HeadTooLarge,
}

impl UnreadableRequest {
    /// Returns the status of the answer (RFC 9110 section 15.5, RFC 6585 section 5).
    pub fn status(self) -> u16 {
        match self {
            UnreadableRequest::Syntax => 400,
            UnreadableRequest::TimedOut => 408,
            UnreadableRequest::TargetTooLong => 414,
            UnreadableRequest::HeadTooLarge => 431,
        }
    }
}

/// What happens to the connection after a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// EC2 closes it, also with HTTP/1.1, unless the client asks for keep-alive.
    Close,
    /// The client sent `Connection: keep-alive`.
    KeepAlive,
}

/// One reply, ready to be written.
#[derive(Debug)]
pub struct Reply<'a> {
    /// The status code.
    pub status: u16,
    /// The reason phrase; `None` for the usual one.
    pub reason: Option<&'static str>,
    /// Header lines in EC2's order and spelling.
    pub headers: HeaderLines,
    /// The body that a GET gets. A HEAD gets the same headers and no body.
    pub body: Cow<'a, [u8]>,
    /// The hop limit that the packets of this reply must have; `None` for the system's default.
    pub hop_limit: Option<HopLimit>,
    /// What happens to the connection after this reply.
    pub connection: Connection,
}

impl Reply<'_> {
    /// Returns the reply with a body of its own.
    pub fn into_owned(self) -> Reply<'static> {
        Reply {
            body: Cow::Owned(self.body.into_owned()),
            ..self
        }
    }
}

/// The value of a header line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderText {
    /// A constant.
    Static(&'static str),
    /// A number in decimal.
    Number(u64),
    /// A time, printed to the second.
    Date(Timestamp),
}

/// The header lines of a reply, in the order in which they are sent. They are kept in place: a reply
/// is made for every request.
#[derive(Clone, Copy)]
pub struct HeaderLines {
    lines: [(&'static str, HeaderText); MAX_LINES],
    count: usize,
}

/// The most header lines of a reply.
const MAX_LINES: usize = 8;

impl HeaderLines {
    /// Returns no lines.
    pub const fn new() -> HeaderLines {
        HeaderLines {
            lines: [("", HeaderText::Static("")); MAX_LINES],
            count: 0,
        }
    }

    /// Adds a line. There are at most eight.
    pub fn push(&mut self, name: &'static str, value: HeaderText) {
        self.lines[self.count] = (name, value);
        self.count += 1;
    }

    /// Returns the lines.
    pub fn as_slice(&self) -> &[(&'static str, HeaderText)] {
        &self.lines[..self.count]
    }
}

impl Default for HeaderLines {
    fn default() -> Self {
        HeaderLines::new()
    }
}

impl fmt::Debug for HeaderLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

impl HeaderText {
    /// Appends the value as it is sent.
    pub fn write_to(self, bytes: &mut Vec<u8>) {
        match self {
            HeaderText::Static(text) => bytes.extend_from_slice(text.as_bytes()),
            HeaderText::Number(number) => write_decimal(number, bytes),
            HeaderText::Date(time) => bytes.extend_from_slice(&http_date(time)),
        }
    }
}

/// The value as it is sent.
impl fmt::Display for HeaderText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::new();
        self.write_to(&mut bytes);
        f.write_str(&String::from_utf8_lossy(&bytes))
    }
}

fn write_decimal(mut number: u64, bytes: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    bytes.extend_from_slice(&digits[start..]);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_values_are_printed_as_they_are_sent() {
        for (value, text) in [
            (HeaderText::Static("EC2ws"), "EC2ws"),
            (HeaderText::Number(0), "0"),
            (HeaderText::Number(9), "9"),
            (HeaderText::Number(10), "10"),
            (HeaderText::Number(21_600), "21600"),
            (HeaderText::Number(u64::MAX), "18446744073709551615"),
            (
                HeaderText::Date(Timestamp::UNIX_EPOCH),
                "Thu, 01 Jan 1970 00:00:00 GMT",
            ),
            (
                HeaderText::Date("2024-05-16T16:25:07.0609Z".parse().unwrap()),
                "Thu, 16 May 2024 16:25:07 GMT",
            ),
        ] {
            assert_eq!(value.to_string(), text);
        }
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
