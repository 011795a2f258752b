//! One request and its answer on a blocking connection.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

/// The longest head and the longest body that are read. No metadata service sends more.
const MAX_HEAD_BYTES: usize = 64 << 10;
const MAX_BODY_BYTES: usize = 1 << 20;

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BenchAnswer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    /// Whether the connection cannot be used again.
    pub(super) closes: bool,
}

/// Opens a connection, from `source` if the service recognizes guests by their address. Connecting,
/// sending and receiving may each take `timeout`.
pub(super) fn connect(
    address: SocketAddr,
    source: Option<IpAddr>,
    timeout: Duration,
) -> io::Result<TcpStream> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    socket.connect_timeout(&address.into(), timeout)?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    Ok(stream)
}

/// Sends a request and reads its answer to the end of its body. `buffer` is used again from one
/// exchange to the next. After `deadline` nothing more is read, however slowly bytes arrive.
pub(super) fn exchange(
    stream: &mut (impl Read + Write),
    request: &[u8],
    buffer: &mut Vec<u8>,
    deadline: Instant,
) -> io::Result<BenchAnswer> {
    stream.write_all(request)?;
    buffer.clear();
    let head_end = loop {
        if let Some(end) = end_of_head(buffer) {
            break end;
        }
        if buffer.len() > MAX_HEAD_BYTES {
            return Err(invalid("the head of the answer is too long"));
        }
        if read_more(stream, buffer, deadline)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let head = std::str::from_utf8(&buffer[..head_end])
        .map_err(|_| invalid("the head of the answer is not text"))?;
    let AnswerHead {
        status,
        closes,
        length,
    } = read_head(head)?;
    match length {
        Some(length) if length > MAX_BODY_BYTES => {
            return Err(invalid("the body of the answer is too long"));
        }
        Some(length) => {
            while buffer.len() < head_end + length {
                if read_more(stream, buffer, deadline)? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
        // The body ends with the connection.
        None => while read_more(stream, buffer, deadline)? > 0 && buffer.len() <= MAX_BODY_BYTES {},
    }
    let end = length.map_or(buffer.len(), |length| head_end + length);
    Ok(BenchAnswer {
        status,
        body: buffer[head_end..end].to_vec(),
        closes: closes || length.is_none(),
    })
}

/// Reads until the other side closes, so that the port is not kept busy on this side.
pub(super) fn wait_for_close(mut stream: TcpStream, buffer: &mut Vec<u8>, deadline: Instant) {
    buffer.clear();
    while matches!(read_more(&mut stream, buffer, deadline), Ok(1..))
        && buffer.len() < MAX_HEAD_BYTES
    {}
}

fn read_more(stream: &mut impl Read, buffer: &mut Vec<u8>, deadline: Instant) -> io::Result<usize> {
    // The first piece has the socket's timeout.
    if !buffer.is_empty() && Instant::now() >= deadline {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let mut chunk = [0; 8192];
    let count = stream.read(&mut chunk)?;
    buffer.extend_from_slice(&chunk[..count]);
    Ok(count)
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some(end + 4)
}

/// What matters of the head of an answer.
struct AnswerHead {
    status: u16,
    closes: bool,
    /// The length of the body; `None` if it ends with the connection.
    length: Option<usize>,
}

fn read_head(head: &str) -> io::Result<AnswerHead> {
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (version, status) = (words.next().unwrap_or_default(), words.next());
    let status = match (version, status.and_then(|status| status.parse().ok())) {
        ("HTTP/1.1" | "HTTP/1.0", Some(status)) => status,
        _ => return Err(invalid("the answer is not HTTP/1")),
    };
    let mut closes = version == "HTTP/1.0";
    let mut length = None;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            let number = value.parse().map_err(|_| invalid("a bad Content-Length"))?;
            length = Some(number);
        } else if name.eq_ignore_ascii_case("connection") {
            closes = !value.eq_ignore_ascii_case("keep-alive")
                && (closes || value.eq_ignore_ascii_case("close"));
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(invalid("a chunked answer, which is not supported"));
        }
    }
    Ok(AnswerHead {
        status,
        closes,
        length,
    })
}

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives out an answer in pieces, and keeps what is sent.
    struct Peer {
        sent: Vec<u8>,
        pieces: Vec<&'static [u8]>,
    }

    impl Read for Peer {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.pieces.is_empty() {
                return Ok(0);
            }
            let piece = self.pieces.remove(0);
            buffer[..piece.len()].copy_from_slice(piece);
            Ok(piece.len())
        }
    }

    impl Write for Peer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.sent.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn answer(pieces: &[&'static [u8]]) -> io::Result<BenchAnswer> {
        answer_until(pieces, Instant::now() + Duration::from_secs(3600))
    }

    fn answer_until(pieces: &[&'static [u8]], deadline: Instant) -> io::Result<BenchAnswer> {
        let mut peer = Peer {
            sent: Vec::new(),
            pieces: pieces.to_vec(),
        };
        let request = b"GET / HTTP/1.1\r\n\r\n";
        let answer = exchange(&mut peer, request, &mut Vec::new(), deadline);
        assert_eq!(peer.sent, b"GET / HTTP/1.1\r\n\r\n");
        answer
    }

    #[test]
    fn an_answer_ends_where_its_length_says_however_it_is_cut() {
        let expected = BenchAnswer {
            status: 200,
            body: b"i-1".to_vec(),
            closes: false,
        };
        for pieces in [
            &[&b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ni-1"[..]][..],
            &[
                b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r",
                b"\n",
                b"i-",
                b"1",
            ],
            &[b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length:3\r\n\r\ni-1"],
        ] {
            assert_eq!(answer(pieces).unwrap(), expected);
        }
    }

    #[test]
    fn an_answer_says_whether_the_connection_can_be_used_again() {
        for (head, closes) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false),
            (
                "HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n",
                true,
            ),
            ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", true),
            ("HTTP/1.1 401 Unauthorized\r\n\r\n", true),
        ] {
            assert_eq!(answer(&[head.as_bytes()]).unwrap().closes, closes, "{head}");
        }
    }

    #[test]
    fn an_answer_that_arrives_too_slowly_is_not_read_to_its_end() {
        let past = Instant::now();
        let whole = answer_until(&[b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\ni"], past);
        assert_eq!(whole.unwrap().body, b"i");
        for pieces in [
            &[&b"HTTP/1.1 200 OK\r\n"[..], b"Content-Length: 0\r\n\r\n"][..],
            &[b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\ni", b"-"],
            &[b"HTTP/1.1 200 OK\r\n\r\n", b"i"],
        ] {
            let reason = answer_until(pieces, past).unwrap_err();
            assert_eq!(reason.kind(), io::ErrorKind::TimedOut, "{pieces:?}");
        }
    }

    #[test]
    fn answers_without_an_end_are_errors() {
        let head: &[u8] = &[b'a'; 8192];
        let mut pieces = vec![&b"HTTP/1.1 200 OK\r\n"[..]];
        pieces.extend([head; 9]);
        let reason = answer(&pieces).unwrap_err().to_string();
        assert_eq!(reason, "the head of the answer is too long");
    }

    #[test]
    fn answers_that_are_cut_or_are_not_http_are_errors() {
        for pieces in [
            &[][..],
            &[&b"HTTP/1.1 200 OK\r\n"[..]][..],
            &[b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ni-"],
            &[b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n"],
            &[b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"],
            &[b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"],
            &[b"HTTP/2 200 OK\r\nContent-Length: 0\r\n\r\n"],
            &[b"SSH-2.0-x\r\n\r\n"],
        ] {
            assert!(answer(pieces).is_err(), "{pieces:?}");
        }
    }
}
