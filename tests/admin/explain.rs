//! `imdsd instance explain`: every rule of the gate, and every reason why a request does not get there.

use serde_json::{Value, json};

use crate::client::{document, guest, guest_asks, imdsd, imdsd_at, put, register, with_listeners};
use crate::support::{Daemon, INSTANCE, Namespace, PATIENCE, ask, spawn_by, write_keys};

const ONE: &str = "i-11111111111111111";
const TWO: &str = "i-22222222222222222";

/// Each row has the request, the status and the rule. A guest sends the same request.
#[test]
fn each_rule_of_the_gate_is_named_and_is_what_the_guest_sees() {
    let daemon = Daemon::start(|_| {});
    let token = daemon.token();
    let get = "/latest/meta-data/instance-id";
    let long = format!("/latest/{}", "x".repeat(8192));
    let put_token = ["--method", "PUT", "--path", "/latest/api/token"];
    const TTL: &str = "X-aws-ec2-metadata-token-ttl-seconds: 60";
    let rows: Vec<(Vec<&str>, u16, &str)> = vec![
        (
            vec!["--path", get],
            401,
            "HttpTokens is required, and the request has no session token",
        ),
        (vec!["--path", get, "--token", &token], 200, "admitted"),
        (
            vec!["--path", get, "--token", "AQAEAgarbage"],
            401,
            "belongs to another instance or an earlier launch, has expired",
        ),
        (
            vec!["--path", "/latest/nope", "--token", &token],
            404,
            "the instance has nothing at this path",
        ),
        (
            vec![
                "--path",
                get,
                "--token",
                &token,
                "--header",
                "X-Forwarded-For: 10.0.0.9",
            ],
            403,
            "came through a proxy",
        ),
        (
            vec!["--path", get, "--header", "Host: attacker.example"],
            400,
            "guest.allowed_hosts can allow it",
        ),
        (
            vec!["--path", get, "--header", "Host: "],
            400,
            "Host is missing",
        ),
        (
            vec!["--path", "http://attacker.example/"],
            421,
            "names another server",
        ),
        (vec!["--path", &long], 431, "the maximum is 8192"),
        (["--header", "A: b"].repeat(64), 431, "65 header lines"),
        (
            vec!["--method", "POST", "--path", get],
            405,
            "metadata paths allow GET, HEAD and OPTIONS only",
        ),
        (
            vec!["--method", "OPTIONS", "--path", get],
            200,
            "lists the methods of a path for any caller",
        ),
        (
            vec!["--path", "/latest/api/token"],
            405,
            "the token path allows PUT and OPTIONS only",
        ),
        (
            vec![
                "--method",
                "PUT",
                "--path",
                "/1.0/api/token",
                "--header",
                TTL,
            ],
            403,
            "for exactly /latest/api/token",
        ),
        (
            [&put_token[..], &["--header", TTL]].concat(),
            200,
            "a session token is issued",
        ),
        (
            put_token.to_vec(),
            400,
            "must appear exactly once, with a value from 1 to 21600",
        ),
        (
            [
                &put_token[..],
                &["--header", "X-aws-ec2-metadata-token-ttl-seconds: 0"],
            ]
            .concat(),
            400,
            "must appear exactly once, with a value from 1 to 21600",
        ),
        (
            [
                &put_token[..],
                &["--header", TTL, "--header", "x-forwarded-for: "],
            ]
            .concat(),
            403,
            "through a proxy",
        ),
        (
            [
                &put_token[..],
                &["--header", TTL, "--header", "Origin: null"],
            ]
            .concat(),
            403,
            "guest.refuse_rebinding is on",
        ),
    ];
    for (arguments, status, rule) in rows {
        let explained = explain(&daemon, &[&["--listener", "demo"][..], &arguments].concat());
        let of = &explained["Explanations"][0];
        assert_eq!(
            (&of["InstanceId"], &of["Reached"]),
            (&json!(INSTANCE), &json!(true)),
            "{arguments:?} {explained}"
        );
        assert_eq!(of["Answer"]["Status"], status, "{arguments:?} {explained}");
        let said = of["Answer"]["Rule"].as_str().unwrap();
        assert!(said.contains(rule), "{arguments:?}: {said}");
        assert_eq!(
            ask(daemon.ipv4, &head(&arguments)).status,
            status,
            "{arguments:?}: the guest"
        );
    }
    let explained = explain(
        &daemon,
        &[
            "--listener",
            "demo",
            "--path",
            get,
            "--token",
            &token,
            "--body",
        ],
    );
    let answer = &explained["Explanations"][0]["Answer"];
    assert_eq!(
        (&answer["Status"], &answer["Rule"]),
        (&json!(413), &json!("the request has a body"))
    );
    let with_body = format!("GET {get} HTTP/1.1\r\nHost: imds\r\nContent-Length: 1\r\n\r\nx");
    assert_eq!(ask(daemon.ipv4, &with_body).status, 413);

    // The gate's first rules are the instance's own.
    for (change, status, rule) in [
        (
            json!({ "MetadataOptions": { "HttpEndpoint": "disabled" } }),
            Some(403),
            "HttpEndpoint is disabled",
        ),
        (
            json!({ "State": { "Name": "stopped" } }),
            None,
            "is not running",
        ),
    ] {
        let changed = document(|document| {
            for (field, value) in change.as_object().unwrap() {
                document[field] = value.clone();
            }
        });
        put(&daemon, &changed).done();
        let of =
            explain(&daemon, &["--listener", "demo", "--token", &token])["Explanations"][0].clone();
        assert_eq!(of["Answer"]["Status"].as_u64(), status, "{of}");
        assert!(
            of["Answer"]["Rule"].as_str().unwrap().contains(rule),
            "{of}"
        );
        let head = head(&["--path", get, "--token", &token]);
        assert_eq!(
            guest_asks(daemon.ipv4, &head).status,
            status.unwrap_or(0) as u16
        );
    }
    // An instance that does not run is reported as such, before anything about the attachment.
    for state in ["stopped", "terminated"] {
        put(
            &daemon,
            &document(|document| document["State"] = json!({ "Name": state })),
        )
        .done();
        for place in [&["--listener", "demo"][..], &[INSTANCE]] {
            let of = explain(&daemon, place)["Explanations"][0].clone();
            let why = format!("listener 'demo' belongs to {INSTANCE}, which is {state}");
            assert_eq!(
                (&of["Why"], &of["Reached"]),
                (&json!(why), &json!(false)),
                "{of}"
            );
        }
    }
}

