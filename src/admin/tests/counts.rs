//! What operators and monitoring read: listeners, health, metrics.

use serde_json::json;

use super::fake::TestApi;
use crate::clock::Moment;
use crate::config::demo_instance;
use crate::instance::InstanceId;

#[test]
fn listeners_are_reported_with_the_fields_that_docs_admin_md_names() {
    let api = TestApi::new();
    let (status, answer) = api.send("GET", "/v1/listeners", None, "");
    assert_eq!(
        (status, answer),
        (200, json!({ "Listeners": [], "Attachments": [] }))
    );
}

#[test]
fn counts_are_reported_as_json_and_for_prometheus() {
    let api = TestApi::new();
    let (_, health) = api.send("GET", "/v1/health", None, "");
    assert_eq!(
        (&health["Status"], &health["Instances"]),
        (&json!("ok"), &json!(1))
    );
    let (_, text) = api.send("GET", "/metrics", None, "");
    let text = text.as_str().unwrap();
    for line in [
        "imdsd_instances{state=\"running\"} 1",
        "imdsd_guest_connections 3",
        "imdsd_guest_throttled_total{answer=\"503\"} 5",
        "imdsd_guest_throttled_total{answer=\"reset\"} 6",
        "imdsd_options_pending 1",
        "imdsd_attachments{state=\"void\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}:\n{text}");
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(
            name.starts_with("imdsd_") && value.parse::<u64>().is_ok(),
            "{line}"
        );
    }
    // Documents in the configured directory can contradict each other; a put cannot.
    let mut rival = demo_instance();
    rival.instance_id = InstanceId::parse("i-11111111").unwrap();
    let registered = api.api.registry.register(rival, Moment::now().wall);
    api.runtime.block_on(registered).unwrap();
    assert_eq!(
        api.send("GET", "/v1/health", None, "").1["Status"],
        "degraded",
        "two instances claim one listener"
    );
}
