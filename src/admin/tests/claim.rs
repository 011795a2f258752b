//! Attachments that pass from one instance to another: by a put, a claim and a release.

use serde_json::{Value, json};

use super::fake::{BOOT_ID, ID, TestApi, demo_with};
use crate::clock::Moment;
use crate::config::demo_instance;
use crate::instance::{Attachment, InstanceId, InstanceState, LinkIdentity};
use crate::registry::{Claimants, StoredState};

/// The id of the second instance.
const OTHER: &str = "i-11111111";

fn document(id: &str, attachments: &Value) -> Value {
    demo_with(|document| {
        document["InstanceId"] = id.into();
        document["Imds"]["Attachments"] = attachments.clone();
    })
}

fn holder(api: &TestApi, attachment: &Attachment) -> Vec<String> {
    let snapshot = api.api.registry.snapshot();
    let claim = snapshot.claim(attachment);
    claim
        .into_iter()
        .flat_map(Claimants::ids)
        .map(ToString::to_string)
        .collect()
}

fn demo_listener() -> Attachment {
    Attachment::Listener("demo".into())
}

/// Two instances: the demo on the listener `demo`, and another one on `other`.
fn two() -> TestApi {
    let api = TestApi::new();
    let other = document(OTHER, &json!([{ "Listener": "other" }]));
    assert_eq!(api.post("/v1/instances", &other).0, 200);
    api
}

#[test]
fn a_put_of_an_attachment_in_use_is_refused_and_names_the_holder_unless_it_insists() {
    let api = two();
    let rival = document(OTHER, &json!([{ "Listener": "demo" }]));
    for target in ["/v1/instances", "/v1/instances?dry-run=true"] {
        let (status, answer) = api.post(target, &rival);
        let message = answer["Message"].as_str().unwrap();
        assert_eq!(status, 409, "{answer}");
        assert!(
            message.contains(ID) && message.contains("--force"),
            "{answer}"
        );
    }
    assert_eq!(holder(&api, &demo_listener()), [ID]);

    // Two documents of one request cannot be decided between.
    let third = document("i-22222222", &json!([{ "Listener": "demo" }]));
    let both = json!([rival.clone(), third]);
    let (status, answer) = api.post("/v1/instances?force=true", &both);
    assert_eq!(
        (status, answer["Faults"].as_array().unwrap().len()),
        (409, 2),
        "{answer}"
    );
    assert!(
        answer
            .to_string()
            .contains("both instances are in this request"),
        "{answer}"
    );

    let (status, answer) = api.post("/v1/instances?force=true", &rival);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(
        answer["Lost"],
        json!([{ "InstanceId": ID, "Attachment": "listener 'demo'", "To": OTHER }])
    );
    assert_eq!(holder(&api, &demo_listener()), [OTHER]);
    assert!(api.demo().instance.imds.attachments.is_empty());
}

#[test]
fn a_stopped_instance_claims_nothing_and_cannot_start_where_another_one_runs() {
    let api = two();
    api.change(|instance| instance.state = InstanceState::Stopped);
    assert_eq!(holder(&api, &demo_listener()), Vec::<String>::new());
    let rival = document(OTHER, &json!([{ "Listener": "demo" }]));
    assert_eq!(api.post("/v1/instances", &rival).0, 200);
    // Its document would start it.
    let start = demo_with(|document| document["State"] = json!({ "Name": "running" }));
    let (status, answer) = api.post("/v1/instances", &start);
    assert_eq!(status, 409, "{answer}");
    assert!(
        answer["Message"].as_str().unwrap().contains(OTHER),
        "{answer}"
    );
    let (_, list) = api.send("GET", "/v1/instances", None, "");
    assert!(!list.to_string().contains("DisputedWith"), "{list}");
}

