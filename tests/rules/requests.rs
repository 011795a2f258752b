//! Who asks, how often, and from what address.

use crate::lab::{self, BRIDGE_MAC, Lab, everybody, ipv4, ipv6, link_local, mac, way};

/// Counts what arrives at the host for the metadata addresses, by mark.
const OBSERVER: &str = r#"
table inet observer {
  chain input {
    type filter hook input priority 0; policy accept;
    ip daddr 169.254.169.254 udp dport 9 jump marks
    ip6 daddr fd00:ec2::254 udp dport 9 jump marks
  }
  counter one { }
  counter two { }
  counter nobody { }
  counter other { }
  chain marks { }
}
add rule inet observer marks meta pkttype != host return
add rule inet observer marks meta mark 0x1001 counter name one accept
add rule inet observer marks meta mark 0x1002 counter name two accept
add rule inet observer marks meta mark 0 counter name nobody accept
add rule inet observer marks counter name other
"#;

fn observed(lab: &Lab) -> [u64; 4] {
    let text = lab.host_sh("nft --json reset counters table inet observer");
    let listed: serde_json::Value = serde_json::from_str(&text).unwrap();
    let count = |name: &str| {
        let all = listed["nftables"].as_array().unwrap();
        let counter = all
            .iter()
            .find(|entry| entry["counter"]["name"] == name)
            .unwrap();
        counter["counter"]["packets"].as_u64().unwrap()
    };
    [count("one"), count("two"), count("nobody"), count("other")]
}

