//! Guests on interfaces of their own.

use serde_json::json;

use crate::lab::{Host, instance};

/// By which families the guest gets replies despite the fault.
#[derive(Clone, Copy, PartialEq)]
enum Answered {
    /// Both: the fault does not affect the service, but the guest could exploit it.
    Both,
    ByIpv6,
    ByIpv4,
}

#[test]
#[ignore = "needs network namespaces, iproute2, nft and curl; tests/all runs it"]
fn what_keeps_a_guest_from_the_service_is_found_and_fixed() {
    let mut host = Host::new();
    let guest = host.guest("tap0", 5);
    host.set_up("tap0", 5);
    host.configure("", &[(json!({ "Interface": "tap0" }), 5)]);
    // An interface that does not lead to the guest.
    host.sh(
        "ip link add eth9 type veth peer name eth9p && ip link set eth9 up && ip link set eth9p up
         ip address add 192.0.2.1/24 dev eth9",
    );
    host.check().assert_fine();
    host.serve();
    host.wait_until_answered(guest);

    use Answered::{Both, ByIpv4, ByIpv6};
    for (fault, what, fix, answered, undo) in [
        (
            "ip address del 169.254.169.254/32 dev tap0",
            "tap0 lacks the address 169.254.169.254",
            "ip address add 169.254.169.254/32 dev tap0",
            ByIpv6,
            "",
        ),
        (
            "ip address del fd00:ec2::254/128 dev tap0",
            "tap0 lacks the address fd00:ec2::254",
            "ip address add fd00:ec2::254/128 dev tap0 nodad",
            ByIpv4,
            "",
        ),
        (
            "ip -6 route del fd11::5/128 dev tap0",
            "no route leads to fd11::5 by tap0",
            "ip -6 route add fd11::5/128 dev tap0 metric ",
            ByIpv4,
            "",
        ),
        (
            "sysctl -qw net.ipv4.conf.tap0.rp_filter=2",
            "no route leads to 10.0.0.5",
            "sysctl -w net.ipv4.conf.tap0.rp_filter=0",
            ByIpv6,
            "",
        ),
        // The interface's own value stays 0.
        (
            "sysctl -qw net.ipv4.conf.all.rp_filter=1",
            "rp_filter is 1 (strict) on tap0",
            "sysctl -w net.ipv4.conf.all.rp_filter=0",
            ByIpv6,
            "",
        ),
        // With a default route, loose is enough.
        (
            "ip route add default dev eth9; sysctl -qw net.ipv4.conf.all.rp_filter=1",
            "the route to 10.0.0.5 leaves by another interface",
            "sysctl -w net.ipv4.conf.tap0.rp_filter=2",
            ByIpv6,
            "ip route del default; sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.tap0.rp_filter=0",
        ),
        (
            "sysctl -qw net.ipv4.conf.all.arp_ignore=8",
            "no ARP request is answered",
            "sysctl -w net.ipv4.conf.all.arp_ignore=1",
            ByIpv6,
            "sysctl -qw net.ipv4.conf.all.arp_ignore=0",
        ),
        (
            "sysctl -qw net.ipv4.conf.tap0.arp_ignore=2",
            "ARP is answered only",
            "sysctl -w net.ipv4.conf.tap0.arp_ignore=1",
            ByIpv6,
            "",
        ),
        (
            "sysctl -qw net.ipv4.conf.tap0.arp_filter=1",
            "the guest's ARP is not answered",
            "sysctl -w net.ipv4.conf.tap0.arp_filter=0",
            ByIpv6,
            "",
        ),
        (
            "ip address add 10.0.0.5/32 dev eth9",
            "10.0.0.5 is an address of the host too",
            "sysctl -w net.ipv4.conf.tap0.accept_local=1",
            ByIpv6,
            "ip address del 10.0.0.5/32 dev eth9; sysctl -qw net.ipv4.conf.tap0.accept_local=0",
        ),
        (
            "sysctl -qw net.ipv6.conf.tap0.accept_ra=1",
            "the guest could give the host a default route",
            "sysctl -w net.ipv6.conf.tap0.accept_ra=0",
            Both,
            "",
        ),
    ] {
        host.sh(fault);
        let check = host.check();
        let (found, command) = check.only();
        assert!(found.contains(what), "{fault}: {found}");
        assert!(command.starts_with(fix), "{fault}: {command}");
        assert_eq!(check.findings[0]["instance"], instance(1));
        let is_advice = check.findings[0]["is_advice"] == true;
        assert_eq!(is_advice, answered == Both, "{fault}");
        assert_eq!(check.findings[0]["attachment"], "interface 'tap0'");
        let expected = (
            matches!(answered, Both | ByIpv4),
            matches!(answered, Both | ByIpv6),
        );
        assert_eq!(host.answers(guest), expected, "{fault}");

        host.fix(command);
        host.check().assert_fine();
        host.wait_until_answered(guest);
        if !undo.is_empty() {
            host.sh(undo);
            host.check().assert_fine();
        }
    }

    // An interface that goes down loses its IPv6 addresses and routes, so it takes several rounds.
    host.sh("ip link set tap0 down");
    let check = host.check();
    assert_eq!(check.only(), ("tap0 is down", "ip link set tap0 up"));
    assert_eq!(host.answers(guest), (false, false));
    host.fix_all();
    host.wait_until_answered(guest);

    host.sh("sysctl -qw net.ipv6.conf.tap0.disable_ipv6=1");
    let check = host.check();
    assert_eq!(
        check.findings[0]["mend"],
        "sysctl -w net.ipv6.conf.tap0.disable_ipv6=0"
    );
    assert_eq!(host.answers(guest), (true, false));
    host.fix_all();
    host.wait_until_answered(guest);
}

