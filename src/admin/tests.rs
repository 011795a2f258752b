//! The operator's plane from outside: a request in, an answer out.

use std::time::Duration;

use http_body_util::BodyExt as _;

use super::*;
use crate::config::demo_instance;
use crate::document;
use crate::instance::{Attachment, HttpTokens, InstanceState, OptionsUpdate};
use crate::registry::memory::MemoryStore;
use crate::registry::store::Loaded;
use crate::registry::{Account, Record, Store, UnreadableRecord};

/// A daemon of which nothing is asked but what a test needs.
struct Around;

impl DaemonView for Around {
    fn faults(&self, instance: &Instance) -> Vec<crate::fault::FieldFault> {
        let elsewhere = instance
            .imds
            .attachments
            .contains(&Attachment::Listener("elsewhere".into()));
        elsewhere
            .then(|| crate::fault::FieldFault::new("Imds.Attachments[0]", "no such listener"))
            .into_iter()
            .collect()
    }

    fn predict(&self, _: &Entry, _: Family, asked: &ExplainedRequest, _: Moment) -> PredictedReply {
        PredictedReply {
            status: Some(401),
            rule: format!("{} {}", asked.method, asked.path),
        }
    }

    fn reload(&self) -> Pin<Box<dyn Future<Output = Result<ReloadReport, Vec<Fault>>> + Send>> {
        Box::pin(async {
            Err(vec![Fault::of_file(
                std::path::Path::new("i.json"),
                "not JSON",
            )])
        })
    }

    fn connections(&self) -> usize {
        3
    }
}

struct Plane {
    admin: Arc<AdminApi>,
    runtime: tokio::runtime::Runtime,
}

impl Plane {
    /// With the demo instance in it.
    fn new() -> Plane {
        Plane::over(MemoryStore)
    }

    fn over(store: impl Store + 'static) -> Plane {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let (registry, _) = Registry::open(Arc::new(store)).unwrap();
        runtime
            .block_on(registry.register(demo_instance(), Moment::now().wall))
            .unwrap();
        Plane {
            admin: Arc::new(AdminApi::new(registry, Arc::default(), Arc::new(Around))),
            runtime,
        }
    }

    fn ask(&self, method: &str, target: &str, if_match: Option<&str>, body: &str) -> (u16, Value) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let call = AdminRequest {
            uid: Some(0),
            method,
            path,
            query,
            if_match,
            body: Bytes::copy_from_slice(body.as_bytes()),
        };
        self.runtime.block_on(async {
            let response = self.admin.answer(call).await;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            (
                status,
                serde_json::from_slice(&body)
                    .unwrap_or(Value::String(String::from_utf8_lossy(&body).into())),
            )
        })
    }

    fn put(&self, target: &str, document: &Value) -> (u16, Value) {
        self.ask("POST", target, None, &document.to_string())
    }

    fn demo(&self) -> Arc<Entry> {
        Arc::clone(
            self.admin
                .registry
                .snapshot()
                .entry(&demo_instance().instance_id)
                .unwrap(),
        )
    }

    fn change(&self, change: impl FnOnce(&mut Instance) + Send + 'static) {
        let change = |instance: &mut Instance| {
            change(instance);
            Ok::<_, ()>(())
        };
        let id = demo_instance().instance_id;
        self.runtime
            .block_on(self.admin.registry.update(&id, Moment::now().wall, change))
            .unwrap();
    }
}

fn demo_document() -> Value {
    document::to_value(&demo_instance())
}

fn with(change: impl FnOnce(&mut Value)) -> Value {
    let mut document = demo_document();
    change(&mut document);
    document
}

const ID: &str = "i-0123456789abcdef0";

