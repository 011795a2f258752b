//! The script for made-up guests, and the faults of guests that it cannot include.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::block::{Block, LINK_LOCAL, eui_64, without_overlaps};
use super::conditions::none_of;
use super::*;

fn id(digit: u32) -> InstanceId {
    InstanceId::parse(&format!("i-0000000{digit}")).unwrap()
}

fn guest(digit: u32, link: GuestLink) -> FilteredGuest {
    FilteredGuest {
        instance: id(digit),
        link,
        macs: vec![format!("02:00:00:00:00:0{digit}")],
        ipv4: vec![Ipv4Addr::new(10, 0, 0, digit as u8)],
        ipv4_prefixes: Vec::new(),
        ipv6: vec![Ipv6Addr::new(0xfd11, 0, 0, 0, 0, 0, 0, digit as u16)],
        ipv6_prefixes: Vec::new(),
    }
}

fn port(name: &str, mark: u32) -> GuestLink {
    let bridge_mac = Some("02:00:00:00:00:FE".to_string());
    GuestLink::BridgePort {
        bridge: "br0".to_string(),
        bridge_mac,
        port: name.to_string(),
        mark,
    }
}

fn interface(name: &str) -> GuestLink {
    GuestLink::Interface {
        name: name.to_string(),
    }
}

fn name() -> TableName {
    TableName::ending_in("test")
}

fn text(guests: &[FilteredGuest]) -> String {
    script(&name(), guests, MetadataAddresses::EC2).unwrap()
}

#[test]
fn the_script_has_rules_for_each_guest() {
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
        (&own, "delete table bridge imdsd-test\n"),
        (&own, "iifname \"lo\" ip daddr 169.254.169.254 meta l4proto 6 counter drop"),
        (&unknown, "# i-00000003 behind tap3 of br0; not listed: MACs, IPv4, IPv6; only those of other guests are blocked\n"),
        (&unknown, "    meta protocol arp arp saddr ip @ipv4-"),
    ];
    for (script, line) in table {
        assert!(script.contains(line), "{line} is not in\n{script}");
    }
    assert!(!own.contains("table bridge imdsd-test {"));
    // Without guests there are no rules: a listener of the configuration may have the address on
    // the loopback interface.
    assert!(!text(&[]).contains('{'));
    // Without `meta protocol`, nft does not look for ARP and ICMPv6 behind a VLAN tag.
    for line in bridged
        .lines()
        .filter(|line| line.contains(" arp saddr") || line.contains(" icmpv6 type"))
    {
        assert!(line.contains("meta protocol "), "{line}");
    }
    // One limit for each guest link and for both families. EC2: 1,024 packets a second per network
    // interface.
    assert_eq!(bridged.matches("limit rate over 1024/second").count(), 2);
}

