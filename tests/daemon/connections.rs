//! What a guest sees on the wire.

use std::io::Write as _;
use std::net::TcpStream;

use crate::support::{Daemon, PATIENCE, TOKEN_REQUEST, ask, read_to_end};

fn optional(instance: &mut serde_json::Value) {
    instance["MetadataOptions"]["HttpTokens"] = "optional".into();
}

/// Returns an answer with the values that differ between runs replaced.
fn without_dates(raw: &str, token: &str) -> String {
    let lines = raw.split("\r\n").map(|line| match line.split_once(": ") {
        Some((name @ ("Date" | "Last-Modified"), _)) => format!("{name}: <date>"),
        _ => line.to_string(),
    });
    let text = lines.collect::<Vec<_>>().join("\r\n");
    if token.is_empty() {
        text
    } else {
        text.replace(token, "<token>")
    }
}

/// Observed on EC2 (Nitro): six kinds of answer, to the byte. `cargo test -- --nocapture` prints
/// them.
#[test]
fn the_six_kinds_of_answer_equal_those_of_nitro_to_the_byte() {
    let daemon = Daemon::start(optional);
    let token = daemon.token();
    let page = concat!(
        "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>\n",
        "<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Transitional//EN\"\n",
        "\t\t \"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd\">\n",
        "<html xmlns=\"http://www.w3.org/1999/xhtml\" xml:lang=\"en\" lang=\"en\">\n",
        " <head>\n  <title>404 - Not Found</title>\n </head>\n <body>\n  <h1>404 - Not Found</h1>\n </body>\n</html>\n",
    );
    let ttl = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds: 21600\r\n";
    let end = "Date: <date>\r\nServer: EC2ws\r\nConnection: close\r\n";
    let value = format!(
        "Content-Type: text/plain\r\nAccept-Ranges: none\r\nLast-Modified: <date>\r\nContent-Length: 19\r\n{end}\r\n\
         i-0123456789abcdef0"
    );
    let get =
        |path: &str, header: &str| format!("GET {path} HTTP/1.1\r\nHost: imds\r\n{header}\r\n");
    let with_token = format!("X-aws-ec2-metadata-token:{token}\r\n");
    let id = "/latest/meta-data/instance-id";
    let cases = [
        ("GET 200, no token", get(id, ""), format!("HTTP/1.1 200 OK\r\n{value}")),
        ("GET 200, valid token", get(id, &with_token), format!("HTTP/1.1 200 OK\r\n{ttl}{value}")),
        (
            "token PUT 200",
            TOKEN_REQUEST.to_string(),
            format!("HTTP/1.1 200 OK\r\n{ttl}Content-Length: 56\r\n{end}Content-Type: text/plain\r\n\r\n<token>"),
        ),
        (
            "401",
            get(id, "X-aws-ec2-metadata-token: garbage\r\n"),
            format!("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n{end}Content-Type: text/plain\r\n\r\n"),
        ),
        (
            "403 with keep-alive",
            "PUT /latest/api/token/ HTTP/1.1\r\nHost: imds\r\nConnection: keep-alive\r\n\r\n".to_string(),
            "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nContent-Type: text/plain\r\nDate: <date>\r\nServer: EC2ws\r\n\r\n"
                .to_string(),
        ),
        (
            "404, valid token",
            get("/latest/nope", &with_token),
            format!("HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 339\r\n{ttl}{end}\r\n{page}"),
        ),
        (
            "405",
            get("/latest/api/token", ""),
            format!(
                "HTTP/1.1 405 Not Allowed\r\nAllow: OPTIONS, PUT\r\nContent-Length: 0\r\n{end}\
                 Content-Type: text/plain\r\n\r\n"
            ),
        ),
    ];
    for (name, request, expected) in cases {
        let mut stream = TcpStream::connect(daemon.ipv4).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let raw = read_to_end(&mut stream);
        let issued = if request.starts_with("PUT /latest/api/token ") {
            raw.rsplit("\r\n").next().unwrap()
        } else {
            ""
        };
        let seen = without_dates(&raw, issued);
        println!(
            "--- {name}\n{}\n--- the reference\n{}",
            seen.replace("\r\n", "\n"),
            expected.replace("\r\n", "\n")
        );
        assert_eq!(seen, expected, "{name}");
    }
}

