//! `addresses = "manage"`: what the daemon adds to interfaces, and that exactly this is removed
//! afterwards.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::imdsd::{CHECK, Imdsd, MANAGE, id, on_interface, with_addresses};
use crate::lab::{HOST, IPV4, IPV6, Lab, Wire, eventually};

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

const SERVICE: [&str; 2] = ["169.254.169.254/32", "fd00:ec2::254/128"];

/// Returns the addresses of an interface, without the kernel's link-local ones, and its IPv6 host
/// routes.
fn on(lab: &Lab, interface: &str) -> BTreeSet<String> {
    let links = lab.sh(HOST, &format!("ip -j address show dev {interface}"));
    let links: Value = serde_json::from_str(&links).unwrap();
    let addresses = links[0]["addr_info"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|address| address["scope"] != "link");
    // `ip` lists 169.254.169.254 under global scope only if it was added that way; link scope is
    // listed separately.
    let local = |address: &Value| {
        format!(
            "{}/{}",
            address["local"].as_str().unwrap(),
            address["prefixlen"]
        )
    };
    let mut found: BTreeSet<String> = addresses.map(local).collect();
    let all = links[0]["addr_info"].as_array().unwrap().iter().map(local);
    found.extend(all.filter(|address| SERVICE.contains(&address.as_str())));
    let routes: Value =
        serde_json::from_str(&lab.sh(HOST, &format!("ip -6 -j route show dev {interface}")))
            .unwrap();
    let to = routes
        .as_array()
        .unwrap()
        .iter()
        .map(|route| route["dst"].as_str().unwrap().to_string());
    found.extend(
        to.filter(|to| to == "fd11::5")
            .map(|to| format!("route {to}")),
    );
    found
}

fn set(what: &[&str]) -> BTreeSet<String> {
    what.iter().map(|one| one.to_string()).collect()
}

fn all_of_it() -> BTreeSet<String> {
    set(&[SERVICE[0], SERVICE[1], "route fd11::5"])
}

fn instances() -> [Value; 2] {
    [(ONE, 1), (TWO, 2)].map(|(wire, number)| {
        with_addresses(
            on_interface(number, wire.tap),
            wire.mac,
            "10.0.0.5",
            "fd11::5",
        )
    })
}

fn host() -> Lab {
    let lab = Lab::new();
    lab.guest(&ONE);
    lab.guest(&TWO);
    // The operator has added the service's address and another one to tap2.
    lab.sh(
        HOST,
        "ip address add 169.254.169.254/32 dev tap2; ip address add 192.0.2.1/24 dev tap2",
    );
    lab
}

fn operators_own() -> BTreeSet<String> {
    set(&[SERVICE[0], "192.0.2.1/24"])
}

fn assert_both_served(lab: &Lab) {
    for (guest, number) in [("g1", 1), ("g2", 2)] {
        for address in [IPV4, IPV6] {
            assert_eq!(lab.sockets(guest).who_am_i(address), id(number));
        }
    }
}

#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn a_stop_removes_what_the_daemon_added_and_nothing_else() {
    let lab = host();
    let (before_one, before_two) = (on(&lab, "tap1"), on(&lab, "tap2"));
    assert_eq!((&before_one, &before_two), (&set(&[]), &operators_own()));
    let mut imdsd = Imdsd::start(&lab, MANAGE, &instances());
    assert_both_served(&lab);
    assert_eq!(on(&lab, "tap1"), all_of_it());
    assert_eq!(on(&lab, "tap2"), &all_of_it() | &operators_own());
    println!(
        "while it runs: tap1 {:?}, tap2 {:?}",
        on(&lab, "tap1"),
        on(&lab, "tap2")
    );
    imdsd.terminate();
    println!(
        "after a stop: tap1 {:?}, tap2 {:?}",
        on(&lab, "tap1"),
        on(&lab, "tap2")
    );
    assert_eq!(
        (on(&lab, "tap1"), on(&lab, "tap2")),
        (before_one, before_two)
    );
    imdsd.start_again(&lab);
    assert_both_served(&lab);
}

/// The record in the runtime directory tells the next start what the daemon added, even if the
/// configuration no longer does.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn what_a_killed_daemon_left_is_removed_by_the_next_start() {
    let lab = host();
    let [first, second] = instances();
    let mut imdsd = Imdsd::start(&lab, MANAGE, &[first, second.clone()]);
    assert_both_served(&lab);
    imdsd.kill();
    println!(
        "after kill -9: tap1 {:?}, tap2 {:?}",
        on(&lab, "tap1"),
        on(&lab, "tap2")
    );
    assert_eq!(
        on(&lab, "tap1"),
        all_of_it(),
        "a killed program takes nothing away"
    );

    imdsd.configure(MANAGE, &[second]);
    imdsd.start_again(&lab);
    eventually("tap1 is as it was", || on(&lab, "tap1").is_empty());
    assert_eq!(on(&lab, "tap2"), &all_of_it() | &operators_own());
    assert_eq!(lab.sockets("g2").who_am_i(IPV6), id(2));
    println!(
        "after the next start: tap1 {:?}, tap2 {:?}",
        on(&lab, "tap1"),
        on(&lab, "tap2")
    );

    // Again, and this time no instance is left.
    imdsd.kill();
    imdsd.configure(MANAGE, &[]);
    imdsd.start_again(&lab);
    eventually("tap2 is the operator's again", || {
        on(&lab, "tap2") == operators_own()
    });
}

