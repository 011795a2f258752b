//! The fast path against the slow one: the same bytes in, the same bytes out.

use std::borrow::Cow;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;

use super::*;
use crate::http::{Connection, HeaderLines, HeaderText, RawRequest, Reply, UnreadableRequest};
use crate::instance::{Attachment, HopLimit, InstanceId};
use crate::net::drain::DrainControl;
use crate::net::guest_service::{AcceptedConnection, GuestService, GuestTurn};
use crate::net::limits::{Delivery, FastPath, Limits};
use crate::net::slots::ConnectionSlots;
use crate::origin::{Family, Holder, Origin};

/// Answers each request with what it is. Counts the requests of the fast path.
struct Mirror {
    slots: Arc<ConnectionSlots>,
    fast: AtomicUsize,
}

struct MirrorTurn;

impl GuestService for Mirror {
    fn accept(&self, _: &Origin) -> Option<AcceptedConnection> {
        Some(AcceptedConnection {
            holder: Holder {
                instance: InstanceId::parse("i-0123456789abcdef0")?,
                launch_epoch: 1,
            },
            slot: self.slots.take(Instant::now()).ok()?,
        })
    }

    fn turn<'a>(&'a self, _: &'a Origin) -> Option<Box<dyn GuestTurn + 'a>> {
        Some(Box::new(MirrorTurn))
    }

    fn in_turn(&self, _: &Origin, work: &mut dyn FnMut(&dyn GuestTurn)) {
        self.fast.fetch_add(1, Ordering::Relaxed);
        work(&MirrorTurn);
    }
}

impl GuestTurn for MirrorTurn {
    fn hop_limit(&self, method: &str) -> Option<HopLimit> {
        (method == "PUT").then_some(HopLimit::TWO)
    }

    fn waits(&self, request: RawRequest<'_>) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        let waits = request.target.starts_with("/wait");
        waits.then(|| Box::pin(std::future::ready(())) as _)
    }

    fn answer(&self, request: RawRequest<'_>) -> Option<Reply<'_>> {
        if request.target.starts_with("/silence") {
            return None;
        }
        let mut headers: Vec<String> = request
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {:?}", String::from_utf8_lossy(value)))
            .collect();
        // The parser groups lines by their names.
        headers.sort();
        let text = format!(
            "{} {} {:?} {:?} {headers:?}",
            request.method, request.target, request.version, request.body
        );
        let body = match request.target.starts_with("/large") {
            true => text.repeat(100_000),
            false => text,
        };
        let keeps = request.headers.iter().any(|(name, value)| {
            *name == "connection" && value.eq_ignore_ascii_case(b"keep-alive")
        });
        let connection = match keeps && request.method != "PUT" {
            true => Connection::KeepAlive,
            false => Connection::Close,
        };
        let mut lines = HeaderLines::new();
        lines.push("Content-Length", HeaderText::Number(body.len() as u64));
        lines.push("X-Aws-Ec2-Mirror", HeaderText::Static("yes"));
        if connection == Connection::Close {
            lines.push("Connection", HeaderText::Static("close"));
        }
        Some(Reply {
            status: if request.target.starts_with("/missing") {
                404
            } else {
                200
            },
            reason: request.target.starts_with("/odd").then_some("Not Usual"),
            headers: lines,
            body: Cow::Owned(body.into_bytes()),
            hop_limit: self.hop_limit(request.method),
            connection,
        })
    }

    fn throttle(&self, _: RawRequest<'_>) -> Option<Reply<'_>> {
        None
    }

    fn refuse(&self, reason: UnreadableRequest) -> Option<Reply<'_>> {
        let mut headers = HeaderLines::new();
        headers.push("Connection", HeaderText::Static("close"));
        Some(Reply {
            status: reason.status(),
            reason: None,
            headers,
            body: Cow::Borrowed(b""),
            hop_limit: None,
            connection: Connection::Close,
        })
    }
}

/// Starts a server once `before` has returned: what it sends to the address is there when the first
/// connection is accepted. Returns what `during` returns, and how many requests took the fast path.
fn serve<B, T>(
    fast_path: FastPath,
    delivery: Delivery,
    before: impl FnOnce(SocketAddr) -> B,
    during: impl FnOnce(SocketAddr, B) -> T,
) -> (T, usize) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let listener = runtime
        .block_on(async { crate::net::listener::open("127.0.0.1:0".parse().unwrap()) })
        .unwrap();
    let address = listener.local_addr().unwrap();
    let sent = before(address);
    let limit = Arc::new(AtomicUsize::new(10_000));
    let service = Arc::new(Mirror {
        slots: ConnectionSlots::new(limit, None, Instant::now()),
        fast: AtomicUsize::new(0),
    });
    let drain = DrainControl::new();
    let listener = GuestListener {
        listener,
        family: Family::Ipv4,
        service: Arc::clone(&service) as _,
        limits: Limits {
            head: Duration::from_secs(5),
            extra_hops: 0,
            delivery,
            fast_path,
        },
    };
    let of_drain = Arc::clone(&service);
    let identify = move |_: &TcpStream, peer| {
        let origin = Origin {
            attachment: Attachment::Listener("test".into()),
            family: Family::Ipv4,
            peer,
            holder: None,
        };
        Some((of_drain.accept(&origin)?.slot, origin))
    };
    let accepting = accept(listener, drain.drain(), identify);
    let result = std::thread::scope(|scope| {
        let (done, ended) = tokio::sync::oneshot::channel();
        scope.spawn(|| {
            runtime.block_on(async {
                let accepting = tokio::spawn(accepting);
                let _ = ended.await;
                drain.end();
                drain.ended().await;
                accepting.abort();
            });
        });
        let result = during(address, sent);
        done.send(()).unwrap();
        result
    });
    let fast = service.fast.load(Ordering::Relaxed);
    (result, fast)
}

