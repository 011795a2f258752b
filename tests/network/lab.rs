//! A host with its guests and routers: network namespaces that a test makes and that end with it.
//!
//! The host is a namespace that a holder process keeps (`support::Namespace`); guests and routers are made in it by
//! `ip netns add`, in a `/run/netns` that only the holder's mounts have. So everything vanishes with the holder, which ends
//! with the test, and nothing of it has a name outside. It works as root and as an ordinary user.
//!
//! Everything that sends a packet does so in one of these namespaces. What the test itself holds are sockets that were made
//! in there ([`Door`]).

use std::io::{self, BufRead as _, BufReader, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::{Answer, Namespace, PATIENCE, read_to_end, skip};

/// The place of the daemon, beside the names of guests and routers.
pub const HOST: &str = "host";
/// Where guests find the service.
pub const IPV4: &str = Namespace::IPV4;
/// The same by IPv6.
pub const IPV6: &str = Namespace::IPV6;

/// A host in namespaces of its own.
pub struct Lab {
    host: Namespace,
}

/// A guest on an interface of the host, as [`Lab::guest`] makes it.
pub struct Wire<'a> {
    /// The guest's namespace.
    pub guest: &'a str,
    /// Its interface on the host.
    pub tap: &'a str,
    /// The guest's MAC address.
    pub mac: &'a str,
    /// Its IPv4 address with the length of the prefix, if it has one.
    pub ipv4: Option<&'a str>,
    /// The same for IPv6; the link-local one is always there.
    pub ipv6: Option<&'a str>,
}

impl Lab {
    /// `None`, and the skip is said, where no namespaces can be made.
    pub fn new(test: &str) -> Option<Lab> {
        // What an operator's host has set: no reverse path filter on guest interfaces, no routes from guests' advertisements,
        // and marks that sockets take over from packets.
        const PREPARE: &str = "mount -t tmpfs none /run && mkdir /run/netns && ip link set lo up \
             && sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 \
                  net.ipv6.conf.all.accept_ra=0 net.ipv6.conf.default.accept_ra=0 net.ipv4.tcp_fwmark_accept=1";
        let host = Namespace::prepared(test, PREPARE)?;
        let lab = Lab { host };
        let nft = lab.command(HOST, "nft").args(["list", "tables"]).output();
        if !nft.is_ok_and(|said| said.status.success()) {
            skip(test, "nft doesn't run; install nftables");
            return None;
        }
        Some(lab)
    }

    /// A command in a place; see [`Namespace::command`] for what it is kept from.
    pub fn command(&self, place: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
        if place == HOST {
            self.host.command(program)
        } else {
            self.host.command_in(place, program)
        }
    }

    /// Runs lines of shell in a place, up to the first that fails, which fails the test; what they print.
    pub fn sh(&self, place: &str, script: &str) -> String {
        let said = self
            .command(place, "timeout")
            .args(["60", "sh", "-ec", script])
            .output()
            .unwrap();
        assert!(
            said.status.success(),
            "in {place}: {script}\n{}",
            String::from_utf8_lossy(&said.stderr)
        );
        String::from_utf8(said.stdout).unwrap()
    }

    /// One of the scripts beside this file, in a place.
    pub fn script(&self, place: &str, name: &str) -> Command {
        // Not a version manager's stand-in, which takes longer to start than a test to run.
        let python = if Path::new("/usr/bin/python3").exists() {
            "/usr/bin/python3"
        } else {
            "python3"
        };
        let mut command = self.command(place, python);
        command.arg("-BSE").arg(
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("tests/network")
                .join(name),
        );
        command
    }

    /// A namespace that is one of the lab's, with loopback up and no waiting for duplicate addresses.
    pub fn add(&self, name: &str) {
        self.sh(HOST, &format!("ip netns add {name}"));
        self.sh(
            name,
            "ip link set lo up
             sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0 \
                 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0",
        );
    }

