//! Tests of instance documents against a configuration and each other.

use std::path::Path;

use super::*;
use crate::config;
use crate::document::FaultyInstance;
use crate::fault::Fault;
use crate::instance::{
    Attachment, Instance, InstanceAttachment, InstanceId, InstanceState, LinkIdentities,
    LinkIdentity,
};
use crate::registry::UnreadableRecord;
use crate::registry::file::StoredInstances;

#[test]
fn the_shipped_sidecar_configuration_has_no_faults_and_no_warnings() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let checked = check(&directory.join("sidecar.toml")).unwrap();
    assert!(checked.config.control.is_none());
    let documents = checked.documents;
    assert_eq!((documents.instances.len(), documents.faults), (1, vec![]));
    assert_eq!(documents.warnings, []);
}

/// Returns a directory with a configuration that has the listeners `a` and `b`, and the given
/// documents.
fn host(documents: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let text = "instances = \"instances.d\"\n[[listener]]\nname = \"a\"\nipv4 = \"127.0.0.1:1\"\n\
                [[listener]]\nname = \"b\"\nipv4 = \"127.0.0.1:2\"\n";
    std::fs::write(directory.path().join("imdsd.toml"), text).unwrap();
    std::fs::create_dir(directory.path().join("instances.d")).unwrap();
    for (name, text) in documents {
        std::fs::write(directory.path().join("instances.d").join(name), text).unwrap();
    }
    directory
}

fn instance(id: &str, listeners: &[&str]) -> String {
    let attachments: Vec<String> = listeners
        .iter()
        .map(|name| format!("\n{{\"Listener\":\"{name}\"}}"))
        .collect();
    format!(
        "{{\"InstanceId\":\"{id}\",\"LaunchTime\":\"2026-01-01T00:00:00Z\",\"Imds\":{{\"Attachments\":[{}]}}}}",
        attachments.join(",")
    )
}

/// Checks the host. Returns the documents if nothing has faults.
fn check_host(host: &tempfile::TempDir) -> Result<CheckedDocuments, Vec<String>> {
    let checked = check(&host.path().join("imdsd.toml"));
    match checked.map(|checked| checked.documents) {
        Ok(documents) if documents.faults.is_empty() => Ok(documents),
        Ok(documents) => Err(texts(host, &documents.faults)),
        Err(faults) => Err(texts(host, &faults)),
    }
}

/// Returns faults as text, with paths relative to the host's directory.
fn texts(host: &tempfile::TempDir, faults: &[Fault]) -> Vec<String> {
    let folder = format!("{}/", host.path().display());
    let text = |fault: &Fault| fault.to_string().replace(&folder, "");
    faults.iter().map(text).collect()
}

#[test]
fn documents_are_checked_against_the_configuration() {
    let host = host(&[
        ("1.json", &instance("i-00000001", &["a"])),
        ("2.json", &instance("i-00000002", &["c", "a"])),
        ("3.json", "{"),
        ("4.json", &instance("i-00000004", &["B"])),
    ]);
    assert_eq!(
        check_host(&host).unwrap_err(),
        [
            "instances.d/3.json:1: not JSON: EOF while parsing an object",
            "instances.d/2.json:2: i-00000002: Imds.Attachments: the configuration has no listener 'c'",
            "instances.d/2.json:3: i-00000002: Imds.Attachments: listener 'a' is claimed by i-00000001 too \
             (instances.d/1.json:1); neither would be served there",
            "instances.d/4.json:2: i-00000004: Imds.Attachments: the configuration has no listener 'B'; did you mean 'b'?",
        ]
    );
}

#[test]
fn unreachable_instances_and_unclaimed_listeners_are_warnings() {
    let host = host(&[
        ("1.json", &instance("i-00000001", &["b"])),
        ("2.json", &instance("i-00000002", &[])),
    ]);
    let documents = check_host(&host).unwrap();
    assert_eq!(documents.instances.len(), 2);
    let warnings = texts(&host, &documents.warnings);
    assert_eq!(
        warnings,
        [
            "instances.d/2.json:1: i-00000002: Imds.Attachments: there are none, so the instance cannot be reached",
            "imdsd.toml:2: listener.name: no instance claims listener 'a': its connections are not answered",
        ]
    );
}

