//! Processes of the host itself, as a user without privileges: they are not served as a guest,
//! whatever they bind their sockets to.

use std::net::TcpListener;
use std::time::Duration;

use serde_json::{Value, json};

use crate::imdsd::{
    CHECK, Imdsd, id, instance, on_interface, on_port, with_addresses, with_option,
};
use crate::lab::{HOST, INSTANCE_ID, IPV4, IPV6, Lab, SocketOpener, Wire, eventually, get};
use crate::support::{Answer, read_to_end};

/// How long to wait for a connection that must not come about, in seconds. Without the protection
/// it takes less than a millisecond.
const SHORTLY: f64 = 0.05;

/// The host has the addresses of the first guest too.
const WIRES: [Wire<'_>; 4] = [
    Wire {
        guest: "g1",
        tap: "tap1",
        mac: "02:00:00:00:00:01",
        ipv4: Some("10.0.0.5/24"),
        ipv6: Some("fd11::5/64"),
    },
    Wire {
        guest: "g2",
        tap: "tap2",
        mac: "02:00:00:00:00:02",
        ipv4: Some("10.0.0.6/24"),
        ipv6: Some("fd11::6/64"),
    },
    Wire {
        guest: "g3",
        tap: "tap3",
        mac: "02:00:00:00:00:03",
        ipv4: Some("10.0.0.7/24"),
        ipv6: Some("fd11::7/64"),
    },
    Wire {
        guest: "g4",
        tap: "tap4",
        mac: "02:00:00:00:00:04",
        ipv4: Some("10.9.0.4/24"),
        ipv6: Some("fd19::4/64"),
    },
];
const CONFIG: &str = "[interfaces]\n\
    [[listener]]\nname = \"lan\"\nipv4 = \"10.9.0.1:80\"\nipv6 = \"[fd19::1]:80\"\ninterface = \"tap4\"\n\
    [[listener]]\nname = \"loopback\"\nipv4 = \"127.0.0.1:1338\"\nipv6 = \"[::1]:1338\"\n";
const NO_DAD: &str = "sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0";
const LAN: [&str; 2] = ["10.9.0.1:80", "[fd19::1]:80"];

/// A host with two guests on interfaces, one on a bridge, one at a listener with `interface`, and
/// an instance that every local process may read.
fn host() -> (Lab, Imdsd) {
    let lab = Lab::new();
    // Link-local addresses are usable at once.
    lab.sh(HOST, NO_DAD);
    for wire in &WIRES {
        lab.guest(wire);
    }
    lab.sh(
        HOST,
        "ip link add br0 address 02:00:00:00:00:fe type bridge; ip link set br0 up
         ip link set tap3 master br0
         ip address add 10.0.0.1/24 dev br0; ip -6 address add fd11::1/64 dev br0 nodad
         ip address add 10.9.0.1/24 dev tap4; ip -6 address add fd19::1/64 dev tap4 nodad
         ip link add equal0 type veth peer name equal1; ip link set equal0 up; ip link set equal1 up
         ip address add 10.0.0.5/32 dev equal0; ip -6 address add fd11::5/128 dev equal0 nodad
         sysctl -qw net.ipv4.conf.all.accept_local=1",
    );
    for (tap, guest) in [("tap1", "fd11::5"), ("tap2", "fd11::6")] {
        lab.serve_on(tap);
        lab.sh(HOST, &format!("ip -6 route add {guest} dev {tap} metric 1"));
    }
    lab.serve_on("br0");
    let instances = [
        with_addresses(on_interface(1, "tap1"), WIRES[0].mac, "10.0.0.5", "fd11::5"),
        with_addresses(on_interface(2, "tap2"), WIRES[1].mac, "10.0.0.6", "fd11::6"),
        with_addresses(
            on_port(3, "br0", "tap3", 0x1003),
            WIRES[2].mac,
            "10.0.0.7",
            "fd11::7",
        ),
        instance(4, json!([{ "Listener": "lan" }])),
        instance(5, json!([{ "Listener": "loopback" }])),
    ];
    // Without tokens, one answer is enough for an attacker.
    let instances = instances.map(|instance| with_option(instance, "HttpTokens", "optional"));
    let imdsd = Imdsd::start(&lab, CONFIG, &instances);
    (lab, imdsd)
}

