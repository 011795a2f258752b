//! The test kit itself: it stays out of the machine's own network and leaves nothing behind.

use std::process::{Command, Stdio};

use crate::lab::{HOST, Lab, Lines, Wire, eventually};
use crate::support::PATIENCE;

/// Set in the process that is to be killed.
const IS_CHILD: &str = "IMDSD_TEST_IS_CHILD";

fn one_guest(lab: &Lab) {
    let wire = Wire {
        guest: "g1",
        tap: "tap0",
        mac: "02:00:00:00:00:01",
        ipv4: Some("10.0.0.5/24"),
        ipv6: Some("fd11::5/64"),
    };
    lab.guest(&wire);
    lab.serve_on("tap0");
}

/// The most important rule: no test sends a packet in the machine's own network. The test
/// `a_client_that_finds_itself_in_the_forbidden_network_is_not_started` covers the same guard.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn a_script_that_finds_itself_in_the_forbidden_network_ends_at_once() {
    let lab = Lab::new();
    lab.add("g1");
    let inside = lab.sh("g1", "readlink /proc/self/ns/net");
    for script in [
        "sockets.py",
        "sniff.py",
        "claim.py",
        "spoof.py",
        "tap_wire.py",
        "advertise.py",
    ] {
        let refused = lab
            .script("g1", script)
            .env("IMDSD_TEST_NOT_IN", inside.trim())
            .output()
            .unwrap();
        assert_eq!(refused.status.code(), Some(97), "{script}");
        // The script also refuses on its own, without the guard that starts it.
        let mut alone = lab.command("g1", "env");
        alone.arg("--unset=IMDSD_TEST_NOT_IN");
        let script_of = lab.script("g1", script);
        let program = script_of
            .get_args()
            .skip_while(|word| !word.to_string_lossy().contains("python3"));
        let refused = alone.args(program).output().unwrap();
        assert_eq!(
            refused.status.code(),
            Some(97),
            "{script}: {}",
            String::from_utf8_lossy(&refused.stderr)
        );
    }
    assert_ne!(
        inside,
        lab.sh(HOST, "readlink /proc/self/ns/net"),
        "guest and host are apart"
    );
}

#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn sockets_are_opened_in_the_given_namespace() {
    use std::io::{Read as _, Write as _};
    let lab = Lab::new();
    one_guest(&lab);
    let (host, guest) = (lab.sockets(HOST), lab.sockets("g1"));
    lab.sh(
        HOST,
        "ip route add 10.0.0.5 dev tap0; ip route add fd11::5 dev tap0",
    );
    for (at, from) in [
        ("169.254.169.254:80", "10.0.0.5"),
        ("[fd00:ec2::254]:80", "fd11::5"),
    ] {
        let listener = host.listen(at);
        let mut there = guest.connect(at).unwrap();
        let (mut here, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip().to_string(), from);
        there.write_all(b"hello").unwrap();
        let mut said = [0; 5];
        here.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"hello");
    }
    let refused = guest.connect("169.254.169.254:81").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

/// Creates a lab with everything that a lab can have, prints its namespaces, and waits to be
/// killed.
fn wait_to_be_killed() {
    let lab = Lab::new();
    one_guest(&lab);
    let _sockets = lab.sockets("g1");
    let _sniffer = lab.sniff("g1", "eth0");
    let _claim = Lines::of(
        lab.script("g1", "claim.py")
            .args(["eth0", "169.254.169.254"]),
    );
    println!(
        "NAMESPACES {}",
        [HOST, "g1"]
            .map(|place| lab.sh(place, "readlink /proc/self/ns/net"))
            .join(" ")
            .replace('\n', "")
    );
    std::io::Read::read(&mut std::io::stdin(), &mut [0]).unwrap();
}

/// The test runs itself in a second process, which IS_CHILD tells to create the lab, and kills that
/// process.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn nothing_of_a_lab_outlives_a_test_that_is_killed() {
    if std::env::var_os(IS_CHILD).is_some() {
        return wait_to_be_killed();
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([
        "--exact",
        "kit::nothing_of_a_lab_outlives_a_test_that_is_killed",
        "--include-ignored",
        "--nocapture",
        "--test-threads=1",
    ]);
    let lab = Lines::of(command.env(IS_CHILD, "1").stdin(Stdio::piped()));
    let namespaces = loop {
        let line = lab.next(PATIENCE).expect("the other process creates a lab");
        if let Some((_, namespaces)) = line.split_once("NAMESPACES ") {
            break namespaces
                .split(' ')
                .map(str::to_string)
                .collect::<Vec<_>>();
        }
    };
    let inhabitants = || {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let namespace =
            |process: std::fs::DirEntry| std::fs::read_link(process.path().join("ns/net")).ok();
        let mine = |namespace: &std::path::PathBuf| {
            namespaces
                .iter()
                .any(|name| namespace.as_os_str() == name.as_str())
        };
        processes.filter_map(namespace).filter(mine).count()
    };
    let before = inhabitants();
    assert!(
        before >= 4,
        "a holder, a socket opener, a sniffer and an attacker: {before}"
    );
    // Dropping it sends SIGKILL.
    drop(lab);
    eventually("everything in the lab has ended", || inhabitants() == 0);
    println!("{before} processes before, none after kill -9");
}
