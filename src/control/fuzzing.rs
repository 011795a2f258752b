//! Fuzz targets of the EC2 API: parameters, whole calls, and the file of access keys.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use quick_xml::Reader;
use quick_xml::events::Event;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use toml_edit::Document;

use super::access_keys::{AccessKeys, MIN_SECRET, read_grant};
use super::*;
use crate::document;
use crate::instance::xml_characters::fits_xml;
use crate::ownership::KeyOwner;
use crate::registry::memory::MemoryStore;
use crate::sigv4::access_key_file::{self, KeyRules};
use crate::sigv4::{decode_form, percent_encode};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime without I/O")
});

/// The parameters of a call, in the query (the first line) and in the body. What is read is what was
/// sent, each name once, and the spelling and the order make no difference.
pub fn query_parameters(data: &[u8]) {
    let at = data.iter().position(|byte| *byte == b'\n');
    let (query, body) = at.map_or((&[][..], data), |at| (&data[..at], &data[at + 1..]));
    let Ok(query) = std::str::from_utf8(query) else {
        return;
    };
    let read = Parameters::read(query, body);
    let expected = pairs_of(query, body);
    let Ok(mut parameters) = read else {
        // A refusal has a reason.
        let is_fine = expected.is_some_and(|pairs| {
            let names: HashSet<&String> = pairs.iter().map(|(name, _)| name).collect();
            names.len() == pairs.len()
                && pairs.len() <= 2_000
                && pairs.iter().all(|(_, value)| value.chars().all(fits_xml))
        });
        assert!(!is_fine, "refused without a reason");
        return;
    };
    let pairs = expected.expect("every pair that was read can be decoded");
    let digest = parameters.digest(&[]);

    // Printed in the canonical spelling, in the opposite order, all of them in the body.
    let printed: Vec<String> = pairs
        .iter()
        .rev()
        .map(|(name, value)| {
            let [name, value] = [name, value].map(|text| percent_encode(text.as_bytes()));
            format!("{name}={value}")
        })
        .collect();
    let again = Parameters::read("", printed.join("&").as_bytes()).expect("it is the same set");
    assert_eq!(again.digest(&[]), digest);

    let by_name: BTreeMap<String, String> = pairs.iter().cloned().collect();
    assert_eq!(by_name.len(), pairs.len(), "no name twice");
    let list = parameters.take_list("InstanceId");
    for (index, value) in list.iter().enumerate() {
        let name = format!("InstanceId.{}", index + 1);
        assert_eq!(by_name.get(&name), Some(value));
    }
    parameters.take_filters();
    parameters.take_tags("");
    for (name, value) in by_name {
        if let Some(taken) = parameters.take(&name) {
            assert_eq!(taken, value, "{name}");
        }
    }
    assert!(parameters.finish().is_ok(), "nothing remains");
}

/// Decodes the pairs of query and body; `None` if an escape is malformed or a text is not UTF-8.
fn pairs_of(query: &str, body: &[u8]) -> Option<Vec<(String, String)>> {
    let text = |raw: &[u8]| String::from_utf8(decode_form(raw)?).ok();
    let all = [query.as_bytes(), body].join(&b'&');
    let pairs = all.split(|byte| *byte == b'&');
    pairs
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let mut parts = pair.splitn(2, |byte| *byte == b'=');
            let name = parts.next().unwrap_or_default();
            let value = parts.next().unwrap_or_default();
            Some((text(name)?, text(value)?))
        })
        .collect()
}

/// A whole call after authentication: the first byte chooses the service, the rest is the body. The
/// answer is well-formed and has a known status, a refused call has changed nothing, and a dry run
/// neither.
pub fn api_call(data: &[u8]) {
    let Some((service, body)) = data.split_first() else {
        return;
    };
    let service = match service % 3 {
        0 => AwsService::Ec2,
        1 => AwsService::Sts,
        _ => AwsService::InstanceConnect,
    };
    let registry = registry();
    let before = state_of(&registry);
    let (status, headers, reply) = RUNTIME.block_on(answer(&registry, service, body));
    let after = state_of(&registry);

    assert!(
        matches!(status.as_u16(), 200 | 400 | 403 | 404 | 412 | 500 | 503),
        "{status}"
    );
    let is_dry_run = pairs_of("", body).is_some_and(|pairs| {
        let dry_run = ("DryRun".to_string(), "true".to_string());
        pairs.contains(&dry_run)
    });
    if !status.is_success() || is_dry_run {
        assert_eq!(before, after, "{status}");
    }
    match headers["content-type"].as_bytes() {
        b"application/x-amz-json-1.1" => {
            let value: Value = serde_json::from_slice(&reply).expect("the answer is JSON");
            assert!(value.is_object());
        }
        _ => check_xml(&reply),
    }
}

/// Returns a registry with two instances.
fn registry() -> Arc<Registry> {
    let (registry, _) = Registry::open(Arc::new(MemoryStore)).expect("nothing is stored");
    for (id, state) in [
        ("i-0000000000000000a", "running"),
        ("i-0000000000000000b", "stopped"),
    ] {
        let instance = document::from_value(json!({
            "InstanceId": id, "LaunchTime": "2026-04-30T08:00:00Z", "State": {"Name": state},
            "ImageId": "ami-12345678", "InstanceType": "t3.micro", "Tags": [{"Key": "Name", "Value": id}],
        }));
        let instance = instance.expect("the document is valid");
        RUNTIME
            .block_on(registry.register(instance, now().wall))
            .expect("the instance is valid");
    }
    registry
}

