//! Attacks on the network side that worked once, each with a test named after what it must not do again.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::imdsd::{Imdsd, MANAGE, id, instance, on_interface, with_addresses, with_option};
use crate::lab::{Door, HOST, INSTANCE_ID, IPV4, IPV6, Lab, Wire, ask_on, eventually, get};
use crate::support::{PATIENCE, skip};

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

/// More than a client may have to wait for what happens at once, and less than the second between two looks of the daemon.
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

fn start(test: &str) -> Option<(Lab, Imdsd)> {
    let lab = Lab::new(test)?;
    lab.guest(&ONE);
    lab.guest(&TWO);
    let imdsd = Imdsd::start(&lab, MANAGE, &two_guests());
    Some((lab, imdsd))
}

fn reads(door: &Door, address: &str) -> Option<String> {
    let answer = door.try_ask(address, &get(INSTANCE_ID), AT_ONCE).ok()?;
    (answer.status == 200).then_some(answer.body)
}

/// What the daemon put on an interface, as `ip` shows it: two addresses and a route.
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

/// `imdsd instance …`, with a document for what is put.
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

fn kept_alive(door: &Door, number: u32) -> TcpStream {
    let mut stream = door.connect(IPV4).unwrap();
    assert_eq!(
        ask_on(&mut stream, &get(INSTANCE_ID)).unwrap().body,
        id(number)
    );
    stream
}

/// The connections to the service that the host still has a socket of, with what is left to send in them.
fn connections(lab: &Lab) -> String {
    lab.sh(
        HOST,
        "ss -Htan state all '( sport = :80 )' | grep -v LISTEN | grep -v TIME-WAIT || true",
    )
}

/// An answer or the news of a link that was lost in a full queue was waited for for ever: no guest's interface was prepared
/// any more, and SIGTERM had no effect.
#[test]
fn more_news_of_links_than_the_daemon_can_read_does_not_stop_it() {
    let Some((lab, mut imdsd)) = start("more news of links than can be read") else {
        return;
    };
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
            .is_some_and(|text| text.contains("more news of links"))
    });
    let guest = lab.door("g1");
    for address in [IPV4, IPV6] {
        eventually("the guest is served", || {
            reads(&guest, address) == Some(id(1))
        });
    }
    assert_eq!(count_on(&lab, "tap1"), ALL);
    imdsd.terminate();
    assert_eq!(count_on(&lab, "tap1") + count_on(&lab, "tap2"), 0);
}

/// The host's kernel tells of addresses as a guest's router advertisements have it. When that was more than the daemon read,
/// it took every link for a new one and cut every guest's connections. And while it went on, it saw nobody's addresses.
#[test]
fn a_guest_that_floods_the_host_with_router_advertisements_disturbs_no_other() {
    let Some(lab) = Lab::new("a flood of router advertisements") else {
        return;
    };
    lab.guest(&ONE);
    lab.guest(&TWO);
    // The kept connection waits for longer than a request may take by default.
    let imdsd = Imdsd::start(
        &lab,
        &format!("{MANAGE}[guest]\nhead_seconds = 60\n"),
        &two_guests(),
    );
    lab.sh(
        HOST,
        "sysctl -qw net.ipv6.conf.tap1.accept_ra=2 net.ipv6.conf.tap1.accept_dad=0",
    );
    let other = lab.door("g2");
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
    // It goes on, for longer than what is waited for takes.
    let mut flooding = lab.script("g1", "advertise.py");
    let flooding = crate::lab::Lines::of(flooding.args(["eth0", "1000000000"]));
    eventually("what was lost in the flood is found", || {
        count_on(&lab, "tap2") == ALL
    });
    assert!(flooding.next(Duration::ZERO).is_none(), "it is still at it");
    drop(flooding);
    assert_eq!(
        ask_on(&mut kept, &get(INSTANCE_ID))
            .expect("it was not cut")
            .body,
        id(2)
    );
}

/// Root in a namespace may destroy any socket in it, the daemon's included. The loop that accepts went on with a dead one.
#[test]
fn a_guest_that_destroys_the_socket_in_its_namespace_is_served_by_another() {
    let Some(lab) = Lab::new("a destroyed socket") else {
        return;
    };
    lab.add("pod1");
    lab.sh("pod1", "ip address add 169.254.169.254/32 dev lo");
    let attached = instance(1, json!([{ "NetworkNamespace": "pod1" }]));
    let mut imdsd = Imdsd::start(
        &lab,
        MANAGE,
        &[open(with_option(attached, "HttpProtocolIpv6", "disabled"))],
    );
    let guest = lab.door("pod1");
    eventually("the guest is served", || reads(&guest, IPV4) == Some(id(1)));
    for _ in 0..2 {
        let destroyed = lab.sh("pod1", "ss -K -Hltn sport = :80");
        if destroyed.is_empty() {
            return skip(
                "a destroyed socket",
                "this kernel lets nobody destroy sockets",
            );
        }
        imdsd.wait_for(|line| line["message"] == "listening socket closed");
        eventually("the guest is served again", || {
            reads(&guest, IPV4) == Some(id(1))
        });
    }
    imdsd.terminate();
}

