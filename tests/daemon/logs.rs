//! The log as operators read it: audit lines of both APIs, refused callers, requests of guests.

use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use super::support::{ACCESS_KEY, Daemon, INSTANCE, PATIENCE, ask, call, spawn_by};

const MODIFY: &str = "ModifyInstanceMetadataOptions";

fn text<'l>(line: &'l Value, field: &str) -> &'l str {
    line[field].as_str().unwrap_or_default()
}

/// Waits for the audit line of an action.
fn audit(daemon: &mut Daemon, action: &str) -> Value {
    let line = daemon.wait_for(|line| line["message"] == "api call" && line["action"] == action);
    assert_eq!(line["level"], "INFO", "{line}");
    line
}

#[test]
fn a_change_is_logged_with_what_it_changed_and_who_asked() {
    let mut daemon = Daemon::start(|instance| {
        instance["MetadataOptions"]["HttpTokens"] = "required".into();
        instance["MetadataOptions"]["HttpPutResponseHopLimit"] = 1.into();
    });
    let change = [
        ("InstanceId", INSTANCE),
        ("HttpTokens", "optional"),
        ("HttpPutResponseHopLimit", "3"),
    ];
    assert_eq!(call(daemon.control, MODIFY, &change).unwrap().status, 200);
    let line = audit(&mut daemon, MODIFY);
    assert_eq!(
        (
            text(&line, "api"),
            text(&line, "instances"),
            text(&line, "access_key_id"),
            text(&line, "outcome"),
        ),
        ("ec2", INSTANCE, ACCESS_KEY.0, "OK"),
        "{line}"
    );
    assert_eq!(
        text(&line, "changes"),
        format!(
            "{INSTANCE}: MetadataOptions.HttpPutResponseHopLimit: 1 → 3, \
             MetadataOptions.HttpTokens: \"required\" → \"optional\""
        )
    );
    assert!(text(&line, "peer").starts_with("127.0.0.1:"), "{line}");
    assert!(!text(&line, "request_id").is_empty(), "{line}");

    // A refused call changes nothing, and the line says which rule refused it.
    daemon.terminate();
    let keys = daemon.directory.path().join("access-keys.toml");
    let rules = "[[access_key.rule]]\neffect = \"allow\"\nactions = [\"ec2:Describe*\"]\n\
                 [[access_key.rule]]\neffect = \"deny\"\nactions = [\"ec2:Modify*\"]\n";
    let text_of_keys = std::fs::read_to_string(&keys).unwrap() + rules;
    std::fs::write(&keys, text_of_keys).unwrap();
    daemon.start_again();
    for (action, parameters, rule) in [
        (MODIFY, &change[..], "rule 2 denies it"),
        (
            "StopInstances",
            &[("InstanceId.1", INSTANCE)],
            "no rule allows it",
        ),
    ] {
        assert_eq!(
            call(daemon.control, action, parameters).unwrap().status,
            403
        );
        let line = audit(&mut daemon, action);
        assert_eq!(
            (
                text(&line, "outcome"),
                text(&line, "rule"),
                text(&line, "instances"),
                &line["changes"],
            ),
            ("UnauthorizedOperation", rule, INSTANCE, &Value::Null),
            "{line}"
        );
    }
    assert!(
        daemon
            .admin("/metrics")
            .contains("imdsd_control_refused_total{reason=\"policy\"} 2\n")
    );
}

#[test]
fn failed_signatures_are_warnings_with_key_peer_and_reason_and_are_counted() {
    let mut daemon = Daemon::start(|_| {});
    let unsigned = "GET /?Action=DescribeInstances&Version=2016-11-15 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    for _ in 0..12 {
        assert_eq!(ask(daemon.control, unsigned).status, 400);
    }
    let signed = |id: &str| {
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Amz-Date: 20260101T000000Z\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential={id}/20260101/us-east-1/ec2/aws4_request, \
             SignedHeaders=host;x-amz-date, Signature={}\r\n\r\n",
            "0".repeat(64)
        )
    };
    assert_eq!(ask(daemon.control, &signed(ACCESS_KEY.0)).status, 400);
    let line = daemon.wait_for(|line| line["reason"] == "expired");
    assert_eq!(
        (text(&line, "level"), text(&line, "access_key_id")),
        ("WARN", ACCESS_KEY.0),
        "{line}"
    );
    assert!(text(&line, "peer").starts_with("127.0.0.1:"), "{line}");
    // What cannot be a key id is not logged.
    ask(daemon.control, &signed("AKID.forged"));
    let line = daemon.wait_for(|line| line["level"] == "WARN");
    assert_eq!(line["access_key_id"], Value::Null, "{line}");

    let metrics = daemon.admin("/metrics");
    assert!(
        metrics.contains("# TYPE imdsd_control_refused_total counter\n")
            && metrics.contains("imdsd_control_refused_total{reason=\"unsigned\"} 12\n")
            && metrics.contains("imdsd_control_refused_total{reason=\"expired\"} 2\n"),
        "{metrics}"
    );
}

