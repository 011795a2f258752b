//! Interface names that pass from one guest to another, as libvirt's `vnetN` do: a record that still
//! names the interface must not answer the next guest.

use std::time::Duration;

use serde_json::{Value, json};

use crate::imdsd::{Imdsd, MANAGE, id, instance, with_addresses, with_option};
use crate::lab::{HOST, INSTANCE_ID, IPV4, IPV6, Lab, SocketOpener, Wire, eventually, get};

/// How long to wait for an answer that must not come.
const SHORTLY: Duration = Duration::from_millis(300);

/// A guest on an interface with a name that others had or get.
fn wire(guest: &'static str, tap: &'static str, mac: &'static str) -> Wire<'static> {
    Wire {
        guest,
        tap,
        mac,
        ipv4: Some("10.0.0.5/24"),
        ipv6: Some("fd11::5/64"),
    }
}

/// Returns an instance at these attachments, whose guest reads without a token.
fn at(number: u32, attachments: Value) -> Value {
    let open = with_option(instance(number, attachments), "HttpTokens", "optional");
    with_addresses(open, "02:00:00:00:00:01", "10.0.0.5", "fd11::5")
}

fn reads(socket: &SocketOpener) -> Option<String> {
    let answer = socket.try_ask(IPV4, &get(INSTANCE_ID), SHORTLY).ok()?;
    (answer.status == 200).then_some(answer.body)
}

/// Runs `imdsd` with the daemon's socket. Returns whether it succeeded, and its output.
fn operate(lab: &Lab, imdsd: &Imdsd, arguments: &[&str]) -> (bool, String) {
    let mut command = lab.command(HOST, env!("CARGO_BIN_EXE_imdsd"));
    command.args(arguments).env(
        "IMDSD_ADMIN_SOCKET",
        imdsd.directory.path().join("run/admin.sock"),
    );
    let said = command.output().unwrap();
    let text = [said.stdout, said.stderr].concat();
    (said.status.success(), String::from_utf8(text).unwrap())
}

fn put(lab: &Lab, imdsd: &Imdsd, document: &Value, options: &[&str]) -> (bool, String) {
    let path = imdsd.directory.path().join("document.json");
    std::fs::write(&path, document.to_string()).unwrap();
    let arguments = [&["instance", "put", path.to_str().unwrap()], options].concat();
    operate(lab, imdsd, &arguments)
}

/// Returns the state of the only attachment of an instance, and the reason.
fn attachment(lab: &Lab, imdsd: &Imdsd, number: u32) -> (String, String) {
    let (_, text) = operate(lab, imdsd, &["listeners", "--json"]);
    let listed: Value = serde_json::from_str(&text).unwrap();
    let of_instance = |attachment: &&Value| attachment["InstanceId"] == id(number);
    let found: Vec<&Value> = listed["Attachments"]
        .as_array()
        .unwrap()
        .iter()
        .filter(of_instance)
        .collect();
    assert_eq!(
        found.len(),
        1,
        "every attachment is listed once: {listed:#}"
    );
    let word = |field: &str| found[0][field].as_str().unwrap_or_default().to_string();
    (word("State"), word("Reason"))
}

fn state_is(lab: &Lab, imdsd: &Imdsd, number: u32, state: &str, options: &str) -> String {
    eventually(&format!("{} is {state}", id(number)), || {
        attachment(lab, imdsd, number).0 == state && imdsd.state_of(&id(number)) == options
    });
    attachment(lab, imdsd, number).1
}

#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn a_bound_attachment_never_serves_the_next_guest_with_its_interface_name() {
    let lab = Lab::new();
    lab.guest(&wire("g1", "vnet0", "02:00:00:00:00:01"));
    let mut imdsd = Imdsd::start(&lab, MANAGE, &[]);
    let first = at(1, json!([{ "Interface": "vnet0" }]));
    let (done, said) = put(&lab, &imdsd, &first, &["--bind"]);
    assert!(done, "{said}");
    let guest = lab.sockets("g1");
    eventually("the first guest is served", || reads(&guest) == Some(id(1)));
    state_is(&lab, &imdsd, 1, "open", "applied");

    // A restart keeps the binding, and the link is still the same one.
    imdsd.kill();
    imdsd.start_again(&lab);
    eventually("it is served after a restart", || {
        reads(&guest) == Some(id(1))
    });

    // The guest ends without a word, and another one gets the name.
    lab.sh(HOST, "ip link del vnet0");
    let reason = state_is(&lab, &imdsd, 1, "void", "pending");
    assert!(reason.contains("no interface 'vnet0'"), "{reason}");
    lab.guest(&wire("g2", "vnet0", "02:00:00:00:00:02"));
    let next = lab.sockets("g2");
    for _ in 0..3 {
        assert_eq!(reads(&next), None);
    }
    let reason = state_is(&lab, &imdsd, 1, "void", "pending");
    assert!(reason.contains("is another link"), "{reason}");
    assert!(
        !imdsd.guest_rules(&lab).contains("vnet0"),
        "no rule holds the new guest to the old one"
    );
    let (fine, said) = imdsd.check_host(&lab);
    assert!(fine, "{said}");
    imdsd.kill();
    imdsd.start_again(&lab);
    assert_eq!(reads(&next), None, "also after a restart");

    // The stale record does not keep the right one from being served, or from being claimed.
    let second = at(2, json!([]));
    let (done, said) = put(&lab, &imdsd, &second, &[]);
    assert!(done, "{said}");
    let claim = [
        "instance",
        "claim",
        &id(2),
        "--interface",
        "vnet0",
        "--bind",
        "--only-free",
        "--launch",
    ];
    let (done, said) = operate(&lab, &imdsd, &claim);
    assert!(done, "{said}");
    eventually("the second guest is served as itself", || {
        match reads(&next) {
            Some(read) => read == id(2) || panic!("it reads {read}"),
            None => false,
        }
    });
    state_is(&lab, &imdsd, 2, "open", "applied");
    state_is(&lab, &imdsd, 1, "void", "pending");

    // Another boot of the host: the same index means another link.
    let (_, text) = operate(&lab, &imdsd, &["instance", "get", &id(2)]);
    let mut rebooted: Value = serde_json::from_str(&text).unwrap();
    rebooted["Imds"]["Attachments"][0]["Binding"]["BootId"] =
        "00000000-0000-4000-8000-000000000000".into();
    let (done, said) = put(&lab, &imdsd, &rebooted, &[]);
    assert!(done, "{said}");
    let reason = state_is(&lab, &imdsd, 2, "void", "pending");
    assert!(reason.contains("earlier boot"), "{reason}");
    assert_eq!(reads(&next), None);
}

