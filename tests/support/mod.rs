//! The test kit: starts the real daemon as a process, and sends it bytes.
//!
//! Every address is on loopback or in a network namespace of the test, every wait has a limit, and a
//! test stops the processes that it starts, by their ids.
#![allow(dead_code)]

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// How long a test waits for something that should happen at once.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// The access key of the daemons that tests start.
pub const ACCESS_KEY: (&str, &str) = ("AKIDTESTTESTTEST0001", "a-secret-for-tests-only");
/// The id of the instance in config/demo-instance.json.
pub const INSTANCE: &str = "i-0123456789abcdef0";

/// A running daemon and its directory.
pub struct Daemon {
    child: Child,
    lines: Receiver<Value>,
    pub directory: tempfile::TempDir,
    pub ipv4: SocketAddr,
    pub ipv6: SocketAddr,
    pub control: SocketAddr,
}

impl Daemon {
    /// Starts a daemon that serves the demo instance with a change.
    pub fn start(change: impl FnOnce(&mut Value)) -> Daemon {
        Daemon::start_with("", change)
    }

    /// The same with more lines in the configuration.
    pub fn start_with(more: &str, change: impl FnOnce(&mut Value)) -> Daemon {
        let directory = tempfile::tempdir().unwrap();
        let mut document: Value =
            serde_json::from_str(include_str!("../../config/demo-instance.json"))
                .expect("the demo document is JSON");
        change(instance_of(&mut document));
        std::fs::write(directory.path().join("instance.json"), document.to_string()).unwrap();
        write_keys(&directory.path().join("access-keys.toml"));
        let (ipv4, ipv6, control) = (
            free_port("127.0.0.1:0"),
            free_port("[::1]:0"),
            free_port("127.0.0.1:0"),
        );
        let config = format!(
            "instances = \"instance.json\"\nstate_directory = \"state\"\nruntime_directory = \"run\"\n\
             [[listener]]\nname = \"demo\"\nipv4 = \"{ipv4}\"\nipv6 = \"{ipv6}\"\n\
             [control]\nlisten = \"{control}\"\naccess_keys = \"access-keys.toml\"\n\
             [log]\nformat = \"json\"\nlevel = \"debug\"\n{more}\n"
        );
        std::fs::write(directory.path().join("imdsd.toml"), config).unwrap();
        let (child, lines) = spawn(directory.path());
        let mut daemon = Daemon {
            child,
            lines,
            directory,
            ipv4,
            ipv6,
            control,
        };
        daemon.wait_until_it_serves();
        daemon
    }

    /// Waits longer than for other lines: a test may store a hundred records on a busy disk.
    fn wait_until_it_serves(&mut self) {
        self.wait_for_within(6 * PATIENCE, |line| line["message"] == "ready");
    }

    /// Waits for a log line and returns it; panics with the lines before it if it does not come.
    pub fn wait_for(&mut self, is_match: impl Fn(&Value) -> bool) -> Value {
        self.wait_for_within(PATIENCE, is_match)
    }

