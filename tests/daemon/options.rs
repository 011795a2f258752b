//! Option changes through the EC2 API, and what the next guest request sees of them.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::{
    ACCESS_KEY, Answer, Daemon, INSTANCE, PATIENCE, TOKEN_REQUEST, ask, call, element,
};

const MODIFY: &str = "ModifyInstanceMetadataOptions";

fn modify(daemon: &Daemon, option: &str, value: &str) -> Answer {
    call(
        daemon.control,
        MODIFY,
        &[("InstanceId", INSTANCE), (option, value)],
    )
    .expect("the daemon answers")
}

fn wait_until_applied(daemon: &Daemon) {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let answer = call(
            daemon.control,
            "DescribeInstances",
            &[("InstanceId.1", INSTANCE)],
        )
        .unwrap();
        let options = element(&answer.body, "metadataOptions").unwrap();
        if element(options, "state") == Some("applied") {
            return;
        }
    }
    panic!("still pending");
}

/// Each row: an option, what a guest sees before and after the change, and after the change back.
#[test]
fn each_option_is_live_for_the_very_next_request() {
    let daemon = Daemon::start(|_| {});
    let read = |daemon: &Daemon| {
        daemon
            .get("/latest/meta-data/instance-id")
            .status
            .to_string()
    };
    let read_tag = |daemon: &Daemon| {
        daemon
            .get_with("/latest/meta-data/tags/instance/Name", &daemon.token())
            .status
            .to_string()
    };
    let endpoint = |daemon: &Daemon| daemon.ask(TOKEN_REQUEST).status.to_string();
    let by_ipv6 = |daemon: &Daemon| match TcpStream::connect_timeout(&daemon.ipv6, PATIENCE) {
        Ok(_) => ask(daemon.ipv6, "GET / HTTP/1.1\r\nHost: imds\r\n\r\n")
            .status
            .to_string(),
        Err(reason) => reason.kind().to_string(),
    };
    type Effect<'a> = &'a dyn Fn(&Daemon) -> String;
    let rows: [(&str, &str, &str, Effect<'_>, &str, &str); 4] = [
        ("HttpTokens", "required", "optional", &read, "401", "200"),
        (
            "InstanceMetadataTags",
            "disabled",
            "enabled",
            &read_tag,
            "404",
            "200",
        ),
        (
            "HttpEndpoint",
            "enabled",
            "disabled",
            &endpoint,
            "200",
            "403",
        ),
        (
            "HttpProtocolIpv6",
            "disabled",
            "enabled",
            &by_ipv6,
            "connection refused",
            "401",
        ),
    ];
    for (option, before, after, effect, seen_before, seen_after) in rows {
        for (value, seen) in [
            (before, seen_before),
            (after, seen_after),
            (before, seen_before),
        ] {
            let answer = modify(&daemon, option, value);
            assert_eq!(answer.status, 200, "{}", answer.body);
            if option == "HttpProtocolIpv6" {
                // Opening a socket is what `pending` is about.
                wait_until_applied(&daemon);
            }
            assert_eq!(effect(&daemon), seen, "{option}={value}");
            println!("{option}={value}: {seen}");
        }
        wait_until_applied(&daemon);
    }
}

#[test]
fn a_change_says_pending_and_then_applied() {
    let daemon = Daemon::start(|_| {});
    wait_until_applied(&daemon);
    let answer = modify(&daemon, "HttpPutResponseHopLimit", "7");
    let options = element(&answer.body, "instanceMetadataOptions").unwrap();
    assert_eq!(element(options, "state"), Some("pending"));
    assert_eq!(element(options, "httpPutResponseHopLimit"), Some("7"));
    wait_until_applied(&daemon);
}

/// An address that another process holds keeps the change pending until it is free.
#[test]
fn a_listener_that_cannot_open_keeps_the_option_pending() {
    let daemon = Daemon::start(|_| {});
    let in_the_way = std::net::TcpListener::bind(daemon.ipv6).unwrap();
    assert_eq!(modify(&daemon, "HttpProtocolIpv6", "enabled").status, 200);
    for _ in 0..20 {
        let answer = call(daemon.control, "DescribeInstances", &[]).unwrap();
        assert_eq!(
            element(element(&answer.body, "metadataOptions").unwrap(), "state"),
            Some("pending")
        );
    }
    drop(in_the_way);
    wait_until_applied(&daemon);
    assert_eq!(
        ask(daemon.ipv6, "GET / HTTP/1.1\r\nHost: imds\r\n\r\n").status,
        401
    );
}

#[test]
fn a_refused_call_changes_nothing() {
    let daemon = Daemon::start(|_| {});
    let state = || {
        let answer = call(daemon.control, "DescribeInstances", &[]).unwrap();
        element(&answer.body, "metadataOptions")
            .unwrap()
            .replace("pending", "applied")
    };
    let before = state();
    type Row<'a> = (&'a [(&'a str, &'a str)], u16, &'a str);
    let rows: [Row<'_>; 8] = [
        (
            &[("InstanceId", INSTANCE), ("HttpTokens", "bogus")],
            400,
            "InvalidParameterValue",
        ),
        (
            &[("InstanceId", INSTANCE), ("HttpPutResponseHopLimit", "65")],
            400,
            "InvalidParameterValue",
        ),
        (
            &[("InstanceId", INSTANCE), ("HttpPutResponseHopLimit", "0")],
            400,
            "InvalidParameterValue",
        ),
        (
            &[("InstanceId", INSTANCE), ("HttpTokns", "optional")],
            400,
            "UnknownParameter",
        ),
        (
            &[("InstanceId", "i-1"), ("HttpTokens", "optional")],
            400,
            "InvalidInstanceID.Malformed",
        ),
        (
            &[("InstanceId", "i-00000000"), ("HttpTokens", "optional")],
            400,
            "InvalidInstanceID.NotFound",
        ),
        (&[("HttpTokens", "optional")], 400, "MissingParameter"),
        (
            &[
                ("InstanceId", INSTANCE),
                ("HttpTokens", "optional"),
                ("DryRun", "true"),
            ],
            412,
            "DryRunOperation",
        ),
    ];
    for (parameters, status, code) in rows {
        let answer = call(daemon.control, MODIFY, parameters).unwrap();
        assert_eq!(
            (answer.status, element(&answer.body, "Code")),
            (status, Some(code)),
            "{parameters:?}"
        );
    }
    let unsigned = "GET /?Action=DescribeInstances&Version=2016-11-15 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert_eq!(ask(daemon.control, unsigned).status, 400);
    assert_eq!(state(), before);
    assert!(!before.contains(ACCESS_KEY.1));
}

/// kill -9 while changes are made: what was acknowledged is in force after the restart.
#[test]
fn no_acknowledged_change_is_lost_when_the_daemon_is_killed() {
    let mut daemon = Daemon::start(|_| {});
    let (mut acknowledged, mut kills, mut lost) = (0, 0, 0);
    let mut limit = 1;
    while acknowledged < 100 {
        let control = daemon.control;
        // A client that changes the hop limit again and again until the daemon is gone. It returns the last value that was
        // acknowledged, the one that was under way, and how many were.
        let client = std::thread::spawn(move || {
            let (mut last, mut count) = (None, 0);
            loop {
                limit = limit % 64 + 1;
                let value = limit.to_string();
                match call(
                    control,
                    MODIFY,
                    &[
                        ("InstanceId", INSTANCE),
                        ("HttpPutResponseHopLimit", &value),
                    ],
                ) {
                    Some(answer) if answer.status == 200 => {
                        (last, count) = (Some(limit), count + 1)
                    }
                    Some(answer) => panic!("{}", answer.raw),
                    None => return (last, limit, count),
                }
            }
        });
        // Somewhere in the middle of it; the moment differs from round to round.
        std::thread::sleep(Duration::from_millis(10 + 7 * (kills % 5)));
        daemon.kill();
        kills += 1;
        let (last, under_way, count) = client.join().unwrap();
        acknowledged += count;
        limit = under_way;

        daemon.start_again();
        let answer = call(daemon.control, "DescribeInstances", &[]).unwrap();
        let in_force: i32 = element(&answer.body, "httpPutResponseHopLimit")
            .unwrap()
            .parse()
            .unwrap();
        if last.is_some_and(|last| in_force != last) && in_force != under_way {
            lost += 1;
        }
    }
    println!("{acknowledged} changes acknowledged, {kills} kills, {lost} lost");
    assert_eq!(lost, 0);
}
