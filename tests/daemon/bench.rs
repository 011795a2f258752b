//! `imdsd bench` against the daemon and against a server that fails.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output};
use std::thread;

use serde_json::Value;

use crate::support::{Daemon, INSTANCE};

fn imdsd(arguments: &[&str]) -> Output {
    let mut imdsd = Command::new(env!("CARGO_BIN_EXE_imdsd"));
    imdsd.args(arguments).output().unwrap()
}

/// Measures for a short time.
fn bench(arguments: &[&str]) -> Output {
    let short = ["--duration", "100ms", "--warm-up", "0ms", "--rounds", "2"];
    imdsd(&[&["bench"], &short[..], arguments].concat())
}

/// Returns the series of a successful run.
fn series_of(output: &Output) -> Vec<Value> {
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    report["Series"].as_array().unwrap().clone()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Answers each connection with these bytes and closes it; returns what the last client sent.
fn serve(answer: &'static str, connections: usize) -> (SocketAddr, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let mut request = String::new();
        for _ in 0..connections {
            let (mut stream, _) = listener.accept().unwrap();
            let mut bytes = [0; 4096];
            let count = stream.read(&mut bytes).unwrap();
            request = text(&bytes[..count]).to_string();
            stream.write_all(answer.as_bytes()).unwrap();
        }
        request
    });
    (address, server)
}

