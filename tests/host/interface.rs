//! Guests on interfaces of their own.

use serde_json::json;

use crate::lab::{Host, instance};

/// What a fault does to the guest's requests.
#[derive(Clone, Copy, PartialEq)]
enum Answered {
    /// As before; the fault lets the guest do harm.
    Both,
    ByIpv6,
    ByIpv4,
}

#[test]
fn what_keeps_a_guest_out_is_found_and_mended() {
    let Some(mut host) = Host::new("what_keeps_a_guest_out_is_found_and_mended") else {
        return;
    };
    let guest = host.guest("tap0", 5);
    host.set_up("tap0", 5);
    host.configure("", &[(json!({ "Interface": "tap0" }), 5)]);
    // Settings in the interface that leads nowhere near the guest.
    host.sh(
        "ip link add eth9 type veth peer name eth9p && ip link set eth9 up && ip link set eth9p up
         ip address add 192.0.2.1/24 dev eth9",
    );
    host.check().assert_fine();
    host.serve();
    host.wait_until_answered(guest);

    use Answered::{Both, ByIpv4, ByIpv6};
    for (fault, what, mend, answered, undo) in [
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
        // The interface's own value is 0 all the while.
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
        assert!(command.starts_with(mend), "{fault}: {command}");
        assert_eq!(check.findings[0]["instance"], instance(1));
        assert_eq!(check.findings[0]["attachment"], "interface 'tap0'");
        let expected = (
            matches!(answered, Both | ByIpv4),
            matches!(answered, Both | ByIpv6),
        );
        assert_eq!(host.answers(guest), expected, "{fault}");

        host.mend(command);
        host.check().assert_fine();
        host.wait_until_answered(guest);
        if !undo.is_empty() {
            host.sh(undo);
            host.check().assert_fine();
        }
    }

    // What goes down loses its IPv6 addresses and routes: one thing comes after another.
    host.sh("ip link set tap0 down");
    let check = host.check();
    assert_eq!(check.only(), ("tap0 is down", "ip link set tap0 up"));
    assert_eq!(host.answers(guest), (false, false));
    host.mend_all();
    host.wait_until_answered(guest);

    host.sh("sysctl -qw net.ipv6.conf.tap0.disable_ipv6=1");
    let check = host.check();
    assert_eq!(
        check.findings[0]["mend"],
        "sysctl -w net.ipv6.conf.tap0.disable_ipv6=0"
    );
    assert_eq!(host.answers(guest), (true, false));
    host.mend_all();
    host.wait_until_answered(guest);
}

/// A guest that claims the address first keeps the host from it, unless it is there without asking.
#[test]
fn an_address_that_a_guest_claimed_first_is_found() {
    let Some(mut host) = Host::new("an_address_that_a_guest_claimed_first_is_found") else {
        return;
    };
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
        what.contains("somebody behind the interface claimed it first"),
        "{what}"
    );
    assert_eq!(
        command,
        "ip address del fd00:ec2::254/64 dev tap0 && ip address add fd00:ec2::254/128 dev tap0 nodad"
    );
    host.mend(command);
    host.check().assert_fine();
}

#[test]
fn what_is_found_is_said_in_words_and_counted() {
    let Some(mut host) = Host::new("what_is_found_is_said_in_words_and_counted") else {
        return;
    };
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
    let said = host.check_in_words();
    assert!(
        said.ends_with("2 of 2 guests on this host are ready to be served\n"),
        "{said}"
    );
    // A name with a dot in it is one name.
    host.sh("sysctl -qw net/ipv6/conf/tap0.1/accept_ra=1");
    let said = host.check_in_words();
    assert!(
        said.ends_with(
            "\ni-00000001: interface 'tap0.1': the guest could give the host a default route: it heeds router \
             advertisements on tap0.1\n    fix: sysctl -w net/ipv6/conf/tap0.1/accept_ra=0\n\
             1 of 2 guests on this host are ready to be served\n"
        ),
        "{said}"
    );
    host.mend(host.check().only().1);
    host.check().assert_fine();

    // Its interface is gone: no command brings a guest back.
    host.sh("ip link del tap1");
    let check = host.check();
    let (what, mend) = check.only();
    assert!(what.starts_with("there is no interface tap1"), "{what}");
    assert!(mend.starts_with("start the guest"), "{mend}");
}