/// Every way for a local process to connect to a guest's listener, with its description.
fn attempts(lab: &Lab) -> Vec<(String, Value)> {
    let mut attempts = Vec::new();
    let mut add = |what: &str, options: Value| {
        let mut request = json!({ "within": SHORTLY });
        for (key, value) in options.as_object().unwrap() {
            request[key] = value.clone();
        }
        attempts.push((format!("{what}: {options}"), request));
    };
    let (ipv4, ipv6) = (json!(["169.254.169.254", 80]), json!(["fd00:ec2::254", 80]));
    for to in [
        &ipv4,
        &ipv6,
        &json!(["10.9.0.1", 80]),
        &json!(["fd19::1", 80]),
    ] {
        add("to an address of the host", json!({ "connect": to }));
    }
    for device in ["tap1", "tap2", "br0"] {
        for to in [&ipv4, &ipv6] {
            let by_device = json!({ "connect": to, "device": device });
            add("by the guest's interface", by_device);
        }
    }
    for (to, from) in [
        (&ipv4, "169.254.169.254"),
        (&ipv4, "127.0.0.5"),
        (&ipv4, "10.0.0.1"),
        (&ipv6, "fd00:ec2::254"),
        (&ipv6, "::1"),
    ] {
        let from_own = json!({ "connect": to, "from": [from, 0], "device": "tap1" });
        add("from an address of the host", from_own);
    }
    for (to, from) in [(&ipv4, "10.0.0.5"), (&ipv6, "fd11::5")] {
        for device in [json!(null), json!("tap1")] {
            let equal = json!({ "connect": to, "from": [from, 0], "device": device });
            add("from an address that guest and host have", equal);
        }
    }
    for (to, from) in [(&ipv4, "10.0.0.6"), (&ipv6, "fd11::6")] {
        let forged =
            json!({ "connect": to, "from": [from, 0], "device": "tap2", "freebind": true });
        add("from an address that only the guest has", forged);
    }
    for tap in ["tap1", "tap2"] {
        let (address, index) = link_local(lab, tap);
        let local = json!({ "connect": ipv6, "from": [address, 0, 0, index], "device": tap });
        add("from a link-local address", local);
    }
    attempts
}

/// Returns the link-local address of an interface of the host, and the interface's index.
fn link_local(lab: &Lab, interface: &str) -> (Value, Value) {
    let listed = lab.sh(HOST, &format!("ip -j address show {interface}"));
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let addresses = listed[0]["addr_info"].as_array().unwrap();
    let is_link_local = |of: &&Value| of["family"] == "inet6" && of["scope"] == "link";
    let address = addresses.iter().find(is_link_local).unwrap()["local"].clone();
    (address, listed[0]["ifindex"].clone())
}

/// Returns what the answer to a request by this connection is, if there is one.
fn answer_to(user: &SocketOpener, request: &Value) -> Option<String> {
    use std::io::Write as _;
    let mut stream = user.connect_by(request).ok()?;
    let _ = stream.set_read_timeout(Some(Duration::from_millis(300)));
    stream.write_all(get(INSTANCE_ID).as_bytes()).ok()?;
    Some(read_to_end(&mut stream)).filter(|raw| !raw.is_empty())
}

