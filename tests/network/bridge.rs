//! Guests that share a bridge and attack each other: first with marks only, then with `imdsd
//! guest-rules`.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use crate::imdsd::{CHECK, Imdsd, id, on_port, with_addresses, with_option};
use crate::lab::{
    HOST, INSTANCE_ID, IPV4, IPV6, Impostor, Lab, Lines, SocketOpener, Wire, eventually, get,
    request_on,
};
use crate::support::{Answer, PATIENCE, TOKEN_REQUEST, read_to_end};

/// A fixed MAC: without one, the bridge would use the lowest MAC of its ports.
const BRIDGE_MAC: &str = "02:00:00:00:00:fe";
const VICTIM: Wire<'_> = Wire {
    guest: "g1",
    tap: "tap1",
    mac: "02:00:00:00:00:01",
    ipv4: Some("10.0.0.5/24"),
    ipv6: Some("fd11::5/64"),
};
const NEIGHBOUR: Wire<'_> = Wire {
    guest: "g2",
    tap: "tap2",
    mac: "02:00:00:00:00:02",
    ipv4: Some("10.0.0.6/24"),
    ipv6: Some("fd11::6/64"),
};
const ATTACKER: Wire<'_> = Wire {
    guest: "g3",
    tap: "tap3",
    mac: "02:00:00:00:00:03",
    ipv4: Some("10.0.0.7/24"),
    ipv6: Some("fd11::7/64"),
};
/// Rules that identify the guests, without any protection.
const MARKS: &str = "table bridge marks {
    map ports {
        type ifname : mark
        elements = { \"tap1\" : 0x1001, \"tap2\" : 0x1002, \"tap3\" : 0x1003 }
    }
    chain prerouting {
        type filter hook prerouting priority -300; policy accept;
        meta mark set iifname map @ports
    }
}
";
/// Rounds of an attack after which it would have worked, one every 20 ms.
const ROUNDS: usize = 25;

fn bridge() -> (Lab, Imdsd) {
    let lab = Lab::new();
    lab.sh(
        HOST,
        &format!("ip link add br0 address {BRIDGE_MAC} type bridge; ip link set br0 up"),
    );
    lab.sh(
        HOST,
        "ip address add 10.0.0.1/24 dev br0; ip -6 address add fd11::1/64 dev br0 nodad",
    );
    lab.serve_on("br0");
    let mut instances = Vec::new();
    for (wire, number) in [VICTIM, NEIGHBOUR, ATTACKER].iter().zip(1..) {
        lab.guest(wire);
        lab.sh(HOST, &format!("ip link set {} master br0", wire.tap));
        let (ipv4, ipv6) = (
            format!("10.0.0.{}", number + 4),
            format!("fd11::{}", number + 4),
        );
        let instance = with_addresses(
            on_port(number, "br0", wire.tap, 0x1000 + number),
            wire.mac,
            &ipv4,
            &ipv6,
        );
        instances.push(with_option(instance, "HttpTokens", "optional"));
    }
    lab.nft(MARKS);
    let imdsd = Imdsd::start(&lab, CHECK, &instances);
    (lab, imdsd)
}

/// Replaces the marks by the daemon's rules, and clears what guests and host have learned from
/// attacks.
fn guard(lab: &Lab, imdsd: &Imdsd) {
    lab.nft("delete table bridge marks\n");
    lab.nft(&imdsd.guest_rules(lab));
    forget(lab);
}

fn forget(lab: &Lab) {
    lab.sh(HOST, "ip neigh flush dev br0; ip -6 neigh flush dev br0");
    for guest in ["g1", "g2", "g3"] {
        lab.sh(guest, "ip neigh flush dev eth0; ip -6 neigh flush dev eth0");
    }
}

fn assert_each_identified(lab: &Lab) {
    for (guest, number) in ["g1", "g2", "g3"].iter().zip(1..) {
        let socket = lab.sockets(guest);
        for address in [IPV4, IPV6] {
            assert_eq!(socket.who_am_i(address), id(number), "{guest} at {address}");
        }
    }
}

