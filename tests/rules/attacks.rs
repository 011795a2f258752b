//! Guest 2 poses as guest 1 or as the metadata service. Each attack works without the rules and
//! fails with them.

use crate::lab::{
    self, BRIDGE_MAC, HOST_IPV4, HOST_IPV6, Lab, filtered, ipv4, ipv6, link_local, mac,
    script_for_all, works,
};

/// The packets from which the host's neighbour cache learns, and the address that they claim.
const NEIGHBOUR_ATTACKS: &[(&str, Claimed)] = &[
    ("arp-request", Claimed::Ipv4),
    ("arp-reply", Claimed::Ipv4),
    ("arp-gratuitous", Claimed::Ipv4),
    ("arp-announcement", Claimed::Ipv4),
    ("arp-hardware-6", Claimed::Ipv4),
    ("arp-from-the-victims-mac", Claimed::Ipv4),
    ("arp-tagged-0", Claimed::Ipv4),
    ("arp-tagged-0-0", Claimed::Ipv4),
    ("arp-tagged-ad-0", Claimed::Ipv4),
    ("ns", Claimed::Ipv6),
    ("ns-options", Claimed::Ipv6),
    ("ns-tagged-0", Claimed::Ipv6),
    ("ns-tagged-0-0", Claimed::Ipv6),
    ("ns-link-local", Claimed::LinkLocal),
    ("na", Claimed::Ipv6),
    ("na-unicast", Claimed::Ipv6),
    ("na-options", Claimed::Ipv6),
    ("na-many-headers", Claimed::Ipv6),
    ("na-tagged-0", Claimed::Ipv6),
    ("na-tagged-0-0", Claimed::Ipv6),
    ("na-link-local", Claimed::LinkLocal),
    ("rs", Claimed::LinkLocal),
    ("ra", Claimed::LinkLocal),
    ("redirect", Claimed::LinkLocal),
];

/// Attacks that the kernel itself rejects: fragmented neighbour discovery (RFC 6980).
const KERNEL_REFUSES: &[(&str, Claimed)] = &[("na-fragment", Claimed::Ipv6)];

#[derive(Clone, Copy)]
enum Claimed {
    Ipv4,
    Ipv6,
    LinkLocal,
}

fn address(claimed: Claimed, guest: usize) -> String {
    match claimed {
        Claimed::Ipv4 => ipv4(guest),
        Claimed::Ipv6 => ipv6(guest),
        Claimed::LinkLocal => link_local(guest),
    }
}

