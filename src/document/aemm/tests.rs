//! Configurations of the mock, and what they become.

use std::net::Ipv4Addr;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::document::aemm::{Mock, MockCommand, base, parse};
use crate::fault::Fault;
use crate::instance::events::TargetLifecycleState;
use crate::instance::events::overrides::PathOverride;
use crate::instance::{CredentialSource, HttpTokens};

fn start() -> Timestamp {
    "2026-05-17T08:30:00Z".parse().unwrap()
}

fn at(second: i64) -> Timestamp {
    start() + SignedDuration::from_secs(second)
}

fn mock_of(config: &Value, command: MockCommand) -> Result<Mock, Vec<String>> {
    let mock = parse(Path::new("a.json"), &config.to_string(), command, start());
    mock.map_err(|faults| faults.iter().map(Fault::to_string).collect())
}

fn read(config: Value) -> Mock {
    mock_of(&config, MockCommand::All).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

fn warnings(mock: &Mock) -> Vec<&str> {
    mock.warnings
        .iter()
        .map(|warning| warning.field.as_str())
        .collect()
}

#[test]
fn an_empty_configuration_gives_the_mocks_defaults() {
    let mock = read(json!({}));
    assert_eq!((mock.address, mock.port), (Ipv4Addr::LOCALHOST, 1338));
    assert_eq!(warnings(&mock), [""; 0]);
    let mut instance = mock.instance;
    assert!(
        instance.imds.timeline.is_empty(),
        "steps that take effect at once are folded"
    );
    instance.imds.events = Default::default();
    assert_eq!(instance, base());
}

/// The configuration that the mock saves: all settings with their defaults, in lower case.
#[test]
fn a_saved_configuration_gives_the_mocks_defaults_too() {
    let text = include_str!("../../../tests/data/aemm-config-saved.json");
    let mock = parse(Path::new("a.json"), text, MockCommand::All, start())
        .unwrap_or_else(|faults| panic!("{faults:#?}"));
    assert_eq!(
        warnings(&mock),
        [
            "metadata.values.iam-security-credentials.expiration",
            "dynamic.values.instance-identity-document",
            "dynamic.values.instance-identity-pkcs",
            "dynamic.values.instance-identity-signature",
            "server.hostname",
            "save-config-to-file",
        ]
    );
    let mut instance = mock.instance;
    instance.imds.events = Default::default();
    assert_eq!(instance, base());
}

#[test]
fn a_value_without_a_field_in_the_instance_goes_into_its_overrides() {
    let mock = read(json!({ "metadata": { "values": {
        "ami-id": "ami-1", "instance-type": "m7i.large", "local-ipv4": "10.0.0.9", "mac": "0E:49:61:0f:c3:77",
        "public-ipv4": "203.0.113.7", "hostname": "h", "instance-action": "shutdown", "ami-launch-index": 3,
        "iam-security-credentials-role": "web", "tags-instance": { "Team": "x", "cost": "1" },
        "iam-security-credentials": { "AccessKeyId": "AKID", "SecretAccessKey": "s", "Token": "t" },
        "mac-mac": "FOO", "security-groups": "a\nb", "placement-availability-zone": "us-east-1b" } } }));
    let instance = &mock.instance;
    assert_eq!(instance.image_id, "ami-1");
    assert_eq!(instance.ami_launch_index, 3);
    assert_eq!(
        instance.network_interfaces[0].mac_address,
        "0e:49:61:0f:c3:77"
    );
    assert_eq!(
        instance.primary_private_address().unwrap().to_string(),
        "10.0.0.9"
    );
    assert_eq!(instance.imds.role.as_ref().unwrap().role_name, "web");
    let tags: Vec<_> = instance
        .tags
        .iter()
        .map(|tag| (tag.key.as_str(), tag.value.as_str()))
        .collect();
    assert_eq!(tags, [("cost", "1"), ("Team", "x")]);
    let CredentialSource::Static(source) = &instance.imds.role.as_ref().unwrap().source else {
        panic!()
    };
    assert_eq!(source.v1.as_ref(), Some(&source.v2));
    assert_eq!(source.v2.access_key_id, "AKID");
    let macs = "meta-data/network/interfaces/macs/0e:49:61:0f:c3:77";
    for (path, text) in [
        ("meta-data/mac".to_string(), "0E:49:61:0f:c3:77"),
        (format!("{macs}/mac"), "FOO"),
        (format!("{macs}/network-card-index"), "0"),
        (
            format!("{macs}/ipv4-associations/203.0.113.7"),
            "192.0.2.54",
        ),
        (format!("{macs}/local-ipv4s"), "172.16.34.43"),
        (format!("{macs}/public-ipv4s"), "192.0.2.54"),
        (
            "meta-data/local-hostname".to_string(),
            "ip-172-16-34-43.ec2.internal",
        ),
        ("meta-data/instance-action".to_string(), "shutdown"),
        ("meta-data/security-groups".to_string(), "a\nb"),
    ] {
        assert_eq!(
            instance.imds.overrides.of(&path),
            PathOverride::Set(text),
            "{path}"
        );
    }
    for path in [
        "meta-data/ami-id",
        "meta-data/hostname",
        "meta-data/public-ipv4",
        "meta-data/placement/region",
    ] {
        assert_eq!(
            instance.imds.overrides.of(path),
            PathOverride::NotOverridden,
            "{path}"
        );
    }
}

#[test]
fn another_path_hides_the_leaf_where_ec2_has_it() {
    let mock = read(json!({ "metadata": {
        "paths": {
            "mac-device-number": "/latest/meta-data/network/interfaces/macs/BAR/device-number",
            "ami-id": "/latest/meta-data/own/ami", "system": "/latest/meta-data/system", "kernel-id": "",
            "mac-vpc-id": "/latest/meta-data/network/interfaces/macs/0e:49:61:0f:c3:11/vpc-id",
            "ipv4-associations": "/latest/meta-data/network/interfaces/macs/0e:49:61:0f:c3:77/ipv4-associations/192.0.2.54"
        },
        "values": { "mac": "0e:49:61:0f:c3:77" }
    } }));
    let overrides = &mock.instance.imds.overrides;
    let macs = "meta-data/network/interfaces/macs";
    for (path, expected) in [
        (format!("{macs}/BAR/device-number"), PathOverride::Set("0")),
        (
            format!("{macs}/0e:49:61:0f:c3:77/device-number"),
            PathOverride::Hidden,
        ),
        (
            format!("{macs}/0e:49:61:0f:c3:77/vpc-id"),
            PathOverride::NotOverridden,
        ),
        (
            "meta-data/own/ami".to_string(),
            PathOverride::Set("ami-0a887e401f7654935"),
        ),
        ("meta-data/ami-id".to_string(), PathOverride::Hidden),
        ("meta-data/kernel-id".to_string(), PathOverride::Hidden),
    ] {
        assert_eq!(overrides.of(&path), expected, "{path}");
    }
    assert_eq!(
        warnings(&mock),
        ["metadata.paths.ipv4-associations", "metadata.paths.system"]
    );
}

/// Returns what metadata shows: spot, rebalance, scheduled, history, lifecycle.
fn shown(mock: &Mock, second: i64) -> (bool, bool, bool, bool, &'static str) {
    let (now, events) = (at(second), mock.instance.events_at(at(second)));
    (
        events.spot_instance_action(now).is_some(),
        events.rebalance_recommendation(now).is_some(),
        events.maintenance_scheduled() != "[]",
        events.maintenance_history() != "[]",
        events
            .target_lifecycle_state
            .map_or("", TargetLifecycleState::as_str),
    )
}

#[test]
#[rustfmt::skip]
fn events_happen_at_the_mocks_times() {
    let all = MockCommand::All;
    for (config, command, second, expected) in [
        (json!({}), all, 0, (true, true, true, false, "Terminated")),
        (json!({}), MockCommand::Spot, 0, (true, true, false, false, "")),
        (json!({}), MockCommand::Events, 0, (false, false, true, false, "")),
        (json!({}), MockCommand::AsgLifecycle, 0, (false, false, false, false, "Terminated")),
        (json!({ "mock-delay-sec": 12 }), all, 11, (false, true, false, false, "Terminated")),
        (json!({ "mock-delay-sec": "12" }), all, 12, (true, true, true, false, "Terminated")),
        (json!({ "mock-delay-sec": 12, "mock-trigger-time": "2026-05-17T03:30:20-05:00" }), all, 19, (false, true, false, false, "Terminated")),
        (json!({ "mock-delay-sec": 12, "mock-trigger-time": "2026-05-17T03:30:20-05:00" }), all, 20, (true, true, true, false, "Terminated")),
        (json!({ "mock-trigger-time": "" }), all, 0, (true, true, true, false, "Terminated")),
        (json!({ "rebalance-delay-sec": 5 }), all, 4, (true, false, true, false, "Terminated")),
        (json!({ "rebalance-delay-sec": 5 }), all, 5, (true, true, true, false, "Terminated")),
        (json!({ "rebalance-trigger-time": "2026-05-17T08:31:00Z" }), all, 59, (true, false, true, false, "Terminated")),
        (json!({ "rebalance-trigger-time": "2026-05-17T08:31:00Z" }), all, 60, (true, true, true, false, "Terminated")),
        (json!({ "spot": { "rebalance-rec-time": "2030-01-01T00:00:00Z" } }), MockCommand::Spot, 0, (true, true, false, false, "")),
        (json!({ "rebalance-delay-sec": 5, "spot": { "rebalance-rec-time": "2020-01-01T00:00:00Z" } }), MockCommand::Spot, 4, (true, false, false, false, "")),
        (json!({ "events": { "state": "completed" } }), all, 0, (true, true, false, true, "Terminated")),
        (json!({ "scheduled-events": { "state": "canceled" } }), all, 0, (true, true, false, true, "Terminated")),
        (json!({ "mock-ip-count": 0 }), all, 0, (false, false, false, false, "")),
        (json!({ "asg-termination-delay-sec": 3 }), all, 2, (true, true, true, false, "InService")),
        (json!({ "asg-termination-delay-sec": 3 }), all, 3, (true, true, true, false, "Terminated")),
        (json!({ "asg-termination-trigger-time": "2026-05-17T08:30:09Z" }), MockCommand::AsgLifecycle, 8, (false, false, false, false, "InService")),
        (json!({ "asg-termination-trigger-time": "2026-05-17T08:30:09Z" }), MockCommand::AsgLifecycle, 9, (false, false, false, false, "Terminated")),
        (json!({ "autoscaling": { "target-lifecycle-state": ["InService", "2m", "Terminated"] } }), all, 119, (true, true, true, false, "InService")),
        (json!({ "autoscaling": { "target-lifecycle-state": ["InService", "2m", "Terminated"] } }), all, 120, (true, true, true, false, "Terminated")),
    ] {
        let mock = mock_of(&config, command).unwrap();
        assert_eq!(shown(&mock, second), expected, "{config} {command:?} {second}");
    }
}

#[test]
fn an_event_has_the_values_from_the_file() {
    for (config, action) in [
        (
            json!({ "spot": { "action": "stop", "time": "2020-01-07T01:03:47Z" } }),
            r#"{"action": "stop", "time": "2020-01-07T01:03:47Z"}"#,
        ),
        (
            json!({ "SPOT.Action": "stop" }),
            r#"{"action": "stop", "time": "2026-05-17T08:32:00Z"}"#,
        ),
        (
            json!({ "spot-itn": { "instance-action": "hibernate", "time": "" } }),
            r#"{"action": "hibernate", "time": "2026-05-17T08:30:00Z"}"#,
        ),
        (
            json!({ "spot-itn": { "termination-time": "2020-01-07T01:03:47Z" } }),
            r#"{"action": "terminate", "time": "2020-01-07T01:03:47Z"}"#,
        ),
    ] {
        let events = read(config.clone())
            .instance
            .events_at(start())
            .into_owned();
        assert_eq!(
            events.spot_instance_action(start()).as_deref(),
            Some(action),
            "{config}"
        );
    }
    let mock = read(json!({
        "spot": { "rebalance-rec-time": "2026-05-17T08:00:00Z" },
        "events": { "code": "instance-stop", "not-before": "2026-06-01T00:00:00Z", "not-after": "2026-06-02T00:00:00Z" },
        "metadata": { "values": { "event-id": "instance-event-0000000000000000a" } }
    }));
    let events = mock.instance.events_at(start());
    assert_eq!(
        events.rebalance_recommendation(start()).as_deref(),
        Some(r#"{"noticeTime": "2026-05-17T08:00:00Z"}"#)
    );
    let scheduled: Value = serde_json::from_str(&events.maintenance_scheduled()).unwrap();
    assert_eq!(
        scheduled,
        json!([{ "NotBefore": "01 Jun 2026 00:00:00 GMT", "Code": "instance-stop", "Description": "scheduled stop",
                 "EventId": "instance-event-0000000000000000a", "NotAfter": "02 Jun 2026 00:00:00 GMT", "State": "active" }])
    );
}

#[test]
fn the_server_the_tokens_and_the_user_data_are_mapped() {
    let mock = read(
        json!({ "server": { "port": "1550", "hostname": "localhost" }, "imdsv2": true,
                            "userdata": { "values": { "userdata": "aGk=" } } }),
    );
    assert_eq!((mock.address, mock.port), (Ipv4Addr::LOCALHOST, 1550));
    assert_eq!(
        mock.instance.metadata_options.http_tokens,
        HttpTokens::Required
    );
    assert_eq!(mock.instance.user_data().unwrap(), b"hi");
    let mock = read(json!({ "server": { "port": 1550, "hostname": "127.0.0.9" },
                            "userdata": { "values": { "userdata": "#!/bin/sh" } } }));
    assert_eq!(
        (mock.address, mock.port),
        (Ipv4Addr::new(127, 0, 0, 9), 1550)
    );
    assert_eq!(
        mock.instance.metadata_options.http_tokens,
        HttpTokens::Optional
    );
    assert_eq!(mock.instance.user_data().unwrap(), b"#!/bin/sh");
}

#[test]
fn each_ignored_setting_has_a_warning() {
    for (config, field) in [
        (json!({ "mock-ip-count": 5 }), "mock-ip-count"),
        (
            json!({ "save-config-to-file": true }),
            "save-config-to-file",
        ),
        (json!({ "watch-config-file": true }), "watch-config-file"),
        (
            json!({ "server": { "hostname": "0.0.0.0" } }),
            "server.hostname",
        ),
        (
            json!({ "dynamic": { "values": { "instance-identity-pkcs": "x" } } }),
            "dynamic.values.instance-identity-pkcs",
        ),
        (
            json!({ "dynamic": { "values": { "instance-identity-document": { "accountId": "1" } } } }),
            "dynamic.values.instance-identity-document",
        ),
        (
            json!({ "dynamic": { "values": { "instance-identity-document": {
                "marketplaceProductCodes": ["1abc2defghijklm3nopqrs4tu"], "billingProducts": ["bp-6ba54002"], "version": 1,
            } } } }),
            "dynamic.values.instance-identity-document",
        ),
        (
            json!({ "dynamic": { "values": { "instance-identity-signature": ["x", 1] } } }),
            "dynamic.values.instance-identity-signature",
        ),
        (
            json!({ "metadata": { "values": { "iam-info": { "Code": ["Failed"] } } } }),
            "metadata.values.iam-info.code",
        ),
        (
            json!({ "metadata": { "values": { "iam-info": { "Code": "Failed" } } } }),
            "metadata.values.iam-info.code",
        ),
        (json!({ "spot": { "acton": "stop" } }), "spot.acton"),
        (json!({ "x": [1] }), "x"),
    ] {
        assert_eq!(warnings(&read(config.clone())), [field], "{config}");
    }
    let mock = read(json!({ "spot": { "acton": "stop" } }));
    assert!(
        mock.warnings[0]
            .message
            .ends_with("did you mean spot.action?"),
        "{:?}",
        mock.warnings
    );
    for silent in [
        json!({ "mock-ip-count": 2 }),
        json!({ "mock-ip-count": -1 }),
        json!({ "config-file": "x" }),
    ] {
        assert_eq!(warnings(&read(silent.clone())), [""; 0], "{silent}");
    }
}

#[test]
fn what_imdsd_cannot_serve_faithfully_is_refused() {
    let values = |values: Value| json!({ "metadata": { "values": values } });
    let paths = |paths: Value| json!({ "metadata": { "paths": paths } });
    for (config, fields) in [
        (json!([]), vec![""]),
        (
            values(json!({ "instance-id": "ma1" })),
            vec!["metadata.values.instance-id"],
        ),
        (values(json!({ "mac": "FOO" })), vec!["metadata.values.mac"]),
        (
            values(json!({ "ami-id": ["a"] })),
            vec!["metadata.values.ami-id"],
        ),
        (
            values(json!({ "tags-instance": { "a b": "c" } })),
            vec!["metadata.values.tags-instance.a b"],
        ),
        (values(json!({ "event-id": "e" })), vec![""]),
        (
            values(json!({ "iam-security-credentials-role": "a b" })),
            vec!["Imds.Role.RoleName"],
        ),
        (
            values(json!({ "placement-availability-zone": "US" })),
            vec!["Placement.AvailabilityZone"],
        ),
        (
            paths(json!({ "ami-id": "/ami" })),
            vec!["metadata.paths.ami-id"],
        ),
        (
            paths(json!({ "ami-id": "/latest/meta-data/tags/instance/ami" })),
            vec!["Imds.Overrides.meta-data/tags/instance/ami"],
        ),
        (
            paths(json!({ "spot": "/latest/meta-data/own" })),
            vec!["metadata.paths.spot"],
        ),
        (
            paths(json!({ "iam-security-credentials": "/latest/meta-data/own" })),
            vec!["metadata.paths.iam-security-credentials"],
        ),
        (
            json!({ "userdata": { "paths": { "userdata": "/x" } } }),
            vec!["userdata.paths.userdata"],
        ),
        (json!({ "server": { "port": "0" } }), vec!["server.port"]),
        (
            json!({ "server": { "port": "65536" } }),
            vec!["server.port"],
        ),
        (
            json!({ "server": { "hostname": "192.0.2.1" } }),
            vec!["server.hostname"],
        ),
        (
            json!({ "server": { "hostname": "example.com" } }),
            vec!["server.hostname"],
        ),
        (json!({ "imdsv2": "perhaps" }), vec!["imdsv2"]),
        (json!({ "mock-delay-sec": "soon" }), vec!["mock-delay-sec"]),
        (json!({ "mock-delay-sec": 1.5 }), vec!["mock-delay-sec"]),
        (
            json!({ "mock-delay-sec": i64::MAX }),
            vec!["mock-delay-sec"],
        ),
        (
            json!({ "mock-trigger-time": "soon" }),
            vec!["mock-trigger-time"],
        ),
        (
            json!({ "spot": { "action": "destroy" } }),
            vec!["spot.action"],
        ),
        (json!({ "spot": { "time": "soon" } }), vec!["spot.time"]),
        (
            json!({ "events": { "code": "reboot" } }),
            vec!["events.code"],
        ),
        (
            json!({ "events": { "state": "done", "not-after": "x" } }),
            vec!["events.state", "events.not-after"],
        ),
        (
            json!({ "autoscaling": { "target-lifecycle-state": ["InService", "2m"] } }),
            vec!["autoscaling.target-lifecycle-state"],
        ),
        (
            json!({ "autoscaling": { "target-lifecycle-state": "Gone" } }),
            vec!["autoscaling.target-lifecycle-state"],
        ),
    ] {
        let mock = parse(
            Path::new("a.json"),
            &config.to_string(),
            MockCommand::All,
            start(),
        );
        let faults = mock.map(|mock| mock.port).expect_err(&config.to_string());
        let mut seen: Vec<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
        let mut fields = fields;
        seen.sort();
        fields.sort();
        assert_eq!(seen, fields, "{config} {faults:#?}");
    }
    let text = "{\n\"metadata\": { \"values\": {\n\"mac\": \"FOO\" } } }";
    let faults = parse(Path::new("a.json"), text, MockCommand::All, start())
        .map(|mock| mock.port)
        .unwrap_err();
    assert!(
        faults[0]
            .to_string()
            .starts_with("a.json:3: metadata.values.mac: a MAC address"),
        "{faults:?}"
    );
}
