//! Guests with the same addresses, or with addresses of others: the interface identifies them.

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use crate::imdsd::{CHECK, Imdsd, MANAGE, id, on_interface, with_addresses, with_option};
use crate::lab::{HOST, INSTANCE_ID, IPV4, IPV6, Lab, Wire, get};
use crate::support::{Answer, PATIENCE, read_to_end};

const ONE: Wire<'_> = Wire {
    guest: "g1",
    tap: "tap1",
    mac: "02:00:00:00:00:01",
    ipv4: Some("10.0.0.5/24"),
    ipv6: Some("fd11::5/64"),
};
const TWO: Wire<'_> = Wire {
    guest: "g2",
    tap: "tap2",
    mac: "02:00:00:00:00:02",
    ..ONE
};
/// A guest with no IPv6 address except the link-local one.
const THREE: Wire<'_> = Wire {
    guest: "g3",
    tap: "tap3",
    mac: "02:00:00:00:00:03",
    ipv4: Some("10.0.0.7/24"),
    ipv6: None,
};

fn instances() -> [Value; 3] {
    let instances = [
        with_addresses(on_interface(1, "tap1"), ONE.mac, "10.0.0.5", "fd11::5"),
        with_addresses(on_interface(2, "tap2"), TWO.mac, "10.0.0.5", "fd11::5"),
        with_addresses(on_interface(3, "tap3"), THREE.mac, "10.0.0.7", "fd11::7"),
    ];
    // Without tokens, the address alone would be enough for an attacker.
    instances.map(|instance| with_option(instance, "HttpTokens", "optional"))
}

/// Adds what an operator must add when the daemon does not manage addresses.
fn prepare_host(lab: &Lab) {
    for (metric, tap) in [(1, "tap1"), (2, "tap2")] {
        lab.serve_on(tap);
        lab.sh(
            HOST,
            &format!("ip -6 route add fd11::5 dev {tap} metric {metric}"),
        );
    }
    lab.serve_on("tap3");
}

fn guests(config: &str) -> (Lab, Imdsd) {
    let lab = Lab::new();
    for wire in [ONE, TWO, THREE] {
        lab.guest(&wire);
    }
    if config == CHECK {
        prepare_host(&lab);
    }
    let imdsd = Imdsd::start(&lab, config, &instances());
    (lab, imdsd)
}

fn assert_each_identified(config: &str) {
    let (lab, _imdsd) = guests(config);
    let sockets = ["g1", "g2", "g3"].map(|guest| lab.sockets(guest));
    println!(
        "| guest | by | instance-id | a token of guest 1 | of guest 2 | of guest 3 |\n|---|---|---|---|---|---|"
    );
    let tokens = sockets.each_ref().map(|socket| socket.token(IPV4));
    for (socket, number) in sockets.iter().zip(1..) {
        for (by, address) in [("IPv4", IPV4), ("IPv6", IPV6)] {
            let read = socket.who_am_i(address);
            let with = tokens
                .each_ref()
                .map(|token| socket.get_with(address, INSTANCE_ID, token).status);
            println!(
                "| {number} | {by} | {read} | {} | {} | {} |",
                with[0], with[1], with[2]
            );
            assert_eq!(read, id(number), "guest {number} by {by}");
            let own = [1, 2, 3].map(|owner| if owner == number { 200 } else { 401 });
            assert_eq!(with, own, "guest {number} by {by}");
        }
    }
}

#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn guests_with_the_same_addresses_are_identified() {
    assert_each_identified(CHECK);
}

#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn guests_with_the_same_addresses_are_identified_when_the_daemon_manages_addresses() {
    assert_each_identified(MANAGE);
}

/// The same addresses and ports at the same time. Connection tracking of a firewall would merge the
/// two connections, so their packets must not be tracked. The firewall here drops tracked packets.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn two_guests_with_identical_connections_are_both_served_behind_a_firewall() {
    let (lab, imdsd) = guests(CHECK);
    lab.nft(
        "table inet firewall {\n chain input {\n type filter hook input priority 0; policy accept;\n \
         tcp dport 80 ct state != untracked drop\n }\n}\n",
    );
    let sockets = ["g1", "g2"].map(|guest| lab.sockets(guest));
    assert!(
        sockets[0]
            .connect_as(None, IPV4, Duration::from_millis(300))
            .is_err(),
        "the firewall is there"
    );
    lab.nft(&imdsd.guest_rules(&lab));
    for (from, to) in [("10.0.0.5:40404", IPV4), ("[fd11::5]:40404", IPV6)] {
        let from: SocketAddr = from.parse().unwrap();
        let mut streams = sockets.each_ref().map(|socket| {
            socket
                .connect_as(Some(from), to, PATIENCE)
                .expect("a connection")
        });
        for (stream, number) in streams.iter_mut().zip(1..) {
            stream.write_all(get(INSTANCE_ID).as_bytes()).unwrap();
            assert_eq!(
                Answer::read(&read_to_end(stream)).body,
                id(number),
                "from {from} to {to}"
            );
        }
        println!("{from} to {to}: guest 1 and guest 2, each its own answer");
    }
}

#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn a_guest_that_uses_the_address_of_another_is_still_identified() {
    let (lab, _imdsd) = guests(CHECK);
    lab.sh(
        "g2",
        "ip address add 10.0.0.7/24 dev eth0; ip -6 address add fd11::7/64 dev eth0 nodad",
    );
    let (victim, attacker) = (lab.sockets("g3"), lab.sockets("g2"));
    for (from, to) in [("10.0.0.7:0", IPV4), ("[fd11::7]:0", IPV6)] {
        let read =
            match attacker.connect_as(Some(from.parse().unwrap()), to, Duration::from_secs(1)) {
                Ok(mut stream) => {
                    stream.write_all(get(INSTANCE_ID).as_bytes()).unwrap();
                    read_to_end(&mut stream)
                }
                Err(reason) => reason.to_string(),
            };
        println!("guest 2 from {from}: {:?}", read.lines().last());
        assert!(!read.contains(&id(3)), "{read}");
        // If it is answered at all, then as itself.
        assert!(!read.contains("200 OK") || read.ends_with(&id(2)), "{read}");
        assert_eq!(
            victim.get(to, INSTANCE_ID).body,
            id(3),
            "the victim is served all the time"
        );
    }
}

/// With raw frames, a guest can forge a source without having the address.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn a_guest_that_forges_the_address_of_another_is_still_identified() {
    let (lab, _imdsd) = guests(CHECK);
    let victim = lab.sockets("g3");
    let gateway = lab.mac(HOST, "tap2");
    for (source, to) in [
        ("10.0.0.7", "169.254.169.254"),
        ("fd11::7", "fd00:ec2::254"),
    ] {
        let mut spoof = lab.script("g2", "spoof.py");
        let said = spoof
            .args(["eth0", source, to, &gateway, &get("/latest/user-data")])
            .output()
            .unwrap();
        let said: Value = serde_json::from_slice(&said.stdout).expect("the script runs");
        let answer = said["answer"].as_str().unwrap();
        println!(
            "guest 2 forges {source}: shaken: {}, answer: {:?}",
            said["shaken"],
            answer.lines().last()
        );
        assert!(!answer.contains(&id(3)), "{answer}");
        assert!(
            !answer.contains("200 OK") || answer.ends_with(&format!("user-data of {}", id(2))),
            "{answer}"
        );
    }
    for address in [IPV4, IPV6] {
        assert_eq!(victim.get(address, INSTANCE_ID).body, id(3));
    }
}
