//! Injecting and clearing events.

use serde_json::json;

use super::fake::{ID, TestApi, demo_with};

#[test]
fn an_event_without_targets_needs_exactly_one_instance() {
    let api = TestApi::new();
    let rebalance = json!({ "Request": { "Event": { "Rebalance": {} } } });
    let (status, answer) = api.post("/v1/events", &rebalance);
    assert_eq!(
        (status, &answer["Steps"][0]["InstanceIds"]),
        (200, &json!([ID]))
    );
    api.post(
        "/v1/instances",
        &demo_with(|document| {
            document["InstanceId"] = "i-11111111".into();
            document["Imds"]["Attachments"] = json!([{ "Listener": "other" }]);
        }),
    );
    let (status, answer) = api.post("/v1/events", &rebalance);
    assert_eq!(status, 400);
    assert!(
        answer["Message"]
            .as_str()
            .unwrap()
            .contains("there are 2 instances"),
        "{answer}"
    );
    // All or none: a scenario with an impossible last step stores nothing.
    let text = r#"{"Name":"n","Targets":"All","Steps":[{"Event":{"Lifecycle":{"State":"Standby"}}},
                   {"Targets":{"Instance":"i-33333333"},"Event":{"Rebalance":{}}}]}"#;
    let (status, answer) = api.post(
        "/v1/events",
        &json!({ "Scenario": { "File": "s.json", "Text": text } }),
    );
    assert_eq!(status, 404, "{answer}");
    assert_eq!(api.demo().instance.imds.events.target_lifecycle_state, None);
    let (_, listed) = api.send("GET", "/v1/events", None, "");
    assert_eq!(listed["Instances"].as_array().unwrap().len(), 1, "{listed}");
}

/// A clear in the middle of a scheduled event: the step that completes it would find no event.
#[test]
fn a_clear_cancels_future_steps_and_reports_them() {
    let api = TestApi::new();
    let event = json!({ "Code": "system-reboot", "NotBefore": { "After": "1h" },
                        "EventId": "instance-event-0123456789abcdef0" });
    let steps = json!({ "Name": "n", "Targets": "All", "Steps": [
        { "Event": { "Maintenance": event } },
        { "When": { "After": "1h" }, "Event": { "Complete": { "EventId": event["EventId"] } } },
        { "When": { "After": "2h" }, "Event": { "Lifecycle": { "State": "Standby" } } },
    ] });
    let scenario = json!({ "Scenario": { "File": "s.json", "Text": steps.to_string() } });
    let (status, answer) = api.post("/v1/events", &scenario);
    assert_eq!((status, &answer["Dropped"]), (200, &json!([])), "{answer}");
    let clear = json!({ "Request": { "Event": { "Clear": { "Kinds": ["Maintenance"] } } } });
    let (status, answer) = api.post("/v1/events", &clear);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["Dropped"][0]["InstanceId"], ID);
    let dropped = answer["Dropped"][0]["Steps"].as_array().unwrap();
    assert!(
        dropped.len() == 1 && dropped[0]["Set"]["MaintenanceState"].is_object(),
        "{answer}"
    );
    assert_eq!(
        api.demo().instance.imds.timeline.steps().len(),
        1,
        "the other kind stays"
    );
}
