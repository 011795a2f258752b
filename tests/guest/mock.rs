//! A configuration of amazon-ec2-metadata-mock, read as a guest reads it.

use std::path::Path;

use imdsd::document::aemm;
use imdsd::document::aemm::MockCommand;
use imdsd::guest::tree;
use imdsd::instance::{Attachment, Instance};
use serde_json::{Value, json};

use super::Host;

const SAVED: &str = include_str!("../data/aemm-config-saved.json");

fn served(config: &str) -> Host {
    let start = "2026-05-17T08:30:00Z".parse().unwrap();
    let mock = aemm::parse(Path::new("aemm.json"), config, MockCommand::All, start)
        .unwrap_or_else(|faults| panic!("{faults:#?}"));
    let mut instance: Instance = mock.instance;
    assert_eq!(tree::faults(&instance), []);
    instance.imds.attachments = vec![Attachment::Listener("demo".into()).into()];
    Host::of(instance)
}

/// The mock's saved configuration has a path for each value.
#[test]
fn every_value_of_the_mock_is_served_at_its_path() {
    let saved: Value = serde_json::from_str(SAVED).unwrap();
    for config in ["{}", SAVED] {
        let host = served(config);
        let mut read = 0;
        for section in ["metadata", "dynamic"] {
            for (key, value) in saved[section]["values"].as_object().unwrap() {
                let Some(path) = saved[section]["paths"][key].as_str() else {
                    continue;
                };
                let seen = host.get(path);
                let expected = match (key.as_str(), value) {
                    // Made by imdsd: credentials and documents are signed or dated.
                    ("iam-info" | "iam-security-credentials", _) => {
                        assert!(
                            seen.text().contains("\"Code\" : \"Success\""),
                            "{path}: {seen:?}"
                        );
                        continue;
                    }
                    (key, _) if key.starts_with("instance-identity-") => {
                        assert_eq!(seen.status, 200, "{path}");
                        continue;
                    }
                    // EC2's value ends in a newline.
                    ("public-key", Value::String(text)) => format!("{text}\n"),
                    (_, Value::String(text)) => text.clone(),
                    (_, other) => other.to_string(),
                };
                assert_eq!(
                    (seen.status, seen.text()),
                    (200, expected.as_str()),
                    "{path}"
                );
                read += 1;
            }
        }
        assert!(read >= 50, "{read}");
        for (tag, text) in [("Name", "test-instance"), ("Test", "test-tag")] {
            assert_eq!(
                host.get(&format!("/latest/meta-data/tags/instance/{tag}"))
                    .text(),
                text
            );
        }
        assert_eq!(
            host.get("/latest/user-data").body,
            b"1234,john,reboot,true\n"
        );
    }
}

#[test]
fn values_and_paths_of_the_configuration_file_are_served() {
    let host = served(
        &json!({
            "metadata": {
                "paths": { "mac-device-number": "/latest/meta-data/network/interfaces/macs/BAR/device-number" },
                "values": { "mac": "0e:49:61:0f:c3:77", "public-ipv4": "54.92.157.77", "instance-action": "shutdown",
                            "tags-instance": { "Team": "x" } }
            },
            "spot": { "action": "terminate", "time": "2020-01-07T01:03:47Z" }
        })
        .to_string(),
    );
    let macs = "/latest/meta-data/network/interfaces/macs";
    for (path, text) in [
        ("/latest/meta-data/mac".to_string(), "0e:49:61:0f:c3:77"),
        (macs.to_string(), "0e:49:61:0f:c3:77/\nBAR/"),
        (format!("{macs}/BAR/device-number"), "0"),
        (
            format!("{macs}/0e:49:61:0f:c3:77/interface-id"),
            "eni-0f95d3625f5c521cc",
        ),
        (
            format!("{macs}/0e:49:61:0f:c3:77/ipv4-associations"),
            "54.92.157.77",
        ),
        ("/latest/meta-data/public-ipv4".to_string(), "54.92.157.77"),
        ("/latest/meta-data/instance-action".to_string(), "shutdown"),
        ("/latest/meta-data/tags/instance".to_string(), "Team"),
        (
            "/latest/meta-data/spot/termination-time".to_string(),
            "2020-01-07T01:03:47Z",
        ),
    ] {
        let seen = host.get(&path);
        assert_eq!((seen.status, seen.text()), (200, text), "{path}");
    }
    assert_eq!(
        host.get(&format!("{macs}/0e:49:61:0f:c3:77/device-number"))
            .status,
        404
    );
}
