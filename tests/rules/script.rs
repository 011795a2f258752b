//! The script as nft takes it, and as nft shows it again.

use imdsd::host::guest_rules::{GuestWay, MetadataAddresses, Way, lacking};
use serde_json::Value;

use crate::lab::{Lab, everybody, instance, script, way};

fn listed(lab: &Lab) -> Value {
    serde_json::from_str(&lab.host_sh("nft --json list ruleset")).unwrap()
}

#[test]
fn the_script_replaces_its_own_tables_and_no_other() {
    let Some(lab) = Lab::new("the_script_replaces_its_own_tables") else {
        return;
    };
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
    lab.nft(&everybody());
    let first = lab
        .host_sh("nft --stateless list table inet imdsd; nft --stateless list table bridge imdsd");
    lab.nft(&everybody());
    let second = lab
        .host_sh("nft --stateless list table inet imdsd; nft --stateless list table bridge imdsd");
    assert_eq!(first, second);
    assert_eq!(others(), tables(2));
    // A script that fails leaves the rules as they were.
    assert!(lab.try_nft(&(everybody() + "no such statement\n")).is_err());
    assert_eq!(
        lab.host_sh("nft --stateless list table bridge imdsd; true"),
        second[second.find("table bridge").unwrap()..]
    );
    // Without guests on a bridge, its table goes away.
    lab.nft(&script(&[way(4)]));
    assert_eq!(others(), tables(1));
}

/// Every form that the rules can have, and as many as a large host has.
#[test]
fn every_form_of_a_guest_loads() {
    let Some(lab) = Lab::new("every_form_of_a_guest_loads") else {
        return;
    };
    let mut ways = Vec::new();
    for (index, lists) in (0..128).enumerate() {
        let mut way = way(if lists & 1 == 0 { 1 } else { 4 });
        match &mut way.way {
            Way::Interface { name } => *name = format!("own.{index}-_x"),
            Way::BridgePort {
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
            way.macs.clear();
        } else {
            way.macs = vec![
                "02:00:00:00:0A:01".to_string(),
                format!("02:00:00:00:0b:{index:02x}"),
                "02:00:00:00:0a:01".to_string(),
            ];
        }
        if lists & 4 != 0 {
            way.ipv4.clear();
        }
        if lists & 8 != 0 {
            way.ipv6.clear();
        } else {
            way.ipv6.extend([
                "fe80::ff:fe00:a01".parse::<std::net::Ipv6Addr>().unwrap(),
                "fd11::1:0:5".parse().unwrap(),
            ]);
        }
        if lists & 16 != 0 {
            way.ipv4_prefixes = vec![
                ("10.0.0.16".parse().unwrap(), 28),
                ("10.0.0.0".parse().unwrap(), 24),
            ];
            way.ipv6_prefixes = vec![("fd11::1:0:0".parse().unwrap(), 80)];
        }
        if lists & 64 != 0 {
            // As many as a large instance has: they make sets.
            way.ipv4
                .extend((1..50).map(|last| std::net::Ipv4Addr::new(10, 7, 0, last)));
            way.ipv6.extend(
                (1..50).map(|last| std::net::Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, last)),
            );
            way.macs
                .extend((1..10).map(|last| format!("02:07:00:00:00:0{last}")));
        }
        ways.push(way);
    }
    // More than these fill the socket of somebody who is not really root.
    for ways in ways.chunks(16) {
        lab.nft(&script(ways));
        assert_eq!(lacking(&listed(&lab), ways, MetadataAddresses::EC2), []);
    }
}

/// What nft 1.0.6 printed for these guests. To record it anew: `IMDSD_RECORD=tests/data/nft-list-ruleset.json cargo test
/// --test rules what_nft_lists`.
const RECORDED: &str = include_str!("../data/nft-list-ruleset.json");

