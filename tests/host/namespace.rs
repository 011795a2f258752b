//! Guests in network namespaces of their own.

use serde_json::json;

use crate::lab::Host;

#[test]
fn a_namespace_is_looked_at_from_inside() {
    let Some(mut host) = Host::new("a_namespace_is_looked_at_from_inside") else {
        return;
    };
    let guest = host.guest("tap0", 5);
    let path = format!("/proc/{}/ns/net", host.pid(guest));
    host.configure("", &[(json!({ "NetworkNamespace": path }), 7)]);
    host.guest_sh(guest, "ip address flush dev eth0 scope global");
    let check = host.check();
    let mends: Vec<&str> = check
        .findings
        .iter()
        .map(|finding| finding["mend"].as_str().unwrap())
        .collect();
    let enter = format!("nsenter --net={path} ip");
    assert_eq!(
        mends,
        [
            format!("{enter} address add 169.254.169.254/32 dev eth0"),
            format!("{enter} address add fd00:ec2::254/128 dev eth0 nodad"),
            format!("{enter} route add 10.0.0.7/32 dev eth0"),
            format!("{enter} -6 route add fd11::7/128 dev eth0"),
        ],
        "{check:#?}"
    );
    for mend in mends {
        host.mend(mend);
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
    host.mend(check.only().1);
    host.check().assert_fine();

    // Another kind of namespace, and none at all.
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

/// By name, in a /run of the test's own, exactly as an operator would paste what is printed.
#[test]
fn a_namespace_that_is_missing_is_made_by_the_commands_that_are_printed() {
    let test = "a_namespace_that_is_missing_is_made_by_the_commands_that_are_printed";
    let Some(host) = Host::new(test) else { return };
    host.configure("", &[(json!({ "NetworkNamespace": "blue" }), 7)]);
    let script = format!(
        "mount -t tmpfs tmpfs /run && cd '{}' || exit 1
         for round in 1 2 3 4; do
             {imdsd} check --host --config imdsd.toml >said.$round; echo $? >>statuses
             grep '^    fix: ' said.$round | sed 's/^    fix: //' >>commands
             sed -n 's/^    fix: //p' said.$round | sh -e
         done",
        host.directory.path().display(),
        imdsd = env!("CARGO_BIN_EXE_imdsd"),
    );
    let mut command = host.namespace.command("unshare");
    let said = command
        .args(["--mount", "sh", "-c", &script])
        .output()
        .unwrap();
    let read =
        |name: &str| std::fs::read_to_string(host.directory.path().join(name)).unwrap_or_default();
    assert!(
        said.status.success(),
        "{}",
        String::from_utf8_lossy(&said.stderr)
    );
    assert_eq!(
        read("statuses"),
        "1\n1\n1\n0\n",
        "{}{}",
        read("said.4"),
        String::from_utf8_lossy(&said.stderr)
    );
    assert_eq!(
        read("commands"),
        "ip netns add blue\n\
         ip -n blue address add 169.254.169.254/32 dev lo\nip -n blue address add fd00:ec2::254/128 dev lo nodad\n\
         ip -n blue link set lo up\nip -n blue link set lo up\n"
    );
}
