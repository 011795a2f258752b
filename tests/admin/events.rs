//! Events: which guests see them, and when.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::client::{guest, imdsd, put, with_listeners};
use crate::support::{INSTANCE, ask};

const ONE: &str = "i-11111111111111111";
const TWO: &str = "i-22222222222222222";

fn status(address: SocketAddr, path: &str) -> u16 {
    ask(
        address,
        &format!("GET /latest/meta-data/{path} HTTP/1.1\r\nHost: imds\r\n\r\n"),
    )
    .status
}

/// `imdsd event spot --in 5s` for one of three instances while three clients poll: only its guest sees
/// it, and at the right time.
#[test]
fn a_spot_interruption_of_one_of_three_instances_is_seen_by_its_guest_at_the_right_time() {
    const PATH: &str = "spot/instance-action";
    let (daemon, one, two) = with_listeners();
    put(&daemon, &guest(ONE, "one")).done();
    put(&daemon, &guest(TWO, "two")).done();
    let (began, stop) = (Instant::now(), AtomicBool::new(false));
    let (said, commanded, notice, polled) = std::thread::scope(|scope| {
        // They poll from before the command on, and note the time and the status.
        let polled = [daemon.ipv4, one, two].map(|address| {
            let stop = &stop;
            scope.spawn(move || {
                let mut polls = Vec::new();
                while !stop.load(Ordering::Relaxed) && began.elapsed() < Duration::from_secs(60) {
                    let before = began.elapsed();
                    polls.push((before, status(address, PATH), began.elapsed()));
                    std::thread::sleep(Duration::from_millis(100));
                }
                polls
            })
        });
        let before = began.elapsed();
        let said = imdsd(&daemon, &["event", "spot", "--in", "5s", "--instance", ONE]).done();
        let commanded = (before, began.elapsed());
        let until = commanded.1 + Duration::from_secs(8);
        std::thread::sleep(until.saturating_sub(began.elapsed()));
        let notice = ask(
            one,
            &format!("GET /latest/meta-data/{PATH} HTTP/1.1\r\nHost: imds\r\n\r\n"),
        )
        .body;
        stop.store(true, Ordering::Relaxed);
        (
            said,
            commanded,
            notice,
            polled.map(|polling| polling.join().unwrap()),
        )
    });
    assert!(
        said.contains("now  rebalance recommendation")
            && said.contains("spot interruption, terminate at"),
        "{said}"
    );

    let due = Duration::from_secs(5);
    for (name, polls) in ["demo", "one", "two"].into_iter().zip(&polled) {
        let seen = polls.iter().filter(|(_, status, _)| *status == 200).count();
        let first = polls.iter().find(|(_, status, _)| *status == 200);
        println!(
            "{name}: {} polls, {seen} with the notice, the first answered {first:?}; sent at {commanded:?}",
            polls.len()
        );
        assert!(polls.len() > 20, "{name} polls");
        assert!(
            polls
                .iter()
                .all(|(_, status, _)| matches!(status, 200 | 404)),
            "{name}: {polls:?}"
        );
        let Some((_, _, answered)) = first else {
            assert_ne!(name, "one", "its own guest does not see it");
            continue;
        };
        assert_eq!(name, "one", "the guest of another instance sees it");
        assert!(*answered >= commanded.0 + due, "not before its time");
        assert!(
            *answered < commanded.1 + due + Duration::from_secs(3),
            "and soon after it"
        );
        let later = polls.iter().filter(|(asked, ..)| asked > answered);
        assert!(
            later.clone().all(|(_, status, _)| *status == 200),
            "and from then on: {polls:?}"
        );
        assert!(later.count() > 5);
    }
    // Two minutes of warning, counted from when it is announced.
    let notice: serde_json::Value = serde_json::from_str(&notice).unwrap();
    let time: jiff::Timestamp = notice["time"].as_str().unwrap().parse().unwrap();
    let ahead = time.duration_since(jiff::Timestamp::now()).as_secs();
    println!("{notice}: {ahead} s ahead, 3 s after it was announced");
    assert_eq!(notice["action"], "terminate");
    assert!((105..=118).contains(&ahead), "{notice}: {ahead}");
}

