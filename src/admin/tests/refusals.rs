//! Refusals: malformed requests, quarantined instances, a store that fails.

use std::sync::Arc;

use serde_json::json;

use super::fake::{FailingStore, ID, TestApi, demo_document, demo_with};
use crate::instance::{Attachment, InstanceId};
use crate::registry::{Document, StoredState};

#[test]
fn a_bad_request_is_refused_with_a_reason() {
    let api = TestApi::new();
    let one = format!("/v1/instances/{ID}");
    let options = format!("/v1/instances/{ID}/metadata-options");
    let demo = demo_document().to_string();
    let generation = Some("\"7\"");
    for (method, target, if_match, body, status, expected) in [
        ("GET", "/", None, "", 404, "docs/admin.md"),
        ("GET", "/v1", None, "", 404, "docs/admin.md"),
        (
            "GET",
            "/v1/instances/i-1",
            None,
            "",
            400,
            "8 or 17 hexadecimal digits",
        ),
        (
            "GET",
            "/v1/instances/i-12345678",
            None,
            "",
            404,
            "there is no instance i-12345678",
        ),
        (
            "GET",
            "/v1/instances?json=true",
            None,
            "",
            400,
            "unknown query parameter 'json'",
        ),
        (
            "GET",
            "/v1/export?secrets=true",
            None,
            "",
            400,
            "'secrets': expected shown",
        ),
        (
            "GET",
            "/v1/export?secrets=shown&secrets=shown",
            None,
            "",
            400,
            "appears twice",
        ),
        ("POST", "/v1/export", None, "", 405, "POST is not allowed"),
        ("PATCH", &one, None, "", 405, "PATCH is not allowed"),
        ("GET", &options, None, "", 405, "GET is not allowed"),
        ("PATCH", &options, None, "", 400, "EOF"),
        ("PATCH", &options, None, "[]", 400, "invalid type"),
        ("PATCH", &options, None, "{}", 400, "there is no option"),
        (
            "PATCH",
            &options,
            None,
            r#"{"HttpToken": "required"}"#,
            400,
            "'HttpToken' is not known (known: HttpTokens, ",
        ),
        (
            "PATCH",
            &options,
            None,
            r#"{"State": "applied"}"#,
            400,
            "'State' is not known",
        ),
        (
            "PATCH",
            &options,
            None,
            r#"{"HttpTokens": "required", "HttpTokens": "optional"}"#,
            400,
            "duplicate field 'HttpTokens'",
        ),
        (
            "PATCH",
            &options,
            None,
            r#"{"HttpTokens": "Required"}"#,
            400,
            "Required",
        ),
        (
            "PATCH",
            &options,
            None,
            r#"{"HttpPutResponseHopLimit": 65}"#,
            400,
            "65",
        ),
        (
            "PATCH",
            &options,
            generation,
            r#"{"HttpTokens": "required"}"#,
            412,
            "at generation 1, not 7",
        ),
        (
            "PATCH",
            "/v1/instances/i-12345678/metadata-options",
            None,
            r#"{"HttpTokens": "required"}"#,
            404,
            "there is no instance i-12345678",
        ),
        ("POST", "/metrics", None, "", 405, "POST is not allowed"),
        (
            "DELETE",
            "/v1/instances/i-12345678",
            None,
            "",
            404,
            "there is no instance",
        ),
        (
            "DELETE",
            &one,
            generation,
            "",
            412,
            "at generation 1, not 7",
        ),
        (
            "DELETE",
            &one,
            Some("x"),
            "",
            400,
            "If-Match: expected a generation",
        ),
        (
            "PUT",
            &one,
            generation,
            &demo,
            412,
            "at generation 1, not 7",
        ),
        (
            "PUT",
            "/v1/instances/i-12345678",
            None,
            &demo,
            400,
            "describes i-0123456789abcdef0, not i-12345678",
        ),
        (
            "PUT",
            &one,
            None,
            "[]",
            400,
            "there is no instance in the body",
        ),
        ("PUT", &one, None, "{", 422, "1 fault"),
        (
            "POST",
            "/v1/instances?relaunch=yes",
            None,
            &demo,
            400,
            "'relaunch': expected true or false",
        ),
        (
            "POST",
            "/v1/instances",
            None,
            r#"{"Documents":[{"File":"a"}]}"#,
            400,
            "missing field",
        ),
        ("POST", "/v1/instances", None, "\u{fffd}", 422, "1 fault"),
        ("POST", "/v1/reload?all=true", None, "", 400, "'all'"),
        (
            "POST",
            "/v1/explain",
            None,
            "",
            400,
            "say where the request comes in",
        ),
        (
            "POST",
            "/v1/explain",
            None,
            r#"{"Listener":"a","Interface":"b"}"#,
            400,
            "name one",
        ),
        (
            "POST",
            "/v1/explain",
            None,
            r#"{"Listener":"a","Mark":1}"#,
            400,
            "interface of a bridge",
        ),
        (
            "POST",
            "/v1/events",
            None,
            "{}",
            400,
            "one Request, or one Scenario",
        ),
        (
            "POST",
            "/v1/events",
            None,
            r#"{"Request":{"Event":{"Spot":{"Action":"x"}}}}"#,
            400,
            "unknown variant",
        ),
        (
            "POST",
            "/v1/events",
            None,
            r#"{"Targets":{"Tag":{"Key":"a","Value":"b"}},"Request":{"Event":{"Rebalance":{}}}}"#,
            404,
            "no instance has the tag a = b",
        ),
        (
            "POST",
            "/v1/events",
            None,
            r#"{"Request":{"When":{"At":"2020-01-01T00:00:00Z"},"Event":{"Rebalance":{}}}}"#,
            422,
            "is past",
        ),
    ] {
        let (found, answer) = api.send(method, target, if_match, body);
        let message = answer["Message"].as_str().unwrap_or_default();
        assert!(
            found == status && message.contains(expected),
            "{method} {target} {body}: {found} {answer}"
        );
    }
    assert_eq!(
        api.demo().generation,
        1,
        "no refused request changes anything"
    );
}