#[test]
fn what_can_not_be_asked_is_refused_with_a_reason() {
    let plane = Plane::new();
    let one = format!("/v1/instances/{ID}");
    let demo = demo_document().to_string();
    let generation = Some("\"7\"");
    for (method, target, if_match, body, status, said) in [
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
            "no parameter 'json'",
        ),
        (
            "GET",
            "/v1/export?secrets=true",
            None,
            "",
            400,
            "'secrets' is shown",
        ),
        (
            "GET",
            "/v1/export?secrets=shown&secrets=shown",
            None,
            "",
            400,
            "stands twice",
        ),
        ("POST", "/v1/export", None, "", 405, "POST is not taken"),
        ("PATCH", &one, None, "", 405, "PATCH is not taken"),
        ("POST", "/metrics", None, "", 405, "POST is not taken"),
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
            "is not 7: it is 1 by now",
        ),
        (
            "DELETE",
            &one,
            Some("x"),
            "",
            400,
            "If-Match is a generation",
        ),
        (
            "PUT",
            &one,
            generation,
            &demo,
            412,
            "is not 7: it is 1 by now",
        ),
        (
            "PUT",
            "/v1/instances/i-12345678",
            None,
            &demo,
            400,
            "is of i-0123456789abcdef0, not of i-12345678",
        ),
        ("PUT", &one, None, "[]", 400, "there is no instance in it"),
        ("PUT", &one, None, "{", 422, "a fault"),
        (
            "POST",
            "/v1/instances?relaunch=yes",
            None,
            &demo,
            400,
            "'relaunch' is true or false",
        ),
        (
            "POST",
            "/v1/instances",
            None,
            r#"{"Documents":[{"File":"a"}]}"#,
            400,
            "missing field",
        ),
        ("POST", "/v1/instances", None, "\u{fffd}", 422, "a fault"),
        ("POST", "/v1/reload", None, "", 422, "nothing was changed"),
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
        let (found, answer) = plane.ask(method, target, if_match, body);
        let message = answer["Message"].as_str().unwrap_or_default();
        assert!(
            found == status && message.contains(said),
            "{method} {target} {body}: {found} {answer}"
        );
    }
    assert_eq!(plane.demo().generation, 1, "nothing of it changed anything");
}

/// Writes what it is told to and then fails; one record in it can't be read.
struct Failing {
    writes: std::sync::atomic::AtomicUsize,
    stored: StoredState,
}

impl Failing {
    fn after(writes: usize, stored: StoredState) -> Failing {
        Failing {
            writes: writes.into(),
            stored,
        }
    }
}

impl Store for Failing {
    fn load(&self) -> Result<Loaded, StoreError> {
        let id = InstanceId::parse("i-99999999").unwrap();
        let fault = Fault::of_file(std::path::Path::new("i-99999999.json"), "broken");
        let unreadable = vec![UnreadableRecord {
            id,
            fault,
            attachments: Vec::new(),
        }];
        Ok(Loaded {
            unreadable,
            ..Loaded::default()
        })
    }

    fn put(&self, _: &Record, _: Option<&Record>) -> Result<(), StoreError> {
        use std::sync::atomic::Ordering::Relaxed;
        match self
            .writes
            .fetch_update(Relaxed, Relaxed, |writes| writes.checked_sub(1))
        {
            Ok(_) => Ok(()),
            Err(_) => {
                let reason = std::io::Error::other("disk");
                Err(StoreError {
                    action: "write".into(),
                    reason,
                    stored: self.stored,
                })
            }
        }
    }

    fn remove(&self, _: &InstanceId) -> Result<(), StoreError> {
        Ok(())
    }

    fn put_account(&self, _: &Account, _: Option<&Account>) -> Result<(), StoreError> {
        Ok(())
    }
}

#[test]
fn an_instance_whose_record_can_not_be_relied_on_is_never_said_to_be_unknown() {
    // The demo is stored, and then a write leaves nobody sure.
    let plane = Plane::over(Failing::after(1, StoredState::Unknown));
    let edited = with(|document| document["Imds"]["UserDataText"] = "new".into());
    assert_eq!(plane.put("/v1/instances", &edited).0, 500);
    for (id, why) in [
        ("i-99999999", "can't be read"),
        (ID, "nobody can be sure what is stored"),
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
            let (status, answer) = plane.ask(method, &target, None, &body);
            let message = answer["Message"].as_str().unwrap();
            assert!(
                status == 409 && message.contains(why),
                "{target} {id}: {answer}"
            );
        }
    }
}