/// Duplicate address detection (RFC 4862) lets a guest that claims the address first keep it from
/// the host, unless it was added with nodad.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and curl; tests/all runs it"]
fn an_address_that_a_guest_claimed_first_is_found() {
    let mut host = Host::new();
    let guest = host.guest("tap0", 5);
    host.set_up("tap0", 5);
    host.configure("", &[(json!({ "Interface": "tap0" }), 5)]);
    host.guest_sh(guest, "ip address add fd00:ec2::254/128 dev eth0 nodad");
    host.sh(
        "sysctl -qw net.ipv6.conf.tap0.accept_dad=1; ip address del fd00:ec2::254/128 dev tap0
         ip address add fd00:ec2::254/64 dev tap0",
    );
    let deadline = std::time::Instant::now() + crate::support::PATIENCE;
    while !host.sh("ip -6 address show dev tap0").contains("dadfailed") {
        assert!(
            std::time::Instant::now() < deadline,
            "{}",
            host.sh("ip -6 address show dev tap0")
        );
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let check = host.check();
    let (what, command) = check.only();
    assert!(
        what.contains("a node behind the interface claimed it first"),
        "{what}"
    );
    assert_eq!(
        command,
        "ip address del fd00:ec2::254/64 dev tap0 && ip address add fd00:ec2::254/128 dev tap0 nodad"
    );
    host.fix(command);
    host.check().assert_fine();
}

#[test]
#[ignore = "needs network namespaces, iproute2, nft and curl; tests/all runs it"]
fn findings_are_printed_as_text_and_guests_are_counted() {
    let mut host = Host::new();
    host.guest("tap0.1", 5);
    host.guest("tap1", 6);
    host.set_up("tap0.1", 5);
    host.set_up("tap1", 6);
    host.configure(
        "",
        &[
            (json!({ "Interface": "tap0.1" }), 5),
            (json!({ "Interface": "tap1" }), 6),
        ],
    );
    const NOTE: &str = "note: no guest rules are loaded: the daemon alone keeps the host's own";
    assert!(host.check().unchecked.contains(NOTE));
    host.fix(&format!(
        "imdsd guest-rules --config {} | nft -f -",
        host.config()
    ));
    assert!(!host.check().unchecked.contains(NOTE));
    let output = host.check_as_text();
    assert!(
        output.ends_with("2 of 2 guests on this host's network are fine\n"),
        "{output}"
    );
    // A dot in a name does not split it. Advice is not counted: the guest is served.
    host.sh("sysctl -qw net/ipv6/conf/tap0.1/accept_ra=1");
    let output = host.check_as_text();
    assert!(
        output.ends_with(
            "\ni-00000001: interface 'tap0.1': advice: the guest could give the host a default route: it accepts router \
             advertisements on tap0.1\n    fix: sysctl -w net/ipv6/conf/tap0.1/accept_ra=0\n\
             2 of 2 guests on this host's network are fine\n"
        ),
        "{output}"
    );
    host.fix(host.check().only().1);
    host.check().assert_fine();
    host.sh("sysctl -qw net/ipv4/conf/tap0.1/arp_ignore=8");
    let output = host.check_as_text();
    assert!(
        output.ends_with(
            "    fix: sysctl -w net/ipv4/conf/tap0.1/arp_ignore=1\n\
             1 of 2 guests on this host's network are fine\n"
        ),
        "{output}"
    );
    host.fix(host.check().only().1);
    host.check().assert_fine();

    // The interface is gone: no command can restart a guest.
    host.sh("ip link del tap1");
    let check = host.check();
    let (what, fix) = check.only();
    assert!(what.starts_with("there is no interface tap1"), "{what}");
    assert!(fix.starts_with("start the guest"), "{fix}");
}

#[test]
#[ignore = "needs network namespaces, iproute2, nft and curl; tests/all runs it"]
fn addresses_that_the_daemon_manages_are_not_missing_while_it_is_stopped() {
    let mut host = Host::new();
    let guest = host.guest("tap0", 5);
    host.configure(
        "addresses = \"manage\"",
        &[(json!({ "Interface": "tap0" }), 5)],
    );
    host.check().assert_fine();
    // A route to a metadata service of the host's own keeps the daemon from adding addresses.
    host.sh(
        "ip link add eth9 type veth peer name eth9p && ip link set eth9 up && ip link set eth9p up
         ip route add 169.254.169.254/32 dev eth9",
    );
    let check = host.check();
    let (what, _) = check.only();
    assert!(
        what.contains("there is a route to 169.254.169.254 by eth9"),
        "{what}"
    );
    host.sh("ip link del eth9");
    host.serve();
    host.wait_until_answered(guest);
    host.check().assert_fine();
}

/// An address on the guest's interface would cut the host off from its own metadata service: no
/// command may add one.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and curl; tests/all runs it"]
fn no_command_adds_an_address_to_a_host_that_uses_a_metadata_service() {
    let mut host = Host::new();
    host.guest("tap0", 5);
    let document = [(json!({ "Interface": "tap0" }), 5)];
    host.configure("", &document);
    host.sh(
        "ip link add lan0 type veth peer name lan1 && ip link set lan0 up && ip link set lan1 up
         ip -6 route add fd11::5/128 dev tap0; ip route add 169.254.169.254/32 dev lan0",
    );
    let check = host.check();
    let (what, fix) = check.only();
    assert!(
        what.contains("there is a route to 169.254.169.254 by lan0"),
        "{what}"
    );
    assert!(
        fix.contains("shadow_host_metadata") && !fix.contains("ip address add"),
        "{fix}"
    );
    // The operator says that the host needs none.
    host.configure("shadow_host_metadata = true", &document);
    let check = host.check();
    let fixes: Vec<&str> = check
        .findings
        .iter()
        .map(|finding| finding["mend"].as_str().unwrap())
        .collect();
    assert_eq!(
        fixes,
        [
            "ip address add 169.254.169.254/32 dev tap0",
            "ip address add fd00:ec2::254/128 dev tap0 nodad"
        ],
        "{check:#?}"
    );
}

/// Without the capability no address is added, and both the check and the daemon name it.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and curl; tests/all runs it"]
fn a_daemon_without_the_capability_to_add_addresses_is_reported() {
    let mut host = Host::new();
    host.guest("tap0", 5);
    host.configure(
        "addresses = \"manage\"",
        &[(json!({ "Interface": "tap0" }), 5)],
    );
    host.serve_without("net_admin");
    let check = host.check();
    assert_eq!(
        (check.status, check.findings.len()),
        (Some(1), 2),
        "{check:#?}"
    );
    for finding in &check.findings {
        assert!(
            finding["what"]
                .as_str()
                .unwrap()
                .contains("it lacks CAP_NET_ADMIN"),
            "{finding}"
        );
        assert!(
            finding["mend"]
                .as_str()
                .unwrap()
                .contains("systemd/manage-addresses.conf"),
            "{finding}"
        );
    }
    let socket = host
        .directory
        .path()
        .join("run/admin.sock")
        .display()
        .to_string();
    let output = host.run(
        "exec \"$@\"",
        &["instance", "explain", &instance(1), "--socket", &socket],
    );
    let output = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.contains("cannot add address 169.254.169.254") && output.contains("CAP_NET_ADMIN"),
        "{output}"
    );
    assert!(!output.contains("a route to"), "{output}");
}