#[test]
fn head_is_get_without_the_body() {
    let daemon = Daemon::start(optional);
    for path in [
        "/latest/meta-data/",
        "/latest/meta-data/instance-id",
        "/latest/user-data",
        "/nope",
        "/",
    ] {
        let get = daemon.get(path);
        let head = daemon.ask(&format!("HEAD {path} HTTP/1.1\r\nHost: imds\r\n\r\n"));
        assert_eq!(
            (head.status, head.body.as_str()),
            (get.status, ""),
            "{path}"
        );
        assert_eq!(
            head.header("Content-Length"),
            Some(get.body.len().to_string().as_str()),
            "{path}"
        );
    }
}

#[test]
fn an_http_1_0_request_needs_no_host_and_closes_the_connection() {
    let daemon = Daemon::start(optional);
    let answer =
        daemon.ask("GET /latest/meta-data/instance-id HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, "i-0123456789abcdef0")
    );
}

#[test]
fn a_kept_alive_connection_serves_requests_until_a_token_answer_closes_it() {
    let daemon = Daemon::start(optional);
    let get = "GET /latest/meta-data/instance-id HTTP/1.1\r\nHost: imds\r\nConnection: keep-alive\r\n\r\n";
    let put = TOKEN_REQUEST.replace("\r\n\r\n", "\r\nConnection: keep-alive\r\n\r\n");
    let raw = ask(daemon.ipv4, &format!("{get}{get}{put}{get}")).raw;
    assert_eq!(raw.matches("HTTP/1.1 200 OK").count(), 3, "{raw}");
    assert_eq!(raw.matches("Connection: close").count(), 1, "{raw}");
}

/// Real clients send an empty chunked body with the token PUT, some with `Expect: 100-continue`.
#[test]
fn an_empty_body_is_accepted_however_it_is_framed() {
    let daemon = Daemon::start(optional);
    let put = TOKEN_REQUEST.trim_end();
    for (framing, body) in [
        ("Content-Length: 0", ""),
        ("Transfer-Encoding: chunked", "0\r\n\r\n"),
        (
            "Transfer-Encoding: chunked\r\nExpect: 100-continue",
            "0\r\n\r\n",
        ),
    ] {
        let answer = daemon.ask(&format!("{put}\r\n{framing}\r\n\r\n{body}"));
        let raw = answer
            .raw
            .trim_start_matches("HTTP/1.1 100 Continue\r\n\r\n");
        assert!(raw.starts_with("HTTP/1.1 200 OK\r\n"), "{framing}: {raw}");
    }
}

/// Every row is refused, and a request that is smuggled behind it gets no answer.
#[test]
fn ambiguous_requests_are_refused_and_end_the_connection() {
    let daemon = Daemon::start(optional);
    let follow_up = "GET /latest/meta-data/instance-id HTTP/1.1\r\nHost: imds\r\n\r\n";
    let long = "a".repeat(9000);
    let many = "X: y\r\n".repeat(65);
    let rows: &[(&str, u16)] = &[
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: attacker.example\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: u@imds\r\n\r\n", 400),
        ("GET / HTTP/1.1\nHost: imds\n\n", 400),
        ("GET / HTTP/1.1\r\nHost: imds\r\nX: a\nY: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: imds\r\n folded\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost : imds\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: imds\r\nX: a\0b\r\n\r\n", 400),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: imds\r\n\r\n", 400),
        ("GET /#x HTTP/1.1\r\nHost: imds\r\n\r\n", 400),
        ("GET  / HTTP/1.1\r\nHost: imds\r\n\r\n", 400),
        ("GET / HTTP/2.0\r\nHost: imds\r\n\r\n", 400),
        ("GET\r\n\r\n", 400),
        ("\u{16}\u{3}\u{1}\u{0}hello", 400),
        (
            "GET http://attacker.example/ HTTP/1.1\r\nHost: imds\r\n\r\n",
            421,
        ),
        (
            "GET / HTTP/1.1\r\nHost: imds\r\nContent-Length: 1\r\n\r\nx",
            413,
        ),
        (
            "GET / HTTP/1.1\r\nHost: imds\r\nContent-Length: 1000000\r\n\r\nx",
            413,
        ),
        (
            "PUT /latest/api/token HTTP/1.1\r\nHost: imds\r\nContent-Length: 4\r\n\r\nabcd",
            413,
        ),
        (
            "GET / HTTP/1.1\r\nHost: imds\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
            413,
        ),
        (
            "GET / HTTP/1.1\r\nHost: imds\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: y\r\n\r\n",
            413,
        ),
        (
            "GET / HTTP/1.1\r\nHost: imds\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "GET / HTTP/1.1\r\nHost: imds\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "GET / HTTP/1.1\r\nHost: imds\r\nContent-Length: +0\r\n\r\n",
            400,
        ),
        (
            "GET / HTTP/1.1\r\nHost: imds\r\nContent-Length: 0\r\nContent-Length: 1\r\n\r\nx",
            400,
        ),
    ];
    for (request, status) in rows {
        let raw = ask(daemon.ipv4, &format!("{request}{follow_up}")).raw;
        assert!(
            raw.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request:?}: {raw:?}"
        );
        assert_eq!(raw.matches("HTTP/1.1 ").count(), 1, "{request:?}: {raw:?}");
        assert!(!raw.contains("i-0123456789abcdef0"), "{request:?}: {raw:?}");
    }
    for head in [format!("X: {long}\r\n"), many] {
        let raw = ask(
            daemon.ipv4,
            &format!("GET / HTTP/1.1\r\nHost: imds\r\n{head}\r\n{follow_up}"),
        )
        .raw;
        assert!(raw.starts_with("HTTP/1.1 431 "), "{raw:?}");
    }
}

