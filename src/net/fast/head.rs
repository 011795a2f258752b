//! Reads ordinary request heads.
//!
//! An ordinary head is complete, is all that was sent, and can be read in one way only. Everything
//! else goes to the HTTP parser of the slow path: this reader accepts less than the parser, and
//! reads what it accepts in the same way.
//!
//! ```text
//! head    = method SP target SP "HTTP/1.1" CRLF *16( name ":" *SP value *SP CRLF ) CRLF
//! method  = "GET" / "HEAD" / "PUT"
//! target  = "/" *( letters, digits and -._~%!$&'()*+,;=:@/? )
//! name    = 1*( letters, digits, "-" and "_" ), and none of the names that change the framing
//! value   = printable ASCII and spaces
//! ```
//!
//! One line about the framing is ordinary: many clients say that the body of a PUT has no bytes.

use std::ops::Range;

use crate::http::{Body, HttpVersion, RawRequest};

/// The most header lines of an ordinary head. Clients send up to ten.
const MAX_LINES: usize = 16;
const CONTENT_LENGTH: &[u8] = b"content-length";
/// Headers that make a head something other than a request without a body.
const FRAMING: [&[u8]; 3] = [b"expect", b"upgrade", b"transfer-encoding"];

/// What the letters of a header name are in lower case; 0 for a byte that no ordinary name has.
static NAME: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let letter = byte as u8;
        if letter.is_ascii_alphanumeric() || letter == b'-' || letter == b'_' {
            table[byte] = letter.to_ascii_lowercase();
        }
        byte += 1;
    }
    table
};
/// Which bytes an ordinary target may have.
static TARGET: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let others = b"-._~%!$&'()*+,;=:@/?";
    let mut index = 0;
    while index < others.len() {
        table[others[index] as usize] = true;
        index += 1;
    }
    table
};