    /// A guest with one interface, whose other end is on the host and up.
    pub fn guest(&self, wire: &Wire<'_>) {
        self.add(wire.guest);
        self.plug_in(wire);
    }

    /// The wire alone: again, once the tap was deleted, and to a guest that is there already.
    pub fn plug_in(&self, wire: &Wire<'_>) {
        let Wire {
            guest, tap, mac, ..
        } = wire;
        self.sh(
            HOST,
            &format!("ip link add {tap} type veth peer name eth0 address {mac} netns {guest}; ip link set {tap} up"),
        );
        self.address(wire);
    }

    /// The guest's side of a wire, up, with addresses and with routes to the service.
    pub fn address(&self, wire: &Wire<'_>) {
        let Wire {
            guest, ipv4, ipv6, ..
        } = wire;
        let mut script = "ip link set eth0 up\n".to_string();
        if let Some(ipv4) = ipv4 {
            script +=
                &format!("ip address add {ipv4} dev eth0\nip route add 169.254.169.254 dev eth0\n");
        }
        if let Some(ipv6) = ipv6 {
            script += &format!("ip -6 address add {ipv6} dev eth0 nodad\n");
        }
        script += "ip -6 route add fd00:ec2::254 dev eth0\n";
        self.sh(guest, &script);
    }

    /// The service's addresses on an interface of the host, as an operator puts them there.
    pub fn serve_on(&self, interface: &str) {
        self.sh(
            HOST,
            &format!(
                "ip address add 169.254.169.254/32 dev {interface}
                 ip -6 address add fd00:ec2::254/128 dev {interface} nodad"
            ),
        );
    }

    /// Loads an nft script on the host.
    pub fn nft(&self, script: &str) {
        self.feed(HOST, "nft", &["-f", "-"], script);
    }

    /// Runs lines of `ip` in a place: many more of them than one process each would allow.
    pub fn ip(&self, place: &str, options: &[&str], lines: &str) {
        self.feed(place, "ip", &[options, &["-batch", "-"]].concat(), lines);
    }

    fn feed(&self, place: &str, program: &str, arguments: &[&str], text: &str) {
        let mut command = self.command(place, program);
        let mut child = command
            .args(arguments)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        let said = child.wait_with_output().unwrap();
        assert!(
            said.status.success(),
            "{program}: {}\n{text}",
            String::from_utf8_lossy(&said.stderr)
        );
    }

    /// The MAC address of an interface.
    pub fn mac(&self, place: &str, interface: &str) -> String {
        let links: Value =
            serde_json::from_str(&self.sh(place, &format!("ip -j link show {interface}"))).unwrap();
        links[0]["address"].as_str().unwrap().to_string()
    }

    /// A way to open sockets in a place.
    pub fn door(&self, place: &str) -> Door {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(3 * PATIENCE)).unwrap();
        let child = self
            .script(place, "door.py")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .unwrap();
        Door {
            child,
            wire: Mutex::new(ours),
        }
    }

    /// Sees every TCP segment on an interface from now on.
    pub fn sniff(&self, place: &str, interface: &str) -> Sniffer {
        let lines = Lines::of(self.script(place, "sniff.py").arg(interface));
        lines.next(PATIENCE).expect("the sniffer starts");
        Sniffer {
            lines,
            seen: Vec::new(),
        }
    }
}

/// Opens sockets in one namespace of the lab. The test uses them; their packets come and go in there.
pub struct Door {
    child: Child,
    wire: Mutex<UnixStream>,
}

impl Door {
    /// A connection from in there.
    pub fn connect(&self, to: &str) -> io::Result<TcpStream> {
        self.connect_as(None, to, PATIENCE)
    }