/// Without a record, the owner is unknown: another imdsd may run on the host.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn addresses_without_a_record_are_left_and_logged() {
    let lab = host();
    let mut imdsd = Imdsd::start(&lab, MANAGE, &instances());
    assert_both_served(&lab);
    imdsd.kill();
    std::fs::remove_file(imdsd.directory.path().join("run/host.json")).unwrap();
    imdsd.spawn_again(&lab);
    let line = imdsd.wait_for(|line| {
        line["message"]
            .as_str()
            .is_some_and(|text| text.contains("not in this one's record"))
    });
    assert_eq!(
        (&line["level"], &line["interfaces"]),
        (&"WARN".into(), &"tap1 tap2".into()),
        "{line}"
    );
    imdsd.wait_until_ready();
    assert_both_served(&lab);
    imdsd.terminate();
    assert_eq!(on(&lab, "tap1"), all_of_it());
}

/// Without `nodad` and without a node at the other end, the kernel never finishes duplicate address
/// detection.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn an_unusable_address_of_the_operator_is_logged_with_the_command_that_removes_it() {
    let lab = host();
    lab.sh("g1", "ip link set eth0 down");
    lab.sh(HOST, "ip -6 address add fd00:ec2::254/64 dev tap1");
    let mut imdsd = Imdsd::spawn(&lab, MANAGE, &instances());
    let line = imdsd.wait_for(|line| {
        line["message"]
            .as_str()
            .is_some_and(|text| text.contains("exists already"))
    });
    let text = line["message"].as_str().unwrap();
    let command = text.split('`').nth(1).unwrap();
    assert_eq!(
        (&line["interface"], command),
        (&"tap1".into(), "ip address del fd00:ec2::254/64 dev tap1"),
        "{line}"
    );
    lab.sh(HOST, command);
    eventually("it is added again", || {
        let addresses = lab.sh(HOST, "ip -6 address show dev tap1");
        addresses.contains("fd00:ec2::254/128") && !addresses.contains("tentative")
    });
}

/// Linux removes IPv6 addresses from a link that goes down, and the routes with them.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn what_a_link_loses_when_it_goes_down_is_restored_when_it_is_up() {
    let lab = host();
    let _imdsd = Imdsd::start(&lab, MANAGE, &instances());
    let guest = lab.sockets("g1");
    for _ in 0..5 {
        lab.sh(HOST, "ip link set tap1 down; ip link set tap1 up");
        eventually("addresses and routes are back", || {
            on(&lab, "tap1") == all_of_it()
        });
        for address in [IPV4, IPV6] {
            eventually("it is served", || guest.get(address, "/").status == 401);
        }
    }
}

/// Another program removes the daemon's addresses; the operator removes an address of their own for
/// good.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn an_address_that_is_removed_while_the_daemon_runs_is_restored() {
    let lab = host();
    let mut imdsd = Imdsd::start(&lab, MANAGE, &instances());
    lab.sh(
        HOST,
        "ip address del 169.254.169.254/32 dev tap1; ip -6 address del fd00:ec2::254/128 dev tap1",
    );
    eventually("the addresses are back", || on(&lab, "tap1") == all_of_it());
    imdsd.terminate();
    assert_eq!(on(&lab, "tap1"), set(&[]));
}

/// `check` changes nothing: it reports what is missing, and the guest is served once the operator
/// has added it.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn in_check_mode_a_guest_is_served_once_the_operator_has_prepared_the_host() {
    let lab = Lab::new();
    lab.guest(&ONE);
    lab.guest(&TWO);
    let imdsd = Imdsd::start(&lab, CHECK, &instances());
    let guest = lab.sockets("g1");
    assert!(
        guest
            .try_ask(IPV4, "", std::time::Duration::from_millis(300))
            .is_err()
    );
    assert_eq!(on(&lab, "tap1"), set(&[]));
    let (sound, findings) = imdsd.check_host(&lab);
    println!("sound: {sound}\n{findings}");
    assert!(findings.contains("tap1"), "{findings}");
    lab.serve_on("tap1");
    lab.sh(HOST, "ip -6 route add fd11::5 dev tap1 metric 1");
    for address in [IPV4, IPV6] {
        eventually("it is served", || guest.get(address, "/").status == 401);
    }
    lab.sh(HOST, "sysctl -qw net.ipv4.conf.all.rp_filter=1");
    let (sound, findings) = imdsd.check_host(&lab);
    println!("sound: {sound}\n{findings}");
    assert!(
        findings.contains("rp_filter"),
        "the commonest silent failure: {findings}"
    );
}
