//! Guests on a bridge, and guests that look alike.

use serde_json::{Value, json};

use crate::lab::Host;
use crate::support::skip;

fn port(bridge: &str, port: &str, mark: u32) -> Value {
    json!({ "BridgePort": { "Bridge": bridge, "Port": port, "Mark": mark } })
}

/// Two guests on a bridge, with everything they need but the rules.
fn bridged(test: &str) -> Option<Host> {
    let mut host = Host::new(test)?;
    if host
        .namespace
        .command("nft")
        .args(["--json", "list", "ruleset"])
        .output()
        .is_ok_and(|said| said.status.success())
    {
        host.sh(
            "ip link add br0 address 02:00:00:00:00:fe type bridge && ip link set br0 up
             sysctl -qw net.ipv4.tcp_fwmark_accept=1",
        );
        for (name, address) in [("tap1", 5), ("tap2", 6)] {
            host.guest(name, address);
            host.sh(&format!("ip link set {name} master br0"));
        }
        host.set_up("br0", 5);
        host.sh("ip -6 route add fd11::6/128 dev br0");
        host.configure(
            "",
            &[
                (port("br0", "tap1", 0x1001), 5),
                (port("br0", "tap2", 0x1002), 6),
            ],
        );
        return Some(host);
    }
    skip(test, "nft can't be used here");
    None
}

#[test]
fn a_bridged_guest_needs_its_port_its_mark_and_its_rules() {
    let test = "a_bridged_guest_needs_its_port_its_mark_and_its_rules";
    let Some(host) = bridged(test) else { return };
    let load = format!(
        "imdsd guest-rules --config {}/imdsd.toml | nft -f -",
        host.directory.path().display()
    );

    // The rules, once for both.
    let check = host.check();
    assert_eq!(check.findings.len(), 2, "{check:#?}");
    for finding in &check.findings {
        assert!(
            finding["what"]
                .as_str()
                .unwrap()
                .starts_with("guest rules: "),
            "{finding}"
        );
        assert_eq!(finding["mend"], load);
    }
    host.mend(&load);
    if host.check().unseen.contains("whether the MAC") {
        return skip(test, "/sys can't be mounted");
    }
    host.check().assert_fine();

    // What concerns the bridge is said of each guest on it.
    for (fault, what, mend, guests) in [
        (
            "ip link set br0 down",
            "br0 is down",
            "ip link set br0 up",
            2,
        ),
        (
            "ip link set tap1 down",
            "tap1 is down",
            "ip link set tap1 up",
            1,
        ),
        (
            "ip link set tap1 nomaster",
            "tap1 is not a port of br0",
            "ip link set tap1 master br0",
            1,
        ),
        (
            "sysctl -qw net.ipv4.tcp_fwmark_accept=0",
            "tcp_fwmark_accept is 0",
            "sysctl -w net.ipv4.tcp_fwmark_accept=1",
            2,
        ),
        (
            "ip address del 169.254.169.254/32 dev br0",
            "br0 lacks the address",
            "ip address add 169.254.169.254/32 dev br0",
            2,
        ),
        (
            "sysctl -qw net.ipv6.conf.br0.accept_ra=1",
            "whoever is on the bridge could give the host a default route",
            "sysctl -w net.ipv6.conf.br0.accept_ra=0",
            2,
        ),
        // A default route over somebody on the bridge is no way to the guests on it.
        (
            "ip address add 10.1.0.1/24 dev br0 && ip route add default via 10.1.0.254 dev br0",
            "only a route over a gateway leads to 10.0.0.",
            "ip route add 10.0.0.",
            2,
        ),
        ("nft delete table bridge imdsd", "guest rules: ", &load, 2),
    ] {
        host.sh(fault);
        let check = host.check();
        assert_eq!(check.findings.len(), guests, "{fault}: {check:#?}");
        for finding in &check.findings {
            assert!(
                finding["what"].as_str().unwrap().contains(what),
                "{fault}: {finding}"
            );
            assert!(
                finding["mend"].as_str().unwrap().starts_with(mend),
                "{fault}: {finding}"
            );
        }
        // A bridge that was down lost what is IPv6's, and what concerns both guests is mended once.
        host.mend_all();
    }

    // A guest is given another address: the rules that are loaded are those of its old document.
    host.configure(
        "",
        &[
            (port("br0", "tap1", 0x1001), 5),
            (port("br0", "tap2", 0x1002), 7),
        ],
    );
    host.sh("ip -6 route add fd11::7/128 dev br0 && ip route add 10.0.0.7/32 dev br0");
    let check = host.check();
    assert_eq!(check.only().1, load);
    assert_eq!(check.findings[0]["instance"], "i-00000002");
    host.mend(&load);
    host.check().assert_fine();
}