/// Linux: with a socket bound to an interface, a destination that no route of the interface leads to
/// counts as on its link, and the pod answers ARP for all its addresses. For IPv6 the host needs a
/// route to the pod.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn a_process_of_the_host_is_not_served_as_the_guest_of_a_namespace() {
    let lab = Lab::new();
    // Link-local addresses are usable at once.
    lab.sh(HOST, NO_DAD);
    lab.add("pod");
    lab.sh(
        HOST,
        "ip link add veth0 type veth peer name eth0 netns pod; ip link set veth0 up
         ip link add up0 type veth peer name up1; ip link set up0 up; ip link set up1 up
         ip address add 10.7.0.1/24 dev veth0; ip -6 address add fd17::1/64 dev veth0 nodad
         ip address add 192.0.2.1/24 dev up0
         ip -6 route add fd00:ec2::254 via fd17::2 dev veth0",
    );
    lab.add("vm");
    lab.sh(
        HOST,
        "ip -n pod link add down0 type veth peer name eth0 netns vm",
    );
    lab.sh(
        "pod",
        "ip link set eth0 up; ip link set down0 up
         ip address add 169.254.169.254/32 dev lo; ip -6 address add fd00:ec2::254/128 dev lo nodad
         ip address add 10.7.0.2/24 dev eth0; ip -6 address add fd17::2/64 dev eth0 nodad
         ip route add default via 10.7.0.1; ip -6 route add default via fd17::1
         ip address add 10.8.0.1/24 dev down0; ip -6 address add fd18::1/64 dev down0 nodad",
    );
    lab.sh(
        "vm",
        "ip link set eth0 up; ip address add 10.8.0.2/24 dev eth0; ip -6 address add fd18::2/64 dev eth0 nodad
         ip route add default via 10.8.0.1; ip -6 route add default via fd18::1",
    );
    let user = lab.local_user();
    let inside = ["pod", "vm"].map(|place| lab.sockets(place));
    let (ipv4, ipv6) = (json!(["169.254.169.254", 80]), json!(["fd00:ec2::254", 80]));
    let (address, index) = link_local(&lab, "veth0");
    let from_link = json!([address, 0, 0, index]);
    let attempts = [
        json!({ "connect": ipv4, "device": "veth0", "within": 5.0 }),
        json!({ "connect": ipv4, "device": "veth0", "from": ["10.7.0.1", 0], "within": 5.0 }),
        json!({ "connect": ipv4, "device": "veth0", "from": ["192.0.2.1", 0], "within": 5.0 }),
        json!({ "connect": ipv6, "within": 5.0 }),
        json!({ "connect": ipv6, "device": "veth0", "within": 5.0 }),
        json!({ "connect": ipv6, "device": "veth0", "from": from_link, "within": 5.0 }),
    ];
    // What the kernel does with an ordinary socket inside.
    for address in ["169.254.169.254", "fd00:ec2::254"] {
        let _unprotected =
            inside[0].listen(&std::net::SocketAddr::new(address.parse().unwrap(), 81).to_string());
        let request = json!({ "connect": [address, 81], "device": "veth0", "within": 5.0 });
        user.connect_by(&request).expect("the attack works");
    }
    let instance = instance(6, json!([{ "NetworkNamespace": "pod" }]));
    let _imdsd = Imdsd::start(
        &lab,
        CHECK,
        &[with_option(instance, "HttpTokens", "optional")],
    );
    for guest in &inside {
        for address in [IPV4, IPV6] {
            assert_eq!(read(guest, address).body, id(6), "{address}");
        }
    }
    // The handshake has succeeded when the daemon learns the peer; then it resets the connection.
    for request in attempts {
        if let Err(reason) = user.connect_by(&request) {
            let kind = reason.kind();
            assert_eq!(kind, std::io::ErrorKind::ConnectionReset, "{request}");
        }
        assert_eq!(answer_to(&user, &request), None, "{request}");
    }
    // An address counts as soon as the host has it.
    lab.sh(HOST, "ip address add 192.0.2.77/24 dev up0");
    eventually("the new address is known", || {
        let request =
            json!({ "connect": ipv4, "device": "veth0", "from": ["192.0.2.77", 0], "within": 5.0 });
        answer_to(&user, &request).is_none()
    });
}

fn read(guest: &SocketOpener, at: &str) -> Answer {
    guest.get(at, INSTANCE_ID)
}

fn assert_only_guests_are_served(
    lab: &Lab,
    user: &SocketOpener,
    guests: &[(&str, u32, [&str; 2])],
) {
    for (what, request) in attempts(lab) {
        assert_eq!(answer_to(user, &request), None, "{what}");
    }
    for (guest, number, addresses) in guests {
        let guest = lab.sockets(guest);
        for address in addresses {
            assert_eq!(read(&guest, address).body, id(*number), "{address}");
        }
    }
    // A loopback listener is for the host's own processes, and this user can send requests.
    for address in ["127.0.0.1:1338", "[::1]:1338"] {
        assert_eq!(read(user, address).body, id(5), "{address}");
    }
}

/// Linux: a packet to an address of the host counts as if it had arrived on the interface that has
/// the address, or to which its sender bound its socket. Binding a socket to the interface of a
/// guest does not keep other packets away.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn a_process_of_the_host_is_not_served_as_a_guest() {
    let (lab, mut imdsd) = host();
    let user = lab.local_user();
    // What the kernel does with a socket that is only bound to the interface.
    for address in ["169.254.169.254", "fd00:ec2::254"] {
        let listen = json!({ "listen": [address, 81], "device": "tap1" });
        let _unprotected = TcpListener::from(lab.sockets(HOST).opened(&listen).unwrap());
        for device in [json!(null), json!("tap1")] {
            let request = json!({ "connect": [address, 81], "device": device, "within": 5.0 });
            user.connect_by(&request).expect("the attack works");
        }
    }

    let own = [
        ("g1", 1, [IPV4, IPV6]),
        ("g2", 2, [IPV4, IPV6]),
        ("g4", 4, LAN),
    ];
    assert_only_guests_are_served(&lab, &user, &own);

    lab.nft(&imdsd.guest_rules(&lab));
    let all = [own[0], own[1], own[2], ("g3", 3, [IPV4, IPV6])];
    assert_only_guests_are_served(&lab, &user, &all);

    // Some kernels (6.18) let only a process with CAP_NET_ADMIN filter a socket's packets. Without
    // the filter, a guest that has an address of the host is refused too.
    lab.sh(HOST, "nft flush ruleset");
    imdsd.kill();
    imdsd.start_again_without(&lab, "net_admin");
    assert_only_guests_are_served(&lab, &user, &own[1..]);
}
