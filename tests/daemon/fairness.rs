//! Every guest gets its turn whatever another does, and so does every caller of the EC2 API.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::support::{Answer, Daemon, INSTANCE, PATIENCE, free_port, read_to_end};

const GOOD: &str = "127.0.0.2";
const GREEDY: &str = "127.0.0.3";
const GREEDY_INSTANCE: &str = "i-0fedcba9876543210";
const GET: &str = "GET /latest/meta-data/instance-id HTTP/1.1\r\nHost: imds\r\n";

/// A daemon with two guests on one listener, known by their source addresses.
struct Shared {
    daemon: Daemon,
    listener: SocketAddr,
}

impl Shared {
    fn start(guest: &str) -> Shared {
        let listener = free_port("127.0.0.1:0");
        let more = format!(
            "[[listener]]\nname = \"shared\"\nipv4 = \"{listener}\"\nanti_spoofed = true\n[guest]\n{guest}\n"
        );
        let mut greedy = Value::Null;
        let daemon = Daemon::start_with(&more, |instance| {
            instance["MetadataOptions"]["HttpTokens"] = json!("optional");
            greedy = instance.clone();
            greedy["InstanceId"] = json!(GREEDY_INSTANCE);
            for (instance, address) in [(instance, GOOD), (&mut greedy, GREEDY)] {
                let source = json!({ "Listener": "shared", "Address": address });
                instance["Imds"]["Attachments"] = json!([{ "SourceAddress": source }]);
            }
        });
        let file = daemon.directory.path().join("greedy.json");
        std::fs::write(&file, greedy.to_string()).unwrap();
        let put = Command::new(env!("CARGO_BIN_EXE_imdsd"))
            .args(["instance", "put"])
            .arg(&file)
            .arg("--socket")
            .arg(daemon.directory.path().join("run/admin.sock"))
            .output()
            .unwrap();
        assert!(put.status.success(), "{put:?}");
        Shared { daemon, listener }
    }

    fn get(&self, from: &str) -> Answer {
        let mut stream = connect(from, self.listener);
        stream.write_all(format!("{GET}\r\n").as_bytes()).unwrap();
        Answer::read(&read_to_end(&mut stream))
    }

    /// Stops the daemon while `work` sends it something, so that everything arrives at once.
    fn while_stopped<T>(&self, work: impl FnOnce() -> T) -> T {
        let pid = Pid::from_raw(self.daemon.pid() as i32).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
        let outcome = work();
        kill_process(pid, Signal::CONT).unwrap();
        outcome
    }
}