#[test]
fn what_the_daemon_is_to_put_is_not_missing_before_it_runs() {
    let Some(mut host) = Host::new("what_the_daemon_is_to_put_is_not_missing_before_it_runs")
    else {
        return;
    };
    let guest = host.guest("tap0", 5);
    host.configure(
        "addresses = \"manage\"",
        &[(json!({ "Interface": "tap0" }), 5)],
    );
    host.check().assert_fine();
    // A way to the host's own service keeps the daemon from it.
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

/// An address on the guest's interface would cut the host off from the service that it asks: no command may say to put one.
#[test]
fn where_the_host_asks_a_metadata_service_itself_no_command_puts_an_address() {
    let test = "where_the_host_asks_a_metadata_service_itself_no_command_puts_an_address";
    let Some(mut host) = Host::new(test) else {
        return;
    };
    host.guest("tap0", 5);
    let document = [(json!({ "Interface": "tap0" }), 5)];
    host.configure("", &document);
    host.sh(
        "ip link add lan0 type veth peer name lan1 && ip link set lan0 up && ip link set lan1 up
         ip -6 route add fd11::5/128 dev tap0; ip route add 169.254.169.254/32 dev lan0",
    );
    let check = host.check();
    let (what, mend) = check.only();
    assert!(
        what.contains("there is a route to 169.254.169.254 by lan0"),
        "{what}"
    );
    assert!(
        mend.contains("shadow_host_metadata") && !mend.contains("ip address add"),
        "{mend}"
    );
    // Said by the operator, it needs none.
    host.configure("shadow_host_metadata = true", &document);
    let check = host.check();
    let mends: Vec<&str> = check
        .findings
        .iter()
        .map(|finding| finding["mend"].as_str().unwrap())
        .collect();
    assert_eq!(
        mends,
        [
            "ip address add 169.254.169.254/32 dev tap0",
            "ip address add fd00:ec2::254/128 dev tap0 nodad"
        ],
        "{check:#?}"
    );
}

/// Without the capability nothing is put, and everybody who is asked names it: the check, and the daemon itself.
#[test]
fn a_daemon_that_may_not_put_addresses_is_said_to_lack_the_capability() {
    let test = "a_daemon_that_may_not_put_addresses_is_said_to_lack_the_capability";
    let Some(mut host) = Host::new(test) else {
        return;
    };
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
    let said = host.run(
        "exec \"$@\"",
        &["instance", "explain", &instance(1), "--socket", &socket],
    );
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(
        said.contains("address 169.254.169.254 can't be put there")
            && said.contains("CAP_NET_ADMIN"),
        "{said}"
    );
    assert!(!said.contains("a route to"), "{said}");
}

/// sysctl takes what is before the first `=` for the name.
#[test]
fn a_name_that_sysctl_would_cut_is_mended_all_the_same() {
    let Some(mut host) = Host::new("a_name_that_sysctl_would_cut_is_mended_all_the_same") else {
        return;
    };
    host.guest("tap=0", 5);
    host.set_up("tap=0", 5);
    host.configure("", &[(json!({ "Interface": "tap=0" }), 5)]);
    host.check().assert_fine();
    host.sh("echo 2 >'/proc/sys/net/ipv4/conf/tap=0/rp_filter'; echo 8 >'/proc/sys/net/ipv4/conf/tap=0/arp_ignore'");
    assert_eq!(host.check().findings.len(), 2);
    host.mend_all();
}

/// The kernel takes IPv6 from an interface whose MTU is too small, and says "Invalid argument" to who would put an address.
#[test]
fn an_mtu_that_is_too_small_for_ipv6_is_mended_first() {
    let Some(mut host) = Host::new("an_mtu_that_is_too_small_for_ipv6_is_mended_first") else {
        return;
    };
    host.guest("tap0", 5);
    host.set_up("tap0", 5);
    host.configure("", &[(json!({ "Interface": "tap0" }), 5)]);
    host.sh("ip link set tap0 mtu 1000");
    assert_eq!(host.check().only().1, "ip link set tap0 mtu 1280");
    host.mend_all();
}

/// The record of an instance counts, not the document that it was once registered from; a daemon may be running on it.
#[test]
fn what_the_state_directory_has_counts() {
    let Some(mut host) = Host::new("what_the_state_directory_has_counts") else {
        return;
    };
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

/// Without privilege, interfaces are looked at and what is hidden is said.
#[test]
fn it_needs_no_privilege() {
    let Some(mut host) = Host::new("it_needs_no_privilege") else {
        return;
    };
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
    let mends: Vec<&str> = check
        .findings
        .iter()
        .map(|finding| finding["mend"].as_str().unwrap())
        .collect();
    assert_eq!(mends.len(), 3, "{check:#?}");
    assert_eq!(mends[0], "ip address add 169.254.169.254/32 dev tap0");
    assert!(
        check.unseen.contains("i-00000002: network namespace"),
        "{check:#?}"
    );
    assert!(
        check.unseen.contains("not checked: the inside: "),
        "{check:#?}"
    );
}

/// Rules that leave a guest out would put it out: with one that can't be read, what is printed is nothing that nft takes.
#[test]
fn no_rules_are_printed_when_a_record_is_unreadable() {
    let Some(mut host) = Host::new("no_rules_are_printed_when_a_record_is_unreadable") else {
        return;
    };
    host.guest("tap0", 5);
    host.set_up("tap0", 5);
    host.configure("", &[(json!({ "Interface": "tap0" }), 5)]);
    let rules = host.run("exec \"$@\"", &["guest-rules", "--config", &host.config()]);
    assert!(rules.status.success());
    assert!(
        String::from_utf8(rules.stdout)
            .unwrap()
            .contains("table inet imdsd")
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
    // A shell's pipe ends with the status of its last command, and nft is content with nothing at all.
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
        check.unseen.contains("not checked") && check.unseen.contains("unreadable record"),
        "{check:#?}"
    );
    check.assert_fine();
}