#[test]
fn unknown_methods_are_405_whatever_their_target() {
    let daemon = Daemon::start(optional);
    for request in [
        "CONNECT imds:80",
        "CONNECT /x",
        "TRACE /",
        "get /",
        "FOO /",
        "OPTIONS *",
        "DELETE /latest/",
    ] {
        let answer = daemon.ask(&format!("{request} HTTP/1.1\r\nHost: imds\r\n\r\n"));
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (405, ""),
            "{request}"
        );
        assert!(
            answer.raw.starts_with("HTTP/1.1 405 Not Allowed\r\n"),
            "{request}"
        );
    }
}

/// RFC 9110, section 15.5.9. A connection on which nothing was asked is closed without an answer.
/// The admin socket's limits are tested in `src/admin/tests/socket.rs`.
#[test]
fn a_request_that_does_not_end_in_time_is_answered_408() {
    let daemon = Daemon::start_with("[guest]\nhead_seconds = 1", optional);
    let (guest, control) = (daemon.ipv4, daemon.control);
    let put = TOKEN_REQUEST.trim_end();
    let rows = [
        (guest, "GET /latest/ HTTP/1.1\r\nHos".to_string(), true),
        (guest, "G".to_string(), true),
        (
            guest,
            "GET /latest/ HTTP/1.1\r\nHost: imds\r\n".to_string(),
            true,
        ),
        (
            guest,
            format!("{put}\r\nTransfer-Encoding: chunked\r\n\r\n"),
            true,
        ),
        (
            guest,
            format!("{put}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"),
            true,
        ),
        (guest, String::new(), false),
        (control, "POST / HTTP/1.1\r\nHos".to_string(), true),
        (
            control,
            "POST / HTTP/1.1\r\nHost: ec2\r\nContent-Length: 9\r\n\r\nAct".to_string(),
            true,
        ),
        (control, String::new(), false),
    ];
    let asked = rows.each_ref().map(|(address, request, _)| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    });
    for ((address, request, is_answered), mut stream) in rows.into_iter().zip(asked) {
        let raw = read_to_end(&mut stream);
        if !is_answered {
            assert_eq!(raw, "", "{address}");
            continue;
        }
        assert!(
            raw.starts_with("HTTP/1.1 408 Request Timeout\r\n"),
            "{request:?}: {raw:?}"
        );
        let head = raw.to_ascii_lowercase();
        let server = if address == guest {
            "ec2ws"
        } else {
            "amazonec2"
        };
        assert!(head.contains(&format!("\r\nserver: {server}\r\n")), "{raw}");
        assert!(head.contains("\r\nconnection: close\r\n"), "{raw}");
        assert!(head.contains("\r\ndate: "), "{raw}");
        assert_eq!(
            raw.contains("<Code>RequestTimeout</Code>"),
            address == control,
            "{raw}"
        );
    }
}