fn now() -> Moment {
    Moment {
        since_boot: Duration::from_secs(100),
        wall: "2026-05-01T12:00:01Z".parse().expect("a time"),
    }
}

/// Returns every instance as text, with its generation.
fn state_of(registry: &Registry) -> Vec<(u64, String)> {
    let snapshot = registry.snapshot();
    snapshot
        .entries()
        .map(|entry| {
            let text = document::sorted_text(&entry.instance);
            (entry.generation, text)
        })
        .collect()
}

async fn answer(
    registry: &Arc<Registry>,
    service: AwsService,
    body: &[u8],
) -> (hyper::StatusCode, HeaderMap, Bytes) {
    let keys = AccessKeys::demo();
    let verified = Signer {
        access_key_id: AccessKeys::DEMO.0.to_string(),
        region: "us-east-1".to_string(),
        service: service.as_str().to_string(),
    };
    let (mut head, ()) = hyper::Request::new(()).into_parts();
    head.method = Method::POST;
    head.headers
        .insert("host", HeaderValue::from_static("localhost"));
    if service == AwsService::InstanceConnect {
        let target = HeaderValue::from_static("AWSEC2InstanceConnectService.SendSSHPublicKey");
        head.headers
            .insert(HeaderName::from_static(service::TARGET), target);
    }
    let request_id = RequestId::random();
    let call = ApiCall {
        registry,
        regions: &Regions::Any,
        caller: caller(&keys, &verified, &head),
        request_id: &request_id,
        now: now(),
    };
    let mut action = None;
    let response = match perform(&call, &verified, &head, body, &mut action).await {
        Ok(body) => reply::success(service, body, &request_id, now()),
        Err(error) => reply::refused(service, &error, &request_id, now()),
    };
    let (head, body) = response.into_parts();
    let Ok(body) = body.collect().await;
    (head.status, head.headers, body.to_bytes())
}

/// Checks that a document is well-formed: one root, and every element is closed.
fn check_xml(reply: &[u8]) {
    let text = std::str::from_utf8(reply).expect("the answer is UTF-8");
    assert!(text.chars().all(fits_xml), "{text}");
    let mut reader = Reader::from_str(text);
    let (mut depth, mut roots) = (0_usize, 0);
    loop {
        match reader.read_event().expect("the answer is XML") {
            Event::Start(_) => {
                roots += usize::from(depth == 0);
                depth += 1;
            }
            Event::End(_) => depth -= 1,
            Event::Eof => break,
            _ => {}
        }
    }
    assert_eq!((depth, roots), (0, 1), "{text}");
}

/// The file of access keys with their rules. A key that is read has a form that requests can have, a
/// line before all others moves the lines of faults and nothing else, and no fault repeats a secret.
pub fn access_keys(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (keys, faults) = read_keys(text);
    for (id, account) in keys.iter().flatten() {
        assert!(!id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
        assert!(account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit()));
    }
    assert!(keys.is_some() || !faults.is_empty());
    for secret in secrets_of(text) {
        for (_, fault) in &faults {
            assert!(!fault.contains(&secret), "{fault}");
        }
    }
    if !text.starts_with('\u{feff}') {
        let (other_keys, other_faults) = read_keys(&format!("# a comment\n{text}"));
        assert_eq!(other_keys, keys);
        let moved = faults.into_iter().map(|(line, message)| match line {
            0 => (0, message),
            line => (line + 1, message),
        });
        assert_eq!(other_faults, moved.collect::<Vec<_>>());
    }
}

type KeysRead = Option<Vec<(String, String)>>;

/// Returns ids and accounts of the keys, and the faults: line, and field with message.
fn read_keys(text: &str) -> (KeysRead, Vec<(usize, String)>) {
    let rules = KeyRules {
        owner: KeyOwner::this_user(),
        min_secret: MIN_SECRET,
        more_fields: &["account", "rule"],
    };
    let read = access_key_file::parse(Path::new("keys.toml"), text, rules, read_grant);
    let keys = read.keys.known().map(|keys| {
        keys.into_iter()
            .map(|(key, (account, _))| (key.access_key_id, account))
            .collect()
    });
    let faults = read.faults.into_iter();
    let faults = faults.map(|fault| (fault.line, format!("{}: {}", fault.field, fault.message)));
    (keys, faults.collect())
}

/// Returns the secrets of a file that are in one place only, and look like nothing that a message
/// may say.
fn secrets_of(text: &str) -> Vec<String> {
    let Ok(document) = Document::parse(text) else {
        return Vec::new();
    };
    let tables = document
        .get("access_key")
        .and_then(|item| item.as_array_of_tables());
    let secrets = tables.into_iter().flatten().filter_map(|table| {
        let secret = table.get("secret_access_key")?.as_str()?;
        let is_typical = secret.len() >= 12 && secret.bytes().any(|b| b.is_ascii_digit());
        (is_typical && text.matches(secret).count() == 1).then(|| secret.to_string())
    });
    secrets.collect()
}
