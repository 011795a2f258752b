//! Injected faults: what the guest of an instance gets, and what the operator sees of it.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{guest, imdsd, put, with_listeners};
use crate::support::{Answer, Daemon, PATIENCE, TOKEN_REQUEST, ask};

const ONE: &str = "i-11111111111111111";
const TWO: &str = "i-22222222222222222";

/// A daemon with the instances `ONE` and `TWO`, and their addresses.
fn two_guests() -> (Daemon, SocketAddr, SocketAddr) {
    let (daemon, one, two) = with_listeners();
    put(&daemon, &guest(ONE, "one")).done();
    put(&daemon, &guest(TWO, "two")).done();
    (daemon, one, two)
}

fn get(address: SocketAddr, path: &str) -> Answer {
    let head = format!("GET /latest/{path} HTTP/1.1\r\nHost: imds\r\n\r\n");
    ask(address, &head)
}

fn statuses(address: SocketAddr, path: &str, count: usize) -> Vec<u16> {
    (0..count).map(|_| get(address, path).status).collect()
}

/// Injects a fault into `ONE`.
fn fault(daemon: &Daemon, arguments: &[&str]) -> String {
    let event = ["event", "fault", "--instance", ONE];
    imdsd(daemon, &[&event[..], arguments].concat()).done()
}

/// Returns how many requests each fault of `ONE` affected, by its path.
fn affected(daemon: &Daemon) -> Value {
    let list = imdsd(daemon, &["event", "list", "--json"]).json();
    let mut instances = list["Instances"].as_array().unwrap().iter();
    let one = instances.find(|instance| instance["InstanceId"] == ONE);
    let faults = one.map_or(Vec::new(), |one| one["Faults"].as_array().unwrap().clone());
    let counts = faults.iter().map(|fault| {
        let path = fault["Fault"]["Path"].as_str().unwrap().to_string();
        (path, fault["Affected"].clone())
    });
    Value::Object(counts.collect())
}

#[test]
fn errors_are_answered_on_the_path_and_to_the_guest_that_they_are_for() {
    let (daemon, one, two) = two_guests();
    let path = "meta-data/instance-id";
    let said = fault(&daemon, &[path, "--status", "503"]);
    assert_eq!(said, format!("now  fault on {path}: answered 503: {ONE}\n"));
    assert_eq!(statuses(one, path, 5), [503; 5]);
    let refused = get(one, path);
    assert_eq!(refused.header("Content-Length"), Some("0"));
    assert_eq!(refused.header("Server"), Some("EC2ws"));
    // The same path in another version and in another spelling.
    let old = ask(
        one,
        "GET /2021-07-15/meta-data//instance-id HTTP/1.1\r\nHost: imds\r\n\r\n",
    );
    assert_eq!(old.status, 503);
    // Other paths, and another guest.
    assert_eq!(statuses(one, "meta-data/ami-id", 3), [200; 3]);
    assert_eq!(ask(one, TOKEN_REQUEST).status, 200);
    assert_eq!(statuses(two, path, 3), [200; 3]);
    assert_eq!(affected(&daemon), json!({ path: 7 }));

    // It is replaced, not added.
    let said = fault(&daemon, &[path, "--status", "429", "--probability", "1"]);
    assert!(
        said.starts_with("1 injected fault cleared or replaced"),
        "{said}"
    );
    assert_eq!(statuses(one, path, 3), [429; 3]);
    fault(&daemon, &[path, "--status", "500", "--probability", "0"]);
    assert_eq!(statuses(one, path, 5), [200; 5]);
    assert_eq!(affected(&daemon), json!({ path: 0 }));

    // A directory with everything below it, and then everything.
    fault(&daemon, &["meta-data/placement/*", "--status", "418"]);
    assert_eq!(get(one, "meta-data/placement/").status, 418);
    assert_eq!(get(one, "meta-data/placement/region").status, 418);
    assert_eq!(get(one, "meta-data/").status, 200);
    fault(&daemon, &["*", "--status", "500"]);
    assert_eq!(get(one, "meta-data/placement/region").status, 418);
    assert_eq!(get(one, "").status, 500);
    assert_eq!(ask(one, TOKEN_REQUEST).status, 500);
    fault(&daemon, &["--clear", "*"]);
    assert_eq!(get(one, "").status, 200);
    assert_eq!(get(one, "meta-data/placement/region").status, 418);
    fault(&daemon, &["--clear"]);
    assert_eq!(get(one, "meta-data/placement/region").status, 200);
    assert_eq!(affected(&daemon), json!({}));
}

