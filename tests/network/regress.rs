//! Attacks on the network side that once worked. Each test is named after the behaviour that
//! prevents it, and the comment above it describes the attack.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::imdsd::{Imdsd, MANAGE, id, instance, on_interface, with_addresses, with_option};
use crate::lab::{
    HOST, INSTANCE_ID, IPV4, IPV6, Lab, SocketOpener, Wire, eventually, get, request_on,
};
use crate::support::{PATIENCE, require};

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

/// More than an immediate reaction takes, and less than the second between two checks of the
/// daemon.
const AT_ONCE: Duration = Duration::from_millis(500);

fn open(instance: Value) -> Value {
    with_option(instance, "HttpTokens", "optional")
}

/// Two guests with the same addresses, each on an interface that the daemon prepares.
fn two_guests() -> [Value; 2] {
    [(1, &ONE), (2, &TWO)].map(|(number, wire)| {
        open(with_addresses(
            on_interface(number, wire.tap),
            wire.mac,
            "10.0.0.5",
            "fd11::5",
        ))
    })
}

fn start() -> (Lab, Imdsd) {
    let lab = Lab::new();
    lab.guest(&ONE);
    lab.guest(&TWO);
    let imdsd = Imdsd::start(&lab, MANAGE, &two_guests());
    (lab, imdsd)
}

fn reads(socket: &SocketOpener, address: &str) -> Option<String> {
    let answer = socket.try_ask(address, &get(INSTANCE_ID), AT_ONCE).ok()?;
    (answer.status == 200).then_some(answer.body)
}

/// Returns how many addresses and routes the daemon added to an interface, as `ip` shows them.
fn count_on(lab: &Lab, interface: &str) -> usize {
    let addresses = lab.sh(HOST, &format!("ip -o address show dev {interface}"));
    let service = ["169.254.169.254/32", "fd00:ec2::254/128"]
        .map(|address| addresses.matches(address).count());
    let routes = lab.sh(HOST, &format!("ip -6 route show proto 169 dev {interface}"));
    service.iter().sum::<usize>() + routes.lines().count()
}

const ALL: usize = 3;

fn send(imdsd: &Imdsd, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(imdsd.pid() as i32).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// Runs `imdsd instance …` with a document on standard input.
fn operate(lab: &Lab, imdsd: &Imdsd, arguments: &[&str], document: &Value) {
    let path = imdsd.directory.path().join("document.json");
    std::fs::write(&path, document.to_string()).unwrap();
    let mut command = lab.command(HOST, env!("CARGO_BIN_EXE_imdsd"));
    command
        .args(["instance", arguments[0], "--socket"])
        .arg(imdsd.directory.path().join("run/admin.sock"));
    command.args(&arguments[1..]);
    if arguments[0] == "put" {
        command.arg(path);
    }
    let said = command.output().unwrap();
    assert!(said.status.success(), "{said:?}");
}

/// Registers an instance from a document that is alone at a reload: beside the others it would be
/// refused, as a put is.
fn register(lab: &Lab, imdsd: &Imdsd, document: &Value) {
    let directory = imdsd.directory.path();
    let (documents, aside) = (directory.join("instances.d"), directory.join("aside"));
    std::fs::rename(&documents, &aside).unwrap();
    std::fs::create_dir(&documents).unwrap();
    std::fs::write(documents.join("rival.json"), document.to_string()).unwrap();
    let mut command = lab.command(HOST, env!("CARGO_BIN_EXE_imdsd"));
    command
        .args(["reload", "--socket"])
        .arg(directory.join("run/admin.sock"));
    let said = command.output().unwrap();
    assert!(said.status.success(), "{said:?}");
    std::fs::remove_dir_all(&documents).unwrap();
    std::fs::rename(&aside, &documents).unwrap();
}

fn kept_alive(socket: &SocketOpener, number: u32) -> TcpStream {
    let mut stream = socket.connect(IPV4).unwrap();
    assert_eq!(
        request_on(&mut stream, &get(INSTANCE_ID)).unwrap().body,
        id(number)
    );
    stream
}

/// Returns the connections to the service for which the host still has a socket, with their unsent
/// data.
fn connections(lab: &Lab) -> String {
    lab.sh(
        HOST,
        "ss -Htan state all '( sport = :80 )' | grep -v LISTEN | grep -v TIME-WAIT || true",
    )
}

/// Attack: netlink messages overflow the daemon's queue. The daemon waited forever for an answer or
/// a message that was lost: it prepared no more interfaces, and SIGTERM had no effect.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn an_overrun_of_the_netlink_queue_does_not_stop_the_daemon() {
    let (lab, mut imdsd) = start();
    eventually("tap1 is prepared", || count_on(&lab, "tap1") == ALL);
    lab.sh(HOST, "ip link add zz type veth peer name zy");
    send(&imdsd, rustix::process::Signal::STOP);
    lab.ip(
        HOST,
        &[],
        &"link set zz up\nlink set zz down\n".repeat(3000),
    );
    lab.sh(HOST, "ip link set tap1 down; ip link set tap1 up");
    send(&imdsd, rustix::process::Signal::CONT);
    imdsd.wait_for(|line| {
        line["message"]
            .as_str()
            .is_some_and(|text| text.contains("messages about links were lost"))
    });
    let guest = lab.sockets("g1");
    for address in [IPV4, IPV6] {
        eventually("the guest is served", || {
            reads(&guest, address) == Some(id(1))
        });
    }
    assert_eq!(count_on(&lab, "tap1"), ALL);
    imdsd.terminate();
    assert_eq!(count_on(&lab, "tap1") + count_on(&lab, "tap2"), 0);
}