/// The daemon did not hear of its own addresses, which came by the connection that it asked by; what was then taken away it
/// found only when it looked, once a second, and put everything again each time.
#[test]
fn an_address_that_is_taken_away_is_missed_when_it_is_told_of() {
    let Some((lab, _imdsd)) = start("addresses of its own") else {
        return;
    };
    eventually("tap1 is prepared", || count_on(&lab, "tap1") == ALL);
    // What the kernel tells of the address, each line with its time: `ip` takes longer to start than the daemon to notice.
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
            let line = monitor.next(PATIENCE).expect("the kernel tells of it");
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
    // Looking once a second, it would find half of them after more than half a second.
    missed.sort_by(f64::total_cmp);
    assert!(
        missed[missed.len() / 2] < AT_ONCE.as_secs_f64() / 2.0,
        "{missed:?}"
    );
}

/// Linux drops the routes with the IPv6 addresses, and tells of the addresses alone; the guest's answers then had no way back.
#[test]
fn routes_that_went_with_an_ipv6_address_come_back_with_it() {
    let Some((lab, _imdsd)) = start("lost routes") else {
        return;
    };
    let guest = lab.door("g1");
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
    // The guest's side has lost nothing but the neighbour's link-local address.
    eventually("the guest is served", || reads(&guest, IPV6) == Some(id(1)));
}

/// Names changed hands in one go, faster than the daemon looks: each name is one guest, whoever had it before; what was put on
/// the interfaces stays known; and nobody is kept from an address by the socket that listened there before.
#[test]
fn two_guests_that_swap_interface_names_are_each_the_other_and_nothing_is_left_behind() {
    let Some((lab, mut imdsd)) = start("swapped names") else {
        return;
    };
    let (first, second) = (lab.door("g1"), lab.door("g2"));
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
            ask_on(&mut kept, &get(INSTANCE_ID)).is_err()
        });
    }
    // And away, to a name that nobody has.
    lab.sh(HOST, "ip link set tap1 name lost");
    eventually("the lost one is nobody's", || count_on(&lab, "lost") == 0);
    imdsd.terminate();
    assert_eq!(count_on(&lab, "tap2"), 0);
    assert!(!imdsd.directory.path().join("run/host.json").exists());
    let refused: Vec<Value> = imdsd
        .said()
        .into_iter()
        .filter(|line| line["level"] == "WARN")
        .collect();
    assert_eq!(refused, Vec::<Value>::new());
}

/// The kernel binds a socket to the number of an interface. What goes on by a connection when the number is another guest's is
/// that guest's to read, and to ask.
#[test]
fn a_connection_kept_alive_does_not_go_over_to_the_next_interface_with_its_number() {
    let Some(lab) = Lab::new("a kept-alive connection and a reused number") else {
        return;
    };
    let (first, second) = on_one_number(&lab);
    let _imdsd = Imdsd::start(&lab, MANAGE, &two_guests());
    eventually("the first is served", || reads(&first, IPV4) == Some(id(1)));
    let kept = kept_alive(&first, 1);
    let port = kept.local_addr().unwrap().port();
    assert!(connections(&lab).contains(&format!(":{port}")));
    hand_number_over(&lab);
    eventually("the second is served as itself", || {
        reads(&second, IPV4) == Some(id(2))
    });
    assert!(
        !connections(&lab).contains(&format!(":{port}")),
        "{}",
        connections(&lab)
    );
}

/// An answer that its guest did not acknowledge is resent, by the number of the interface that it had: to whoever has it now.
/// The connection need not be open any more.
#[test]
fn an_answer_under_way_is_not_resent_to_the_next_guest_on_that_interface_number() {
    let Some(lab) = Lab::new("an answer and a reused number") else {
        return;
    };
    let (first, second) = on_one_number(&lab);
    let _imdsd = Imdsd::start(&lab, MANAGE, &two_guests());
    eventually("the first is served", || reads(&first, IPV4) == Some(id(1)));
    for gives_up in [false, true] {
        let mut stream = first.connect(IPV4).unwrap();
        let port = stream.local_addr().unwrap().port();
        lab.sh("g1", "nft 'add table t; add chain t in { type filter hook input priority 0; tcp sport 80 drop; }'");
        stream.write_all(get(INSTANCE_ID).as_bytes()).unwrap();
        if gives_up {
            // Its end says nothing of what it has read.
            stream.shutdown(std::net::Shutdown::Write).unwrap();
        }
        let is_under_way = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            line.contains(&format!(":{port}")) && fields[2] != "0"
        };
        eventually("the answer is under way", || {
            connections(&lab).lines().any(is_under_way)
        });
        hand_number_over(&lab);
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
        take_number_back(&lab);
        eventually("the first is served again", || {
            reads(&first, IPV4) == Some(id(1))
        });
    }
}

