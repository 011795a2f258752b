//! Scripts, and what is said of hosts that do not have them.

use super::guests::{eui_64, without_the_covered};
use super::*;

fn id(digit: u32) -> InstanceId {
    InstanceId::parse(&format!("i-0000000{digit}")).unwrap()
}

fn guest(digit: u32, way: Way) -> GuestWay {
    GuestWay {
        instance: id(digit),
        way,
        macs: vec![format!("02:00:00:00:00:0{digit}")],
        ipv4: vec![Ipv4Addr::new(10, 0, 0, digit as u8)],
        ipv4_prefixes: Vec::new(),
        ipv6: vec![Ipv6Addr::new(0xfd11, 0, 0, 0, 0, 0, 0, digit as u16)],
        ipv6_prefixes: Vec::new(),
    }
}

fn port(name: &str, mark: u32) -> Way {
    let bridge_mac = Some("02:00:00:00:00:FE".to_string());
    Way::BridgePort {
        bridge: "br0".to_string(),
        bridge_mac,
        port: name.to_string(),
        mark,
    }
}

fn interface(name: &str) -> Way {
    Way::Interface {
        name: name.to_string(),
    }
}

fn text(guests: &[GuestWay]) -> String {
    script(guests, MetadataAddresses::EC2).unwrap()
}

#[test]
fn the_script_says_for_each_guest_what_it_may() {
    let bridged = text(&[
        guest(1, port("tap1", 0x1001)),
        guest(2, port("tap2", 0x1002)),
    ]);
    let own = text(&[guest(4, interface("tap4"))]);
    let mut unknown = guest(3, port("tap3", 3));
    (unknown.macs, unknown.ipv4, unknown.ipv6) = Default::default();
    let unknown = text(&[guest(1, port("tap1", 0x1001)), unknown]);
    #[rustfmt::skip]
    let table: &[(&str, &str)] = &[
        (&bridged, "# i-00000001 behind tap1 of br0\n"),
        (&bridged, "\"tap1\" : 0x1001,\n"),
        (&bridged, "\"tap2\" . 0x1002\n"),
        (&bridged, "ether saddr != 02:00:00:00:00:01 ether saddr @macs-"),
        (&bridged, "meta protocol arp arp saddr ip != 10.0.0.1 arp saddr ip != 0.0.0.0 counter drop"),
        (&bridged, "ip saddr != 10.0.0.1 counter drop"),
        (&bridged, "ip6 saddr != fd11::1 ip6 saddr != fe80::ff:fe00:1 counter drop"),
        (&bridged, "@th,64,128 0xfd000ec2000000000000000000000254 counter drop"),
        (&bridged, "ether daddr set 02:00:00:00:00:fe meta pkttype set host"),
        (&bridged, "iifname @served ip daddr 169.254.169.254 notrack"),
        (&own, "# i-00000004 behind tap4\n"),
        (&own, "ether saddr != 02:00:00:00:00:04 counter drop"),
        (&own, "ip6 saddr != fd11::4 ip6 saddr != fe80::/10 counter drop"),
        (&own, "delete table bridge imdsd\n"),
        (&unknown, "# i-00000003 behind tap3 of br0; no list of its MACs, IPv4, IPv6, so only those of others are kept from it\n"),
        (&unknown, "    meta protocol arp arp saddr ip @ipv4-"),
    ];
    for (script, line) in table {
        assert!(script.contains(line), "{line} is not in\n{script}");
    }
    assert!(!own.contains("table bridge imdsd {"));
    // nft looks for ARP and ICMPv6 behind a tag only when it is told to.
    for line in bridged
        .lines()
        .filter(|line| line.contains(" arp saddr") || line.contains(" icmpv6 type"))
    {
        assert!(line.contains("meta protocol "), "{line}");
    }
    // One limit for each way in, and for both families.
    assert_eq!(bridged.matches("limit rate over 1024/second").count(), 2);
}

