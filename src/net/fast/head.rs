//! Reads ordinary request heads.
//!
//! An ordinary head is complete, is all that was sent, and can be read in one way only. Everything
//! else goes to the HTTP parser of the slow path: this reader accepts less than the parser, and
//! reads what it accepts in the same way.
//!
//! ```text
//! head    = method SP target SP "HTTP/1.1" CRLF *15( name ":" *SP value *SP CRLF ) CRLF
//! method  = "GET" / "HEAD" / "PUT"
//! target  = "/" *( letters, digits and -._~%!$&'()*+,;=:@/? )
//! name    = 1*( letters, digits, "-" and "_" ), and none of the names that change the framing
//! value   = printable ASCII and spaces
//! ```

use std::ops::Range;

use memchr::{memchr, memchr2};

use crate::http::{Body, HttpVersion, RawRequest};

/// The most header lines of an ordinary head. Clients send up to ten.
const MAX_LINES: usize = 16;
/// Headers that make a head something other than a request without a body.
const FRAMING: [&[u8]; 4] = [
    b"expect",
    b"upgrade",
    b"content-length",
    b"transfer-encoding",
];

/// What the letters of a header name are in lower case; 0 for a byte that no ordinary name has.
const NAME: [u8; 256] = {
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
const TARGET: [bool; 256] = {
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
        [b'G', b'E', b'T', b' ', ..] => ("GET", 4),
        [b'P', b'U', b'T', b' ', ..] => ("PUT", 4),
        [b'H', b'E', b'A', b'D', b' ', ..] => ("HEAD", 5),
        _ => return None,
    };
    // 1. The request line.
    let line_end = line_end(bytes, target_start)?;
    let rest = bytes[target_start..line_end].strip_suffix(b" HTTP/1.1")?;
    let target = target_start..target_start + rest.len();
    if rest.first() != Some(&b'/') || !rest.iter().all(|byte| TARGET[usize::from(*byte)]) {
        return None;
    }

    // 2. The header lines.
    let mut lines: [(Range<usize>, Range<usize>); MAX_LINES] =
        std::array::from_fn(|_| (0..0, 0..0));
    let (mut count, mut start) = (0, line_end + 2);
    while bytes[start..] != *b"\r\n" {
        let line = header_line(bytes, start)?;
        start = line.end;
        *lines.get_mut(count)? = (line.name, line.value);
        count += 1;
    }

    // 3. Everything is ASCII: each part was looked at.
    let text = str::from_utf8(bytes).ok()?;
    let mut headers = [("", &[][..]); MAX_LINES];
    for (header, (name, value)) in headers.iter_mut().zip(&lines[..count]) {
        *header = (text.get(name.clone())?, &bytes[value.clone()]);
    }
    Some(answer(RawRequest {
        method,
        target: text.get(target)?,
        version: HttpVersion::Http11,
        headers: &headers[..count],
        body: Body::Empty,
    }))
}

/// Where a header line has its parts, and where the next line begins.
struct HeaderLine {
    name: Range<usize>,
    value: Range<usize>,
    end: usize,
}

/// Reads the header line that begins at `start`, and writes its name in lower case.
fn header_line(bytes: &mut [u8], start: usize) -> Option<HeaderLine> {
    let length = memchr(b':', &bytes[start..])?;
    let name = start..start + length;
    for byte in &mut bytes[name.clone()] {
        *byte = NAME[usize::from(*byte)];
    }
    let letters = &bytes[name.clone()];
    if letters.is_empty() || letters.contains(&0) || FRAMING.contains(&letters) {
        return None;
    }
    let (mut value_start, end) = (name.end + 1, line_end(bytes, name.end + 1)?);
    let mut value_end = end;
    while value_start < value_end && bytes[value_start] == b' ' {
        value_start += 1;
    }
    while value_start < value_end && bytes[value_end - 1] == b' ' {
        value_end -= 1;
    }
    let value = value_start..value_end;
    is_printable(&bytes[value.clone()]).then_some(HeaderLine {
        name,
        value,
        end: end + 2,
    })
}

/// Returns where the line ends that `start` is in: before CRLF. `None` if another line break comes
/// first.
fn line_end(bytes: &[u8], start: usize) -> Option<usize> {
    let end = start + memchr2(b'\r', b'\n', &bytes[start..])?;
    bytes[end..].starts_with(b"\r\n").then_some(end)
}

/// Looks at all bytes whatever they are: so many can be looked at in one step.
fn is_printable(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .fold(true, |all, byte| all & matches!(byte, b' '..=b'~'))
}