/// Attack: a guest floods the host with router advertisements, and the kernel sends a message about
/// each address change. The daemon took every link for a new one and closed every guest's
/// connections; during the flood it saw no addresses.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn a_guest_that_floods_the_host_with_router_advertisements_does_not_affect_other_guests() {
    let lab = Lab::new();
    lab.guest(&ONE);
    lab.guest(&TWO);
    // The idle connection waits longer than the default timeout of a request.
    let imdsd = Imdsd::start(
        &lab,
        &format!("{MANAGE}[guest]\nhead_seconds = 60\n"),
        &two_guests(),
    );
    lab.sh(
        HOST,
        "sysctl -qw net.ipv6.conf.tap1.accept_ra=2 net.ipv6.conf.tap1.accept_dad=0",
    );
    let other = lab.sockets("g2");
    eventually("the other guest is served", || {
        reads(&other, IPV6) == Some(id(2))
    });
    eventually("tap2 is prepared", || count_on(&lab, "tap2") == ALL);
    let mut kept = kept_alive(&other, 2);
    send(&imdsd, rustix::process::Signal::STOP);
    lab.sh(HOST, "ip address del 169.254.169.254/32 dev tap2");
    let flood = |count: usize| {
        lab.script("g1", "advertise.py")
            .args(["eth0", &count.to_string()])
            .output()
            .unwrap()
    };
    assert!(flood(20_000).status.success());
    let lost = lab.sh(
        HOST,
        "awk 'NR > 1 { lost += $9 } END { print lost }' /proc/net/netlink",
    );
    assert_ne!(lost.trim(), "0", "the flood is not large enough");
    lab.sh(HOST, "ip -6 address del fd00:ec2::254/128 dev tap2");
    send(&imdsd, rustix::process::Signal::CONT);
    // The flood lasts longer than the checks below take.
    let mut flooding = lab.script("g1", "advertise.py");
    let flooding = crate::lab::Lines::of(flooding.args(["eth0", "1000000000"]));
    eventually("what was lost in the flood is found", || {
        count_on(&lab, "tap2") == ALL
    });
    assert!(flooding.next(Duration::ZERO).is_none(), "it is still at it");
    drop(flooding);
    assert_eq!(
        request_on(&mut kept, &get(INSTANCE_ID))
            .expect("it was not cut")
            .body,
        id(2)
    );
}

