//! Every fault over made-up readings: what is found, and the command to the letter.

use super::*;
use crate::config::demo_instance;
use crate::host::examine::unusable::{Duplicate, Unusable};
use crate::instance::{InstanceState, Switch};

const IPV4: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
const IPV6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
const TAP: u32 = 3;
const BRIDGE: u32 = 5;
const PORT: u32 = 6;

fn service() -> Service {
    Service {
        ipv4: IPV4,
        ipv6: IPV6,
        addresses: Addresses::Operator,
        hosts_own: HostsOwn::Spared,
        daemon: None,
        load_rules: "load".to_string(),
    }
}

/// Parts of the sentences, with the commands as a whole.
type Expected = &'static [(&'static str, &'static str)];

/// A guest that has 10.0.0.5 and fd11::5, and asks by both families.
fn guest(attachment: &Attachment) -> Instance {
    let mut instance = demo_instance();
    instance.private_ip_address = Some("10.0.0.5".parse().unwrap());
    instance.ipv6_address = Some("fd11::5".parse().unwrap());
    instance.network_interfaces = Vec::new();
    instance.metadata_options.http_protocol_ipv6 = Switch::Enabled;
    instance.imds.attachments = vec![attachment.clone()];
    instance
}

fn at_interface(name: &str) -> Attachment {
    Attachment::Interface(name.to_string())
}

fn at_port(bridge: &str, port: &str) -> Attachment {
    Attachment::BridgePort(BridgePort {
        bridge: bridge.to_string(),
        port: port.to_string(),
        mark: 1,
    })
}