#[test]
fn answers_are_dropped_or_cut_in_the_middle() {
    let (daemon, one, two) = two_guests();
    fault(&daemon, &["api/token", "--drop"]);
    for _ in 0..3 {
        assert_eq!(ask(one, TOKEN_REQUEST).raw, "");
    }
    assert_eq!(get(one, "meta-data/instance-id").status, 200);
    assert_eq!(ask(two, TOKEN_REQUEST).status, 200);
    assert_eq!(affected(&daemon), json!({ "api/token": 3 }));

    for path in ["meta-data/instance-id", "meta-data/", "meta-data/no-such"] {
        let whole = get(one, path).raw;
        fault(&daemon, &["meta-data/*", "--cut"]);
        let cut = get(one, path).raw;
        assert_eq!(cut.len(), whole.len() / 2, "{path}");
        assert_eq!(cut[..12], whole[..12], "{path}");
        // A kept connection ends, too, and what was sent behind the request is not answered.
        let request =
            format!("GET /latest/{path} HTTP/1.1\r\nHost: imds\r\nConnection: keep-alive\r\n\r\n");
        let kept = ask(one, &(request.clone() + &request)).raw;
        assert_eq!(kept.matches("HTTP/1.1").count(), 1, "{kept}");
        assert_eq!(get(two, path).raw.len(), whole.len());
        fault(&daemon, &["--clear", "meta-data/*"]);
    }
    // The answer to HEAD has no body, so half of it is half of the head.
    let head = "HEAD /latest/meta-data/ HTTP/1.1\r\nHost: imds\r\n\r\n";
    let whole = ask(one, head).raw;
    fault(&daemon, &["*", "--cut"]);
    assert_eq!(ask(one, head).raw.len(), whole.len() / 2);
}