    fn wait_for_within(&mut self, patience: Duration, is_match: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + patience;
        let mut earlier = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if is_match(&line) => return line,
                Ok(line) => earlier.push(line.to_string()),
                Err(_) => panic!(
                    "the log line did not come; status {:?}\n{}",
                    self.child.try_wait(),
                    earlier.join("\n")
                ),
            }
        }
    }

    /// Returns the log lines that have not been read yet.
    pub fn log(&mut self) -> Vec<Value> {
        self.lines.try_iter().collect()
    }

    /// Closes the read end of its standard error when it writes its next line.
    pub fn close_log(&mut self) {
        let (_, closed) = channel();
        drop(std::mem::replace(&mut self.lines, closed));
        // The reading thread ends at the next line.
        self.get("/");
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on the same directory and addresses.
    pub fn start_again(&mut self) {
        self.start_again_by(Command::new(env!("CARGO_BIN_EXE_imdsd")));
    }

    /// The same with a command that executes `imdsd`.
    pub fn start_again_by(&mut self, imdsd: Command) {
        self.begin_again_by(imdsd);
        self.wait_until_it_serves();
    }

    /// The same, and does not wait until it serves.
    pub fn begin_again_by(&mut self, imdsd: Command) {
        (self.child, self.lines) = spawn_by(imdsd, self.directory.path());
    }

    /// Sends SIGTERM and returns the exit status.
    pub fn terminate(&mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the daemon did not end after SIGTERM");
    }

    /// Sends one request over IPv4 on a connection of its own.
    pub fn ask(&self, head: &str) -> Answer {
        ask(self.ipv4, head)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: imds\r\n\r\n"))
    }

    pub fn get_with(&self, path: &str, token: &str) -> Answer {
        self.ask(&format!(
            "GET {path} HTTP/1.1\r\nHost: imds\r\nX-aws-ec2-metadata-token: {token}\r\n\r\n"
        ))
    }

    /// Sends a GET to the admin socket and returns the whole response.
    pub fn admin(&self, path: &str) -> String {
        let mut stream = UnixStream::connect(self.directory.path().join("run/admin.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: imdsd\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    pub fn token(&self) -> String {
        let answer = self.ask(TOKEN_REQUEST);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    }
}

pub const TOKEN_REQUEST: &str = "PUT /latest/api/token HTTP/1.1\r\nHost: imds\r\nX-aws-ec2-metadata-token-ttl-seconds: 21600\r\n\r\n";

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The instance object inside a document.
fn instance_of(document: &mut Value) -> &mut Value {
    if document.get("Reservations").is_some() {
        &mut document["Reservations"][0]["Instances"][0]
    } else {
        document
    }
}

pub fn write_keys(path: &Path) {
    use std::os::unix::fs::OpenOptionsExt as _;
    let (id, secret) = ACCESS_KEY;
    let text =
        format!("[[access_key]]\naccess_key_id = \"{id}\"\nsecret_access_key = \"{secret}\"\n");
    let mut file = std::fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn spawn(directory: &Path) -> (Child, Receiver<Value>) {
    spawn_by(Command::new(env!("CARGO_BIN_EXE_imdsd")), directory)
}

pub fn spawn_by(mut imdsd: Command, directory: &Path) -> (Child, Receiver<Value>) {
    let mut child = imdsd
        .args(["serve", "--config"])
        .arg(directory.join("imdsd.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let (send, lines) = channel();
    std::thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
            if send.send(line).is_err() {
                break;
            }
        }
    });
    (child, lines)
}

/// Returns the address with a free port that no other call returns. The port is below the kernel's
/// ephemeral ports, and the process id keeps concurrent test runs apart.
pub fn free_port(address: &str) -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut address: SocketAddr = address.parse().unwrap();
    for _ in 0..10_000 {
        let next = std::process::id()
            .wrapping_mul(61)
            .wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        address.set_port(10_000 + (next % 10_000) as u16);
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no port is free");
}

/// A response, to the byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// 0 if there was no response.
    pub status: u16,
    pub raw: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn read(raw: &str) -> Answer {
        let Some((head, body)) = raw.split_once("\r\n\r\n") else {
            return Answer {
                status: 0,
                raw: raw.to_string(),
                headers: Vec::new(),
                body: String::new(),
            };
        };
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .unwrap()
            .split(' ')
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        let header = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_string(), value.to_string())
        };
        Answer {
            status,
            raw: raw.to_string(),
            headers: lines.map(header).collect(),
            body: body.to_string(),
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Sends bytes and reads until the other side closes.
pub fn ask(address: SocketAddr, bytes: &str) -> Answer {
    // The connection may be reset before the request is sent: no instance is served there.
    let mut stream = match TcpStream::connect_timeout(&address, PATIENCE) {
        Err(reason) if reason.kind() == ErrorKind::ConnectionReset => return Answer::read(""),
        connected => connected.unwrap(),
    };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    match stream.write_all(bytes.as_bytes()) {
        Err(reason) if reason.kind() != ErrorKind::ConnectionReset => panic!("{reason}"),
        _ => Answer::read(&read_to_end(&mut stream)),
    }
}

pub fn read_to_end(stream: &mut TcpStream) -> String {
    let mut raw = Vec::new();
    // A reset after the response ends it too.
    let _ = stream.read_to_end(&mut raw);
    String::from_utf8_lossy(&raw).into_owned()
}

/// A network namespace of the test's own. EC2's metadata addresses are on its loopback interface, and nothing leads out.
///
/// Clients have these addresses built in. Nothing that might ask them runs anywhere else: on a cloud's machine they are
/// somebody's real metadata service.
pub struct Namespace {
    holder: Child,
    /// The network namespace of the test, where no client may find itself.
    outside: PathBuf,
}

impl Namespace {
    /// Where EC2 has the service, and where a daemon in a namespace has it.
    pub const IPV4: &str = "169.254.169.254:80";
    pub const IPV6: &str = "[fd00:ec2::254]:80";
    /// The control endpoint in there.
    pub const CONTROL: &str = "127.0.0.1:1339";

    /// Shell commands that put EC2's metadata addresses on the loopback interface.
    const METADATA_ADDRESSES: &str = "ip link set lo up \
         && ip address add 169.254.169.254/32 dev lo \
         && ip address add fd00:ec2::254/128 dev lo nodad";

    /// Creates a namespace with EC2's metadata addresses on its loopback interface.
    ///
    /// Panics, with the reason, on a machine that does not allow it.
    pub fn with_metadata_addresses() -> Namespace {
        Namespace::with_setup(Namespace::METADATA_ADDRESSES)
    }

    /// Creates a namespace and runs these shell commands in it; panics, with the reason, if that fails.
    ///
    /// It has its own mounts too, so that a test can mount its own `/run/netns`: what is mounted and
    /// named there disappears with the namespace.
    pub fn with_setup(setup: &str) -> Namespace {
        Namespace::create(setup).unwrap_or_else(|reason| missing(&reason))
    }

    fn create(prepare: &str) -> Result<Namespace, String> {
        // It lives as long as its standard input is open, which is as long as the test lives, and ten minutes at most.
        let hold = format!("{prepare} && echo ready && exec timeout 600 cat");
        let mut unshare = Command::new("unshare");
        unshare
            .args(if is_root() {
                &[][..]
            } else {
                &["--user", "--map-root-user"]
            })
            .args(["--net", "--mount"]);
        unshare
            .args(["sh", "-c", &hold])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut holder = match unshare.spawn() {
            Ok(holder) => holder,
            Err(reason) => return Err(format!("unshare (util-linux): {reason}")),
        };
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        if line != "ready\n" {
            let mut reason = String::new();
            let _ = holder.stderr.take().unwrap().read_to_string(&mut reason);
            let _ = holder.wait();
            return Err(format!(
                "network namespaces (root, or unprivileged user namespaces): {}",
                reason.trim()
            ));
        }
        let outside = std::fs::read_link("/proc/self/ns/net").unwrap();
        let inside = std::fs::read_link(format!("/proc/{}/ns/net", holder.id())).unwrap();
        assert_ne!(inside, outside, "the namespace is the machine's own");
        Ok(Namespace { holder, outside })
    }

    /// A command that runs in here and with nothing of the machine's environment but the path.
    ///
    /// It looks where it is before it becomes the program, and ends there when that is the test's own network. It is
    /// killed when the thread that started it ends, so a test that is killed leaves none behind.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        self.guarded(None, program)
    }

    /// The same in a network namespace that `ip netns add` made in here.
    pub fn command_in(&self, name: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
        self.guarded(Some(name), program)
    }

    fn guarded(&self, name: Option<&str>, program: impl AsRef<std::ffi::OsStr>) -> Command {
        const GUARD: &str = r#"here=$(readlink /proc/self/ns/net) || exit 97
            [ -n "$IMDSD_TEST_NOT_IN" ] && [ -n "$here" ] && [ "$here" != "$IMDSD_TEST_NOT_IN" ] || exit 97
            exec setpriv --pdeathsig KILL "$@""#;
        let mut command = Command::new("nsenter");
        command
            .arg("--target")
            .arg(self.holder.id().to_string())
            .args(["--net", "--mount"]);
        if !is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        if let Some(name) = name {
            command
                .arg("nsenter")
                .arg(format!("--net=/run/netns/{name}"));
        }
        command
            .args(["sh", "-c", GUARD, "guard"])
            .arg(program)
            .env_clear()
            .env("PATH", path_with_sbin())
            .env("IMDSD_TEST_NOT_IN", &self.outside)
            .stdin(Stdio::null());
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A daemon on a host, and a guest behind an interface of it that finds it at the addresses that every client has built in.
pub struct MetadataService {
    // The daemon ends before its network does.
    child: Child,
    pub directory: tempfile::TempDir,
    pub host: Namespace,
}

impl MetadataService {
    /// Serves one instance to the guest: a document in any of the three accepted shapes, with the
    /// test's changes.
    ///
    /// Panics on a machine without network namespaces.
    pub fn serve(document: &str, change: impl FnOnce(&mut Value)) -> MetadataService {
        MetadataService::on(
            Namespace::with_setup(MetadataService::SETUP),
            document,
            change,
        )
    }

    const SETUP: &str = "mount -t tmpfs none /run && mkdir /run/netns && ip link set lo up \
         && sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 \
         && ip netns add guest && ip link add tap0 type veth peer name wire0 netns guest \
         && ip link set tap0 up && ip -n guest link set lo up \
         && nsenter --net=/run/netns/guest sysctl -qw net.ipv6.conf.wire0.accept_dad=0 \
         && ip -n guest link set wire0 up && ip -n guest address add 10.0.0.5/24 dev wire0 \
         && ip -n guest route add 169.254.169.254 dev wire0 \
         && ip -n guest -6 route add fd00:ec2::254 dev wire0";

    fn on(host: Namespace, document: &str, change: impl FnOnce(&mut Value)) -> MetadataService {
        let directory = tempfile::tempdir().unwrap();
        let mut document: Value = serde_json::from_str(document).unwrap();
        let instance = instance_of(&mut document);
        instance["Imds"]["Attachments"] = serde_json::json!([{ "Interface": "tap0" }]);
        change(instance);
        std::fs::write(directory.path().join("instance.json"), document.to_string()).unwrap();
        write_keys(&directory.path().join("access-keys.toml"));
        let config = format!(
            "instances = \"instance.json\"\nstate_directory = \"state\"\nruntime_directory = \"run\"\n\
             [interfaces]\naddresses = \"manage\"\nshadow_host_metadata = true\n\
             [control]\nlisten = \"{}\"\naccess_keys = \"access-keys.toml\"\n\
             [log]\nformat = \"json\"\nlevel = \"debug\"\n",
            Namespace::CONTROL
        );
        std::fs::write(directory.path().join("imdsd.toml"), config).unwrap();
        let (child, lines) = spawn_by(host.command(env!("CARGO_BIN_EXE_imdsd")), directory.path());
        // From here on a panic stops what was started.
        let mut service = MetadataService {
            child,
            directory,
            host,
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if line["message"] == "ready" => return service,
                Ok(_) => {}
                Err(_) => panic!("it is not ready; status {:?}", service.child.try_wait()),
            }
        }
    }

    /// A command in the guest.
    pub fn guest(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        self.host.command_in("guest", program)
    }

    /// A client in the guest, with a home of its own and no endpoint variable.
    pub fn client(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.guest(program);
        command
            .env("HOME", self.directory.path())
            .env("AWS_EC2_METADATA_V1_DISABLED", "true");
        command
    }

    /// The status of a request in the guest, of curl.
    pub fn status(&self, arguments: &[&str]) -> String {
        let mut curl = self.guest("curl");
        curl.args([
            "--silent",
            "--max-time",
            "5",
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code}",
        ]);
        let output = curl.args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for MetadataService {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The instance object inside a document, to compare with.
pub fn instance_in(document: &str) -> Value {
    instance_of(&mut serde_json::from_str(document).unwrap()).take()
}

/// An ordinary user's path need not have the folders of `ip` and `nft`.
fn path_with_sbin() -> std::ffi::OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    path
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Panics when something that a test needs is missing.
///
/// Tests that need more than cargo are `#[ignore]`d, so that a plain `cargo test` reports them as
/// ignored; `tests/all` installs what they need and runs them.
pub fn require(present: bool, needed: &str) {
    if !present {
        missing(needed);
    }
}

/// Panics: this test needs something that is not there.
fn missing(needed: &str) -> ! {
    panic!("this test needs {needed}; run it with tests/all, which installs what tests need");
}

/// Panics unless this process is root, which tests need that create users' processes, mounts or devices.
pub fn require_root() {
    require(is_root(), "root");
}

/// Panics unless a program of this name is on the path (`sbin` folders included).
pub fn require_program(name: &str) {
    let path = path_with_sbin();
    let found = std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
    require(found, &format!("the program {name}"));
}

/// Returns the Python of the virtual environment that `tests/all` creates, with boto3 and the AWS
/// CLI; panics when it is missing.
pub fn venv_python() -> PathBuf {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
    require(python.exists(), "the virtual environment .venv");
    python
}

/// An option change or another EC2 call, signed with the test's key; the answer, or `None` when the daemon was not there.
pub fn call(control: SocketAddr, action: &str, parameters: &[(&str, &str)]) -> Option<Answer> {
    call_on(
        TcpStream::connect_timeout(&control, PATIENCE).ok()?,
        control,
        action,
        parameters,
    )
}

/// The same on a connection that is there already.
pub fn call_on(
    mut stream: TcpStream,
    control: SocketAddr,
    action: &str,
    parameters: &[(&str, &str)],
) -> Option<Answer> {
    let encode = |text: &str| -> String {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
        text.bytes()
            .map(|b| {
                if plain(b) {
                    char::from(b).to_string()
                } else {
                    format!("%{b:02X}")
                }
            })
            .collect()
    };
    let mut body = format!("Action={action}&Version=2016-11-15");
    for (name, value) in parameters {
        body += &format!("&{}={}", encode(name), encode(value));
    }

    let date = jiff::Timestamp::now()
        .strftime("%Y%m%dT%H%M%SZ")
        .to_string();
    let scope = format!("{}/us-east-1/ec2/aws4_request", &date[..8]);
    let canonical = format!(
        "POST\n/\n\nhost:{control}\nx-amz-date:{date}\n\nhost;x-amz-date\n{}",
        hex(&Sha256::digest(body.as_bytes()))
    );
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{date}\n{scope}\n{}",
        hex(&Sha256::digest(canonical.as_bytes()))
    );
    let (id, secret) = ACCESS_KEY;
    let key = scope
        .split('/')
        .fold(format!("AWS4{secret}").into_bytes(), |key, part| {
            hmac(&key, part)
        });
    let signature = hex(&hmac(&key, &to_sign));
    let request = format!(
        "POST / HTTP/1.1\r\nHost: {control}\r\nX-Amz-Date: {date}\r\nContent-Length: {}\r\nConnection: close\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders=host;x-amz-date, Signature={signature}\r\n\
         \r\n{body}",
        body.len()
    );
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let answer = Answer::read(&read_to_end(&mut stream));
    (answer.status != 0).then_some(answer)
}

/// The text of the first such element in an XML document.
pub fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let from = xml.find(&format!("<{name}>"))? + name.len() + 2;
    Some(&xml[from..from + xml[from..].find(&format!("</{name}>"))?])
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
