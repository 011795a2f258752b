//! A guest's request without its bytes: what the gate decides.

#![expect(clippy::panic, reason = "a property that does not hold ends the run")]

use crate::guest::fuzzing::{GUARDED, NONCE, OPEN, origin_at, plane};
use crate::guest::gate::{TOKEN_PATH, TtlSeconds};
use crate::http::{Body, HttpVersion, RawRequest, Reply};

/// The rules of the gate, seen from outside. The input is text: flags, a method and a target in the
/// first line, then lines of headers. `{token}` stands for a valid token.
///
/// Where tokens are required, a read succeeds only with exactly one valid token. A token is issued
/// only to a PUT of exactly one path, with one lifetime, that comes neither through a proxy nor from
/// a browser. Only answers to PUT have a hop limit. An answer never repeats what was sent.
pub fn guest_request(data: &[u8]) {
    let plane = plane();
    let token = plane.token(GUARDED, 60, NONCE);
    let text = String::from_utf8_lossy(data).replace("{token}", &token);
    let mut lines = text.split('\n');
    let mut words = lines.next().unwrap_or_default().splitn(3, ' ');
    let mut next = || words.next().unwrap_or_default();
    let (flags, method, target) = (next(), next(), next());
    let headers: Vec<(String, &[u8])> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.as_bytes()))
        .collect();
    let headers: Vec<(&str, &[u8])> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), *value))
        .collect();
    let request = RawRequest {
        method,
        target,
        version: match flags.contains('0') {
            true => HttpVersion::Http10,
            false => HttpVersion::Http11,
        },
        headers: &headers,
        body: match flags.contains('b') {
            true => Body::NotEmpty,
            false => Body::Empty,
        },
    };
    for listener in [OPEN, GUARDED] {
        let origin = origin_at(listener);
        let answer = |request| {
            let reply = plane.guest.answer(&origin, request, plane.now, NONCE);
            reply.expect("both instances run")
        };
        let reply = answer(request);
        check(&request, &reply, listener, &token);
        if method == "GET" {
            let head = answer(RawRequest {
                method: "HEAD",
                ..request
            });
            assert_eq!(head.status, reply.status);
            assert_eq!(head.headers.as_slice(), reply.headers.as_slice());
        }
    }
}

fn check(request: &RawRequest<'_>, reply: &Reply<'_>, listener: &str, token: &str) {
    let status = reply.status;
    assert!(
        matches!(status, 200 | 400 | 401 | 403 | 404 | 405 | 413 | 421),
        "{status}"
    );
    assert_eq!(reply.hop_limit.is_some(), request.method == "PUT");
    if !matches!(status, 200 | 404) {
        assert!(reply.body.is_empty(), "{status} has a body");
    }
    if request.body != Body::Empty {
        assert_ne!(status, 200, "a body");
    }
    let values = |name: &str| -> Vec<&[u8]> {
        let named = request.headers.iter().filter(|(of, _)| *of == name);
        named.map(|(_, value)| value.trim_ascii()).collect()
    };
    let has = |is_it: fn(&str) -> bool| request.headers.iter().any(|(name, _)| is_it(name));
    let is_forwarded = has(|name| name.replace('_', "-") == "x-forwarded-for");
    let tokens = values("x-aws-ec2-metadata-token");
    match (request.method, status) {
        ("GET" | "HEAD", 200 | 404) => {
            let is_valid = listener == GUARDED && tokens == [token.as_bytes()] && !is_forwarded;
            let may_be_absent = listener == OPEN && tokens.is_empty();
            assert!(is_valid || may_be_absent, "{request:?}");
        }
        ("PUT", 200) => {
            assert_eq!(
                request.target.split('?').next().map(path_in),
                Some(TOKEN_PATH)
            );
            let lifetimes = values("x-aws-ec2-metadata-token-ttl-seconds");
            assert!(matches!(lifetimes[..], [ttl] if TtlSeconds::parse(ttl).is_some()));
            let is_of_browser =
                has(|name| name == "origin" || name == "referer" || name.starts_with("sec-fetch-"));
            assert!(!is_forwarded && !is_of_browser);
        }
        ("OPTIONS", 200) => assert!(reply.body.is_empty()),
        (_, 200 | 404) => panic!("{request:?} is {status}"),
        _ => {}
    }
    for (name, value) in reply.headers.as_slice() {
        let is_fine = |c: char| c.is_ascii_graphic() || c == ' ';
        assert!(value.to_string().chars().all(is_fine), "{name}: {value}");
    }
}

/// Returns the path of a target that may be absolute.
fn path_in(target: &str) -> &str {
    let Some((_, rest)) = target.split_once("://") else {
        return target;
    };
    rest.find('/').map_or("/", |at| &rest[at..])
}