/// Calls `answer` with the request of an ordinary head; `None` for any other bytes. Only the letters
/// of header names change: they become lower case, which means the same to every reader.
pub(super) fn with_request<T>(
    bytes: &mut [u8],
    answer: impl FnOnce(RawRequest<'_>) -> T,
) -> Option<T> {
    let (method, target_start) = match bytes {
        [b'G', b'E', b'T', b' ', b'/', ..] => ("GET", 4),
        [b'P', b'U', b'T', b' ', b'/', ..] => ("PUT", 4),
        [b'H', b'E', b'A', b'D', b' ', b'/', ..] => ("HEAD", 5),
        _ => return None,
    };
    // 1. The request line.
    let target = &bytes[target_start..];
    let target_end = target_start + target.iter().position(|byte| !TARGET[usize::from(*byte)])?;
    const VERSION: &[u8] = b" HTTP/1.1\r\n";
    bytes[target_end..].starts_with(VERSION).then_some(())?;

    // 2. The header lines.
    let mut lines = [HeaderLine::default(); MAX_LINES];
    let (mut count, mut start) = (0, target_end + VERSION.len());
    let mut has_length = false;
    while bytes[start..] != *b"\r\n" {
        let (line, next) = header_line(&mut bytes[start..], start)?;
        let name = &bytes[line.name()];
        match name.len() {
            6 | 7 | 17 if FRAMING.contains(&name) => return None,
            14 if name == CONTENT_LENGTH => {
                if has_length || bytes[line.value()] != *b"0" {
                    return None;
                }
                has_length = true;
            }
            _ => {}
        }
        *lines.get_mut(count)? = line;
        (count, start) = (count + 1, next);
    }

    // 3. The request. All of it is ASCII: each byte was looked at.
    let text = str::from_utf8(bytes).ok()?;
    let mut headers = [("", &[][..]); MAX_LINES];
    for (header, line) in headers.iter_mut().zip(&lines[..count]) {
        *header = (&text[line.name()], &bytes[line.value()]);
    }
    Some(answer(RawRequest {
        method,
        target: &text[target_start..target_end],
        version: HttpVersion::Http11,
        headers: &headers[..count],
        body: Body::Empty,
    }))
}

/// Where a header line has its parts. A head has less than 64 KiB.
#[derive(Clone, Copy, Default)]
struct HeaderLine {
    name: (u16, u16),
    value: (u16, u16),
}

impl HeaderLine {
    fn name(self) -> Range<usize> {
        usize::from(self.name.0)..usize::from(self.name.1)
    }

    fn value(self) -> Range<usize> {
        usize::from(self.value.0)..usize::from(self.value.1)
    }
}

/// Reads the header line that `bytes` begin with, and writes its name in lower case. `start` is where
/// they begin in the head. Returns where the next line begins.
fn header_line(bytes: &mut [u8], start: usize) -> Option<(HeaderLine, usize)> {
    let mut name_end = 0;
    for byte in bytes.iter_mut() {
        let letter = NAME[usize::from(*byte)];
        if letter == 0 {
            break;
        }
        *byte = letter;
        name_end += 1;
    }
    if name_end == 0 || *bytes.get(name_end)? != b':' {
        return None;
    }
    let value = &bytes[name_end + 1..];
    let blanks = value.iter().take_while(|byte| **byte == b' ').count();
    let value = &value[blanks..];
    let length = printable(value);
    value[length..].starts_with(b"\r\n").then_some(())?;
    let ends = value[..length].iter().rev();
    let trailing = ends.take_while(|byte| **byte == b' ').count();
    let value_start = start + name_end + 1 + blanks;
    let at = |index: usize| u16::try_from(index).ok();
    let line = HeaderLine {
        name: (at(start)?, at(start + name_end)?),
        value: (at(value_start)?, at(value_start + length - trailing)?),
    };
    Some((line, value_start + length + 2))
}

/// Returns how many bytes from the first on are printable ASCII or spaces.
fn printable(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = 0x80 * ONES;
    let mut length = 0;
    // Eight at a time: a byte below the space borrows, one above the tilde carries.
    while let Some(word) = bytes[length..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*word);
        let is_low = word.wrapping_sub(0x20 * ONES) & !word & HIGH;
        let is_high = (word.wrapping_add(ONES) | word) & HIGH;
        if is_low | is_high != 0 {
            break;
        }
        length += 8;
    }
    let rest = bytes[length..].iter();
    length + rest.take_while(|byte| matches!(byte, b' '..=b'~')).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<String> {
        let mut bytes = text.as_bytes().to_vec();
        with_request(&mut bytes, |request| {
            let headers: Vec<String> = request
                .headers
                .iter()
                .map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value)))
                .collect();
            format!(
                "{} {} {}",
                request.method,
                request.target,
                headers.join("|")
            )
        })
    }

    #[test]
    fn ordinary_heads_are_read() {
        for (text, expected) in [
            ("GET / HTTP/1.1\r\n\r\n", "GET / "),
            (
                "PUT /latest/api/token HTTP/1.1\r\nHost: 169.254.169.254\r\nX-Aws-EC2-Metadata-Token-TTL-Seconds:60\r\n\r\n",
                "PUT /latest/api/token host=169.254.169.254|x-aws-ec2-metadata-token-ttl-seconds=60",
            ),
            (
                "HEAD /a?b=%20 HTTP/1.1\r\nA:   b c  \r\nContent-Length: 0\r\nE:\r\n\r\n",
                "HEAD /a?b=%20 a=b c|content-length=0|e=",
            ),
            (
                "GET / HTTP/1.1\r\nUser_Agent: 0123456789 ~!\"#\r\n\r\n",
                "GET / user_agent=0123456789 ~!\"#",
            ),
        ] {
            assert_eq!(read(text).as_deref(), Some(expected), "{text:?}");
        }
    }

    #[test]
    fn everything_else_is_left_to_the_parser() {
        let line = "X: y\r\n";
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", line.repeat(MAX_LINES + 1));
        for text in [
            "",
            "GET",
            "GET / HTTP/1.1\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\r",
            // More than one request, or a byte of a body.
            "GET / HTTP/1.1\r\n\r\nG",
            "GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\n\r\n",
            "get / HTTP/1.1\r\n\r\n",
            "GET  / HTTP/1.1\r\n\r\n",
            "GET /\tHTTP/1.1\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
            "GET / HTTP/2.0\r\n\r\n",
            "GET / HTTP/1.1 \r\n\r\n",
            "GET /\r\n\r\n",
            "GET * HTTP/1.1\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\n\r\n",
            "GET /#a HTTP/1.1\r\n\r\n",
            "GET /\" HTTP/1.1\r\n\r\n",
            "GET /\u{fc} HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\n\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
            "GET / HTTP/1.1\r\n: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\tc\r\n\r\n",
            "GET / HTTP/1.1\r\nA: 01234567\u{7f}\r\n\r\n",
            "GET / HTTP/1.1\r\nA: 0123456\u{fc}\r\n\r\n",
            "GET / HTTP/1.1\r\nA: \0\r\n\r\n",
            "GET / HTTP/1.1\r\nA(): b\r\n\r\n",
            "GET / HTTP/1.1\r\nExpect: 100-continue\r\n\r\n",
            "GET / HTTP/1.1\r\nUPGRADE: h2c\r\n\r\n",
            "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "PUT / HTTP/1.1\r\nContent-Length: 1\r\n\r\n",
            "PUT / HTTP/1.1\r\nContent-Length: 00\r\n\r\n",
            "PUT / HTTP/1.1\r\nContent-Length:\r\n\r\n",
            "PUT / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
            &many,
        ] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }

    #[test]
    fn each_byte_of_a_value_is_looked_at_wherever_it_is() {
        for length in 0..40 {
            let mut value = vec![b'~'; length];
            assert_eq!(printable(&value), length);
            for place in 0..length {
                for byte in 0..=255_u8 {
                    value[place] = byte;
                    let expected = match byte {
                        b' '..=b'~' => length,
                        _ => place,
                    };
                    assert_eq!(printable(&value), expected, "{byte} at {place} of {length}");
                }
                value[place] = b' ';
            }
        }
    }
}
