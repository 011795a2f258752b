//! Putting, exporting and deleting instances while guests read and the EC2 API changes options.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::client::{
    document, guest, guest_asks, imdsd, imdsd_at, put, register, socket, with_listeners,
};
use crate::support::{ACCESS_KEY, Daemon, INSTANCE, PATIENCE, call, element};

const ONE: &str = "i-11111111111111111";
const TWO: &str = "i-22222222222222222";

fn read_id(address: std::net::SocketAddr) -> (u16, String) {
    let answer = guest_asks(
        address,
        "GET /latest/meta-data/instance-id HTTP/1.1\r\nHost: imds\r\n\r\n",
    );
    (answer.status, answer.body)
}

#[test]
fn a_put_instance_is_served_at_once_and_a_deleted_one_is_not() {
    let (daemon, one, _) = with_listeners();
    assert_eq!(read_id(one).0, 0, "no instance has this listener yet");
    let said = put(&daemon, &guest(ONE, "one")).done();
    assert_eq!(said, format!("{ONE}: registered, generation 1\n"));
    assert_eq!(read_id(one), (200, ONE.to_string()));

    let table = imdsd(&daemon, &["instance", "list"]).done();
    let row = table.lines().find(|line| line.starts_with(ONE)).unwrap();
    assert!(
        row.contains("running") && row.contains("optional") && row.ends_with("listener 'one'"),
        "{table}"
    );
    let listed = imdsd(&daemon, &["instance", "list", "--json"]).json();
    let ids: Vec<&str> = listed["Instances"]
        .as_array()
        .unwrap()
        .iter()
        .map(|of| of["InstanceId"].as_str().unwrap())
        .collect();
    assert_eq!(ids, [INSTANCE, ONE]);

    let said = imdsd(&daemon, &["instance", "delete", ONE]).done();
    assert!(said.contains("registers it again"), "{said}");
    assert_eq!(read_id(one).0, 0);
    imdsd(&daemon, &["instance", "delete", ONE]).refused(1, &["there is no instance", ONE]);
    // An unknown instance does not stop the other deletions.
    put(&daemon, &guest(ONE, "one")).done();
    let said = imdsd(&daemon, &["instance", "delete", TWO, ONE]);
    said.refused(1, &["there is no instance", TWO]);
    assert!(
        said.output.starts_with(&format!("{ONE}: removed")),
        "{said:?}"
    );
    imdsd(&daemon, &["instance", "get", ONE]).refused(1, &["there is no instance"]);
}

#[test]
fn a_directory_is_put_as_a_whole_or_not_at_all() {
    let (daemon, one, two) = with_listeners();
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("1.json", &guest(ONE, "one").to_string());
    write("2.json", "{\n \"InstanceId\": \"i-2\"\n}");
    write("3.json", &guest(TWO, "tow").to_string());
    write("ignored.txt", "{");
    let path = directory.path().to_str().unwrap();
    let said = imdsd(&daemon, &["instance", "put", path]);
    said.refused(
        1,
        &[
            "2.json:2: InstanceId",
            "LaunchTime: is missing",
            "nothing was changed",
        ],
    );
    write("2.json", "[]");
    let said = imdsd(&daemon, &["instance", "put", path]);
    said.refused(1, &["3.json:1", "no listener 'tow'", "nothing was changed"]);
    assert_eq!(read_id(one).0, 0);
    write("3.json", &guest(TWO, "two").to_string());
    let dry = imdsd(&daemon, &["instance", "put", "--dry-run", path]).done();
    assert_eq!(
        dry,
        format!("{ONE}: would be registered\n{TWO}: would be registered\n")
    );
    assert_eq!(read_id(one).0, 0);
    imdsd(&daemon, &["instance", "put", path]).done();
    assert_eq!(
        (read_id(one).1.as_str(), read_id(two).1.as_str()),
        (ONE, TWO)
    );
    let none = tempfile::tempdir().unwrap();
    imdsd(&daemon, &["instance", "put", none.path().to_str().unwrap()]).refused(1, &["no *.json"]);
    imdsd(&daemon, &["instance", "put", "/nowhere"]).refused(1, &["/nowhere: can't be read"]);
}