#[test]
fn what_a_store_that_failed_leaves_is_said_of_documents_and_of_events() {
    let others = ["i-11111111", "i-22222222"];
    let document = |id: &str, text: &str| {
        with(|document| {
            document["InstanceId"] = id.into();
            document["Imds"]["UserDataText"] = text.into();
        })
    };
    let edited = json!([document(others[0], "new"), document(others[1], "new")]);
    let event = json!({ "Targets": "All", "Request": { "Event": { "Rebalance": {} } } });
    let (nobody, nothing) = ("is served to nobody until", "nothing was changed");
    for (writes, left, said, unsaid) in [
        (0, StoredState::Previous, vec![nothing], vec!["may", nobody]),
        (1, StoredState::Previous, vec!["may"], vec![nothing, nobody]),
        (0, StoredState::Unknown, vec![nobody], vec![nothing]),
        (1, StoredState::Unknown, vec!["may", nobody], vec![nothing]),
    ] {
        for (target, body) in [("/v1/instances", &edited), ("/v1/events", &event)] {
            // The demo and two others are stored before.
            let plane = Plane::over(Failing::after(3 + writes, left));
            for id in others {
                assert_eq!(plane.put("/v1/instances", &document(id, "old")).0, 200);
            }
            let (status, answer) = plane.put(target, body);
            let message = answer["Message"].as_str().unwrap();
            let is_told = said.iter().all(|word| message.contains(word));
            let is_right =
                status == 500 && is_told && !unsaid.iter().any(|word| message.contains(word));
            assert!(is_right, "{target} {writes} {left:?}: {answer}");
        }
    }
}

#[test]
fn faults_of_documents_are_told_with_file_line_and_field_and_nothing_is_taken_in() {
    let plane = Plane::new();
    let bad = "{\n \"InstanceId\": \"i-1\",\n \"LaunchTime\": \"2026-01-01T00:00:00Z\"\n}";
    let elsewhere = with(|document| {
        document["InstanceId"] = "i-22222222".into();
        document["Imds"]["Attachments"] = json!([{ "Listener": "elsewhere" }]);
    });
    let fine = with(|document| document["InstanceId"] = "i-11111111".into());
    let bundle = |texts: &[(&str, String)]| {
        let documents: Vec<Value> = texts
            .iter()
            .map(|(file, text)| json!({ "File": file, "Text": text }))
            .collect();
        json!({ "Documents": documents })
    };
    let (status, answer) = plane.put(
        "/v1/instances",
        &bundle(&[("a.json", bad.into()), ("b.json", fine.to_string())]),
    );
    assert_eq!(status, 422, "{answer}");
    let fault = &answer["Faults"][0];
    assert_eq!(
        (fault["File"].as_str(), fault["Line"].as_u64()),
        (Some("a.json"), Some(2))
    );
    assert_eq!(fault["Field"], "InstanceId");

    let both = bundle(&[
        ("b.json", fine.to_string()),
        ("c.json", elsewhere.to_string()),
    ]);
    let (status, answer) = plane.put("/v1/instances", &both);
    assert_eq!(
        (status, &answer["Faults"][0]["File"]),
        (422, &json!("c.json")),
        "what the daemon can't serve: {answer}"
    );
    let (status, _) = plane.put(
        "/v1/instances",
        &bundle(&[("b.json", fine.to_string()), ("d.json", fine.to_string())]),
    );
    assert_eq!(status, 422, "one id twice");
    assert_eq!(plane.admin.registry.snapshot().entries().count(), 1);
}

#[test]
fn a_put_registers_replaces_relaunches_or_changes_nothing() {
    let plane = Plane::new();
    let outcome = |target: &str, document: &Value| {
        let (status, answer) = plane.put(target, document);
        assert_eq!(status, 200, "{answer}");
        let of = &answer["Instances"][0];
        (
            of["Outcome"].as_str().unwrap().to_string(),
            of["Generation"].as_u64().unwrap(),
            of["Changed"].clone(),
        )
    };
    let epoch = || plane.demo().launch_epoch;
    let first = epoch();
    assert_eq!(
        outcome("/v1/instances", &demo_document()),
        ("unchanged".into(), 1, json!([]))
    );
    let edited = with(|document| document["Imds"]["UserDataText"] = "new".into());
    assert_eq!(
        outcome("/v1/instances", &edited),
        ("replaced".into(), 2, json!(["Imds.UserDataText"]))
    );
    assert_eq!(epoch(), first, "tokens stay valid");
    let relaunched = outcome("/v1/instances?relaunch=true", &edited);
    assert_eq!(relaunched, ("relaunched".into(), 3, json!([])));
    assert_ne!(epoch(), first, "tokens are void");
    let new = with(|document| document["InstanceId"] = "i-11111111".into());
    assert_eq!(outcome("/v1/instances", &new).0, "registered");
    // What two claim is said.
    let (_, answer) = plane.put("/v1/instances", &new);
    assert_eq!(
        answer["Disputed"][0]["Claimants"],
        json!([ID, "i-11111111"])
    );
    // And trying is not doing.
    let dry = outcome("/v1/instances?dry-run=true", &demo_document());
    assert_eq!((dry.0.as_str(), dry.1), ("replaced", 3));
    assert_eq!(
        plane.demo().instance.imds.user_data_text.as_deref(),
        Some("new")
    );
}

