//! Guest 2 wants to be guest 1, or the metadata service. Each attack works without the guards and fails with the script.

use crate::lab::{
    self, BRIDGE_MAC, HOST_IPV4, HOST_IPV6, Lab, everybody, ipv4, ipv6, link_local, mac, way, works,
};

/// What the host's neighbour cache learns from, and the address that is taken.
const NEIGHBOUR_ATTACKS: &[(&str, Of)] = &[
    ("arp-request", Of::Ipv4),
    ("arp-reply", Of::Ipv4),
    ("arp-gratuitous", Of::Ipv4),
    ("arp-announcement", Of::Ipv4),
    ("arp-hardware-6", Of::Ipv4),
    ("arp-from-the-victims-mac", Of::Ipv4),
    ("arp-tagged-0", Of::Ipv4),
    ("arp-tagged-0-0", Of::Ipv4),
    ("arp-tagged-ad-0", Of::Ipv4),
    ("ns", Of::Ipv6),
    ("ns-options", Of::Ipv6),
    ("ns-tagged-0", Of::Ipv6),
    ("ns-tagged-0-0", Of::Ipv6),
    ("ns-link-local", Of::LinkLocal),
    ("na", Of::Ipv6),
    ("na-unicast", Of::Ipv6),
    ("na-options", Of::Ipv6),
    ("na-many-headers", Of::Ipv6),
    ("na-tagged-0", Of::Ipv6),
    ("na-tagged-0-0", Of::Ipv6),
    ("na-link-local", Of::LinkLocal),
    ("rs", Of::LinkLocal),
    ("ra", Of::LinkLocal),
    ("redirect", Of::LinkLocal),
];

/// What this kernel does not take, whether or not somebody guards it: fragmented neighbour discovery.
const KERNEL_REFUSES: &[(&str, Of)] = &[("na-fragment", Of::Ipv6)];

#[derive(Clone, Copy)]
enum Of {
    Ipv4,
    Ipv6,
    LinkLocal,
}

fn address(of: Of, guest: usize) -> String {
    match of {
        Of::Ipv4 => ipv4(guest),
        Of::Ipv6 => ipv6(guest),
        Of::LinkLocal => link_local(guest),
    }
}