/// While an answer is delayed, the guest's other requests and other guests are answered.
#[test]
fn a_delay_delays_nothing_but_its_answer() {
    let (daemon, one, two) = two_guests();
    let path = "meta-data/instance-id";
    fault(&daemon, &[path, "--delay", "300ms", "--jitter", "1ms"]);
    let began = Instant::now();
    let answer = get(one, path);
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!((answer.status, answer.body.as_str()), (200, ONE));

    fault(&daemon, &[path, "--delay", "60s"]);
    let mut waiting: Vec<TcpStream> = (0..8)
        .map(|_| {
            let mut stream = TcpStream::connect(one).unwrap();
            let head = format!("GET /latest/{path} HTTP/1.1\r\nHost: imds\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            stream
        })
        .collect();
    // All of them wait by now.
    let deadline = Instant::now() + PATIENCE;
    while affected(&daemon) != json!({ path: 8 }) {
        assert!(Instant::now() < deadline, "{}", affected(&daemon));
    }
    assert_eq!(statuses(one, "meta-data/ami-id", 20), [200; 20]);
    assert_eq!(ask(one, TOKEN_REQUEST).status, 200);
    assert_eq!(statuses(two, path, 20), [200; 20]);
    for stream in &mut waiting {
        stream.set_nonblocking(true).unwrap();
        let read = stream.read(&mut [0; 1]);
        assert_eq!(read.unwrap_err().kind(), ErrorKind::WouldBlock);
    }
    // A delay that began is not shortened; new requests have none.
    fault(&daemon, &["--clear"]);
    assert_eq!(get(one, path).status, 200);
}

#[test]
fn requests_beyond_a_rate_are_refused() {
    let (daemon, one, two) = two_guests();
    let path = "meta-data/instance-id";
    fault(&daemon, &[path, "--throttle", "1", "--status", "429"]);
    let began = Instant::now();
    let seen = statuses(one, path, 30);
    let permitted = seen.iter().filter(|status| **status == 200).count();
    assert!(seen.iter().all(|status| matches!(status, 200 | 429)));
    assert_eq!(seen[0], 200);
    let seconds = began.elapsed().as_secs_f64();
    assert!(
        permitted as f64 <= 1.0 + seconds,
        "{permitted} in {seconds} s"
    );
    assert_eq!(affected(&daemon), json!({ path: 30 - permitted }));
    assert_eq!(statuses(two, path, 5), [200; 5]);
    fault(&daemon, &["*", "--throttle", "1"]);
    assert!(statuses(one, "", 30).contains(&503));
}

#[test]
fn faults_end_after_their_time_and_with_the_daemon() {
    let (mut daemon, one, _) = two_guests();
    let path = "meta-data/instance-id";
    fault(&daemon, &[path, "--status", "503", "--for", "300ms"]);
    daemon.wait_for(|line| line["message"] == "injected faults ended");
    assert_eq!(get(one, path).status, 200);
    assert_eq!(affected(&daemon), json!({}));

    let said = fault(&daemon, &[path, "--status", "503", "--in", "1h"]);
    assert!(said.starts_with("in 1h  fault on"), "{said}");
    assert_eq!(get(one, path).status, 200);
    assert_eq!(affected(&daemon), json!({ path: 0 }));

    fault(&daemon, &["*", "--status", "503"]);
    assert_eq!(get(one, path).status, 503);
    let export = imdsd(&daemon, &["instance", "export"]).done();
    assert!(!export.contains("503"), "{export}");
    daemon.kill();
    daemon.start_again();
    assert_eq!(get(one, path).status, 200);
    assert_eq!(affected(&daemon), json!({}));

    // Those of an instance that is removed end with it.
    fault(&daemon, &["*", "--status", "503"]);
    imdsd(&daemon, &["instance", "delete", ONE]).done();
    daemon.wait_for(|line| line["message"] == "injected faults ended");
    put(&daemon, &guest(ONE, "one")).done();
    assert_eq!(get(one, path).status, 200);
}

#[test]
fn injected_faults_are_shown_wherever_an_operator_looks() {
    let (mut daemon, one, _) = two_guests();
    imdsd(&daemon, &["status"]).done();
    let path = "meta-data/iam/*";
    fault(
        &daemon,
        &[path, "--delay", "1s", "--probability", "0.5", "--for", "1h"],
    );
    let line = daemon.wait_for(|line| {
        line["message"] == "fault injected: guests get slow or failing answers on purpose"
    });
    assert_eq!(line["level"], "WARN");
    assert_eq!(line["instances"], ONE);
    assert_eq!(
        line["effect"],
        format!("{path}: 50 % of requests, delayed by 1s")
    );
    let audited = daemon.wait_for(|line| line["action"] == "POST /v1/events");
    assert!(audited.to_string().contains("fault injected"), "{audited}");

    let status = imdsd(&daemon, &["status"]);
    assert_eq!(status.code, 1);
    assert!(
        status
            .output
            .contains("1 instances whose guests get slow or failing answers on purpose")
    );
    let list = imdsd(&daemon, &["event", "list"]).done();
    assert!(
        list.contains("in force") && list.contains("50 % of requests, delayed by 1s, until "),
        "{list}"
    );
    let listed = imdsd(&daemon, &["instance", "list"]);
    assert!(
        listed
            .error
            .contains(&format!("{ONE}: its guest gets slow")),
        "{listed:?}"
    );
    assert!(!listed.error.contains(TWO), "{listed:?}");
    assert!(
        daemon
            .admin("/metrics")
            .contains("imdsd_instances_injected_faults 1\n")
    );
    let explain = |path: &str| imdsd(&daemon, &["instance", "explain", ONE, "--path", path]).output;
    assert!(explain("/latest/meta-data/iam/info").contains("an injected fault may change it"));
    assert!(!explain("/latest/meta-data/ami-id").contains("injected fault"));

    imdsd(&daemon, &["event", "fault", "--clear", "--all"]).done();
    daemon.wait_for(|line| line["message"] == "injected faults cleared");
    imdsd(&daemon, &["status"]).done();
    assert!(
        daemon
            .admin("/metrics")
            .contains("imdsd_instances_injected_faults 0\n")
    );
    assert_eq!(get(one, "meta-data/instance-id").status, 200);
}

#[test]
fn a_scenario_injects_and_clears_faults_beside_other_events() {
    let (daemon, one, two) = two_guests();
    let file = daemon.directory.path().join("drill.json");
    let fault = json!({ "Fault": { "Path": "meta-data/instance-id", "Answer": "Drop" } });
    let of = |steps: Value| json!({ "Name": "drill", "Targets": "All", "Steps": steps });
    let scenario = of(json!([
        { "Event": { "Rebalance": {} } },
        { "Event": fault },
        { "Targets": { "Instance": TWO }, "When": { "After": "1ms" }, "Event": { "ClearFaults": {} } },
    ]));
    std::fs::write(&file, scenario.to_string()).unwrap();
    let play = |targets: &[&str]| {
        let file = file.to_str().unwrap();
        imdsd(
            &daemon,
            &[&["event", "play", "--no-wait", file], targets].concat(),
        )
    };
    play(&[]).done();
    std::thread::sleep(Duration::from_millis(2));
    assert_eq!(get(one, "meta-data/instance-id").raw, "");
    assert_eq!(get(two, "meta-data/instance-id").status, 200);
    let rebalance = "meta-data/events/recommendations/rebalance";
    assert_eq!(get(one, rebalance).status, 200);
    imdsd(&daemon, &["event", "clear", "--all"]).done();
    imdsd(&daemon, &["event", "fault", "--clear", "--all"]).done();

    // With a fault that makes no sense, nothing of the scenario is done.
    for (path, expected) in [
        ("meta-data/no-such", "no instance has such a path"),
        ("/x", "below the version"),
    ] {
        let fault = json!({ "Fault": { "Path": path, "Answer": "Drop" } });
        let scenario = of(json!([{ "Event": { "Rebalance": {} } }, { "Event": fault }]));
        std::fs::write(&file, scenario.to_string()).unwrap();
        play(&[]).refused(1, &[expected]);
        assert_eq!(get(one, rebalance).status, 404);
    }
}

#[test]
fn faults_that_make_no_sense_are_refused_and_change_nothing() {
    let (daemon, one, _) = two_guests();
    let path = "meta-data/instance-id";
    for (arguments, code, expected) in [
        (
            &[path, "--delay", "1s", "--probability", "1.5"][..],
            1,
            "Probability is from 0 to 1",
        ),
        (
            &[path, "--delay", "1s", "--probability=-0.5"],
            1,
            "Probability is from 0 to 1",
        ),
        (
            &[path, "--delay", "1s", "--probability", "NaN"],
            2,
            "from 0 to 1",
        ),
        (
            &[path, "--delay", "1s", "--probability", "half"],
            2,
            "--probability",
        ),
        (&[path, "--delay=-1s"], 2, "a duration looks like"),
        (&[path, "--delay", "61s"], 1, "at most 60s"),
        (
            &[path, "--delay", "59s", "--jitter", "2s"],
            1,
            "at most 60s",
        ),
        (&[path, "--status", "200"], 1, "from 400 to 599"),
        (&[path, "--status", "70000"], 2, "--status"),
        (&[path, "--throttle", "0"], 2, "--throttle"),
        (&[path, "--throttle", "100001"], 1, "Throttle is from 1 to"),
        (&[path, "--drop", "--cut"], 2, "cannot be used with"),
        (
            &[path, "--status", "500", "--drop"],
            2,
            "cannot be used with",
        ),
        (&[path, "--for", "1s"], 1, "does nothing"),
        (
            &[path, "--delay", "1s", "--for", "0s"],
            1,
            "For is longer than 0s",
        ),
        (&[path], 1, "does nothing"),
        (
            &[path, "--clear", "--delay", "1s"],
            2,
            "cannot be used with",
        ),
        (&["--delay", "1s"], 2, "<PATH>"),
        (
            &["/latest/meta-data/instance-id", "--drop"],
            2,
            "below the version",
        ),
        (
            &["latest/meta-data/instance-id", "--drop"],
            1,
            "no instance has such a path",
        ),
        (&["meta-data/instanceid", "--drop"], 1, "docs/metadata.md"),
        (
            &["meta-data/instance-id/*", "--drop"],
            1,
            "no instance has such a path",
        ),
        (&["api/tokens", "--drop"], 1, "no instance has such a path"),
        (&["meta-data/*/x", "--drop"], 2, "only be its end"),
        (
            &[path, "--drop", "--at", "2020-01-01T00:00:00Z"],
            1,
            "is past",
        ),
    ] {
        let event = ["event", "fault", "--instance", ONE];
        imdsd(&daemon, &[&event[..], arguments].concat()).refused(code, &[expected]);
    }
    let drop = ["event", "fault", path, "--drop"];
    imdsd(&daemon, &drop).refused(1, &["there are 3 instances"]);
    let unknown = [&drop[..], &["--instance", "i-33333333333333333"]].concat();
    imdsd(&daemon, &unknown).refused(1, &["i-33333333333333333"]);
    let untagged = [&drop[..], &["--tag", "team=none"]].concat();
    imdsd(&daemon, &untagged).refused(1, &["no instance has the tag"]);
    assert_eq!(affected(&daemon), json!({}));
    assert_eq!(get(one, path).status, 200);
    imdsd(&daemon, &["status"]).done();
}