/// The signed document of a launch is what verifiers hold in their hands.
#[test]
fn what_the_identity_document_shows_changes_with_a_new_launch_only() {
    let plane = Plane::new();
    let before = plane.demo();
    let other = with(|document| document["InstanceType"] = "m7i.large".into());
    let (status, answer) = plane.put("/v1/instances", &other);
    assert_eq!(status, 409, "{answer}");
    assert!(
        answer["Message"]
            .as_str()
            .unwrap()
            .contains("(InstanceType)"),
        "{answer}"
    );
    assert_eq!(plane.demo().generation, 1);
    // A launch time is of a launch: an old document does not take it back.
    let earlier = with(|document| document["LaunchTime"] = "2020-01-01T00:00:00Z".into());
    assert_eq!(
        plane.put("/v1/instances", &earlier).1["Instances"][0]["Outcome"],
        "unchanged"
    );
    assert_eq!(plane.put("/v1/instances?relaunch=true", &other).0, 200);
    assert_ne!(plane.demo().identity_document, before.identity_document);
    assert!(plane.demo().identity_document.contains("m7i.large"));

    // A stopped instance may become another; its start is a new launch.
    plane.change(|instance| instance.state = InstanceState::Stopped);
    let stopped = plane.demo();
    let other = with(|document| {
        document["InstanceType"] = "c7i.large".into();
        document.as_object_mut().unwrap().remove("State");
    });
    assert_eq!(
        plane.put("/v1/instances", &other).1["Instances"][0]["Outcome"],
        "replaced"
    );
    assert_eq!(
        plane.demo().instance.state,
        InstanceState::Stopped,
        "a document that says nothing of it starts nothing"
    );
    assert_eq!(plane.demo().identity_document, stopped.identity_document);
    let started = with(|document| document["InstanceType"] = "c7i.large".into());
    assert_eq!(
        plane.put("/v1/instances", &started).1["Instances"][0]["Outcome"],
        "relaunched"
    );
    assert_ne!(plane.demo().launch_epoch, stopped.launch_epoch);
    assert!(plane.demo().identity_document.contains("c7i.large"));
}

/// "An option change by the EC2 API must not be lost silently by a PUT"
#[test]
fn what_was_changed_at_run_time_stays_where_the_document_says_nothing_of_it() {
    let plane = Plane::new();
    plane.change(|instance| {
        let update = OptionsUpdate {
            http_tokens: Some(HttpTokens::Optional),
            ..OptionsUpdate::default()
        };
        update.apply(&mut instance.metadata_options);
        instance.metadata_options.http_put_response_hop_limit = 5.try_into().unwrap();
        instance.imds.disable_api_stop = true;
    });
    let spot = json!({ "Request": { "Event": { "Spot": { "Action": "terminate" } } } });
    assert_eq!(plane.put("/v1/events", &spot).0, 200);
    let silent = with(|document| {
        document.as_object_mut().unwrap().remove("MetadataOptions");
        document["Imds"]["UserDataText"] = "new".into();
    });
    assert_eq!(
        plane.put("/v1/instances", &silent).1["Instances"][0]["Changed"],
        json!(["Imds.UserDataText"])
    );
    let partly = with(|document| {
        document["MetadataOptions"] = json!({ "HttpPutResponseHopLimit": 9, "State": "applied" })
    });
    plane.put("/v1/instances", &partly);
    let now = plane.demo();
    assert_eq!(
        now.instance.metadata_options.http_tokens,
        HttpTokens::Optional
    );
    assert_eq!(
        now.instance
            .metadata_options
            .http_put_response_hop_limit
            .get(),
        9
    );
    assert!(now.instance.imds.disable_api_stop);
    assert!(now.instance.events_at(Moment::now().wall).spot.is_some());
    // What it names counts.
    let named = with(|document| document["Imds"]["Events"] = json!({}));
    plane.put("/v1/instances", &named);
    assert!(
        plane
            .demo()
            .instance
            .events_at(Moment::now().wall)
            .spot
            .is_none()
    );
    assert_eq!(
        plane.demo().instance.metadata_options,
        demo_instance().metadata_options
    );
}

