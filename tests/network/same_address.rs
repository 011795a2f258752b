//! Guests that have the same addresses, or say that they have another's: an interface is who they are.

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
/// Has no IPv6 address but the link-local one.
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
    // Without tokens, an address is all that an impostor would need.
    instances.map(|instance| with_option(instance, "HttpTokens", "optional"))
}

/// What an operator does where the daemon does not.
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

fn guests(test: &str, config: &str) -> Option<(Lab, Imdsd)> {
    let lab = Lab::new(test)?;
    for wire in [ONE, TWO, THREE] {
        lab.guest(&wire);
    }
    if config == CHECK {
        prepare_host(&lab);
    }
    let imdsd = Imdsd::start(&lab, config, &instances());
    Some((lab, imdsd))
}

fn each_is_itself(test: &str, config: &str) {
    let Some((lab, _imdsd)) = guests(test, config) else {
        return;
    };
    let doors = ["g1", "g2", "g3"].map(|guest| lab.door(guest));
    println!(
        "| guest | by | instance-id | a token of guest 1 | of guest 2 | of guest 3 |\n|---|---|---|---|---|---|"
    );
    let tokens = doors.each_ref().map(|door| door.token(IPV4));
    for (door, number) in doors.iter().zip(1..) {
        for (by, address) in [("IPv4", IPV4), ("IPv6", IPV6)] {
            let read = door.who_am_i(address);
            let with = tokens
                .each_ref()
                .map(|token| door.get_with(address, INSTANCE_ID, token).status);
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
fn guests_with_the_same_addresses_are_each_themselves() {
    each_is_itself("the same addresses", CHECK);
}

#[test]
fn guests_with_the_same_addresses_are_each_themselves_where_the_daemon_prepares_the_host() {
    each_is_itself("the same addresses, managed", MANAGE);
}

/// The same addresses and the same ports at the same time. A firewall that keeps track of connections takes the two for one;
/// so their packets must not be tracked, and here none passes that is.
#[test]
fn two_guests_with_one_and_the_same_connection_are_both_served_behind_a_firewall() {
    let Some((lab, imdsd)) = guests("the same connection", CHECK) else {
        return;
    };
    lab.nft(
        "table inet firewall {\n chain input {\n type filter hook input priority 0; policy accept;\n \
         tcp dport 80 ct state != untracked drop\n }\n}\n",
    );
    let doors = ["g1", "g2"].map(|guest| lab.door(guest));
    assert!(
        doors[0]
            .connect_as(None, IPV4, Duration::from_millis(300))
            .is_err(),
        "the firewall is there"
    );
    lab.nft(&imdsd.guest_rules(&lab));
    for (from, to) in [("10.0.0.5:40404", IPV4), ("[fd11::5]:40404", IPV6)] {
        let from: SocketAddr = from.parse().unwrap();
        let mut streams = doors.each_ref().map(|door| {
            door.connect_as(Some(from), to, PATIENCE)
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
fn a_guest_that_takes_anothers_address_is_still_itself() {
    let Some((lab, _imdsd)) = guests("a taken address", CHECK) else {
        return;
    };
    lab.sh(
        "g2",
        "ip address add 10.0.0.7/24 dev eth0; ip -6 address add fd11::7/64 dev eth0 nodad",
    );
    let (victim, attacker) = (lab.door("g3"), lab.door("g2"));
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
        // Where it is answered at all, it is as itself.
        assert!(!read.contains("200 OK") || read.ends_with(&id(2)), "{read}");
        assert_eq!(
            victim.get(to, INSTANCE_ID).body,
            id(3),
            "the victim is served all the time"
        );
    }
}

/// With frames of its own making, a guest needs no address for it.
#[test]
fn a_guest_that_forges_anothers_address_is_still_itself() {
    let Some((lab, _imdsd)) = guests("a forged address", CHECK) else {
        return;
    };
    let victim = lab.door("g3");
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