#[test]
fn a_quarantined_instance_is_never_reported_as_unknown() {
    // The demo is stored; then a write fails with an unknown outcome.
    let api = TestApi::over(FailingStore::after(1, StoredState::Unknown));
    let edited = demo_with(|document| document["Imds"]["UserDataText"] = "new".into());
    assert_eq!(api.post("/v1/instances", &edited).0, 500);
    for (id, why) in [
        ("i-99999999", "can't be read"),
        (ID, "on-disk state is unknown"),
    ] {
        let event =
            json!({ "Targets": { "Instance": id }, "Request": { "Event": { "Rebalance": {} } } });
        for (method, target, body) in [
            ("GET", format!("/v1/instances/{id}"), String::new()),
            (
                "POST",
                "/v1/explain".into(),
                json!({ "InstanceId": id }).to_string(),
            ),
            ("POST", "/v1/events".into(), event.to_string()),
        ] {
            let (status, answer) = api.send(method, &target, None, &body);
            let message = answer["Message"].as_str().unwrap();
            assert!(
                status == 409 && message.contains(why),
                "{target} {id}: {answer}"
            );
        }
    }
}

/// A reload of thousands of new documents takes seconds, and nothing is wrong meanwhile.
#[test]
fn an_instance_that_is_being_registered_is_closed_to_others_and_is_no_fault() {
    let new = "i-11111111";
    let api = TestApi::new();
    let document = demo_with(|document| {
        document["InstanceId"] = new.into();
        document["Imds"]["Attachments"] = json!([{ "Listener": "new" }]);
    });
    let registered = |api: &TestApi| {
        let mut instance = api.demo().instance.clone();
        instance.instance_id = InstanceId::parse(new).unwrap();
        instance.imds.attachments = vec![Attachment::Listener("new".into()).into()];
        instance
    };
    let document = document.to_string();
    let documents = [Arc::new(Document::of(registered(&api)))];
    let reserved = api.api.registry.reserve_new(&documents);
    api.runtime.block_on(reserved);

    // 1. It is counted, and nothing needs an operator's attention.
    let health = api.send("GET", "/v1/health", None, "").1;
    assert_eq!(
        (&health["Status"], &health["LookAt"]),
        (&json!("ok"), &json!([]))
    );
    assert_eq!(health["BeingRegistered"], 1);
    let listed = api.send("GET", "/v1/instances", None, "").1;
    assert_eq!(
        (&listed["NotStored"], &listed["BeingRegistered"]),
        (&json!([]), &json!([new]))
    );
    let (_, metrics) = api.send("GET", "/metrics", None, "");
    let metrics = metrics.as_str().unwrap();
    for line in [
        "imdsd_instances_being_registered 1",
        "imdsd_instances_not_stored 0",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}");
    }

    // 2. Changes are refused with what to do; also those of others that would take its attachment.
    let one = format!("/v1/instances/{new}");
    let claim = json!({ "Attachments": [{ "Listener": "new" }] }).to_string();
    let other = demo_with(|document| {
        document["Imds"]["Attachments"] = json!([{ "Listener": "demo" }, { "Listener": "new" }]);
    });
    let other = other.to_string();
    let demo = format!("/v1/instances/{ID}");
    for (method, target, body) in [
        ("PUT", one.clone(), &*document),
        ("DELETE", one.clone(), ""),
        ("GET", one.clone(), ""),
        ("POST", format!("{one}/claim"), &claim),
        ("POST", format!("{one}/release"), "{}"),
        ("POST", format!("{demo}/claim"), &claim),
        ("PUT", demo.clone(), &other),
        ("PUT", format!("{demo}?force=true"), &other),
    ] {
        let (status, answer) = api.send(method, &target, None, body);
        let message = answer["Message"].as_str().unwrap();
        for part in ["is being registered", "try again"] {
            assert!(
                status == 409 && message.contains(part),
                "{method} {target}: {status} {answer}"
            );
        }
    }
    assert_eq!(api.demo().generation, 1);
    let question = json!({ "Listener": "new" }).to_string();
    let explained = api.send("POST", "/v1/explain", None, &question).1;
    let why = explained["Explanations"][0]["Why"].as_str().unwrap();
    assert!(why.contains("which is being registered"), "{explained}");

    // 3. Once it is registered, it is changed as any other.
    let now = crate::clock::Moment::now().wall;
    let stored = api.api.registry.register(registered(&api), now);
    api.runtime.block_on(stored).unwrap();
    assert_eq!(api.send("PUT", &one, None, &document).0, 200);
    let health = api.send("GET", "/v1/health", None, "").1;
    assert_eq!(health["BeingRegistered"], 0);
}