#[test]
fn events_target_one_instance_those_with_a_tag_or_all() {
    let (daemon, one, two) = with_listeners();
    put(&daemon, &guest(ONE, "one")).done();
    let mut other = guest(TWO, "two");
    other["Tags"] = serde_json::json!([{ "Key": "team", "Value": "batch" }]);
    put(&daemon, &other).done();
    let all = [daemon.ipv4, one, two];
    let seen = |path: &str| all.map(|address| status(address, path) == 200);

    imdsd(&daemon, &["event", "rebalance"]).refused(1, &["there are 3 instances", "--all"]);
    imdsd(&daemon, &["event", "rebalance", "--all", "--tag", "a=b"])
        .refused(2, &["cannot be used with"]);
    imdsd(&daemon, &["event", "rebalance", "--tag", "team"]).refused(2, &["expected KEY=VALUE"]);
    imdsd(&daemon, &["event", "rebalance", "--tag", "team=web"])
        .refused(1, &["no instance has the tag"]);
    imdsd(&daemon, &["event", "spot", "--in", "soon", "--all"])
        .refused(2, &["a duration looks like 5s"]);
    imdsd(&daemon, &["event", "spot", "--at", "10:00", "--all"])
        .refused(2, &["expected a time such as 2026-06-01T10:00:00Z"]);
    imdsd(
        &daemon,
        &["event", "spot", "--at", "2020-01-01T00:00:00Z", "--all"],
    )
    .refused(1, &["is past"]);
    imdsd(
        &daemon,
        &["event", "maintenance", "reboot", "--not-before", "1h"],
    )
    .refused(2, &["system-reboot"]);
    imdsd(
        &daemon,
        &[
            "event",
            "complete",
            "instance-event-00000000000000000",
            "--all",
        ],
    )
    .refused(1, &["there is no event", ONE]);

    imdsd(&daemon, &["event", "rebalance", "--tag", "team=batch"]).done();
    assert_eq!(
        seen("events/recommendations/rebalance"),
        [false, false, true]
    );
    imdsd(
        &daemon,
        &["event", "lifecycle", "Terminated", "--instance", ONE],
    )
    .done();
    assert_eq!(
        seen("autoscaling/target-lifecycle-state"),
        [false, true, false]
    );
    imdsd(
        &daemon,
        &[
            "event",
            "set",
            "meta-data/ancestor-ami-ids",
            "ami-1",
            "--all",
        ],
    )
    .done();
    assert_eq!(seen("ancestor-ami-ids"), [true; 3]);
    imdsd(
        &daemon,
        &["event", "set", "meta-data/placement", "x", "--all"],
    )
    .refused(1, &["this is a directory"]);
    imdsd(
        &daemon,
        &[
            "event",
            "restore",
            "meta-data/ancestor-ami-ids",
            "--instance",
            INSTANCE,
        ],
    )
    .done();
    assert_eq!(seen("ancestor-ami-ids"), [false, true, true]);

    let maintenance = |deadline: &'static str| {
        let when = ["--not-before", "168h", "--not-before-deadline", deadline];
        [
            &["event", "maintenance", "system-reboot"][..],
            &when,
            &["--instance", TWO, "--json"],
        ]
        .concat()
    };
    imdsd(&daemon, &maintenance("167h")).refused(1, &["NotBeforeDeadline", "is before NotBefore"]);
    let made = imdsd(&daemon, &maintenance("240h")).json();
    assert!(
        made["Steps"][0]["Set"]["Maintenance"]["NotBeforeDeadline"].is_string(),
        "{made}"
    );
    let event = made["Steps"][0]["Set"]["Maintenance"]["EventId"]
        .as_str()
        .unwrap()
        .to_string();
    let listed = imdsd(&daemon, &["event", "list"]).done();
    assert!(
        listed.contains(&event) && listed.contains("target lifecycle state Terminated"),
        "{listed}"
    );
    imdsd(&daemon, &["event", "cancel", &event, "--instance", TWO]).done();
    let history = "GET /latest/meta-data/events/maintenance/history HTTP/1.1\r\nHost: imds\r\n\r\n";
    assert!(ask(two, history).body.contains("[Canceled]"));

    imdsd(&daemon, &["event", "clear", "--all"]).done();
    assert_eq!(seen("events/recommendations/rebalance"), [false; 3]);
    assert_eq!(seen("autoscaling/target-lifecycle-state"), [false; 3]);
    assert_eq!(
        seen("ancestor-ami-ids"),
        [false, true, true],
        "overrides are not announcements"
    );
    imdsd(&daemon, &["event", "spot", "--in", "1h", "--instance", TWO]).done();
    let said = imdsd(&daemon, &["event", "clear", "spot", "rebalance", "--all"]).done();
    assert!(
        said.contains(&format!("2 scheduled steps cancelled: {TWO}\n")),
        "{said}"
    );
    assert!(
        !imdsd(&daemon, &["event", "list"])
            .done()
            .contains("spot interruption")
    );
    imdsd(&daemon, &["event", "clear", "overrides", "--all"]).done();
    assert_eq!(seen("ancestor-ami-ids"), [false; 3]);
}