/// "aws ec2 describe-instances | imdsd instance put -": EC2 prints no `Imds`, and means to take nothing away from it.
#[test]
fn a_document_without_imds_leaves_all_that_ec2_has_no_words_for() {
    let plane = Plane::new();
    plane.change(|instance| {
        instance.imds.user_data_text = Some("kept".into());
        instance.imds.disable_api_stop = true;
    });
    let before = plane.demo().instance.imds.clone();
    assert!(!before.attachments.is_empty() && before.role.is_some());
    let printed = with(|document| {
        document.as_object_mut().unwrap().remove("Imds");
        document["Tags"] = json!([{ "Key": "Name", "Value": "renamed" }]);
    });
    let reservation = json!({ "ReservationId": "r-0aaaaaaaaaaaaaaaa", "OwnerId": before.owner_id, "Instances": [printed] });
    let (status, answer) = plane.put("/v1/instances", &json!({ "Reservations": [reservation] }));
    assert_eq!(
        (status, &answer["Instances"][0]["Changed"]),
        (200, &json!(["Imds.ReservationId", "Tags"])),
        "{answer}"
    );
    let mut expected = before;
    expected.reservation_id = Some("r-0aaaaaaaaaaaaaaaa".into());
    assert_eq!(plane.demo().instance.imds, expected);
    // By itself it says nothing of a reservation either.
    assert_eq!(
        plane.put("/v1/instances", &printed).1["Instances"][0]["Outcome"],
        "unchanged"
    );
}

/// "a reload says that the operator edited the file", which nobody has touched.
#[test]
fn what_ec2_prints_of_an_instance_is_no_edit_of_the_document_that_it_came_from() {
    use crate::registry::RegisterOutcome;
    let plane = Plane::new();
    let reload = |document: &Value| {
        let instance = document::from_value(document.clone()).unwrap();
        plane
            .runtime
            .block_on(plane.admin.registry.register(instance, Moment::now().wall))
            .unwrap()
    };
    let put = |document: &Value| assert_eq!(plane.put("/v1/instances", document).0, 200);
    let bare = |change: fn(&mut Value)| {
        with(|document| {
            document.as_object_mut().unwrap().remove("Imds");
            change(document);
        })
    };
    let reservation = |printed: Value| {
        let owner = demo_instance().owner_id().to_string();
        json!({ "ReservationId": "r-0aaaaaaaaaaaaaaaa", "OwnerId": owner, "Instances": [printed] })
    };
    put(&json!({ "Reservations": [reservation(bare(|_| {}))] }));
    assert_eq!(reload(&demo_document()), RegisterOutcome::Known);
    put(&bare(|document| {
        document["Tags"] = json!([{ "Key": "Name", "Value": "renamed" }])
    }));
    assert_eq!(reload(&demo_document()), RegisterOutcome::Known);
    let edited = with(|document| document["Imds"]["UserDataText"] = "edited".into());
    assert_eq!(reload(&edited), RegisterOutcome::Edited);
    put(&edited);
    assert_eq!(reload(&edited), RegisterOutcome::Known);

    // An instance that has nothing in its `Imds` is of a document without one, and an edit of that is taken in.
    let first = bare(|document| document["InstanceId"] = "i-11111111".into());
    put(&first);
    let edited = bare(|document| {
        document["InstanceId"] = "i-11111111".into();
        document["KeyName"] = "ops".into();
    });
    assert_eq!(
        (reload(&first), reload(&edited)),
        (RegisterOutcome::Known, RegisterOutcome::Edited)
    );
    put(&edited);
    assert_eq!(reload(&edited), RegisterOutcome::Known);
}