fn links(change: impl FnOnce(&mut BTreeMap<&'static str, Link>)) -> Links {
    let mut links = BTreeMap::new();
    for (index, name, kind) in [
        (1, "lo", ""),
        (2, "eth0", ""),
        (TAP, "tap0", "tun"),
        (BRIDGE, "br0", "bridge"),
        (PORT, "port0", "veth"),
        (7, "tenant", "vrf"),
        (8, "bond0", "bond"),
        (9, "ovs-system", "openvswitch"),
        (10, "br0.100", "vlan"),
    ] {
        let mut link = Link::made_up(index, name, kind);
        if matches!(name, "tap0" | "br0" | "br0.100") {
            link.addresses = BTreeSet::from([IPV4.into(), IPV6.into()]);
        }
        link.controller = (name == "port0").then_some(BRIDGE);
        link.below = (name == "br0.100").then_some(BRIDGE);
        links.insert(name, link);
    }
    change(&mut links);
    Links::of(links.into_values())
}

/// A host on which guests at tap0, port0 of br0 and port0 of br0.100 lack nothing.
fn sane(links: Links) -> Seen {
    let mut seen = Seen {
        links,
        ..Seen::default()
    };
    for interface in ["all", "tap0", "br0", "br0.100"] {
        for (setting, value) in [
            ("ipv4/conf/IF/rp_filter", 0),
            ("ipv4/conf/IF/arp_ignore", 0),
            ("ipv4/conf/IF/arp_filter", 0),
            ("ipv4/conf/IF/accept_local", 0),
            ("ipv6/conf/IF/accept_ra", 0),
            ("ipv6/conf/IF/forwarding", 0),
            ("ipv6/conf/IF/disable_ipv6", 0),
        ] {
            seen.settings
                .insert(setting.replace("IF", interface), value);
        }
    }
    seen.settings
        .insert("ipv4/tcp_fwmark_accept".to_string(), 1);
    for index in [TAP, BRIDGE, 10] {
        let direct = Route {
            by: vec![index],
            is_direct: true,
            ..Route::default()
        };
        for to in ["10.0.0.5", "fd11::5"] {
            let to: IpAddr = to.parse().unwrap();
            seen.routes
                .insert((to, Some(index)), Ok(to.is_ipv6().then(|| direct.clone())));
            seen.routes.insert((to, None), Ok(None));
        }
    }
    seen.pinned.insert(BRIDGE, Ok(true));
    seen
}

/// What [`examine`] does with what it read.
fn judged(attachment: &Attachment, seen: &Seen, service: &Service) -> Notes {
    let instances = [guest(attachment)];
    let ways = ways(&instances);
    let mut notes = Notes::default();
    match attachment {
        Attachment::Interface(name) => {
            if let Some(device) = interface(name, &ways[0], &ways, &seen.links, &mut notes) {
                device_of_guest(device, &ways[0], seen, service, &mut notes);
            }
        }
        Attachment::BridgePort(port) => {
            if let Some(device) = bridge_of(port, &seen.links, &mut notes) {
                device_of_guest(device, &ways[0], seen, service, &mut notes);
                bridge(device, seen, &mut notes);
            }
        }
        _ => unreachable!(),
    }
    notes
}

/// Holds what was found against parts of the sentences, and the commands as a whole.
fn assert_found(notes: &Notes, expected: &[(&str, &str)]) {
    assert_eq!(notes.wrong.len(), expected.len(), "{notes:#?}");
    for (wrong, (what, mend)) in notes.wrong.iter().zip(expected) {
        assert!(wrong.what.contains(what), "{what:?} in {wrong:#?}");
        assert_eq!(wrong.mend, *mend);
    }
}

#[test]
fn on_a_sane_host_nothing_is_found() {
    for attachment in [
        at_interface("tap0"),
        at_port("br0", "port0"),
        at_port("br0.100", "port0"),
    ] {
        let notes = judged(&attachment, &sane(links(|_| {})), &service());
        assert_found(&notes, &[]);
        assert_eq!(notes.unseen, Vec::<String>::new(), "{attachment}");
    }
}

#[test]
fn an_attachment_stands_on_what_it_says() {
    type Change = fn(&mut BTreeMap<&'static str, Link>);
    let table: [(Attachment, Change, Expected); 12] = [
        (
            at_interface("tap00"),
            |_| {},
            &[(
                "no interface tap00; did you mean tap0?",
                "start the guest, whose hypervisor makes its interface, or correct the name in its document",
            )],
        ),
        (
            at_interface("tap0"),
            |links| links.get_mut("tap0").unwrap().up = false,
            &[("is down", "ip link set tap0 up")],
        ),
        (
            at_interface("port0"),
            |_| {},
            &[(
                "port of bridge br0",
                r#"attach i-0123456789abcdef0 in its document by {"BridgePort": {"Bridge": "br0", "Port": "port0", "Mark": 1}}"#,
            )],
        ),
        (
            at_interface("tap0"),
            |links| links.get_mut("tap0").unwrap().controller = Some(8),
            &[("part of bond0 (bond)", "ip link set tap0 nomaster")],
        ),
        // A VRF's interfaces keep their name.
        (
            at_interface("tap0"),
            |links| links.get_mut("tap0").unwrap().controller = Some(7),
            &[],
        ),
        (
            at_port("br1", "port0"),
            |_| {},
            &[(
                "there is no bridge br1",
                "ip link add br1 type bridge && ip link set br1 up",
            )],
        ),
        (
            at_port("br0", "port0"),
            |links| links.get_mut("br0").unwrap().up = false,
            &[("br0 is down", "ip link set br0 up")],
        ),
        (
            at_port("br0", "port0"),
            |links| links.get_mut("port0").unwrap().up = false,
            &[("port0 is down", "ip link set port0 up")],
        ),
        (
            at_port("br0", "port0"),
            |links| links.get_mut("port0").unwrap().controller = None,
            &[("port0 is not a port of br0", "ip link set port0 master br0")],
        ),
        (
            at_port("br0.100", "port0"),
            |links| links.get_mut("port0").unwrap().controller = Some(9),
            &[("port0 is not a port of br0", "ip link set port0 master br0")],
        ),
        (
            at_port("ovs-system", "port0"),
            |_| {},
            &[(
                "ovs-system is no bridge of Linux (openvswitch)",
                "use a bridge of Linux, or attach the guest by an interface of its own",
            )],
        ),
        (
            at_port("eth0", "port0"),
            |_| {},
            &[(
                "eth0 is no bridge of Linux (hardware)",
                "use a bridge of Linux, or attach the guest by an interface of its own",
            )],
        ),
    ];
    for (attachment, change, expected) in table {
        assert_found(
            &judged(&attachment, &sane(links(change)), &service()),
            expected,
        );
    }
}

#[test]
fn each_fault_of_an_interface_is_found_with_its_command() {
    let set = |seen: &mut Seen, path: &str, value| {
        seen.settings.insert(path.to_string(), value);
    };
    let lacking = |address: IpAddr| {
        move |seen: &mut Seen| {
            seen.links = links(|links| {
                links.get_mut("tap0").unwrap().addresses.remove(&address);
            });
        }
    };
    let routed = |to: &str, bound, route: Option<Route>| {
        let to: IpAddr = to.parse().unwrap();
        move |seen: &mut Seen| drop(seen.routes.insert((to, bound), Ok(route.clone())))
    };
    type Change<'c> = Box<dyn Fn(&mut Seen) + 'c>;
    let table: Vec<(Attachment, Change<'_>, Expected)> = vec![
        (
            at_interface("tap0"),
            Box::new(lacking(IPV4.into())),
            &[(
                "tap0 lacks the address 169.254.169.254 (it is on br0)",
                "ip address add 169.254.169.254/32 dev tap0",
            )],
        ),
        (
            at_interface("tap0"),
            Box::new(lacking(IPV6.into())),
            &[(
                "lacks the address fd00:ec2::254",
                "ip address add fd00:ec2::254/128 dev tap0 nodad",
            )],
        ),
        (
            at_interface("tap0"),
            Box::new(|seen| {
                lacking(IPV6.into())(seen);
                seen.unusable.push(Unusable {
                    index: TAP,
                    address: IPV6,
                    prefix: 64,
                    why: Duplicate::Found,
                });
            }),
            &[(
                "somebody behind the interface claimed it first",
                "ip address del fd00:ec2::254/64 dev tap0 && ip address add fd00:ec2::254/128 dev tap0 nodad",
            )],
        ),
        // Nothing else of IPv6 can be mended before.
        (
            at_interface("tap0"),
            Box::new(|seen| {
                seen.links = links(|links| {
                    let link = links.get_mut("tap0").unwrap();
                    link.mtu = 1279;
                    link.addresses.remove(&IPV6.into());
                });
                seen.settings
                    .retain(|path, _| !path.starts_with("ipv6/conf/tap0/"));
                seen.routes
                    .insert(("fd11::5".parse().unwrap(), Some(TAP)), Ok(None));
            }),
            &[("the MTU of tap0 is 1279", "ip link set tap0 mtu 1280")],
        ),
        (
            at_interface("tap0"),
            Box::new(|seen| set(seen, "ipv6/conf/tap0/disable_ipv6", 1)),
            &[(
                "IPv6 is switched off on tap0",
                "sysctl -w net.ipv6.conf.tap0.disable_ipv6=0",
            )],
        ),
        (
            at_interface("tap0"),
            Box::new(routed("fd11::5", Some(TAP), None)),
            &[(
                "no route leads to fd11::5 by tap0",
                "ip -6 route add fd11::5/128 dev tap0 metric 1073741827",
            )],
        ),
        // Over a router that the guest is behind.
        (
            at_interface("tap0"),
            Box::new(routed(
                "fd11::5",
                Some(TAP),
                Some(Route {
                    by: vec![TAP],
                    is_direct: false,
                    ..Route::default()
                }),
            )),
            &[],
        ),
        (
            at_port("br0", "port0"),
            Box::new(routed(
                "fd11::5",
                Some(BRIDGE),
                Some(Route {
                    by: vec![BRIDGE],
                    is_direct: false,
                    ..Route::default()
                }),
            )),
            &[(
                "only a route over a gateway",
                "ip -6 route add fd11::5/128 dev br0 metric 1073741829",
            )],
        ),
        (
            at_port("br0", "port0"),
            Box::new(routed(
                "10.0.0.5",
                Some(BRIDGE),
                Some(Route {
                    by: vec![BRIDGE],
                    is_direct: false,
                    ..Route::default()
                }),
            )),
            &[(
                "only a route over a gateway",
                "ip route add 10.0.0.5/32 dev br0 metric 1073741829",
            )],
        ),
        (
            at_interface("tap0"),
            Box::new(|seen| set(seen, "ipv4/conf/tap0/rp_filter", 2)),
            &[(
                "rp_filter is 2 (loose) on tap0",
                "sysctl -w net.ipv4.conf.tap0.rp_filter=0",
            )],
        ),
        (
            at_port("br0.100", "port0"),
            Box::new(|seen| set(seen, "ipv4/conf/br0.100/rp_filter", 2)),
            &[(
                "rp_filter is 2",
                "sysctl -w net/ipv4/conf/br0.100/rp_filter=0",
            )],
        ),
        (
            at_interface("tap0"),
            Box::new(|seen| set(seen, "ipv4/conf/all/arp_ignore", 8)),
            &[(
                "no ARP request is answered",
                "sysctl -w net.ipv4.conf.all.arp_ignore=1",
            )],
        ),
        (
            at_interface("tap0"),
            Box::new(|seen| set(seen, "ipv4/conf/all/arp_filter", 1)),
            &[(
                "arp_filter is on",
                "sysctl -w net.ipv4.conf.all.arp_filter=0",
            )],
        ),
        (
            at_interface("tap0"),
            Box::new(|seen| {
                seen.links = links(|links| {
                    links
                        .get_mut("eth0")
                        .unwrap()
                        .addresses
                        .insert("10.0.0.5".parse().unwrap());
                })
            }),
            &[(
                "10.0.0.5 is an address of the host too",
                "sysctl -w net.ipv4.conf.tap0.accept_local=1",
            )],
        ),
        (
            at_interface("tap0"),
            Box::new(|seen| set(seen, "ipv6/conf/tap0/accept_ra", 1)),
            &[(
                "the guest could give the host a default route",
                "sysctl -w net.ipv6.conf.tap0.accept_ra=0",
            )],
        ),
        (
            at_port("br0", "port0"),
            Box::new(|seen| set(seen, "ipv4/tcp_fwmark_accept", 0)),
            &[(
                "tcp_fwmark_accept is 0",
                "sysctl -w net.ipv4.tcp_fwmark_accept=1",
            )],
        ),
        (
            at_interface("tap0"),
            Box::new(|seen| set(seen, "ipv4/tcp_fwmark_accept", 0)),
            &[],
        ),
        (
            at_port("br0", "port0"),
            Box::new(|seen| drop(seen.pinned.insert(BRIDGE, Ok(false)))),
            &[(
                "br0 has no MAC of its own",
                "ip link set br0 address 02:00:00:00:00:05",
            )],
        ),
        (
            at_port("br0.100", "port0"),
            Box::new(|seen| drop(seen.pinned.insert(BRIDGE, Ok(false)))),
            &[(
                "br0 has no MAC of its own",
                "ip link set br0 address 02:00:00:00:00:05",
            )],
        ),
    ];
    for (attachment, change, expected) in table {
        let mut seen = sane(links(|_| {}));
        change(&mut seen);
        assert_found(&judged(&attachment, &seen, &service()), expected);
    }
}

#[test]
fn what_the_daemon_puts_itself_is_not_missing() {
    let mut seen = sane(links(|links| {
        links.get_mut("tap0").unwrap().addresses.clear()
    }));
    seen.routes
        .insert(("fd11::5".parse().unwrap(), Some(TAP)), Ok(None));
    let managed = Service {
        addresses: Addresses::Daemon,
        ..service()
    };
    assert_found(&judged(&at_interface("tap0"), &seen, &managed), &[]);
    assert_eq!(
        judged(&at_interface("tap0"), &seen, &service()).wrong.len(),
        3
    );
    // One that somebody put and that can't be used is in the daemon's way.
    seen.unusable.push(Unusable {
        index: TAP,
        address: IPV6,
        prefix: 64,
        why: Duplicate::Awaited,
    });
    let expected = [("needs nodad", "ip address del fd00:ec2::254/64 dev tap0")];
    assert_found(&judged(&at_interface("tap0"), &seen, &managed), &expected);
}

#[test]
fn what_a_daemon_that_runs_has_not_put_is_missing() {
    let managed = Service {
        addresses: Addresses::Daemon,
        ..service()
    };
    let capability =
        "give it CAP_NET_ADMIN, as systemd/manage-addresses.conf does, and start it again";
    let explain = "its log says why, and so does: imdsd instance explain i-0123456789abcdef0";
    for (daemon, mend, unseen) in [
        (Daemon::Absent, None, 0),
        (Daemon::Runs { may: Some(false) }, Some(capability), 0),
        (Daemon::Runs { may: Some(true) }, Some(explain), 0),
        (Daemon::Runs { may: None }, Some(explain), 0),
        (Daemon::Hidden("not permitted".to_string()), None, 2),
    ] {
        let mut seen = sane(links(|links| {
            links.get_mut("tap0").unwrap().addresses.clear()
        }));
        seen.daemon = daemon;
        let notes = judged(&at_interface("tap0"), &seen, &managed);
        let mends: Vec<&str> = notes
            .wrong
            .iter()
            .map(|wrong| wrong.mend.as_str())
            .collect();
        assert_eq!(
            mends,
            mend.map(|mend| [mend; 2])
                .iter()
                .flatten()
                .copied()
                .collect::<Vec<_>>()
        );
        assert_eq!(notes.unseen.len(), unseen, "{notes:#?}");
        // With both addresses there, all is well.
        let seen = Seen {
            daemon: seen.daemon,
            ..sane(links(|_| {}))
        };
        let notes = judged(&at_interface("tap0"), &seen, &managed);
        assert_eq!(
            (notes.wrong.len(), notes.unseen.len()),
            (0, 0),
            "{notes:#?}"
        );
    }
}

/// No command that is printed cuts the host off from the service that it asks itself.
#[test]
fn where_the_host_asks_itself_no_command_puts_an_address() {
    let mut seen = sane(links(|links| {
        links.get_mut("tap0").unwrap().addresses.clear()
    }));
    seen.hosts_own = Some("there is a route".to_string());
    seen.unusable.push(Unusable {
        index: TAP,
        address: IPV6,
        prefix: 64,
        why: Duplicate::Found,
    });
    seen.settings
        .insert("ipv4/conf/tap0/rp_filter".to_string(), 2);
    let first = "the host seems to ask a metadata service of its own (there is a route)";
    for addresses in [Addresses::Operator, Addresses::Daemon] {
        let notes = judged(
            &at_interface("tap0"),
            &seen,
            &Service {
                addresses,
                ..service()
            },
        );
        let [own, rest @ ..] = &notes.wrong[..] else {
            panic!("{notes:#?}")
        };
        assert!(own.what.starts_with(first), "{own:#?}");
        assert!(
            notes
                .wrong
                .iter()
                .all(|wrong| !wrong.mend.contains("ip address")),
            "{notes:#?}"
        );
        assert_eq!(rest.len(), 1, "{notes:#?}");
    }
    // One that is there already is in the host's way as well.
    let mut seen = sane(links(|_| {}));
    seen.hosts_own = Some("there is a route".to_string());
    assert_eq!(
        judged(&at_interface("tap0"), &seen, &service()).wrong.len(),
        1
    );
}

#[test]
fn what_could_not_be_read_is_said() {
    let mut seen = sane(links(|_| {}));
    seen.settings.clear();
    seen.routes.insert(
        ("fd11::5".parse().unwrap(), Some(BRIDGE)),
        Err("no".to_string()),
    );
    seen.pinned.insert(BRIDGE, Err("no".to_string()));
    let notes = judged(&at_port("br0", "port0"), &seen, &service());
    assert_found(&notes, &[]);
    assert_eq!(notes.unseen.len(), 4, "{notes:#?}");
}

/// The matrix as it was measured: which source the kernel takes, by the value that counts and where the route leads.
#[test]
fn rp_filter_drops_what_no_fitting_route_leads_to() {
    use Leads::{Elsewhere, Here, Nowhere};
    for (all, own, leads, mend) in [
        (0, 0, Here, None),
        (0, 0, Elsewhere, None),
        (0, 0, Nowhere, None),
        (0, 1, Here, None),
        (
            0,
            1,
            Elsewhere,
            Some("sysctl -w net.ipv4.conf.tap0.rp_filter=2"),
        ),
        (
            0,
            1,
            Nowhere,
            Some("sysctl -w net.ipv4.conf.tap0.rp_filter=0"),
        ),
        (0, 2, Here, None),
        (0, 2, Elsewhere, None),
        (
            0,
            2,
            Nowhere,
            Some("sysctl -w net.ipv4.conf.tap0.rp_filter=0"),
        ),
        // The greater one counts: setting the interface's own to 0 would change nothing.
        (1, 0, Here, None),
        (
            1,
            0,
            Elsewhere,
            Some("sysctl -w net.ipv4.conf.tap0.rp_filter=2"),
        ),
        (
            1,
            0,
            Nowhere,
            Some("sysctl -w net.ipv4.conf.all.rp_filter=0"),
        ),
        (1, 2, Elsewhere, None),
        (
            2,
            1,
            Nowhere,
            Some("sysctl -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.tap0.rp_filter=0"),
        ),
    ] {
        let wrong = rp_filter("tap0", (all, own), leads, "10.0.0.5");
        assert_eq!(
            wrong.map(|wrong| wrong.mend).as_deref(),
            mend,
            "{all} {own} {leads:?}"
        );
    }
}

#[test]
fn the_settings_of_arp_that_keep_a_guest_out() {
    for (all, own, mend) in [
        (0, 0, None),
        (1, 0, None),
        (0, 1, None),
        (0, 2, Some("sysctl -w net.ipv4.conf.tap0.arp_ignore=1")),
        (2, 3, None),
        (
            2,
            8,
            Some("sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.tap0.arp_ignore=1"),
        ),
    ] {
        assert_eq!(
            arp_ignore("tap0", (all, own))
                .map(|wrong| wrong.mend)
                .as_deref(),
            mend,
            "{all} {own}"
        );
    }
    for (all, own, leads, is_wrong) in [
        (0, 0, Leads::Nowhere, false),
        (1, 0, Leads::Here, false),
        (1, 0, Leads::Nowhere, true),
        (0, 1, Leads::Elsewhere, true),
    ] {
        assert_eq!(
            arp_filter("tap0", (all, own), leads, "10.0.0.5").is_some(),
            is_wrong,
            "{all} {own} {leads:?}"
        );
    }
}

#[test]
fn router_advertisements_are_heeded_by_hosts_that_do_not_forward() {
    for (accepts, forwards, heeds) in [
        (0, 0, false),
        (1, 0, true),
        (2, 0, true),
        (0, 1, false),
        (1, 1, false),
        (2, 1, true),
    ] {
        assert_eq!(
            accept_ra("tap0", accepts, forwards, false).is_some(),
            heeds,
            "{accepts} {forwards}"
        );
    }
}

/// A guest with two ways in uses one of its addresses on each.
#[test]
fn with_several_ways_in_one_address_that_fits_is_enough() {
    let mut instance = guest(&at_interface("tap0"));
    instance.network_interfaces = demo_instance().network_interfaces;
    let mut guest = Guest::of(&instance);
    guest.ipv4 = BTreeSet::from([Ipv4Addr::new(10, 0, 0, 5), Ipv4Addr::new(10, 0, 1, 5)]);
    let mut seen = sane(links(|_| {}));
    let here = Route {
        by: vec![TAP],
        is_direct: true,
        ..Route::default()
    };
    seen.routes
        .insert((Ipv4Addr::new(10, 0, 1, 5).into(), None), Ok(Some(here)));
    let device = seen.links.named("tap0").unwrap();
    assert_eq!(leads(device, &guest, &seen), Some(Leads::Nowhere));
    guest.ways = 2;
    assert_eq!(leads(device, &guest, &seen), Some(Leads::Here));
    guest.ipv4.clear();
    assert_eq!(leads(device, &guest, &seen), None);
}

#[test]
fn guests_look_alike_where_they_have_one_address() {
    let (tap, other) = (at_interface("tap0"), at_interface("eth0"));
    let (one, mut two) = (guest(&tap), guest(&other));
    two.instance_id = InstanceId::parse("i-00000002").unwrap();
    let alike = [one.clone(), two.clone()];
    let shared = sharing(&ways(&alike));
    assert_eq!(
        shared[&one.instance_id],
        ("10.0.0.5".parse().unwrap(), two.instance_id.clone())
    );
    assert_eq!(
        shared[&two.instance_id],
        ("10.0.0.5".parse().unwrap(), one.instance_id.clone())
    );
    // One that is not answered is not there.
    two.state = InstanceState::Stopped;
    assert_eq!(sharing(&ways(&[one.clone(), two.clone()])).len(), 0);
    two.state = InstanceState::Running;
    two.private_ip_address = Some("10.0.0.6".parse().unwrap());
    two.ipv6_address = None;
    assert_eq!(sharing(&ways(&[one, two])).len(), 0);
}

#[test]
fn guest_rules_are_asked_for_where_a_guest_needs_them() {
    let (own, port) = (at_interface("tap0"), at_port("br0", "port0"));
    let other = (
        "10.0.0.5".parse().unwrap(),
        InstanceId::parse("i-00000002").unwrap(),
    );
    let lacking = |what: &str| BTreeMap::from([(demo_instance().instance_id, what.to_string())]);
    // What of the rules was seen (whether any are loaded, and what the guest lacks), whether it looks like another.
    for (attachment, listed, is_alike, wrong, is_unseen) in [
        (&own, Ok((true, BTreeMap::new())), true, None, false),
        (&own, Ok((false, lacking("none"))), false, None, false),
        (
            &own,
            Ok((true, lacking("of another document"))),
            false,
            Some("guest rules: of another document"),
            false,
        ),
        (
            &own,
            Ok((false, lacking("none"))),
            true,
            Some("i-00000002 has the address 10.0.0.5 too"),
            false,
        ),
        (&own, Err("not permitted".to_string()), false, None, false),
        (&own, Err("not permitted".to_string()), true, None, true),
        (&port, Ok((true, BTreeMap::new())), false, None, false),
        (
            &port,
            Ok((false, lacking("none"))),
            false,
            Some("guest rules: none"),
            false,
        ),
        (&port, Err("not permitted".to_string()), false, None, true),
    ] {
        let instances = [guest(attachment)];
        let sharing = is_alike
            .then(|| (instances[0].instance_id.clone(), other.clone()))
            .into_iter()
            .collect();
        let mut notes = Notes::default();
        Rules {
            listed,
            sharing,
            load: "load",
        }
        .judge(&ways(&instances)[0], &mut notes);
        assert_found(
            &notes,
            &wrong.map(|what| vec![(what, "load")]).unwrap_or_default(),
        );
        assert_eq!(notes.unseen.len(), usize::from(is_unseen));
    }
}

#[test]
fn a_network_namespace_is_looked_at_from_inside() {
    let inside = |change: fn(&mut BTreeMap<&'static str, Link>), leads_to_guest: bool| {
        let mut seen = Seen {
            links: links(change),
            ..Seen::default()
        };
        for to in ["10.0.0.5", "fd11::5"] {
            let route = leads_to_guest.then(|| Route {
                by: vec![2],
                is_direct: true,
                ..Route::default()
            });
            seen.routes.insert((to.parse().unwrap(), None), Ok(route));
        }
        Ok(seen)
    };
    let without = |links: &mut BTreeMap<&'static str, Link>| {
        links.values_mut().for_each(|link| link.addresses.clear());
    };
    let table: [(&str, Result<Seen, Hidden>, Expected, usize); 8] = [
        (
            "blue",
            inside(
                |links| {
                    links.get_mut("eth0").unwrap().mtu = 1000;
                    links
                        .values_mut()
                        .for_each(|link| link.addresses.retain(IpAddr::is_ipv4));
                },
                true,
            ),
            &[(
                "the MTU of eth0 is 1000",
                "ip -n blue link set eth0 mtu 1280",
            )],
            0,
        ),
        ("blue", inside(|_| {}, true), &[], 0),
        (
            "blue",
            Err(Hidden::Missing),
            &[("no such network namespace", "ip netns add blue")],
            0,
        ),
        (
            "/var/run/x",
            Err(Hidden::Missing),
            &[(
                "no such file",
                "start what makes the network namespace, or correct the path in the guest's document",
            )],
            0,
        ),
        (
            "blue",
            Err(Hidden::Other),
            &[(
                "/run/netns/blue is not a network namespace",
                "ip netns delete blue && ip netns add blue",
            )],
            0,
        ),
        ("blue", Err(Hidden::Forbidden("no".to_string())), &[], 1),
        (
            "blue",
            inside(without, true),
            &[
                (
                    "no interface inside has the address 169",
                    "ip -n blue address add 169.254.169.254/32 dev eth0",
                ),
                (
                    "no interface inside has the address fd",
                    "ip -n blue address add fd00:ec2::254/128 dev eth0 nodad",
                ),
            ],
            0,
        ),
        (
            "/proc/9/ns/net",
            inside(|_| {}, false),
            &[
                (
                    "no route inside leads to 10.0.0.5",
                    "nsenter --net=/proc/9/ns/net ip route add 10.0.0.5/32 dev eth0",
                ),
                (
                    "no route inside leads to fd11::5",
                    "nsenter --net=/proc/9/ns/net ip -6 route add fd11::5/128 dev eth0",
                ),
            ],
            0,
        ),
    ];
    for (name, inside, expected, unseen) in table {
        let attachment = Attachment::NetworkNamespace(name.to_string());
        let instances = [guest(&attachment)];
        let mut notes = Notes::default();
        let path = Path::new("/run/netns").join(name);
        namespace(
            name,
            &path,
            &ways(&instances)[0],
            inside,
            &service(),
            &mut notes,
        );
        assert_found(&notes, expected);
        assert_eq!(notes.unseen.len(), unseen);
    }
}

#[test]
fn a_command_is_what_a_shell_takes_for_it() {
    for (text, quoted) in [
        ("tap0", "tap0"),
        ("br0.100", "br0.100"),
        ("a b", "'a b'"),
        ("$(reboot)", "'$(reboot)'"),
        ("it's;", r"'it'\''s;'"),
        ("", "''"),
    ] {
        assert_eq!(word(text), quoted);
    }
    let path = |interface: &str| format!("ipv4/conf/{interface}/rp_filter");
    assert_eq!(
        sysctl(&[(path("tap0"), 0)]),
        "sysctl -w net.ipv4.conf.tap0.rp_filter=0"
    );
    assert_eq!(
        sysctl(&[(path("a.b"), 0)]),
        "sysctl -w net/ipv4/conf/a.b/rp_filter=0"
    );
    assert_eq!(
        sysctl(&[(path("a=b"), 0)]),
        "echo 0 >'/proc/sys/net/ipv4/conf/a=b/rp_filter'"
    );
    assert_eq!(
        sysctl(&[(path("all"), 0), (path("a*=b"), 2)]),
        "echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter && echo 2 >'/proc/sys/net/ipv4/conf/a*=b/rp_filter'"
    );
    assert_eq!(
        sysctl(&[(path("a;b"), 0)]),
        "sysctl -w 'net.ipv4.conf.a;b.rp_filter'=0"
    );
}
