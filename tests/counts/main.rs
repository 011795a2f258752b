//! Exact counts of what a guest's request costs, in the build that the tests use: instructions and
//! allocations by valgrind, system calls by strace.
//!
//! The counts are the same on a slow, busy or fast machine, so they find a cost that a change adds.
//! They do not tell how fast a release build is: `benches/compare` measures that.
//!
//! A count that is more than 5 % above or below its row fails. When a change is meant to change it,
//! copy the rows that the test prints into [`EXPECTED`].

#[path = "../network/imdsd.rs"]
#[allow(dead_code)]
mod imdsd;
#[path = "../network/lab.rs"]
#[allow(dead_code)]
mod lab;
#[path = "../support/mod.rs"]
mod support;

mod callgrind;
mod guest;
mod strace;

use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use crate::guest::Request;
use crate::support::{Daemon, PATIENCE, require_program};

/// What a request costs.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Row {
    request: Request,
    /// Without those of the SHA-256 compression, for which processors have instructions that valgrind
    /// does not know.
    instructions: u64,
    allocations: u64,
    /// While the daemon waits: of a guest on a listener, and of one on an interface of its own.
    system_calls: [u64; 2],
}

const EXPECTED: [Row; 3] = [
    Row {
        request: Request::KeptAliveGet,
        instructions: 128_500,
        allocations: 0,
        system_calls: [3, 3],
    },
    Row {
        request: Request::Get,
        instructions: 135_900,
        allocations: 1,
        system_calls: [6, 7],
    },
    Row {
        request: Request::Put,
        instructions: 111_200,
        allocations: 2,
        system_calls: [7, 8],
    },
];

/// Returns whether a count is within 5 % of the one in its row.
fn is_close(count: u64, expected: u64) -> bool {
    count.abs_diff(expected) * 20 <= expected
}

#[test]
fn only_a_count_within_5_percent_is_close() {
    for count in [9_500, 10_000, 10_500] {
        assert!(is_close(count, 10_000), "{count}");
    }
    for count in [0, 9_499, 10_501, 20_000] {
        assert!(!is_close(count, 10_000), "{count}");
    }
    assert!(is_close(0, 0) && !is_close(1, 0));
    assert!(is_close(4, 4) && !is_close(3, 4) && !is_close(5, 4));
}

/// Compares counted rows with the expected ones; `shown` selects the fields that were counted.
fn compare(counted: &[Row], shown: impl Fn(&Row) -> Vec<(&'static str, u64)>) {
    let mut wrong = Vec::new();
    for (row, expected) in counted.iter().zip(&EXPECTED) {
        assert_eq!(row.request, expected.request);
        println!("{:?}: {:?}", row.request, shown(row));
        for ((what, count), (_, limit)) in shown(row).into_iter().zip(shown(expected)) {
            if !is_close(count, limit) {
                wrong.push(format!(
                    "{:?}: {count} {what}, expected {limit}",
                    row.request
                ));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\nMore than 5 % off. If that is meant, change EXPECTED in tests/counts/main.rs.",
        wrong.join("\n")
    );
}

/// The test's configuration logs debug lines for each request. The counts are those of the default.
fn log_as_by_default(directory: &Path) {
    let file = directory.join("imdsd.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(file, text.replace("level = \"debug\"", "level = \"info\"")).unwrap();
}

/// Starts a daemon with one instance on a listener and ends it again, so that its keys exist.
fn prepared() -> Daemon {
    // valgrind is slow, and a connection that waits between two counts must stay open.
    let mut daemon = Daemon::start_with("[guest]\nhead_seconds = 60", |instance| {
        instance["MetadataOptions"]["HttpTokens"] = "required".into();
    });
    assert_eq!(daemon.terminate(), Some(0));
    log_as_by_default(daemon.directory.path());
    daemon
}

#[test]
#[cfg(target_arch = "x86_64")]
#[ignore = "needs valgrind; tests/all runs it"]
fn a_request_costs_as_many_instructions_and_allocations_as_before() {
    require_program("valgrind");
    require_program("vgdb");
    let mut daemon = prepared();
    let output = daemon.directory.path().join("counts");
    daemon.start_again_by(callgrind::command(&output));
    let connect = || TcpStream::connect_timeout(&daemon.ipv4, PATIENCE);
    let counted = EXPECTED.map(|expected| {
        let (instructions, allocations) =
            callgrind::count(daemon.pid(), &output, &connect, expected.request);
        Row {
            instructions,
            allocations,
            ..expected
        }
    });
    compare(&counted, |row| {
        vec![
            ("instructions", row.instructions),
            ("allocations", row.allocations),
        ]
    });
}

#[test]
#[ignore = "needs strace, network namespaces, iproute2, nft and python3; tests/all runs it"]
fn a_request_costs_as_many_system_calls_as_before() {
    require_program("strace");
    let mut daemon = prepared();
    daemon.start_again_by(Command::new(env!("CARGO_BIN_EXE_imdsd")));
    let connect = || TcpStream::connect_timeout(&daemon.ipv4, PATIENCE);
    let of_listener = EXPECTED
        .map(|row| strace::count(daemon.pid(), daemon.directory.path(), &connect, row.request));

    let lab = lab::Lab::new();
    lab.guest(&lab::Wire {
        guest: "g1",
        tap: "tap0",
        mac: "02:00:00:00:00:01",
        ipv4: Some("10.0.0.1/24"),
        ipv6: None,
    });
    let mut imdsd = imdsd::Imdsd::start(&lab, imdsd::MANAGE, &[imdsd::on_interface(1, "tap0")]);
    imdsd.terminate();
    log_as_by_default(imdsd.directory.path());
    imdsd.start_again(&lab);
    let sockets = lab.sockets("g1");
    let connect = || sockets.connect(lab::IPV4);
    let of_interface = EXPECTED
        .map(|row| strace::count(imdsd.pid(), imdsd.directory.path(), &connect, row.request));

    let counted = [0, 1, 2].map(|number| Row {
        system_calls: [of_listener[number], of_interface[number]],
        ..EXPECTED[number]
    });
    compare(&counted, |row| {
        vec![
            ("system calls on a listener", row.system_calls[0]),
            ("system calls on an interface", row.system_calls[1]),
        ]
    });
}