#[test]
fn a_put_takes_ways_in_away_only_where_the_document_says_that_there_are_none() {
    let listener = |name: &str| vec![Attachment::Listener(name.into())];
    for (imds, attachments, roles) in [
        (json!({ "OwnerId": "123456789012" }), listener("demo"), 0),
        (
            json!({ "OwnerId": "123456789012", "Attachments": [{ "Listener": "other" }] }),
            listener("other"),
            0,
        ),
        (
            json!({ "OwnerId": "123456789012", "Attachments": [] }),
            Vec::new(),
            0,
        ),
    ] {
        let plane = Plane::new();
        let (status, answer) = plane.put(
            "/v1/instances",
            &with(|document| document["Imds"] = imds.clone()),
        );
        assert_eq!(status, 200, "{answer}");
        let stored = &plane.demo().instance.imds;
        assert_eq!(
            (&stored.attachments, stored.role.iter().count()),
            (&attachments, roles),
            "{imds}"
        );
    }
    let plane = Plane::new();
    for imds in [json!(null), json!({ "Attachments": null })] {
        assert_eq!(
            plane
                .put(
                    "/v1/instances",
                    &with(|document| document["Imds"] = imds.clone())
                )
                .0,
            422,
            "{imds}"
        );
    }
    assert_eq!(plane.demo().generation, 1);
}

#[test]
fn an_export_is_taken_back_where_a_terminated_instance_is_still_shown() {
    let plane = Plane::new();
    plane.put(
        "/v1/instances",
        &with(|document| document["InstanceId"] = "i-11111111".into()),
    );
    plane.change(|instance| instance.state = InstanceState::Terminated);
    let (_, export) = plane.ask("GET", "/v1/export", None, "");
    for target in ["/v1/instances", "/v1/instances?relaunch=true"] {
        let (status, answer) = plane.put(target, &export);
        assert_eq!(
            (status, &answer["Instances"][0]["Outcome"]),
            (200, &json!("unchanged")),
            "{answer}"
        );
    }
    // It is not brought back by a document that leaves its state open.
    let (status, _) = plane.put(
        "/v1/instances",
        &with(|document| drop(document.as_object_mut().unwrap().remove("State"))),
    );
    assert_eq!(
        (status, plane.demo().instance.state),
        (409, InstanceState::Terminated)
    );
}

#[test]
fn what_can_not_become_of_instances_is_told_of_all_of_them_with_their_files() {
    let plane = Plane::new();
    let second = |kind: &str| {
        with(|document| {
            document["InstanceId"] = "i-11111111".into();
            document["InstanceType"] = kind.into();
        })
    };
    assert_eq!(plane.put("/v1/instances", &second("t3.small")).0, 200);
    plane.change(|instance| instance.state = InstanceState::Terminated);
    let texts = [("a.json", demo_document()), ("b.json", second("m7i.large"))];
    let bundle = texts.map(|(file, text)| json!({ "File": file, "Text": text.to_string() }));
    let (status, answer) = plane.put("/v1/instances", &json!({ "Documents": bundle }));
    assert_eq!(status, 409, "{answer}");
    let faults = answer["Faults"].as_array().unwrap();
    let told: Vec<_> = faults
        .iter()
        .map(|fault| (fault["File"].as_str(), fault["Message"].as_str().unwrap()))
        .collect();
    assert_eq!(
        (told[0].0, told[1].0, told.len()),
        (Some("a.json"), Some("b.json"), 2),
        "{answer}"
    );
    assert!(
        told[0].1.contains("was terminated") && told[1].1.contains("(InstanceType)"),
        "{answer}"
    );
}

/// Options that are kept and tags that are put must go together.
#[test]
fn what_is_kept_and_what_is_put_are_judged_together() {
    let plane = Plane::new();
    plane.change(|instance| {
        instance.metadata_options.instance_metadata_tags = crate::instance::Switch::Enabled
    });
    let odd = with(|document| {
        document.as_object_mut().unwrap().remove("MetadataOptions");
        document["Tags"] = json!([{ "Key": "with blank", "Value": "x" }]);
    });
    let (status, answer) = plane.put("/v1/instances", &odd);
    assert_eq!(
        (status, &answer["Faults"][0]["Field"]),
        (422, &json!(format!("{ID}: Tags[0].Key"))),
        "{answer}"
    );
}