#[test]
fn the_service_knows_who_asks() {
    let Some(lab) = Lab::new("the_service_knows_who_asks") else {
        return;
    };
    lab.nft(&everybody());
    for family in ["4", "6"] {
        for (guest, mark) in [
            (1, "mark 4097"),
            (2, "mark 4098"),
            (3, "mark 4099"),
            (4, "mark 0"),
        ] {
            assert_eq!(
                lab.ask(guest, family, "-"),
                mark,
                "guest {guest}, IPv{family}"
            );
        }
    }
    // Its link-local address is good on a bridge when it follows from the MAC, and on an interface of its own in any case.
    for guest in 1..=4 {
        assert!(
            lab.ask(guest, "6", &format!("{}%eth0", link_local(guest)))
                .starts_with("mark"),
            "guest {guest}"
        );
        lab.guest_sh(guest, "ip address add fe80::77/64 dev eth0 nodad");
    }
    assert_eq!(lab.ask(1, "6", "fe80::77%eth0"), "nothing");
    assert_eq!(lab.ask(4, "6", "fe80::77%eth0"), "mark 0");
    // A service that is not there refuses, with rules as without.
    lab.guest_sh(
        1,
        "python3 -c '
import socket
try:
    socket.create_connection((\"169.254.169.254\", 81), 2)
except ConnectionRefusedError:
    pass
'",
    );
}

#[test]
fn an_unlisted_port_is_nobody() {
    let Some(lab) = Lab::new("an_unlisted_port_is_nobody") else {
        return;
    };
    lab.nft(&lab::script(&[way(1), way(2)]));
    // Another table has given it the mark of guest 1.
    lab.nft(
        "table bridge other {\n chain c {\n type filter hook prerouting priority 0; policy accept;\n \
         iifname \"tap3\" meta mark set 0x1001\n }\n}\n",
    );
    lab.nft(OBSERVER);
    lab.wire(
        3,
        &["packets", "eth0", &mac(3), &ipv4(3), BRIDGE_MAC, "-", "5"],
    );
    lab.wire(
        3,
        &["packets", "eth0", &mac(3), &ipv6(3), BRIDGE_MAC, "-", "5"],
    );
    assert_eq!(observed(&lab), [0, 0, 10, 0]);
    assert_eq!(lab.ask(3, "4", "-"), "mark 0");
}

#[test]
fn a_request_comes_from_the_guests_own_addresses() {
    let Some(lab) = Lab::new("a_request_comes_from_the_guests_own_addresses") else {
        return;
    };
    for guest in [2, 4] {
        let mine = guest - 1;
        lab.guest_sh(
            guest,
            "ip address add 10.0.0.77/32 dev eth0; ip address add fd11::77/128 dev eth0 nodad; ip neighbour flush dev eth0",
        );
        let network = if guest == 4 { "own4" } else { "br0" };
        lab.host_sh(&format!(
            "ip route replace 10.0.0.77/32 dev {network}; ip -6 route replace fd11::77/128 dev {network}"
        ));
        lab.unguarded();
        for (family, source) in [("4", "10.0.0.77"), ("6", "fd11::77")] {
            assert!(
                lab.ask(guest, family, source).starts_with("mark"),
                "guest {guest} as {source}, without rules"
            );
        }
        lab.nft(&everybody());
        for (family, source) in [("4", "10.0.0.77"), ("6", "fd11::77")] {
            assert_eq!(
                lab.ask(guest, family, source),
                "nothing",
                "guest {guest} as {source}"
            );
            let own = if family == "4" {
                ipv4(guest)
            } else {
                ipv6(guest)
            };
            assert!(
                lab.ask(guest, family, &own).starts_with("mark"),
                "guest {guest} as itself"
            );
        }
        // A delegated prefix is the guest's own.
        let mut delegated = way(guest);
        delegated
            .ipv4_prefixes
            .push(("10.0.0.64".parse().unwrap(), 28));
        delegated
            .ipv6_prefixes
            .push(("fd11::70".parse().unwrap(), 124));
        lab.nft(&lab::script(&[way(mine), delegated]));
        for (family, source) in [("4", "10.0.0.77"), ("6", "fd11::77")] {
            assert!(
                lab.ask(guest, family, source).starts_with("mark"),
                "guest {guest} as {source}, delegated"
            );
        }
        // Not with another MAC, either.
        lab.nft(OBSERVER);
        lab.nft(&everybody());
        lab.wire(
            2,
            &[
                "packets",
                "eth0",
                "02:00:00:00:00:77",
                &ipv4(2),
                BRIDGE_MAC,
                "-",
            ],
        );
        lab.wire(2, &["packets", "eth0", &mac(1), &ipv4(1), BRIDGE_MAC, "-"]);
        lab.wire(2, &["packets", "eth0", &mac(2), &ipv4(1), BRIDGE_MAC, "-"]);
        lab.wire(2, &["packets", "eth0", &mac(2), &ipv6(1), BRIDGE_MAC, "-"]);
        assert_eq!(observed(&lab), [0, 0, 0, 0]);
        lab.nft("delete table inet observer\n");
    }
}

/// A port's packets reach the host with the port's mark or not at all, whatever MAC and tags are on the frame.
#[test]
fn no_frame_gets_around_the_mark() {
    let Some(lab) = Lab::new("no_frame_gets_around_the_mark") else {
        return;
    };
    lab.nft(OBSERVER);
    // (destination MAC, tags, how many arrive)
    let frames: &[(&str, &str, u64)] = &[
        (BRIDGE_MAC, "-", 1),
        (BRIDGE_MAC, "0", 1),
        ("02:00:00:00:99:99", "-", 1),
        ("02:00:00:00:99:99", "0", 1),
        ("ff:ff:ff:ff:ff:ff", "-", 1),
        ("01:00:5e:00:00:01", "-", 1),
        ("33:33:00:00:00:01", "-", 1),
        (&mac(3), "-", 1),
        (BRIDGE_MAC, "0.0", 0),
        (BRIDGE_MAC, "0.0.0", 0),
        (BRIDGE_MAC, "0.7", 0),
        ("ff:ff:ff:ff:ff:ff", "0.0", 0),
        (BRIDGE_MAC, "7", 0),
    ];
    lab.unguarded();
    lab.wire(
        2,
        &["packets", "eth0", &mac(2), &ipv4(2), BRIDGE_MAC, "0.0"],
    );
    assert_eq!(
        observed(&lab),
        [0, 0, 1, 0],
        "two tags get around a table that looks under one"
    );
    lab.nft(&everybody());
    for source in [ipv4(2), ipv6(2)] {
        for &(to, tags, arrive) in frames {
            lab.wire(2, &["packets", "eth0", &mac(2), &source, to, tags]);
            assert_eq!(
                observed(&lab),
                [0, arrive, 0, 0],
                "{source} to {to}, tags {tags}"
            );
        }
    }
}

#[test]
fn a_guest_whose_gateway_is_another_box_is_caught() {
    let Some(lab) = Lab::new("a_guest_whose_gateway_is_another_box") else {
        return;
    };
    let elsewhere =
        "ip neighbour replace 169.254.169.254 lladdr 02:00:00:00:99:99 nud permanent dev eth0
         ip neighbour replace fd00:ec2::254 lladdr 02:00:00:00:99:99 nud permanent dev eth0";
    lab.guest_sh(1, elsewhere);
    lab.unguarded();
    assert_eq!(lab.ask(1, "4", "-"), "nothing");
    lab.nft(&everybody());
    assert_eq!(lab.ask(1, "4", "-"), "mark 4097");
    assert_eq!(lab.ask(1, "6", "-"), "mark 4097");
}

/// EC2: 1,024 packets a second per network interface.
#[test]
fn a_flood_is_the_flooders_own_affair() {
    let Some(lab) = Lab::new("a_flood_is_the_flooders_own_affair") else {
        return;
    };
    lab.nft(OBSERVER);
    lab.unguarded();
    let flood = || {
        let begun = std::time::Instant::now();
        lab.wire(
            1,
            &[
                "packets",
                "eth0",
                &mac(1),
                &ipv4(1),
                BRIDGE_MAC,
                "-",
                "4000",
            ],
        );
        lab.wire(
            1,
            &[
                "packets",
                "eth0",
                &mac(1),
                &ipv6(1),
                BRIDGE_MAC,
                "-",
                "4000",
            ],
        );
        // Forged requests count as the sender's.
        lab.wire(
            1,
            &[
                "packets",
                "eth0",
                &mac(1),
                &ipv4(2),
                BRIDGE_MAC,
                "-",
                "4000",
            ],
        );
        lab.wire(
            2,
            &["packets", "eth0", &mac(2), &ipv4(2), BRIDGE_MAC, "-", "500"],
        );
        lab.wire(
            2,
            &["packets", "eth0", &mac(2), &ipv6(2), BRIDGE_MAC, "-", "500"],
        );
        (observed(&lab), begun.elapsed().as_secs_f64())
    };
    assert_eq!(flood().0, [12000, 1000, 0, 0]);
    lab.nft(&everybody());
    let ([one, two, nobody, other], seconds) = flood();
    assert!(
        (1024..=(1024.0 * (1.0 + seconds)) as u64 + 1).contains(&one),
        "{one} in {seconds} seconds"
    );
    assert_eq!([two, nobody, other], [1000, 0, 0]);
}

#[test]
fn connections_to_the_service_are_not_tracked() {
    const CONNTRACK: &str = "/proc/net/nf_conntrack";
    const TEST: &str = "connections_to_the_service_are_not_tracked";
    let Some(lab) = Lab::new(TEST) else { return };
    // Somebody else's firewall switches tracking on.
    lab.nft("table inet firewall {\n chain input {\n type filter hook input priority 0; policy accept;\n ct state invalid drop\n }\n}\n");
    let tracked = || {
        lab.host_sh(&format!(
            "grep tcp {CONNTRACK} | grep -c -e 169.254.169.254 -e fd00:0ec2 || true"
        ))
    };
    if lab.host_sh(&format!(
        "head -1 {CONNTRACK} >/dev/null 2>&1 && echo readable || true"
    )) != "readable"
    {
        crate::support::skip(
            TEST,
            "the kernel does not show the connections that it tracks",
        );
        return;
    }
    lab.nft(&everybody());
    for guest in [1, 4] {
        assert!(lab.ask(guest, "4", "-").starts_with("mark"));
        assert!(lab.ask(guest, "6", "-").starts_with("mark"));
    }
    assert_eq!(tracked(), "0");
    lab.unguarded();
    lab.ask(1, "4", "-");
    lab.ask(4, "6", "-");
    assert_eq!(tracked(), "2");
}
