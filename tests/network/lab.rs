//! A host with its guests and routers: network namespaces that a test creates and that end with it.
//!
//! A holder process keeps the host's namespace (`support::Namespace`). `ip netns add` creates
//! guests and routers in it, in a `/run/netns` that exists only in the holder's mounts. So
//! everything vanishes with the holder, which ends with the test, and nothing has a name outside.
//! It works as root and as an ordinary user.
//!
//! Every packet is sent in one of these namespaces. The test itself only holds sockets that were
//! created in there ([`SocketOpener`]).

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

use crate::support::{Answer, Namespace, PATIENCE, is_root, read_to_end, require, require_program};

/// The namespace of the daemon. Guests and routers have namespaces with their own names.
pub const HOST: &str = "host";
/// The IPv4 address and port of the service.
pub const IPV4: &str = Namespace::IPV4;
/// The IPv6 address and port of the service.
pub const IPV6: &str = Namespace::IPV6;

/// A host with its guests.
pub struct Lab {
    host: Namespace,
}

/// A guest on an interface of the host; [`Lab::guest`] creates it.
pub struct Wire<'a> {
    /// The guest's namespace.
    pub guest: &'a str,
    /// Its interface on the host.
    pub tap: &'a str,
    /// The guest's MAC address.
    pub mac: &'a str,
    /// Its IPv4 address with the length of the prefix, if it has one.
    pub ipv4: Option<&'a str>,
    /// The same for IPv6. It always has a link-local address.
    pub ipv6: Option<&'a str>,
}

impl Lab {
    /// Creates the host; panics if that is not possible here.
    pub fn new() -> Lab {
        // The settings of an operator's host: no reverse path filter on guest interfaces, no routes
        // from the guests' router advertisements, and packet marks that sockets inherit.
        const PREPARE: &str = "mount -t tmpfs none /run && mkdir /run/netns && ip link set lo up \
             && sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 \
                  net.ipv6.conf.all.accept_ra=0 net.ipv6.conf.default.accept_ra=0 net.ipv4.tcp_fwmark_accept=1";
        for program in ["ip", "nft", "python3"] {
            require_program(program);
        }
        let lab = Lab {
            host: Namespace::with_setup(PREPARE),
        };
        let nft = lab.command(HOST, "nft").args(["list", "tables"]).output();
        require(
            nft.is_ok_and(|output| output.status.success()),
            "nftables, usable in a network namespace",
        );
        lab
    }

    /// Returns a command in a namespace. See [`Namespace::command`] for its guard.
    pub fn command(&self, place: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
        if place == HOST {
            self.host.command(program)
        } else {
            self.host.command_in(place, program)
        }
    }