/// Returns the MAC that the host has for the victim's address after the attack.
///
/// The kernel has one neighbour table for all namespaces of a machine. When other namespaces fill
/// it, it drops entries at once or accepts none; then the attack is repeated.
fn mac_after_attack(lab: &Lab, attacker: usize, name: &str, claimed: Claimed) -> String {
    let address = address(claimed, 1);
    // Only a router accepts router solicitations. Only a host accepts redirects, and only from the
    // gateway of the route: the attacker.
    let forwarding = if name == "rs" { 1 } else { 0 };
    lab.host_sh(&format!(
        "sysctl -qw net.ipv6.conf.br0.forwarding={forwarding}"
    ));
    if name == "redirect" {
        lab.host_sh(&format!(
            "ip -6 route replace fd99::/64 via {} dev br0",
            link_local(attacker)
        ));
    }
    for _ in 0..40 {
        let known = format!(
            "ip neighbour replace {address} lladdr {} nud reachable dev br0 && echo known || true",
            mac(1)
        );
        if lab.host_sh(&known) == "known" {
            attack(lab, attacker, name);
            let line = lab.host_sh(&format!(
                "sleep 0.05; ip neighbour show to {address} dev br0"
            ));
            if let Some(rest) = line.split("lladdr ").nth(1) {
                return rest.split(' ').next().unwrap_or_default().to_string();
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(250));
    }
    panic!("the neighbour table stays full");
}

fn attack(lab: &Lab, attacker: usize, name: &str) {
    let (me, victim) = (mac(attacker), mac(1));
    let (victim4, victim6, victim_link, my_link) =
        (ipv4(1), ipv6(1), link_local(1), link_local(attacker));
    lab.wire(
        attacker,
        &[
            "attack",
            name,
            "eth0",
            &me,
            &victim,
            &victim4,
            &victim6,
            &victim_link,
            HOST_IPV4,
            HOST_IPV6,
            BRIDGE_MAC,
            &my_link,
        ],
    );
}

#[test]
#[ignore = "needs network namespaces, nft and python3; tests/all runs it"]
fn a_guest_cannot_take_the_place_of_another_in_the_hosts_neighbour_cache() {
    let lab = Lab::new();
    lab.load_unprotected();
    let mut failures = Vec::new();
    for &(name, claimed) in NEIGHBOUR_ATTACKS {
        if !works(|| mac_after_attack(&lab, 2, name, claimed) == mac(2)) {
            failures.push(format!("{name} does not work"));
        }
    }
    for &(name, claimed) in KERNEL_REFUSES {
        assert_eq!(mac_after_attack(&lab, 2, name, claimed), mac(1), "{name}");
    }
    lab.nft(&script_for_all());
    for &(name, claimed) in NEIGHBOUR_ATTACKS.iter().chain(KERNEL_REFUSES) {
        let mac_of_victim = mac_after_attack(&lab, 2, name, claimed);
        if mac_of_victim != mac(1) {
            failures.push(format!("{name} is not blocked: {mac_of_victim}"));
        }
    }
    // An attacker without lists cannot claim what other guests have listed.
    let mut unlisted = filtered(2);
    (unlisted.macs, unlisted.ipv4, unlisted.ipv6) = Default::default();
    lab.nft(&lab::script(&[filtered(1), unlisted]));
    for &(name, claimed) in NEIGHBOUR_ATTACKS {
        let mac_of_victim = mac_after_attack(&lab, 2, name, claimed);
        if mac_of_victim != mac(1) {
            failures.push(format!(
                "{name} is not blocked from a guest without lists: {mac_of_victim}"
            ));
        }
    }
    assert_eq!(failures, Vec::<String>::new());
}

#[test]
#[ignore = "needs network namespaces, nft and python3; tests/all runs it"]
fn a_guest_cannot_take_the_place_of_another_in_the_bridges_forwarding_table() {
    let lab = Lab::new();
    let port = format!(
        "bridge fdb show br br0 | grep '^{}' | grep -v permanent | cut -d ' ' -f 3 | head -1",
        mac(1)
    );
    let port_of_the_victim = || {
        lab.request(1, "4", "-");
        lab.host_sh(&port)
    };
    for name in [
        "source-mac",
        "source-mac-tagged",
        "source-mac-to-the-bridges",
        "source-mac-to-the-bridges-tagged",
    ] {
        let is_taken = || {
            assert_eq!(port_of_the_victim(), "tap1", "{name}");
            lab.count_received(3, || attack(&lab, 2, name));
            lab.host_sh(&port) == "tap2"
        };
        lab.load_unprotected();
        assert!(works(is_taken), "{name} works");
        lab.nft(&script_for_all());
        assert!(!is_taken(), "{name} is blocked");
    }
    // LLDP frames pass no hook of the bridge: only a setting keeps the bridge from learning from
    // them.
    let is_taken = || {
        assert_eq!(port_of_the_victim(), "tap1");
        lab.count_received(3, || attack(&lab, 2, "source-mac-lldp"));
        lab.host_sh(&port) == "tap2"
    };
    assert!(works(is_taken));
    lab.host_sh("ip link set br0 type bridge no_linklocal_learn 1");
    assert!(!is_taken());
}

#[test]
#[ignore = "needs network namespaces, nft and python3; tests/all runs it"]
fn a_guest_cannot_pose_as_the_service_to_another_guest() {
    let lab = Lab::new();
    let is_believed = |attacker: usize, name: &str| {
        let metadata = if name.starts_with("arp") {
            "169.254.169.254"
        } else {
            "fd00:ec2::254"
        };
        lab.guest_sh(
            3,
            &format!("ip neighbour replace {metadata} lladdr {BRIDGE_MAC} nud stale dev eth0"),
        );
        claim(&lab, attacker, name);
        lab.guest_sh(3, "sleep 0.05");
        !lab.guest_sh(3, &format!("ip neighbour show to {metadata} dev eth0"))
            .contains(BRIDGE_MAC)
    };
    let names = [
        "arp-reply",
        "arp-request",
        "arp-gratuitous",
        "arp-tagged-0",
        "arp-tagged-0-0",
        "arp-tagged-ad-0-0",
        "arp-tagged-0-ad-0",
        "na",
        "na-options",
        "na-tagged-0-0",
        "ns",
    ];
    lab.load_unprotected();
    for name in names {
        assert!(works(|| is_believed(2, name)), "{name} works");
    }
    lab.nft(&script_for_all());
    for name in names {
        assert!(!is_believed(2, name), "{name} is blocked");
    }
    // Double-tagged frames from an unlisted port are not filtered.
    const TWO_TAGS: [&str; 4] = [
        "arp-tagged-0-0",
        "arp-tagged-ad-0-0",
        "arp-tagged-0-ad-0",
        "na-tagged-0-0",
    ];
    // An unlisted port, such as an uplink, cannot pose as the service to listed ports.
    lab.nft(&lab::script(&[filtered(1), filtered(3)]));
    for name in names.into_iter().filter(|name| !TWO_TAGS.contains(name)) {
        assert!(
            !is_believed(2, name),
            "{name} from an unlisted port is blocked"
        );
    }
}

#[test]
#[ignore = "needs network namespaces, nft and python3; tests/all runs it"]
fn a_guest_cannot_send_from_the_addresses_of_the_service() {
    let lab = Lab::new();
    let arrives = |name: &str| lab.count_received(3, || claim(&lab, 2, name));
    for name in ["source-ipv4", "source-ipv6"] {
        lab.load_unprotected();
        assert_eq!(arrives(name), 1, "{name} works");
        lab.nft(&script_for_all());
        assert_eq!(arrives(name), 0, "{name} is blocked");
    }
}

fn claim(lab: &Lab, attacker: usize, name: &str) {
    let (me, my_link) = (mac(attacker), link_local(attacker));
    lab.wire(
        attacker,
        &[
            "claim",
            name,
            "eth0",
            &me,
            &my_link,
            &ipv4(3),
            &ipv6(3),
            &mac(3),
        ],
    );
}

/// The goal of the other attacks: a reply goes to another port than the one that its request came
/// from.
#[test]
#[ignore = "needs network namespaces, nft and python3; tests/all runs it"]
fn a_reply_leaves_only_by_the_port_of_its_request() {
    let lab = Lab::new();
    // A permanent entry keeps the victim from asking for the service's MAC, which would correct the
    // host's cache.
    lab.guest_sh(
        1,
        &format!(
            "for address in 169.254.169.254 fd00:ec2::254; do
           ip neighbour replace $address lladdr {BRIDGE_MAC} nud permanent dev eth0; done"
        ),
    );
    // Guest 3 is not listed: its frames are not filtered, and the host believes them.
    let stolen = |attack_name: &str, family: &str| {
        attack(&lab, 3, attack_name);
        lab.count_received(3, || drop(lab.request(1, family, "-")))
    };
    for (name, claimed, family) in [
        ("arp-reply", Claimed::Ipv4, "4"),
        ("na", Claimed::Ipv6, "6"),
    ] {
        let stolen_count = || {
            lab.host_sh(&format!(
                "ip neighbour replace {} lladdr {} nud stale dev br0",
                address(claimed, 1),
                mac(1)
            ));
            stolen(name, family)
        };
        lab.load_unprotected();
        assert!(works(|| stolen_count() > 0), "{name} works");
        lab.nft(&lab::script(&[filtered(1), filtered(2)]));
        assert_eq!(stolen_count(), 0, "{name}: the reply is dropped");
    }
    // The bridge floods frames to an unknown MAC to every port; the reply must not be among them.
    let flooded = |family: &str| {
        lab.host_sh("ip link set br0 type bridge ageing_time 0; bridge link set dev tap1 learning off; ip link set br0 type bridge fdb_flush");
        lab.count_received(3, || assert_eq!(lab.request(1, family, "-"), "mark 4097"))
    };
    for family in ["4", "6"] {
        lab.host_sh("ip neighbour flush dev br0");
        lab.load_unprotected();
        assert!(works(|| flooded(family) > 0), "IPv{family} is flooded");
        lab.nft(&lab::script(&[filtered(1), filtered(2)]));
        assert_eq!(flooded(family), 0, "IPv{family} leaves by one port only");
    }
}
