//! Completions, manual pages and help texts; a demo that is operated without naming its socket.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::client::{CommandOutput, run};
use crate::support::{Namespace, PATIENCE, free_port};

fn imdsd(arguments: &[&str]) -> CommandOutput {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imdsd"));
    command.args(arguments);
    run(command, "")
}

#[test]
fn completions_and_manual_pages_cover_every_subcommand() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = imdsd(&["completions", shell]).done();
        assert!(
            script.contains("guest-rules") && script.contains("rebalance"),
            "{shell}"
        );
    }
    imdsd(&["completions", "tcsh"]).refused(2, &["bash"]);
    let directory = tempfile::tempdir().unwrap();
    let pages = directory.path().join("man1");
    imdsd(&["man", pages.to_str().unwrap()]).done();
    for page in [
        "imdsd",
        "imdsd-instance",
        "imdsd-instance-put",
        "imdsd-event-spot",
        "imdsd-reload",
    ] {
        let text = std::fs::read_to_string(pages.join(format!("{page}.1"))).unwrap();
        assert!(
            text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"),
            "{page}"
        );
    }
    imdsd(&["man", "/dev/null/x"]).refused(1, &["/dev/null/x"]);
}

#[test]
fn the_help_of_every_subcommand_has_an_example() {
    for command in [
        &["instance", "put"][..],
        &["instance", "import"],
        &["instance", "get"],
        &["instance", "list"],
        &["instance", "set"],
        &["instance", "delete"],
        &["instance", "export"],
        &["instance", "explain"],
        &["event"],
        &["event", "spot"],
        &["event", "rebalance"],
        &["event", "maintenance"],
        &["event", "complete"],
        &["event", "cancel"],
        &["event", "restore"],
        &["event", "lifecycle"],
        &["event", "set"],
        &["event", "clear"],
        &["event", "play"],
        &["event", "list"],
        &["serve"],
        &["check"],
        &["guest-rules"],
        &["instance"],
        &["identity"],
        &["identity", "certificate"],
        &["identity", "jwks"],
        &["identity", "openid-configuration"],
        &["identity", "rotate"],
        &["verify"],
        &["reload"],
        &["listeners"],
        &["status"],
        &["completions"],
        &["man"],
    ] {
        let help = imdsd(&[command, &["--help"]].concat()).done();
        let example = help
            .split("Example")
            .nth(1)
            .unwrap_or_else(|| panic!("{command:?} has no example"));
        assert!(
            example.contains(&format!("imdsd {}", command[0])),
            "{command:?}: {example}"
        );
    }
}

/// A demo in a network namespace of its own, because its ports are fixed. It is killed with the test.
struct Demo {
    child: Child,
    runtime: tempfile::TempDir,
    _host: Namespace,
}

impl Demo {
    fn start(arguments: &[&str]) -> Demo {
        let host = Namespace::with_setup("ip link set lo up");
        let runtime = tempfile::tempdir().unwrap();
        let mut imdsd = host.command(env!("CARGO_BIN_EXE_imdsd"));
        imdsd
            .args(arguments)
            .env("XDG_RUNTIME_DIR", runtime.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let demo = Demo {
            child: imdsd.spawn().unwrap(),
            runtime,
            _host: host,
        };
        let began = Instant::now();
        while demo.operate(&["listeners"]).code == 3 && began.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(50));
        }
        demo
    }

    /// Runs a subcommand, which must find the demo without `--socket`.
    fn operate(&self, arguments: &[&str]) -> CommandOutput {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imdsd"));
        command
            .args(arguments)
            .env("XDG_RUNTIME_DIR", self.runtime.path())
            .env_remove("IMDSD_ADMIN_SOCKET");
        run(command, "")
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that is killed with the test, also if the test fails.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `imdsd --instance web-1.json`, then `imdsd instance put web-1.json`: the file does not name the
/// demo's listener as an attachment.
#[test]
#[ignore = "needs root or user namespaces, and network namespaces; tests/all runs it"]
fn the_demo_keeps_serving_an_instance_whose_document_is_put_again() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config/instances/web-1.json");
    let demo = Demo::start(&["--instance", file]);
    let explained = || {
        demo.operate(&["instance", "explain", "--listener", "demo"])
            .done()
    };
    assert!(
        explained().contains("i-0a1b2c3d4e5f60718"),
        "{}",
        explained()
    );
    demo.operate(&["instance", "put", file]).done();
    assert!(explained().contains(": 200, admitted"), "{}", explained());
}

#[test]
#[ignore = "needs root or user namespaces, and network namespaces; tests/all runs it"]
fn the_demos_socket_is_found_without_naming_it() {
    let mut demo = Demo::start(&[]);
    let spot = demo.operate(&["event", "spot", "--in", "5s"]);
    // The daemon was guessed, so the output says which one it was.
    let guess = format!(
        "imdsd: asking the demo of this user, {}\n",
        demo.runtime.path().join("imdsd/admin.sock").display()
    );
    assert_eq!(spot.error, guess);
    assert!(spot.done().contains("spot interruption, terminate at"));
    assert!(
        demo.operate(&["event", "list"])
            .done()
            .contains("rebalance recommendation")
    );
    // The kinds as `event list` and documents write them, in any letter case.
    let cleared = demo.operate(&[
        "event",
        "clear",
        "Spot",
        "TargetLifecycleState",
        "rebalance",
    ]);
    assert!(cleared.done().contains("cancelled"));
    // It ends when its terminal closes, and removes the socket.
    let pid = rustix::process::Pid::from_child(&demo.child);
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    let began = Instant::now();
    while demo.child.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < PATIENCE, "it does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!demo.runtime.path().join("imdsd/admin.sock").exists());
}

/// Two demos side by side, one of them of the mock's configuration.
#[test]
fn a_demo_listens_where_it_is_told_and_a_taken_port_is_reported_with_the_options() {
    let (listen, control) = (free_port("127.0.0.1:0"), free_port("127.0.0.1:0"));
    let runtime = tempfile::tempdir().unwrap();
    let serve = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imdsd"));
        command
            .args(["serve", "--listen", &listen.to_string()])
            .args(["--control", &control.to_string()])
            .args(more)
            .env("XDG_RUNTIME_DIR", runtime.path());
        command
    };
    let mut demo = serve(&[]);
    demo.stdout(Stdio::null()).stderr(Stdio::null());
    let demo = Killed(demo.spawn().unwrap());
    let began = Instant::now();
    while TcpStream::connect(control).is_err() || TcpStream::connect(listen).is_err() {
        assert!(began.elapsed() < PATIENCE, "it does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    run(serve(&[]), "").refused(
        1,
        &["cannot listen on 127.0.0.1:", "--listen and --control"],
    );
    drop(demo);
    imdsd(&["serve", "--listen", "0.0.0.0:80"]).refused(2, &["is not a loopback address"]);
    imdsd(&["serve", "--config", "x.toml", "--listen", "80"]).refused(2, &["cannot be used with"]);
}