fn connect(from: &str, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let from: IpAddr = from.parse().unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect_timeout(&to.into(), PATIENCE).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn a_guest_that_pipelines_on_many_connections_does_not_delay_another() {
    const CONNECTIONS: usize = 100;
    const PIPELINED: usize = 20;
    let mut shared = Shared::start("requests_per_second = 0");
    assert_eq!(shared.get(GOOD).body, INSTANCE);
    shared.daemon.log();
    let (held, mut good) = shared.while_stopped(|| {
        let requests = format!("{GET}Connection: keep-alive\r\n\r\n").repeat(PIPELINED);
        let held: Vec<TcpStream> = (0..CONNECTIONS)
            .map(|_| {
                let mut stream = connect(GREEDY, shared.listener);
                stream.write_all(requests.as_bytes()).unwrap();
                stream
            })
            .collect();
        // The last in the queue of the listener that both share.
        let mut good = connect(GOOD, shared.listener);
        good.write_all(format!("{GET}\r\n").as_bytes()).unwrap();
        (held, good)
    });
    assert_eq!(Answer::read(&read_to_end(&mut good)).body, INSTANCE);
    let (mut greedy_before, mut greedy_after, mut is_answered) = (0, 0, false);
    while greedy_before + greedy_after < CONNECTIONS * PIPELINED {
        let line = shared
            .daemon
            .wait_for(|line| line["message"] == "guest request");
        match (line["instance"] == INSTANCE, is_answered) {
            (true, _) => is_answered = true,
            (false, false) => greedy_before += 1,
            (false, true) => greedy_after += 1,
        }
    }
    // A few in each run of accepted connections, and in each look at what has arrived.
    assert!(
        is_answered && greedy_before <= CONNECTIONS,
        "{greedy_before} requests of the greedy guest were answered first"
    );
    drop(held);
}

#[test]
fn a_guest_that_exceeds_its_rate_is_answered_503_then_reset_and_logged_once() {
    let mut shared = Shared::start("requests_per_second = 1\nburst = 3");
    let asked = shared.while_stopped(|| {
        [(); 12].map(|()| {
            let mut stream = connect(GREEDY, shared.listener);
            stream.write_all(format!("{GET}\r\n").as_bytes()).unwrap();
            stream
        })
    });
    let answers = asked.map(|mut stream| read_to_end(&mut stream));
    let count = |start: &str| answers.iter().filter(|one| one.starts_with(start)).count();
    let (answered, refused) = (count("HTTP/1.1 200 "), count("HTTP/1.1 503 "));
    let reset = answers.iter().filter(|one| one.is_empty()).count();
    assert_eq!(answered + refused + reset, 12, "{answers:?}");
    // On a slow machine, the rate allows one or two more.
    assert!((3..=5).contains(&answered), "{answered}: {answers:?}");
    assert!((4..=6).contains(&reset), "{reset}: {answers:?}");
    assert!(refused > 0, "{answers:?}");
    let refusal = answers.iter().find(|one| one.starts_with("HTTP/1.1 503 "));
    let refusal = Answer::read(refusal.unwrap());
    assert_eq!(
        (refusal.body.as_str(), refusal.header("Content-Length")),
        ("", Some("0"))
    );
    assert_eq!(refusal.header("Server"), Some("EC2ws"));
    assert!(
        refusal
            .raw
            .starts_with("HTTP/1.1 503 Service Unavailable\r\n")
    );

    // The other guest has a rate of its own.
    assert_eq!(shared.get(GOOD).body, INSTANCE);
    let metrics = shared.daemon.admin("/metrics");
    for (answer, count) in [("503", refused), ("reset", reset)] {
        let line = format!("imdsd_guest_throttled_total{{answer=\"{answer}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
    shared.daemon.terminate();
    let lines = shared.daemon.log();
    let logged: Vec<&Value> = lines
        .iter()
        .filter(|line| line.to_string().contains("requests_per_second") && line["level"] == "WARN")
        .collect();
    assert_eq!(logged.len(), 1, "{logged:?}");
    assert_eq!(logged[0]["instance"], GREEDY_INSTANCE);
}

#[test]
fn a_caller_that_has_begun_a_call_keeps_its_slot_beside_a_stranger_with_many_connections() {
    let daemon = Daemon::start(|_| {});
    let mut caller = connect("127.0.0.1", daemon.control);
    let call = "POST / HTTP/1.1\r\nHost: ec2\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let (first, rest) = call.split_at(10);
    caller.write_all(first.as_bytes()).unwrap();
    // Many more than there are slots, idle or with half a head.
    let stranger: Vec<TcpStream> = (0..100)
        .map(|number| {
            let mut stream = connect("127.0.0.9", daemon.control);
            if number % 2 == 0 {
                // It may be evicted already.
                let _ = stream.write_all(b"POST / HT");
            }
            stream
        })
        .collect();
    for _ in 0..5 {
        let answer = crate::support::ask(daemon.control, call);
        assert_eq!(answer.status, 400, "{answer:?}");
    }
    caller.write_all(rest.as_bytes()).unwrap();
    let answer = Answer::read(&read_to_end(&mut caller));
    assert_eq!(answer.status, 400, "{answer:?}");
    drop(stranger);
}