/// The request of these arguments as a guest sends it.
fn head(arguments: &[&str]) -> String {
    let (mut method, mut path, mut headers) = ("GET", "/latest/meta-data/", String::new());
    let mut host = "Host: imds\r\n";
    for pair in arguments.chunks(2) {
        match pair[0] {
            "--method" => method = pair[1],
            "--path" => path = pair[1],
            "--token" => headers += &format!("X-aws-ec2-metadata-token: {}\r\n", pair[1]),
            _ => {
                headers += &format!("{}\r\n", pair[1]);
                host = if pair[1].starts_with("Host") {
                    ""
                } else {
                    host
                };
            }
        }
    }
    format!("{method} {path} HTTP/1.1\r\n{host}{headers}\r\n")
}

fn explain(daemon: &Daemon, arguments: &[&str]) -> Value {
    imdsd(
        daemon,
        &[&["instance", "explain", "--json"][..], arguments].concat(),
    )
    .json()
}

#[test]
fn each_reason_why_a_request_does_not_reach_the_gate_is_named() {
    let (daemon, ..) = with_listeners();
    put(&daemon, &guest(ONE, "one")).done();
    let why = |arguments: &[&str]| explain(&daemon, arguments)["Explanations"][0].clone();
    let said = |of: &Value| of["Why"].as_str().unwrap().to_string();

    let two = why(&["--listener", "two"]);
    assert_eq!(
        (said(&two).as_str(), &two["InstanceId"]),
        ("no instance claims listener 'two'", &Value::Null)
    );
    assert!(
        said(&why(&["--listener", "three"])).contains("the configuration has no listener 'three'")
    );
    assert!(said(&why(&["--interface", "tap7"])).contains("no instance claims interface 'tap7'"));
    assert!(
        said(&why(&["--namespace", "ns7"])).contains("no instance claims network namespace 'ns7'")
    );

    // By IPv6, which its listener has no address for, and which the demo's options close.
    assert!(said(&why(&["--listener", "one", "--ipv6"])).contains("has no IPv6 address"));
    let closed = why(&["--listener", "demo", "--ipv6"]);
    assert!(
        said(&closed).contains("does not listen on IPv6"),
        "{closed}"
    );
    assert_eq!(
        (&closed["Reached"], &closed["Answer"]["Rule"]),
        (&json!(false), &json!("HttpProtocolIpv6 is disabled"))
    );

    register(&daemon, &[guest(TWO, "one")]);
    let disputed = why(&["--listener", "one"]);
    assert_eq!(
        said(&disputed),
        format!("listener 'one' is claimed by {ONE} and {TWO}: none of them is served there")
    );
    assert_eq!(disputed["Answer"], Value::Null);
    imdsd(&daemon, &["instance", "delete", TWO]).done();

    // Each attachment of an instance, and the output for people.
    let text = imdsd(&daemon, &["instance", "explain", ONE]).done();
    assert!(
        text.starts_with(&format!("listener 'one': {ONE}\n")) && text.contains("200, admitted"),
        "{text}"
    );
    imdsd(&daemon, &["instance", "explain", TWO]).refused(1, &["there is no instance"]);
    imdsd(&daemon, &["instance", "explain"]).refused(1, &["say where the request comes in"]);
    imdsd(&daemon, &["instance", "explain", ONE, "--listener", "one"]).refused(1, &["name one"]);
    imdsd(&daemon, &["instance", "explain", "--address", "10.0.0"]).refused(2, &["invalid value"]);
}

