//! Events: who sees them, and when.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::operator::{guest, imdsd, put, with_listeners};
use crate::support::{INSTANCE, ask};

const ONE: &str = "i-11111111111111111";
const TWO: &str = "i-22222222222222222";

fn status(address: SocketAddr, path: &str) -> u16 {
    ask(address, &format!("GET /latest/meta-data/{path} HTTP/1.1\r\nHost: imds\r\n\r\n")).status
}

/// "`imdsd event spot --in 5s` on one of three instances while three clients poll: exactly one sees it, when it should"
#[test]
fn a_spot_interruption_of_one_of_three_is_seen_by_that_one_and_when_it_should() {
    let (daemon, one, two) = with_listeners();
    put(&daemon, &guest(ONE, "one")).done();
    put(&daemon, &guest(TWO, "two")).done();
    let began = Instant::now();
    let said = imdsd(&daemon, &["event", "spot", "--in", "5s", "--instance", ONE]).done();
    assert!(said.contains("now  rebalance recommendation") && said.contains("in 5s  spot interruption"), "{said}");
    let stored = began.elapsed();
    let polled = [daemon.ipv4, one, two].map(|address| {
        std::thread::spawn(move || {
            let mut seen = None;
            while began.elapsed() < Duration::from_secs(7) {
                let before = began.elapsed();
                if status(address, "spot/instance-action") == 200 {
                    seen = seen.or(Some((before, began.elapsed())));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            seen
        })
    });
    let [demo, one, two] = polled.map(|polling| polling.join().unwrap());
    assert_eq!((demo, two), (None, None));
    let (_, after) = one.expect("its own guest sees it");
    assert!(after >= Duration::from_secs(5), "not before its time: {after:?}");
    assert!(after < Duration::from_secs(6) + stored, "and not long after: {after:?}");
}

#[test]
fn events_are_for_one_for_those_with_a_tag_or_for_all() {
    let (daemon, one, two) = with_listeners();
    put(&daemon, &guest(ONE, "one")).done();
    let mut other = guest(TWO, "two");
    other["Tags"] = serde_json::json!([{ "Key": "team", "Value": "batch" }]);
    put(&daemon, &other).done();
    let all = [daemon.ipv4, one, two];
    let seen = |path: &str| all.map(|address| status(address, path) == 200);

    imdsd(&daemon, &["event", "rebalance"]).refused(1, &["there are 3 instances", "--all"]);
    imdsd(&daemon, &["event", "rebalance", "--all", "--tag", "a=b"]).refused(2, &["cannot be used with"]);
    imdsd(&daemon, &["event", "rebalance", "--tag", "team"]).refused(2, &["a tag is KEY=VALUE"]);
    imdsd(&daemon, &["event", "rebalance", "--tag", "team=web"]).refused(1, &["no instance has the tag"]);
    imdsd(&daemon, &["event", "spot", "--in", "soon", "--all"]).refused(2, &["a length of time is 5s"]);
    imdsd(&daemon, &["event", "spot", "--at", "2020-01-01T00:00:00Z", "--all"]).refused(1, &["is past"]);
    imdsd(&daemon, &["event", "maintenance", "reboot", "--not-before", "1h"]).refused(2, &["system-reboot"]);
    imdsd(&daemon, &["event", "complete", "instance-event-00000000000000000", "--all"])
        .refused(1, &["there is no event", ONE]);

    imdsd(&daemon, &["event", "rebalance", "--tag", "team=batch"]).done();
    assert_eq!(seen("events/recommendations/rebalance"), [false, false, true]);
    imdsd(&daemon, &["event", "lifecycle", "Terminated", "--instance", ONE]).done();
    assert_eq!(seen("autoscaling/target-lifecycle-state"), [false, true, false]);
    imdsd(&daemon, &["event", "set", "meta-data/ancestor-ami-ids", "ami-1", "--all"]).done();
    assert_eq!(seen("ancestor-ami-ids"), [true; 3]);
    imdsd(&daemon, &["event", "set", "meta-data/placement", "x", "--all"]).refused(1, &["it is a directory"]);
    imdsd(&daemon, &["event", "restore", "meta-data/ancestor-ami-ids", "--instance", INSTANCE]).done();
    assert_eq!(seen("ancestor-ami-ids"), [false, true, true]);

    let code = ["event", "maintenance", "system-reboot", "--not-before", "168h", "--instance", TWO, "--json"];
    let made = imdsd(&daemon, &code).json();
    let event = made["Steps"][0]["Set"]["Maintenance"]["EventId"].as_str().unwrap().to_string();
    let listed = imdsd(&daemon, &["event", "list"]).done();
    assert!(listed.contains(&event) && listed.contains("target lifecycle state Terminated"), "{listed}");
    imdsd(&daemon, &["event", "cancel", &event, "--instance", TWO]).done();
    let history = "GET /latest/meta-data/events/maintenance/history HTTP/1.1\r\nHost: imds\r\n\r\n";
    assert!(ask(two, history).body.contains("[Canceled]"));

    imdsd(&daemon, &["event", "clear", "--all"]).done();
    assert_eq!(seen("events/recommendations/rebalance"), [false; 3]);
    assert_eq!(seen("autoscaling/target-lifecycle-state"), [false; 3]);
    assert_eq!(seen("ancestor-ami-ids"), [false, true, true], "overrides are no announcement");
    imdsd(&daemon, &["event", "clear", "overrides", "--all"]).done();
    assert_eq!(seen("ancestor-ami-ids"), [false; 3]);
}

#[test]
fn a_scenario_is_stored_at_once_and_its_progress_is_told() {
    let (mut daemon, ..) = with_listeners();
    let file = daemon.directory.path().join("drill.json");
    let path = file.to_str().unwrap().to_string();
    std::fs::write(&file, "{ \"Name\": \"drill\", \"Targets\": \"All\",\n\"Steps\": [ { \"Evnt\": 1 } ] }").unwrap();
    imdsd(&daemon, &["event", "play", &path]).refused(1, &["drill.json:2: Steps[0]", "nothing was changed"]);
    let steps = r#"{ "Name": "drill", "Targets": "All", "Steps": [
        { "When": { "After": "1s" }, "Event": { "Rebalance": {} } },
        { "When": { "After": "2s" }, "Event": { "Lifecycle": { "State": "Terminated" } } } ] }"#;
    std::fs::write(&file, steps).unwrap();
    let began = Instant::now();
    let said = imdsd(&daemon, &["event", "play", &path]).done();
    assert!(began.elapsed() >= Duration::from_secs(2), "it waits for the last step");
    assert!(said.contains("1/2  rebalance recommendation") && said.contains("2/2  target lifecycle state"), "{said}");
    assert_eq!(status(daemon.ipv4, "autoscaling/target-lifecycle-state"), 200);

    // Nothing of a course that was begun is lost with the daemon.
    imdsd(&daemon, &["event", "clear"]).done();
    let began = Instant::now();
    imdsd(&daemon, &["event", "play", &path, "--no-wait"]).done();
    assert!(began.elapsed() < Duration::from_secs(2), "it does not wait");
    daemon.kill();
    daemon.start_again();
    std::thread::sleep(Duration::from_millis(2500).saturating_sub(began.elapsed()));
    assert_eq!(status(daemon.ipv4, "autoscaling/target-lifecycle-state"), 200);
}