#[test]
fn a_flood_of_refused_callers_is_logged_ten_times_a_minute() {
    let mut daemon = Daemon::start(|_| {});
    for _ in 0..15 {
        ask(
            daemon.control,
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        );
    }
    daemon.terminate();
    let warned = |line: &&Value| line["level"] == "WARN" && line["reason"] == "unsigned";
    assert_eq!(daemon.log().iter().filter(warned).count(), 10);
}

#[test]
fn a_guests_request_is_logged_in_flat_fields_and_a_refused_host_once() {
    let mut daemon = Daemon::start(|_| {});
    let foreign = |name: &str| format!("GET /latest/ HTTP/1.1\r\nHost: {name}\r\n\r\n");
    for name in ["attacker.example", "attacker.example", "other.example"] {
        assert_eq!(daemon.ask(&foreign(name)).status, 400);
    }
    for name in ["attacker.example", "other.example"] {
        let line = daemon.wait_for(|line| line["level"] == "WARN");
        assert_eq!(text(&line, "host"), name, "{line}");
        assert!(
            text(&line, "message").contains("guest.allowed_hosts"),
            "{line}"
        );
    }
    assert_eq!(daemon.get("/latest/meta-data/?a=b").status, 401);
    let line = daemon.wait_for(|line| line["message"] == "guest request" && line["status"] == 401);
    assert_eq!(
        (
            text(&line, "instance"),
            text(&line, "attachment"),
            text(&line, "method"),
            text(&line, "path"),
        ),
        (INSTANCE, "listener 'demo'", "GET", "/latest/meta-data/?a=b"),
        "{line}"
    );
    assert!(text(&line, "reason").contains("token"), "{line}");
    assert!(text(&line, "peer").starts_with("127.0.0.1:"), "{line}");
    daemon.terminate();
    for line in daemon.log() {
        let line = line.to_string();
        for internal in ["Some(", "None", "::", " { "] {
            assert!(!line.contains(internal), "{internal} in {line}");
        }
    }
}

/// The text format has the same fields.
#[test]
fn the_text_format_has_the_same_fields() {
    let mut daemon = Daemon::start(|_| {});
    daemon.terminate();
    let config = daemon.directory.path().join("imdsd.toml");
    let as_text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        as_text.replace("format = \"json\"", "format = \"text\""),
    )
    .unwrap();
    let imdsd = Command::new(env!("CARGO_BIN_EXE_imdsd"));
    let (mut child, lines) = spawn_by(imdsd, daemon.directory.path());
    let wait_for = |text: &str| -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = lines.recv_timeout(left).expect("the log line comes");
            match line.as_str() {
                Some(line) if line.contains(text) => return line.to_string(),
                _ => {}
            }
        }
    };
    wait_for("ready");
    let change = [("InstanceId", INSTANCE), ("HttpPutResponseHopLimit", "5")];
    assert_eq!(call(daemon.control, MODIFY, &change).unwrap().status, 200);
    let audit = wait_for("api call");
    for field in [
        " INFO ",
        "api=\"ec2\"",
        "action=\"ModifyInstanceMetadataOptions\"",
        &format!("instances=\"{INSTANCE}\""),
        "HttpPutResponseHopLimit: ",
        " → 5",
        &format!("access_key_id=\"{}\"", ACCESS_KEY.0),
        "peer=\"127.0.0.1:",
        "outcome=\"OK\"",
    ] {
        assert!(audit.contains(field), "{field} in {audit}");
    }
    daemon.get("/latest/");
    let request = wait_for("guest request");
    for field in [
        "method=\"GET\"",
        "path=\"/latest/\"",
        "status=401",
        "reason=\"",
    ] {
        assert!(request.contains(field), "{field} in {request}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
