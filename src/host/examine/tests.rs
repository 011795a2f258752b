//! Every problem on made-up network states: the finding, and the exact command.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::commands::sysctl;
use super::probe::{DaemonState, NamespaceError};
use super::routing::{RouteToGuest, route_to_guest, rp_filter};
use super::rules::{LoadedRules, shared_addresses};
use super::settings::{accept_ra, arp_filter, arp_ignore};
use super::unusable::{DuplicateDetection, UnusableAddress};
use super::*;
use crate::config::demo_instance;
use crate::host::guest_rules::{Interference, TableName};
use crate::host::guests::{HostGuest, attachments};
use crate::host::netlink::{Link, Links, Route};
use crate::instance::{BridgePort, Instance, InstanceId};
use crate::origin::Family;

const IPV4: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
const IPV6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
const TAP: u32 = 3;
const BRIDGE: u32 = 5;
const PORT: u32 = 6;

fn service() -> MetadataService {
    MetadataService {
        ipv4: IPV4,
        ipv6: IPV6,
        address_owner: AddressOwner::Operator,
        host_metadata: HostMetadata::Kept,
        daemon: None,
        rules_table: TableName::ending_in("test"),
        load_rules: "load".to_string(),
    }
}

/// For each finding, a part of its text, and its whole command.
type Expected = &'static [(&'static str, &'static str)];

/// A guest with 10.0.0.5 and fd11::5.
fn guest(attachment: &Attachment) -> Instance {
    let mut instance = demo_instance();
    instance.private_ip_address = Some("10.0.0.5".parse().unwrap());
    instance.ipv6_address = Some("fd11::5".parse().unwrap());
    instance.network_interfaces = Vec::new();
    instance.imds.attachments = vec![attachment.clone().into()];
    instance
}

fn at_interface(name: &str) -> Attachment {
    Attachment::Interface(name.into())
}

