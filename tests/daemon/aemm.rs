//! `imdsd serve --aemm-config`: a configuration of amazon-ec2-metadata-mock, served by a daemon of its own.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Answer, PATIENCE, ask};

/// A daemon that ends with the test.
struct Served(Child, SocketAddr);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Served {
    fn start(
        directory: &Path,
        config: impl FnOnce(u16) -> serde_json::Value,
        arguments: &[&str],
    ) -> Served {
        let port = two_free_ports();
        let file = directory.join("aemm-config.json");
        std::fs::write(&file, config(port).to_string()).unwrap();
        let mut imdsd = Command::new(env!("CARGO_BIN_EXE_imdsd"));
        imdsd
            .args(["serve", "--aemm-config"])
            .arg(&file)
            .args(arguments)
            .env("XDG_RUNTIME_DIR", directory);
        let log =
            |name: &str| std::fs::File::create(directory.join(format!("{port}.{name}"))).unwrap();
        let child = imdsd
            .stdin(Stdio::null())
            .stdout(log("out"))
            .stderr(log("log"))
            .spawn()
            .unwrap();
        let mut served = Served(child, SocketAddr::from(([127, 0, 0, 1], port)));
        served.wait_until_ready(&directory.join(format!("{port}.log")));
        served
    }

    /// The daemon listens before it has registered the instance.
    fn wait_until_ready(&mut self, log: &Path) {
        let deadline = Instant::now() + PATIENCE;
        while !std::fs::read_to_string(log).unwrap().contains("ready") {
            assert_eq!(self.0.try_wait().unwrap(), None, "the daemon ended");
            assert!(Instant::now() < deadline, "not ready on {}", self.1);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn get(&self, path: &str) -> Answer {
        ask(
            self.1,
            &format!("GET {path} HTTP/1.1\r\nHost: imds\r\n\r\n"),
        )
    }

    fn wait_for(&self, path: &str, is_it: impl Fn(&Answer) -> bool) -> Answer {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.get(path);
            if is_it(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "{path}: {answer:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Returns a free port with a free port after it, which is for the EC2 API. Both are below the ports
/// that the kernel assigns to other tests, and the process ID keeps two runs apart.
fn two_free_ports() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 1_000).unwrap() * 10;
    for _ in 0..1_000 {
        let port = 20_000 + (first + NEXT.fetch_add(2, Ordering::Relaxed)) % 10_000;
        let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if is_free(port) && is_free(port + 1) {
            return port;
        }
    }
    panic!("no two free ports in a row");
}

#[test]
fn a_configuration_of_the_mock_is_served_with_its_event_at_its_time() {
    let directory = tempfile::tempdir().unwrap();
    let before = Instant::now();
    let served = Served::start(
        directory.path(),
        |port| {
            serde_json::json!({
                "server": { "port": port.to_string() },
                "metadata": { "values": { "mac": "0e:49:61:0f:c3:77", "public-ipv4": "54.92.157.77" } },
                "spot": { "action": "stop" },
                "mock-delay-sec": 3,
                "userdata": { "values": { "userdata": "aGVsbG8=" } }
            })
        },
        &["--aemm-command", "spot"],
    );
    for (path, body) in [
        ("/latest/meta-data/instance-id", "i-1234567890abcdef0"),
        ("/latest/meta-data/mac", "0e:49:61:0f:c3:77"),
        ("/latest/meta-data/public-ipv4", "54.92.157.77"),
        ("/latest/meta-data/tags/instance/Name", "test-instance"),
        ("/latest/meta-data/events/maintenance/scheduled", "[]"),
        ("/latest/user-data", "hello"),
    ] {
        assert_eq!(served.get(path).body, body, "{path}");
    }
    let early = served.get("/latest/meta-data/spot/instance-action");
    if before.elapsed() < Duration::from_secs(3) {
        assert_eq!(early.status, 404);
    }
    let notice = served.wait_for("/latest/meta-data/spot/instance-action", |answer| {
        answer.status == 200
    });
    assert!(
        before.elapsed() >= Duration::from_secs(3),
        "it came after {:?}",
        before.elapsed()
    );
    let notice: serde_json::Value = serde_json::from_str(&notice.body).unwrap();
    assert_eq!(notice["action"], "stop");
    let time: jiff::Timestamp = notice["time"].as_str().unwrap().parse().unwrap();
    let ahead = time.duration_since(jiff::Timestamp::now()).as_secs();
    assert!((100..=120).contains(&ahead), "{ahead}");
}

/// The first has the admin socket of its user. The second serves without one and logs that.
#[test]
fn a_mock_accepts_events_and_a_second_one_serves_without_an_admin_socket() {
    let directory = tempfile::tempdir().unwrap();
    let start = |command: &str| {
        let config =
            |port: u16| serde_json::json!({ "server": { "port": port }, "mock-delay-sec": 3600 });
        Served::start(directory.path(), config, &["--aemm-command", command])
    };
    let said = |served: &Served, name: &str| {
        std::fs::read_to_string(directory.path().join(format!("{}.{name}", served.1.port())))
            .unwrap()
    };
    let state = "/latest/meta-data/autoscaling/target-lifecycle-state";
    let (first, second) = (start("spotitn"), start("autoscaling"));
    assert_eq!(
        (first.get(state).status, second.get(state).body.as_str()),
        (404, "Terminated")
    );
    let mut event = Command::new(env!("CARGO_BIN_EXE_imdsd"));
    event
        .args(["event", "lifecycle", "Standby"])
        .env("XDG_RUNTIME_DIR", directory.path());
    assert!(
        event
            .env_remove("IMDSD_ADMIN_SOCKET")
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(
        (
            first.get(state).body.as_str(),
            second.get(state).body.as_str()
        ),
        ("Standby", "Terminated")
    );
    assert!(
        said(&first, "out").contains("event spot --in 5s")
            && !said(&first, "log").contains("another imdsd")
    );
    assert!(
        !said(&second, "out").contains("event spot"),
        "{}",
        said(&second, "out")
    );
    assert!(
        said(&second, "log").contains("XDG_RUNTIME_DIR"),
        "{}",
        said(&second, "log")
    );
}

#[test]
fn imdsv2_of_the_mock_is_required_tokens() {
    let directory = tempfile::tempdir().unwrap();
    let config = |port: u16| serde_json::json!({ "imdsv2": true, "server": { "port": port } });
    let served = Served::start(directory.path(), config, &[]);
    assert_eq!(served.get("/latest/meta-data/").status, 401);
}

#[test]
fn settings_that_only_the_mock_serves_are_reported_with_file_and_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("aemm.json");
    std::fs::write(
        &file,
        "{\n \"spot\": { \"action\": \"destroy\" },\n \"metadata\": { \"values\": {\n  \"mac\": \"FOO\" } }\n}",
    )
    .unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_imdsd"))
        .args(["serve", "--aemm-config"])
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    for (place, what) in [
        ("aemm.json:2", "spot.action"),
        ("aemm.json:4", "metadata.values.mac"),
    ] {
        assert!(
            said.lines()
                .any(|line| line.contains(place) && line.contains(what)),
            "{place} {what}:\n{said}"
        );
    }
    for more in [["--config", "x"], ["--instance", "x"]] {
        let mut imdsd = Command::new(env!("CARGO_BIN_EXE_imdsd"));
        let output = imdsd
            .args(["serve", "--aemm-config"])
            .arg(&file)
            .args(more)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{more:?}");
    }
}