#[test]
fn every_fault_is_reported_with_its_guest() {
    let with = |change: fn(&mut GuestWay)| {
        let mut faulty = guest(2, port("tap2", 2));
        change(&mut faulty);
        script(&[guest(1, port("tap1", 1)), faulty], MetadataAddresses::EC2)
    };
    #[rustfmt::skip]
    type Change = fn(&mut GuestWay);
    let table: &[(Change, &str)] = &[
        (
            |way| way.way = interface("tap*"),
            "\"tap*\" is not an interface name that nft can hold",
        ),
        (
            |way| way.way = interface(""),
            "\"\" is not an interface name that nft can hold",
        ),
        (
            |way| way.way = interface("a\" drop; \""),
            "\"a\\\" drop; \\\"\" is not an interface name that nft can hold",
        ),
        (
            |way| way.way = interface("tap\n"),
            "\"tap\\n\" is not an interface name that nft can hold",
        ),
        (
            |way| way.way = interface("tap\\"),
            "\"tap\\\\\" is not an interface name that nft can hold",
        ),
        (
            |way| way.way = interface("a name"),
            "\"a name\" is not an interface name that nft can hold",
        ),
        (
            |way| way.way = interface("sixteen-letters-"),
            "\"sixteen-letters-\" is not an interface name that nft can hold",
        ),
        (
            |way| way.way = interface("täp"),
            "\"täp\" is not an interface name that nft can hold",
        ),
        (
            |way| way.way = interface("br0"),
            "'br0' is a bridge that guests are on",
        ),
        (
            |way| way.way = interface("tap1"),
            "'tap1' is a way in already, of i-00000001",
        ),
        (
            |way| way.way = port("tap1", 2),
            "'tap1' is a way in already, of i-00000001",
        ),
        (
            |way| way.way = port("tap2", 1),
            "the mark 0x1 is i-00000001's",
        ),
        (|way| way.way = port("tap2", 0), "0 is the mark of nobody"),
        (
            |way| way.macs = vec!["02:00:00:00:00".into()],
            "'02:00:00:00:00' is not the MAC of an interface",
        ),
        (
            |way| way.macs = vec!["02:00:00:00:00:+1".into()],
            "'02:00:00:00:00:+1' is not the MAC of an interface",
        ),
        (
            |way| way.macs = vec!["03:00:00:00:00:01".into()],
            "'03:00:00:00:00:01' is not the MAC of an interface",
        ),
        (
            |way| way.macs = vec!["00:00:00:00:00:00".into()],
            "'00:00:00:00:00:00' is not the MAC of an interface",
        ),
        (
            |way| way.macs = vec!["02:00:00:00:00:fe".into()],
            "'02:00:00:00:00:FE' is the bridge's own MAC",
        ),
        (
            |way| way.ipv4 = vec![Ipv4Addr::new(169, 254, 169, 254)],
            "169.254.169.254 is the metadata service's",
        ),
        (
            |way| way.ipv4 = vec![Ipv4Addr::UNSPECIFIED],
            "0.0.0.0 can't be a guest's",
        ),
        (
            |way| way.ipv4_prefixes = vec![(Ipv4Addr::new(169, 254, 0, 0), 16)],
            "169.254.0.0/16 is the metadata service's",
        ),
        (
            |way| way.ipv4_prefixes = vec![(Ipv4Addr::new(10, 0, 0, 0), 33)],
            "10.0.0.0/33 is not a prefix",
        ),
        (
            |way| way.ipv6_prefixes = vec![(Ipv6Addr::UNSPECIFIED, 0)],
            "::/0 is not a prefix",
        ),
        (
            |way| way.ipv6 = vec![MetadataAddresses::EC2.ipv6],
            "fd00:ec2::254 is the metadata service's",
        ),
    ];
    for (change, fault) in table {
        assert_eq!(
            with(*change),
            Err(vec![(id(2), fault.to_string())]),
            "{fault}"
        );
    }
    let both = with(|way| (way.way, way.macs) = (port("tap2", 0), vec![String::new()]));
    assert_eq!(both.unwrap_err().len(), 2);
}

#[test]
fn an_address_stands_in_one_block_only() {
    let block = |address: &str, length| Block {
        address: address.parse().unwrap(),
        length,
    };
    #[rustfmt::skip]
    let table: &[(&[Block], &str)] = &[
        (&[block("10.0.0.5", 32), block("10.0.0.5", 32)], "10.0.0.5"),
        (&[block("10.0.0.5", 32), block("10.0.0.9", 28)], "10.0.0.0/28"),
        (&[block("10.0.0.0", 28), block("10.0.0.5", 32)], "10.0.0.0/28"),
        (&[block("10.0.0.0", 28), block("10.0.0.16", 32)], "10.0.0.0/28, 10.0.0.16"),
        (&[block("fd11::5", 128), block("fd11::", 80)], "fd11::/80"),
        (&[block("fe80::5", 128), LINK_LOCAL], "fe80::/10"),
        (&[block("fd11::a00:5", 128), block("10.0.0.5", 32)], "fd11::a00:5, 10.0.0.5"),
    ];
    for (blocks, text) in table {
        let kept: Vec<String> = without_the_covered(blocks)
            .iter()
            .map(Block::to_string)
            .collect();
        assert_eq!(kept.join(", "), *text);
    }
    let targets = "0xfe800000000000000000000000000000-0xfebfffffffffffffffffffffffffffff";
    assert_eq!(LINK_LOCAL.as_number(), targets);
    assert_eq!(
        eui_64([0x52, 0x54, 0, 0x12, 0x34, 0x56]).to_string(),
        "fe80::5054:ff:fe12:3456"
    );
}

#[test]
fn a_few_are_compared_and_many_are_a_set() {
    assert_eq!(none_of("ip saddr", &[1, 2]), "ip saddr != 1 ip saddr != 2");
    assert_eq!(
        none_of("ip saddr", &[1, 2, 3, 4, 5, 6, 7]),
        "ip saddr != { 1, 2, 3, 4, 5, 6, 7 }"
    );
}

#[test]
fn a_script_for_many_guests_is_made_at_once() {
    let many: Vec<GuestWay> = (1..=2000)
        .map(|index| guest(index % 10, port(&format!("tap{index}"), index)))
        .collect();
    assert!(text(&many).len() < 2000 * 4096);
}
