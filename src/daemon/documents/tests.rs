//! Tests of instance documents against a configuration and each other.

use std::path::Path;

use super::*;

#[test]
fn the_shipped_sidecar_configuration_has_no_faults_and_no_warnings() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let checked = check(&directory.join("sidecar.toml")).unwrap();
    assert!(checked.config.control.is_none());
    assert_eq!((checked.instances.len(), checked.warnings), (1, vec![]));
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

fn check_host(host: &tempfile::TempDir) -> Result<CheckedConfig, Vec<String>> {
    let folder = format!("{}/", host.path().display());
    check(&host.path().join("imdsd.toml")).map_err(|faults| {
        faults
            .iter()
            .map(|fault| fault.to_string().replace(&folder, ""))
            .collect()
    })
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
    let checked = check_host(&host).unwrap();
    assert_eq!(checked.instances.len(), 2);
    let folder = format!("{}/", host.path().display());
    let warnings: Vec<String> = checked
        .warnings
        .iter()
        .map(|warning| warning.to_string().replace(&folder, ""))
        .collect();
    assert_eq!(
        warnings,
        [
            "instances.d/2.json:1: i-00000002: Imds.Attachments: there are none, so the instance cannot be reached",
            "imdsd.toml:2: listener.name: no document claims listener 'a': its connections are not answered",
        ]
    );
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
        let faults = check_host(&host).err().unwrap_or_default();
        assert_eq!(faults.len(), conflicts, "{more}{binding}: {faults:?}");
    }
}