/// sysctl ends a name at the first `=`.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and curl; tests/all runs it"]
fn settings_of_a_name_that_sysctl_would_cut_are_fixed() {
    let mut host = Host::new();
    host.guest("tap=0", 5);
    host.set_up("tap=0", 5);
    host.configure("", &[(json!({ "Interface": "tap=0" }), 5)]);
    host.check().assert_fine();
    host.sh("echo 2 >'/proc/sys/net/ipv4/conf/tap=0/rp_filter'; echo 8 >'/proc/sys/net/ipv4/conf/tap=0/arp_ignore'");
    assert_eq!(host.check().findings.len(), 2);
    host.fix_all();
}

/// The kernel disables IPv6 on an interface whose MTU is too small (RFC 8200), and answers "Invalid
/// argument" when an address is added.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and curl; tests/all runs it"]
fn an_mtu_that_is_too_small_for_ipv6_is_fixed_first() {
    let mut host = Host::new();
    host.guest("tap0", 5);
    host.set_up("tap0", 5);
    host.configure("", &[(json!({ "Interface": "tap0" }), 5)]);
    host.sh("ip link set tap0 mtu 1000");
    assert_eq!(host.check().only().1, "ip link set tap0 mtu 1280");
    host.fix_all();
}

/// The stored record of an instance applies, not the document that it was registered from.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and curl; tests/all runs it"]
fn the_check_reads_the_state_directory() {
    let mut host = Host::new();
    host.guest("tap0", 5);
    host.set_up("tap0", 5);
    host.configure("", &[(json!({ "Interface": "tap0" }), 5)]);
    host.serve();
    host.sh("ip address del 169.254.169.254/32 dev tap0");
    host.configure("", &[(json!({ "Interface": "tap1" }), 5)]);
    assert_eq!(
        host.check().only().1,
        "ip address add 169.254.169.254/32 dev tap0"
    );
    host.configure("", &[]);
    assert_eq!(
        host.check().only().1,
        "ip address add 169.254.169.254/32 dev tap0"
    );
}

