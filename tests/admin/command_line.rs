//! What is generated from the command line, and a demo that is operated in one command.

use std::process::Command;
use std::time::Instant;

use crate::operator::said;
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
        assert!(script.contains("guest-rules") && script.contains("rebalance"), "{shell}");
    }
    imdsd(&["completions", "tcsh"]).refused(2, &["bash"]);
    let directory = tempfile::tempdir().unwrap();
    let pages = directory.path().join("man1");
    imdsd(&["man", pages.to_str().unwrap()]).done();
    for page in ["imdsd", "imdsd-instance", "imdsd-instance-put", "imdsd-event-spot", "imdsd-reload"] {
        let text = std::fs::read_to_string(pages.join(format!("{page}.1"))).unwrap();
        assert!(text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"), "{page}");
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
        &["ways"],
        &["completions"],
        &["man"],
    ] {
        let help = imdsd(&[command, &["--help"]].concat()).done();
        let example = help.split("Example").nth(1).unwrap_or_else(|| panic!("{command:?} has no example"));
        assert!(example.contains(&format!("imdsd {}", command[0])), "{command:?}: {example}");
    }
}

/// "imdsd --instance web-1.json, then imdsd instance put web-1.json": the file says nothing of the demo's way in.
#[test]
fn the_demo_goes_on_serving_an_instance_whose_file_is_put_again() {
    let Some(host) = Namespace::prepared("the_demo_goes_on_serving_an_instance", "ip link set lo up") else { return };
    let runtime = tempfile::tempdir().unwrap();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config/instances/web-1.json");
    let mut demo = host.command(env!("CARGO_BIN_EXE_imdsd"));
    demo.args(["--instance", file]).env("XDG_RUNTIME_DIR", runtime.path()).stdout(std::process::Stdio::null());
    let mut demo = demo.stderr(std::process::Stdio::null()).spawn().unwrap();
    let operate = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imdsd"));
        command.args(arguments).env("XDG_RUNTIME_DIR", runtime.path()).env_remove("IMDSD_ADMIN_SOCKET");
        said(command, "")
    };
    let began = Instant::now();
    while operate(&["ways"]).code == 3 && began.elapsed() < PATIENCE {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let explained = || operate(&["instance", "explain", "--listener", "demo"]).done();
    assert!(explained().contains("i-0a1b2c3d4e5f60718"), "{}", explained());
    operate(&["instance", "put", file]).done();
    assert!(explained().contains(": 200, admitted"), "{}", explained());
    let _ = demo.kill();
    let _ = demo.wait();
}

/// A demo is on fixed ports, so it is on a network of its own. Its socket is a file, and found without being named.
#[test]
fn the_demo_is_operated_in_one_command_without_a_socket_being_named() {
    let Some(host) = Namespace::prepared("the_demo_is_operated_in_one_command", "ip link set lo up") else { return };
    let runtime = tempfile::tempdir().unwrap();
    let mut demo = host.command(env!("CARGO_BIN_EXE_imdsd"));
    demo.env("XDG_RUNTIME_DIR", runtime.path()).stdout(std::process::Stdio::null());
    let mut demo = demo.stderr(std::process::Stdio::null()).spawn().unwrap();
    let operate = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imdsd"));
        command.args(arguments).env("XDG_RUNTIME_DIR", runtime.path()).env_remove("IMDSD_ADMIN_SOCKET");
        said(command, "")
    };
    let began = Instant::now();
    let mut spot = operate(&["event", "spot", "--in", "5s"]);
    while spot.code == 3 && began.elapsed() < PATIENCE {
        std::thread::sleep(std::time::Duration::from_millis(50));
        spot = operate(&["event", "spot", "--in", "5s"]);
    }
    assert!(spot.done().contains("spot interruption, terminate at"));
    assert!(operate(&["event", "list"]).done().contains("rebalance recommendation"));
    // Where its terminal is closed, it ends, and takes the socket with it.
    let pid = rustix::process::Pid::from_child(&demo);
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    let began = Instant::now();
    while demo.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < PATIENCE, "it ends");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(!runtime.path().join("imdsd/admin.sock").exists());
}
