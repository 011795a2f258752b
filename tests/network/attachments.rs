//! Every kind of attachment except bridge ports, and interfaces that appear, disappear, and change
//! their names and owners.

use std::time::Duration;

use serde_json::{Value, json};

use crate::imdsd::{CHECK, Imdsd, MANAGE, id, instance, on_interface, with_addresses, with_option};
use crate::lab::{HOST, INSTANCE_ID, IPV4, IPV6, Lab, SocketOpener, Wire, eventually, get};
use crate::support::PATIENCE;

/// How long to wait for an answer that must not come.
const SHORTLY: Duration = Duration::from_millis(300);

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
    ipv4: Some("10.0.0.6/24"),
    ipv6: Some("fd11::6/64"),
};

fn open(instance: Value) -> Value {
    with_option(instance, "HttpTokens", "optional")
}

/// Returns the instance-id that the guest reads without a token, if an answer comes quickly.
fn reads(socket: &SocketOpener, address: &str) -> Option<String> {
    reads_within(socket, address, SHORTLY)
}

/// The same with more time, for an answer that must come.
fn reads_within(socket: &SocketOpener, address: &str, patience: Duration) -> Option<String> {
    let answer = socket.try_ask(address, &get(INSTANCE_ID), patience).ok()?;
    (answer.status == 200).then_some(answer.body)
}

/// Like a sidecar: the daemon listens in the guest's namespace, but stays in its own.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn a_guest_in_a_namespace_is_served_even_if_the_namespace_appears_later() {
    let lab = Lab::new();
    // Both have the service's addresses on their own loopback, so no request leaves them.
    let add = |name: &str| {
        lab.add(name);
        lab.sh(name, "ip address add 169.254.169.254/32 dev lo; ip -6 address add fd00:ec2::254/128 dev lo nodad");
    };
    add("pod1");
    let attached = |number: u32| {
        open(instance(
            number,
            json!([{ "NetworkNamespace": format!("pod{number}") }]),
        ))
    };
    let _imdsd = Imdsd::start(&lab, CHECK, &[attached(1), attached(2)]);
    let first = lab.sockets("pod1");
    for address in [IPV4, IPV6] {
        eventually("the first is served", || {
            reads(&first, address) == Some(id(1))
        });
    }
    add("pod2");
    let second = lab.sockets("pod2");
    for address in [IPV4, IPV6] {
        eventually("the second is served", || {
            reads(&second, address) == Some(id(2))
        });
        assert_eq!(reads_within(&first, address, PATIENCE), Some(id(1)));
    }
    assert_eq!(
        lab.sockets(HOST)
            .connect_as(None, "127.0.0.1:80", SHORTLY)
            .unwrap_err()
            .kind(),
        std::io::ErrorKind::ConnectionRefused
    );
    println!(
        "pod1 and pod2, the latter created after the start, are each served inside by IPv4 and IPv6"
    );
}

/// A source address identifies a guest only if the operator declares the listener as anti_spoofed.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn a_source_address_identifies_a_guest_only_where_addresses_cannot_be_forged() {
    let lab = Lab::new();
    lab.sh(
        HOST,
        "ip link add br0 type bridge; ip link set br0 up
         ip address add 10.0.0.1/24 dev br0; ip address add 169.254.169.254/32 dev br0",
    );
    let stranger = Wire {
        guest: "g3",
        tap: "tap3",
        mac: "02:00:00:00:00:03",
        ipv4: Some("10.0.0.7/24"),
        ipv6: None,
    };
    for wire in [&ONE, &TWO, &stranger] {
        lab.guest(wire);
        lab.sh(HOST, &format!("ip link set {} master br0", wire.tap));
    }
    let attached = |number: u32, address: &str| {
        open(instance(
            number,
            json!([{ "SourceAddress": { "Listener": "lan", "Address": address } }]),
        ))
    };
    let instances = [attached(1, "10.0.0.5"), attached(2, "10.0.0.6")];
    let listener =
        "[[listener]]\nname = \"lan\"\nipv4 = \"169.254.169.254:80\"\ninterface = \"br0\"\n";
    let sockets = ["g1", "g2", "g3"].map(|guest| lab.sockets(guest));
    {
        let _imdsd = Imdsd::start(
            &lab,
            &format!("{listener}anti_spoofed = true\n"),
            &instances,
        );
        let [first, second, stranger] = sockets.each_ref();
        let read = [
            reads_within(first, IPV4, PATIENCE),
            reads_within(second, IPV4, PATIENCE),
            reads(stranger, IPV4),
        ];
        println!("anti_spoofed: {read:?}");
        assert_eq!(read, [Some(id(1)), Some(id(2)), None]);
    }
    // It may refuse to start.
    let _imdsd = Imdsd::spawn(&lab, listener, &instances);
    let read = sockets.each_ref().map(|socket| {
        let mut read = None;
        let tries = std::time::Instant::now() + SHORTLY;
        while std::time::Instant::now() < tries && read.is_none() {
            read = reads(socket, IPV4);
        }
        read
    });
    println!("not anti_spoofed: {read:?}");
    assert_eq!(read, [None, None, None]);
}