/// Attack: root in a namespace may destroy any socket in it, including the daemon's. The accept
/// loop continued with a dead socket.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn a_listening_socket_that_a_guest_destroyed_is_replaced() {
    let lab = Lab::new();
    lab.add("pod1");
    lab.sh("pod1", "ip address add 169.254.169.254/32 dev lo");
    let attached = instance(1, json!([{ "NetworkNamespace": "pod1" }]));
    let mut imdsd = Imdsd::start(
        &lab,
        MANAGE,
        &[open(with_option(attached, "HttpProtocolIpv6", "disabled"))],
    );
    let guest = lab.sockets("pod1");
    eventually("the guest is served", || reads(&guest, IPV4) == Some(id(1)));
    for _ in 0..2 {
        let destroyed = lab.sh("pod1", "ss -K -Hltn sport = :80");
        require(
            !destroyed.is_empty(),
            "a kernel that lets root destroy sockets (INET_DIAG_DESTROY)",
        );
        imdsd.wait_for(|line| line["message"] == "listening socket closed");
        eventually("the guest is served again", || {
            reads(&guest, IPV4) == Some(id(1))
        });
    }
    imdsd.terminate();
}

/// Messages about the daemon's own addresses arrived on the connection for requests and were lost.
/// The daemon noticed a removed address only in its check once a second, and added everything again
/// each time.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn a_removed_address_is_restored_as_soon_as_the_kernel_reports_it() {
    let (lab, _imdsd) = start();
    eventually("tap1 is prepared", || count_on(&lab, "tap1") == ALL);
    // The kernel's messages about the address, with their times: `ip` takes longer to start than
    // the daemon to react.
    let monitor = crate::lab::Lines::of(
        lab.command(HOST, "ip")
            .args(["-4", "-o", "-ts", "monitor", "address"]),
    );
    eventually("the monitor is there", || {
        lab.sh(
            HOST,
            "ip address add 192.0.2.1/32 dev lo; ip address del 192.0.2.1/32 dev lo",
        );
        monitor.next(Duration::from_millis(100)).is_some()
    });
    let at = || {
        let line = loop {
            let line = monitor.next(PATIENCE).expect("the kernel reports it");
            if line.contains(" tap1 ") {
                break line;
            }
        };
        let time = line
            .strip_prefix('[')
            .and_then(|rest| rest.split(']').next())
            .expect("a time");
        let clock = time
            .split('T')
            .nth(1)
            .expect("a time of day")
            .split(':')
            .map(|part| part.parse::<f64>().unwrap());
        (clock.fold(0.0, |sum, part| 60.0 * sum + part), line)
    };
    let mut missed: Vec<f64> = Vec::new();
    for _ in 0..8 {
        lab.sh(HOST, "ip address del 169.254.169.254/32 dev tap1");
        let ((gone, deleted), (back, added)) = (at(), at());
        assert!(
            deleted.contains("Deleted") && !added.contains("Deleted"),
            "{deleted} {added}"
        );
        missed.push((back - gone).rem_euclid(24.0 * 3600.0));
        eventually("it is back", || count_on(&lab, "tap1") == ALL);
    }
    // With a check once a second, half of the removals would be noticed after more than half a
    // second.
    missed.sort_by(f64::total_cmp);
    assert!(
        missed[missed.len() / 2] < AT_ONCE.as_secs_f64() / 2.0,
        "{missed:?}"
    );
}

/// Linux removes the routes with the last IPv6 address, and sends messages about the addresses
/// only: answers to the guest then had no route.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn routes_that_were_removed_with_an_ipv6_address_are_restored_with_it() {
    let (lab, _imdsd) = start();
    let guest = lab.sockets("g1");
    for (how, script) in [
        (
            "IPv6 off and on",
            "sysctl -qw net.ipv6.conf.tap1.disable_ipv6=1; sysctl -qw net.ipv6.conf.tap1.disable_ipv6=0",
        ),
        (
            "too small for IPv6",
            "ip link set tap1 mtu 1000; ip link set tap1 mtu 1500",
        ),
        ("down and up", "ip link set tap1 down; ip link set tap1 up"),
        ("addresses flushed", "ip -6 address flush dev tap1"),
    ] {
        eventually("tap1 is prepared", || count_on(&lab, "tap1") == ALL);
        lab.sh(HOST, script);
        eventually(how, || count_on(&lab, "tap1") == ALL);
    }
    // The guest has lost nothing except the neighbour entry for the link-local address.
    eventually("the guest is served", || reads(&guest, IPV6) == Some(id(1)));
}

