//! Generated instances: for any data, a path is listed exactly if it resolves.

use std::collections::BTreeSet;

use imdsd::document;
use imdsd::guest::path::{LATEST, VERSIONS};
use imdsd::instance::{Instance, Switch};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::{Value, json};

use crate::Host;

/// Removes random members of objects and random elements of arrays.
fn thinned(value: &Value, coins: &mut impl Iterator<Item = bool>) -> Value {
    match value {
        Value::Object(members) => {
            let mut kept = serde_json::Map::new();
            for (name, member) in members {
                if NEEDED.contains(&name.as_str()) || coins.next().unwrap_or(true) {
                    kept.insert(name.clone(), thinned(member, coins));
                }
            }
            Value::Object(kept)
        }
        Value::Array(elements) => {
            let mut kept = Vec::new();
            for element in elements {
                if coins.next().unwrap_or(true) {
                    kept.push(thinned(element, coins));
                }
            }
            Value::Array(kept)
        }
        other => other.clone(),
    }
}

/// Members that an object cannot be without.
const NEEDED: [&str; 34] = [
    "InstanceId",
    "LaunchTime",
    "Imds",
    "Attachments",
    "Listener",
    "MacAddress",
    "GroupId",
    "GroupName",
    "Arn",
    "Id",
    "DeviceName",
    "Key",
    "RoleName",
    "Source",
    "Static",
    "V2",
    "AccessKeyId",
    "SecretAccessKey",
    "EventId",
    "Code",
    "Description",
    "NotBefore",
    "Action",
    "Time",
    "NoticeTime",
    "InstanceOSUser",
    "SSHPublicKey",
    "Expiration",
    "ProductCodeId",
    "Ipv4Prefix",
    "Ipv6Prefix",
    "State",
    "PrivateIpAddress",
    "Ipv6Address",
];

fn instance(coins: Vec<bool>, keys: Vec<String>, tags: bool) -> Instance {
    let whole: Value = serde_json::from_str(include_str!("../data/everything.json")).unwrap();
    let mut value = thinned(&whole, &mut coins.into_iter());
    value["Imds"]["Attachments"] = json!([{ "Listener": "demo" }]);
    // The requests below are sent without and with a token.
    value["MetadataOptions"] = json!({ "HttpTokens": "optional", "HttpEndpoint": "enabled" });
    let keys: BTreeSet<String> = keys.into_iter().collect();
    value["Tags"] = keys
        .into_iter()
        .map(|key| json!({ "Key": key, "Value": key }))
        .collect();
    let mut instance = document::from_value(value).unwrap();
    instance.metadata_options.instance_metadata_tags = if tags {
        Switch::Enabled
    } else {
        Switch::Disabled
    };
    instance
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(0x1d5),
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_listed_path_resolves_and_every_path_that_resolves_is_listed(
        coins in proptest::collection::vec(any::<bool>(), 200),
        keys in proptest::collection::vec("[0-9a-zA-Z\\-_+=,.@:]{1,20}", 0..8),
        tags in any::<bool>(),
    ) {
        let keys: Vec<String> = keys.into_iter().filter(|key| key != "." && key != ".." && key != "_index").collect();
        let host = Host::of(instance(coins, keys, tags));
        // Nothing can resolve that does not resolve for an instance with everything in the newest
        // version.
        let everything = Host::of(instance(Vec::new(), Vec::new(), true));
        let mut possible = everything.crawl("/latest/meta-data/");
        possible.extend(everything.crawl("/latest/dynamic/"));

        for version in VERSIONS.into_iter().chain([LATEST]) {
            let mut listed = BTreeSet::new();
            for top in ["meta-data/", "dynamic/"] {
                if host.get(&format!("/{version}/{top}")).status == 200 {
                    listed.extend(host.crawl(&format!("/{version}/{top}")));
                }
            }
            for path in &listed {
                let seen = host.get(path);
                prop_assert_eq!(seen.status, 200, "listed but absent: {}", path);
                let lines: Vec<&str> = seen.text().lines().collect();
                if path.ends_with('/') && !path.contains("/tags/") {
                    let name = |line: &&str| line.trim_end_matches('/').to_string();
                    let names: Vec<String> = lines.iter().map(name).collect();
                    prop_assert!(names.is_sorted(), "{}: {:?}", path, names);
                }
            }
            for path in &possible {
                let path = path.replacen("/latest/", &format!("/{version}/"), 1);
                if host.get(&path).status == 200 {
                    prop_assert!(listed.contains(&path), "present but not listed: {}", path);
                }
            }
        }
    }
}