/// Documents that contradict each other are refused at start. A document that contradicts the
/// stored record of another instance stops that one from being served, and is not served either.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn an_interface_that_two_instances_claim_serves_neither() {
    let lab = Lab::new();
    lab.guest(&ONE);
    lab.guest(&TWO);
    let [first, second, third] =
        [(1, "tap1", &ONE), (2, "tap2", &TWO), (3, "tap1", &ONE)].map(|(number, tap, wire)| {
            let last = &wire.ipv6.unwrap()[6..7];
            let (ipv4, ipv6) = (format!("10.0.0.{last}"), format!("fd11::{last}"));
            open(with_addresses(
                on_interface(number, tap),
                wire.mac,
                &ipv4,
                &ipv6,
            ))
        });
    let is_conflict = |line: &Value| {
        let text = line["message"]
            .as_str()
            .or(line.as_str())
            .unwrap_or_default();
        text.contains("'tap1' is claimed by") && text.contains(&id(1)) && text.contains(&id(3))
    };
    let mut imdsd = Imdsd::spawn(
        &lab,
        MANAGE,
        &[first.clone(), second.clone(), third.clone()],
    );
    println!("both in documents: {}", imdsd.wait_for(is_conflict));

    // It serves the others.
    imdsd.kill();
    imdsd.configure(MANAGE, &[first, second]);
    imdsd.start_again(&lab);
    let (disputed, held) = (lab.sockets("g1"), lab.sockets("g2"));
    for address in [IPV4, IPV6] {
        eventually("both are served", || {
            reads(&disputed, address) == Some(id(1))
        });
    }
    imdsd.terminate();
    imdsd.document(&[third]);
    imdsd.spawn_again(&lab);
    println!(
        "one in a record: {}",
        imdsd.wait_for(is_conflict)["message"]
    );
    for address in [IPV4, IPV6] {
        eventually("the other one is served", || {
            reads(&held, address) == Some(id(2))
        });
        assert_eq!(reads(&disputed, address), None);
    }
}

#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn an_interface_that_appears_after_the_start_is_served() {
    let lab = Lab::new();
    let first = with_addresses(on_interface(1, "tap1"), ONE.mac, "10.0.0.5", "fd11::5");
    let _imdsd = Imdsd::start(&lab, MANAGE, &[open(first)]);
    lab.guest(&ONE);
    let guest = lab.sockets("g1");
    for address in [IPV4, IPV6] {
        eventually("it is served", || reads(&guest, address) == Some(id(1)));
    }
}

/// A document names an interface: the interface that has this name now belongs to the instance.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn a_renamed_interface_is_served_under_its_new_name() {
    let lab = Lab::new();
    lab.guest(&ONE);
    let instances = [
        open(with_addresses(
            on_interface(1, "tap1"),
            ONE.mac,
            "10.0.0.5",
            "fd11::5",
        )),
        open(with_addresses(
            on_interface(2, "tap2"),
            ONE.mac,
            "10.0.0.5",
            "fd11::5",
        )),
    ];
    let _imdsd = Imdsd::start(&lab, MANAGE, &instances);
    let guest = lab.sockets("g1");
    let rename = |from: &str, to: &str| {
        lab.sh(
            HOST,
            &format!("ip link set {from} down; ip link set {from} name {to}; ip link set {to} up"),
        );
    };
    for address in [IPV4, IPV6] {
        eventually("served as tap1", || reads(&guest, address) == Some(id(1)));
    }
    rename("tap1", "spare");
    for address in [IPV4, IPV6] {
        eventually("a name that no instance claims is not served", || {
            reads(&guest, address).is_none()
        });
    }
    rename("spare", "tap2");
    for address in [IPV4, IPV6] {
        eventually("served as tap2", || reads(&guest, address) == Some(id(2)));
    }
    rename("tap2", "tap1");
    for address in [IPV4, IPV6] {
        eventually("served as tap1 again", || {
            reads(&guest, address) == Some(id(1))
        });
    }
}

/// The kernel may reuse an interface index. A listener bound to the old interface would serve the
/// new one.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn an_interface_that_reuses_the_index_of_a_deleted_one_is_another() {
    let lab = Lab::new();
    const INDEX: u32 = 4242;
    lab.add("g1");
    lab.add("g2");
    let instances = [
        open(with_addresses(
            on_interface(1, "tap1"),
            ONE.mac,
            "10.0.0.5",
            "fd11::5",
        )),
        open(with_addresses(
            on_interface(2, "tap2"),
            TWO.mac,
            "10.0.0.6",
            "fd11::6",
        )),
    ];
    let _imdsd = Imdsd::start(&lab, MANAGE, &instances);
    let plug_in = |wire: &Wire<'_>| {
        let Wire {
            guest, tap, mac, ..
        } = wire;
        lab.sh(
            HOST,
            &format!(
                "ip link add {tap} index {INDEX} type veth peer name eth0 address {mac} netns {guest}
                 ip link set {tap} up"
            ),
        );
        lab.address(wire);
    };
    let (first, second) = (lab.sockets("g1"), lab.sockets("g2"));
    for round in 0..3 {
        plug_in(&ONE);
        for address in [IPV4, IPV6] {
            eventually("the first is served", || {
                reads(&first, address) == Some(id(1))
            });
        }
        // Deleted and created at once, for the other guest.
        let Wire {
            guest, tap, mac, ..
        } = TWO;
        lab.ip(
            HOST,
            &[],
            &format!(
                "link del tap1\nlink add {tap} index {INDEX} type veth peer name eth0 address {mac} netns {guest}\n\
                 link set {tap} up\n"
            ),
        );
        lab.address(&TWO);
        for address in [IPV4, IPV6] {
            eventually("the second is served as itself", || {
                match reads(&second, address) {
                    Some(read) if read == id(2) => true,
                    None => false,
                    other => panic!("round {round}: the second guest reads {other:?}"),
                }
            });
        }
        // The same for a name that is in no document.
        lab.ip(
            HOST,
            &[],
            &format!(
                "link del tap2\nlink add spare index {INDEX} type veth peer name eth0 address {mac} netns {guest}\n\
                 link set spare up\naddress add 169.254.169.254/32 dev spare\n"
            ),
        );
        lab.address(&TWO);
        for _ in 0..3 {
            assert_eq!(reads(&second, IPV4), None);
        }
        lab.sh(HOST, "ip link del spare");
    }
}