/// A conflict that exists already does not keep an operator from other changes.
#[test]
fn a_put_that_causes_no_conflict_is_accepted_beside_an_old_one() {
    let api = TestApi::new();
    let mut rival = demo_instance();
    rival.instance_id = InstanceId::parse(OTHER).unwrap();
    let registered = api.api.registry.register(rival, Moment::now().wall);
    api.runtime.block_on(registered).unwrap();
    let edited = demo_with(|document| document["Imds"]["UserDataText"] = "new".into());
    let (status, answer) = api.post("/v1/instances", &edited);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["Disputed"][0]["Claimants"], json!([ID, OTHER]));
    // A claim ends it.
    let claim = json!({ "Attachments": [{ "Listener": "demo" }] });
    let (status, answer) = api.post(&format!("/v1/instances/{ID}/claim"), &claim);
    assert_eq!(
        (status, &answer["Lost"][0]["InstanceId"]),
        (200, &json!(OTHER))
    );
    assert_eq!(holder(&api, &demo_listener()), [ID]);
}

#[test]
fn a_claim_takes_attachments_in_one_publication_and_keeps_to_its_conditions() {
    let api = two();
    let path = format!("/v1/instances/{OTHER}/claim");
    let demo = json!([{ "Listener": "demo" }]);
    let terminated = "i-33333333";
    let gone = demo_with(|document| {
        document["InstanceId"] = terminated.into();
        document["State"] = json!({ "Name": "terminated" });
    });
    assert_eq!(api.post("/v1/instances", &gone).0, 200);
    for (path, body, status, reason) in [
        (
            &path,
            json!({ "Attachments": demo, "OnlyFrom": [] }),
            409,
            ID,
        ),
        (
            &path,
            json!({ "Attachments": demo, "OnlyFrom": [terminated] }),
            409,
            ID,
        ),
        (&path, json!({ "Attachments": [] }), 400, "at least one"),
        (&path, json!({}), 400, "Attachments"),
        (
            &path,
            json!({ "Attachments": demo, "Launch": "Old" }),
            400,
            "Old",
        ),
        (
            &path,
            json!({ "Attachments": [{ "Tap": "a" }] }),
            400,
            "Tap",
        ),
        (
            &path,
            json!({ "Attachments": [{ "Interface": "a/b" }] }),
            422,
            "interface name",
        ),
        (
            &path,
            json!({ "Attachments": [{ "Listener": "elsewhere" }] }),
            422,
            "no such listener",
        ),
        (
            &path,
            json!({ "Attachments": [{ "Interface": "vnet9" }], "Bind": true }),
            422,
            "vnet9",
        ),
        (
            &path,
            json!({ "Attachments": demo, "ClaimedBy": "a b" }),
            422,
            "ClaimedBy",
        ),
        (
            &format!("/v1/instances/{terminated}/claim"),
            json!({ "Attachments": demo }),
            409,
            "terminated",
        ),
        (
            &"/v1/instances/i-44444444/claim".to_string(),
            json!({ "Attachments": demo }),
            404,
            "i-44444444",
        ),
    ] {
        let (found, answer) = api.post(path, &body);
        assert_eq!(found, status, "{body}: {answer}");
        assert!(answer.to_string().contains(reason), "{body}: {answer}");
    }
    assert_eq!(
        api.send(
            "POST",
            &path,
            Some("\"9\""),
            &json!({ "Attachments": demo }).to_string()
        )
        .0,
        412
    );
    assert_eq!(holder(&api, &demo_listener()), [ID], "nothing changed");

    let before = *api.api.registry.publications().borrow();
    let body =
        json!({ "Attachments": demo, "OnlyFrom": [ID], "ClaimedBy": "libvirt", "Add": true });
    let (status, answer) = api.post(&path, &body);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(
        answer["Lost"],
        json!([{ "InstanceId": ID, "Attachment": "listener 'demo'", "To": OTHER }])
    );
    assert_eq!(
        answer["Attachments"],
        json!([{ "Listener": "other" }, { "Listener": "demo", "ClaimedBy": "libvirt" }])
    );
    assert_eq!(
        *api.api.registry.publications().borrow() - before,
        1,
        "one publication"
    );
    // Again: nothing changes.
    let (status, again) = api.post(&path, &body);
    assert_eq!(
        (status, &again["Lost"], &again["Generation"]),
        (200, &json!([]), &answer["Generation"])
    );
    // No instance gets what a file reserves without a readable owner.
    let file = std::path::PathBuf::from("i.json");
    let reserved = Attachment::Listener("third".into()).into();
    let unowned = [(file, [reserved].into())].into();
    let reserve = api.api.registry.reserve_unowned(unowned);
    api.runtime.block_on(reserve);
    let third = json!([{ "Listener": "third" }]);
    let (status, refused) = api.post(&path, &json!({ "Attachments": third }));
    assert_eq!(status, 409, "{refused}");
    assert!(refused.to_string().contains("i.json names it"), "{refused}");
    let put = demo_with(|document| document["Imds"]["Attachments"] = third.clone());
    let (status, refused) = api.post("/v1/instances?force=true", &put);
    assert_eq!(status, 409, "{refused}");
    assert!(refused.to_string().contains("i.json names it"), "{refused}");
    // Without Add, it has only what it claims.
    let (_, answer) = api.post(&path, &json!({ "Attachments": [{ "Listener": "demo" }] }));
    assert_eq!(answer["Attachments"], json!([{ "Listener": "demo" }]));
}

