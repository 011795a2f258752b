//! Which guest a request comes from, at what rate, and from which address.

use crate::lab::{self, BRIDGE_MAC, Lab, filtered, ipv4, ipv6, link_local, mac, script_for_all};
use crate::support::require;

/// Counts the packets that arrive at the host for the metadata addresses, by mark.
const OBSERVER: &str = r#"
table inet observer {
  chain input {
    type filter hook input priority 0; policy accept;
    ip daddr 169.254.169.254 udp dport 9 jump marks
    ip6 daddr fd00:ec2::254 udp dport 9 jump marks
  }
  counter one { }
  counter two { }
  counter unmarked { }
  counter other { }
  chain marks { }
}
add rule inet observer marks meta pkttype != host return
add rule inet observer marks meta mark 0x1001 counter name one accept
add rule inet observer marks meta mark 0x1002 counter name two accept
add rule inet observer marks meta mark 0 counter name unmarked accept
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
    [
        count("one"),
        count("two"),
        count("unmarked"),
        count("other"),
    ]
}

#[test]
#[ignore = "needs network namespaces, nft and python3; tests/all runs it"]
fn the_service_identifies_every_guest() {
    let lab = Lab::new();
    lab.nft(&script_for_all());
    for family in ["4", "6"] {
        for (guest, mark) in [
            (1, "mark 4097"),
            (2, "mark 4098"),
            (3, "mark 4099"),
            (4, "mark 0"),
        ] {
            assert_eq!(
                lab.request(guest, family, "-"),
                mark,
                "guest {guest}, IPv{family}"
            );
        }
    }
    // On a bridge, only the link-local address that the MAC implies is accepted; on an own
    // interface, any.
    for guest in 1..=4 {
        assert!(
            lab.request(guest, "6", &format!("{}%eth0", link_local(guest)))
                .starts_with("mark"),
            "guest {guest}"
        );
        lab.guest_sh(guest, "ip address add fe80::77/64 dev eth0 nodad");
    }
    assert_eq!(lab.request(1, "6", "fe80::77%eth0"), "nothing");
    assert_eq!(lab.request(4, "6", "fe80::77%eth0"), "mark 0");
    // A closed port refuses connections, with or without rules.
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
#[ignore = "needs network namespaces, nft and python3; tests/all runs it"]
fn an_unlisted_port_is_not_identified() {
    let lab = Lab::new();
    lab.nft(&lab::script(&[filtered(1), filtered(2)]));
    // Another table gives its packets the mark of guest 1.
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
    assert_eq!(lab.request(3, "4", "-"), "mark 0");
}

#[test]
#[ignore = "needs network namespaces, nft and python3; tests/all runs it"]
fn a_request_must_come_from_the_guests_own_addresses() {
    let lab = Lab::new();
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
        lab.load_unprotected();
        for (family, source) in [("4", "10.0.0.77"), ("6", "fd11::77")] {
            assert!(
                lab.request(guest, family, source).starts_with("mark"),
                "guest {guest} as {source}, without rules"
            );
        }
        lab.nft(&script_for_all());
        for (family, source) in [("4", "10.0.0.77"), ("6", "fd11::77")] {
            assert_eq!(
                lab.request(guest, family, source),
                "nothing",
                "guest {guest} as {source}"
            );
            let own = if family == "4" {
                ipv4(guest)
            } else {
                ipv6(guest)
            };
            assert!(
                lab.request(guest, family, &own).starts_with("mark"),
                "guest {guest} as itself"
            );
        }
        // A delegated prefix is the guest's own.
        let mut delegated = filtered(guest);
        delegated
            .ipv4_prefixes
            .push(("10.0.0.64".parse().unwrap(), 28));
        delegated
            .ipv6_prefixes
            .push(("fd11::70".parse().unwrap(), 124));
        lab.nft(&lab::script(&[filtered(mine), delegated]));
        for (family, source) in [("4", "10.0.0.77"), ("6", "fd11::77")] {
            assert!(
                lab.request(guest, family, source).starts_with("mark"),
                "guest {guest} as {source}, delegated"
            );
        }
        // Another source MAC is rejected as well.
        lab.nft(OBSERVER);
        lab.nft(&script_for_all());
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

/// A packet reaches the host with the mark of its port or not at all, whatever the MACs and tags of
/// the frame.
#[test]
#[ignore = "needs network namespaces, nft and python3; tests/all runs it"]
fn no_frame_bypasses_the_mark() {
    let lab = Lab::new();
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
    lab.load_unprotected();
    lab.wire(
        2,
        &["packets", "eth0", &mac(2), &ipv4(2), BRIDGE_MAC, "0.0"],
    );
    assert_eq!(
        observed(&lab),
        [0, 0, 1, 0],
        "two tags bypass a table that looks under one"
    );
    lab.nft(&script_for_all());
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
#[ignore = "needs network namespaces, nft and python3; tests/all runs it"]
fn requests_of_a_guest_with_another_gateway_reach_the_service() {
    let lab = Lab::new();
    let elsewhere =
        "ip neighbour replace 169.254.169.254 lladdr 02:00:00:00:99:99 nud permanent dev eth0
         ip neighbour replace fd00:ec2::254 lladdr 02:00:00:00:99:99 nud permanent dev eth0";
    lab.guest_sh(1, elsewhere);
    lab.load_unprotected();
    assert_eq!(lab.request(1, "4", "-"), "nothing");
    lab.nft(&script_for_all());
    assert_eq!(lab.request(1, "4", "-"), "mark 4097");
    assert_eq!(lab.request(1, "6", "-"), "mark 4097");
}

/// EC2 allows 1,024 packets a second per network interface.
#[test]
#[ignore = "needs network namespaces, nft and python3; tests/all runs it"]
fn a_flood_does_not_affect_other_guests() {
    let lab = Lab::new();
    lab.nft(OBSERVER);
    lab.load_unprotected();
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
        // Forged requests count towards the limit of their sender.
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
    lab.nft(&script_for_all());
    let ([one, two, unmarked, other], seconds) = flood();
    assert!(
        (1024..=(1024.0 * (1.0 + seconds)) as u64 + 1).contains(&one),
        "{one} in {seconds} seconds"
    );
    assert_eq!([two, unmarked, other], [1000, 0, 0]);
}

#[test]
#[ignore = "needs network namespaces, nft and python3; tests/all runs it"]
fn connections_to_the_service_are_not_tracked() {
    const CONNTRACK: &str = "/proc/net/nf_conntrack";
    let lab = Lab::new();
    // The host's own firewall enables connection tracking.
    lab.nft("table inet firewall {\n chain input {\n type filter hook input priority 0; policy accept;\n ct state invalid drop\n }\n}\n");
    let tracked = || {
        lab.host_sh(&format!(
            "grep tcp {CONNTRACK} | grep -c -e 169.254.169.254 -e fd00:0ec2 || true"
        ))
    };
    let readable = lab.host_sh(&format!(
        "head -1 {CONNTRACK} >/dev/null 2>&1 && echo readable || true"
    ));
    require(
        readable == "readable",
        &format!("a kernel with {CONNTRACK}, which lists tracked connections"),
    );
    lab.nft(&script_for_all());
    for guest in [1, 4] {
        assert!(lab.request(guest, "4", "-").starts_with("mark"));
        assert!(lab.request(guest, "6", "-").starts_with("mark"));
    }
    assert_eq!(tracked(), "0");
    lab.load_unprotected();
    lab.request(1, "4", "-");
    lab.request(4, "6", "-");
    assert_eq!(tracked(), "2");
}