#[test]
fn the_terminated_are_not_brought_back_and_the_deleted_are_gone() {
    let plane = Plane::new();
    let one = format!("/v1/instances/{ID}");
    plane.change(|instance| instance.state = InstanceState::Terminated);
    let (status, answer) = plane.put("/v1/instances", &demo_document());
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
    assert_eq!(plane.put("/v1/events", &spot).0, 409);
    let (status, answer) = plane.ask("DELETE", &one, Some("2"), "");
    assert_eq!(status, 200, "{answer}");
    assert!(
        answer["Message"]
            .as_str()
            .unwrap()
            .contains("registers it anew"),
        "{answer}"
    );
    assert_eq!(plane.ask("GET", &one, None, "").0, 404);
    assert_eq!(
        plane.put("/v1/instances", &demo_document()).1["Instances"][0]["Outcome"],
        "registered"
    );
}

#[test]
fn an_export_is_taken_back_as_it_was_and_shows_no_secret_unasked() {
    let plane = Plane::new();
    let (_, shown) = plane.ask("GET", "/v1/export?secrets=shown", None, "");
    let (_, left_out) = plane.ask("GET", "/v1/export", None, "");
    assert!(
        shown.to_string().contains("demo0not0a0secret")
            && !left_out.to_string().contains("demo0not0a0secret")
    );
    let (_, one) = plane.ask("GET", &format!("/v1/instances/{ID}"), None, "");
    assert_eq!(one, left_out[0]);
    // Back into the same daemon, secrets or not.
    for export in [&shown, &left_out] {
        assert_eq!(
            plane.put("/v1/instances", export).1["Instances"][0]["Outcome"],
            "unchanged"
        );
    }
    // And into another one, where only the whole is any good.
    let other = Plane::new();
    other.ask("DELETE", &format!("/v1/instances/{ID}"), None, "");
    let (status, answer) = other.put("/v1/instances", &left_out);
    assert_eq!(status, 422);
    assert!(
        answer["Faults"][0]["Message"]
            .as_str()
            .unwrap()
            .contains("--with-secrets"),
        "{answer}"
    );
    assert_eq!(other.put("/v1/instances", &shown).0, 200);
    assert_eq!(
        other.ask("GET", "/v1/export?secrets=shown", None, "").1,
        shown
    );
}

#[test]
fn an_event_without_targets_is_for_the_one_instance_and_never_for_several() {
    let plane = Plane::new();
    let rebalance = json!({ "Request": { "Event": { "Rebalance": {} } } });
    let (status, answer) = plane.put("/v1/events", &rebalance);
    assert_eq!(
        (status, &answer["Steps"][0]["InstanceIds"]),
        (200, &json!([ID]))
    );
    plane.put(
        "/v1/instances",
        &with(|document| document["InstanceId"] = "i-11111111".into()),
    );
    let (status, answer) = plane.put("/v1/events", &rebalance);
    assert_eq!(status, 400);
    assert!(
        answer["Message"]
            .as_str()
            .unwrap()
            .contains("there are 2 instances"),
        "{answer}"
    );
    // Of all or of none: a scenario whose last step can't be is not begun.
    let text = r#"{"Name":"n","Targets":"All","Steps":[{"Event":{"Lifecycle":{"State":"Standby"}}},
                   {"Targets":{"Instance":"i-33333333"},"Event":{"Rebalance":{}}}]}"#;
    let (status, answer) = plane.put(
        "/v1/events",
        &json!({ "Scenario": { "File": "s.json", "Text": text } }),
    );
    assert_eq!(status, 404, "{answer}");
    assert_eq!(
        plane.demo().instance.imds.events.target_lifecycle_state,
        None
    );
    let (_, listed) = plane.ask("GET", "/v1/events", None, "");
    assert_eq!(listed["Instances"].as_array().unwrap().len(), 1, "{listed}");
}

/// A clear in the midst of the course of a scheduled event, whose end would find none.
#[test]
fn a_clear_takes_back_what_is_to_come_and_says_so() {
    let plane = Plane::new();
    let event = json!({ "Code": "system-reboot", "NotBefore": { "After": "1h" },
                        "EventId": "instance-event-0123456789abcdef0" });
    let steps = json!({ "Name": "n", "Targets": "All", "Steps": [
        { "Event": { "Maintenance": event } },
        { "When": { "After": "1h" }, "Event": { "Complete": { "EventId": event["EventId"] } } },
        { "When": { "After": "2h" }, "Event": { "Lifecycle": { "State": "Standby" } } },
    ] });
    let scenario = json!({ "Scenario": { "File": "s.json", "Text": steps.to_string() } });
    let (status, answer) = plane.put("/v1/events", &scenario);
    assert_eq!((status, &answer["Dropped"]), (200, &json!([])), "{answer}");
    let clear = json!({ "Request": { "Event": { "Clear": { "Kinds": ["Maintenance"] } } } });
    let (status, answer) = plane.put("/v1/events", &clear);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["Dropped"][0]["InstanceId"], ID);
    let dropped = answer["Dropped"][0]["Steps"].as_array().unwrap();
    assert!(
        dropped.len() == 1 && dropped[0]["Set"]["MaintenanceState"].is_object(),
        "{answer}"
    );
    assert_eq!(
        plane.demo().instance.imds.timeline.steps().len(),
        1,
        "the other kind stays"
    );
}

