//! Guests in network namespaces of their own.

use serde_json::json;

use crate::lab::Host;

#[test]
#[ignore = "needs network namespaces, iproute2, nft and curl; tests/all runs it"]
fn a_namespace_is_checked_from_inside() {
    let mut host = Host::new();
    let guest = host.guest("tap0", 5);
    let path = format!("/proc/{}/ns/net", host.pid(guest));
    host.configure("", &[(json!({ "NetworkNamespace": path }), 7)]);
    host.guest_sh(guest, "ip address flush dev eth0 scope global");
    let check = host.check();
    let fixes: Vec<&str> = check
        .findings
        .iter()
        .map(|finding| finding["mend"].as_str().unwrap())
        .collect();
    let enter = format!("nsenter --net={path} ip");
    assert_eq!(
        fixes,
        [
            format!("{enter} address add 169.254.169.254/32 dev eth0"),
            format!("{enter} address add fd00:ec2::254/128 dev eth0 nodad"),
            format!("{enter} route add 10.0.0.7/32 dev eth0"),
            format!("{enter} -6 route add fd11::7/128 dev eth0"),
        ],
        "{check:#?}"
    );
    for fix in fixes {
        host.fix(fix);
    }
    host.check().assert_fine();

    host.guest_sh(
        guest,
        "ip address del 169.254.169.254/32 dev eth0; ip address add 169.254.169.254/32 dev lo",
    );
    host.guest_sh(
        guest,
        "ip route add 10.0.0.7/32 dev eth0 2>/dev/null || true; ip link set lo down",
    );
    let check = host.check();
    assert_eq!(check.only().1, format!("{enter} link set lo up"));
    host.fix(check.only().1);
    host.check().assert_fine();

    // A namespace of another kind, and a path that does not exist.
    host.configure(
        "",
        &[(
            json!({ "NetworkNamespace": format!("/proc/{}/ns/uts", host.pid(guest)) }),
            7,
        )],
    );
    assert!(host.check().only().0.contains("is not a network namespace"));
    host.configure(
        "",
        &[(json!({ "NetworkNamespace": "/proc/1/ns/nothing" }), 7)],
    );
    assert_eq!(host.check().only().0, "there is no such file");
}

/// A namespace given by name, in a /run of the test's own, with the commands run as an operator
/// would paste them.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and curl; tests/all runs it"]
fn a_missing_namespace_is_created_by_the_printed_commands() {
    let host = Host::new();
    host.configure("", &[(json!({ "NetworkNamespace": "blue" }), 7)]);
    let script = format!(
        "mount -t tmpfs tmpfs /run && cd '{}' || exit 1
         for round in 1 2 3 4; do
             {imdsd} check --host --config imdsd.toml >output.$round; echo $? >>statuses
             grep '^    fix: ' output.$round | sed 's/^    fix: //' >>commands
             sed -n 's/^    fix: //p' output.$round | sh -e
         done",
        host.directory.path().display(),
        imdsd = env!("CARGO_BIN_EXE_imdsd"),
    );
    let mut command = host.namespace.command("unshare");
    let output = command
        .args(["--mount", "sh", "-c", &script])
        .output()
        .unwrap();
    let read =
        |name: &str| std::fs::read_to_string(host.directory.path().join(name)).unwrap_or_default();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(
        read("statuses"),
        "1\n1\n1\n0\n",
        "{}{}",
        read("output.4"),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(
        read("commands"),
        "ip netns add blue\n\
         ip -n blue address add 169.254.169.254/32 dev lo\nip -n blue address add fd00:ec2::254/128 dev lo nodad\n\
         ip -n blue link set lo up\nip -n blue link set lo up\n"
    );
}
