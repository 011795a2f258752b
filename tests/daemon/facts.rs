//! What imdsd derives for guests is what it shows to operators: the metadata tree and DescribeInstances,
//! with its filters, for documents that say little.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Daemon, INSTANCE, call, element};

const ETH0: &str = "02:00:00:00:00:10";
const ETH1: &str = "02:00:00:00:00:11";

/// A path below `meta-data/`, the element that says the same, and the filter.
const OF_INSTANCE: &[(&str, &str, Option<&str>)] = &[
    ("hostname", "privateDnsName", Some("private-dns-name")),
    ("local-hostname", "privateDnsName", Some("private-dns-name")),
    ("local-ipv4", "privateIpAddress", Some("private-ip-address")),
    ("ipv6", "ipv6Address", Some("ipv6-address")),
    ("public-ipv4", "ipAddress", Some("ip-address")),
    ("public-hostname", "dnsName", Some("dns-name")),
    (
        "placement/availability-zone",
        "availabilityZone",
        Some("availability-zone"),
    ),
    (
        "placement/availability-zone-id",
        "availabilityZoneId",
        Some("availability-zone-id"),
    ),
    ("instance-type", "instanceType", Some("instance-type")),
    ("ami-id", "imageId", Some("image-id")),
];

/// The same for an interface, without a filter.
const OF_INTERFACE: &[(&str, &str)] = &[
    ("local-hostname", "privateDnsName"),
    ("owner-id", "ownerId"),
    ("subnet-id", "subnetId"),
    ("vpc-id", "vpcId"),
    ("interface-id", "networkInterfaceId"),
    ("device-number", "deviceIndex"),
    ("mac", "macAddress"),
];

/// Documents: what is taken from the demo instance, and what it gets.
fn documents() -> Vec<(&'static [&'static str], Value)> {
    const NAMES: &[&str] = &["PrivateDnsName", "NetworkInterfaces"];
    const ADDRESSES: &[&str] = &[
        "PrivateDnsName",
        "PrivateIpAddress",
        "PublicIpAddress",
        "PublicDnsName",
        "Ipv6Address",
        "NetworkInterfaces",
    ];
    let interface = |more: Value| {
        let mut interface = json!({ "MacAddress": ETH0, "NetworkInterfaceId": "eni-1" });
        interface
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        interface
    };
    let second = json!({
        "MacAddress": ETH1, "Attachment": { "DeviceIndex": 1 }, "PrivateIpAddress": "10.0.1.9",
        "PrivateIpAddresses": [
            { "PrivateIpAddress": "10.0.1.8" }, { "PrivateIpAddress": "10.0.1.9", "Primary": true }
        ]
    });
    vec![
        (&[], json!({})),
        (NAMES, json!({})),
        (
            NAMES,
            json!({ "Placement": { "AvailabilityZone": "eu-west-1c" } }),
        ),
        (
            NAMES,
            json!({ "Placement": { "AvailabilityZone": "us-west-2-lax-1a" } }),
        ),
        (
            NAMES,
            json!({ "Placement": { "AvailabilityZone": "rack", "AvailabilityZoneId": "r1" } }),
        ),
        (ADDRESSES, json!({})),
        // Addresses of the interface only.
        (
            ADDRESSES,
            json!({ "NetworkInterfaces": [interface(json!({
                "PrivateIpAddress": "10.0.0.7",
                "Ipv6Addresses": [{ "Ipv6Address": "2001:db8::7" }, { "Ipv6Address": "2001:db8::8" }]
            }))] }),
        ),
        // IPv6 only.
        (
            ADDRESSES,
            json!({ "NetworkInterfaces": [interface(json!({
                "Ipv6Addresses": [{ "Ipv6Address": "2001:db8::7" }], "SubnetId": "subnet-1", "VpcId": "vpc-1"
            }))] }),
        ),
        // The second interface has neither an owner nor a name.
        (
            ADDRESSES,
            json!({ "NetworkInterfaces": [second, interface(json!({
                "PrivateIpAddress": "10.0.0.7", "OwnerId": "111122223333", "PrivateDnsName": "a.example",
                "PrivateIpAddresses": [
                    { "PrivateIpAddress": "10.0.0.6" }, { "PrivateIpAddress": "10.0.0.7", "Primary": true }
                ]
            }))] }),
        ),
        (
            &["VirtualizationType"],
            json!({ "InstanceType": "t2.micro" }),
        ),
        (
            &[],
            json!({ "VirtualizationType": "paravirtual", "InstanceType": "m1.small" }),
        ),
    ]
}