#[test]
fn an_address_identifies_a_guest_only_where_it_can_be_trusted() {
    let (daemon, ..) = with_listeners();
    let mut of_lan = guest(ONE, "lan");
    of_lan["Imds"]["Attachments"] =
        json!([{ "SourceAddress": { "Listener": "lan", "Address": "127.0.0.5" } }]);
    put(&daemon, &of_lan).done();
    let lan = explain(&daemon, &["--listener", "lan", "--address", "127.0.0.5"]);
    assert_eq!(lan["Explanations"][0]["InstanceId"], ONE, "{lan}");
    let unknown = explain(&daemon, &["--listener", "lan", "--address", "127.0.0.6"]);
    assert_eq!(unknown["Explanations"][0]["InstanceId"], Value::Null);
    let all = explain(&daemon, &["--listener", "lan"]);
    assert!(
        all["Notes"][0]
            .as_str()
            .unwrap()
            .contains("--address selects one"),
        "{all}"
    );
    // Both documents have 10.0.0.10; the attachment decides.
    let owners = explain(&daemon, &["--address", "10.0.0.10"]);
    assert_eq!(
        owners["Explanations"].as_array().unwrap().len(),
        2,
        "{owners}"
    );
    assert!(
        owners["Notes"][0]
            .as_str()
            .unwrap()
            .contains("a guest can choose its address"),
        "{owners}"
    );
    let other = explain(&daemon, &["--listener", "demo", "--address", "10.9.9.9"]);
    assert!(
        other["Explanations"][0]["Why"]
            .as_str()
            .unwrap()
            .contains("does not have the address 10.9.9.9"),
        "{other}"
    );
    let none = explain(&daemon, &["--address", "10.9.9.9"]);
    assert_eq!(
        (
            none["Explanations"].clone(),
            none["Notes"].as_array().unwrap().len()
        ),
        (json!([]), 1)
    );
}