fn at_port(bridge: &str, port: &str) -> Attachment {
    Attachment::BridgePort(BridgePort {
        bridge: bridge.into(),
        port: port.into(),
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
        let mut link = Link::example(index, name, kind);
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

/// A host on which guests at tap0, port0 of br0 and port0 of br0.100 are served.
fn sane(links: Links) -> NetworkState {
    let mut state = NetworkState {
        links,
        ..NetworkState::default()
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
            state
                .settings
                .insert(setting.replace("IF", interface), value);
        }
    }
    state
        .settings
        .insert("ipv4/tcp_fwmark_accept".to_string(), 1);
    for index in [TAP, BRIDGE, 10] {
        let direct = Route {
            links: vec![index],
            is_direct: true,
            ..Route::default()
        };
        for to in ["10.0.0.5", "fd11::5"] {
            let to: IpAddr = to.parse().unwrap();
            state
                .routes
                .insert((to, Some(index)), Ok(to.is_ipv6().then(|| direct.clone())));
            state.routes.insert((to, None), Ok(None));
        }
    }
    state.fixed_macs.insert(BRIDGE, Ok(true));
    state
}

/// The attachments of a guest that uses both address families.
fn attached(instance: &Instance) -> Vec<GuestAttachment<'_>> {
    attachments(
        instance,
        &Family::ALL,
        &crate::instance::LinkIdentities::default(),
    )
}

/// What [`examine`] reports for an attachment on this host.
fn checked(attachment: &Attachment, state: &NetworkState, service: &MetadataService) -> Report {
    let instance = guest(attachment);
    let attachments = attached(&instance);
    let mut report = Report::default();
    check_on_host(&attachments[0], &attachments, state, service, &mut report);
    report
}

/// Compares the findings with the expected ones.
fn assert_found(report: &Report, expected: &[(&str, &str)]) {
    assert_eq!(report.problems.len(), expected.len(), "{report:#?}");
    for (problem, (what, fix)) in report.problems.iter().zip(expected) {
        assert!(problem.what.contains(what), "{what:?} in {problem:#?}");
        assert_eq!(problem.fix, *fix);
    }
}

#[test]
fn a_host_that_serves_its_guests_has_no_findings() {
    for attachment in [
        at_interface("tap0"),
        at_port("br0", "port0"),
        at_port("br0.100", "port0"),
    ] {
        let report = checked(&attachment, &sane(links(|_| {})), &service());
        assert_found(&report, &[]);
        assert_eq!(report.unchecked, Vec::<String>::new(), "{attachment}");
    }
}

#[test]
fn an_attachment_must_exist_be_up_and_be_of_its_kind() {
    type Change = fn(&mut BTreeMap<&'static str, Link>);
    let table: [(Attachment, Change, Expected); 12] = [
        (
            at_interface("tap00"),
            |_| {},
            &[(
                "no interface tap00; did you mean tap0?",
                "start the guest so that its hypervisor creates the interface, or correct the name in its document",
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
                r#"in the document of i-0123456789abcdef0, use the attachment {"BridgePort": {"Bridge": "br0", "Port": "port0", "Mark": 1}}"#,
            )],
        ),
        (
            at_interface("tap0"),
            |links| links.get_mut("tap0").unwrap().controller = Some(8),
            &[("part of bond0 (bond)", "ip link set tap0 nomaster")],
        ),
        (
            at_interface("tap0"),
            |links| links.get_mut("tap0").unwrap().controller = Some(7),
            &[(
                "in VRF tenant, where the host's own processes cannot be distinguished from the guest",
                "ip link set tap0 nomaster",
            )],
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
                "ovs-system is not a Linux bridge (openvswitch)",
                "use a Linux bridge, or attach the guest by an interface of its own",
            )],
        ),
        (
            at_port("eth0", "port0"),
            |_| {},
            &[(
                "eth0 is not a Linux bridge (hardware)",
                "use a Linux bridge, or attach the guest by an interface of its own",
            )],
        ),
    ];
    for (attachment, change, expected) in table {
        assert_found(
            &checked(&attachment, &sane(links(change)), &service()),
            expected,
        );
    }
}

