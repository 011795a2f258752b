//! The head filter before the HTTP parser: it stops what the parser accepts and the guest plane
//! must not.
//!
//! No request has a body, so every inbound byte belongs to a head, and a few bytes of state are
//! enough to check all of them. A byte that makes a head ambiguous is replaced by NUL, and the
//! parser refuses NUL with 400. So only one parser decides where a request ends. The filter stops:
//!
//! * a line feed without a carriage return (some parsers end the line there, others do not)
//! * `#` and bytes above 0x7f in the request line (the parser silently drops a fragment)
//! * more than one empty line before a request
//! * Content-Length and Transfer-Encoding in one head (the parser removes Content-Length)

/// The state of one connection's inbound bytes.
#[derive(Debug, Default)]
pub(crate) struct HeadFilter {
    previous: u8,
    /// Lines of this head with at least one byte.
    lines: usize,
    /// Bytes of this line so far.
    length: usize,
    /// Empty lines before this head.
    blank: usize,
    /// The start of the field name, in lower case.
    name: [u8; MAX_NAME_LENGTH],
    in_name: bool,
    framing: Framing,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Framing {
    #[default]
    None,
    ContentLength,
    TransferEncoding,
}

const MAX_NAME_LENGTH: usize = b"transfer-encoding".len();

impl HeadFilter {
    /// Checks the next inbound bytes and replaces those that must not pass with NUL.
    pub(crate) fn pass(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            if !self.admits(*byte) {
                *byte = 0;
            }
            self.previous = *byte;
        }
    }

    fn admits(&mut self, byte: u8) -> bool {
        match byte {
            b'\n' if self.previous != b'\r' => return false,
            b'\n' => return self.end_of_line(),
            b'\r' => return true,
            _ => {}
        }
        if self.length == 0 {
            self.lines += 1;
            self.in_name = self.lines > 1;
        }
        self.length += 1;
        if self.lines == 1 {
            return byte != b'#' && byte < 0x80;
        }
        if byte == b':' && self.in_name {
            self.in_name = false;
            return self.end_of_name();
        }
        if self.in_name && self.length <= MAX_NAME_LENGTH {
            self.name[self.length - 1] = byte.to_ascii_lowercase();
        }
        true
    }

    fn end_of_line(&mut self) -> bool {
        let was_empty = self.length == 0;
        self.length = 0;
        if !was_empty {
            return true;
        }
        if self.lines == 0 {
            self.blank += 1;
            return self.blank <= 1;
        }
        *self = HeadFilter::default();
        true
    }

    fn end_of_name(&mut self) -> bool {
        let length = self.length - 1;
        let framing = match self.name.get(..length) {
            Some(b"content-length") => Framing::ContentLength,
            Some(b"transfer-encoding") => Framing::TransferEncoding,
            _ => return true,
        };
        let both = self.framing != Framing::None && self.framing != framing;
        self.framing = framing;
        !both
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filtered(text: &str) -> String {
        // The result must not depend on fragmentation: once whole, once byte by byte.
        let mut whole = text.as_bytes().to_vec();
        HeadFilter::default().pass(&mut whole);
        let mut single = text.as_bytes().to_vec();
        let mut head_filter = HeadFilter::default();
        single.chunks_mut(1).for_each(|byte| head_filter.pass(byte));
        assert_eq!(whole, single, "{text:?}");
        String::from_utf8_lossy(&whole).into_owned()
    }

    #[test]
    fn unambiguous_requests_pass_unchanged() {
        for text in [
            "GET /latest/ HTTP/1.1\r\nHost: imds\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: #\u{fc}\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "PUT /latest/api/token HTTP/1.1\r\nTransfer-Encoding: chunked\r\nHost: a\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            "PUT / HTTP/1.1\r\nContent-Length: 0\r\nX-Content-Length: 1\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            "PUT / HTTP/1.1\r\nContent-Length: 0\r\n\r\nPUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nA: content-length: 1\r\nB: transfer-encoding: x\r\n\r\n",
        ] {
            assert_eq!(filtered(text), text);
        }
    }

    #[test]
    fn ambiguous_heads_get_a_nul_byte() {
        for text in [
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1\r\nX: a\nHost: b\r\n\r\n",
            "\nGET / HTTP/1.1\r\n\r\n",
            "\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            "GET /#a HTTP/1.1\r\n\r\n",
            "GET /\u{fc} HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\nX: y\r\nCONTENT-LENGTH: 0\r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length: zz\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            assert!(filtered(text).contains('\0'), "{text:?}");
        }
    }

    #[test]
    fn random_bytes_are_kept_or_replaced_by_nul() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        for _ in 0..2000 {
            let mut bytes: Vec<u8> = (0..200)
                .map(|_| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    b"\r\n: #GETa\xffcontent-length"[(state % 24) as usize]
                })
                .collect();
            let before = bytes.clone();
            HeadFilter::default().pass(&mut bytes);
            assert!(
                bytes
                    .iter()
                    .zip(&before)
                    .all(|(after, before)| after == before || *after == 0)
            );
        }
    }
}
