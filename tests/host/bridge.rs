//! Guests on a bridge, and guests with the same address.

use serde_json::{Value, json};

use crate::lab::{Check, Host};
use crate::support::require;

/// Removes the table of the family bridge, whose name depends on the test's directory.
const WITHOUT_BRIDGE_RULES: &str =
    "nft delete table $(nft list tables | grep -o 'bridge imdsd-.*')";

fn port(bridge: &str, port: &str, mark: u32) -> Value {
    json!({ "BridgePort": { "Bridge": bridge, "Port": port, "Mark": mark } })
}

/// Creates a host with two guests on a bridge, and everything they need except the rules.
fn bridged() -> Host {
    let mut host = Host::new();
    let listed = host
        .namespace
        .command("nft")
        .args(["--json", "list", "ruleset"])
        .output();
    require(
        listed.is_ok_and(|output| output.status.success()),
        "nftables with JSON output",
    );
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
    host
}

/// Panics where /sys cannot be mounted: it then shows the machine's own devices, which the check
/// must not read.
fn require_sys(check: &Check) {
    require(
        !check.unchecked.contains("whether the MAC"),
        "a /sys that can be mounted in a network namespace",
    );
}

#[test]
#[ignore = "needs network namespaces, iproute2, nft and curl; tests/all runs it"]
fn a_bridged_guest_needs_its_port_its_mark_and_its_rules() {
    let host = bridged();
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
    host.fix(&load);
    require_sys(&host.check());
    host.check().assert_fine();

    // A problem of the bridge is reported for each guest on it.
    for (fault, what, fix, guests) in [
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
            "any node on the bridge could give the host a default route",
            "sysctl -w net.ipv6.conf.br0.accept_ra=0",
            2,
        ),
        // A default route through a node on the bridge does not lead to the guests on it.
        (
            "ip address add 10.1.0.1/24 dev br0 && ip route add default via 10.1.0.254 dev br0",
            "only a route through a gateway leads to 10.0.0.",
            "ip route add 10.0.0.",
            2,
        ),
        (WITHOUT_BRIDGE_RULES, "guest rules: ", &load, 2),
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
                finding["mend"].as_str().unwrap().starts_with(fix),
                "{fault}: {finding}"
            );
        }
        // A bridge that was down has lost its IPv6 addresses. Problems of both guests are fixed
        // once.
        host.fix_all();
    }

    // A guest gets another address: the loaded rules are those of its old document.
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
    host.fix(&load);
    host.check().assert_fine();
}

/// Without findings the daemon serves the guests; with a finding it does not.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and curl; tests/all runs it"]
fn guests_on_a_bridge_are_served_when_nothing_is_found() {
    let mut host = bridged();
    host.fix_all();
    host.serve();
    host.wait_until_answered(1);
    host.wait_until_answered(2);
    for fault in [
        "sysctl -qw net.ipv4.tcp_fwmark_accept=0",
        WITHOUT_BRIDGE_RULES,
        "ip link set tap1 nomaster",
        // The routes lead through a gateway on the bridge, and the guests are not on-link.
        "ip address add 10.1.0.1/24 dev br0 && ip route add default via 10.1.0.254 dev br0
         ip -6 route flush proto boot; ip -6 address add fd12::1/64 dev br0 nodad
         ip -6 route add default via fd12::fe dev br0",
    ] {
        host.sh(fault);
        assert!(!host.check().findings.is_empty(), "{fault}");
        assert_eq!(host.answers(1), (false, false), "{fault}");
        host.fix_all();
        host.wait_until_answered(1);
    }
}

#[test]
#[ignore = "needs network namespaces, iproute2, nft and curl; tests/all runs it"]
fn a_bridge_must_have_a_fixed_mac() {
    let host = bridged();
    host.sh(
        "ip link del br0 && ip link add br0 type bridge && ip link set br0 up
         ip link set tap1 master br0 && ip link set tap2 master br0",
    );
    host.set_up("br0", 5);
    host.sh("ip -6 route add fd11::6/128 dev br0");
    host.fix(&format!(
        "imdsd guest-rules --config {}/imdsd.toml | nft -f -",
        host.directory.path().display()
    ));
    let check = host.check();
    require_sys(&check);
    assert_eq!(check.findings.len(), 2, "{check:#?}");
    let fix = check.findings[0]["mend"].as_str().unwrap();
    assert!(fix.starts_with("ip link set br0 address "), "{fix}");
    host.fix(fix);
    host.check().assert_fine();
    // The bridge keeps the MAC when the port that it came from leaves.
    host.sh("ip link set tap1 nomaster; ip link set tap2 nomaster");
    let mac = fix.rsplit(' ').next().unwrap();
    assert!(host.sh("ip -o link show br0").contains(mac));
}

#[test]
#[ignore = "needs network namespaces, iproute2, nft and curl; tests/all runs it"]
fn a_missing_bridge_is_created_by_the_printed_command() {
    let host = bridged();
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
    host.fix_all();
}

#[test]
#[ignore = "needs network namespaces, iproute2, nft and curl; tests/all runs it"]
fn a_bridge_port_cannot_be_attached_as_an_interface() {
    let host = bridged();
    host.configure("", &[(json!({ "Interface": "tap1" }), 5)]);
    let check = host.check();
    let (what, fix) = check.only();
    assert!(what.contains("it is a port of bridge br0"), "{what}");
    // The attachment that it prints is valid in a document.
    let attachment = fix.split_once(" the attachment ").unwrap().1;
    let attachment: Value = serde_json::from_str(attachment).unwrap();
    assert_eq!(attachment, port("br0", "tap1", 1));
    host.configure("", &[(attachment, 5)]);
    host.fix(&format!(
        "imdsd guest-rules --config {}/imdsd.toml | nft -f -",
        host.directory.path().display()
    ));
    host.check().assert_fine();
}

/// Two guests on interfaces of their own have the same address: connection tracking would merge
/// their connections.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and curl; tests/all runs it"]
fn guests_with_the_same_address_must_not_be_tracked() {
    let mut host = bridged();
    let conntrack = std::path::Path::new("/proc/sys/net/netfilter/nf_conntrack_max");
    require(conntrack.exists(), "a kernel with connection tracking");
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
    host.fix(check.findings[0]["mend"].as_str().unwrap());
    host.check().assert_fine();
    // Without the table, the rules are missing again.
    host.sh("nft delete table $(nft list tables | grep -o 'inet imdsd-.*')");
    assert_eq!(host.check().findings.len(), 2);
}