fn send(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut client = TcpStream::connect(address).unwrap();
    client.set_nodelay(true).unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    client.write_all(bytes).unwrap();
    client
}

/// Reads to the end. A reset ends it too.
fn read_all(mut client: TcpStream) -> String {
    let _ = client.shutdown(Shutdown::Write);
    let mut bytes = Vec::new();
    let _ = client.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Sends each text on a connection of its own, whole and before the server begins.
fn answers(fast_path: FastPath, delivery: Delivery, texts: &[String]) -> (Vec<String>, usize) {
    let clients = |address| -> Vec<TcpStream> {
        texts
            .iter()
            .map(|text| send(address, text.as_bytes()))
            .collect()
    };
    serve(fast_path, delivery, clients, |_, clients| {
        clients.into_iter().map(read_all).collect()
    })
}

fn get(target: &str, headers: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: imds\r\n{headers}\r\n")
}

const KEEP: &str = "Connection: keep-alive\r\n";

#[test]
fn both_paths_give_the_same_bytes_for_requests_that_are_there_at_once() {
    let ordinary = [
        get("/", ""),
        get("/a?b=c", "X-Token:  spaces  \r\nAccept: */*\r\n"),
        get("/missing", ""),
        get("/odd", ""),
        get("/silence", ""),
        get("/large", ""),
        get("/kept", KEEP),
        get("/large-kept", KEEP),
        "HEAD /a HTTP/1.1\r\nHost: imds\r\n\r\n".to_string(),
        "PUT /latest/api/token HTTP/1.1\r\nHost: imds\r\nTTL: 60\r\n\r\n".to_string(),
        "PUT /t HTTP/1.1\r\nHost: imds\r\nContent-Length: 0\r\n\r\n".to_string(),
        get("/twice", "A: 1\r\nA: 2\r\nHost: other\r\n"),
    ];
    let others = [
        get("/wait", ""),
        get("/", "Expect: 100-continue\r\n"),
        get("/", "X: \u{fc}\r\n"),
        "GET / HTTP/1.0\r\n\r\n".to_string(),
        "OPTIONS * HTTP/1.1\r\nHost: imds\r\n\r\n".to_string(),
        "GET /\r\n\r\n".to_string(),
        "GET / HTTP/1.1\r\nHost: imds\r\n".to_string(),
        "PUT / HTTP/1.1\r\nHost: imds\r\nContent-Length: 3\r\n\r\nabc".to_string(),
        "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_string(),
        format!("{}{}", get("/1", KEEP), get("/2", "")),
        format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(3_000)),
        format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(17)),
        format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(100)),
        format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "b".repeat(10_000)),
        "\0".to_string(),
        String::new(),
    ];
    let texts: Vec<String> = ordinary.iter().chain(&others).cloned().collect();
    for delivery in [Delivery::ByKernel, Delivery::Awaited] {
        let (slow, none) = answers(FastPath::Off, delivery, &texts);
        let (fast, count) = answers(FastPath::On, delivery, &texts);
        for (text, (slow, fast)) in texts.iter().zip(slow.iter().zip(&fast)) {
            assert!(
                slow == fast,
                "{text:?}\nslow: {slow:.300}\nfast: {fast:.300}"
            );
        }
        // One of the others asks whether it has to wait.
        assert_eq!((none, count), (0, ordinary.len() + 1), "{delivery:?}");
    }
}