/// The output of the AWS CLI has reservations and read-only fields.
#[test]
fn the_output_of_describe_instances_can_be_put_from_standard_input() {
    let (daemon, one, _) = with_listeners();
    let mut instance = document(|document| document["InstanceId"] = ONE.into());
    instance.as_object_mut().unwrap().remove("Imds");
    instance["MetadataOptions"]["State"] = "applied".into();
    instance["CpuOptions"] = json!({ "CoreCount": 1 });
    let output = json!({ "Reservations": [{
        "ReservationId": "r-0aaaaaaaaaaaaaaaa", "OwnerId": "210987654321", "Groups": [], "Instances": [instance],
    }] });
    let said = imdsd_at(
        &socket(&daemon),
        &["instance", "put", "-", "--json"],
        &output.to_string(),
    )
    .json();
    assert_eq!(said["Instances"][0]["Outcome"], "registered");
    let stored = imdsd(&daemon, &["instance", "get", ONE]).json();
    assert_eq!(stored["Imds"]["OwnerId"], "210987654321");
    assert_eq!(stored["CpuOptions"]["CoreCount"], 1);
    // Once it has an attachment, the same output does not remove it.
    put(&daemon, &guest(ONE, "one")).refused(1, &["Imds.OwnerId", "--relaunch"]);
    let mut attached = guest(ONE, "one");
    attached["Imds"]["OwnerId"] = "210987654321".into();
    put(&daemon, &attached).done();
    assert_eq!(read_id(one), (200, ONE.to_string()));
    let said = imdsd_at(
        &socket(&daemon),
        &["instance", "put", "-"],
        &output.to_string(),
    )
    .done();
    assert!(
        said.contains("CpuOptions") && !said.contains("Attachments"),
        "{said}"
    );
    let stored = imdsd(&daemon, &["instance", "get", ONE]).json();
    assert_eq!(
        (
            &stored["Imds"]["UserDataText"],
            &stored["CpuOptions"]["CoreCount"]
        ),
        (&attached["Imds"]["UserDataText"], &json!(1))
    );
    let mut alone = attached.clone();
    alone["Imds"].as_object_mut().unwrap().remove("Attachments");
    put(&daemon, &alone).done();
    assert_ne!(read_id(one).0, 0, "its guest is still served");
    imdsd_at(&socket(&daemon), &["instance", "put"], "")
        .refused(1, &["standard input:1: not JSON"]);
}

#[test]
fn an_export_imported_by_another_daemon_is_exported_again_to_the_byte() {
    let (first, ..) = with_listeners();
    put(&first, &guest(ONE, "one")).done();
    put(&first, &guest(TWO, "two")).done();
    imdsd(&first, &["event", "spot", "--in", "1h", "--instance", ONE]).done();
    let export = imdsd(&first, &["instance", "export", "--with-secrets"]).done();

    let (second, ..) = with_listeners();
    imdsd(&second, &["instance", "delete", INSTANCE]).done();
    let said = imdsd_at(&socket(&second), &["instance", "import", "-"], &export).done();
    assert_eq!(said.lines().count(), 3, "{said}");
    assert_eq!(
        imdsd(&second, &["instance", "export", "--with-secrets"]).done(),
        export
    );
    // Importing it again changes nothing.
    let said = imdsd_at(&socket(&second), &["instance", "import"], &export).done();
    assert!(
        said.lines().all(|line| line.contains("unchanged")),
        "{said}"
    );

    // Without secrets it is accepted by a daemon that has them.
    let without = imdsd(&second, &["instance", "export"]).done();
    assert!(!without.contains("demo0not0a0secret") && without.contains("[left out]"));
    imdsd_at(&socket(&second), &["instance", "import"], &without).done();
    assert_eq!(
        imdsd(&second, &["instance", "export", "--with-secrets"]).done(),
        export
    );
    imdsd(&second, &["instance", "delete", ONE, TWO]).done();
    let refused = imdsd_at(&socket(&second), &["instance", "import"], &without);
    refused.refused(
        1,
        &[
            "Imds.Role.Source.Static.V2.SecretAccessKey",
            "--with-secrets",
        ],
    );

    // As files that only their owner can read, whatever was there before.
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("backup");
    let (old, elsewhere) = (
        path.join(format!("{TWO}.json")),
        directory.path().join("elsewhere"),
    );
    std::fs::create_dir(&path).unwrap();
    std::fs::write(&old, "old").unwrap();
    std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::write(&elsewhere, "precious").unwrap();
    std::os::unix::fs::symlink(&elsewhere, path.join(format!("{ONE}.json"))).unwrap();
    for name in ["i-33333333.json", "web-1.json", ".old.json", "notes.txt"] {
        std::fs::write(path.join(name), "{}").unwrap();
    }
    let said = imdsd(
        &first,
        &[
            "instance",
            "export",
            "--with-secrets",
            "--directory",
            path.to_str().unwrap(),
        ],
    );
    let warning =
        "warning: documents are not of this export: i-33333333.json, web-1.json; an import";
    assert!(
        said.error.contains(warning) && !said.error.contains(ONE),
        "{said:?}"
    );
    assert_eq!(said.done(), format!("{}: 3 documents\n", path.display()));
    for id in [INSTANCE, ONE, TWO] {
        let found = std::fs::symlink_metadata(path.join(format!("{id}.json"))).unwrap();
        assert_eq!(
            (found.is_file(), found.permissions().mode() & 0o777),
            (true, 0o600),
            "{id}"
        );
    }
    assert_eq!(std::fs::read_to_string(&elsewhere).unwrap(), "precious");
    assert_eq!(
        std::fs::read_dir(&path).unwrap().count(),
        7,
        "no temporary file is left"
    );
    for name in ["i-33333333.json", "web-1.json"] {
        std::fs::remove_file(path.join(name)).unwrap();
    }
    let again = imdsd(&second, &["instance", "import", path.to_str().unwrap()]).done();
    assert_eq!(
        again
            .lines()
            .filter(|line| line.contains("registered"))
            .count(),
        2,
        "{again}"
    );
}