/// Whom the host takes the victim's address for, after the attack.
///
/// The kernel has one neighbour table for all the namespaces of a machine. When somebody else has filled it, it forgets
/// entries at once or takes none; then the attack is made again.
fn who_has_it(lab: &Lab, attacker: usize, name: &str, of: Of) -> String {
    let taken = address(of, 1);
    // A router hears solicitations of routers; a host that is none hears redirects, of its route over the attacker.
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
            "ip neighbour replace {taken} lladdr {} nud reachable dev br0 && echo known || true",
            mac(1)
        );
        if lab.host_sh(&known) == "known" {
            attack(lab, attacker, name);
            let line = lab.host_sh(&format!("sleep 0.05; ip neighbour show to {taken} dev br0"));
            if let Some(rest) = line.split("lladdr ").nth(1) {
                return rest.split(' ').next().unwrap_or_default().to_string();
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(250));
    }
    panic!("the neighbour table is full");
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
fn a_guest_does_not_become_another_in_the_hosts_neighbour_cache() {
    let Some(lab) = Lab::new("a_guest_does_not_become_another") else {
        return;
    };
    lab.unguarded();
    let mut wrong = Vec::new();
    for &(name, of) in NEIGHBOUR_ATTACKS {
        if !works(|| who_has_it(&lab, 2, name, of) == mac(2)) {
            wrong.push(format!("{name} does not work"));
        }
    }
    for &(name, of) in KERNEL_REFUSES {
        assert_eq!(who_has_it(&lab, 2, name, of), mac(1), "{name}");
    }
    lab.nft(&everybody());
    for &(name, of) in NEIGHBOUR_ATTACKS.iter().chain(KERNEL_REFUSES) {
        let who = who_has_it(&lab, 2, name, of);
        if who != mac(1) {
            wrong.push(format!("{name} is not held: {who}"));
        }
    }
    // An attacker without any list is kept from what others have listed.
    let mut nobody_knows = way(2);
    (nobody_knows.macs, nobody_knows.ipv4, nobody_knows.ipv6) = Default::default();
    lab.nft(&lab::script(&[way(1), nobody_knows]));
    for &(name, of) in NEIGHBOUR_ATTACKS {
        let who = who_has_it(&lab, 2, name, of);
        if who != mac(1) {
            wrong.push(format!(
                "{name} is not held against a guest without lists: {who}"
            ));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn a_guest_does_not_become_another_in_the_bridges_forwarding_table() {
    let Some(lab) = Lab::new("a_guest_does_not_become_another_in_the_bridge") else {
        return;
    };
    let port = format!(
        "bridge fdb show br br0 | grep '^{}' | grep -v permanent | cut -d ' ' -f 3 | head -1",
        mac(1)
    );
    let port_of_the_victim = || {
        lab.ask(1, "4", "-");
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
            lab.hears(3, || attack(&lab, 2, name));
            lab.host_sh(&port) == "tap2"
        };
        lab.unguarded();
        assert!(works(is_taken), "{name} works");
        lab.nft(&everybody());
        assert!(!is_taken(), "{name} is held");
    }
    // LLDP frames pass no hook of the bridge at all. It must be told not to learn from them.
    let is_taken = || {
        assert_eq!(port_of_the_victim(), "tap1");
        lab.hears(3, || attack(&lab, 2, "source-mac-lldp"));
        lab.host_sh(&port) == "tap2"
    };
    assert!(works(is_taken));
    lab.host_sh("ip link set br0 type bridge no_linklocal_learn 1");
    assert!(!is_taken());
}

#[test]
fn a_guest_does_not_become_the_service_for_another_guest() {
    let Some(lab) = Lab::new("a_guest_does_not_become_the_service") else {
        return;
    };
    let believed = |attacker: usize, name: &str| {
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
    lab.unguarded();
    for name in names {
        assert!(works(|| believed(2, name)), "{name} works");
    }
    lab.nft(&everybody());
    for name in names {
        assert!(!believed(2, name), "{name} is held");
    }
    // What an unlisted port does with two tags is left to whoever is behind it: with one it passes for untagged.
    const TWO_TAGS: [&str; 4] = [
        "arp-tagged-0-0",
        "arp-tagged-ad-0-0",
        "arp-tagged-0-ad-0",
        "na-tagged-0-0",
    ];
    // A port that is not listed, like an uplink, is not the service of those that are.
    lab.nft(&lab::script(&[way(1), way(3)]));
    for name in names.into_iter().filter(|name| !TWO_TAGS.contains(name)) {
        assert!(
            !believed(2, name),
            "{name} is held against an unlisted port"
        );
    }
}

#[test]
fn a_guest_does_not_send_as_the_service() {
    let Some(lab) = Lab::new("a_guest_does_not_send_as_the_service") else {
        return;
    };
    let arrives = |name: &str| lab.hears(3, || claim(&lab, 2, name));
    for name in ["source-ipv4", "source-ipv6"] {
        lab.unguarded();
        assert_eq!(arrives(name), 1, "{name} works");
        lab.nft(&everybody());
        assert_eq!(arrives(name), 0, "{name} is held");
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

/// The attack that the rest is about: the answer goes to another port than the question came from.
#[test]
fn an_answer_leaves_only_by_the_port_of_its_question() {
    let Some(lab) = Lab::new("an_answer_leaves_only_by_the_port") else {
        return;
    };
    // The victim does not ask for the service's MAC, which would put the host right about its own.
    lab.guest_sh(
        1,
        &format!(
            "for address in 169.254.169.254 fd00:ec2::254; do
           ip neighbour replace $address lladdr {BRIDGE_MAC} nud permanent dev eth0; done"
        ),
    );
    // Guest 3 is not listed: nothing that it says is filtered, and the host believes it.
    let stolen = |attack_name: &str, family: &str| {
        attack(&lab, 3, attack_name);
        lab.hears(3, || drop(lab.ask(1, family, "-")))
    };
    for (name, of, family) in [("arp-reply", Of::Ipv4, "4"), ("na", Of::Ipv6, "6")] {
        let believed = || {
            lab.host_sh(&format!(
                "ip neighbour replace {} lladdr {} nud stale dev br0",
                address(of, 1),
                mac(1)
            ));
            stolen(name, family)
        };
        lab.unguarded();
        assert!(works(|| believed() > 0), "{name} works");
        lab.nft(&lab::script(&[way(1), way(2)]));
        assert_eq!(believed(), 0, "{name}: the answer does not leave");
    }
    // Frames to a MAC that the bridge has forgotten go to every port, and so would the answer.
    let flooded = |family: &str| {
        lab.host_sh("ip link set br0 type bridge ageing_time 0; bridge link set dev tap1 learning off; ip link set br0 type bridge fdb_flush");
        lab.hears(3, || assert_eq!(lab.ask(1, family, "-"), "mark 4097"))
    };
    for family in ["4", "6"] {
        lab.host_sh("ip neighbour flush dev br0");
        lab.unguarded();
        assert!(works(|| flooded(family) > 0), "IPv{family} is flooded");
        lab.nft(&lab::script(&[way(1), way(2)]));
        assert_eq!(flooded(family), 0, "IPv{family} goes to the one port");
    }
}
