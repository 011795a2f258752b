//! Putting documents: outcomes, faults, and what stays as stored.

use serde_json::{Value, json};

use super::fake::{ID, TestApi, demo_document, demo_with};
use crate::clock::Moment;
use crate::config::demo_instance;
use crate::document;
use crate::instance::{Attachment, HttpTokens, InstanceState, Monitoring, OptionsUpdate, Switch};
use crate::registry::RegisterOutcome;

#[test]
fn faulty_documents_are_reported_with_file_line_and_field_and_nothing_is_stored() {
    let api = TestApi::new();
    let bad = "{\n \"InstanceId\": \"i-1\",\n \"LaunchTime\": \"2026-01-01T00:00:00Z\"\n}";
    let elsewhere = demo_with(|document| {
        document["InstanceId"] = "i-22222222".into();
        document["Imds"]["Attachments"] = json!([{ "Listener": "elsewhere" }]);
    });
    let fine = demo_with(|document| document["InstanceId"] = "i-11111111".into());
    let bundle = |texts: &[(&str, String)]| {
        let documents: Vec<Value> = texts
            .iter()
            .map(|(file, text)| json!({ "File": file, "Text": text }))
            .collect();
        json!({ "Documents": documents })
    };
    let (status, answer) = api.post(
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
    let (status, answer) = api.post("/v1/instances", &both);
    assert_eq!(
        (status, &answer["Faults"][0]["File"]),
        (422, &json!("c.json")),
        "an attachment that the daemon cannot serve: {answer}"
    );
    let (status, _) = api.post(
        "/v1/instances",
        &bundle(&[("b.json", fine.to_string()), ("d.json", fine.to_string())]),
    );
    assert_eq!(status, 422, "the same id twice");
    assert_eq!(api.api.registry.snapshot().entries().count(), 1);
}

#[test]
fn a_put_registers_replaces_relaunches_or_changes_nothing() {
    let api = TestApi::new();
    let outcome = |target: &str, document: &Value| {
        let (status, answer) = api.post(target, document);
        assert_eq!(status, 200, "{answer}");
        let of = &answer["Instances"][0];
        (
            of["Outcome"].as_str().unwrap().to_string(),
            of["Generation"].as_u64().unwrap(),
            of["Changed"].clone(),
        )
    };
    let epoch = || api.demo().launch_epoch;
    let first = epoch();
    assert_eq!(
        outcome("/v1/instances", &demo_document()),
        ("unchanged".into(), 1, json!([]))
    );
    let edited = demo_with(|document| document["Imds"]["UserDataText"] = "new".into());
    assert_eq!(
        outcome("/v1/instances", &edited),
        ("replaced".into(), 2, json!(["Imds.UserDataText"]))
    );
    assert_eq!(epoch(), first, "tokens stay valid");
    let relaunched = outcome("/v1/instances?relaunch=true", &edited);
    assert_eq!(relaunched, ("relaunched".into(), 3, json!([])));
    assert_ne!(epoch(), first, "tokens are invalid");
    let new = demo_with(|document| {
        document["InstanceId"] = "i-11111111".into();
        document["Imds"]["Attachments"] = json!([{ "Listener": "other" }]);
    });
    assert_eq!(outcome("/v1/instances", &new).0, "registered");
    // A dry run reports the outcome and changes nothing.
    let dry = outcome("/v1/instances?dry-run=true", &demo_document());
    assert_eq!((dry.0.as_str(), dry.1), ("replaced", 3));
    assert_eq!(
        api.demo().instance.imds.user_data_text.as_deref(),
        Some("new")
    );
}

/// Verifiers keep the signed document of a launch.
#[test]
fn the_identity_document_changes_only_with_a_new_launch() {
    let api = TestApi::new();
    let before = api.demo();
    let other = demo_with(|document| document["InstanceType"] = "m7i.large".into());
    let (status, answer) = api.post("/v1/instances", &other);
    assert_eq!(status, 409, "{answer}");
    assert!(
        answer["Message"]
            .as_str()
            .unwrap()
            .contains("(InstanceType)"),
        "{answer}"
    );
    assert_eq!(api.demo().generation, 1);
    // A launch time belongs to a launch: an older document does not change it.
    let earlier = demo_with(|document| document["LaunchTime"] = "2020-01-01T00:00:00Z".into());
    assert_eq!(
        api.post("/v1/instances", &earlier).1["Instances"][0]["Outcome"],
        "unchanged"
    );
    assert_eq!(api.post("/v1/instances?relaunch=true", &other).0, 200);
    assert_ne!(api.demo().identity_document, before.identity_document);
    assert!(api.demo().identity_document.contains("m7i.large"));

    // A stopped instance may change its identity; starting it is a new launch.
    api.change(|instance| instance.state = InstanceState::Stopped);
    let stopped = api.demo();
    let other = demo_with(|document| {
        document["InstanceType"] = "c7i.large".into();
        document.as_object_mut().unwrap().remove("State");
    });
    assert_eq!(
        api.post("/v1/instances", &other).1["Instances"][0]["Outcome"],
        "replaced"
    );
    assert_eq!(
        api.demo().instance.state,
        InstanceState::Stopped,
        "a document without a state does not start the instance"
    );
    assert_eq!(api.demo().identity_document, stopped.identity_document);
    let started = demo_with(|document| document["InstanceType"] = "c7i.large".into());
    assert_eq!(
        api.post("/v1/instances", &started).1["Instances"][0]["Outcome"],
        "relaunched"
    );
    assert_ne!(api.demo().launch_epoch, stopped.launch_epoch);
    assert!(api.demo().identity_document.contains("c7i.large"));
}

/// Rule: a put must not silently undo an option change of the EC2 API.
#[test]
fn run_time_changes_stay_unless_the_document_names_the_field() {
    let api = TestApi::new();
    api.change(|instance| {
        let update = OptionsUpdate {
            http_tokens: Some(HttpTokens::Optional),
            ..OptionsUpdate::default()
        };
        update.apply(&mut instance.metadata_options);
        instance.metadata_options.http_put_response_hop_limit = 5.try_into().unwrap();
        instance.imds.disable_api_stop = true;
    });
    let spot = json!({ "Request": { "Event": { "Spot": { "Action": "terminate" } } } });
    assert_eq!(api.post("/v1/events", &spot).0, 200);
    let without_options = demo_with(|document| {
        document.as_object_mut().unwrap().remove("MetadataOptions");
        document["Imds"]["UserDataText"] = "new".into();
    });
    assert_eq!(
        api.post("/v1/instances", &without_options).1["Instances"][0]["Changed"],
        json!(["Imds.UserDataText"])
    );
    let partly = demo_with(|document| {
        document["MetadataOptions"] = json!({ "HttpPutResponseHopLimit": 9, "State": "applied" })
    });
    api.post("/v1/instances", &partly);
    let now = api.demo();
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
    // A field that the document names is replaced.
    let named = demo_with(|document| document["Imds"]["Events"] = json!({}));
    api.post("/v1/instances", &named);
    assert!(
        api.demo()
            .instance
            .events_at(Moment::now().wall)
            .spot
            .is_none()
    );
    assert_eq!(
        api.demo().instance.metadata_options,
        demo_instance().metadata_options
    );
}

/// `aws ec2 describe-instances | imdsd instance put -`: EC2's output has no `Imds`, and must not
/// remove the stored one.
#[test]
fn a_document_without_imds_keeps_the_stored_imds() {
    let api = TestApi::new();
    api.change(|instance| {
        instance.imds.user_data_text = Some("kept".into());
        instance.imds.disable_api_stop = true;
    });
    let before = api.demo().instance.imds.clone();
    assert!(!before.attachments.is_empty() && before.role.is_some());
    let printed = demo_with(|document| {
        document.as_object_mut().unwrap().remove("Imds");
        document["Tags"] = json!([{ "Key": "Name", "Value": "renamed" }]);
    });
    let reservation = json!({ "ReservationId": "r-0aaaaaaaaaaaaaaaa", "OwnerId": before.owner_id, "Instances": [printed] });
    let (status, answer) = api.post("/v1/instances", &json!({ "Reservations": [reservation] }));
    assert_eq!(
        (status, &answer["Instances"][0]["Changed"]),
        (200, &json!(["Imds.ReservationId", "Tags"])),
        "{answer}"
    );
    let mut expected = before;
    expected.reservation_id = Some("r-0aaaaaaaaaaaaaaaa".into());
    assert_eq!(api.demo().instance.imds, expected);
    // Without a reservation around it, it keeps the stored owner and reservation id.
    assert_eq!(
        api.post("/v1/instances", &printed).1["Instances"][0]["Outcome"],
        "unchanged"
    );
}

/// Regression: a reload reported the configured file as edited although it had not changed.
#[test]
fn a_put_of_describe_instances_output_is_not_an_edit_of_the_configured_document() {
    let api = TestApi::new();
    let reload = |document: &Value| {
        let instance = document::from_value(document.clone()).unwrap();
        api.runtime
            .block_on(api.api.registry.register(instance, Moment::now().wall))
            .unwrap()
    };
    let put = |document: &Value| assert_eq!(api.post("/v1/instances", document).0, 200);
    let bare = |change: fn(&mut Value)| {
        demo_with(|document| {
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
    let edited = demo_with(|document| document["Imds"]["UserDataText"] = "edited".into());
    assert_eq!(reload(&edited), RegisterOutcome::Edited);
    put(&edited);
    assert_eq!(reload(&edited), RegisterOutcome::Known);

    // An instance without any `Imds` came from a document without one; editing that document counts.
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
fn a_put_removes_attachments_only_if_the_document_has_an_empty_list() {
    let listener = |name: &str| vec![Attachment::Listener(name.into()).into()];
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
        let api = TestApi::new();
        let (status, answer) = api.post(
            "/v1/instances",
            &demo_with(|document| document["Imds"] = imds.clone()),
        );
        assert_eq!(status, 200, "{answer}");
        let stored = &api.demo().instance.imds;
        assert_eq!(
            (&stored.attachments, stored.role.iter().count()),
            (&attachments, roles),
            "{imds}"
        );
    }
    let api = TestApi::new();
    for imds in [json!(null), json!({ "Attachments": null })] {
        assert_eq!(
            api.post(
                "/v1/instances",
                &demo_with(|document| document["Imds"] = imds.clone())
            )
            .0,
            422,
            "{imds}"
        );
    }
    assert_eq!(api.demo().generation, 1);
}

#[test]
fn conflicts_of_several_documents_are_all_reported_with_their_files() {
    let api = TestApi::new();
    let second = |kind: &str| {
        demo_with(|document| {
            document["InstanceId"] = "i-11111111".into();
            document["InstanceType"] = kind.into();
            document["Imds"]["Attachments"] = json!([{ "Listener": "other" }]);
        })
    };
    assert_eq!(api.post("/v1/instances", &second("t3.small")).0, 200);
    api.change(|instance| instance.state = InstanceState::Terminated);
    let texts = [("a.json", demo_document()), ("b.json", second("m7i.large"))];
    let bundle = texts.map(|(file, text)| json!({ "File": file, "Text": text.to_string() }));
    let (status, answer) = api.post("/v1/instances", &json!({ "Documents": bundle }));
    assert_eq!(status, 409, "{answer}");
    let faults = answer["Faults"].as_array().unwrap();
    let reported: Vec<_> = faults
        .iter()
        .map(|fault| (fault["File"].as_str(), fault["Message"].as_str().unwrap()))
        .collect();
    assert_eq!(
        (reported[0].0, reported[1].0, reported.len()),
        (Some("a.json"), Some("b.json"), 2),
        "{answer}"
    );
    assert!(
        reported[0].1.contains("was terminated") && reported[1].1.contains("(InstanceType)"),
        "{answer}"
    );
}

/// Kept options and put tags must fit together.
#[test]
fn kept_options_and_put_tags_are_validated_together() {
    let api = TestApi::new();
    api.change(|instance| instance.metadata_options.instance_metadata_tags = Switch::Enabled);
    let odd = demo_with(|document| {
        document.as_object_mut().unwrap().remove("MetadataOptions");
        document["Tags"] = json!([{ "Key": "with blank", "Value": "x" }]);
    });
    let (status, answer) = api.post("/v1/instances", &odd);
    assert_eq!(
        (status, &answer["Faults"][0]["Field"]),
        (422, &json!(format!("{ID}: Tags[0].Key"))),
        "{answer}"
    );
}

/// MonitorInstances and ModifyInstanceAttribute change these: a document that omits them keeps them, and
/// EC2 shows SourceDestCheck for the instance and for eth0.
#[test]
fn monitoring_and_the_source_dest_check_of_eth0_stay_as_stored() {
    let api = TestApi::new();
    let interface = json!({
        "NetworkInterfaceId": "eni-1", "MacAddress": "02:00:00:00:00:05",
        "Attachment": { "AttachmentId": "eni-attach-1", "DeviceIndex": 0 }
    });
    let with_eth0 = demo_with(|document| {
        let fields = document.as_object_mut().unwrap();
        fields.remove("Monitoring");
        fields.remove("SourceDestCheck");
        document["NetworkInterfaces"] = json!([interface]);
    });
    let (status, answer) = api.post("/v1/instances", &with_eth0);
    assert_eq!(status, 200, "{answer}");
    api.change(|instance| {
        instance.set_source_dest_check(false);
        instance.monitoring = Some(Monitoring {
            state: "enabled".into(),
        });
    });
    let before = api.demo().instance.clone();
    let (_, answer) = api.post("/v1/instances", &with_eth0);
    assert_eq!(answer["Instances"][0]["Outcome"], "unchanged", "{answer}");
    let now = api.demo().instance.clone();
    assert_eq!(
        (&now.monitoring, &now.network_interfaces),
        (&before.monitoring, &before.network_interfaces)
    );
    assert_eq!(now.network_interfaces[0].source_dest_check, Some(false));

    // A field that the document names is replaced.
    let mut named = with_eth0;
    named["Monitoring"] = json!({ "State": "disabled" });
    api.post("/v1/instances", &named);
    let now = api.demo().instance.clone();
    assert_eq!(now.monitoring.unwrap().state, "disabled");
}