/// The kernel can be asked for an index, so an index alone is not always another link.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn a_name_on_purpose_keeps_its_meaning_and_a_binding_notices_the_same_index() {
    const INDEX: u32 = 4242;
    let lab = Lab::new();
    let plug_in = |guest: &str, tap: &str, mac: &str| {
        lab.sh(
            HOST,
            &format!("ip link add {tap} index {INDEX} type veth peer name eth0 address {mac} netns {guest}
                 ip link set {tap} up"),
        );
    };
    let [first, second] = [
        wire("g1", "vnet0", "02:00:00:00:00:01"),
        wire("g2", "vnet0", "02:00:00:00:00:02"),
    ];
    lab.add("g1");
    lab.add("g2");
    let mut imdsd = Imdsd::start(&lab, MANAGE, &[at(1, json!([{ "Interface": "vnet0" }]))]);
    assert_eq!(
        state_is(&lab, &imdsd, 1, "waiting", "pending"),
        "there is no interface 'vnet0'"
    );
    let (guest, next) = (lab.sockets("g1"), lab.sockets("g2"));
    for (wire, socket) in [(&first, &guest), (&second, &next)] {
        plug_in(wire.guest, wire.tap, wire.mac);
        lab.address(wire);
        eventually("the guest that has the name is served", || {
            reads(socket) == Some(id(1))
        });
        lab.sh(HOST, "ip link del vnet0");
    }

    plug_in("g1", "vnet0", first.mac);
    lab.address(&first);
    let (done, said) = put(
        &lab,
        &imdsd,
        &at(1, json!([{ "Interface": "vnet0" }])),
        &["--bind"],
    );
    assert!(done, "{said}");
    eventually("it is served", || reads(&guest) == Some(id(1)));
    imdsd.kill();
    lab.sh(HOST, "ip link del vnet0");
    plug_in("g2", "vnet0", second.mac);
    lab.address(&second);
    imdsd.start_again(&lab);
    let reason = state_is(&lab, &imdsd, 1, "void", "pending");
    assert!(reason.contains("MAC address"), "{reason}");
    assert_eq!(reads(&next), None);

    // A stopped instance claims nothing: another one has its interface meanwhile.
    let (done, said) = put(&lab, &imdsd, &at(1, json!([{ "Interface": "vnet0" }])), &[]);
    assert!(done, "{said}");
    state_is(&lab, &imdsd, 1, "open", "applied");
    let rival = at(2, json!([{ "Interface": "vnet0" }]));
    let (done, said) = put(&lab, &imdsd, &rival, &[]);
    assert!(
        !done && said.contains(&id(1)) && said.contains("--force"),
        "{said}"
    );
    assert_eq!(
        imdsd
            .call("StopInstances", &[("InstanceId.1", &id(1))])
            .status,
        200
    );
    state_is(&lab, &imdsd, 1, "inactive", "applied");
    let (done, said) = put(&lab, &imdsd, &rival, &[]);
    assert!(done, "{said}");
    eventually("the other instance is served", || {
        reads(&next) == Some(id(2))
    });
    assert_eq!(
        next.try_ask(IPV6, &get(INSTANCE_ID), SHORTLY)
            .map_or(0, |answer| answer.status),
        200
    );
    let answer = imdsd.call("StartInstances", &[("InstanceId.1", &id(1))]);
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert_eq!(reads(&next), Some(id(2)));
}