#[test]
fn a_connection_that_is_kept_alive_is_answered_alike_request_by_request() {
    let requests = [
        get("/1", KEEP),
        get("/2?", KEEP),
        "HEAD /3 HTTP/1.1\r\nHost: imds\r\nConnection: Keep-Alive\r\n\r\n".to_string(),
        get("/missing", KEEP),
        // From here on the parser has the connection.
        get("/wait", KEEP),
        get("/4", KEEP),
        "PUT /5 HTTP/1.1\r\nHost: imds\r\n\r\n".to_string(),
    ];
    let exchange = |address: SocketAddr, ()| {
        let mut client = send(address, b"");
        let mut all = Vec::new();
        for request in &requests {
            client.write_all(request.as_bytes()).unwrap();
            let mut answer = Vec::new();
            let is_whole = |answer: &[u8]| {
                let text = String::from_utf8_lossy(answer).into_owned();
                let head = text.find("\r\n\r\n").map(|end| end + 4);
                head.is_some_and(|head| {
                    let length = text
                        .lines()
                        .find_map(|line| line.strip_prefix("Content-Length: "))
                        .and_then(|length| length.parse::<usize>().ok());
                    request.starts_with("HEAD") || answer.len() == head + length.unwrap()
                })
            };
            while !is_whole(&answer) {
                let mut buffer = [0; 4096];
                let length = client.read(&mut buffer).unwrap();
                assert!(length > 0, "the connection ended: {request}");
                answer.extend_from_slice(&buffer[..length]);
            }
            all.push(String::from_utf8(answer).unwrap());
        }
        all.push(read_all(client));
        all
    };
    for delivery in [Delivery::ByKernel, Delivery::Awaited] {
        let (slow, none) = serve(FastPath::Off, delivery, |_| (), exchange);
        let (fast, count) = serve(FastPath::On, delivery, |_| (), exchange);
        assert_eq!(slow, fast);
        assert_eq!((none, count), (0, 5), "{delivery:?}");
    }
}

#[test]
fn a_request_in_pieces_is_answered_alike() {
    let request = get("/a", "A: b\r\n");
    for cut in 1..request.len() {
        let in_two = |address: SocketAddr, ()| {
            let mut client = send(address, &request.as_bytes()[..cut]);
            std::thread::yield_now();
            client.write_all(&request.as_bytes()[cut..]).unwrap();
            read_all(client)
        };
        let (slow, _) = serve(FastPath::Off, Delivery::ByKernel, |_| (), in_two);
        let (fast, _) = serve(FastPath::On, Delivery::ByKernel, |_| (), in_two);
        assert!(
            slow == fast && slow.starts_with("HTTP/1.1 200 OK\r\n"),
            "{cut}: {fast}"
        );
    }
}

/// Heads that are nearly ordinary: a few pieces, each of them sometimes odd.
fn nearly_ordinary() -> impl Strategy<Value = String> {
    let method = prop_oneof![
        4 => Just("GET"), 2 => Just("PUT"), 2 => Just("HEAD"), 1 => Just("OPTIONS"), 1 => Just("get")
    ];
    let target = prop_oneof![
        4 => "/[a-z0-9/._~%?&=-]{0,20}", 1 => "/[ -~]{0,6}", 1 => "[ -~]{0,6}", 1 => Just("*".to_string())
    ];
    let version = prop_oneof![8 => Just("HTTP/1.1"), 1 => Just("HTTP/1.0"), 1 => Just("HTTP/1.2")];
    let name = prop_oneof![
        4 => "[A-Za-z_-]{1,12}",
        1 => prop_oneof![
            Just("Host"), Just("Connection"), Just("Content-Length"), Just("Transfer-Encoding"),
            Just("Expect"), Just("Upgrade"), Just("TE"), Just("Keep-Alive"), Just("Content-length"),
        ].prop_map(str::to_string),
        1 => "[ -~]{0,5}",
    ];
    let value = prop_oneof![
        4 => "[ -~]{0,12}",
        1 => prop_oneof![
            Just("keep-alive"), Just("close"), Just("Keep-Alive, close"), Just("0"), Just("1"),
            Just("chunked"), Just("upgrade"), Just("100-continue"),
        ].prop_map(str::to_string),
        1 => "[\t\r\n ~-\u{100}]{0,4}",
    ];
    let end = prop_oneof![12 => Just("\r\n"), 1 => Just("\n"), 1 => Just("\r\r\n"), 1 => Just("")];
    let line = (
        name,
        prop_oneof![6 => Just(": "), 1 => Just(":"), 1 => Just(" : ")],
        value,
        end.clone(),
    )
        .prop_map(|(name, colon, value, end)| format!("{name}{colon}{value}{end}"));
    let lines = prop::collection::vec(line, 0..6).prop_map(|lines| lines.concat());
    (method, target, version, end.clone(), lines, end).prop_map(
        |(method, target, version, end, lines, last)| {
            format!("{method} {target} {version}{end}{lines}{last}")
        },
    )
}

#[test]
fn generated_heads_are_answered_alike() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = nearly_ordinary();
    let mut texts: Vec<String> = Vec::new();
    while texts.len() < 800 {
        let text = strategy.new_tree(&mut runner).unwrap().current();
        texts.push(text);
    }
    let (slow, _) = answers(FastPath::Off, Delivery::ByKernel, &texts);
    let (fast, count) = answers(FastPath::On, Delivery::ByKernel, &texts);
    for (text, (slow, fast)) in texts.iter().zip(slow.iter().zip(&fast)) {
        assert!(slow == fast, "{text:?}\nslow: {slow}\nfast: {fast}");
    }
    assert!(count > 40, "{count} took the fast path");
}