#[test]
fn each_problem_of_an_interface_is_found_with_its_command() {
    let set = |state: &mut NetworkState, path: &str, value| {
        state.settings.insert(path.to_string(), value);
    };
    let lacking = |address: IpAddr| {
        move |state: &mut NetworkState| {
            state.links = links(|links| {
                links.get_mut("tap0").unwrap().addresses.remove(&address);
            });
        }
    };
    let routed = |to: &str, bound, route: Option<Route>| {
        let to: IpAddr = to.parse().unwrap();
        move |state: &mut NetworkState| drop(state.routes.insert((to, bound), Ok(route.clone())))
    };
    type Change<'c> = Box<dyn Fn(&mut NetworkState) + 'c>;
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
            Box::new(|state| {
                lacking(IPV6.into())(state);
                state.unusable.push(UnusableAddress {
                    index: TAP,
                    address: IPV6,
                    prefix: 64,
                    detection: DuplicateDetection::Failed,
                });
            }),
            &[(
                "a node behind the interface claimed it first",
                "ip address del fd00:ec2::254/64 dev tap0 && ip address add fd00:ec2::254/128 dev tap0 nodad",
            )],
        ),
        // Nothing else about IPv6 can be fixed before the MTU.
        (
            at_interface("tap0"),
            Box::new(|state| {
                state.links = links(|links| {
                    let link = links.get_mut("tap0").unwrap();
                    link.mtu = 1279;
                    link.addresses.remove(&IPV6.into());
                });
                state
                    .settings
                    .retain(|path, _| !path.starts_with("ipv6/conf/tap0/"));
                state
                    .routes
                    .insert(("fd11::5".parse().unwrap(), Some(TAP)), Ok(None));
            }),
            &[("the MTU of tap0 is 1279", "ip link set tap0 mtu 1280")],
        ),
        (
            at_interface("tap0"),
            Box::new(|state| set(state, "ipv6/conf/tap0/disable_ipv6", 1)),
            &[(
                "IPv6 is disabled on tap0",
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
        // The guest is behind a router.
        (
            at_interface("tap0"),
            Box::new(routed(
                "fd11::5",
                Some(TAP),
                Some(Route {
                    links: vec![TAP],
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
                    links: vec![BRIDGE],
                    is_direct: false,
                    ..Route::default()
                }),
            )),
            &[(
                "only a route through a gateway",
                "ip -6 route add fd11::5/128 dev br0 metric 1073741829",
            )],
        ),
        (
            at_port("br0", "port0"),
            Box::new(routed(
                "10.0.0.5",
                Some(BRIDGE),
                Some(Route {
                    links: vec![BRIDGE],
                    is_direct: false,
                    ..Route::default()
                }),
            )),
            &[(
                "only a route through a gateway",
                "ip route add 10.0.0.5/32 dev br0 metric 1073741829",
            )],
        ),
        (
            at_interface("tap0"),
            Box::new(|state| set(state, "ipv4/conf/tap0/rp_filter", 2)),
            &[(
                "rp_filter is 2 (loose) on tap0",
                "sysctl -w net.ipv4.conf.tap0.rp_filter=0",
            )],
        ),
        (
            at_port("br0.100", "port0"),
            Box::new(|state| set(state, "ipv4/conf/br0.100/rp_filter", 2)),
            &[(
                "rp_filter is 2",
                "sysctl -w net/ipv4/conf/br0.100/rp_filter=0",
            )],
        ),
        (
            at_interface("tap0"),
            Box::new(|state| set(state, "ipv4/conf/all/arp_ignore", 8)),
            &[(
                "no ARP request is answered",
                "sysctl -w net.ipv4.conf.all.arp_ignore=1",
            )],
        ),
        (
            at_interface("tap0"),
            Box::new(|state| set(state, "ipv4/conf/all/arp_filter", 1)),
            &[(
                "arp_filter is on",
                "sysctl -w net.ipv4.conf.all.arp_filter=0",
            )],
        ),
        (
            at_interface("tap0"),
            Box::new(|state| {
                state.links = links(|links| {
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
            Box::new(|state| set(state, "ipv6/conf/tap0/accept_ra", 1)),
            &[(
                "the guest could give the host a default route",
                "sysctl -w net.ipv6.conf.tap0.accept_ra=0",
            )],
        ),
        (
            at_port("br0", "port0"),
            Box::new(|state| set(state, "ipv4/tcp_fwmark_accept", 0)),
            &[(
                "tcp_fwmark_accept is 0",
                "sysctl -w net.ipv4.tcp_fwmark_accept=1",
            )],
        ),
        (
            at_interface("tap0"),
            Box::new(|state| set(state, "ipv4/tcp_fwmark_accept", 0)),
            &[],
        ),
        (
            at_port("br0", "port0"),
            Box::new(|state| drop(state.fixed_macs.insert(BRIDGE, Ok(false)))),
            &[(
                "br0 has no fixed MAC",
                "ip link set br0 address 02:00:00:00:00:05",
            )],
        ),
        (
            at_port("br0.100", "port0"),
            Box::new(|state| drop(state.fixed_macs.insert(BRIDGE, Ok(false)))),
            &[(
                "br0 has no fixed MAC",
                "ip link set br0 address 02:00:00:00:00:05",
            )],
        ),
    ];
    for (attachment, change, expected) in table {
        let mut state = sane(links(|_| {}));
        change(&mut state);
        assert_found(&checked(&attachment, &state, &service()), expected);
    }
}

#[test]
fn addresses_that_a_stopped_daemon_would_add_are_not_missing() {
    let mut state = sane(links(|links| {
        links.get_mut("tap0").unwrap().addresses.clear()
    }));
    state
        .routes
        .insert(("fd11::5".parse().unwrap(), Some(TAP)), Ok(None));
    let managed = MetadataService {
        address_owner: AddressOwner::Daemon,
        ..service()
    };
    assert_found(&checked(&at_interface("tap0"), &state, &managed), &[]);
    assert_eq!(
        checked(&at_interface("tap0"), &state, &service())
            .problems
            .len(),
        3
    );
    // An unusable address that something else added keeps the daemon from adding its own.
    state.unusable.push(UnusableAddress {
        index: TAP,
        address: IPV6,
        prefix: 64,
        detection: DuplicateDetection::Pending,
    });
    let expected = [("needs nodad", "ip address del fd00:ec2::254/64 dev tap0")];
    assert_found(&checked(&at_interface("tap0"), &state, &managed), &expected);
}

#[test]
fn addresses_that_a_running_daemon_has_not_added_are_missing() {
    let managed = MetadataService {
        address_owner: AddressOwner::Daemon,
        ..service()
    };
    let capability =
        "give imdsd CAP_NET_ADMIN, as systemd/manage-addresses.conf does, and restart it";
    let explain = "see the reason in its log, or run: imdsd instance explain i-0123456789abcdef0";
    let running = |may_change_interfaces| DaemonState::Running {
        may_change_interfaces,
    };
    for (daemon, fix, unchecked) in [
        (DaemonState::Absent, None, 0),
        (running(Some(false)), Some(capability), 0),
        (running(Some(true)), Some(explain), 0),
        (running(None), Some(explain), 0),
        (DaemonState::Unknown("not permitted".to_string()), None, 2),
    ] {
        let mut state = sane(links(|links| {
            links.get_mut("tap0").unwrap().addresses.clear()
        }));
        state.daemon = daemon;
        let report = checked(&at_interface("tap0"), &state, &managed);
        let fixes: Vec<&str> = report
            .problems
            .iter()
            .map(|problem| problem.fix.as_str())
            .collect();
        assert_eq!(
            fixes,
            fix.map(|fix| [fix; 2])
                .iter()
                .flatten()
                .copied()
                .collect::<Vec<_>>()
        );
        assert_eq!(report.unchecked.len(), unchecked, "{report:#?}");
        // With both addresses present, nothing is found.
        let state = NetworkState {
            daemon: state.daemon,
            ..sane(links(|_| {}))
        };
        let report = checked(&at_interface("tap0"), &state, &managed);
        assert_eq!(
            (report.problems.len(), report.unchecked.len()),
            (0, 0),
            "{report:#?}"
        );
    }
}

/// No printed command cuts the host off from a metadata service that it uses itself.
#[test]
fn no_command_adds_an_address_to_a_host_that_uses_a_metadata_service() {
    let mut state = sane(links(|links| {
        links.get_mut("tap0").unwrap().addresses.clear()
    }));
    state.host_metadata = Some("there is a route".to_string());
    state.unusable.push(UnusableAddress {
        index: TAP,
        address: IPV6,
        prefix: 64,
        detection: DuplicateDetection::Failed,
    });
    state
        .settings
        .insert("ipv4/conf/tap0/rp_filter".to_string(), 2);
    let first = "the host seems to use a metadata service of its own (there is a route)";
    for address_owner in [AddressOwner::Operator, AddressOwner::Daemon] {
        let report = checked(
            &at_interface("tap0"),
            &state,
            &MetadataService {
                address_owner,
                ..service()
            },
        );
        let [own, rest @ ..] = &report.problems[..] else {
            panic!("{report:#?}")
        };
        assert!(own.what.starts_with(first), "{own:#?}");
        assert!(
            report
                .problems
                .iter()
                .all(|problem| !problem.fix.contains("ip address")),
            "{report:#?}"
        );
        assert_eq!(rest.len(), 1, "{report:#?}");
    }
    // An address that is already there cuts the host off as well.
    let mut state = sane(links(|_| {}));
    state.host_metadata = Some("there is a route".to_string());
    assert_eq!(
        checked(&at_interface("tap0"), &state, &service())
            .problems
            .len(),
        1
    );
}

#[test]
fn what_could_not_be_read_is_reported() {
    let mut state = sane(links(|_| {}));
    state.settings.clear();
    state.routes.insert(
        ("fd11::5".parse().unwrap(), Some(BRIDGE)),
        Err("no".to_string()),
    );
    state.fixed_macs.insert(BRIDGE, Err("no".to_string()));
    let report = checked(&at_port("br0", "port0"), &state, &service());
    assert_found(&report, &[]);
    assert_eq!(report.unchecked.len(), 4, "{report:#?}");
}

/// As measured: which source the kernel accepts, by the effective value and the route to the
/// source.
#[test]
fn rp_filter_drops_packets_whose_source_has_no_matching_route() {
    use RouteToGuest::{Missing, OtherInterface, SameInterface};
    for (all, own, route, fix) in [
        (0, 0, SameInterface, None),
        (0, 0, OtherInterface, None),
        (0, 0, Missing, None),
        (0, 1, SameInterface, None),
        (
            0,
            1,
            OtherInterface,
            Some("sysctl -w net.ipv4.conf.tap0.rp_filter=2"),
        ),
        (
            0,
            1,
            Missing,
            Some("sysctl -w net.ipv4.conf.tap0.rp_filter=0"),
        ),
        (0, 2, SameInterface, None),
        (0, 2, OtherInterface, None),
        (
            0,
            2,
            Missing,
            Some("sysctl -w net.ipv4.conf.tap0.rp_filter=0"),
        ),
        // The greater value applies: setting the interface's own value to 0 would change nothing.
        (1, 0, SameInterface, None),
        (
            1,
            0,
            OtherInterface,
            Some("sysctl -w net.ipv4.conf.tap0.rp_filter=2"),
        ),
        (
            1,
            0,
            Missing,
            Some("sysctl -w net.ipv4.conf.all.rp_filter=0"),
        ),
        (1, 2, OtherInterface, None),
        (
            2,
            1,
            Missing,
            Some("sysctl -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.tap0.rp_filter=0"),
        ),
    ] {
        let problem = rp_filter("tap0", (all, own), route, "10.0.0.5");
        assert_eq!(
            problem.map(|problem| problem.fix).as_deref(),
            fix,
            "{all} {own} {route:?}"
        );
    }
}

#[test]
fn arp_settings_that_keep_a_guest_from_the_service_are_found() {
    for (all, own, fix) in [
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
                .map(|problem| problem.fix)
                .as_deref(),
            fix,
            "{all} {own}"
        );
    }
    for (all, own, route, is_problem) in [
        (0, 0, RouteToGuest::Missing, false),
        (1, 0, RouteToGuest::SameInterface, false),
        (1, 0, RouteToGuest::Missing, true),
        (0, 1, RouteToGuest::OtherInterface, true),
    ] {
        assert_eq!(
            arp_filter("tap0", (all, own), route, "10.0.0.5").is_some(),
            is_problem,
            "{all} {own} {route:?}"
        );
    }
}

#[test]
fn hosts_that_do_not_forward_accept_router_advertisements() {
    for (accepts, forwards, is_accepted) in [
        (0, 0, false),
        (1, 0, true),
        (2, 0, true),
        (0, 1, false),
        (1, 1, false),
        (2, 1, true),
    ] {
        assert_eq!(
            accept_ra("tap0", accepts, forwards, false).is_some(),
            is_accepted,
            "{accepts} {forwards}"
        );
    }
}

/// A guest with two attachments uses one of its addresses on each.
#[test]
fn with_several_attachments_one_address_with_a_matching_route_is_enough() {
    let instance = guest(&at_interface("tap0"));
    let mut guest = attached(&instance)[0].guest.clone();
    guest.ipv4 = BTreeSet::from([Ipv4Addr::new(10, 0, 0, 5), Ipv4Addr::new(10, 0, 1, 5)]);
    let mut state = sane(links(|_| {}));
    let here = Route {
        links: vec![TAP],
        is_direct: true,
        ..Route::default()
    };
    state
        .routes
        .insert((Ipv4Addr::new(10, 0, 1, 5).into(), None), Ok(Some(here)));
    let route = |guest: &HostGuest| {
        route_to_guest(&GuestDevice {
            link: state.links.named("tap0").unwrap(),
            guest,
            is_bridge: false,
            network: &state,
            service: &service(),
        })
    };
    assert_eq!(route(&guest), Some(RouteToGuest::Missing));
    guest.attachments = 2;
    assert_eq!(route(&guest), Some(RouteToGuest::SameInterface));
    guest.ipv4.clear();
    assert_eq!(route(&guest), None);
}

#[test]
fn guests_with_the_same_address_are_found() {
    let (one, mut two) = (guest(&at_interface("tap0")), guest(&at_interface("eth0")));
    two.instance_id = InstanceId::parse("i-00000002").unwrap();
    let shared = shared_addresses(&[attached(&one), attached(&two)].concat());
    assert_eq!(
        shared[&one.instance_id],
        ("10.0.0.5".parse().unwrap(), two.instance_id.clone())
    );
    assert_eq!(
        shared[&two.instance_id],
        ("10.0.0.5".parse().unwrap(), one.instance_id.clone())
    );
    // An instance without listeners has no guest.
    let stopped = attachments(&two, &[], &crate::instance::LinkIdentities::default());
    assert_eq!(
        shared_addresses(&[attached(&one), stopped].concat()).len(),
        0
    );
    two.private_ip_address = Some("10.0.0.6".parse().unwrap());
    two.ipv6_address = None;
    let different = [attached(&one), attached(&two)].concat();
    assert_eq!(shared_addresses(&different).len(), 0);
}

#[test]
fn guest_rules_are_missing_only_if_a_guest_needs_them() {
    let (own, port) = (at_interface("tap0"), at_port("br0", "port0"));
    let other = (
        "10.0.0.5".parse().unwrap(),
        InstanceId::parse("i-00000002").unwrap(),
    );
    let id = demo_instance().instance_id;
    let loaded = |exist, lacking: Option<&str>| {
        let lacking = lacking.map(|what| (id.clone(), what.to_string()));
        Ok(LoadedRules {
            exist,
            lacking: lacking.into_iter().collect(),
            interfering: BTreeMap::new(),
        })
    };
    let unknown = || Err("not permitted".to_string());
    let shares = "i-00000002 has the address 10.0.0.5 too";
    // (attachment, loaded rules, shares its address, expected finding, unchecked)
    #[rustfmt::skip]
    let table = [
        (&own, loaded(true, None), true, None, false),
        (&own, loaded(false, Some("none")), false, None, false),
        (&own, loaded(true, Some("an old document")), false, Some("guest rules: an old document"), false),
        (&own, loaded(false, Some("none")), true, Some(shares), false),
        (&own, unknown(), false, None, false),
        (&own, unknown(), true, None, true),
        (&port, loaded(true, None), false, None, false),
        (&port, loaded(false, Some("none")), false, Some("guest rules: none"), false),
        (&port, unknown(), false, None, true),
    ];
    for (attachment, loaded, shares_address, expected, is_unchecked) in table {
        let instance = guest(attachment);
        let shared = shares_address.then(|| (instance.instance_id.clone(), other.clone()));
        let mut report = Report::default();
        RulesCheck {
            loaded,
            shared: shared.into_iter().collect(),
            load: "load",
        }
        .check(&attached(&instance)[0], &mut report);
        let expected: Vec<_> = expected.map(|what| (what, "load")).into_iter().collect();
        assert_found(&report, &expected);
        assert_eq!(report.unchecked.len(), usize::from(is_unchecked));
    }
}

#[test]
fn rules_of_other_tables_that_interfere_are_found() {
    let id = demo_instance().instance_id;
    let none: Expected = &[];
    #[rustfmt::skip]
    let table = [
        (None, none),
        (Some(Interference::Earlier), &[("an earlier version loaded", "load")]),
        (
            Some(Interference::Mark("bridge imdsd-red".to_string())),
            &[(
                "a guest of the table bridge imdsd-red has the same mark",
                "in the document of one of them, use another mark: every bridge port of a host needs its own",
            )],
        ),
        (
            Some(Interference::Guest("inet imdsd-red".to_string())),
            &[(
                "the table inet imdsd-red has rules for this guest too",
                "nft delete table inet imdsd-red, if it is this daemon's under an earlier name; otherwise remove the \
                 guest from the other daemon's documents",
            )],
        ),
    ];
    for (interference, expected) in table {
        let loaded = LoadedRules {
            exist: true,
            lacking: BTreeMap::new(),
            interfering: interference
                .map(|of| (id.clone(), of))
                .into_iter()
                .collect(),
        };
        let mut report = Report::default();
        RulesCheck {
            loaded: Ok(loaded),
            shared: BTreeMap::new(),
            load: "load",
        }
        .check(&attached(&guest(&at_port("br0", "port0")))[0], &mut report);
        assert_found(&report, expected);
    }
}

#[test]
fn a_network_namespace_is_checked_from_inside() {
    let inside = |change: fn(&mut BTreeMap<&'static str, Link>), leads_to_guest: bool| {
        let mut state = NetworkState {
            links: links(change),
            ..NetworkState::default()
        };
        for to in ["10.0.0.5", "fd11::5"] {
            let route = leads_to_guest.then(|| Route {
                links: vec![2],
                is_direct: true,
                ..Route::default()
            });
            state.routes.insert((to.parse().unwrap(), None), Ok(route));
        }
        Ok(state)
    };
    let without = |links: &mut BTreeMap<&'static str, Link>| {
        links.values_mut().for_each(|link| link.addresses.clear());
    };
    let table: [(&str, Result<NetworkState, NamespaceError>, Expected, usize); 8] = [
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
            Err(NamespaceError::Missing),
            &[("no such network namespace", "ip netns add blue")],
            0,
        ),
        (
            "/var/run/x",
            Err(NamespaceError::Missing),
            &[(
                "no such file",
                "start what creates the network namespace, or correct the path in the guest's document",
            )],
            0,
        ),
        (
            "blue",
            Err(NamespaceError::OtherFile),
            &[(
                "/run/netns/blue is not a network namespace",
                "ip netns delete blue && ip netns add blue",
            )],
            0,
        ),
        (
            "blue",
            Err(NamespaceError::Inaccessible("no".to_string())),
            &[],
            1,
        ),
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
    for (name, inside, expected, unchecked) in table {
        let attachment = Attachment::NetworkNamespace(name.into());
        let instance = guest(&attachment);
        let mut report = Report::default();
        let guest = &attached(&instance)[0].guest;
        namespace::check(name, guest, inside, &service(), &mut report);
        assert_found(&report, expected);
        assert_eq!(report.unchecked.len(), unchecked);
    }
}

#[test]
fn commands_are_quoted_for_a_shell() {
    for (text, quoted) in [
        ("tap0", "tap0"),
        ("br0.100", "br0.100"),
        ("a b", "'a b'"),
        ("$(reboot)", "'$(reboot)'"),
        ("it's;", r"'it'\''s;'"),
        ("", "''"),
    ] {
        assert_eq!(shell_word(text), quoted);
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