#[test]
fn a_recorded_list_says_who_lacks_rules() {
    let listed: Value = serde_json::from_str(RECORDED).unwrap();
    let lacks = |listed: &Value, ways: &[GuestWay]| -> Vec<String> {
        lacking(listed, ways, MetadataAddresses::EC2)
            .into_iter()
            .map(|(id, what)| format!("{id}: {what}"))
            .collect()
    };
    assert_eq!(lacks(&listed, &[way(1), way(2), way(4)]), [] as [String; 0]);
    // (what is different about guest 2)
    let differences: &[fn(&mut GuestWay)] = &[
        |way| way.macs.push("02:00:00:00:00:22".to_string()),
        |way| way.macs.clear(),
        |way| way.ipv4.clear(),
        |way| way.ipv4_prefixes.push(("10.0.9.0".parse().unwrap(), 28)),
        |way| way.ipv6.push("fd11::22".parse().unwrap()),
        |way| way.ipv6_prefixes.push(("fd12::".parse().unwrap(), 80)),
        |way| way.instance = instance(7),
        |way| change_port(way, |bridge, _, _, _| *bridge = "br1".to_string()),
        |way| change_port(way, |_, mac, _, _| *mac = None),
        |way| change_port(way, |_, _, port, _| *port = "tap7".to_string()),
        |way| change_port(way, |_, _, _, mark| *mark = 7),
    ];
    for (index, differ) in differences.iter().enumerate() {
        let mut other = way(2);
        differ(&mut other);
        let found = lacks(&listed, &[way(1), other.clone(), way(4)]);
        assert_eq!(found.len(), 1, "difference {index}: {found:?}");
        assert!(
            found[0].starts_with(other.instance.as_str()),
            "difference {index}: {found:?}"
        );
    }
    // Other addresses of the service concern everybody.
    let elsewhere = MetadataAddresses {
        ipv4: "169.254.169.253".parse().unwrap(),
        ..MetadataAddresses::EC2
    };
    assert_eq!(
        lacking(&listed, &[way(1), way(2), way(4)], elsewhere).len(),
        3
    );
    // Not a list, or not of this: nobody has rules.
    for other in [
        "null",
        "{}",
        "[]",
        r#"{"nftables": [{"chain": 5}, 7, {"rule": {"table": "imdsd"}}]}"#,
    ] {
        assert_eq!(
            lacks(&serde_json::from_str(other).unwrap(), &[way(1), way(4)]).len(),
            2,
            "{other}"
        );
    }
}

fn change_port(
    way: &mut GuestWay,
    change: impl FnOnce(&mut String, &mut Option<String>, &mut String, &mut u32),
) {
    let Way::BridgePort {
        bridge,
        bridge_mac,
        port,
        mark,
    } = &mut way.way
    else {
        panic!("it is on a bridge")
    };
    change(bridge, bridge_mac, port, mark);
}

#[test]
fn what_nft_lists_says_who_lacks_rules() {
    let Some(lab) = Lab::new("what_nft_lists_says_who_lacks_rules") else {
        return;
    };
    let ways = [way(1), way(2), way(4)];
    let without = |listed: &Value, ways: &[_]| -> Vec<String> {
        lacking(listed, ways, MetadataAddresses::EC2)
            .into_iter()
            .map(|(id, _)| id.to_string())
            .collect()
    };
    let id = |guest: usize| instance(guest).to_string();
    assert_eq!(without(&listed(&lab), &ways), [id(1), id(2), id(4)]);
    lab.nft(&script(&ways));
    let current = listed(&lab);
    if let Some(to) = std::env::var_os("IMDSD_RECORD") {
        std::fs::write(to, serde_json::to_string(&current).unwrap() + "\n").unwrap();
    }
    assert_eq!(without(&current, &ways), [] as [String; 0]);
    assert_eq!(
        without(&current, &[way(1), way(2), way(3), way(4)]),
        [id(3)]
    );
    let mut moved = way(2);
    moved.ipv4 = vec!["10.0.0.9".parse().unwrap()];
    assert_eq!(without(&current, &[way(1), moved, way(4)]), [id(2)]);
    for (command, whose) in [
        (
            "nft delete element bridge imdsd guests '{ \"tap1\" }'",
            vec![id(1)],
        ),
        (
            "nft delete element bridge imdsd ways '{ \"tap1\" . 0x1001 }'",
            vec![id(1)],
        ),
        ("nft flush chain bridge imdsd answers", vec![id(1), id(2)]),
        (
            "nft flush chain inet imdsd leaving",
            vec![id(1), id(2), id(4)],
        ),
        ("nft delete table bridge imdsd", vec![id(1), id(2)]),
    ] {
        lab.nft(&script(&ways));
        lab.host_sh(command);
        assert_eq!(without(&listed(&lab), &ways), whose, "{command}");
    }
}