#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn guests_on_a_bridge_are_identified_whatever_address_they_use() {
    let (lab, imdsd) = bridge();
    for guarded in [false, true] {
        if guarded {
            guard(&lab, &imdsd);
        }
        assert_each_identified(&lab);
        lab.sh(
            "g3",
            "ip address add 10.0.0.6/24 dev eth0; ip -6 address add fd11::6/64 dev eth0 nodad",
        );
        let attacker = lab.sockets("g3");
        for (from, to) in [("10.0.0.6:0", IPV4), ("[fd11::6]:0", IPV6)] {
            let from: SocketAddr = from.parse().unwrap();
            let read = match attacker.connect_as(Some(from), to, Duration::from_secs(1)) {
                Ok(mut stream) => {
                    stream
                        .set_read_timeout(Some(Duration::from_secs(1)))
                        .unwrap();
                    stream.write_all(get(INSTANCE_ID).as_bytes()).unwrap();
                    read_to_end(&mut stream)
                }
                Err(reason) => reason.to_string(),
            };
            println!(
                "guarded: {guarded}: guest 3 from {from}: {:?}",
                read.lines().last()
            );
            assert!(!read.contains(&id(2)), "{read}");
        }
        if !guarded {
            // The host sends to it what is for the neighbour, so it is answered: under its own
            // mark.
            let attacks = ["10.0.0.6", "fd11::6"].map(|claimed| {
                let target = if claimed.contains(':') {
                    "fd11::1"
                } else {
                    "10.0.0.1"
                };
                Lines::of(lab.script("g3", "claim.py").args(["eth0", claimed, target]))
            });
            for (from, to) in [("10.0.0.6:0", IPV4), ("[fd11::6]:0", IPV6)] {
                let from: SocketAddr = from.parse().unwrap();
                eventually("it is itself under the neighbour's address", || {
                    let Ok(mut stream) =
                        attacker.connect_as(Some(from), to, Duration::from_secs(1))
                    else {
                        return false;
                    };
                    stream
                        .set_read_timeout(Some(Duration::from_secs(1)))
                        .unwrap();
                    stream.write_all(get(INSTANCE_ID).as_bytes()).unwrap();
                    let read = Answer::read(&read_to_end(&mut stream));
                    assert!(read.status == 0 || read.body == id(3), "{read:?}");
                    read.status == 200
                });
                println!(
                    "guarded: false: guest 3 from {from}, which it has claimed: {}",
                    id(3)
                );
            }
            drop(attacks);
        }
        lab.sh(
            "g3",
            "ip address del 10.0.0.6/24 dev eth0; ip -6 address del fd11::6/64 dev eth0",
        );
        forget(&lab);
    }
}

/// Each family: where the service is, and who the victim is.
const FAMILIES: [(&str, &str, &str); 2] = [
    ("169.254.169.254", IPV4, "10.0.0.5"),
    ("fd00:ec2::254", IPV6, "fd11::5"),
];

/// A guest says that it has the service's address: others get its user-data for theirs.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn a_guest_that_claims_the_services_address_serves_nobody() {
    let (lab, imdsd) = bridge();
    let (victim, attacker) = (lab.sockets("g1"), lab.sockets("g3"));
    lab.sh("g3", "ip address add 169.254.169.254/32 dev lo; ip -6 address add fd00:ec2::254/128 dev lo nodad");
    let _impostors = [IPV4, IPV6].map(|at| Impostor::start(&attacker, at));
    let read = |address: &str| {
        let answer = victim.try_ask(address, &get("/latest/user-data"), Duration::from_secs(1));
        answer.map_or_else(|reason| reason.to_string(), |answer| answer.body)
    };
    let own = format!("user-data of {}", id(1));
    for guarded in [false, true] {
        if guarded {
            guard(&lab, &imdsd);
        }
        for (service, address, victim) in FAMILIES {
            assert_eq!(read(address), own, "before the attack");
            let attack = Lines::of(lab.script("g3", "claim.py").args(["eth0", service, victim]));
            attack.expect(1);
            if !guarded {
                eventually("the victim reads the attacker's answer", || {
                    read(address) == Impostor::ANSWER
                });
            } else {
                for _ in 0..5 {
                    attack.expect(ROUNDS / 5);
                    // With an empty cache the victim asks for the address again, and the attacker
                    // answers too.
                    lab.sh("g1", "ip neigh flush dev eth0; ip -6 neigh flush dev eth0");
                    assert_eq!(read(address), own, "{address}");
                }
            }
            println!(
                "a guest claims {service}, guarded: {guarded}: the victim reads {:?}",
                read(address)
            );
            drop(attack);
            forget(&lab);
        }
    }
}

