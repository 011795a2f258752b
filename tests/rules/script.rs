//! The script as nft loads it, and the list that nft prints of it.

use imdsd::host::guest_rules::{
    FilteredGuest, GuestLink, Interference, MetadataAddresses, TableName, interferences, lacking,
};
use serde_json::Value;

use crate::lab::{Lab, filtered, instance, script, script_for_all, table};

fn listed(lab: &Lab) -> Value {
    serde_json::from_str(&lab.host_sh("nft --json list ruleset")).unwrap()
}

#[test]
#[ignore = "needs network namespaces, nft and python3; tests/all runs it"]
fn the_script_replaces_its_own_tables_only() {
    let lab = Lab::new();
    lab.nft(
        "table inet firewall {\n chain c {\n type filter hook input priority 0; policy accept;\n counter\n }\n}\n\
         table bridge imdsd2 {\n set s {\n type ifname\n elements = { \"tap9\" }\n }\n}\ntable arp imdsd {\n}\n",
    );
    let others = || {
        lab.host_sh(
            "nft --stateless list table inet firewall; nft list table bridge imdsd2; nft list table arp imdsd; nft list tables | wc -l",
        )
    };
    let before = others();
    let tables = |extra: usize| {
        before
            .rsplit_once('\n')
            .map(|(text, count)| format!("{text}\n{}", count.parse::<usize>().unwrap() + extra))
            .unwrap()
    };
    // What an earlier version loaded is removed.
    lab.nft("table inet imdsd {\n}\ntable bridge imdsd {\n}\n");
    lab.nft(&script_for_all());
    let first = lab.host_sh(
        "nft --stateless list table inet imdsd-test; nft --stateless list table bridge imdsd-test",
    );
    lab.nft(&script_for_all());
    let second = lab.host_sh(
        "nft --stateless list table inet imdsd-test; nft --stateless list table bridge imdsd-test",
    );
    assert_eq!(first, second);
    assert_eq!(others(), tables(2));
    // A script that fails changes nothing.
    assert!(
        lab.try_nft(&(script_for_all() + "no such statement\n"))
            .is_err()
    );
    assert_eq!(
        lab.host_sh("nft --stateless list table bridge imdsd-test; true"),
        second[second.find("table bridge").unwrap()..]
    );
    // Without guests on a bridge, the bridge table is removed.
    lab.nft(&script(&[filtered(4)]));
    assert_eq!(others(), tables(1));
}

/// A name that nft does not know itself would be looked up in /etc/protocols, which small systems do
/// not have. [`Lab::nft`] loads everything without these files.
#[test]
#[ignore = "needs network namespaces, nft and python3; tests/all runs it"]
fn the_rules_need_no_files_of_the_host() {
    let lab = Lab::new();
    let by_name = "table inet t {\n chain c {\n meta l4proto ipv6-icmp drop\n }\n}\n";
    let refused = lab.try_nft(by_name).unwrap_err();
    assert!(refused.contains("ipv6-icmp"), "{refused}");
    lab.nft(&script_for_all());
}