const NUMBER: u32 = 4242;

fn on_one_number(lab: &Lab) -> (Door, Door) {
    for wire in [&ONE, &TWO] {
        lab.add(wire.guest);
    }
    add_with_number(lab, &ONE, "");
    (lab.door(ONE.guest), lab.door(TWO.guest))
}

fn hand_number_over(lab: &Lab) {
    add_with_number(lab, &TWO, "link del tap1\n");
}

fn take_number_back(lab: &Lab) {
    add_with_number(lab, &ONE, "link del tap2\n");
}

/// In one go with what comes before.
fn add_with_number(lab: &Lab, wire: &Wire<'_>, before: &str) {
    let Wire {
        guest, tap, mac, ..
    } = wire;
    let add = format!(
        "link add {tap} index {NUMBER} type veth peer name eth0 address {mac} netns {guest}\n"
    );
    lab.ip(HOST, &[], &format!("{before}{add}link set {tap} up\n"));
    lab.address(wire);
}

/// The host asks a metadata service of its own: by IPv6, or as its rules say, in a table that is not the main one. An address
/// of the host's own would have answered for it.
#[test]
fn a_host_that_asks_by_another_table_or_by_ipv6_keeps_its_own_metadata_service() {
    let Some(lab) = Lab::new("the host's own metadata service") else {
        return;
    };
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
        // It came while an earlier daemon ran, whose address hides it now.
        (
            "ip address add 169.254.169.254/32 dev tap1; ip route add 169.254.169.254/32 dev lan0 table 77
             ip rule add lookup 77 pref 100",
            "ip address del 169.254.169.254/32 dev tap1; ip route flush table 77; ip rule del pref 100",
        ),
    ] {
        lab.sh(HOST, come);
        let before = count_on(&lab, "tap1");
        imdsd.spawn_again(&lab);
        let told = imdsd.wait_for(|line| line["level"] == "ERROR");
        assert!(told["message"].as_str().is_some_and(|text| text.contains("by lan0")), "{told}");
        imdsd.wait_until_ready();
        assert_eq!(count_on(&lab, "tap1"), before, "{come}");
        imdsd.terminate();
        lab.sh(HOST, go);
    }
}

/// A guest's document says what address it has, and a route to it was better than the one to the host's own network: the
/// host's packets to another machine went to the guest.
#[test]
fn a_guest_that_says_it_has_an_address_of_another_network_gets_no_route_there() {
    let Some(lab) = Lab::new("diverted routes") else {
        return;
    };
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
            .is_some_and(|text| text.contains("would not any more"))
    });
    assert!(
        lab.sh(HOST, "ip -6 route get fd12::77")
            .contains("dev lan0")
    );
    imdsd.kill();

    // The network came after the route was put: the next look takes the route away again.
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

