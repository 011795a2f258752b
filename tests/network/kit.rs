//! The kit itself: it stays out of the machine's own network, and leaves nothing behind.

use std::process::{Command, Stdio};

use crate::lab::{HOST, Lab, Lines, Wire, eventually};
use crate::support::PATIENCE;

const LINGER: &str = "IMDSD_TEST_LINGER";

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

/// The rule above all. It is the same guard that `a_client_that_finds_itself_in_the_forbidden_network_is_not_started` tests.
#[test]
fn a_script_that_finds_itself_in_the_forbidden_network_ends_at_once() {
    let Some(lab) = Lab::new("the guard of a lab") else {
        return;
    };
    lab.add("g1");
    let inside = lab.sh("g1", "readlink /proc/self/ns/net");
    for script in [
        "door.py",
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
        // And by itself, without the guard that starts it.
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
fn a_door_opens_sockets_in_its_own_namespace() {
    use std::io::{Read as _, Write as _};
    let Some(lab) = Lab::new("doors") else { return };
    one_guest(&lab);
    let (host, guest) = (lab.door(HOST), lab.door("g1"));
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

/// Not a test of its own: what the next one kills.
#[test]
fn a_lab_to_be_killed() {
    if std::env::var_os(LINGER).is_none() {
        return;
    }
    let Some(lab) = Lab::new("a lab to be killed") else {
        return;
    };
    one_guest(&lab);
    let _door = lab.door("g1");
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

#[test]
fn nothing_of_a_lab_outlives_a_test_that_is_killed() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([
        "--exact",
        "kit::a_lab_to_be_killed",
        "--nocapture",
        "--test-threads=1",
    ]);
    let lab = Lines::of(command.env(LINGER, "1").stdin(Stdio::piped()));
    let namespaces = loop {
        // It may say first that it is skipped here, and end.
        let Some(line) = lab.next(PATIENCE) else {
            return crate::support::skip("killed labs", "no lab here");
        };
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
        "a holder, a door, a sniffer and an attacker: {before}"
    );
    // Dropping it is kill -9.
    drop(lab);
    eventually("everything in the lab has ended", || inhabitants() == 0);
    println!("{before} processes before, none after kill -9");
}