    /// A connection from an address and port of the namespace's; the kernel chooses where there is none, or port 0.
    pub fn connect_as(
        &self,
        from: Option<SocketAddr>,
        to: &str,
        within: Duration,
    ) -> io::Result<TcpStream> {
        let to: SocketAddr = to.parse().unwrap();
        let from = from.map(|from| json!([from.ip(), from.port()]));
        let wanted = json!({ "connect": [to.ip(), to.port()], "from": from, "within": within.as_secs_f64() });
        let stream = TcpStream::from(self.opened(&wanted)?);
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// A listener in there.
    pub fn listen(&self, at: &str) -> TcpListener {
        let at: SocketAddr = at.parse().unwrap();
        TcpListener::from(
            self.opened(&json!({ "listen": [at.ip(), at.port()] }))
                .unwrap(),
        )
    }

    /// One request on a connection of its own; status 0 when there is no answer.
    pub fn ask(&self, to: &str, request: &str) -> Answer {
        self.try_ask(to, request, PATIENCE)
            .unwrap_or_else(|_| Answer::read(""))
    }

    /// The same, with the reason where there is no connection.
    pub fn try_ask(&self, to: &str, request: &str, patience: Duration) -> io::Result<Answer> {
        let mut stream = self.connect_as(None, to, patience)?;
        stream.set_read_timeout(Some(patience))?;
        // A peer that is gone is an answer that does not come.
        let _ = stream.write_all(request.as_bytes());
        Ok(Answer::read(&read_to_end(&mut stream)))
    }

    pub fn get(&self, to: &str, path: &str) -> Answer {
        self.ask(to, &get(path))
    }

    pub fn get_with(&self, to: &str, path: &str, token: &str) -> Answer {
        self.ask(to, &get_with(path, token))
    }

    /// A session token of the guest's own.
    pub fn token(&self, to: &str) -> String {
        let answer = self.ask(to, crate::support::TOKEN_REQUEST);
        assert_eq!(answer.status, 200, "{to}: {answer:?}");
        answer.body
    }

    /// Who the service takes this guest for: its instance-id, read with a token.
    pub fn who_am_i(&self, to: &str) -> String {
        let answer = self.get_with(to, INSTANCE_ID, &self.token(to));
        assert_eq!(answer.status, 200, "{to}: {answer:?}");
        answer.body
    }

    fn opened(&self, wanted: &Value) -> io::Result<OwnedFd> {
        let mut wire = self.wire.lock().unwrap();
        wire.write_all(format!("{wanted}\n").as_bytes())?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let mut text = [0; 256];
        let answer = recvmsg(
            &*wire,
            &mut [IoSliceMut::new(&mut text)],
            &mut beside,
            RecvFlags::CMSG_CLOEXEC,
        )
        .expect("in time");
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(mut sockets) = message {
                return Ok(sockets.next().expect("one"));
            }
        }
        let answer: Value =
            serde_json::from_slice(&text[..answer.bytes]).expect("the door is there");
        Err(io::Error::from_raw_os_error(
            answer["errno"].as_i64().unwrap() as i32,
        ))
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub const INSTANCE_ID: &str = "/latest/meta-data/instance-id";

pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: imds\r\n\r\n")
}

pub fn get_with(path: &str, token: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: imds\r\nX-aws-ec2-metadata-token: {token}\r\n\r\n")
}

/// A kept-alive connection: one request on it, and the whole answer, which has a length.
pub fn ask_on(stream: &mut TcpStream, request: &str) -> io::Result<Answer> {
    use std::io::Read as _;
    stream.write_all(
        request
            .replace("\r\n\r\n", "\r\nConnection: keep-alive\r\n\r\n")
            .as_bytes(),
    )?;
    let (mut raw, mut piece) = (String::new(), [0; 4096]);
    loop {
        let answer = Answer::read(&raw);
        let length = answer
            .header("Content-Length")
            .or(answer.header("content-length"));
        if length.is_some_and(|length| length.parse() == Ok(answer.body.len())) {
            return Ok(answer);
        }
        match stream.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => raw += &String::from_utf8_lossy(&piece[..count]),
        }
    }
}

