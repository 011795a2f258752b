//! Changes options as Terraform does: sends the change, polls every 100 ms until it is `applied`, and
//! trusts that. Guests that send requests all the while show whether it may.

use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::hop_limit::{LISTEN, set_minimum_ttl};
use crate::support::{Daemon, INSTANCE, PATIENCE, TOKEN_REQUEST, call, element};

/// Terraform polls more slowly. Faster polls find a premature `applied` sooner.
const POLL: Duration = Duration::from_millis(100);
/// The minimum TTL of packets that the distant guest accepts.
const FAR: u8 = 5;
/// How many requests of a guest, before a change and after it was applied, are enough to judge by.
const ENOUGH: usize = 3;

/// The options that are changed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Options {
    tokens: &'static str,
    endpoint: &'static str,
    ipv6: &'static str,
    limit: u8,
}

/// A client on the instance, which asks again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guest {
    /// On a connection of its own each time.
    Fresh,
    /// On one connection, as long as that lasts.
    KeptAlive,
    Ipv6Fresh,
    /// Its connection is older than the change that closes the listener.
    Ipv6KeptAlive,
    /// It asks for a token through so many hops that the hop limit decides.
    Far,
}

const GUESTS: [Guest; 5] = [
    Guest::Fresh,
    Guest::KeptAlive,
    Guest::Ipv6Fresh,
    Guest::Ipv6KeptAlive,
    Guest::Far,
];

const NOTHING: &str = "no answer";

/// One request: when it began, when its answer was there, and what that was.
#[derive(Clone, Debug)]
struct Seen {
    guest: Guest,
    began: Instant,
    ended: Instant,
    what: String,
}

impl Guest {
    /// What it sees under these options; `None` where no promise says.
    fn view(self, options: Options) -> Option<&'static str> {
        match self {
            Guest::Ipv6Fresh | Guest::Ipv6KeptAlive if options.ipv6 == "disabled" => Some(NOTHING),
            Guest::Far if options.endpoint == "disabled" => None,
            Guest::Far => Some(if options.limit >= FAR { "200" } else { NOTHING }),
            Guest::Fresh | Guest::KeptAlive | Guest::Ipv6Fresh | Guest::Ipv6KeptAlive => {
                Some(match (options.endpoint, options.tokens) {
                    ("disabled", _) => "403",
                    (_, "required") => "401",
                    _ => "200",
                })
            }
        }
    }

    fn is_ipv6(self) -> bool {
        matches!(self, Guest::Ipv6Fresh | Guest::Ipv6KeptAlive)
    }

    fn keeps_alive(self) -> bool {
        matches!(self, Guest::KeptAlive | Guest::Ipv6KeptAlive)
    }

    /// Sends requests until `stop` is set.
    fn watch(self, address: SocketAddr, stop: &AtomicBool, seen: &Mutex<Vec<Seen>>) {
        let mut kept = None;
        while !stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            let what = self
                .ask(address, &mut kept)
                .map_or(NOTHING.to_string(), |status| status.to_string());
            seen.lock().unwrap().push(Seen {
                guest: self,
                began,
                ended: Instant::now(),
                what,
            });
            // Other tests have the machine too.
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn ask(self, address: SocketAddr, kept: &mut Option<TcpStream>) -> Option<u16> {
        let request = match self {
            Guest::Far => TOKEN_REQUEST.to_string(),
            _ => {
                "GET /latest/meta-data/instance-id HTTP/1.1\r\nHost: imds\r\nConnection: keep-alive\r\n\r\n".to_string()
            }
        };
        let mut stream = match kept.take() {
            Some(stream) => stream,
            None => TcpStream::connect_timeout(&address, PATIENCE).ok()?,
        };
        if self == Guest::Far {
            set_minimum_ttl(&stream, address, FAR);
        }
        stream
            .set_read_timeout(Some(if self == Guest::Far { LISTEN } else { PATIENCE }))
            .unwrap();
        stream.write_all(request.as_bytes()).ok()?;
        let (head, status) = read_answer(&mut stream)?;
        if self.keeps_alive() && !head.contains("Connection: close") {
            *kept = Some(stream);
        }
        Some(status)
    }
}

/// Reads one answer and leaves the connection as it is after it.
fn read_answer(stream: &mut TcpStream) -> Option<(String, u16)> {
    let (mut raw, mut byte) = (Vec::new(), [0]);
    while !raw.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        raw.push(byte[0]);
    }
    let head = String::from_utf8(raw).ok()?;
    let length = head
        .split("Content-Length: ")
        .nth(1)?
        .split("\r\n")
        .next()?
        .parse()
        .ok()?;
    stream.read_exact(&mut vec![0; length]).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((head, status))
}