#[test]
fn a_document_with_a_secret_that_every_user_can_read_is_a_warning_once_for_each_file() {
    let with_role = |id: &str, source: &str| {
        instance(id, &[]).replace(
            "\"Imds\":{",
            &format!(
                "\"IamInstanceProfile\":{{\"Arn\":\"arn:aws:iam::123456789012:instance-profile/a\",\"Id\":\"AIPA1\"}},\
                 \"Imds\":{{\"Role\":{{\"RoleName\":\"a\",\"Source\":{source}}},"
            ),
        )
    };
    let secret = r#"{"Static":{"V2":{"AccessKeyId":"ASIA1","SecretAccessKey":"hunter2"}}}"#;
    let program = r#"{"Process":{"Command":["/bin/true"]}}"#;
    let two = [
        with_role("i-00000001", secret),
        with_role("i-00000002", secret),
    ];
    let host = host(&[
        ("1.json", &format!("[{}]", two.join(","))),
        ("2.json", &with_role("i-00000003", program)),
        ("3.json", &with_role("i-00000004", secret)),
    ]);
    let mode = |path: &str, mode| {
        use std::os::unix::fs::PermissionsExt as _;
        let path = host.path().join(path);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let warned = || -> Vec<String> {
        let warnings = check_host(&host).unwrap().warnings;
        let warnings = warnings.iter().map(ToString::to_string);
        warnings
            .filter(|text| text.contains("SecretAccessKey"))
            .map(|text| text.replace(&format!("{}/", host.path().display()), ""))
            .collect()
    };
    mode("", 0o755);
    mode("instances.d", 0o755);
    mode("instances.d/1.json", 0o644);
    mode("instances.d/2.json", 0o644);
    mode("instances.d/3.json", 0o640);
    assert_eq!(
        warned(),
        [
            "instances.d/1.json:1: i-00000001: Imds.Role.Source.Static: every user of this host can read this \
             SecretAccessKey; run: chmod o-r instances.d/1.json"
        ]
    );
    mode("instances.d", 0o750);
    assert!(warned().is_empty());
}

#[test]
fn documents_are_checked_even_if_the_configuration_has_faults() {
    let host = host(&[
        ("1.json", "{}"),
        ("2.json", &instance("i-00000002", &["nowhere"])),
    ]);
    let text = "instances = \"instances.d\"\ncolour = 1\n[control]\naccess_keys = \"keys\"\n[[listener]]\n";
    std::fs::write(host.path().join("imdsd.toml"), text).unwrap();
    let faults = check(&host.path().join("imdsd.toml")).unwrap_err();
    let fields: Vec<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "colour",
            "listener.name",
            "listener.ipv4",
            "",
            "InstanceId",
            "LaunchTime"
        ]
    );
}

#[test]
fn documents_that_cannot_be_read_are_a_fault() {
    let host = host(&[]);
    std::fs::remove_dir(host.path().join("instances.d")).unwrap();
    let faults = check_host(&host).unwrap_err();
    assert!(
        faults.len() == 1 && faults[0].starts_with("instances.d: can't be read: "),
        "{faults:?}"
    );
}

/// Returns the record of an instance on these listeners.
fn record(id: &str, listeners: &[&str]) -> Instance {
    let text = instance(id, listeners);
    let mut instances = crate::document::read(Path::new("record.json"), &text).unwrap();
    instances.remove(0)
}

fn read(host: &tempfile::TempDir, stored: &StoredInstances) -> CheckedDocuments {
    let config = config::read(&host.path().join("imdsd.toml")).unwrap();
    CheckedDocuments::read(&config, &Registered::of_store(stored))
}

fn ids(documents: &CheckedDocuments) -> Vec<&str> {
    let documents = documents.instances.iter();
    documents
        .map(|document| document.instance.instance_id.as_str())
        .collect()
}

