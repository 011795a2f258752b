//! Every way in but a bridge, and interfaces that come, go, change their names and their owners.

use std::time::Duration;

use serde_json::{Value, json};

use crate::imdsd::{CHECK, Imdsd, MANAGE, id, instance, on_interface, with_addresses, with_option};
use crate::lab::{Door, HOST, INSTANCE_ID, IPV4, IPV6, Lab, Wire, eventually, get};
use crate::support::PATIENCE;

/// What a guest gets that must get nothing: no answer in this time.
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

/// The instance-id that it reads without a token, if any comes shortly.
fn reads(door: &Door, address: &str) -> Option<String> {
    reads_within(door, address, SHORTLY)
}

/// The same, where what must come may take its time.
fn reads_within(door: &Door, address: &str, patience: Duration) -> Option<String> {
    let answer = door.try_ask(address, &get(INSTANCE_ID), patience).ok()?;
    (answer.status == 200).then_some(answer.body)
}

/// A sidecar's shape: the daemon listens in the guest's own namespace, and stays where it is itself.
#[test]
fn a_namespace_is_a_way_in_of_its_own_and_may_come_later() {
    let Some(lab) = Lab::new("namespaces") else {
        return;
    };
    // Both have the service's addresses on their own loopback; what is asked there never leaves them.
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
    let first = lab.door("pod1");
    for address in [IPV4, IPV6] {
        eventually("the first is served", || {
            reads(&first, address) == Some(id(1))
        });
    }
    add("pod2");
    let second = lab.door("pod2");
    for address in [IPV4, IPV6] {
        eventually("the second is served", || {
            reads(&second, address) == Some(id(2))
        });
        assert_eq!(reads_within(&first, address, PATIENCE), Some(id(1)));
    }
    assert_eq!(
        lab.door(HOST)
            .connect_as(None, "127.0.0.1:80", SHORTLY)
            .unwrap_err()
            .kind(),
        std::io::ErrorKind::ConnectionRefused
    );
    println!(
        "pod1 and pod2, the latter made after the start, are each served inside by IPv4 and IPv6"
    );
}

/// Source addresses identify only where somebody vouches for them.
#[test]
fn a_source_address_is_a_way_in_only_where_addresses_cannot_be_forged() {
    let Some(lab) = Lab::new("source addresses") else {
        return;
    };
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
    let doors = ["g1", "g2", "g3"].map(|guest| lab.door(guest));
    {
        let _imdsd = Imdsd::start(
            &lab,
            &format!("{listener}anti_spoofed = true\n"),
            &instances,
        );
        let [first, second, stranger] = doors.each_ref();
        let read = [
            reads_within(first, IPV4, PATIENCE),
            reads_within(second, IPV4, PATIENCE),
            reads(stranger, IPV4),
        ];
        println!("anti_spoofed: {read:?}");
        assert_eq!(read, [Some(id(1)), Some(id(2)), None]);
    }
    // Whether it starts at all is its own business.
    let _imdsd = Imdsd::spawn(&lab, listener, &instances);
    let read = doors.each_ref().map(|door| {
        let mut read = None;
        let tries = std::time::Instant::now() + SHORTLY;
        while std::time::Instant::now() < tries && read.is_none() {
            read = reads(door, IPV4);
        }
        read
    });
    println!("not anti_spoofed: {read:?}");
    assert_eq!(read, [None, None, None]);
}

/// Documents that contradict each other are refused at once. One that contradicts the record of another instance takes from
/// that one what it had, and gets nothing for it.
#[test]
fn an_interface_that_two_instances_claim_serves_neither() {
    let Some(lab) = Lab::new("a disputed interface") else {
        return;
    };
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
    let is_told = |line: &Value| {
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
    println!("both in documents: {}", imdsd.wait_for(is_told));

    imdsd.configure(MANAGE, &[first, second]);
    imdsd.start_again(&lab);
    let (disputed, held) = (lab.door("g1"), lab.door("g2"));
    for address in [IPV4, IPV6] {
        eventually("both are served", || {
            reads(&disputed, address) == Some(id(1))
        });
    }
    imdsd.terminate();
    imdsd.document(&[third]);
    imdsd.spawn_again(&lab);
    println!("one in a record: {}", imdsd.wait_for(is_told)["message"]);
    for address in [IPV4, IPV6] {
        eventually("the other one is served", || {
            reads(&held, address) == Some(id(2))
        });
        assert_eq!(reads(&disputed, address), None);
    }
}

#[test]
fn an_interface_that_appears_after_the_start_is_served() {
    let Some(lab) = Lab::new("a late interface") else {
        return;
    };
    let first = with_addresses(on_interface(1, "tap1"), ONE.mac, "10.0.0.5", "fd11::5");
    let _imdsd = Imdsd::start(&lab, MANAGE, &[open(first)]);
    lab.guest(&ONE);
    let guest = lab.door("g1");
    for address in [IPV4, IPV6] {
        eventually("it is served", || reads(&guest, address) == Some(id(1)));
    }
}

/// A document names an interface: who has that name is the instance, and who had it is not.
#[test]
fn an_interface_is_served_under_the_name_that_it_has_now() {
    let Some(lab) = Lab::new("a renamed interface") else {
        return;
    };
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
    let guest = lab.door("g1");
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
        eventually("a name that nobody claims is nobody", || {
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

/// The kernel may give a number again. A listener that was bound to the old owner's would serve the new one.
#[test]
fn an_interface_with_the_number_of_a_deleted_one_is_not_taken_for_it() {
    let Some(lab) = Lab::new("the same ifindex") else {
        return;
    };
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
    let (first, second) = (lab.door("g1"), lab.door("g2"));
    for round in 0..3 {
        plug_in(&ONE);
        for address in [IPV4, IPV6] {
            eventually("the first is served", || {
                reads(&first, address) == Some(id(1))
            });
        }
        // Deleted and made in one go, for the other guest.
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
        // And for nobody: a name that no document has.
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
