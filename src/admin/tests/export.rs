//! Exporting, importing again, and deleting.

use serde_json::json;

use super::fake::{ID, TestApi, demo_document, demo_with};
use crate::instance::InstanceState;

#[test]
fn an_export_with_a_terminated_instance_can_be_imported_again() {
    let api = TestApi::new();
    api.post(
        "/v1/instances",
        &demo_with(|document| document["InstanceId"] = "i-11111111".into()),
    );
    api.change(|instance| instance.state = InstanceState::Terminated);
    let (_, export) = api.send("GET", "/v1/export", None, "");
    for target in ["/v1/instances", "/v1/instances?relaunch=true"] {
        let (status, answer) = api.post(target, &export);
        assert_eq!(
            (status, &answer["Instances"][0]["Outcome"]),
            (200, &json!("unchanged")),
            "{answer}"
        );
    }
    // A document without a state does not bring it back.
    let (status, _) = api.post(
        "/v1/instances",
        &demo_with(|document| drop(document.as_object_mut().unwrap().remove("State"))),
    );
    assert_eq!(
        (status, api.demo().instance.state),
        (409, InstanceState::Terminated)
    );
}

#[test]
fn a_terminated_instance_is_not_brought_back_and_a_deleted_one_is_gone() {
    let api = TestApi::new();
    let one = format!("/v1/instances/{ID}");
    api.change(|instance| instance.state = InstanceState::Terminated);
    let (status, answer) = api.post("/v1/instances", &demo_document());
    assert_eq!(status, 409);
    assert!(
        answer["Message"]
            .as_str()
            .unwrap()
            .contains("imdsd instance delete"),
        "{answer}"
    );
    let spot =
        json!({ "Targets": { "Instance": ID }, "Request": { "Event": { "Rebalance": {} } } });
    assert_eq!(api.post("/v1/events", &spot).0, 409);
    let (status, answer) = api.send("DELETE", &one, Some("2"), "");
    assert_eq!(status, 200, "{answer}");
    assert!(
        answer["Message"]
            .as_str()
            .unwrap()
            .contains("registers it again"),
        "{answer}"
    );
    assert_eq!(api.send("GET", &one, None, "").0, 404);
    assert_eq!(
        api.post("/v1/instances", &demo_document()).1["Instances"][0]["Outcome"],
        "registered"
    );
}

#[test]
fn an_export_imports_unchanged_and_leaves_out_secrets_unless_asked() {
    let api = TestApi::new();
    let (_, shown) = api.send("GET", "/v1/export?secrets=shown", None, "");
    let (_, left_out) = api.send("GET", "/v1/export", None, "");
    assert!(
        shown.to_string().contains("demo0not0a0secret")
            && !left_out.to_string().contains("demo0not0a0secret")
    );
    let (_, one) = api.send("GET", &format!("/v1/instances/{ID}"), None, "");
    assert_eq!(one, left_out[0]);
    // The same daemon accepts both, with or without secrets.
    for export in [&shown, &left_out] {
        assert_eq!(
            api.post("/v1/instances", export).1["Instances"][0]["Outcome"],
            "unchanged"
        );
    }
    // Another daemon needs the secrets.
    let other = TestApi::new();
    other.send("DELETE", &format!("/v1/instances/{ID}"), None, "");
    let (status, answer) = other.post("/v1/instances", &left_out);
    assert_eq!(status, 422);
    assert!(
        answer["Faults"][0]["Message"]
            .as_str()
            .unwrap()
            .contains("--with-secrets"),
        "{answer}"
    );
    assert_eq!(other.post("/v1/instances", &shown).0, 200);
    assert_eq!(
        other.send("GET", "/v1/export?secrets=shown", None, "").1,
        shown
    );
}
