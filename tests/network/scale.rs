//! A host with a thousand guests. The test asserts that all are served, and prints times and
//! memory.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::imdsd::{Imdsd, MANAGE, id, on_interface, with_addresses, with_option};
use crate::lab::{HOST, INSTANCE_ID, IPV4, IPV6, Lab, get};
use crate::support::PATIENCE;

const MANY: u32 = 1000;
const FEW: u32 = 10;
const READS: usize = 2000;

/// Adds many veths whose other ends are in one namespace. Their addresses differ because they share
/// its network stack.
fn plug_in(lab: &Lab, numbers: std::ops::Range<u32>) {
    let (mut host, mut peers, mut ipv6_rules) = (String::new(), String::new(), String::new());
    for number in numbers {
        writeln!(
            host,
            "link add tap{number} type veth peer name eth{number} netns peers"
        )
        .unwrap();
        writeln!(host, "link set tap{number} up").unwrap();
        writeln!(peers, "link set eth{number} up").unwrap();
        writeln!(peers, "address add {}/32 dev eth{number}", ipv4(number)).unwrap();
        writeln!(
            peers,
            "address add fd11::{number:x}/128 dev eth{number} nodad"
        )
        .unwrap();
        writeln!(
            peers,
            "route add 169.254.169.254 dev eth{number} table {}",
            number + 1000
        )
        .unwrap();
        writeln!(
            peers,
            "route add fd00:ec2::254 dev eth{number} table {}",
            number + 1000
        )
        .unwrap();
        writeln!(
            peers,
            "rule add from {} table {}",
            ipv4(number),
            number + 1000
        )
        .unwrap();
        writeln!(
            ipv6_rules,
            "rule add from fd11::{number:x} table {}",
            number + 1000
        )
        .unwrap();
    }
    lab.ip(HOST, &[], &host);
    lab.ip("peers", &[], &peers);
    lab.ip("peers", &["-6"], &ipv6_rules);
}

fn ipv4(number: u32) -> String {
    format!("10.1.{}.{}", number / 250, number % 250 + 1)
}

fn instances(count: u32) -> Vec<Value> {
    let instance = |number: u32| {
        let (mac, ipv6) = (
            format!("02:00:00:01:{:02x}:{:02x}", number >> 8, number & 255),
            format!("fd11::{number:x}"),
        );
        let instance = with_addresses(
            on_interface(number, &format!("tap{number}")),
            &mac,
            &ipv4(number),
            &ipv6,
        );
        with_option(instance, "HttpTokens", "optional")
    };
    (0..count).map(instance).collect()
}

/// Returns the median and the 99th percentile of the first guest's reads.
fn latency(lab: &Lab) -> String {
    let said = lab
        .script("solo", "reads.py")
        .args(["169.254.169.254", &READS.to_string()])
        .output()
        .unwrap();
    assert!(
        said.status.success(),
        "{}",
        String::from_utf8_lossy(&said.stderr)
    );
    let said: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(said["body"], id(MANY));
    let mut times: Vec<f64> = serde_json::from_value(said["times"].clone()).unwrap();
    times.sort_by(f64::total_cmp);
    format!(
        "p50 {:.0} µs, p99 {:.0} µs",
        times[times.len() / 2],
        times[times.len() * 99 / 100]
    )
}

fn memory(pid: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .unwrap()
        .split_whitespace()
        .skip(1)
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn a_thousand_guests_are_identified() {
    let lab = Lab::new();
    lab.add("peers");
    // The guest that is measured is alone in its namespace, and comes last.
    let solo = crate::lab::Wire {
        guest: "solo",
        tap: &format!("tap{MANY}"),
        mac: "02:00:00:02:00:01",
        ipv4: Some("10.0.0.5/24"),
        ipv6: Some("fd12::5/64"),
    };
    lab.guest(&solo);
    let solo_document = || {
        let solo = with_addresses(
            on_interface(MANY, &format!("tap{MANY}")),
            solo.mac,
            "10.0.0.5",
            "fd12::5",
        );
        with_option(solo, "HttpTokens", "optional")
    };
    println!(
        "| guests | ready after | all served after | memory | listeners | one guest's reads |\n|---|---|---|---|---|---|"
    );
    let mut made = 0;
    for count in [FEW, MANY] {
        plug_in(&lab, made..count);
        made = count;
        let mut documents = instances(count);
        documents.push(solo_document());
        let started = Instant::now();
        let mut imdsd = Imdsd::spawn(&lab, MANAGE, &documents);
        wait_long_until_ready(&mut imdsd);
        let ready = started.elapsed();
        let everybody = lab.sockets("peers");
        for number in 0..count {
            // The kernel keeps at most 1024 neighbours (gc_thresh3) for all namespaces together,
            // and drops none younger than five seconds. A real host has each guest once, and not
            // permanently.
            if number % 100 == 0 {
                for place in [HOST, "peers"] {
                    lab.sh(place, "ip neigh flush all; ip -6 neigh flush all");
                }
            }
            for (from, to) in [
                (format!("{}:0", ipv4(number)), IPV4),
                (format!("[fd11::{number:x}]:0"), IPV6),
            ] {
                let from = from.parse().unwrap();
                let read = || {
                    let mut stream = everybody
                        .connect_as(Some(from), to, Duration::from_secs(1))
                        .ok()?;
                    std::io::Write::write_all(&mut stream, get(INSTANCE_ID).as_bytes()).ok()?;
                    let answer =
                        crate::support::Answer::read(&crate::support::read_to_end(&mut stream));
                    (answer.status == 200).then_some(answer.body)
                };
                crate::lab::eventually(&format!("{from} is served at {to}"), || match read() {
                    Some(read) => {
                        assert_eq!(read, id(number), "{from} {to}");
                        true
                    }
                    None => false,
                });
            }
        }
        let served = started.elapsed();
        let listeners = lab.sh(HOST, "ss -Htln 'sport = :80'").lines().count();
        println!(
            "| {} | {:.2} s | {:.2} s | {} | {listeners} | {} |",
            count + 1,
            ready.as_secs_f64(),
            served.as_secs_f64(),
            memory(imdsd.pid()),
            latency(&lab)
        );
        assert_eq!(listeners as u32, 2 * (count + 1));
        let stopped = Instant::now();
        imdsd.terminate();
        println!("stopped after {:.2} s", stopped.elapsed().as_secs_f64());
    }
    // Everything that it added to a thousand interfaces is removed.
    assert_eq!(
        lab.sh(
            HOST,
            "ip -o address show to 169.254.169.254; ip -6 -o address show to fd00:ec2::254"
        ),
        ""
    );
}

/// Waits longer than usual: a thousand records are first written to the disk, one by one.
fn wait_long_until_ready(imdsd: &mut Imdsd) {
    const LONG: Duration = Duration::from_secs(240);
    assert!(LONG > PATIENCE);
    imdsd.wait_for_within(LONG, |line| line["message"] == "ready");
}
