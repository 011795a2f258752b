//! A directory with a configuration and the documents of many instances, and the daemon on it.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::guest;

/// The access key that signs the calls.
pub(crate) const ACCESS_KEY: (&str, &str) =
    ("AKIDSCALESCALESC0001", "a-secret-for-benchmarks-only");
/// No step takes longer, with 10,000 instances and before any of this was fast.
const PATIENCE: Duration = Duration::from_secs(600);

/// A directory that a daemon can be started on.
pub(crate) struct Host {
    pub(crate) directory: PathBuf,
    pub(crate) guests: SocketAddr,
    pub(crate) control: SocketAddr,
    pub(crate) instances: usize,
    daemon: PathBuf,
}

/// A running daemon. It is killed when this is dropped.
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
}

/// Returns the id of an instance by its number.
pub(crate) fn id(number: usize) -> String {
    format!("i-{:017x}", 0xabc0_0000_0000_usize + number)
}

/// Returns the address that a guest sends from: in 127.0.0.0/8, from 127.1.0.1 on.
pub(crate) fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 1)) + number as u32)
}

impl Host {
    /// Writes the configuration and a document for each instance. `more` is added to the
    /// configuration.
    pub(crate) fn new(parent: &Path, daemon: &Path, instances: usize, more: &str) -> Host {
        let directory = parent.join(format!("{instances}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(directory.join("instances")).expect("the directory can be created");
        let (guests, control) = (free_port(), free_port());
        let (key_id, secret) = ACCESS_KEY;
        let keys = format!(
            "[[access_key]]\naccess_key_id = \"{key_id}\"\nsecret_access_key = \"{secret}\"\n"
        );
        write_secret(&directory.join("access-keys.toml"), &keys);
        let config = format!(
            "instances = \"instances\"\nstate_directory = \"state\"\nruntime_directory = \"run\"\n\
             [[listener]]\nname = \"guests\"\nipv4 = \"{guests}\"\nanti_spoofed = true\n\
             [control]\nlisten = \"{control}\"\naccess_keys = \"access-keys.toml\"\n{more}"
        );
        fs::write(directory.join("imdsd.toml"), config).expect("the configuration can be written");
        let template: Value =
            serde_json::from_str(include_str!("../../config/instances/web-1.json"))
                .expect("the document is JSON");
        for number in 0..instances {
            let file = directory.join(format!("instances/{}.json", id(number)));
            fs::write(file, document(&template, number)).expect("a document can be written");
        }
        Host {
            directory,
            guests,
            control,
            instances,
            daemon: daemon.to_path_buf(),
        }
    }

    /// Starts the daemon; returns at once.
    pub(crate) fn start(&self) -> Daemon {
        self.start_by(&[])
    }

    /// The same by another program, such as `valgrind`, which executes it.
    pub(crate) fn start_by(&self, program: &[&str]) -> Daemon {
        let log = self.directory.join("log");
        let file = File::create(&log).expect("the log can be created");
        let mut words = program.iter().map(PathBuf::from).collect::<Vec<_>>();
        words.push(self.daemon.clone());
        let child = Command::new(&words[0])
            .args(&words[1..])
            .args(["serve", "--config"])
            .arg(self.directory.join("imdsd.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .expect("the daemon can be started");
        Daemon { child, log }
    }

    /// Starts the daemon and returns it with the time until it was ready and guests all over the
    /// fleet, the last one included, had an answer.
    pub(crate) fn start_and_wait(&self) -> (Daemon, Duration) {
        let started = Instant::now();
        let mut daemon = self.start();
        self.wait_until_served(&mut daemon);
        (daemon, started.elapsed())
    }

    /// Waits until the daemon is ready and guests all over the fleet have an answer.
    pub(crate) fn wait_until_served(&self, daemon: &mut Daemon) {
        let is_ready = daemon.wait_for_log("ready");
        assert!(is_ready, "the daemon ended: {}", daemon.log());
        let step = (self.instances / 64).max(1);
        for number in (0..self.instances)
            .step_by(step)
            .chain([self.instances - 1])
        {
            let deadline = Instant::now() + PATIENCE;
            while !guest::read_id(self.guests, number).is_ok_and(|found| found == id(number)) {
                assert!(Instant::now() < deadline, "{} is not served", id(number));
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }

    /// Runs a command of the command line against the daemon; returns how long it took and its
    /// exit status.
    pub(crate) fn command(&self, arguments: &[&str]) -> (Duration, Option<i32>) {
        let started = Instant::now();
        let status = Command::new(&self.daemon)
            .args(arguments)
            .arg("--socket")
            .arg(self.directory.join("run/admin.sock"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("the command can be started");
        (started.elapsed(), status.code())
    }

    /// Returns the host with another number of instances: documents were added or removed.
    pub(crate) fn with_instances(mut self, instances: usize) -> Host {
        self.instances = instances;
        self
    }

    /// Removes what the daemon has stored, so that the next start is a first one.
    pub(crate) fn forget(&self) {
        let _ = fs::remove_dir_all(self.directory.join("state"));
        let _ = fs::remove_dir_all(self.directory.join("run"));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Daemon {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until a line of the log ends with a text. Returns `false` if the daemon ends before.
    pub(crate) fn wait_for_log(&mut self, text: &str) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while !self
            .log()
            .lines()
            .any(|line| line.trim_end().ends_with(text))
        {
            let ended = self.child.try_wait().expect("its status can be read");
            if ended.is_some() {
                return false;
            }
            assert!(Instant::now() < deadline, "no '{text}' in the log");
            std::thread::sleep(Duration::from_millis(2));
        }
        true
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends SIGTERM; returns the time until the log says so, and the time until the process ended.
    pub(crate) fn terminate(mut self) -> (Option<Duration>, Duration) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let sent = Instant::now();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)
            .expect("the signal can be sent");
        let mut heard = None;
        while sent.elapsed() < PATIENCE {
            if heard.is_none() && self.log().contains("shutting down") {
                heard = Some(sent.elapsed());
            }
            if self
                .child
                .try_wait()
                .expect("its status can be read")
                .is_some()
            {
                return (heard, sent.elapsed());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("the daemon did not end");
    }

    /// Returns the processor time of all its threads so far.
    pub(crate) fn cpu_time(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("it runs");
        let of_task = |task: std::io::Result<fs::DirEntry>| {
            let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        };
        Duration::from_nanos(tasks.filter_map(of_task).sum())
    }

    /// Returns its resident memory in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        number
            .and_then(|number| number.parse().ok())
            .expect("it has VmRSS")
    }

    /// Waits until its background work is done: less than 30 ms of processor time in each of two
    /// seconds. Returns how long that took.
    pub(crate) fn wait_until_idle(&self) -> Duration {
        let started = Instant::now();
        let mut quiet = 0;
        while quiet < 2 && started.elapsed() < PATIENCE {
            let before = self.cpu_time();
            std::thread::sleep(Duration::from_secs(1));
            let used = self.cpu_time().saturating_sub(before);
            quiet = match used < Duration::from_millis(30) {
                true => quiet + 1,
                false => 0,
            };
        }
        started.elapsed()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns web-1.json as the document of another instance.
fn document(template: &Value, number: usize) -> String {
    let mut document = template.clone();
    let instance = &mut document["Reservations"][0]["Instances"][0];
    instance["InstanceId"] = json!(id(number));
    instance["Imds"] = json!({
        "Attachments": [{ "SourceAddress": { "Listener": "guests", "Address": address(number) } }],
    });
    instance["Tags"][0]["Value"] = json!(format!("web-{number}"));
    let private = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 10, 1, 25)) + number as u32);
    document
        .to_string()
        .replace("10.10.1.25", &private.to_string())
        .replace("10-10-1-25", &private.to_string().replace('.', "-"))
}

fn write_secret(path: &Path, text: &str) {
    let mut options = OpenOptions::new();
    let file = options.create_new(true).write(true).mode(0o600).open(path);
    let mut file = file.expect("the file can be created");
    file.write_all(text.as_bytes())
        .expect("the file can be written");
}

/// Returns an address on loopback with a free port.
pub(crate) fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("it has an address")
}