/// Attack: interfaces swap their names faster than the daemon checks. Each name must belong to its
/// current interface, what the daemon added must stay recorded, and an old socket must not block an
/// address.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn two_interfaces_that_swap_names_swap_instances_and_nothing_is_left_behind() {
    let (lab, mut imdsd) = start();
    let (first, second) = (lab.sockets("g1"), lab.sockets("g2"));
    for round in 0..3 {
        let (one, two) = if round % 2 == 0 { (1, 2) } else { (2, 1) };
        for address in [IPV4, IPV6] {
            eventually("the first is served", || {
                reads(&first, address) == Some(id(one))
            });
            eventually("the second is served", || {
                reads(&second, address) == Some(id(two))
            });
        }
        let mut kept = kept_alive(&first, one);
        lab.ip(
            HOST,
            &[],
            "link set tap1 name between\nlink set tap2 name tap1\nlink set between name tap2\n",
        );
        eventually("who was connected by the old name is cut", || {
            request_on(&mut kept, &get(INSTANCE_ID)).is_err()
        });
    }
    // Then to a name that no instance has.
    lab.sh(HOST, "ip link set tap1 name lost");
    eventually("the renamed interface has nothing left", || {
        count_on(&lab, "lost") == 0
    });
    imdsd.terminate();
    assert_eq!(count_on(&lab, "tap2"), 0);
    assert!(!imdsd.directory.path().join("run/host.json").exists());
    let refused: Vec<Value> = imdsd
        .remaining_log()
        .into_iter()
        .filter(|line| line["level"] == "WARN")
        .collect();
    assert_eq!(refused, Vec::<Value>::new());
}

/// Attack: the kernel binds a socket to an interface index. When another guest's interface gets the
/// index, that guest could read from and write to the old connection.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn a_kept_alive_connection_does_not_pass_to_the_next_interface_with_its_index() {
    let lab = Lab::new();
    let (first, second) = on_one_index(&lab);
    let _imdsd = Imdsd::start(&lab, MANAGE, &two_guests());
    eventually("the first is served", || reads(&first, IPV4) == Some(id(1)));
    let kept = kept_alive(&first, 1);
    let port = kept.local_addr().unwrap().port();
    assert!(connections(&lab).contains(&format!(":{port}")));
    pass_index_on(&lab);
    eventually("the second is served as itself", || {
        reads(&second, IPV4) == Some(id(2))
    });
    assert!(
        !connections(&lab).contains(&format!(":{port}")),
        "{}",
        connections(&lab)
    );
}

/// Attack: an answer that was not acknowledged is resent by interface index, even after the
/// connection was closed, and so to the guest whose interface has that index now.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn an_unacknowledged_answer_is_not_resent_to_the_next_guest_with_that_interface_index() {
    let lab = Lab::new();
    let (first, second) = on_one_index(&lab);
    let _imdsd = Imdsd::start(&lab, MANAGE, &two_guests());
    eventually("the first is served", || reads(&first, IPV4) == Some(id(1)));
    for gives_up in [false, true] {
        let mut stream = first.connect(IPV4).unwrap();
        let port = stream.local_addr().unwrap().port();
        lab.sh("g1", "nft 'add table t; add chain t in { type filter hook input priority 0; tcp sport 80 drop; }'");
        stream.write_all(get(INSTANCE_ID).as_bytes()).unwrap();
        if gives_up {
            // The end of the connection does not tell what was read.
            stream.shutdown(std::net::Shutdown::Write).unwrap();
        }
        let is_under_way = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            line.contains(&format!(":{port}")) && fields[2] != "0"
        };
        eventually("the answer is under way", || {
            connections(&lab).lines().any(is_under_way)
        });
        pass_index_on(&lab);
        let mut sniffer = lab.sniff("g2", "eth0");
        eventually("the second is served as itself", || {
            reads(&second, IPV4) == Some(id(2))
        });
        assert!(
            !connections(&lab).contains(&format!(":{port}")),
            "{}",
            connections(&lab)
        );
        let stray: Vec<_> = sniffer
            .seen()
            .iter()
            .filter(|segment| segment.payload.contains(&id(1)))
            .collect();
        assert!(stray.is_empty(), "{stray:?}");
        drop(sniffer);
        lab.sh("g1", "nft flush ruleset");
        take_index_back(&lab);
        eventually("the first is served again", || {
            reads(&first, IPV4) == Some(id(1))
        });
    }
}