#[test]
fn every_workload_is_measured_on_kept_and_on_new_connections() {
    let daemon = Daemon::start(|instance| {
        instance["MetadataOptions"]["HttpTokens"] = "optional".into();
    });
    let url = format!("http://{}", daemon.ipv4);
    let output = bench(&[&url, "--workload", "token,get,v1,dance", "--json", "-"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let series = series_of(&output);
    assert_eq!(series.len(), 8);
    for one in &series {
        let count = one["Latency"]["Count"].as_u64().unwrap();
        assert!(count > 0, "{one}");
        assert_eq!(one["Failures"], Value::Null, "{one}");
        // As EC2 does, imdsd closes the connection after a token.
        let is_kept = one["Connection"] == "keep-alive";
        let has_token = ["token", "dance"]
            .iter()
            .any(|with| one["Workload"] == *with);
        let reopened = one["Reopened"].as_u64().unwrap();
        assert_eq!(reopened > 0, is_kept && has_token, "{one}");
        let rounds = one["Rounds"].as_array().unwrap();
        let each = rounds.iter().map(|round| round["Count"].as_u64().unwrap());
        assert_eq!(each.sum::<u64>(), count);
    }
    let guest = daemon.get_with("/latest/meta-data/instance-id", &daemon.token());
    assert_eq!(guest.body, INSTANCE);
}

#[test]
fn a_workload_that_is_refused_is_counted_by_status_and_fails_the_run() {
    let daemon = Daemon::start(|instance| {
        instance["MetadataOptions"]["HttpTokens"] = "required".into();
    });
    let url = format!("http://{}", daemon.ipv4);
    let output = imdsd(&[
        "bench",
        &url,
        "--workload",
        "v1,token",
        "--requests",
        "10",
        "--json",
        "-",
    ]);
    assert_eq!(output.status.code(), Some(1));
    let series = series_of(&output);
    let failures = |workload: &str| {
        let mut each = series.iter();
        let found = each.find(|one| one["Workload"] == workload);
        found.unwrap()["Failures"].clone()
    };
    assert_eq!(failures("v1")["status 401"], 10);
    assert_eq!(failures("token"), Value::Null);
}

#[test]
fn a_rate_is_kept_and_a_stall_counts_for_each_request_that_it_delays() {
    let daemon = Daemon::start(|_| {});
    let url = format!("http://{}", daemon.ipv4);
    let rate = [
        "--workload",
        "get",
        "--connection",
        "keep-alive",
        "--rate",
        "100",
    ];
    let output = bench(&[&[&url, "--json", "-"][..], &rate].concat());
    let series = series_of(&output);
    // Two rounds of 50 ms at 100 a second.
    assert_eq!(series[0]["Latency"]["Count"], 10);
    assert_eq!(series[0]["Service"]["Count"], 10);
    assert_eq!(series[0]["Rate"], 100.0);
}

#[test]
fn the_page_has_its_plots_and_needs_no_other_file() {
    let daemon = Daemon::start(|instance| {
        instance["MetadataOptions"]["HttpProtocolIpv6"] = "enabled".into();
    });
    let (url, other) = (
        format!("http://{}", daemon.ipv4),
        format!("http://{}", daemon.ipv6),
    );
    let page = daemon.directory.path().join("page.html");
    let file = page.to_str().unwrap();
    let output = bench(&[&url, &other, "--workload", "get", "--html", file]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let page = std::fs::read_to_string(&page).unwrap();
    assert_eq!(page.matches("<svg").count(), 4);
    assert_eq!(page.matches("<polyline").count(), 8);
    assert!(page.contains("Ratios to http://127.0.0.1"));
    for elsewhere in ["src=", "href=", "@import", "url("] {
        assert!(!page.contains(elsewhere), "{elsewhere}");
    }
    assert!(text(&output.stdout).contains("p50 RATIO"));
}

#[test]
fn two_measurements_are_compared_without_a_new_one() {
    let daemon = Daemon::start(|_| {});
    let url = format!("http://{}", daemon.ipv4);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("before.json");
    let file = file.to_str().unwrap();
    let output = bench(&[&url, "--workload", "get", "--json", file]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    drop(daemon);
    let output = bench(&["--compare", file, file]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("1.00 [1.00–1.00]"));
    assert!(text(&output.stdout).contains("no clear difference"));
    let other = directory.path().join("other.json");
    std::fs::write(&other, "{}").unwrap();
    let output = bench(&["--compare", file, other.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("not a measurement that --json wrote"));
}

#[test]
fn a_server_that_fails_is_reported_by_what_failed() {
    for (answer, expected) in [
        ("", "closed before the end of the answer"),
        ("SSH-2.0-x\r\n\r\n", "the answer is not HTTP/1"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "a chunked answer, which is not supported",
        ),
        (
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            "status 404",
        ),
        (
            "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            "status 401",
        ),
        ("HTTP/1.0 503 Service Unavailable\r\n\r\nno", "status 503"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 56\r\n\r\nAQAEAL",
            "closed before the end of the answer",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na b",
            "the token is not a word",
        ),
    ] {
        let (address, server) = serve(answer, 2);
        let url = format!("http://{address}");
        let output = bench(&[
            &url,
            "--workload",
            "get",
            "--connection",
            "close",
            "--json",
            "-",
        ]);
        let request = server.join().unwrap();
        assert!(
            request.starts_with("PUT /latest/api/token HTTP/1.1\r\n"),
            "{request}"
        );
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(series_of(&output)[0]["Failures"][expected], 2, "{answer}");
    }
}

#[test]
fn a_service_that_never_answers_is_given_up_after_one_round() {
    // Connections are established, but not accepted.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let output = bench(&[
        &url,
        "--workload",
        "token,get,dance",
        "--connection",
        "close",
        "--requests",
        "2",
        "--timeout",
        "20ms",
        "--json",
        "-",
    ]);
    assert_eq!(output.status.code(), Some(1));
    for one in series_of(&output) {
        assert_eq!(one["Failures"]["no answer in time"], 1, "{one}");
        assert_eq!(one["Latency"], Value::Null);
        assert_eq!(one["Rounds"].as_array().unwrap().len(), 0);
    }
}

#[test]
fn no_more_requests_are_sent_than_permitted() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n1";
    let (address, server) = serve(answer, 7);
    let url = format!("http://{address}");
    let seven = ["--requests", "7", "--rounds", "3", "--clients", "2"];
    let kind = ["--workload", "v1", "--connection", "close"];
    let long = ["--duration", "1h", "--warm-up", "0ms", "--json", "-"];
    let output = imdsd(&[&["bench", &url][..], &seven, &kind, &long].concat());
    let request = server.join().unwrap();
    assert!(
        request.starts_with("GET /latest/meta-data/instance-id HTTP/1.1\r\n"),
        "{request}"
    );
    let series = series_of(&output);
    assert_eq!(series[0]["Latency"]["Count"], 7, "{}", series[0]);
    assert_eq!(series[0]["Failures"], Value::Null);
    let rounds = series[0]["Rounds"].as_array().unwrap();
    let counts: Vec<_> = rounds.iter().map(|round| round["Count"].as_u64()).collect();
    assert_eq!(counts, [Some(3), Some(2), Some(2)]);
}

#[test]
fn arguments_that_cannot_be_measured_are_refused_before_anything_is_sent() {
    for (arguments, expected) in [
        (
            &["http://192.0.2.1"][..],
            "neither a loopback nor a link-local address",
        ),
        (&["http://[2001:db8::1]:80"], "--any-address"),
        (&["http://10.0.0.1", "http://127.0.0.1"], "10.0.0.1"),
        (&["http://127.0.0.1", "http://10.0.0.1"], "10.0.0.1"),
        (&["http://0.0.0.0:1338"], "--any-address"),
        (&["http://[::ffff:192.0.2.1]"], "--any-address"),
        (&["http://224.0.0.1"], "--any-address"),
        (&["--timeout", "0s"], "--timeout: expected 10ms to 2m"),
        (&["--timeout", "3m"], "--timeout: expected 10ms to 2m"),
        (&["--duration", "2h"], "--duration: expected 10ms to 1h"),
        (&["--duration=-2s"], "expected a duration such as"),
        (&["--requests", "100000001"], "--requests: expected 1 to"),
        (&["--rate=-1"], "--rate: expected more than 0"),
        (&["--rate", "inf"], "--rate: expected more than 0"),
        (&["https://127.0.0.1"], "use http://"),
        (&["http://127.0.0.1/latest"], "--path is the path"),
        (&["127.0.0.1:1338"], "expected a URL such as"),
        (&["--clients", "1001"], "--clients: expected 1 to 1000"),
        (&["--rounds", "101"], "--rounds: expected 1 to 100"),
        (&["--rate", "0"], "--rate: expected more than 0"),
        (&["--rate", "NaN"], "--rate: expected more than 0"),
        (&["--path", "latest"], "--path: expected a path such as"),
        (&["--path", "/a b"], "--path: expected a path such as"),
        (&["--requests", "0"], "--requests"),
        (&["--workload", "put"], "token, get, v1, dance"),
        (&["--compare", "/nonexistent"], "/nonexistent: "),
    ] {
        let output = imdsd(&[&["bench"], arguments].concat());
        assert!(!output.status.success(), "{arguments:?}");
        let message = text(&output.stderr);
        assert!(message.contains(expected), "{arguments:?}: {message}");
        assert!(output.stdout.is_empty());
    }
}
