//! A whole connection of a guest: bytes go in through a socket, and what the server does is seen.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use super::fixed_service::{FixedService, with_tokens};
use crate::guest::fuzzing::{GUARDED, origin_at};
use crate::net::connection::{self, ConnectionProgress, GuestConnection};
use crate::net::guest_service::GuestService;
use crate::net::hop_limit::HopLimitInForce;
use crate::net::slots::ConnectionSlots;
use crate::net::{Delivery, DrainControl, FastPath, Limits};
use crate::origin::Family;

/// How long a connection may take whose peer has closed its side: no limit of the server is longer.
const MAX_DURATION: Duration = Duration::from_secs(10);
/// What only a guest with a token reads.
const SECRETS: [&str; 3] = [
    "i-0000000000000000b",
    "demo0not0a0secret",
    "imdsd's demo instance",
];

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
});
static LISTENER: LazyLock<TcpListener> =
    LazyLock::new(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback"));

/// A guest's connection whose tokens are required. `{token}` stands for a valid token.
///
/// The connection ends. The server writes complete answers with known statuses and nothing else, the
/// last one closes the connection if any does, and without a token it says nothing about the
/// instance.
pub fn guest_connection(data: &[u8]) {
    let sent = with_tokens(data);
    let received = exchange(&sent, FastPath::On);
    let answers = read_answers(&received);
    for (number, answer) in answers.iter().enumerate() {
        let is_last = number + 1 == answers.len();
        assert!(is_last || !answer.closes, "an answer after the last one");
    }
    let text = String::from_utf8_lossy(&received);
    if sent == data {
        let shown = SECRETS.iter().find(|secret| text.contains(**secret));
        assert_eq!(shown, None, "without a token");
    }
}

/// The fast path of a guest's connection, and the slow one: the same bytes come back. `{token}` stands
/// for a valid token.
pub fn guest_paths(data: &[u8]) {
    let sent = with_tokens(data);
    let [fast, slow] = [FastPath::On, FastPath::Off].map(|path| exchange(&sent, path));
    assert_eq!(
        String::from_utf8_lossy(&fast),
        String::from_utf8_lossy(&slow)
    );
}

/// Sends bytes to a guest's connection, closes the sending side, and returns all bytes that come
/// back.
fn exchange(sent: &[u8], fast_path: FastPath) -> Vec<u8> {
    let address = LISTENER.local_addr().expect("it is bound");
    let mut client = TcpStream::connect(address).expect("loopback");
    let (server, _) = LISTENER.accept().expect("it was connected to");
    server.set_nonblocking(true).expect("a socket");
    client
        .set_read_timeout(Some(MAX_DURATION))
        .expect("a socket");

    let limits = Limits {
        head: Duration::from_secs(5),
        extra_hops: 0,
        delivery: Delivery::ByKernel,
        fast_path,
    };
    let slots = ConnectionSlots::new(Arc::new(AtomicUsize::new(8)), None, Instant::now());
    let Ok(slot) = slots.take(Instant::now()) else {
        unreachable!("no other connection has a slot");
    };
    let control = DrainControl::new();
    let service: Arc<dyn GuestService> = Arc::new(FixedService);
    // What fits the socket is there before the server reads: the fast path reads once.
    let (first, rest) = sent.split_at(sent.len().min(16 * 1024));
    let _ = client.write_all(first);
    let rest = rest.to_vec();
    // The client has a thread of its own, so it does not block the server.
    let client = std::thread::spawn(move || {
        // The server may close before it has read everything.
        let _ = client.write_all(&rest);
        let _ = client.shutdown(Shutdown::Write);
        let mut received = Vec::new();
        let _ = client.read_to_end(&mut received);
        received
    });
    RUNTIME.block_on(async {
        let stream = tokio::net::TcpStream::from_std(server).expect("a socket");
        let connection = GuestConnection {
            stream,
            origin: origin_at(GUARDED),
            slot,
            began: tokio::time::Instant::now(),
            hop_limit: HopLimitInForce::new(Family::Ipv4, 0),
            progress: ConnectionProgress::Unread,
        };
        let serving = connection::serve(connection, service, limits, control.drain());
        let ended = tokio::time::timeout(MAX_DURATION, serving).await;
        assert!(ended.is_ok(), "the connection does not end");
    });
    client.join().expect("the client does not panic")
}

/// One answer of the server.
struct ReadAnswer {
    closes: bool,
}

/// Reads the answers in a stream; an answer to HEAD has no body. Panics if there is anything else.
fn read_answers(mut stream: &[u8]) -> Vec<ReadAnswer> {
    let mut answers = Vec::new();
    while !stream.is_empty() {
        let end = stream.windows(4).position(|four| four == b"\r\n\r\n");
        let (head, rest) = stream.split_at(end.expect("a head ends") + 4);
        let head = std::str::from_utf8(head).expect("a head is ASCII");
        let (status_line, headers) = head.split_once("\r\n").expect("a head has lines");
        let status: u16 = status_line
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.get(2..5)?.parse().ok())
            .expect("a status line");
        let known = [100, 200, 400, 401, 403, 404, 405, 408, 413, 414, 421, 431];
        assert!(known.contains(&status), "{status_line}");
        let header = |name: &str| {
            let mut lines = headers
                .split("\r\n")
                .filter_map(|line| line.split_once(": "));
            lines
                .find(|(of, _)| of.eq_ignore_ascii_case(name))
                .map(|(_, value)| value)
        };
        stream = rest;
        if status == 100 {
            continue;
        }
        assert_eq!(header("server"), Some("EC2ws"));
        let length = header("content-length").and_then(|length| length.parse().ok());
        let length: usize = length.expect("an answer has a length");
        let is_of_head = stream.len() < length || stream.starts_with(b"HTTP/1.");
        if !is_of_head {
            stream = &stream[length..];
        } else {
            assert!(
                stream.is_empty() || stream.starts_with(b"HTTP/1."),
                "a body is cut off"
            );
        }
        answers.push(ReadAnswer {
            closes: header("connection") == Some("close"),
        });
    }
    answers
}