#[test]
fn a_claim_binds_to_the_link_of_this_moment_and_starts_the_instance() {
    let api = two();
    let path = format!("/v1/instances/{ID}/claim");
    api.api.registry.observe_links(BOOT_ID, |_| None);
    api.change(|instance| instance.state = InstanceState::Stopped);
    let claim = json!({ "Attachments": [{ "Interface": "vnet0" }], "Bind": true });
    let (status, answer) = api.post(&path, &claim);
    assert_eq!(status, 409, "it is stopped: {answer}");
    let first = api.demo();
    for (launch, is_new) in [("Resume", false), ("New", true)] {
        let mut claim = claim.clone();
        claim["Launch"] = launch.into();
        let (status, answer) = api.post(&path, &claim);
        assert_eq!(status, 200, "{answer}");
        let binding =
            json!({ "IfIndex": 17, "BootId": BOOT_ID, "MacAddress": "fe:54:00:00:00:05" });
        assert_eq!(
            answer["Attachments"],
            json!([{ "Interface": "vnet0", "Binding": binding }])
        );
        let now = api.demo();
        assert_eq!(now.instance.state, InstanceState::Running);
        assert_eq!(now.launch_epoch != first.launch_epoch, is_new, "{launch}");
        assert_eq!(
            now.instance.launch_time != first.instance.launch_time,
            is_new,
            "{launch}"
        );
    }
    let vnet0 = Attachment::Interface("vnet0".into());
    let observe = |boot_id: &str, index: Option<u32>| {
        let mac_address = Some("fe:54:00:00:00:05".to_string());
        let link = index.map(|index| LinkIdentity { index, mac_address });
        api.api.registry.observe_links(boot_id, |_| link.clone());
        holder(&api, &vnet0)
    };
    assert_eq!(
        holder(&api, &vnet0),
        [ID],
        "the claim itself knows the link"
    );
    assert_eq!(observe(BOOT_ID, Some(17)), [ID]);
    assert_eq!(
        observe(BOOT_ID, None),
        Vec::<String>::new(),
        "the link is gone"
    );
    assert_eq!(
        observe(BOOT_ID, Some(18)),
        Vec::<String>::new(),
        "it is another link"
    );
    let (_, list) = api.send("GET", "/v1/instances", None, "");
    assert!(list.to_string().contains("index is 18, not 17"), "{list}");
    // The next guest's instance claims the name, without a conflict with the stale record.
    let next = json!({ "Attachments": [{ "Interface": "vnet0" }], "OnlyFrom": [] });
    let (status, answer) = api.post(&format!("/v1/instances/{OTHER}/claim"), &next);
    assert_eq!((status, &answer["Lost"]), (200, &json!([])));
    assert_eq!(observe(BOOT_ID, Some(18)), [OTHER]);
    assert_eq!(
        observe("another boot", Some(17)),
        [OTHER],
        "a name on purpose keeps its meaning"
    );
}