    /// Runs a shell script in a namespace and returns its output. A failing line ends it and fails
    /// the test.
    pub fn sh(&self, place: &str, script: &str) -> String {
        let output = self
            .command(place, "timeout")
            .args(["60", "sh", "-ec", script])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "in {place}: {script}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Returns a command for one of the scripts beside this file, in a namespace.
    pub fn script(&self, place: &str, name: &str) -> Command {
        // The wrapper of a version manager would take longer to start than a test to run.
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

    /// Adds a namespace with loopback up and without duplicate address detection.
    pub fn add(&self, name: &str) {
        self.sh(HOST, &format!("ip netns add {name}"));
        self.sh(
            name,
            "ip link set lo up
             sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0 \
                 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0",
        );
    }

    /// Adds a guest with one interface, whose other end is on the host and up.
    pub fn guest(&self, wire: &Wire<'_>) {
        self.add(wire.guest);
        self.plug_in(wire);
    }

    /// Adds only the wire, for a guest that exists: for example after its tap was deleted.
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

    /// Sets the guest's end of a wire up, with addresses and with routes to the service.
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

    /// Adds the service's addresses to an interface of the host, as an operator would.
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

    /// Runs lines of `ip` in one process, which is much faster than one process each.
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
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{program}: {}\n{text}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Returns the MAC address of an interface.
    pub fn mac(&self, place: &str, interface: &str) -> String {
        let links: Value =
            serde_json::from_str(&self.sh(place, &format!("ip -j link show {interface}"))).unwrap();
        links[0]["address"].as_str().unwrap().to_string()
    }

    /// Returns a helper that opens sockets in a namespace.
    pub fn sockets(&self, place: &str) -> SocketOpener {
        SocketOpener::started_by(self.script(place, "sockets.py"))
    }

    /// Returns a helper that opens sockets on the host as a user without any privilege.
    pub fn local_user(&self) -> SocketOpener {
        let mut command = self.command(HOST, "setpriv");
        command.args([
            "--no-new-privs",
            "--inh-caps=-all",
            "--bounding-set=-all",
            "--pdeathsig=KILL",
        ]);
        // A user namespace of an ordinary user has one user only. Without a bounding set, it has no
        // capability there either.
        if is_root() {
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        }
        let script = self.script(HOST, "sockets.py");
        let python = script
            .get_args()
            .skip_while(|word| !word.to_string_lossy().contains("python3"));
        // The user may not be able to read the directory of the sources.
        let mut python: Vec<_> = python.map(std::ffi::OsStr::to_os_string).collect();
        let path = python.pop().expect("the path of the script");
        let folder = Path::new(&path).parent().expect("it has a folder");
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
        let source = read("sockets.py").replacen("import inside\n", &read("inside.py"), 1);
        command.args(python).arg("-c").arg(source);
        SocketOpener::started_by(command)
    }

    /// Records every TCP segment on an interface from now on.
    pub fn sniff(&self, place: &str, interface: &str) -> Sniffer {
        let lines = Lines::of(self.script(place, "sniff.py").arg(interface));
        lines.next(PATIENCE).expect("the sniffer starts");
        Sniffer {
            lines,
            seen: Vec::new(),
        }
    }
}

/// Opens sockets in one namespace of the lab. The test uses them, but their packets stay in that
/// namespace.
pub struct SocketOpener {
    child: Child,
    wire: Mutex<UnixStream>,
}

impl SocketOpener {
    fn started_by(mut command: Command) -> SocketOpener {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(3 * PATIENCE)).unwrap();
        let child = command
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .unwrap();
        SocketOpener {
            child,
            wire: Mutex::new(ours),
        }
    }

    /// Connects from inside the namespace.
    pub fn connect(&self, to: &str) -> io::Result<TcpStream> {
        self.connect_as(None, to, PATIENCE)
    }

    /// Connects from an address and port of the namespace. The kernel chooses what is not given, or
    /// is port 0.
    pub fn connect_as(
        &self,
        from: Option<SocketAddr>,
        to: &str,
        within: Duration,
    ) -> io::Result<TcpStream> {
        let to: SocketAddr = to.parse().unwrap();
        let from = from.map(|from| json!([from.ip(), from.port()]));
        let wanted = json!({ "connect": [to.ip(), to.port()], "from": from, "within": within.as_secs_f64() });
        self.connect_by(&wanted)
    }

    /// Connects as this request of sockets.py says.
    pub fn connect_by(&self, wanted: &Value) -> io::Result<TcpStream> {
        let stream = TcpStream::from(self.opened(wanted)?);
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// Listens inside the namespace.
    pub fn listen(&self, at: &str) -> TcpListener {
        let at: SocketAddr = at.parse().unwrap();
        TcpListener::from(
            self.opened(&json!({ "listen": [at.ip(), at.port()] }))
                .unwrap(),
        )
    }

    /// Sends one request on a connection of its own. The answer has status 0 when there is none.
    pub fn ask(&self, to: &str, request: &str) -> Answer {
        self.try_ask(to, request, PATIENCE)
            .unwrap_or_else(|_| Answer::read(""))
    }

    /// Sends one request on a connection of its own; fails if there is no connection.
    pub fn try_ask(&self, to: &str, request: &str, patience: Duration) -> io::Result<Answer> {
        let mut stream = self.connect_as(None, to, patience)?;
        stream.set_read_timeout(Some(patience))?;
        // If the peer is gone, the answer stays empty.
        let _ = stream.write_all(request.as_bytes());
        Ok(Answer::read(&read_to_end(&mut stream)))
    }

    pub fn get(&self, to: &str, path: &str) -> Answer {
        self.ask(to, &get(path))
    }

    pub fn get_with(&self, to: &str, path: &str, token: &str) -> Answer {
        self.ask(to, &get_with(path, token))
    }

    /// Returns a session token of the guest.
    pub fn token(&self, to: &str) -> String {
        let answer = self.ask(to, crate::support::TOKEN_REQUEST);
        assert_eq!(answer.status, 200, "{to}: {answer:?}");
        answer.body
    }

    /// Returns the instance-id that the service has for this guest, read with a token.
    pub fn who_am_i(&self, to: &str) -> String {
        let answer = self.get_with(to, INSTANCE_ID, &self.token(to));
        assert_eq!(answer.status, 200, "{to}: {answer:?}");
        answer.body
    }

    /// Opens a socket as this request of sockets.py says.
    pub fn opened(&self, wanted: &Value) -> io::Result<OwnedFd> {
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
            serde_json::from_slice(&text[..answer.bytes]).expect("the script answers");
        Err(io::Error::from_raw_os_error(
            answer["errno"].as_i64().unwrap() as i32,
        ))
    }
}

impl Drop for SocketOpener {
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

/// Sends one request on a kept-alive connection and reads the whole answer by its Content-Length.
pub fn request_on(stream: &mut TcpStream, request: &str) -> io::Result<Answer> {
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

/// A fake service in a guest: it answers every request with one word.
pub struct Impostor {
    listener: TcpListener,
    serving: Option<std::thread::JoinHandle<()>>,
}

impl Impostor {
    pub const ANSWER: &str = "EVIL";

    /// Serves at an address of the namespace.
    pub fn start(sockets: &SocketOpener, at: &str) -> Impostor {
        let listener = sockets.listen(at);
        let accepting = listener.try_clone().unwrap();
        let serving = std::thread::spawn(move || {
            for stream in accepting.incoming() {
                let Ok(mut stream) = stream else { break };
                let body = Impostor::ANSWER;
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
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
        // Shutting the listener down makes the waiting accept fail.
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
        // Discards earlier lines.
        let _ = self.lines.try_iter().count();
        for _ in 0..count {
            self.next(PATIENCE).expect("another line");
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A TCP segment that a sniffer recorded.
#[derive(Clone, Debug, Deserialize)]
pub struct Segment {
    /// `in` to this interface, `out` of it, or `past`: to another address.
    pub direction: String,
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

/// The segments on an interface.
pub struct Sniffer {
    lines: Lines,
    seen: Vec<Segment>,
}

impl Sniffer {
    /// Waits until the recorded segments meet the condition, and returns all of them.
    pub fn wait_for(&mut self, condition: impl Fn(&[Segment]) -> bool) -> &[Segment] {
        let deadline = Instant::now() + PATIENCE;
        while !condition(&self.seen) {
            match self
                .lines
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => self.seen.push(serde_json::from_str(&line).unwrap()),
                Err(RecvTimeoutError::Timeout) => {
                    panic!("timeout; segments so far: {:#?}", self.seen)
                }
                Err(RecvTimeoutError::Disconnected) => panic!("the sniffer has ended"),
            }
        }
        &self.seen
    }

    /// Returns all segments so far.
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

/// Polls until the condition is true; fails the test after a while.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "timeout: {what}");
        // Only to leave the processor to other tasks between polls.
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Returns the minimum, the median and the maximum as text.
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