/// A listener that heard every interface answered guests on interfaces of their own as its own instance. It names what it
/// hears, and hears that alone; on an interface that is made anew it listens anew.
#[test]
fn a_listener_hears_its_own_interface_and_no_guests() {
    let Some(lab) = Lab::new("a listener's interface") else {
        return;
    };
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
            .contains("names the interface that it hears")
    });

    imdsd.configure(
        &format!("{listener}interface = \"lan0\"\n{MANAGE}"),
        &instances,
    );
    imdsd.start_again(&lab);
    let (guest, lan) = (lab.door("g1"), lab.door("lan"));
    lab.sh("g1", "ip route add 10.9.9.1 dev eth0");
    eventually("the lan is served", || reads(&lan, AT) == Some(id(5)));
    eventually("the guest is served", || reads(&guest, IPV4) == Some(id(1)));
    assert_eq!(reads(&guest, AT), None);

    let kept = {
        let mut stream = lan.connect(AT).unwrap();
        assert_eq!(ask_on(&mut stream, &get(INSTANCE_ID)).unwrap().body, id(5));
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

/// Two names of one namespace were two ways in to one place, and which of the instances was served there was chance.
#[test]
fn a_namespace_by_two_names_and_the_hosts_own_serve_nobody() {
    let Some(lab) = Lab::new("names of a namespace") else {
        return;
    };
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
    for told in ["'home': it is the host's own", "are one and the same"] {
        imdsd.wait_for(|line| {
            line["message"]
                .as_str()
                .is_some_and(|text| text.contains(told))
        });
    }
    let (both, single, host) = (lab.door("pod1"), lab.door("pod3"), lab.door(HOST));
    eventually("one that is one alone is served", || {
        reads(&single, IPV4) == Some(id(3))
    });
    assert_eq!((reads(&both, IPV4), reads(&host, IPV4)), (None, None));
    lab.sh(HOST, "umount /run/netns/pod2; rm /run/netns/pod2");
    eventually("with one name left it is served", || {
        reads(&both, IPV4) == Some(id(1))
    });
}

/// What waits for a guest's acknowledgement must not keep the daemon from ending, nor be taken for unanswered: clients keep
/// connections that they never look at again, and some close their side before they are answered.
#[test]
fn clients_that_never_close_hold_up_nobody_and_those_that_closed_early_are_answered_in_full() {
    let Some((lab, mut imdsd)) = start("clients that never close") else {
        return;
    };
    let guest = lab.door("g1");
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

/// An interface was given to another instance while its guest held a connection open, and the next request on that
/// connection was answered with the other's data.
#[test]
fn a_connection_kept_alive_does_not_go_over_to_the_next_instance_at_its_interface() {
    let Some((lab, imdsd)) = start("a kept-alive connection and a new holder") else {
        return;
    };
    let guest = lab.door("g1");
    eventually("the guest is served", || reads(&guest, IPV4) == Some(id(1)));
    let mut kept = kept_alive(&guest, 1);
    let mut launched_anew = kept_alive(&guest, 1);
    // The same instance, launched anew, is another guest.
    let [first, _] = two_guests();
    operate(&lab, &imdsd, &["put", "--relaunch"], &first);
    assert!(
        ask_on(&mut launched_anew, &get(INSTANCE_ID)).is_err(),
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
        let answer = ask_on(stream, &get(INSTANCE_ID));
        assert!(answer.is_err(), "{answer:?}");
    }
}

/// One instance had a bridge as its interface and another one of the bridge's ports: the guest at the port was served as the
/// former.
#[test]
fn an_interface_that_hears_another_instances_guest_serves_nobody_and_says_so() {
    let Some(lab) = Lab::new("a bridge and its port") else {
        return;
    };
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
    let (guest, neighbour) = (lab.door("g1"), lab.door("g2"));
    eventually("the guest is served while its interface is its own", || {
        reads(&guest, IPV4) == Some(id(2))
    });

    lab.sh(HOST, "ip link set tap1 master br0");
    let told =
        [(); 2].map(|()| imdsd.wait_for(|line| line["level"] == "ERROR")["message"].to_string());
    assert!(
        told.iter()
            .all(|line| line.contains("'br0'") && line.contains("'tap1'")),
        "{told:?}"
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

    // Who claims the port without being served there is another instance all the same.
    let nobody = || {
        guest
            .try_ask(IPV4, &get(INSTANCE_ID), AT_ONCE)
            .map_or(0, |answer| answer.status)
            == 0
    };
    operate(&lab, &imdsd, &["put"], &open(on_interface(4, "tap1")));
    imdsd.wait_for(|line| {
        line["message"]
            .as_str()
            .is_some_and(|text| text.contains("none is served there"))
    });
    assert!(nobody());
    operate(&lab, &imdsd, &["delete", &id(4)], &Value::Null);
    imdsd.kill();
    let record = imdsd
        .directory
        .path()
        .join(format!("state/instances/{}.json", id(2)));
    let sound = std::fs::read(&record).unwrap();
    std::fs::write(&record, [&sound[..], b"x"].concat()).unwrap();
    imdsd.start_again(&lab);
    assert!(nobody());
    imdsd.kill();
    std::fs::write(&record, sound).unwrap();
    imdsd.start_again(&lab);

    lab.sh(HOST, "ip link set tap1 nomaster");
    eventually("its options are carried again", || {
        imdsd.state_of(&id(2)) == "applied"
    });
    assert_eq!(guest.who_am_i(IPV4), id(2));
}

/// A document that was attached to a port of a bridge by mistake took the bridge's listener from all its guests.
#[test]
fn guests_known_by_address_are_served_although_another_instance_claims_a_port_of_their_bridge() {
    let Some(lab) = Lab::new("a port of a listener's bridge") else {
        return;
    };
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
    let (guest, mistaken) = (lab.door("g1"), lab.door("g2"));
    eventually("the guest is served", || reads(&guest, IPV4) == Some(id(1)));
    assert_eq!(reads(&mistaken, IPV4), None);
    operate(&lab, &imdsd, &["put"], &open(on_interface(3, "tap1")));
    let told = imdsd.wait_for(|line| {
        line["message"]
            .as_str()
            .is_some_and(|text| text.contains("'tap1'"))
    });
    assert!(
        told["message"]
            .as_str()
            .unwrap()
            .contains("listener 'lan' hears it, too"),
        "{told}"
    );
    assert_eq!(reads(&guest, IPV4), Some(id(1)));
}
