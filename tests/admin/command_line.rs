//! What is generated from the command line, and a demo that is operated in one command.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::operator::{Said, said};
use crate::support::{Namespace, PATIENCE};

fn imdsd(arguments: &[&str]) -> crate::operator::Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imdsd"));
    command.args(arguments);
    said(command, "")
}

#[test]
fn completions_and_manual_pages_are_made_for_every_subcommand() {
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
fn every_operators_subcommand_teaches_with_an_example() {
    for command in [
        &["instance", "put"][..],
        &["instance", "import"],
        &["instance", "get"],
        &["instance", "list"],
        &["instance", "delete"],
        &["instance", "export"],
        &["instance", "explain"],
        &["event"],
        &["event", "spot"],
        &["event", "rebalance"],
        &["event", "maintenance"],
        &["event", "lifecycle"],
        &["event", "set"],
        &["event", "clear"],
        &["event", "play"],
        &["event", "list"],
        &["reload"],
        &["listeners"],
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

/// A demo, which is on fixed ports and so on a network of its own. It ends with the test, whatever comes of that.
struct Demo {
    child: Child,
    runtime: tempfile::TempDir,
    _host: Namespace,
}

impl Demo {
    fn start(test: &str, arguments: &[&str]) -> Option<Demo> {
        let host = Namespace::prepared(test, "ip link set lo up")?;
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
        Some(demo)
    }

    /// A command that finds the demo without its socket being named.
    fn operate(&self, arguments: &[&str]) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imdsd"));
        command
            .args(arguments)
            .env("XDG_RUNTIME_DIR", self.runtime.path())
            .env_remove("IMDSD_ADMIN_SOCKET");
        said(command, "")
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// "imdsd --instance web-1.json, then imdsd instance put web-1.json": the file says nothing of the demo's way in.
#[test]
fn the_demo_goes_on_serving_an_instance_whose_file_is_put_again() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config/instances/web-1.json");
    let Some(demo) = Demo::start(
        "the_demo_goes_on_serving_an_instance",
        &["--instance", file],
    ) else {
        return;
    };
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

/// Its socket is a file, and found without being named.
#[test]
fn the_demo_is_operated_in_one_command_without_a_socket_being_named() {
    let Some(mut demo) = Demo::start("the_demo_is_operated_in_one_command", &[]) else {
        return;
    };
    let spot = demo.operate(&["event", "spot", "--in", "5s"]);
    assert!(spot.done().contains("spot interruption, terminate at"));
    assert!(
        demo.operate(&["event", "list"])
            .done()
            .contains("rebalance recommendation")
    );
    // Where its terminal is closed, it ends, and takes the socket with it.
    let pid = rustix::process::Pid::from_child(&demo.child);
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    let began = Instant::now();
    while demo.child.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < PATIENCE, "it ends");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!demo.runtime.path().join("imdsd/admin.sock").exists());
}
