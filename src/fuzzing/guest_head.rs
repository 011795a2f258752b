//! The head of a guest's request: what the parser reads behind the head filter, a second reader
//! reads too.

use parking_lot::Mutex;

use crate::guest::fuzzing::ALLOWED_HOST;
use crate::guest::request::{GuestRequest, HostRule};
use crate::http::{Body, HttpVersion, RawRequest};
use crate::net::fuzzing::{filtered, read_heads};

/// A head as one of the two readers reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct HeadRead {
    method: String,
    target: String,
    version: HttpVersion,
    headers: Vec<(String, Vec<u8>)>,
    body: Body,
}

/// The head filter, hyper and `GuestRequest::read`. A filtered head is never read in two ways: every
/// request that hyper delivers is the next one that a strict reader of its own finds in the same
/// bytes, and how the bytes are fragmented changes nothing.
pub fn guest_head(data: &[u8]) {
    let Some((&piece, bytes)) = data.split_first() else {
        return;
    };
    let piece = usize::from(piece) + 1;
    let passed = filtered(bytes, bytes.len().max(1));
    assert_eq!(passed, filtered(bytes, piece), "fragments");
    assert_eq!(passed.len(), bytes.len());
    let differs = |(before, after): (&u8, &u8)| before != after && *after != 0;
    assert!(
        !bytes.iter().zip(&passed).any(differs),
        "only NUL is put in"
    );

    let by_hyper = heads_of(&passed, passed.len().max(1));
    assert_eq!(by_hyper, heads_of(&passed, piece), "fragments");
    let mut rest = passed.as_slice();
    for (number, head) in by_hyper.iter().enumerate() {
        let (other, after) = read_strictly(rest).expect("hyper read a head here");
        rest = after;
        assert_eq!(grouped(&other), grouped(head));
        assert_eq!(meaning(&other), meaning(head));
        if head.body != Body::Empty || has_framing(head) {
            // What follows is a body, and not this reader's concern.
            break;
        }
        assert!(number < 10_000, "as many heads as bytes");
    }
}

fn heads_of(bytes: &[u8], piece: usize) -> Vec<HeadRead> {
    let heads = Mutex::new(Vec::new());
    read_heads(bytes, piece, |request| {
        heads.lock().push(HeadRead {
            method: request.method.to_string(),
            target: request.target.to_string(),
            version: request.version,
            headers: request
                .headers
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_vec()))
                .collect(),
            body: request.body,
        });
    });
    heads.into_inner()
}

/// Reads one head as RFC 9112 has it, without any leniency but one empty line before it. Returns the
/// head and the bytes after it.
fn read_strictly(bytes: &[u8]) -> Option<(HeadRead, &[u8])> {
    let bytes = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let (head, after) = (&bytes[..end], &bytes[end + 4..]);
    let mut lines = split_lines(head).into_iter();
    let request_line = std::str::from_utf8(lines.next()?).ok()?;
    let words: Vec<&str> = request_line.split(' ').collect();
    let [method, target, version] = words[..] else {
        return None;
    };
    let version = match version {
        "HTTP/1.0" => HttpVersion::Http10,
        "HTTP/1.1" => HttpVersion::Http11,
        _ => return None,
    };
    let mut headers = Vec::new();
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = std::str::from_utf8(&line[..colon]).ok()?;
        let value = trim_blanks(&line[colon + 1..]);
        headers.push((name.to_ascii_lowercase(), value.to_vec()));
    }
    let head = HeadRead {
        method: method.to_string(),
        target: with_path(target),
        version,
        headers,
        body: Body::Empty,
    };
    Some((head, after))
}

/// Returns a target as hyper prints it: an absolute one has a path, and the schemes of HTTP are in
/// lower case.
fn with_path(target: &str) -> String {
    let Some((scheme, rest)) = target
        .split_once("://")
        .filter(|_| !target.starts_with('/'))
    else {
        return target.to_string();
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let lower = scheme.to_ascii_lowercase();
    let scheme = match lower.as_str() {
        "http" | "https" => &lower,
        _ => scheme,
    };
    let slash = if path.starts_with('/') { "" } else { "/" };
    format!("{scheme}://{authority}{slash}{path}")
}

fn split_lines(head: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    let mut rest = head;
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        lines.push(&rest[..end]);
        rest = &rest[end + 2..];
    }
    lines.push(rest);
    lines
}

fn trim_blanks(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Returns a head whose header lines are in the order of their names: hyper keeps only the order of
/// lines with one name. The body is left out, since the strict reader does not look for one.
fn grouped(head: &HeadRead) -> HeadRead {
    let mut head = head.clone();
    head.headers.sort_by(|one, other| one.0.cmp(&other.0));
    // Hyper reads equal lengths as one, as RFC 9112 section 6.3 allows, also with zeros before them.
    head.headers.dedup_by(|one, other| {
        let [one, other] = [one, other].map(|(name, value)| {
            let value = String::from_utf8_lossy(value).parse::<u64>().ok();
            value.filter(|_| name == "content-length")
        });
        one.is_some() && one == other
    });
    head.body = Body::Empty;
    head
}

fn has_framing(head: &HeadRead) -> bool {
    let framing = ["content-length", "transfer-encoding", "upgrade"];
    head.method == "CONNECT"
        || head
            .headers
            .iter()
            .any(|(name, _)| framing.contains(&name.as_str()))
}

/// Returns what the guest plane makes of a head, as text.
fn meaning(head: &HeadRead) -> String {
    let hosts = HostRule::Known(vec![ALLOWED_HOST.to_string()]);
    let headers: Vec<(&str, &[u8])> = head
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_slice()))
        .collect();
    let raw = RawRequest {
        method: &head.method,
        target: &head.target,
        version: head.version,
        headers: &headers,
        body: Body::Empty,
    };
    format!("{:?}", GuestRequest::read(raw, &hosts))
}