/// Documents that contradict each other serve neither instance, and every listing says so. A put
/// does not cause that: it is refused, or takes the attachment.
#[test]
fn an_attachment_that_two_documents_claim_is_refused_in_every_listing_until_it_is_claimed() {
    let (daemon, one, _) = with_listeners();
    put(&daemon, &guest(ONE, "one")).done();
    put(&daemon, &guest(TWO, "one")).refused(1, &[ONE, "listener 'one'", "--force"]);
    assert_eq!(read_id(one).1, ONE);
    imdsd(&daemon, &["instance", "list"]).done();

    register(&daemon, &[guest(TWO, "one")]);
    let listed = || imdsd(&daemon, &["listeners", "--json"]).json()["Attachments"].clone();
    let states = |listed: &Value, id: &str| -> Vec<String> {
        let of_instance = listed.as_array().unwrap().iter();
        let of_instance = of_instance.filter(|attachment| attachment["InstanceId"] == id);
        of_instance
            .map(|attachment| attachment["State"].as_str().unwrap().to_string())
            .collect()
    };
    for id in [ONE, TWO] {
        assert_eq!(states(&listed(), id), ["refused"], "{:#}", listed());
    }
    let text = imdsd(&daemon, &["listeners"]).done();
    assert_eq!(
        text.matches("none of them is served there").count(),
        2,
        "{text}"
    );
    assert_eq!(read_id(one).0, 0);
    let list = imdsd(&daemon, &["instance", "list"]).done();
    assert!(list.contains(&format!("disputed with {TWO}")), "{list}");
    assert_eq!(
        list.matches("pending").count(),
        2,
        "neither is served: {list}"
    );

    let claim = ["instance", "claim", TWO, "--listener", "one"];
    imdsd(&daemon, &[&claim[..], &["--only-free"]].concat()).refused(1, &[ONE]);
    let said = imdsd(&daemon, &claim).done();
    assert!(
        said.contains(&format!("{ONE}: lost listener 'one' to {TWO}")),
        "{said}"
    );
    assert_eq!(read_id(one).1, TWO);
    assert_eq!(states(&listed(), TWO), ["open"]);
    assert!(states(&listed(), ONE).is_empty());

    let said = imdsd(&daemon, &["instance", "release", TWO, "--stop"]).done();
    assert!(said.contains("gave up listener 'one'"), "{said}");
    assert_eq!(read_id(one).0, 0);
    let again = imdsd(&daemon, &["instance", "release", TWO, "--stop"]).done();
    assert!(again.contains("nothing to release"), "{again}");
    imdsd(&daemon, &["instance", "release", "i-44444444"]).done();
}