/// As many callers as are served at once, who ask for more than their sockets hold and read none of it.
#[test]
fn callers_who_do_not_read_their_answers_keep_nobody_out_for_good() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let plane = Plane::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    plane.runtime.block_on(async {
        let lasting = socket::Lasting {
            connection: Duration::from_millis(100),
            ending: Duration::from_millis(100),
        };
        let serving = socket::AdminSocket::open(&path, &[])
            .unwrap()
            .serve_for(Arc::clone(&plane.admin), lasting);
        let mut deaf = Vec::new();
        for _ in 0..16 {
            let mut caller = tokio::net::UnixStream::connect(&path).await.unwrap();
            caller
                .write_all(
                    "GET /v1/export HTTP/1.1\r\nHost: x\r\n\r\n"
                        .repeat(400)
                        .as_bytes(),
                )
                .await
                .unwrap();
            deaf.push(caller);
        }
        let mut caller = tokio::net::UnixStream::connect(&path).await.unwrap();
        caller
            .write_all(b"GET /v1/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        let read =
            tokio::time::timeout(Duration::from_secs(60), caller.read_to_string(&mut answer)).await;
        assert!(
            read.is_ok() && answer.starts_with("HTTP/1.1 200 OK"),
            "{answer}"
        );
        drop(deaf);
        serving.end().await;
    });
}

/// A command that gave up has said that it was not done.
#[test]
fn what_a_caller_asked_for_who_hung_up_before_its_turn_is_not_done() {
    use std::io::Write as _;
    use tokio::io::AsyncReadExt as _;
    let plane = Plane::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let calls = |request: &str| {
        let mut caller = std::os::unix::net::UnixStream::connect(&path).unwrap();
        caller
            .write_all(
                format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes(),
            )
            .unwrap();
        caller.set_nonblocking(true).unwrap();
        caller
    };
    plane.runtime.block_on(async {
        let lasting = socket::Lasting {
            connection: Duration::from_millis(100),
            ending: Duration::from_millis(100),
        };
        let serving = socket::AdminSocket::open(&path, &[])
            .unwrap()
            .serve_for(Arc::clone(&plane.admin), lasting);
        // As many as are served at once, who say nothing.
        let silent = [(); 16].map(|()| std::os::unix::net::UnixStream::connect(&path).unwrap());
        drop(calls(&format!("DELETE /v1/instances/{ID}")));
        // Changes are made one after the other, so this one's answer comes after what the other asked for.
        let mut next =
            tokio::net::UnixStream::from_std(calls("DELETE /v1/instances/i-11111111")).unwrap();
        let mut answer = String::new();
        next.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
        drop(silent);
        serving.end().await;
    });
    assert_eq!(plane.demo().generation, 1, "it is there still");
}

#[test]
fn counts_are_told_in_the_forms_of_json_and_prometheus() {
    let plane = Plane::new();
    let (_, health) = plane.ask("GET", "/v1/health", None, "");
    assert_eq!(
        (&health["Status"], &health["Instances"]),
        (&json!("ok"), &json!(1))
    );
    let (_, text) = plane.ask("GET", "/metrics", None, "");
    let text = text.as_str().unwrap();
    for line in [
        "imdsd_instances{state=\"running\"} 1",
        "imdsd_guest_connections 3",
        "imdsd_options_pending 1",
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
    plane.put(
        "/v1/instances",
        &with(|document| document["InstanceId"] = "i-11111111".into()),
    );
    assert_eq!(
        plane.ask("GET", "/v1/health", None, "").1["Status"],
        "degraded",
        "two claim one listener"
    );
}