/// A server that is not the service, wherever a guest puts it: it answers every request with one word.
pub struct Impostor {
    listener: TcpListener,
    serving: Option<std::thread::JoinHandle<()>>,
}

impl Impostor {
    pub const SAYS: &str = "EVIL";

    /// Serves at an address that the place of the door has.
    pub fn start(door: &Door, at: &str) -> Impostor {
        let listener = door.listen(at);
        let accepting = listener.try_clone().unwrap();
        let serving = std::thread::spawn(move || {
            for stream in accepting.incoming() {
                let Ok(mut stream) = stream else { break };
                let says = Impostor::SAYS;
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{says}",
                    says.len()
                );
                let _ = stream.set_read_timeout(Some(PATIENCE));
                let _ = std::io::Read::read(&mut stream, &mut [0; 4096]);
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Impostor {
            listener,
            serving: Some(serving),
        }
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        // A listener that is shut down accepts no more, and says so to the thread that waits.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        let _ = self.serving.take().map(std::thread::JoinHandle::join);
    }
}

/// A program that prints lines until it is stopped.
pub struct Lines {
    child: Child,
    lines: Receiver<String>,
}

impl Lines {
    pub fn of(command: &mut Command) -> Lines {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Lines { child, lines }
    }

    /// The next line; `None` when none comes in time or no more will come.
    pub fn next(&self, within: Duration) -> Option<String> {
        self.lines.recv_timeout(within).ok()
    }

    /// Waits for so many lines from now on.
    pub fn expect(&self, count: usize) {
        // What was printed before now was before now.
        let _ = self.lines.try_iter().count();
        for _ in 0..count {
            self.next(PATIENCE).expect("it goes on");
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A TCP segment as a sniffer saw it.
#[derive(Clone, Debug, Deserialize)]
pub struct Segment {
    /// `in` to this interface, `out` of it, or `past`: to somebody else.
    pub way: String,
    pub source_port: u16,
    pub target_port: u16,
    /// The TTL, or the hop limit.
    pub hops: u8,
    pub flags: u8,
    pub target: IpAddr,
    pub payload: String,
}

impl Segment {
    pub fn is_syn_ack(&self) -> bool {
        self.flags & 0x12 == 0x12
    }

    pub fn is_fin(&self) -> bool {
        self.flags & 1 != 0
    }
}

/// Everything that was seen on an interface.
pub struct Sniffer {
    lines: Lines,
    seen: Vec<Segment>,
}

impl Sniffer {
    /// Waits until the segments that were seen are as the test wants, and returns them all.
    pub fn wait_for(&mut self, is_it: impl Fn(&[Segment]) -> bool) -> &[Segment] {
        let deadline = Instant::now() + PATIENCE;
        while !is_it(&self.seen) {
            match self
                .lines
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => self.seen.push(serde_json::from_str(&line).unwrap()),
                Err(RecvTimeoutError::Timeout) => {
                    panic!("not seen in time; seen: {:#?}", self.seen)
                }
                Err(RecvTimeoutError::Disconnected) => panic!("the sniffer has ended"),
            }
        }
        &self.seen
    }

    /// Everything that was seen until now.
    pub fn seen(&mut self) -> &[Segment] {
        self.seen.extend(
            self.lines
                .lines
                .try_iter()
                .map(|line| serde_json::from_str::<Segment>(&line).unwrap()),
        );
        &self.seen
    }
}

/// Asks again and again until the answer is right, which must not take long.
pub fn eventually(what: &str, mut is_it: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_it() {
        assert!(Instant::now() < deadline, "it did not come to be: {what}");
        // Not a wait for time: polling leaves the processor to the others.
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The smallest, the middle and the largest.
pub fn spread(times: &[Duration]) -> String {
    let mut times = times.to_vec();
    times.sort();
    let show = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
    let (first, last) = (times[0], times[times.len() - 1]);
    format!(
        "min {}, median {}, max {}",
        show(first),
        show(times[times.len() / 2]),
        show(last)
    )
}