/// Returns the ids and the listeners of faulty instances.
fn faulty(documents: &CheckedDocuments) -> Vec<(Option<&str>, Vec<String>)> {
    let faulty = documents.faulty.iter();
    faulty
        .map(
            |FaultyInstance {
                 id, attachments, ..
             }| {
                let attachments = attachments.iter().map(InstanceAttachment::to_string);
                (id.as_ref().map(InstanceId::as_str), attachments.collect())
            },
        )
        .collect()
}

#[test]
fn a_document_with_a_fault_costs_its_own_instance_only() {
    let (one, two, three) = ("i-00000001", "i-00000002", "i-00000003");
    let good = instance(one, &["a"]);
    let on_b = |id: &str| (Some(id.to_string()), vec!["listener 'b'".to_string()]);
    let two_on_b = instance(two, &["b"]);
    for (what, bad, expected) in [
        (
            "cut off",
            two_on_b[..two_on_b.len() - 1].to_string(),
            vec![on_b(two)],
        ),
        ("nothing in it", "{".to_string(), vec![]),
        (
            "a missing field",
            two_on_b.replace("LaunchTime", "Launched"),
            vec![on_b(two)],
        ),
        (
            "an invalid id",
            two_on_b.replace(two, "i-2"),
            vec![(None, on_b(two).1)],
        ),
        (
            "a repeated key",
            two_on_b.replacen('{', "{\"ImageId\":\"\",\"ImageId\":\"\",", 1),
            vec![on_b(two)],
        ),
        (
            "an invalid attachment",
            two_on_b.replace("\n{", "5,{"),
            vec![on_b(two)],
        ),
        (
            "an unknown listener",
            instance(two, &["b", "c"]),
            vec![(
                Some(two.to_string()),
                vec!["listener 'b'".to_string(), "listener 'c'".to_string()],
            )],
        ),
        (
            "an omitted secret",
            two_on_b.replace("{\"Attachments\"", "{\"OpenSshKey\":\"x\",\"Attachments\""),
            vec![on_b(two)],
        ),
        (
            "one of two",
            format!(
                "[{},{}]",
                two_on_b.replace("LaunchTime", "Launched"),
                instance(three, &[])
            ),
            vec![on_b(two)],
        ),
        (
            "a fault of the account, which all of them have",
            format!("{{\"OwnerId\":\"1\",\"Instances\":[{two_on_b}]}}"),
            vec![on_b(two)],
        ),
        (
            "a repeated id",
            format!("[{},{two_on_b}]", instance(two, &[])),
            vec![(Some(two.to_string()), vec![]), on_b(two)],
        ),
    ] {
        let host = host(&[("1.json", &good), ("2.json", &bad)]);
        let documents = read(&host, &StoredInstances::default());
        let mut valid = vec![one];
        valid.extend((what == "one of two").then_some(three));
        assert_eq!(ids(&documents), valid, "{what}");
        let expected: Vec<(Option<&str>, Vec<String>)> = expected
            .iter()
            .map(|(id, attachments)| (id.as_deref(), attachments.clone()))
            .collect();
        assert_eq!(faulty(&documents), expected, "{what}");
        assert!(!documents.faults.is_empty(), "{what}");
        let is_named = |fault: &Fault| fault.file.ends_with("2.json");
        assert!(
            documents.faults.iter().all(is_named),
            "{what}: {:?}",
            documents.faults
        );
    }
}