const NUMBER: u32 = 4242;

fn on_one_index(lab: &Lab) -> (SocketOpener, SocketOpener) {
    for wire in [&ONE, &TWO] {
        lab.add(wire.guest);
    }
    add_with_index(lab, &ONE, "");
    (lab.sockets(ONE.guest), lab.sockets(TWO.guest))
}

fn pass_index_on(lab: &Lab) {
    add_with_index(lab, &TWO, "link del tap1\n");
}

fn take_index_back(lab: &Lab) {
    add_with_index(lab, &ONE, "link del tap2\n");
}

/// Adds the interface in one batch with the commands before it.
fn add_with_index(lab: &Lab, wire: &Wire<'_>, before: &str) {
    let Wire {
        guest, tap, mac, ..
    } = wire;
    let add = format!(
        "link add {tap} index {NUMBER} type veth peer name eth0 address {mac} netns {guest}\n"
    );
    lab.ip(HOST, &[], &format!("{before}{add}link set {tap} up\n"));
    lab.address(wire);
}

/// The host uses a metadata service of its own, by IPv6 or through a routing table other than the
/// main one. With an address on the host, imdsd would have answered in its place.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn a_host_with_a_route_in_another_table_or_by_ipv6_keeps_its_own_metadata_service() {
    let lab = Lab::new();
    lab.guest(&ONE);
    lab.sh(
        HOST,
        "ip link add lan0 type veth peer name lan1; ip link set lan0 up; ip link set lan1 up",
    );
    let [first, _] = two_guests();
    let mut imdsd = Imdsd::start(&lab, MANAGE, std::slice::from_ref(&first));
    eventually("the guest is served", || count_on(&lab, "tap1") == ALL);
    imdsd.terminate();
    for (come, go) in [
        ("ip -6 route add fd00:ec2::254/128 dev lan0", "ip -6 route del fd00:ec2::254/128 dev lan0"),
        (
            "ip route add 169.254.169.254/32 dev lan0 table 77; ip rule add lookup 77 pref 100",
            "ip route flush table 77; ip rule del pref 100",
        ),
        // The route appeared while an earlier daemon ran, whose address now hides it.
        (
            "ip address add 169.254.169.254/32 dev tap1; ip route add 169.254.169.254/32 dev lan0 table 77
             ip rule add lookup 77 pref 100",
            "ip address del 169.254.169.254/32 dev tap1; ip route flush table 77; ip rule del pref 100",
        ),
    ] {
        lab.sh(HOST, come);
        let before = count_on(&lab, "tap1");
        imdsd.spawn_again(&lab);
        let line = imdsd.wait_for(|line| line["level"] == "ERROR");
        assert!(line["message"].as_str().is_some_and(|text| text.contains("by lan0")), "{line}");
        imdsd.wait_until_ready();
        assert_eq!(count_on(&lab, "tap1"), before, "{come}");
        imdsd.terminate();
        lab.sh(HOST, go);
    }
}

/// Attack: a document lists an address in a network of the host. The route to the guest took
/// precedence, and the host's packets to another machine went to the guest.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn a_guest_with_an_address_in_a_network_of_the_host_gets_no_route() {
    let lab = Lab::new();
    lab.guest(&ONE);
    lab.sh(
        HOST,
        "ip link add lan0 type veth peer name lan1; ip link set lan0 up; ip link set lan1 up
         ip -6 address add fd12::1/64 dev lan0 nodad",
    );
    let diverted = open(with_addresses(
        on_interface(1, "tap1"),
        ONE.mac,
        "10.0.0.5",
        "fd12::77",
    ));
    let mut imdsd = Imdsd::spawn(&lab, MANAGE, std::slice::from_ref(&diverted));
    imdsd.wait_for(|line| {
        line["message"]
            .as_str()
            .is_some_and(|text| text.contains("would divert"))
    });
    assert!(
        lab.sh(HOST, "ip -6 route get fd12::77")
            .contains("dev lan0")
    );
    imdsd.kill();

    // The host joins the network after the route was added: the next check removes the route.
    lab.sh(HOST, "ip -6 address del fd12::1/64 dev lan0");
    imdsd.start_again(&lab);
    eventually("the route is put", || {
        lab.sh(HOST, "ip -6 route get fd12::77 || true")
            .contains("dev tap1")
    });
    imdsd.kill();
    lab.sh(HOST, "ip -6 address add fd12::1/64 dev lan0 nodad");
    assert!(
        lab.sh(HOST, "ip -6 route get fd12::77")
            .contains("dev tap1"),
        "it is diverted"
    );
    imdsd.start_again(&lab);
    eventually("the host's packets go where they went", || {
        lab.sh(HOST, "ip -6 route get fd12::77")
            .contains("dev lan0")
    });
}