/// Returns a port of `::1` that no outgoing connection gets while the option is off and no process
/// listens on it.
fn quiet_ipv6_port() -> SocketAddr {
    let first = std::process::id() % 10_000;
    let ports = (0..10_000).map(|next| 20_000 + u16::try_from((first + next) % 10_000).unwrap());
    let mut addresses = ports.map(|port| SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
    addresses
        .find(|address| TcpListener::bind(address).is_ok())
        .expect("some port is free")
}

/// Occupies an address without listening on it: the daemon cannot open its socket, and guests are
/// refused as before.
fn occupy(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
    socket.bind(&address.into()).unwrap();
    socket
}

/// One change, the polls that follow it, and the judgement on everything that guests saw meanwhile.
struct Round<'a> {
    daemon: &'a Daemon,
    ipv6: SocketAddr,
    seen: &'a Mutex<Vec<Seen>>,
}

impl Round<'_> {
    fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap()
    }

    /// Returns whether every guest with a changed view has sent enough requests since then.
    fn is_enough(&self, before: Options, after: Options, since: Instant) -> bool {
        let seen = self.seen();
        let of = |guest: Guest| {
            seen.iter()
                .filter(|seen| seen.guest == guest && seen.began > since)
                .count()
        };
        let enough = |guest: Guest| if guest == Guest::Far { 1 } else { ENOUGH };
        GUESTS
            .iter()
            .all(|guest| guest.view(before) == guest.view(after) || of(*guest) >= enough(*guest))
    }

    fn poll(&self) -> String {
        let answer = call(
            self.daemon.control,
            "DescribeInstances",
            &[("InstanceId.1", INSTANCE)],
        )
        .unwrap();
        element(element(&answer.body, "metadataOptions").unwrap(), "state")
            .unwrap()
            .to_string()
    }

    fn run(&self, before: Options, after: Options, blocked: bool) -> Vec<String> {
        let mut obstacle = blocked.then(|| occupy(self.ipv6));
        self.seen().clear();
        let began = Instant::now();
        while !self.is_enough(before, after, began) {
            assert!(began.elapsed() < PATIENCE, "the guests do not ask");
            std::thread::sleep(Duration::from_millis(10));
        }

        let limit = after.limit.to_string();
        let mut parameters = vec![("InstanceId", INSTANCE)];
        let mut set =
            |changed: bool, name, value| parameters.extend(changed.then_some((name, value)));
        set(before.tokens != after.tokens, "HttpTokens", after.tokens);
        set(
            before.endpoint != after.endpoint,
            "HttpEndpoint",
            after.endpoint,
        );
        set(before.ipv6 != after.ipv6, "HttpProtocolIpv6", after.ipv6);
        set(
            before.limit != after.limit,
            "HttpPutResponseHopLimit",
            &limit,
        );

        let sent = Instant::now();
        let answer = call(
            self.daemon.control,
            "ModifyInstanceMetadataOptions",
            &parameters,
        )
        .unwrap();
        let answered = Instant::now();
        assert_eq!(answer.status, 200, "{}", answer.body);
        let mut states = vec![element(&answer.body, "state").unwrap().to_string()];
        let applied = loop {
            let state = self.poll();
            let read = Instant::now();
            states.push(state);
            if states.last().unwrap() == "applied" {
                break read;
            }
            if states.len() > 4 {
                drop(obstacle.take());
            }
            assert!(sent.elapsed() < PATIENCE, "still pending: {states:?}");
            std::thread::sleep(POLL);
        };
        while !self.is_enough(before, after, applied) {
            assert!(applied.elapsed() < PATIENCE, "the guests do not ask");
            std::thread::sleep(POLL);
            states.push(self.poll());
        }

        let changed: Vec<String> = parameters[1..]
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let said: Vec<String> = states
            .chunk_by(PartialEq::eq)
            .map(|same| format!("{} ×{}", same[0], same.len()))
            .collect();
        let took = (applied - sent).as_secs_f64() * 1e3;
        println!(
            "\n{}: {}; `applied` was read after {took:.1} ms",
            changed.join(" "),
            said.join(", ")
        );
        for guest in GUESTS
            .into_iter()
            .filter(|guest| guest.view(before) != guest.view(after))
        {
            self.judge(guest, before, after, [sent, answered, applied]);
        }
        states
    }

    /// Holds everything that one guest saw to the options of their time.
    fn judge(
        &self,
        guest: Guest,
        before: Options,
        after: Options,
        [sent, answered, applied]: [Instant; 3],
    ) {
        let (Some(old), Some(new)) = (guest.view(before), guest.view(after)) else {
            return;
        };
        let seen = self.seen();
        let seen: Vec<&Seen> = seen.iter().filter(|seen| seen.guest == guest).collect();
        let (olds, news): (Vec<&Seen>, Vec<&Seen>) = seen.iter().partition(|seen| seen.what == old);
        let first = news
            .iter()
            .map(|seen| seen.ended)
            .min()
            .expect("a guest sees the change");
        let after_applied = seen.iter().filter(|seen| seen.began > applied).count();
        let late = olds.iter().filter(|seen| seen.began > applied).count();
        println!(
            "    {guest:?}: {} saw '{old}', {} saw '{new}', the first {:.1} ms after the change was sent; \
             {after_applied} began after `applied`, {late} of them saw '{old}'",
            olds.len(),
            news.len(),
            (first - sent).as_secs_f64() * 1e3
        );
        assert_eq!(
            news.iter()
                .find(|seen| seen.what != new)
                .map(|seen| &seen.what),
            None,
            "{guest:?}: neither of both"
        );
        assert!(
            first >= sent,
            "{guest:?} saw the new options before anybody asked for them"
        );
        assert_eq!(
            late, 0,
            "{guest:?} saw the old options in a request that began after `applied`"
        );
        let relapsed = olds.iter().filter(|seen| seen.began > first).count();
        assert_eq!(
            relapsed, 0,
            "{guest:?} saw the old options again after the new ones"
        );
        // What needs no socket is in force when the call is answered.
        if !guest.is_ipv6() || before.ipv6 == after.ipv6 {
            let late = olds.iter().filter(|seen| seen.began > answered).count();
            assert_eq!(
                late, 0,
                "{guest:?} saw the old options in a request that began after the call was answered"
            );
        }
    }
}