#[test]
fn a_failed_store_reports_what_may_have_changed_for_documents_and_events() {
    let others = ["i-11111111", "i-22222222"];
    let document = |id: &str, text: &str| {
        demo_with(|document| {
            document["InstanceId"] = id.into();
            document["Imds"]["UserDataText"] = text.into();
            document["Imds"]["Attachments"] = json!([{ "Listener": id }]);
        })
    };
    let edited = json!([document(others[0], "new"), document(others[1], "new")]);
    let event = json!({ "Targets": "All", "Request": { "Event": { "Rebalance": {} } } });
    let quarantined = "is not served until its stored record is known";
    let unchanged = "nothing was changed";
    for (writes, stored, present, absent) in [
        (
            0,
            StoredState::Previous,
            vec![unchanged],
            vec!["may", quarantined],
        ),
        (
            1,
            StoredState::Previous,
            vec![unchanged],
            vec!["may", quarantined],
        ),
        (0, StoredState::Unknown, vec![quarantined], vec![unchanged]),
        (
            1,
            StoredState::Unknown,
            vec!["may", quarantined],
            vec![unchanged],
        ),
    ] {
        for (target, body) in [("/v1/instances", &edited), ("/v1/events", &event)] {
            // The demo and two other instances are stored before.
            let api = TestApi::over(FailingStore::after(3 + writes, stored));
            for id in others {
                assert_eq!(api.post("/v1/instances", &document(id, "old")).0, 200);
            }
            let (status, answer) = api.post(target, body);
            let message = answer["Message"].as_str().unwrap();
            let has_all = present.iter().all(|word| message.contains(word));
            let as_expected =
                status == 500 && has_all && !absent.iter().any(|word| message.contains(word));
            assert!(as_expected, "{target} {writes} {stored:?}: {answer}");
        }
    }
}

/// What has no faults was taken in, so the answer is not a refusal.
#[test]
fn a_reload_with_faults_is_answered_with_what_was_taken_in() {
    let (status, report) = TestApi::new().send("POST", "/v1/reload", None, "");
    assert_eq!(
        (status, &report["AccessKeys"]),
        (200, &json!(1)),
        "{report}"
    );
    let fault = json!({ "File": "i.json", "Line": 0, "Field": "", "Message": "not JSON" });
    assert_eq!(report["Faults"], json!([fault]));
}