fn put(daemon: &Daemon, document: &Value) {
    let file = daemon.directory.path().join("changed.json");
    std::fs::write(&file, document.to_string()).unwrap();
    let mut imdsd = Command::new(env!("CARGO_BIN_EXE_imdsd"));
    let output = imdsd
        .args(["instance", "put", "--relaunch"])
        .arg(&file)
        .env(
            "IMDSD_ADMIN_SOCKET",
            daemon.directory.path().join("run/admin.sock"),
        )
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Returns what a guest reads, or nothing for 404.
fn read(daemon: &Daemon, token: &str, path: &str) -> String {
    let answer = daemon.get_with(&format!("/latest/meta-data/{path}"), token);
    match answer.status {
        200 => answer.body,
        404 => String::new(),
        status => panic!("{path}: {status}"),
    }
}

/// Returns the texts of all such elements.
fn elements(xml: &str, name: &str) -> Vec<String> {
    let start = format!("<{name}>");
    let parts = xml.split(&start).skip(1);
    parts
        .map(|part| part.split('<').next().unwrap().to_string())
        .collect()
}

#[test]
fn guests_and_operators_see_the_same_facts() {
    let daemon = Daemon::start(|_| {});
    let demo = crate::support::instance_in(include_str!("../../config/demo-instance.json"));
    for (absent, more) in documents() {
        let mut document = demo.clone();
        let fields = document.as_object_mut().unwrap();
        fields.retain(|field, _| !absent.contains(&field.as_str()));
        fields.extend(more.as_object().unwrap().clone());
        put(&daemon, &document);
        let case = format!("without {absent:?}, with {more}");
        compare(&daemon, &case);
    }
}

fn compare(daemon: &Daemon, case: &str) {
    let token = daemon.token();
    let described = call(daemon.control, "DescribeInstances", &[]).unwrap().body;
    let (instance, interfaces) = described.split_once("<networkInterfaceSet").unwrap();
    for (path, name, filter) in OF_INSTANCE {
        let read = read(daemon, &token, path);
        let shown = element(instance, name).unwrap_or_default();
        assert_eq!(shown, read, "{case}: {path} and {name}");
        let Some(filter) = filter.filter(|_| !read.is_empty()) else {
            continue;
        };
        let filter = [("Filter.1.Name", filter), ("Filter.1.Value.1", &read)];
        let found = call(daemon.control, "DescribeInstances", &filter).unwrap();
        assert!(found.body.contains(INSTANCE), "{case}: {filter:?}");
    }
    let profile = read(daemon, &token, "profile");
    let virtualization = element(instance, "virtualizationType").unwrap_or_default();
    assert_eq!(format!("default-{virtualization}"), profile, "{case}");

    let macs = read(daemon, &token, "network/interfaces/macs/");
    for mac in macs.lines() {
        let mac = mac.trim_end_matches('/');
        let of_mac = |path: &str| {
            let path = format!("network/interfaces/macs/{mac}/{path}");
            read(daemon, &token, &path)
        };
        let named = format!("<macAddress>{mac}</macAddress>");
        let shown = interfaces
            .split("</attachment>")
            .find(|part| part.contains(&named))
            .unwrap_or_else(|| panic!("{case}: {mac} is not in {interfaces}"));
        for (path, name) in OF_INTERFACE {
            let expected = of_mac(path);
            let shown = element(shown, name).unwrap_or_default();
            assert_eq!(shown, expected, "{case}: {mac}/{path} and {name}");
        }
        let (_, addresses) = shown.split_once("<privateIpAddressesSet").unwrap();
        let expected = of_mac("local-ipv4s");
        let shown = elements(addresses, "privateIpAddress").join("\n");
        assert_eq!(shown, expected, "{case}: {mac}");
    }
}
