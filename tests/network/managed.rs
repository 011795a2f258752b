//! `addresses = "manage"`: what the daemon puts on interfaces, and that exactly this is gone afterwards.

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

/// The addresses of an interface, but the link-local ones, which the kernel puts there, and its routes to hosts by IPv6.
fn on(lab: &Lab, interface: &str) -> BTreeSet<String> {
    let links = lab.sh(HOST, &format!("ip -j address show dev {interface}"));
    let links: Value = serde_json::from_str(&links).unwrap();
    let addresses = links[0]["addr_info"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|address| address["scope"] != "link");
    // 169.254.169.254 is of global scope to `ip` unless it was added otherwise; of link scope it is looked for by itself.
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

fn host(test: &str) -> Option<Lab> {
    let lab = Lab::new(test)?;
    lab.guest(&ONE);
    lab.guest(&TWO);
    // The operator's own: on tap2 the service's address too, and another one.
    lab.sh(
        HOST,
        "ip address add 169.254.169.254/32 dev tap2; ip address add 192.0.2.1/24 dev tap2",
    );
    Some(lab)
}

fn operators_own() -> BTreeSet<String> {
    set(&[SERVICE[0], "192.0.2.1/24"])
}

fn everybody_is_served(lab: &Lab) {
    for (guest, number) in [("g1", 1), ("g2", 2)] {
        for address in [IPV4, IPV6] {
            assert_eq!(lab.door(guest).who_am_i(address), id(number));
        }
    }
}

#[test]
fn a_stop_takes_away_what_the_daemon_put_there_and_nothing_else() {
    let Some(lab) = host("a stop in manage mode") else {
        return;
    };
    let (before_one, before_two) = (on(&lab, "tap1"), on(&lab, "tap2"));
    assert_eq!((&before_one, &before_two), (&set(&[]), &operators_own()));
    let mut imdsd = Imdsd::start(&lab, MANAGE, &instances());
    everybody_is_served(&lab);
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
    everybody_is_served(&lab);
}

/// The next start knows from the runtime directory what is its own, although the configuration knows nothing of it any more.
#[test]
fn what_a_killed_daemon_left_behind_is_gone_after_the_next_start() {
    let Some(lab) = host("kill -9 in manage mode") else {
        return;
    };
    let [first, second] = instances();
    let mut imdsd = Imdsd::start(&lab, MANAGE, &[first, second.clone()]);
    everybody_is_served(&lab);
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
    assert_eq!(lab.door("g2").who_am_i(IPV6), id(2));
    println!(
        "after the next start: tap1 {:?}, tap2 {:?}",
        on(&lab, "tap1"),
        on(&lab, "tap2")
    );

    // Once more, and then there is no instance at all.
    imdsd.kill();
    imdsd.configure(MANAGE, &[]);
    imdsd.start_again(&lab);
    eventually("tap2 is the operator's again", || {
        on(&lab, "tap2") == operators_own()
    });
}

/// Whose it is can't be told then: another imdsd may run on the host.
#[test]
fn what_was_put_there_and_has_no_record_is_left_and_told() {
    let Some(lab) = host("a lost record") else {
        return;
    };
    let mut imdsd = Imdsd::start(&lab, MANAGE, &instances());
    everybody_is_served(&lab);
    imdsd.kill();
    std::fs::remove_file(imdsd.directory.path().join("run/host.json")).unwrap();
    imdsd.spawn_again(&lab);
    let told = imdsd.wait_for(|line| {
        line["message"]
            .as_str()
            .is_some_and(|text| text.contains("no record of"))
    });
    assert_eq!(
        (&told["level"], &told["interfaces"]),
        (&"WARN".into(), &"tap1 tap2".into()),
        "{told}"
    );
    imdsd.wait_until_ready();
    everybody_is_served(&lab);
    imdsd.terminate();
    assert_eq!(on(&lab, "tap1"), all_of_it());
}

/// Without `nodad`, where nobody is at the other end, the kernel asks for ever whether somebody has the address.
#[test]
fn an_address_that_somebody_put_and_that_cant_be_used_is_told_with_its_command() {
    let Some(lab) = host("an unusable address") else {
        return;
    };
    lab.sh("g1", "ip link set eth0 down");
    lab.sh(HOST, "ip -6 address add fd00:ec2::254/64 dev tap1");
    let mut imdsd = Imdsd::spawn(&lab, MANAGE, &instances());
    let told = imdsd.wait_for(|line| {
        line["message"]
            .as_str()
            .is_some_and(|text| text.contains("is there already"))
    });
    let text = told["message"].as_str().unwrap();
    let command = text.split('`').nth(1).unwrap();
    assert_eq!(
        (&told["interface"], command),
        (&"tap1".into(), "ip address del fd00:ec2::254/64 dev tap1"),
        "{told}"
    );
    lab.sh(HOST, command);
    eventually("it is put there anew", || {
        let addresses = lab.sh(HOST, "ip -6 address show dev tap1");
        addresses.contains("fd00:ec2::254/128") && !addresses.contains("tentative")
    });
}

/// Linux takes IPv6 addresses away from a link that goes down, and the routes with them.
#[test]
fn what_a_link_loses_when_it_goes_down_is_back_when_it_is_up() {
    let Some(lab) = host("a link that flaps") else {
        return;
    };
    let _imdsd = Imdsd::start(&lab, MANAGE, &instances());
    let guest = lab.door("g1");
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

/// Somebody else's hand on the daemon's addresses, and an address that the operator takes away for good.
#[test]
fn an_address_that_is_taken_away_under_the_daemon_is_put_back() {
    let Some(lab) = host("a removed address") else {
        return;
    };
    let mut imdsd = Imdsd::start(&lab, MANAGE, &instances());
    lab.sh(
        HOST,
        "ip address del 169.254.169.254/32 dev tap1; ip -6 address del fd00:ec2::254/128 dev tap1",
    );
    eventually("the addresses are back", || on(&lab, "tap1") == all_of_it());
    imdsd.terminate();
    assert_eq!(on(&lab, "tap1"), set(&[]));
}

/// `check` changes nothing: what is missing is said, and the guest is served once it is there.
#[test]
fn a_host_that_is_not_prepared_is_left_as_it_is_and_served_once_it_is() {
    let Some(lab) = Lab::new("check mode") else {
        return;
    };
    lab.guest(&ONE);
    lab.guest(&TWO);
    let imdsd = Imdsd::start(&lab, CHECK, &instances());
    let guest = lab.door("g1");
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