/// Between two new instances nothing decides. A registered one keeps what it has, because a guest
/// may be there.
#[test]
fn of_two_documents_that_claim_one_attachment_the_registered_instance_keeps_it() {
    let (one, two) = ("i-00000001", "i-00000002");
    let broken = |text: String| text.replace("LaunchTime", "Launched");
    let on_a = |id| (Some(id), vec!["listener 'a'".to_string()]);
    let record_on = |id, listeners: &[&str]| vec![record(id, listeners)];
    let mut terminated = record(one, &["a"]);
    terminated.state = InstanceState::Terminated;
    for (what, first, records, valid, not_taken) in [
        (
            "neither is registered",
            instance(one, &["a"]),
            vec![],
            vec![],
            vec![on_a(one), on_a(two)],
        ),
        (
            "the first is registered",
            instance(one, &["a"]),
            record_on(one, &["a"]),
            vec![one],
            vec![(Some(two), vec![])],
        ),
        (
            "the second is registered",
            instance(one, &["a"]),
            record_on(two, &["a"]),
            vec![two],
            vec![(Some(one), vec![])],
        ),
        (
            "the document of the registered one is broken",
            broken(instance(one, &["a"])),
            record_on(one, &["a"]),
            vec![],
            vec![(Some(two), vec![]), on_a(one)],
        ),
        (
            "the record of the registered one has moved there",
            instance(one, &["b"]),
            record_on(one, &["a"]),
            vec![one],
            vec![(Some(two), vec![])],
        ),
        (
            "the other is broken",
            broken(instance(one, &["a"])),
            vec![],
            vec![],
            vec![on_a(two), on_a(one)],
        ),
        (
            "the other was terminated",
            instance(one, &["a"]),
            vec![terminated],
            vec![one, two],
            vec![],
        ),
        // The guest there may be either one: the snapshot has a conflict, and serves neither.
        (
            "a record without a document",
            instance(one, &["b"]),
            record_on("i-00000003", &["a"]),
            vec![one, two],
            vec![],
        ),
    ] {
        let host = host(&[("1.json", &first), ("2.json", &instance(two, &["a"]))]);
        let stored = StoredInstances {
            instances: records,
            ..StoredInstances::default()
        };
        let documents = read(&host, &stored);
        assert_eq!(ids(&documents), valid, "{what}");
        assert_eq!(faulty(&documents), not_taken, "{what}");
        assert_eq!(documents.faults.is_empty(), not_taken.is_empty(), "{what}");
    }
}

#[test]
fn a_conflict_says_which_instance_keeps_the_attachment() {
    let host = host(&[
        ("1.json", &instance("i-00000001", &["a"])),
        ("2.json", &instance("i-00000002", &["a"])),
    ]);
    let stored = StoredInstances {
        instances: vec![record("i-00000002", &["a"])],
        ..StoredInstances::default()
    };
    assert_eq!(
        texts(&host, &read(&host, &stored).faults),
        [
            "instances.d/1.json:2: i-00000001: Imds.Attachments: listener 'a' is claimed by i-00000002 too \
          (instances.d/2.json:1); i-00000002 is registered and keeps it"
        ]
    );
}

/// An operator may have attached the instance with `imdsd instance put`.
#[test]
fn warnings_about_attachments_and_states_come_from_the_records() {
    let host = host(&[
        ("1.json", &instance("i-00000001", &[])),
        ("2.json", &instance("i-00000002", &["b"])),
        ("3.json", &instance("i-00000003", &[])),
    ]);
    let mut stopped = record("i-00000003", &[]);
    stopped.state = InstanceState::Stopped;
    let unreadable = UnreadableRecord {
        id: InstanceId::parse("i-00000004").unwrap(),
        fault: Fault::of_file(Path::new("x"), "unreadable"),
        attachments: vec![Attachment::Listener("b".into()).into()],
        client_tokens: Vec::new(),
    };
    let stored = StoredInstances {
        instances: vec![
            record("i-00000001", &["a"]),
            record("i-00000002", &[]),
            stopped,
        ],
        unreadable: vec![unreadable],
        ..StoredInstances::default()
    };
    assert_eq!(
        texts(&host, &read(&host, &stored).warnings),
        [
            "instances.d/2.json:1: i-00000002: Imds.Attachments: there are none, so the instance cannot be reached",
            "instances.d/3.json:1: i-00000003: State: the instance is stopped and will not be served",
        ]
    );
}