/// Links that are absent, down, or without the address, in a network namespace of the test.
#[test]
#[ignore = "needs root or user namespaces, and network namespaces; tests/all runs it"]
fn a_link_that_is_absent_or_down_or_lacks_the_address_is_named() {
    const SETUP: &str = "ip link set lo up && ip link add down0 type bridge && ip link add bare0 type bridge \
         && ip link set bare0 up";
    let host = Namespace::with_setup(SETUP);
    let directory = tempfile::tempdir().unwrap();
    let of_interface = |id: &str, interface: &str| {
        let mut document = guest(id, "");
        document["Imds"]["Attachments"] = json!([{ "Interface": interface }]);
        document
    };
    let namespace = {
        let mut document = guest("i-55555555", "");
        document["Imds"]["Attachments"] = json!([{ "NetworkNamespace": "nowhere" }]);
        document
    };
    // A path with a more exact error than that the file does not exist.
    let hidden = {
        let mut document = guest("i-66666666", "");
        document["Imds"]["Attachments"] = json!([{ "NetworkNamespace": "/proc/self/status/net" }]);
        document
    };
    let documents = json!([
        of_interface("i-11111111", "absent0"),
        of_interface("i-22222222", "down0"),
        of_interface("i-33333333", "bare0"),
        namespace,
        hidden,
    ]);
    std::fs::write(
        directory.path().join("instances.json"),
        documents.to_string(),
    )
    .unwrap();
    write_keys(&directory.path().join("access-keys.toml"));
    let config = "instances = \"instances.json\"\nstate_directory = \"state\"\nruntime_directory = \"run\"\n[interfaces]\n\
                  [log]\nformat = \"json\"\n";
    std::fs::write(directory.path().join("imdsd.toml"), config).unwrap();
    let (mut child, lines) = spawn_by(host.command(env!("CARGO_BIN_EXE_imdsd")), directory.path());
    while lines.recv_timeout(PATIENCE).expect("it starts")["message"] != "ready" {}

    // A Unix socket is a file: network namespaces do not separate it from the test.
    let socket = directory.path().join("run/admin.sock");
    let ask = |arguments: &[&str]| imdsd_at(&socket, arguments, "");
    for (place, name, why) in [
        (
            "--interface",
            "absent0",
            "interface 'absent0' waits: there is no interface 'absent0'",
        ),
        (
            "--interface",
            "down0",
            "interface 'down0' waits: interface 'down0' is not up",
        ),
        (
            "--interface",
            "bare0",
            "bare0 lacks the address: `imdsd check --host` says what to do",
        ),
        (
            "--namespace",
            "nowhere",
            "waits: there is no /run/netns/nowhere",
        ),
        (
            "--namespace",
            "/proc/self/status/net",
            "is not served: cannot read /proc/self/status/net: Not a directory",
        ),
    ] {
        let said = ask(&["instance", "explain", place, name]).done();
        assert!(said.contains(why), "{name}: {said}");
        assert!(
            said.contains("no request gets there; if one did: 200, admitted"),
            "{said}"
        );
    }
    let listeners = ask(&["listeners"]).done();
    for line in [
        "waits: there is no interface 'absent0'",
        "169.254.169.254:80 refused",
    ] {
        assert!(listeners.contains(line), "{line}: {listeners}");
    }
    // The advice works.
    let added = host
        .command("ip")
        .args(["address", "add", "169.254.169.254/32", "dev", "bare0"])
        .status()
        .unwrap();
    assert!(added.success());
    let began = std::time::Instant::now();
    while !ask(&["instance", "explain", "--interface", "bare0"])
        .done()
        .contains("imdsd listens on 169.254.169.254:80")
    {
        assert!(began.elapsed() < PATIENCE, "it is tried again");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let _ = child.kill();
    let _ = child.wait();
}
