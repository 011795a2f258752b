//! Injecting and clearing events.

use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::json;

use super::fake::{ID, TestApi, demo_with};
use crate::instance::{Instance, InstanceId, InstanceState};
use crate::registry::memory::MemoryStore;
use crate::registry::store::{CommitError, Loaded, PreparedWrite, Write};
use crate::registry::{Account, Registry, Store, StoreError};

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

/// A store that does something else once, before it prepares a change.
#[derive(Clone, Default)]
struct InterruptedStore(Arc<Mutex<Option<StoreInterruption>>>);

type StoreInterruption = Box<dyn FnOnce() + Send>;
type RegistryInterruption = Box<dyn FnOnce(&Arc<Registry>, &tokio::runtime::Handle) + Send>;

impl Store for InterruptedStore {
    fn load(&self) -> Result<Loaded, StoreError> {
        MemoryStore.load()
    }

    fn prepare(&self, writes: Vec<Write>) -> Result<Vec<PreparedWrite>, StoreError> {
        let interruption = self.0.lock().take();
        if let Some(interrupt) = interruption {
            interrupt();
        }
        MemoryStore.prepare(writes)
    }

    fn commit(&self, batches: Vec<Vec<PreparedWrite>>) -> Vec<Result<(), CommitError>> {
        MemoryStore.commit(batches)
    }

    fn put_account(&self, account: &Account) -> Result<(), StoreError> {
        MemoryStore.put_account(account)
    }
}

/// An answer about thousands of instances comes seconds after they were selected.
#[test]
fn an_answer_names_the_instances_that_have_a_step_and_none_that_is_gone() {
    const GONE: &str = "i-11111111";
    const TERMINATED: &str = "i-22222222";
    let id = |id: &str| InstanceId::parse(id).unwrap();
    let store = InterruptedStore::default();
    let api = TestApi::over(store.clone());
    let interrupt_with = |work: RegistryInterruption| {
        let (registry, runtime) = (Arc::clone(&api.api.registry), api.runtime.handle().clone());
        *store.0.lock() = Some(Box::new(move || work(&registry, &runtime)));
    };
    let named = |answer: &serde_json::Value| {
        let steps = answer["Steps"].as_array().unwrap().iter();
        let changed = answer["Instances"].as_array().unwrap().iter();
        let changed: Vec<_> = changed.map(|of| of["InstanceId"].clone()).collect();
        (
            steps
                .map(|step| step["InstanceIds"].clone())
                .collect::<Vec<_>>(),
            json!(changed),
        )
    };
    for other in [GONE, TERMINATED] {
        let document = demo_with(|document| {
            document["InstanceId"] = other.into();
            document["Imds"]["Attachments"] = json!([]);
        });
        assert_eq!(api.post("/v1/instances", &document).0, 200);
    }

    // 1. Of three, two go away while the event is prepared; one step is for one of those only.
    interrupt_with(Box::new(move |registry, runtime| {
        let delete = async { registry.delete(&id(GONE), |_| Ok::<(), ()>(())).await };
        runtime.block_on(delete).unwrap();
        let now: Timestamp = "2026-05-16T16:25:07Z".parse().unwrap();
        let terminate = |instance: &mut Instance| {
            instance.state = InstanceState::Terminated;
            Ok::<(), ()>(())
        };
        let terminated = id(TERMINATED);
        let terminate = registry.update(&terminated, now, terminate);
        runtime.block_on(terminate).unwrap();
    }));
    let steps = json!({ "Name": "n", "Targets": "All", "Steps": [
        { "Event": { "Rebalance": {} } },
        { "Targets": { "Instance": GONE }, "Event": { "Lifecycle": { "State": "Standby" } } },
    ] });
    let scenario = json!({ "Scenario": { "File": "s.json", "Text": steps.to_string() } });
    let (status, answer) = api.post("/v1/events", &scenario);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(named(&answer), (vec![json!([ID]), json!([])], json!([ID])));

    // 2. The only one goes away.
    interrupt_with(Box::new(move |registry, runtime| {
        let delete = async { registry.delete(&id(ID), |_| Ok::<(), ()>(())).await };
        runtime.block_on(delete).unwrap();
    }));
    let event = json!({ "Targets": { "Instance": ID },
                        "Request": { "Event": { "Lifecycle": { "State": "Standby" } } } });
    let (status, answer) = api.post("/v1/events", &event);
    assert_eq!(status, 404, "{answer}");
    assert!(answer["Message"].as_str().unwrap().contains(ID), "{answer}");

    // 3. The only target goes away, and another instance is one by then.
    for (instance, tag) in [("i-33333333", "a"), ("i-44444444", "b")] {
        let document = demo_with(|document| {
            document["InstanceId"] = instance.into();
            document["Imds"]["Attachments"] = json!([]);
            document["Tags"] = json!([{ "Key": "role", "Value": tag }]);
        });
        assert_eq!(api.post("/v1/instances", &document).0, 200);
    }
    interrupt_with(Box::new(move |registry, runtime| {
        let now: Timestamp = "2026-05-16T16:25:07Z".parse().unwrap();
        for (instance, tag) in [("i-33333333", "b"), ("i-44444444", "a")] {
            let change = move |instance: &mut Instance| {
                instance.tags[0].value = tag.into();
                Ok::<(), ()>(())
            };
            let changed = id(instance);
            runtime
                .block_on(registry.update(&changed, now, change))
                .unwrap();
        }
    }));
    let event = json!({ "Targets": { "Tag": { "Key": "role", "Value": "a" } },
                        "Request": { "Event": { "Lifecycle": { "State": "Standby" } } } });
    let (status, answer) = api.post("/v1/events", &event);
    assert_eq!(status, 409, "{answer}");
}