/// A stopped instance claims nothing. Whether a binding is void depends on the running host.
#[test]
fn a_stopped_document_and_a_bound_attachment_conflict_with_nothing() {
    let with = |id: &str, more: &str, binding: &str| {
        format!(
            "{{\"InstanceId\":\"{id}\",\"LaunchTime\":\"2026-01-01T00:00:00Z\"{more},\
             \"Imds\":{{\"Attachments\":[{{\"Interface\":\"vnet0\"{binding}}}]}}}}"
        )
    };
    let stopped = ",\"State\":{\"Name\":\"stopped\"}";
    let bound = ",\"Binding\":{\"MacAddress\":\"fe:54:00:00:00:05\"}";
    for (more, binding, conflicts) in [("", "", 1), (stopped, "", 0), ("", bound, 0)] {
        let host = host(&[
            ("1.json", &with("i-00000001", "", "")),
            ("2.json", &with("i-00000002", more, binding)),
        ]);
        let path = host.path().join("imdsd.toml");
        let text = std::fs::read_to_string(&path).unwrap() + "[interfaces]\n";
        std::fs::write(&path, text).unwrap();
        let faults = read(&host, &StoredInstances::default()).faults;
        assert_eq!(faults.len(), conflicts, "{more}{binding}: {faults:?}");
    }
}

/// A record decides what its instance has: it may have released what its document names.
#[test]
fn a_stale_document_of_a_registered_instance_claims_nothing() {
    let (one, two) = ("i-00000001", "i-00000002");
    let stored = StoredInstances {
        instances: vec![record(one, &["b"])],
        ..StoredInstances::default()
    };
    let with_two = |text: &str| {
        let host = host(&[("1.json", &instance(one, &["a"])), ("2.json", text)]);
        read(&host, &stored)
    };
    let documents = with_two(&instance(two, &["a"]));
    assert_eq!(
        (ids(&documents), documents.faults.as_slice()),
        (vec![one, two], [].as_slice())
    );
    // Nor does it end the reservation of another document.
    let documents = with_two(&instance(two, &["a"]).replace("LaunchTime", "Launched"));
    assert_eq!(ids(&documents), [one]);
    let on_a = vec!["listener 'a'".to_string()];
    assert_eq!(faulty(&documents), [(Some(two), on_a)]);
    // What the record has is kept.
    let documents = with_two(&instance(two, &["b"]));
    assert_eq!(ids(&documents), [one]);
    assert_eq!(faulty(&documents), [(Some(two), vec![])]);
}

/// A binding that the running host confirms is a claim like any other.
#[test]
fn a_bound_attachment_counts_where_the_links_are_known() {
    let (one, two) = ("i-00000001", "i-00000002");
    let on_vnet0 = |id: &str, binding: &str| {
        instance(id, &["a"]).replace(
            "{\"Listener\":\"a\"}",
            &format!("{{\"Interface\":\"vnet0\"{binding}}}"),
        )
    };
    let bound = ",\"Binding\":{\"MacAddress\":\"fe:54:00:00:00:05\"}";
    let record = |text: &str| {
        let mut instances = crate::document::read(Path::new("record.json"), text).unwrap();
        instances.remove(0)
    };
    for (mac_address, first, second, faults) in [
        ("fe:54:00:00:00:05", bound, "", 1),
        ("fe:54:00:00:00:05", "", bound, 1),
        ("fe:54:00:00:00:06", bound, "", 0),
        ("fe:54:00:00:00:06", "", bound, 0),
    ] {
        let host = host(&[
            ("1.json", &instance(one, &[])),
            ("2.json", &on_vnet0(two, second)),
        ]);
        let path = host.path().join("imdsd.toml");
        let text = std::fs::read_to_string(&path).unwrap() + "[interfaces]\n";
        std::fs::write(&path, text).unwrap();
        let stored = StoredInstances {
            instances: vec![record(&on_vnet0(one, first))],
            ..StoredInstances::default()
        };
        let link = LinkIdentity {
            index: 17,
            mac_address: Some(mac_address.to_string()),
        };
        let links = LinkIdentities {
            boot_id: String::new(),
            by_name: [("vnet0".to_string(), link)].into_iter().collect(),
        };
        let registered = Registered::of_store(&stored).on_links(Some(links));
        let documents = CheckedDocuments::read(&config::read(&path).unwrap(), &registered);
        let what = format!("{mac_address} {first} {second}: {:?}", documents.faults);
        assert_eq!(documents.faults.len(), faults, "{what}");
        assert_eq!(ids(&documents).contains(&two), faults == 0, "{what}");
    }
}