/// `applied` means that the instance is served as its options say.
#[test]
fn ipv6_on_a_listener_without_an_ipv6_address_is_pending_with_a_reason() {
    let (daemon, ..) = with_listeners();
    let with = |value: &str| {
        let mut document = guest(ONE, "one");
        document["MetadataOptions"]["HttpProtocolIpv6"] = value.into();
        put(&daemon, &document).done();
    };
    let state = || {
        let list = imdsd(&daemon, &["instance", "list", "--json"]).json();
        let mut instances = list["Instances"].as_array().unwrap().iter();
        let one = instances
            .find(|instance| instance["InstanceId"] == ONE)
            .unwrap();
        one["OptionsState"].as_str().unwrap().to_string()
    };
    let wait_for = |expected: &str| {
        let deadline = std::time::Instant::now() + PATIENCE;
        while state() != expected {
            assert!(std::time::Instant::now() < deadline, "not {expected}");
        }
    };
    with("disabled");
    wait_for("applied");
    with("enabled");
    wait_for("pending");
    let listed = imdsd(&daemon, &["listeners"]).done();
    assert!(
        listed.contains(
            "partial: HttpProtocolIpv6 is enabled, and listener 'one' has no IPv6 address"
        ),
        "{listed}"
    );
    assert_eq!(state(), "pending");
    with("disabled");
    wait_for("applied");
}

#[test]
fn a_changed_identity_needs_a_new_launch_and_an_old_generation_is_refused() {
    let daemon = Daemon::start(|_| {});
    let token = daemon.token();
    let edited = document(|document| document["Imds"]["UserDataText"] = "new".into());
    assert!(
        put(&daemon, &edited)
            .done()
            .ends_with("replaced, generation 2: Imds.UserDataText\n")
    );
    assert_eq!(
        daemon.get_with("/latest/user-data", &token).body,
        "new",
        "its tokens stay valid"
    );
    let old = ["instance", "put", "--generation", "1"];
    imdsd_at(&socket(&daemon), &old, &edited.to_string()).refused(1, &["at generation 2, not 1"]);

    let other = document(|document| document["PrivateIpAddress"] = "10.0.0.11".into());
    put(&daemon, &other).refused(
        1,
        &["standard input:1: PrivateIpAddress", "nothing was changed"],
    );
    let other = document(|document| document["InstanceType"] = "m7i.large".into());
    put(&daemon, &other).refused(1, &["(Imds.UserDataText, InstanceType)", "--relaunch"]);
    imdsd_at(
        &socket(&daemon),
        &["instance", "put", "--relaunch"],
        &other.to_string(),
    )
    .done();
    assert_eq!(
        daemon
            .get_with("/latest/meta-data/instance-id", &token)
            .status,
        401,
        "its tokens are invalid"
    );
    let identity = daemon
        .get_with(
            "/latest/dynamic/instance-identity/document",
            &daemon.token(),
        )
        .body;
    assert!(identity.contains("m7i.large"), "{identity}");
}