/// A listener without an interface received packets of guests on other interfaces and answered them
/// as its own instance. It now names its interface, receives from that one only, and is opened
/// again when the interface is created again.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn a_listener_receives_from_its_own_interface_only() {
    let lab = Lab::new();
    lab.guest(&ONE);
    lab.add("lan");
    let plug_in = || {
        lab.sh(
            HOST,
            "ip link add lan0 index 4343 type veth peer name eth0 netns lan
             ip link set lan0 up; ip address add 10.9.9.1/24 dev lan0",
        );
        lab.sh(
            "lan",
            "ip link set eth0 up; ip address add 10.9.9.2/24 dev eth0",
        );
    };
    plug_in();
    const AT: &str = "10.9.9.1:80";
    let [first, _] = two_guests();
    let instances = [first, open(instance(5, json!([{ "Listener": "lan" }])))];
    let listener = "[[listener]]\nname = \"lan\"\nipv4 = \"10.9.9.1:80\"\n";
    let mut imdsd = Imdsd::spawn(&lab, &format!("{listener}{MANAGE}"), &instances);
    imdsd.wait_for(|line| {
        line.to_string()
            .contains("a listener that is not on loopback needs interface")
    });

    imdsd.configure(
        &format!("{listener}interface = \"lan0\"\n{MANAGE}"),
        &instances,
    );
    imdsd.start_again(&lab);
    let (guest, lan) = (lab.sockets("g1"), lab.sockets("lan"));
    lab.sh("g1", "ip route add 10.9.9.1 dev eth0");
    eventually("the lan is served", || reads(&lan, AT) == Some(id(5)));
    eventually("the guest is served", || reads(&guest, IPV4) == Some(id(1)));
    assert_eq!(reads(&guest, AT), None);

    let kept = {
        let mut stream = lan.connect(AT).unwrap();
        assert_eq!(
            request_on(&mut stream, &get(INSTANCE_ID)).unwrap().body,
            id(5)
        );
        stream.local_addr().unwrap()
    };
    lab.sh(HOST, "ip link del lan0");
    plug_in();
    eventually("the lan is served again", || reads(&lan, AT) == Some(id(5)));
    assert!(
        !connections(&lab).contains(&kept.to_string()),
        "{}",
        connections(&lab)
    );
    assert_eq!(reads(&guest, AT), None);
}

/// Two names for one namespace were two attachments to one place, and chance decided which instance
/// was served there.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn a_namespace_with_two_names_and_the_hosts_own_namespace_are_not_served() {
    let lab = Lab::new();
    let add = |name: &str| {
        lab.add(name);
        lab.sh(name, "ip address add 169.254.169.254/32 dev lo");
    };
    add("pod1");
    add("pod3");
    lab.sh(
        HOST,
        "touch /run/netns/pod2 /run/netns/home; mount --bind /run/netns/pod1 /run/netns/pod2
         mount --bind /proc/self/ns/net /run/netns/home; ip address add 169.254.169.254/32 dev lo",
    );
    let attached = [(1, "pod1"), (2, "pod2"), (3, "pod3"), (4, "home")]
        .map(|(number, name)| open(instance(number, json!([{ "NetworkNamespace": name }]))));
    let mut imdsd = Imdsd::spawn(&lab, MANAGE, &attached);
    for part in ["'home': it is the host's own", "are the same namespace"] {
        imdsd.wait_for(|line| {
            line["message"]
                .as_str()
                .is_some_and(|text| text.contains(part))
        });
    }
    let (both, single, host) = (lab.sockets("pod1"), lab.sockets("pod3"), lab.sockets(HOST));
    eventually("one that is one alone is served", || {
        reads(&single, IPV4) == Some(id(3))
    });
    assert_eq!((reads(&both, IPV4), reads(&host, IPV4)), (None, None));
    lab.sh(HOST, "umount /run/netns/pod2; rm /run/netns/pod2");
    eventually("with one name left it is served", || {
        reads(&both, IPV4) == Some(id(1))
    });
}