/// A guest claims the victim's address towards the host, and would receive the victim's token.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn a_guest_that_claims_the_address_of_another_gets_nothing_of_its_data() {
    let (lab, imdsd) = bridge();
    let victim = lab.sockets("g1");
    for guarded in [false, true] {
        if guarded {
            guard(&lab, &imdsd);
        }
        for (_, address, claimed) in FAMILIES {
            let mut sniffer = lab.sniff("g3", "eth0");
            let mut stream = victim.connect(address).unwrap();
            assert_eq!(
                request_on(&mut stream, &get(INSTANCE_ID)).unwrap().body,
                id(1)
            );
            let service = if address == IPV4 {
                "10.0.0.1"
            } else {
                "fd11::1"
            };
            let attack = Lines::of(
                lab.script("g3", "claim.py")
                    .args(["eth0", claimed, service]),
            );
            let host_believes = || lab.sh(HOST, &format!("ip neigh show {claimed} dev br0"));
            attack.expect(1);
            if !guarded {
                eventually("the host believes the attacker", || {
                    host_believes().contains(ATTACKER.mac)
                });
            } else {
                attack.expect(ROUNDS);
                lab.sh(HOST, "ip neigh flush dev br0; ip -6 neigh flush dev br0");
                attack.expect(ROUNDS);
            }
            stream
                .set_read_timeout(Some(if guarded {
                    PATIENCE
                } else {
                    Duration::from_millis(500)
                }))
                .unwrap();
            stream.write_all(TOKEN_REQUEST.as_bytes()).unwrap();
            let answer = Answer::read(&read_to_end(&mut stream));
            let stolen = |seen: &[crate::lab::Segment]| -> Vec<String> {
                let to_victim =
                    |segment: &&crate::lab::Segment| segment.target.to_string() == claimed;
                let mine = seen
                    .iter()
                    .filter(|segment| segment.direction == "in" && segment.source_port == 80);
                mine.filter(to_victim)
                    .map(|segment| segment.payload.clone())
                    .filter(|text| !text.is_empty())
                    .collect()
            };
            if !guarded {
                // The answer to the victim arrives at the attacker.
                let stolen = stolen(sniffer.wait_for(|seen| !stolen(seen).is_empty()));
                assert!(stolen[0].starts_with("HTTP/1.1 200 OK"), "{stolen:?}");
                println!(
                    "{claimed} claimed, not guarded: the attacker has the victim's token answer"
                );
            } else {
                assert_eq!(answer.status, 200, "the victim has its token: {answer:?}");
                assert!(
                    !host_believes().contains(ATTACKER.mac),
                    "{}",
                    host_believes()
                );
                assert_eq!(stolen(sniffer.seen()), Vec::<String>::new());
                println!(
                    "{claimed} claimed, guarded: the victim has its token, the attacker nothing"
                );
            }
            drop(attack);
            forget(&lab);
        }
    }
}

/// A guest sends to its gateway, which may be another machine than the host: the frame passes
/// through the bridge.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn a_guest_whose_gateway_is_another_machine_is_served() {
    let (lab, imdsd) = bridge();
    lab.guest(&Wire {
        guest: "gateway",
        tap: "uplink",
        mac: "02:00:00:00:00:99",
        ipv4: Some("10.0.0.254/24"),
        ipv6: Some("fd11::fe/64"),
    });
    lab.sh(HOST, "ip link set uplink master br0");
    lab.sh(
        "g1",
        "ip route replace 169.254.169.254 via 10.0.0.254; ip -6 route del fd00:ec2::254
         ip -6 route add fd00:ec2::254 via fd11::fe",
    );
    let guest = lab.sockets("g1");
    for address in [IPV4, IPV6] {
        let lost = guest.connect_as(None, address, Duration::from_millis(300));
        assert!(
            lost.is_err(),
            "the frames go to the gateway, which does not forward them"
        );
    }
    guard(&lab, &imdsd);
    assert_each_identified(&lab);
    println!("served through a gateway that is not the host, by IPv4 and IPv6");
}

/// All guests of a bridge share one listening socket, so a guest without IPv6 is reset after it has
/// connected.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn a_guest_without_ipv6_on_a_bridge_is_reset_and_its_neighbours_are_served() {
    let (lab, imdsd) = bridge();
    guard(&lab, &imdsd);
    let (guest, neighbour) = (lab.sockets("g1"), lab.sockets("g2"));
    imdsd.modify(&id(1), "HttpProtocolIpv6", "disabled");
    assert_eq!(
        guest.get(IPV6, INSTANCE_ID).raw,
        "",
        "reset without any data"
    );
    assert_eq!(guest.who_am_i(IPV4), id(1));
    assert_eq!(neighbour.who_am_i(IPV6), id(2));
    imdsd.modify(&id(1), "HttpProtocolIpv6", "enabled");
    assert_eq!(guest.who_am_i(IPV6), id(1));
    imdsd.modify(&id(1), "HttpEndpoint", "disabled");
    assert_eq!(guest.ask(IPV4, TOKEN_REQUEST).status, 403);
    assert_eq!(neighbour.who_am_i(IPV4), id(2));
}

/// A guest on a port that no document names has no mark and gets no answer.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn a_port_without_an_instance_gets_no_data() {
    let (lab, imdsd) = bridge();
    lab.guest(&Wire {
        guest: "g4",
        tap: "tap4",
        mac: "02:00:00:00:00:04",
        ipv4: Some("10.0.0.8/24"),
        ipv6: Some("fd11::8/64"),
    });
    lab.sh(HOST, "ip link set tap4 master br0");
    let stranger: SocketOpener = lab.sockets("g4");
    for guarded in [false, true] {
        if guarded {
            guard(&lab, &imdsd);
        }
        for address in [IPV4, IPV6] {
            let mut bytes = Vec::new();
            if let Ok(mut stream) = stranger.connect_as(None, address, Duration::from_secs(1)) {
                stream
                    .set_read_timeout(Some(Duration::from_secs(1)))
                    .unwrap();
                let _ = stream.write_all(get("/latest/user-data").as_bytes());
                let _ = stream.read_to_end(&mut bytes);
            }
            let read = String::from_utf8_lossy(&bytes).into_owned();
            println!(
                "guarded: {guarded}: a stranger at {address} reads {:?}",
                read.lines().next()
            );
            assert!(
                !read.contains("200 OK") && !read.contains("user-data of"),
                "{read}"
            );
        }
    }
}