/// What the HTTP parser refuses looks like every other answer of its plane.
#[test]
fn what_the_parser_refuses_is_answered_with_the_headers_of_the_plane() {
    let daemon = Daemon::start(optional);
    let large = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "a".repeat(9000)
    );
    for (request, status) in [
        ("hello\r\n\r\n", "400 Bad Request"),
        (&large, "431 Request Header Fields Too Large"),
    ] {
        let expected = format!(
            "HTTP/1.1 {status}\r\nContent-Length: 0\r\nDate: <date>\r\nServer: EC2ws\r\nConnection: close\r\n\
             Content-Type: text/plain\r\n\r\n"
        );
        assert_eq!(without_dates(&daemon.ask(request).raw, ""), expected);
        let answer = ask(daemon.control, request);
        assert!(
            answer.raw.starts_with(&format!("HTTP/1.1 {status}\r\n")),
            "{}",
            answer.raw
        );
        assert_eq!(answer.header("server"), Some("AmazonEC2"));
        assert!(
            answer.header("date").is_some() && answer.body.contains("<Errors><Error><Code>"),
            "{}",
            answer.raw
        );
    }
    // It is the answer of the gate, not of the parser, if the endpoint is disabled.
    let disabled =
        Daemon::start(|instance| instance["MetadataOptions"]["HttpEndpoint"] = "disabled".into());
    let refused = disabled.get("/latest/");
    assert_eq!(
        without_dates(&disabled.ask("hello\r\n\r\n").raw, ""),
        without_dates(&refused.raw, "")
    );
}

#[test]
fn the_ipv6_listener_is_closed_unless_it_is_enabled() {
    let closed = Daemon::start(optional);
    let refused = TcpStream::connect_timeout(&closed.ipv6, PATIENCE).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);

    let open = Daemon::start(|instance| {
        optional(instance);
        instance["MetadataOptions"]["HttpProtocolIpv6"] = "enabled".into();
    });
    assert_eq!(
        ask(open.ipv6, "GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n").status,
        200
    );
}

#[test]
fn each_plane_refuses_the_others_requests() {
    let daemon = Daemon::start(optional);
    let guest_at_control = ask(
        daemon.control,
        "GET /latest/meta-data/ HTTP/1.1\r\nHost: imds\r\nConnection: close\r\n\r\n",
    );
    assert_ne!(guest_at_control.status, 200);
    assert!(!guest_at_control.body.contains("instance-id"));
    let control_at_guest = daemon.get("/?Action=DescribeInstances&Version=2016-11-15");
    assert!(
        control_at_guest.body.starts_with("1.0\n"),
        "the guest plane ignores a query"
    );
    let post = "POST / HTTP/1.1\r\nHost: imds\r\nContent-Length: 6\r\n\r\nAction";
    assert_eq!(daemon.ask(post).status, 413);
}

#[test]
fn the_control_endpoint_requires_the_length_of_a_body() {
    let daemon = Daemon::start(optional);
    for (framing, body, status, sentence) in [
        (
            "Transfer-Encoding: chunked",
            "6\r\nAction\r\n0\r\n\r\n",
            411,
            "needs the header Content-Length",
        ),
        ("Content-Length: 65537", "", 413, "at most 65536 bytes"),
    ] {
        let answer = ask(
            daemon.control,
            &format!("POST / HTTP/1.1\r\nHost: ec2\r\n{framing}\r\n\r\n{body}"),
        );
        assert_eq!(
            (answer.status, answer.body.contains(sentence)),
            (status, true),
            "{}",
            answer.body
        );
    }
}

/// Slow heads take every connection slot. An honest client on the same machine is still answered.
#[test]
fn a_connection_without_a_request_is_evicted_for_a_new_one() {
    let daemon = Daemon::start_with("[guest]\nconnections = 20\nhead_seconds = 60", optional);
    let slow = || {
        let mut stream = TcpStream::connect(daemon.ipv4).unwrap();
        stream.write_all(b"GET / HT").unwrap();
        stream
    };
    let held: Vec<TcpStream> = (0..60).map(|_| slow()).collect();
    for _ in 0..20 {
        assert_eq!(daemon.get("/latest/meta-data/instance-id").status, 200);
    }
    drop(held);
}
