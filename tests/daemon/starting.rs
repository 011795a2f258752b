//! A start that takes long: guests are served as soon as it is known whose they are, and signals are
//! heard all the time.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use crate::durability::traced;
use crate::support::{Daemon, INSTANCE, PATIENCE, ask, free_port};

const NEW: &str = "i-0000000000000000e";
/// Longer than a start takes to log how far it is. strace ends no call earlier, and no process before
/// its calls.
const STUCK: &str = "delay_enter=6000000";

/// A stopped daemon with the record of `INSTANCE`, and with a document of a new instance.
struct Host {
    daemon: Daemon,
    /// The address of the new instance.
    of_new: std::net::SocketAddr,
}

impl Host {
    fn stopped() -> Host {
        let of_new = free_port("127.0.0.1:0");
        let more = format!("[[listener]]\nname = \"new\"\nipv4 = \"{of_new}\"");
        let mut daemon = Daemon::start_with(&more, |instance| {
            instance["MetadataOptions"]["HttpTokens"] = "optional".into();
        });
        assert_eq!(daemon.terminate(), Some(0));
        let directory = daemon.directory.path();
        let documents = directory.join("documents");
        std::fs::create_dir(&documents).unwrap();
        std::fs::rename(directory.join("instance.json"), documents.join("a.json")).unwrap();
        let new = format!(
            r#"{{"InstanceId":"{NEW}","LaunchTime":"2026-01-01T00:00:00Z","MetadataOptions":{{"HttpTokens":"optional"}},
                 "Imds":{{"Attachments":[{{"Listener":"new"}}]}}}}"#
        );
        std::fs::write(documents.join("new.json"), new).unwrap();
        let config = directory.join("imdsd.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, text.replace("instance.json", "documents")).unwrap();
        Host { daemon, of_new }
    }

    /// A daemon for which these system calls take very long.
    fn stuck(&self, calls: &str, path: Option<&Path>) -> Command {
        let inject = format!("inject={calls}:{STUCK}");
        let mut arguments = vec![OsStr::new("-e"), OsStr::new(&inject)];
        if let Some(path) = path {
            arguments.extend([OsStr::new("-P"), path.as_os_str()]);
        }
        traced(Path::new("/dev/null"), &arguments)
    }

    fn has_record(&self, id: &str) -> bool {
        let records = self.daemon.directory.path().join("state/instances");
        records.join(format!("{id}.json")).exists()
    }

    fn status(&self, address: std::net::SocketAddr) -> u16 {
        ask(address, "GET /latest/ HTTP/1.1\r\nHost: imds\r\n\r\n").status
    }
}

fn is(message: &'static str) -> impl Fn(&Value) -> bool {
    move |line| {
        line["message"]
            .as_str()
            .is_some_and(|text| text.starts_with(message))
    }
}

#[test]
#[ignore = "needs strace and permission to trace; tests/all runs it"]
fn instances_with_records_are_served_and_signals_heard_while_new_ones_are_stored() {
    let mut host = Host::stopped();
    let mut stuck = host.stuck("fsync", None);
    let notify = host.daemon.directory.path().join("notify");
    let systemd = UnixDatagram::bind(&notify).unwrap();
    systemd.set_nonblocking(true).unwrap();
    stuck.env("NOTIFY_SOCKET", notify);
    host.daemon.begin_again_by(stuck);
    // It says how far it is, every few seconds.
    let line = host.daemon.wait_for(is("starting"));
    assert_eq!((&line["stored"], &line["new"]), (&0.into(), &1.into()));
    for _ in 0..10 {
        assert_eq!(host.status(host.daemon.ipv4), 200);
    }
    let (mut reported, mut buffer) = (String::new(), [0; 4096]);
    while let Ok(length) = systemd.recv(&mut buffer) {
        reported += &String::from_utf8_lossy(&buffer[..length]);
    }
    for part in ["0 of 1 new instance stored", "EXTEND_TIMEOUT_USEC="] {
        assert!(reported.contains(part), "{part}: {reported}");
    }
    // Operators are answered when all is registered. Until then they wait in the queue.
    let config = host.daemon.directory.path().join("imdsd.toml");
    assert!(!host.daemon.log().iter().any(is("ready")));

    assert_eq!(host.daemon.terminate(), Some(0));
    assert!(host.daemon.log().iter().any(is("shutting down")));
    assert!(config.exists() && host.has_record(INSTANCE) && !host.has_record(NEW));
    host.daemon.start_again();
    assert_eq!(
        [host.daemon.ipv4, host.of_new].map(|address| host.status(address)),
        [200, 200]
    );
}

#[test]
#[ignore = "needs strace and permission to trace; tests/all runs it"]
fn a_start_ends_at_a_signal_while_the_disk_does_not_answer_with_a_record() {
    is_ended_by_a_signal_while_reading(&format!("state/instances/{INSTANCE}.json"));
}

#[test]
#[ignore = "needs strace and permission to trace; tests/all runs it"]
fn a_start_ends_at_a_signal_while_the_disk_does_not_answer_with_a_document() {
    is_ended_by_a_signal_while_reading("documents/new.json");
}

fn is_ended_by_a_signal_while_reading(path: &str) {
    let mut host = Host::stopped();
    let directory = host.daemon.directory.path().canonicalize().unwrap();
    let stuck = host.stuck("read", Some(&directory.join(path)));
    host.daemon.begin_again_by(stuck);
    // The lock is taken before anything is read.
    let deadline = Instant::now() + PATIENCE;
    while !is_locked(&directory.join("state/lock")) {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    assert_eq!(host.daemon.terminate(), Some(0));
    let log = host.daemon.log();
    assert!(log.iter().any(is("shutting down")), "{log:?}");
    assert!(!log.iter().any(is("ready")) && !host.has_record(NEW));
}

/// Returns whether some process has the lock, from proc_locks(5): to try it would be to take it.
fn is_locked(path: &Path) -> bool {
    let inode = std::fs::metadata(path).unwrap().ino();
    let locks = std::fs::read_to_string("/proc/locks").unwrap();
    let is_of_file = |line: &str| line.contains("FLOCK") && line.contains(&format!(":{inode} "));
    locks.lines().any(is_of_file)
}