/// Every form of the rules, and as many rules as a large host has.
#[test]
#[ignore = "needs network namespaces, nft and python3; tests/all runs it"]
fn every_form_of_a_guest_loads() {
    let lab = Lab::new();
    let mut guests = Vec::new();
    for (index, lists) in (0..128).enumerate() {
        let mut guest = filtered(if lists & 1 == 0 { 1 } else { 4 });
        match &mut guest.link {
            GuestLink::Interface { name } => *name = format!("own.{index}-_x"),
            GuestLink::BridgePort {
                bridge,
                port,
                mark,
                bridge_mac,
            } => {
                *port = format!("port{index}");
                *mark = 5000 + index as u32;
                *bridge = format!("br{}", index % 3);
                if lists & 32 != 0 {
                    *bridge_mac = None;
                }
            }
        }
        if lists & 2 != 0 {
            guest.macs.clear();
        } else {
            guest.macs = vec![
                "02:00:00:00:0A:01".to_string(),
                format!("02:00:00:00:0b:{index:02x}"),
                "02:00:00:00:0a:01".to_string(),
            ];
        }
        if lists & 4 != 0 {
            guest.ipv4.clear();
        }
        if lists & 8 != 0 {
            guest.ipv6.clear();
        } else {
            guest.ipv6.extend([
                "fe80::ff:fe00:a01".parse::<std::net::Ipv6Addr>().unwrap(),
                "fd11::1:0:5".parse().unwrap(),
            ]);
        }
        if lists & 16 != 0 {
            guest.ipv4_prefixes = vec![
                ("10.0.0.16".parse().unwrap(), 28),
                ("10.0.0.0".parse().unwrap(), 24),
            ];
            guest.ipv6_prefixes = vec![("fd11::1:0:0".parse().unwrap(), 80)];
        }
        if lists & 64 != 0 {
            // As many addresses as a large instance has, so that nft uses sets.
            guest
                .ipv4
                .extend((1..50).map(|last| std::net::Ipv4Addr::new(10, 7, 0, last)));
            guest.ipv6.extend(
                (1..50).map(|last| std::net::Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, last)),
            );
            guest
                .macs
                .extend((1..10).map(|last| format!("02:07:00:00:00:0{last}")));
        }
        guests.push(guest);
    }
    // More at once would exceed the socket buffer of a user who is root only in a user namespace.
    for guests in guests.chunks(16) {
        lab.nft(&script(guests));
        assert_eq!(
            lacking(&listed(&lab), &table(), guests, MetadataAddresses::EC2),
            []
        );
    }
}

/// What nft 1.0.6 printed for these guests. To record it again:
/// `IMDSD_RECORD=tests/data/nft-list-ruleset.json cargo test --test rules
/// missing_rules_are_found_in_the_list -- --include-ignored`.
const RECORDED: &str = include_str!("../data/nft-list-ruleset.json");

#[test]
fn missing_rules_are_found_in_a_recorded_list() {
    let listed: Value = serde_json::from_str(RECORDED).unwrap();
    let missing = |listed: &Value, guests: &[FilteredGuest]| -> Vec<String> {
        lacking(listed, &table(), guests, MetadataAddresses::EC2)
            .into_iter()
            .map(|(id, what)| format!("{id}: {what}"))
            .collect()
    };
    assert_eq!(
        missing(&listed, &[filtered(1), filtered(2), filtered(4)]),
        [] as [String; 0]
    );
    // What differs about guest 2.
    let differences: &[fn(&mut FilteredGuest)] = &[
        |guest| guest.macs.push("02:00:00:00:00:22".to_string()),
        |guest| guest.macs.clear(),
        |guest| guest.ipv4.clear(),
        |guest| guest.ipv4_prefixes.push(("10.0.9.0".parse().unwrap(), 28)),
        |guest| guest.ipv6.push("fd11::22".parse().unwrap()),
        |guest| guest.ipv6_prefixes.push(("fd12::".parse().unwrap(), 80)),
        |guest| guest.instance = instance(7),
        |guest| change_port(guest, |bridge, _, _, _| *bridge = "br1".to_string()),
        |guest| change_port(guest, |_, mac, _, _| *mac = None),
        |guest| change_port(guest, |_, _, port, _| *port = "tap7".to_string()),
        |guest| change_port(guest, |_, _, _, mark| *mark = 7),
    ];
    for (index, differ) in differences.iter().enumerate() {
        let mut other = filtered(2);
        differ(&mut other);
        let found = missing(&listed, &[filtered(1), other.clone(), filtered(4)]);
        assert_eq!(found.len(), 1, "difference {index}: {found:?}");
        assert!(
            found[0].starts_with(other.instance.as_str()),
            "difference {index}: {found:?}"
        );
    }
    // Other addresses of the service concern script_for_all.
    let elsewhere = MetadataAddresses {
        ipv4: "169.254.169.253".parse().unwrap(),
        ..MetadataAddresses::EC2
    };
    assert_eq!(
        lacking(
            &listed,
            &table(),
            &[filtered(1), filtered(2), filtered(4)],
            elsewhere
        )
        .len(),
        3
    );
    // Not a list of nft: no guest has rules.
    for other in [
        "null",
        "{}",
        "[]",
        r#"{"nftables": [{"chain": 5}, 7, {"rule": {"table": "imdsd-test"}}]}"#,
    ] {
        assert_eq!(
            missing(
                &serde_json::from_str(other).unwrap(),
                &[filtered(1), filtered(4)]
            )
            .len(),
            2,
            "{other}"
        );
    }
}

