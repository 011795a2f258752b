//! What the daemon reports to systemd. `tests/systemd` has the unit under a real one.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Daemon, PATIENCE};

/// sd-daemon(3): the priority before each line, and no time, which the journal adds. Only if the
/// stream leads to the journal. sd_notify(3): the start, READY, a status, and a sign of life again and again.
#[test]
fn the_journal_gets_priorities_and_systemd_gets_signs_of_life() {
    let mut daemon = Daemon::start(|_| {});
    daemon.kill();
    let directory = daemon.directory.path().to_path_buf();
    let socket = UnixDatagram::bind(directory.join("notify")).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    for (format, is_journal, start) in [
        ("text", true, "<6> INFO"),
        ("json", true, "<6>{\"level\":\"INFO\""),
        ("text", false, "20"),
        ("json", false, "{\"timestamp\":"),
    ] {
        let log = File::create(directory.join("log")).unwrap();
        let stat = log.metadata().unwrap();
        let inode = stat.ino() + u64::from(!is_journal);
        let mut child = Command::new(env!("CARGO_BIN_EXE_imdsd"))
            .args(["serve", "--log-format", format, "--config"])
            .arg(directory.join("imdsd.toml"))
            .env("JOURNAL_STREAM", format!("{}:{inode}", stat.dev()))
            .env("NOTIFY_SOCKET", directory.join("notify"))
            .env("WATCHDOG_USEC", "60000")
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let (mut reported, mut buffer) = (String::new(), [0; 4096]);
        let deadline = Instant::now() + 2 * PATIENCE;
        while reported.matches("WATCHDOG=1").count() < 3 && Instant::now() < deadline {
            if let Ok(length) = socket.recv(&mut buffer) {
                reported += &format!("{}\n", String::from_utf8_lossy(&buffer[..length]));
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for part in [
            "STATUS=starting: reading",
            "READY=1",
            "STATUS=1 instance, 1 open socket",
            "WATCHDOG=1",
        ] {
            assert!(reported.contains(part), "{part}: {reported}");
        }
        let log = std::fs::read_to_string(directory.join("log")).unwrap();
        let ready = log.lines().find(|line| line.contains("ready")).unwrap();
        assert!(ready.starts_with(start), "{format} {is_journal}: {log}");
        // What was sent before the end belongs to this daemon.
        while socket.recv(&mut buffer).is_ok() {}
    }
}