#[test]
fn a_reload_registers_new_instances_names_edited_ones_and_replaces_keys() {
    let (mut daemon, ..) = with_listeners();
    let path = |name: &str| daemon.directory.path().join(name);
    let (instances, keys) = (path("instance.json"), path("access-keys.toml"));
    let describe = || {
        call(daemon.control, "DescribeInstances", &[])
            .unwrap()
            .status
    };
    let write =
        |documents: &[Value]| std::fs::write(&instances, json!(documents).to_string()).unwrap();
    let demo = document(|document| document["MetadataOptions"]["HttpTokens"] = "optional".into());
    assert_eq!(
        imdsd(&daemon, &["reload"]).done(),
        "1 instances unchanged, 1 access keys in force\n"
    );

    // A fault in one file does not keep what another one no longer has.
    let (id, secret) = ACCESS_KEY;
    let other_keys = format!(
        "[[access_key]]\naccess_key_id = \"AKIDOTHEROTHER000001\"\nsecret_access_key = \"{secret}\"\n"
    );
    std::fs::write(&keys, &other_keys).unwrap();
    std::fs::write(&instances, "{").unwrap();
    imdsd(&daemon, &["reload"]).refused(
        1,
        &["instance.json:1: not JSON", "1 fault; everything else"],
    );
    assert_eq!(describe(), 401, "the old key is no longer valid");
    std::fs::write(&keys, "x").unwrap();
    write(&[demo.clone(), guest(ONE, "one")]);
    imdsd(&daemon, &["reload"])
        .refused(1, &["access-keys.toml:1", "1 previous keys stay in force"]);
    imdsd(&daemon, &["instance", "get", ONE]).done();
    imdsd(&daemon, &["instance", "delete", ONE]).done();

    std::fs::write(&keys, &other_keys).unwrap();
    let said = imdsd(&daemon, &["reload"]).done();
    assert!(
        said.contains(&format!("{ONE}: registered")) && said.contains("1 instances unchanged"),
        "{said}"
    );
    assert_eq!(describe(), 401, "the old key is no longer valid");
    let edited = document(|document| document["Imds"]["UserDataText"] = "edited".into());
    write(&[edited.clone(), guest(ONE, "one")]);
    std::fs::write(&keys, other_keys.replace("AKIDOTHEROTHER000001", id)).unwrap();
    // SIGHUP does the same.
    let pid = rustix::process::Pid::from_raw(daemon.pid() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    let line = daemon.wait_for(|line| {
        line["message"]
            .as_str()
            .is_some_and(|said| said.contains("was edited"))
    });
    assert_eq!(line["instance"], INSTANCE);
    daemon.wait_for(|line| line["message"] == "reloaded");
    assert_eq!(
        call(daemon.control, "DescribeInstances", &[])
            .unwrap()
            .status,
        200
    );
    // Putting the edited document applies the edit.
    put(&daemon, &edited).done();
    let said = imdsd(&daemon, &["reload", "--json"]).json();
    assert_eq!(
        (said["Edited"].clone(), said["Unchanged"].clone()),
        (json!([]), json!([INSTANCE, ONE]))
    );
}

/// Puts without options and option changes run concurrently; then the daemon is killed.
#[test]
fn concurrent_puts_and_option_changes_are_not_lost_even_by_a_kill() {
    let mut daemon = Daemon::start(|_| {});
    let (stop, put_so_far) = (AtomicBool::new(false), AtomicUsize::new(0));
    let without_options = |number: usize| {
        document(|document| {
            document.as_object_mut().unwrap().remove("MetadataOptions");
            document["Imds"]["UserDataText"] = number.to_string().into();
        })
    };
    let (place, control) = (socket(&daemon), daemon.control);
    let (put_last, limit_last) = std::thread::scope(|scope| {
        let putting = scope.spawn(|| {
            let mut last = 0;
            for number in 1.. {
                let said = imdsd_at(
                    &place,
                    &["instance", "put"],
                    &without_options(number).to_string(),
                );
                if stop.load(Ordering::Relaxed) || said.code != 0 {
                    return last;
                }
                last = number;
                put_so_far.store(number, Ordering::Relaxed);
            }
            unreachable!()
        });
        let changing = scope.spawn(|| {
            let mut last = 0;
            for number in 0.. {
                let limit = number % 64 + 1;
                let parameters = [
                    ("InstanceId", INSTANCE),
                    ("HttpPutResponseHopLimit", &*limit.to_string()),
                ];
                let answer = call(control, "ModifyInstanceMetadataOptions", &parameters);
                if stop.load(Ordering::Relaxed) || answer.is_none_or(|answer| answer.status != 200)
                {
                    return last;
                }
                last = limit;
            }
            unreachable!()
        });
        let since = std::time::Instant::now();
        while put_so_far.load(Ordering::Relaxed) < 20
            && since.elapsed() < 6 * PATIENCE
            && !putting.is_finished()
        {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        stop.store(true, Ordering::Relaxed);
        (putting.join().unwrap(), changing.join().unwrap())
    });
    assert!(
        put_last > 3 && limit_last > 0,
        "both made progress: {put_last} {limit_last}"
    );
    let stored = imdsd(&daemon, &["instance", "get", INSTANCE]).json();
    // One more of each may have been under way when they stopped.
    let text: usize = stored["Imds"]["UserDataText"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let limit = stored["MetadataOptions"]["HttpPutResponseHopLimit"]
        .as_i64()
        .unwrap();
    assert!(
        text == put_last || text == put_last + 1,
        "{text} {put_last}"
    );
    assert!(
        limit == limit_last || limit == limit_last % 64 + 1,
        "{limit} {limit_last}"
    );

    // Acknowledged changes survive a kill.
    put(&daemon, &without_options(7777)).done();
    daemon.kill();
    imdsd(&daemon, &["instance", "list"]).refused(3, &["cannot reach imdsd", "is imdsd running?"]);
    daemon.start_again();
    let again = imdsd(&daemon, &["instance", "get", INSTANCE]).json();
    assert_eq!(again["Imds"]["UserDataText"], "7777");
    assert_eq!(
        again["MetadataOptions"]["HttpPutResponseHopLimit"]
            .as_i64()
            .unwrap(),
        limit
    );
    let described = call(daemon.control, "DescribeInstances", &[]).unwrap().body;
    assert_eq!(
        element(&described, "httpPutResponseHopLimit"),
        Some(&*limit.to_string())
    );
}

/// Rule: a document still in the configured directory registers the instance again at the next start.
#[test]
fn a_deleted_instance_comes_back_with_its_document_and_its_old_tokens_do_not() {
    let mut daemon = Daemon::start(|_| {});
    let token = daemon.token();
    imdsd(&daemon, &["instance", "delete", INSTANCE]).done();
    assert_eq!(
        guest_asks(daemon.ipv4, "GET / HTTP/1.1\r\nHost: imds\r\n\r\n").status,
        0
    );
    daemon.kill();
    daemon.start_again();
    assert_eq!(
        daemon
            .get_with("/latest/meta-data/instance-id", &token)
            .status,
        401
    );
    assert_eq!(
        daemon
            .get_with("/latest/meta-data/instance-id", &daemon.token())
            .body,
        INSTANCE
    );
}

#[test]
fn an_instance_with_a_damaged_record_is_listed_and_can_be_deleted_and_put_again() {
    let mut daemon = Daemon::start(|_| {});
    daemon.kill();
    let record = daemon
        .directory
        .path()
        .join("state/instances")
        .join(format!("{INSTANCE}.json"));
    std::fs::write(&record, "{").unwrap();
    daemon.start_again();
    let said = imdsd(&daemon, &["instance", "list"]);
    assert!(
        said.error.contains(INSTANCE) && said.error.contains("can't be read"),
        "{said:?}"
    );
    put(&daemon, &document(|_| {})).refused(1, &["can't be read", "imdsd instance delete"]);
    imdsd(&daemon, &["instance", "get", INSTANCE]).refused(1, &["can't be read"]);
    imdsd(&daemon, &["instance", "delete", INSTANCE]).done();
    put(&daemon, &document(|_| {})).done();
    assert_eq!(
        daemon
            .get_with("/latest/meta-data/instance-id", &daemon.token())
            .body,
        INSTANCE
    );
}

#[test]
fn changes_and_shown_secrets_are_logged_with_the_user() {
    let mut daemon = Daemon::start(|_| {});
    let one = format!("/v1/instances/{INSTANCE}");
    let uid = rustix::process::geteuid().as_raw();
    imdsd(&daemon, &["instance", "get", INSTANCE]).done();
    imdsd(&daemon, &["instance", "get", INSTANCE, "--with-secrets"]).done();
    imdsd(&daemon, &["event", "spot", "--in", "1h"]).done();
    imdsd(
        &daemon,
        &["event", "complete", "instance-event-00000000000000000"],
    )
    .refused(1, &["no event"]);
    put(
        &daemon,
        &document(|document| document["Imds"]["UserDataText"] = "x".into()),
    )
    .done();
    imdsd(&daemon, &["instance", "delete", INSTANCE]).done();
    for (action, outcome, instances, changes) in [
        (
            format!("GET {one}?secrets=shown"),
            "OK",
            Some(INSTANCE),
            None,
        ),
        (
            "POST /v1/events".to_string(),
            "OK",
            Some(INSTANCE),
            Some("events: Rebalance Spot"),
        ),
        ("POST /v1/events".to_string(), "InvalidEvent", None, None),
        (
            "POST /v1/instances?relaunch=false&bind=false&force=false&dry-run=false".to_string(),
            "OK",
            Some(INSTANCE),
            Some("Imds.UserDataText: changed"),
        ),
        (
            format!("DELETE {one}"),
            "OK",
            Some(INSTANCE),
            Some(": deleted"),
        ),
    ] {
        let line = daemon.wait_for(|line| line["message"] == "api call");
        let of = |field: &str| line[field].as_str();
        assert_eq!(
            (of("level"), of("api"), line["uid"].as_u64(), of("peer")),
            (
                Some("INFO"),
                Some("admin"),
                Some(uid.into()),
                Some("admin socket")
            ),
            "{line}"
        );
        assert_eq!(
            (of("action"), of("outcome"), of("instances")),
            (Some(action.as_str()), Some(outcome), instances),
            "{line}"
        );
        match (of("changes"), changes) {
            (found, None) => assert_eq!(found, None, "{line}"),
            (found, Some(expected)) => {
                assert!(
                    found.is_some_and(|found| found.contains(expected)),
                    "{line}"
                );
            }
        }
    }
}

#[test]
fn the_contents_of_documents_are_not_logged() {
    let mut daemon = Daemon::start(|_| {});
    let secret = document(|document| {
        document["Imds"]["UserDataText"] = "a-very-secret-word".into();
        document["Imds"]["Role"]["Source"]["Static"]["V2"]["SecretAccessKey"] =
            "another-secret-word".into();
    });
    put(&daemon, &secret).done();
    let token = daemon.token();
    imdsd(
        &daemon,
        &[
            "instance",
            "explain",
            "--listener",
            "demo",
            "--token",
            &token,
        ],
    )
    .done();
    imdsd(&daemon, &["instance", "export", "--with-secrets"]).done();
    daemon.terminate();
    let log: String = daemon.log().iter().map(Value::to_string).collect();
    assert!(log.contains("api call"), "{log}");
    for secret in ["a-very-secret-word", "another-secret-word", &token] {
        assert!(!log.contains(secret), "{secret}");
    }
}

#[test]
fn options_are_set_by_their_names_and_guests_see_them_with_their_next_request() {
    let (daemon, one, _) = with_listeners();
    put(&daemon, &guest(ONE, "one")).done();
    let set = |arguments: &[&str]| imdsd(&daemon, &[&["instance", "set"], arguments].concat());
    assert_eq!(read_id(one).0, 200);
    let said = set(&[ONE, "--http-tokens", "required", "--hop-limit", "5"]).done();
    for expected in [
        &format!("{ONE}: "),
        "HttpTokens required",
        "HttpPutResponseHopLimit 5",
        "HttpEndpoint enabled",
        "generation 2",
    ] {
        assert!(said.contains(expected), "{said}");
    }
    assert_eq!(read_id(one).0, 401, "a read without a token is refused now");

    // Options that are not named keep their value; the same values change nothing.
    let answer = set(&[ONE, "--instance-metadata-tags", "enabled", "--json"]).json();
    let options = &answer["Instances"][0]["MetadataOptions"];
    assert_eq!(options["HttpTokens"], "required");
    assert_eq!(options["InstanceMetadataTags"], "enabled");
    let answer = set(&[ONE, "--instance-metadata-tags", "enabled", "--json"]).json();
    assert_eq!(answer["Instances"][0]["Generation"], 3);

    // Refusals; an unknown instance does not stop the others.
    for wrong in [
        &[ONE][..],
        &["--http-tokens", "required"],
        &[ONE, "--http-tokens", "Required"],
        &[ONE, "--hop-limit", "0"],
        &[ONE, "--hop-limit", "65"],
        &[ONE, "--http-endpoint", "off"],
    ] {
        set(wrong).refused(2, &[]);
    }
    set(&[ONE, "--http-tokens", "optional", "--generation", "2"]).refused(1, &["generation 3"]);
    let partly = set(&[TWO, ONE, "--http-tokens", "optional"]);
    partly.refused(1, &["there is no instance", TWO]);
    assert!(partly.output.contains("HttpTokens optional"), "{partly:?}");
    assert_eq!(read_id(one).0, 200);

    // A tag key that metadata cannot show keeps tags from being enabled.
    set(&[ONE, "--instance-metadata-tags", "disabled"]).done();
    put(&daemon, &{
        let mut document = guest(ONE, "one");
        document["Tags"] = json!([{ "Key": "a/b", "Value": "" }]);
        document
    })
    .done();
    set(&[ONE, "--instance-metadata-tags", "enabled"]).refused(1, &["Tags[0].Key"]);
}
