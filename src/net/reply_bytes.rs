//! The bytes of a reply: its head in EC2's order and spelling, and its body.

use hyper::StatusCode;
use jiff::Timestamp;

use crate::http::{HeaderText, Reply, http_date};

/// Which of a reply's parts are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SentParts {
    /// The head and the body.
    Whole,
    /// The head only: the request was HEAD.
    Head,
}

/// Dates that were printed before: most replies have the same ones.
#[derive(Default)]
pub(super) struct PrintedDates([(Option<i64>, [u8; 29]); 8]);

/// Appends the bytes of a reply.
pub(super) fn write(
    reply: &Reply<'_>,
    parts: SentParts,
    dates: &mut PrintedDates,
    bytes: &mut Vec<u8>,
) {
    // The longest head of a reply has less.
    bytes.reserve(512 + reply.body.len());
    match (reply.status, reply.reason) {
        // Most replies.
        (200, None) => bytes.extend_from_slice(b"HTTP/1.1 200 OK\r\n"),
        (status, reason) => write_status_line(status, reason, bytes),
    }
    for (name, value) in reply.headers.as_slice() {
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(b": ");
        match value {
            HeaderText::Date(time) => bytes.extend_from_slice(dates.print(*time)),
            HeaderText::Static(_) | HeaderText::Number(_) => value.write_to(bytes),
        }
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    if parts == SentParts::Whole {
        bytes.extend_from_slice(&reply.body);
    }
}

/// Appends a status line; `None` for the usual reason phrase.
pub(super) fn write_status_line(status: u16, reason: Option<&str>, bytes: &mut Vec<u8>) {
    let usual = || StatusCode::from_u16(status).ok()?.canonical_reason();
    let reason = reason.or_else(usual).unwrap_or_default();
    bytes.extend_from_slice(format!("HTTP/1.1 {status} {reason}\r\n").as_bytes());
}

impl PrintedDates {
    fn print(&mut self, time: Timestamp) -> &[u8; 29] {
        let second = time.as_second();
        let (printed, text) = &mut self.0[second.rem_euclid(8) as usize];
        if *printed != Some(second) {
            (*printed, *text) = (Some(second), http_date(time));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_that_share_a_place_are_printed_right() {
        let mut dates = PrintedDates::default();
        for second in [0, 8, 0, -8, -1, 7, 15, 0, 1_747_412_707, 3] {
            let time = Timestamp::from_second(second).unwrap();
            assert_eq!(*dates.print(time), http_date(time), "{second}");
        }
    }
}