#[test]
fn a_scenario_is_stored_at_once_and_its_progress_is_reported() {
    let (mut daemon, ..) = with_listeners();
    let file = daemon.directory.path().join("drill.json");
    let path = file.to_str().unwrap().to_string();
    std::fs::write(
        &file,
        "{ \"Name\": \"drill\", \"Targets\": \"All\",\n\"Steps\": [ { \"Evnt\": 1 } ] }",
    )
    .unwrap();
    imdsd(&daemon, &["event", "play", &path])
        .refused(1, &["drill.json:2: Steps[0]", "nothing was changed"]);
    let steps = r#"{ "Name": "drill", "Targets": "All", "Steps": [
        { "When": { "After": "1s" }, "Event": { "Rebalance": {} } },
        { "When": { "After": "2s" }, "Event": { "Lifecycle": { "State": "Terminated" } } } ] }"#;
    std::fs::write(&file, steps).unwrap();
    let began = Instant::now();
    let said = imdsd(&daemon, &["event", "play", &path]).done();
    assert!(
        began.elapsed() >= Duration::from_secs(2),
        "it waits for the last step"
    );
    assert!(
        said.contains("1/2  rebalance recommendation")
            && said.contains("2/2  target lifecycle state"),
        "{said}"
    );
    assert_eq!(
        status(daemon.ipv4, "autoscaling/target-lifecycle-state"),
        200
    );

    // A scenario that has begun survives the daemon.
    imdsd(&daemon, &["event", "clear"]).done();
    let began = Instant::now();
    imdsd(&daemon, &["event", "play", &path, "--no-wait"]).done();
    daemon.kill();
    daemon.start_again();
    let patience = began + Duration::from_secs(2) + crate::support::PATIENCE;
    while status(daemon.ipv4, "autoscaling/target-lifecycle-state") != 200 {
        assert!(Instant::now() < patience, "the last step is not there");
        std::thread::sleep(Duration::from_millis(20));
    }
    // With --no-wait, the command returns although a step is an hour away.
    std::fs::write(&file, steps.replace("2s", "1h")).unwrap();
    let began = Instant::now();
    imdsd(&daemon, &["event", "play", &path, "--no-wait"]).done();
    assert!(
        began.elapsed() < Duration::from_secs(60),
        "it does not wait"
    );
}