/// "pending until the change is really in force": guests send requests all the while, and each of
/// twelve changes is polled as Terraform does it.
#[test]
fn no_guest_sees_old_options_in_a_request_that_began_after_applied_was_read() {
    let ipv6 = quiet_ipv6_port();
    let first = Options {
        tokens: "required",
        endpoint: "enabled",
        ipv6: "disabled",
        limit: 9,
    };
    let daemon = Daemon::start_with(
        &format!("[[listener]]\nname = \"six\"\nipv6 = \"{ipv6}\"\n"),
        |instance| {
            instance["MetadataOptions"]["HttpPutResponseHopLimit"] = first.limit.into();
            instance["Imds"]["Attachments"] =
                serde_json::json!([{ "Listener": "demo" }, { "Listener": "six" }]);
        },
    );
    let optional = Options {
        tokens: "optional",
        ..first
    };
    let six = Options {
        ipv6: "enabled",
        ..first
    };
    // The second of each pair: whether another process holds the IPv6 address for a while.
    let rounds = [
        (optional, false),
        (first, false),
        (
            Options {
                endpoint: "disabled",
                ..first
            },
            false,
        ),
        (first, false),
        (Options { limit: 2, ..first }, false),
        (first, false),
        // The first change of IPv6: later, closed connections would keep the address from the test's
        // own socket.
        (six, true),
        (
            Options {
                tokens: "optional",
                ..six
            },
            false,
        ),
        // Several at once: no guest sees a mixture.
        (first, false),
        (
            Options {
                tokens: "optional",
                ..six
            },
            false,
        ),
        (
            Options {
                endpoint: "disabled",
                ..first
            },
            false,
        ),
        (six, false),
    ];

    let (stop, seen) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let ipv4 = daemon.ipv4;
    std::thread::scope(|scope| {
        // Stops the guests when a round fails, too: the scope waits for them.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _stop = Stop(&stop);
        for guest in GUESTS {
            let (stop, seen, address) = (&stop, &seen, if guest.is_ipv6() { ipv6 } else { ipv4 });
            scope.spawn(move || guest.watch(address, stop, seen));
        }
        let round = Round {
            daemon: &daemon,
            ipv6,
            seen: &seen,
        };
        let mut before = first;
        for (after, blocked) in rounds {
            let states = round.run(before, after, blocked);
            let pending = states
                .iter()
                .take_while(|state| *state == "pending")
                .count();
            assert!(
                states[pending..].iter().all(|state| state == "applied"),
                "pending, and then applied: {states:?}"
            );
            assert!(
                !blocked || pending > 3,
                "applied although the daemon cannot listen there: {states:?}"
            );
            before = after;
        }
    });
}