#[test]
fn a_release_gives_up_what_the_instance_still_has_and_nothing_else() {
    let (launch, late) = ("2026-01-01T00:00:00Z", "2020-01-01T00:00:00Z");
    let all = json!([{ "Listener": "a" }, { "Listener": "b", "ClaimedBy": "libvirt" }]);
    for (body, released, state, reason) in [
        (json!({}), 2, "running", Value::Null),
        (json!({ "Stop": true }), 2, "stopped", Value::Null),
        (json!({ "ClaimedBy": "libvirt" }), 1, "running", Value::Null),
        // It stays running: it keeps an attachment.
        (
            json!({ "ClaimedBy": "libvirt", "Stop": true }),
            1,
            "running",
            Value::Null,
        ),
        (
            json!({ "ClaimedBy": "proxmox", "Stop": true }),
            0,
            "running",
            Value::Null,
        ),
        (
            json!({ "Attachments": [{ "Listener": "a" }] }),
            1,
            "running",
            Value::Null,
        ),
        (
            json!({ "Attachments": [{ "Listener": "c" }] }),
            0,
            "running",
            Value::Null,
        ),
        (json!({ "LaunchTime": launch }), 2, "running", Value::Null),
        (
            json!({ "LaunchTime": late, "Stop": true }),
            0,
            "running",
            json!("the instance was launched again"),
        ),
    ] {
        let api = TestApi::new();
        let held = demo_with(|document| {
            document["LaunchTime"] = launch.into();
            document["Imds"]["Attachments"] = all.clone();
        });
        assert_eq!(api.post("/v1/instances?relaunch=true", &held).0, 200);
        let path = format!("/v1/instances/{ID}/release");
        let (status, answer) = api.post(&path, &body);
        assert_eq!(
            (
                status,
                answer["Released"].as_array().unwrap().len(),
                &answer["State"],
                &answer["Reason"]
            ),
            (200, released, &json!(state), &reason),
            "{body}: {answer}"
        );
        let generation = answer["Generation"].clone();
        let (status, again) = api.post(&path, &body);
        assert_eq!(
            (status, &again["Released"]),
            (200, &json!([])),
            "idempotent"
        );
        assert_eq!(again["Generation"], generation, "{body}");
    }
    let api = TestApi::new();
    let (status, answer) = api.post("/v1/instances/i-44444444/release", &json!({}));
    assert_eq!(
        (status, &answer["Reason"]),
        (200, &json!("there is no such instance"))
    );
    let bound = json!({ "Attachments": [{ "Listener": "demo", "Binding": { "IfIndex": 1, "BootId": BOOT_ID } }] });
    let (_, answer) = api.post(&format!("/v1/instances/{ID}/release"), &bound);
    assert_eq!(answer["Released"], json!([]), "it has no such binding");
    let (status, _) = api.post(
        &format!("/v1/instances/{ID}/release"),
        &json!({ "All": true }),
    );
    assert_eq!(status, 400);
}

/// Whichever of two writes fails, the other is undone, so the attachment has its holder.
#[test]
fn a_claim_that_could_not_be_stored_leaves_the_attachment_where_it_was() {
    let claim = json!({ "Attachments": [{ "Listener": "demo" }] });
    for writes in 0..2 {
        let store = super::fake::FailingStore::after(2 + writes, StoredState::Previous);
        let api = TestApi::over(store);
        let other = document(OTHER, &json!([{ "Listener": "other" }]));
        assert_eq!(api.post("/v1/instances", &other).0, 200);
        let (status, answer) = api.post(&format!("/v1/instances/{OTHER}/claim"), &claim);
        assert_eq!(status, 500, "{answer}");
        assert_eq!(holder(&api, &demo_listener()), [ID]);
        assert_eq!(holder(&api, &Attachment::Listener("other".into())), [OTHER]);
    }
}