#[test]
fn every_fault_is_reported_with_its_guest() {
    let with = |change: fn(&mut FilteredGuest)| {
        let mut faulty = guest(2, port("tap2", 2));
        change(&mut faulty);
        let guests = [guest(1, port("tap1", 1)), faulty];
        script(&name(), &guests, MetadataAddresses::EC2)
    };
    #[rustfmt::skip]
    type Change = fn(&mut FilteredGuest);
    let table: &[(Change, &str)] = &[
        (
            |guest| guest.link = interface("tap*"),
            "\"tap*\" is not an interface name that nft accepts",
        ),
        (
            |guest| guest.link = interface(""),
            "\"\" is not an interface name that nft accepts",
        ),
        (
            |guest| guest.link = interface("a\" drop; \""),
            "\"a\\\" drop; \\\"\" is not an interface name that nft accepts",
        ),
        (
            |guest| guest.link = interface("tap\n"),
            "\"tap\\n\" is not an interface name that nft accepts",
        ),
        (
            |guest| guest.link = interface("tap\\"),
            "\"tap\\\\\" is not an interface name that nft accepts",
        ),
        (
            |guest| guest.link = interface("a name"),
            "\"a name\" is not an interface name that nft accepts",
        ),
        (
            |guest| guest.link = interface("sixteen-letters-"),
            "\"sixteen-letters-\" is not an interface name that nft accepts",
        ),
        (
            |guest| guest.link = interface("täp"),
            "\"täp\" is not an interface name that nft accepts",
        ),
        (
            |guest| guest.link = interface("br0"),
            "'br0' is a bridge with guests on its ports",
        ),
        (
            |guest| guest.link = interface("tap1"),
            "'tap1' is already attached to i-00000001",
        ),
        (
            |guest| guest.link = port("tap1", 2),
            "'tap1' is already attached to i-00000001",
        ),
        (
            |guest| guest.link = port("tap2", 1),
            "the mark 0x1 already belongs to i-00000001",
        ),
        (
            |guest| guest.link = port("tap2", 0),
            "the mark 0 identifies no guest",
        ),
        (
            |guest| guest.macs = vec!["02:00:00:00:00".into()],
            "'02:00:00:00:00' is not the MAC of an interface",
        ),
        (
            |guest| guest.macs = vec!["02:00:00:00:00:+1".into()],
            "'02:00:00:00:00:+1' is not the MAC of an interface",
        ),
        (
            |guest| guest.macs = vec!["03:00:00:00:00:01".into()],
            "'03:00:00:00:00:01' is not the MAC of an interface",
        ),
        (
            |guest| guest.macs = vec!["00:00:00:00:00:00".into()],
            "'00:00:00:00:00:00' is not the MAC of an interface",
        ),
        (
            |guest| guest.macs = vec!["02:00:00:00:00:fe".into()],
            "'02:00:00:00:00:FE' is the bridge's own MAC",
        ),
        (
            |guest| guest.ipv4 = vec![Ipv4Addr::new(169, 254, 169, 254)],
            "169.254.169.254 is the address of the metadata service",
        ),
        (
            |guest| guest.ipv4 = vec![Ipv4Addr::UNSPECIFIED],
            "0.0.0.0 cannot be a guest's address",
        ),
        (
            |guest| guest.ipv4_prefixes = vec![(Ipv4Addr::new(169, 254, 0, 0), 16)],
            "169.254.0.0/16 contains the address of the metadata service",
        ),
        (
            |guest| guest.ipv4_prefixes = vec![(Ipv4Addr::new(10, 0, 0, 0), 33)],
            "10.0.0.0/33 is not a prefix",
        ),
        (
            |guest| guest.ipv6_prefixes = vec![(Ipv6Addr::UNSPECIFIED, 0)],
            "::/0 is not a prefix",
        ),
        (
            |guest| guest.ipv6 = vec![MetadataAddresses::EC2.ipv6],
            "fd00:ec2::254 is the address of the metadata service",
        ),
    ];
    for (change, fault) in table {
        assert_eq!(
            with(*change),
            Err(vec![(id(2), fault.to_string())]),
            "{fault}"
        );
    }
    let both = with(|guest| (guest.link, guest.macs) = (port("tap2", 0), vec![String::new()]));
    assert_eq!(both.unwrap_err().len(), 2);
}

#[test]
fn an_address_is_in_one_block_only() {
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
        let kept: Vec<String> = without_overlaps(blocks)
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
fn a_few_elements_are_compared_and_many_form_a_set() {
    assert_eq!(none_of("ip saddr", &[1, 2]), "ip saddr != 1 ip saddr != 2");
    assert_eq!(
        none_of("ip saddr", &[1, 2, 3, 4, 5, 6, 7]),
        "ip saddr != { 1, 2, 3, 4, 5, 6, 7 }"
    );
}

#[test]
fn the_script_for_many_guests_stays_small() {
    let many: Vec<FilteredGuest> = (1..=2000)
        .map(|index| guest(index % 10, port(&format!("tap{index}"), index)))
        .collect();
    assert!(text(&many).len() < 2000 * 4096);
}