/// Clients keep connections that they never use again, and some close their side before they are
/// answered. Waiting for their acknowledgements must not keep the daemon from ending, and early
/// closers must get the whole answer.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn clients_that_never_close_do_not_delay_the_end_and_early_closers_are_answered_in_full() {
    let (lab, mut imdsd) = start();
    let guest = lab.sockets("g1");
    eventually("the guest is served", || reads(&guest, IPV4) == Some(id(1)));
    for _ in 0..20 {
        let mut stream = guest.connect(IPV4).unwrap();
        stream.write_all(get(INSTANCE_ID).as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it is not reset");
        assert!(answer.ends_with(&id(1)), "{answer}");
    }
    let descriptors = || {
        lab.sh(HOST, &format!("ls /proc/{}/fd | wc -l", imdsd.pid()))
            .trim()
            .parse::<usize>()
            .unwrap()
    };
    let before = descriptors();
    let kept: Vec<TcpStream> = (0..5).map(|_| kept_alive(&guest, 1)).collect();
    eventually("the early ones are gone", || {
        connections(&lab).lines().count() == kept.len()
    });
    assert!(descriptors() <= before + kept.len());
    let ending = Instant::now();
    imdsd.terminate();
    assert!(ending.elapsed() < PATIENCE / 4, "{:?}", ending.elapsed());
}

/// An interface was assigned to another instance while its guest had an open connection. The next
/// request on that connection was answered with the other instance's data.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn a_kept_alive_connection_does_not_pass_to_the_next_instance_of_its_interface() {
    let (lab, imdsd) = start();
    let guest = lab.sockets("g1");
    eventually("the guest is served", || reads(&guest, IPV4) == Some(id(1)));
    let mut kept = kept_alive(&guest, 1);
    let mut launched_anew = kept_alive(&guest, 1);
    // The same instance after another launch is another guest.
    let [first, _] = two_guests();
    operate(&lab, &imdsd, &["put", "--relaunch"], &first);
    assert!(
        request_on(&mut launched_anew, &get(INSTANCE_ID)).is_err(),
        "a connection outlives no launch"
    );
    assert_eq!(reads(&guest, IPV4), Some(id(1)));

    let mut before = kept_alive(&guest, 1);
    operate(&lab, &imdsd, &["delete", &id(1)], &Value::Null);
    operate(
        &lab,
        &imdsd,
        &["put"],
        &open(with_addresses(
            on_interface(3, "tap1"),
            ONE.mac,
            "10.0.0.5",
            "fd11::5",
        )),
    );
    eventually("the interface is the next one's", || {
        reads(&guest, IPV4) == Some(id(3))
    });
    for stream in [&mut kept, &mut before] {
        let answer = request_on(stream, &get(INSTANCE_ID));
        assert!(answer.is_err(), "{answer:?}");
    }
}

