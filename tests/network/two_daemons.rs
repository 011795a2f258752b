//! Two daemons on one host, each with its own guests: neither touches the other's packet rules.

use crate::imdsd::{CHECK, Imdsd, id, on_interface, on_port, with_addresses, with_option};
use crate::lab::{HOST, INSTANCE_ID, IPV4, IPV6, Lab, Wire};

const OWN: Wire<'_> = Wire {
    guest: "g1",
    tap: "tap1",
    mac: "02:00:00:00:00:01",
    ipv4: Some("10.1.0.5/24"),
    ipv6: Some("fd12::5/64"),
};
const BRIDGED: [Wire<'_>; 2] = [
    Wire {
        guest: "g2",
        tap: "tap2",
        mac: "02:00:00:00:00:02",
        ipv4: Some("10.0.0.6/24"),
        ipv6: Some("fd11::6/64"),
    },
    Wire {
        guest: "g3",
        tap: "tap3",
        mac: "02:00:00:00:00:03",
        ipv4: Some("10.2.0.7/24"),
        ipv6: Some("fd13::7/64"),
    },
];

/// The first daemon serves a guest on an interface and one on a bridge, the second a guest on
/// another bridge.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn the_rules_of_two_daemons_do_not_touch_each_other() {
    let lab = Lab::new();
    lab.guest(&OWN);
    lab.serve_on("tap1");
    lab.sh(HOST, "ip -6 route add fd12::5 dev tap1");
    for (wire, (bridge, net)) in BRIDGED.iter().zip([("br0", (0, 1)), ("br1", (2, 3))]) {
        lab.guest(wire);
        lab.sh(
            HOST,
            &format!(
                "ip link add {bridge} address 02:00:00:00:00:f{} type bridge; ip link set {bridge} up
                 ip link set {} master {bridge}
                 ip address add 10.{}.0.1/24 dev {bridge}; ip -6 address add fd1{}::1/64 dev {bridge} nodad",
                net.0, wire.tap, net.0, net.1
            ),
        );
        lab.serve_on(bridge);
    }
    let one = [
        with_addresses(on_interface(1, "tap1"), OWN.mac, "10.1.0.5", "fd12::5"),
        with_addresses(
            on_port(3, "br1", "tap3", 0x1003),
            BRIDGED[1].mac,
            "10.2.0.7",
            "fd13::7",
        ),
    ];
    let two = [with_addresses(
        on_port(2, "br0", "tap2", 0x1002),
        BRIDGED[0].mac,
        "10.0.0.6",
        "fd11::6",
    )];
    let open = |instance| with_option(instance, "HttpTokens", "optional");
    let first = Imdsd::start(&lab, CHECK, &one.map(open));
    let control = "[interfaces]\n[control]\nlisten = \"127.0.0.1:1340\"\naccess_keys = \"access-keys.toml\"\n";
    let second = Imdsd::start(&lab, control, &two.map(open));
    let rules = [first.guest_rules(&lab), second.guest_rules(&lab)];
    let guests = ["g1", "g2", "g3"].map(|guest| lab.sockets(guest));
    let assert_served = |after: &str| {
        for (guest, number) in guests.iter().zip(1..) {
            for address in [IPV4, IPV6] {
                let answer = guest.get(address, INSTANCE_ID);
                assert_eq!(answer.body, id(number), "{after}, by {address}");
            }
        }
    };
    for order in [[0, 1], [1, 0], [0, 1]] {
        for which in order {
            lab.nft(&rules[which]);
        }
        assert_served(&format!("rules loaded in the order {order:?}"));
    }
    for imdsd in [&first, &second] {
        let (_, said) = imdsd.check_host(&lab);
        assert!(!said.contains("rules") && !said.contains("table"), "{said}");
    }

    // What an earlier version left is reported, and the command that loads the rules removes it.
    let name = rules[0].split_once("replaces the tables ").unwrap().1;
    let name = name.split_once('.').unwrap().0;
    let (_, script) = rules[0].split_once(".\n").unwrap();
    lab.nft(&script.replace(name, "imdsd"));
    for imdsd in [&first, &second] {
        let (_, said) = imdsd.check_host(&lab);
        assert!(said.contains("an earlier version loaded"), "{said}");
    }
    lab.nft(&rules[1]);
    assert_served("after the rules of an earlier version were removed");
    let tables = lab.sh(HOST, "nft list tables");
    assert_eq!(tables.lines().count(), 4, "{tables}");
}