/// Where nothing is found the daemon serves; where something is, it does not.
#[test]
fn guests_on_a_bridge_are_answered_when_nothing_is_found() {
    let Some(mut host) = bridged("guests_on_a_bridge_are_answered_when_nothing_is_found") else {
        return;
    };
    host.mend_all();
    host.serve();
    host.wait_until_answered(1);
    host.wait_until_answered(2);
    for fault in [
        "sysctl -qw net.ipv4.tcp_fwmark_accept=0",
        "nft delete table bridge imdsd",
        "ip link set tap1 nomaster",
        // Somebody on the bridge is the gateway, and the guests are not on its link.
        "ip address add 10.1.0.1/24 dev br0 && ip route add default via 10.1.0.254 dev br0
         ip -6 route flush proto boot; ip -6 address add fd12::1/64 dev br0 nodad
         ip -6 route add default via fd12::fe dev br0",
    ] {
        host.sh(fault);
        assert!(!host.check().findings.is_empty(), "{fault}");
        assert_eq!(host.answers(1), (false, false), "{fault}");
        host.mend_all();
        host.wait_until_answered(1);
    }
}

#[test]
fn a_bridge_must_have_a_mac_of_its_own() {
    let test = "a_bridge_must_have_a_mac_of_its_own";
    let Some(host) = bridged(test) else { return };
    host.sh(
        "ip link del br0 && ip link add br0 type bridge && ip link set br0 up
         ip link set tap1 master br0 && ip link set tap2 master br0",
    );
    host.set_up("br0", 5);
    host.sh("ip -6 route add fd11::6/128 dev br0");
    host.mend(&format!(
        "imdsd guest-rules --config {}/imdsd.toml | nft -f -",
        host.directory.path().display()
    ));
    let check = host.check();
    if check.unseen.contains("whether the MAC") {
        // It shows the machine's own devices, which are not asked instead.
        assert!(
            check
                .unseen
                .contains("/sys/class/net/br0 is not of this network namespace"),
            "{check:#?}"
        );
        return skip(test, "/sys can't be mounted");
    }
    assert_eq!(check.findings.len(), 2, "{check:#?}");
    let mend = check.findings[0]["mend"].as_str().unwrap();
    assert!(mend.starts_with("ip link set br0 address "), "{mend}");
    host.mend(mend);
    host.check().assert_fine();
    // It keeps it when the port goes that it had it from.
    host.sh("ip link set tap1 nomaster; ip link set tap2 nomaster");
    let mac = mend.rsplit(' ').next().unwrap();
    assert!(host.sh("ip -o link show br0").contains(mac));
}

#[test]
fn a_bridge_that_is_missing_is_made() {
    let Some(host) = bridged("a_bridge_that_is_missing_is_made") else {
        return;
    };
    host.configure("", &[(port("br7", "tap1", 1), 5)]);
    let check = host.check();
    let commands: Vec<&str> = check
        .findings
        .iter()
        .map(|finding| finding["mend"].as_str().unwrap())
        .collect();
    assert_eq!(
        commands[0],
        "ip link add br7 type bridge && ip link set br7 up"
    );
    host.mend_all();
}

#[test]
fn an_interface_of_a_guests_own_is_no_port() {
    let Some(host) = bridged("an_interface_of_a_guests_own_is_no_port") else {
        return;
    };
    host.configure("", &[(json!({ "Interface": "tap1" }), 5)]);
    let check = host.check();
    let (what, mend) = check.only();
    assert!(what.contains("it is a port of bridge br0"), "{what}");
    // The document it asks for is one that is taken.
    let attachment = mend.split_once(" by ").unwrap().1;
    let attachment: Value = serde_json::from_str(attachment).unwrap();
    assert_eq!(attachment, port("br0", "tap1", 1));
    host.configure("", &[(attachment, 5)]);
    host.mend(&format!(
        "imdsd guest-rules --config {}/imdsd.toml | nft -f -",
        host.directory.path().display()
    ));
    host.check().assert_fine();
}

/// Two guests on interfaces of their own with one address, which connection tracking would take for one.
#[test]
fn guests_with_one_address_must_not_be_tracked() {
    let test = "guests_with_one_address_must_not_be_tracked";
    let Some(mut host) = bridged(test) else {
        return;
    };
    if !std::path::Path::new("/proc/sys/net/netfilter/nf_conntrack_max").exists() {
        return skip(test, "there is no connection tracking here");
    }
    for name in ["own1", "own2"] {
        host.guest(name, 8);
        host.sh(&format!(
            "ip address add 169.254.169.254/32 dev {name}; ip address add fd00:ec2::254/128 dev {name} nodad
             ip -6 route add fd11::8/128 dev {name} metric 10{}",
            &name[3..]
        ));
    }
    host.configure(
        "",
        &[
            (json!({ "Interface": "own1" }), 8),
            (json!({ "Interface": "own2" }), 8),
        ],
    );
    let check = host.check();
    assert_eq!(check.findings.len(), 2, "{check:#?}");
    assert!(
        check.findings[0]["what"]
            .as_str()
            .unwrap()
            .contains("i-00000002 has the address 10.0.0.8 too"),
        "{check:#?}"
    );
    host.mend(check.findings[0]["mend"].as_str().unwrap());
    host.check().assert_fine();
    // The rules are known to be missing again, and to be of other guests.
    host.sh("nft delete table inet imdsd");
    assert_eq!(host.check().findings.len(), 2);
}