/// One instance was attached to a bridge as its interface, and another to a port of that bridge:
/// the guest at the port was served as the former.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn an_interface_that_receives_packets_of_another_instances_guest_is_not_served() {
    let lab = Lab::new();
    lab.guest(&ONE);
    lab.guest(&TWO);
    lab.sh(HOST, "ip link add br0 type bridge; ip link set br0 up");
    lab.serve_on("br0");
    let bridge = open(on_interface(1, "br0"));
    let port = open(with_addresses(
        on_interface(2, "tap1"),
        ONE.mac,
        "10.0.0.5",
        "fd11::5",
    ));
    let own = open(with_addresses(
        on_interface(3, "tap2"),
        TWO.mac,
        "10.0.0.5",
        "fd11::5",
    ));
    let mut imdsd = Imdsd::start(&lab, MANAGE, &[bridge, port, own]);
    let (guest, neighbour) = (lab.sockets("g1"), lab.sockets("g2"));
    eventually("the guest is served while its interface is its own", || {
        reads(&guest, IPV4) == Some(id(2))
    });

    lab.sh(HOST, "ip link set tap1 master br0");
    let lines =
        [(); 2].map(|()| imdsd.wait_for(|line| line["level"] == "ERROR")["message"].to_string());
    assert!(
        lines
            .iter()
            .all(|line| line.contains("'br0'") && line.contains("'tap1'")),
        "{lines:?}"
    );
    assert_eq!(
        guest
            .try_ask(IPV4, &get(INSTANCE_ID), AT_ONCE)
            .map(|answer| answer.status)
            .unwrap_or(0),
        0
    );
    for number in [1, 2] {
        let parameters = [("InstanceId", &*id(number)), ("HttpTokens", "required")];
        let answer = imdsd.call("ModifyInstanceMetadataOptions", &parameters);
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(
            imdsd.state_of(&id(number)),
            "pending",
            "nothing carries its options"
        );
    }
    assert_eq!(
        (reads(&neighbour, IPV4), imdsd.state_of(&id(3))),
        (Some(id(3)), "applied".to_string())
    );

    // An instance that claims the port counts, even if it is not served there.
    let is_unserved = || {
        guest
            .try_ask(IPV4, &get(INSTANCE_ID), AT_ONCE)
            .map_or(0, |answer| answer.status)
            == 0
    };
    // A put would be refused; a document is not.
    register(&lab, &imdsd, &open(on_interface(4, "tap1")));
    imdsd.wait_for(|line| {
        line["message"]
            .as_str()
            .is_some_and(|text| text.contains("none of them is served there"))
    });
    assert!(is_unserved());
    operate(&lab, &imdsd, &["delete", &id(4)], &Value::Null);
    imdsd.kill();
    let record = imdsd
        .directory
        .path()
        .join(format!("state/instances/{}.json", id(2)));
    let sound = std::fs::read(&record).unwrap();
    std::fs::write(&record, [&sound[..], b"x"].concat()).unwrap();
    imdsd.start_again(&lab);
    assert!(is_unserved());
    imdsd.kill();
    std::fs::write(&record, sound).unwrap();
    imdsd.start_again(&lab);

    lab.sh(HOST, "ip link set tap1 nomaster");
    eventually("its options are carried again", || {
        imdsd.state_of(&id(2)) == "applied"
    });
    assert_eq!(guest.who_am_i(IPV4), id(2));
}

/// A document that was attached to a port of a bridge by mistake stopped the bridge's listener for
/// all its guests.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn guests_with_source_addresses_are_served_even_if_another_instance_claims_a_port_of_their_bridge()
{
    let lab = Lab::new();
    lab.guest(&Wire {
        ipv4: Some("10.0.0.5/24"),
        ..ONE
    });
    lab.guest(&Wire {
        ipv4: Some("10.0.0.6/24"),
        ipv6: Some("fd11::6/64"),
        ..TWO
    });
    lab.sh(
        HOST,
        "ip link add br0 type bridge; ip link set br0 up; ip link set tap1 master br0; ip link set tap2 master br0",
    );
    lab.serve_on("br0");
    lab.sh(HOST, "ip address add 10.0.0.1/24 dev br0");
    let config = "[[listener]]\nname = \"lan\"\ninterface = \"br0\"\nipv4 = \"169.254.169.254:80\"\nanti_spoofed = true\n\
                  [interfaces]\nipv4 = \"169.254.169.253:80\"\n";
    let by_address = json!([{ "SourceAddress": { "Listener": "lan", "Address": "10.0.0.5" } }]);
    let mut imdsd = Imdsd::start(
        &lab,
        config,
        &[open(instance(1, by_address)), open(on_interface(2, "tap2"))],
    );
    let (guest, mistaken) = (lab.sockets("g1"), lab.sockets("g2"));
    eventually("the guest is served", || reads(&guest, IPV4) == Some(id(1)));
    assert_eq!(reads(&mistaken, IPV4), None);
    operate(&lab, &imdsd, &["put"], &open(on_interface(3, "tap1")));
    let line = imdsd.wait_for(|line| {
        line["message"]
            .as_str()
            .is_some_and(|text| text.contains("'tap1'"))
    });
    assert!(
        line["message"]
            .as_str()
            .unwrap()
            .contains("listener 'lan' also receives its packets"),
        "{line}"
    );
    assert_eq!(reads(&guest, IPV4), Some(id(1)));
}