/// Without privilege, interfaces are checked, and what could not be read is reported.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and curl; tests/all runs it"]
fn the_check_works_without_privilege() {
    let mut host = Host::new();
    let guest = host.guest("tap0", 5);
    let namespace = format!("/proc/{}/ns/net", host.pid(guest));
    host.configure(
        "",
        &[
            (json!({ "Interface": "tap0" }), 5),
            (json!({ "NetworkNamespace": namespace }), 6),
        ],
    );
    let check = host.check_after("exec setpriv --bounding-set=-all --inh-caps=-all \"$@\"");
    let fixes: Vec<&str> = check
        .findings
        .iter()
        .map(|finding| finding["mend"].as_str().unwrap())
        .collect();
    assert_eq!(fixes.len(), 3, "{check:#?}");
    assert_eq!(fixes[0], "ip address add 169.254.169.254/32 dev tap0");
    assert!(
        check.unchecked.contains("i-00000002: network namespace"),
        "{check:#?}"
    );
    assert!(
        check
            .unchecked
            .contains("not checked: the inside of the namespace: "),
        "{check:#?}"
    );
}

/// Rules without a guest would block that guest. If a record is unreadable, the output is a line
/// that nft rejects.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and curl; tests/all runs it"]
fn no_rules_are_printed_when_a_record_is_unreadable() {
    let mut host = Host::new();
    host.guest("tap0", 5);
    host.set_up("tap0", 5);
    host.configure("", &[(json!({ "Interface": "tap0" }), 5)]);
    let rules = host.run("exec \"$@\"", &["guest-rules", "--config", &host.config()]);
    assert!(rules.status.success());
    assert!(
        String::from_utf8(rules.stdout)
            .unwrap()
            .contains("table inet imdsd-")
    );

    let records = host.directory.path().join("state/instances");
    std::fs::create_dir_all(&records).unwrap();
    std::fs::write(records.join("i-00000009.json"), "{").unwrap();
    let rules = host.run("exec \"$@\"", &["guest-rules", "--config", &host.config()]);
    let printed = String::from_utf8(rules.stdout).unwrap();
    assert_eq!(
        (rules.status.code(), printed.lines().count()),
        (Some(1), 1),
        "{printed}"
    );
    assert!(printed.starts_with("refused # "), "{printed}");
    // A pipe ends with the status of its last command, and nft accepts an empty script.
    let loaded = host.run(
        "\"$@\" | nft --check --file -",
        &["guest-rules", "--config", &host.config()],
    );
    assert!(!loaded.status.success());
    assert!(
        String::from_utf8(rules.stderr)
            .unwrap()
            .contains("unreadable record")
    );
    let check = host.check();
    assert!(
        check.unchecked.contains("not checked") && check.unchecked.contains("unreadable record"),
        "{check:#?}"
    );
    check.assert_fine();
}