#[test]
fn interfering_rules_are_found_in_a_recorded_list() {
    let as_of_the_test: Value = serde_json::from_str(RECORDED).unwrap();
    let earlier: Value = serde_json::from_str(&RECORDED.replace("imdsd-test", "imdsd")).unwrap();
    let other = TableName::ending_in("other");
    let guests = [filtered(1), filtered(2), filtered(3), filtered(4)];
    assert_eq!(interferences(&as_of_the_test, &table(), &guests), []);
    let twice = |family: &str| Interference::Guest(format!("{family} imdsd-test"));
    assert_eq!(
        interferences(&as_of_the_test, &other, &guests),
        [
            (instance(1), twice("bridge")),
            (instance(2), twice("bridge")),
            (instance(4), twice("inet")),
        ]
    );
    // Guest 3 has no rules there. It uses the mark of a guest that has.
    let mut same_mark = filtered(3);
    change_port(&mut same_mark, |_, _, _, mark| *mark = 0x1001);
    assert_eq!(
        interferences(&as_of_the_test, &other, &[same_mark]),
        [(
            instance(3),
            Interference::Mark("bridge imdsd-test".to_string())
        )]
    );
    // Rules of an earlier version clear the marks of every port.
    for guest in &guests {
        assert_eq!(
            interferences(&earlier, &other, std::slice::from_ref(guest)),
            [(guest.instance.clone(), Interference::Earlier)]
        );
    }
}

fn change_port(
    guest: &mut FilteredGuest,
    change: impl FnOnce(&mut String, &mut Option<String>, &mut String, &mut u32),
) {
    let GuestLink::BridgePort {
        bridge,
        bridge_mac,
        port,
        mark,
    } = &mut guest.link
    else {
        panic!("the guest is on a bridge")
    };
    change(bridge, bridge_mac, port, mark);
}

#[test]
#[ignore = "needs network namespaces, nft and python3; tests/all runs it"]
fn missing_rules_are_found_in_the_list_of_nft() {
    let lab = Lab::new();
    let guests = [filtered(1), filtered(2), filtered(4)];
    let without = |listed: &Value, guests: &[_]| -> Vec<String> {
        lacking(listed, &table(), guests, MetadataAddresses::EC2)
            .into_iter()
            .map(|(id, _)| id.to_string())
            .collect()
    };
    let id = |guest: usize| instance(guest).to_string();
    assert_eq!(without(&listed(&lab), &guests), [id(1), id(2), id(4)]);
    lab.nft(&script(&guests));
    let current = listed(&lab);
    if let Some(to) = std::env::var_os("IMDSD_RECORD") {
        std::fs::write(to, serde_json::to_string(&current).unwrap() + "\n").unwrap();
    }
    assert_eq!(without(&current, &guests), [] as [String; 0]);
    assert_eq!(
        without(
            &current,
            &[filtered(1), filtered(2), filtered(3), filtered(4)]
        ),
        [id(3)]
    );
    let mut moved = filtered(2);
    moved.ipv4 = vec!["10.0.0.9".parse().unwrap()];
    assert_eq!(
        without(&current, &[filtered(1), moved, filtered(4)]),
        [id(2)]
    );
    for (command, whose) in [
        (
            "nft delete element bridge imdsd-test guests '{ \"tap1\" }'",
            vec![id(1)],
        ),
        (
            "nft delete element bridge imdsd-test port-marks '{ \"tap1\" . 0x1001 }'",
            vec![id(1)],
        ),
        (
            "nft flush chain bridge imdsd-test answers",
            vec![id(1), id(2)],
        ),
        (
            "nft flush chain inet imdsd-test leaving",
            vec![id(1), id(2), id(4)],
        ),
        ("nft delete table bridge imdsd-test", vec![id(1), id(2)]),
    ] {
        lab.nft(&script(&guests));
        lab.host_sh(command);
        assert_eq!(without(&listed(&lab), &guests), whose, "{command}");
    }
}
