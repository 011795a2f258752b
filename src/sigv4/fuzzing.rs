//! Fuzz targets of signatures: the parameters of a request, the canonical form, and that the verifier
//! accepts nothing but what was signed.

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use jiff::Timestamp;

use super::access_key_file::is_key_id;
use super::sign::{Post, sign};
use super::{
    AccessKey, AuthError, HttpRequest, Regions, Scope, Signer, canonical, claimed_key_id,
    decode_form, percent_encode, verify,
};
use crate::secret::Secret;

const KEY_ID: &str = "AKIDEXAMPLE";

fn key(session_token: Option<&str>) -> AccessKey {
    AccessKey {
        access_key_id: KEY_ID.to_string(),
        secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
        session_token: session_token.map(Secret::new),
    }
}

fn now() -> Timestamp {
    "2015-08-30T12:36:00Z".parse().expect("a time")
}

fn verified(request: &HttpRequest<'_>, key: &AccessKey) -> Result<Signer, AuthError> {
    let regions = Regions::These(vec!["us-east-1".to_string()]);
    let scope = Scope {
        regions: &regions,
        services: &["service", "ec2"],
    };
    let lookup = |id: &str| (id == key.access_key_id).then_some(key);
    verify(request, lookup, &scope, now())
}

/// A request with its signature parameters in the header or in the query.
///
/// The input is text: the method and the target, header lines, an empty line, the body. Line feeds
/// end lines. What is accepted has a signature of the key for exactly these bytes: with one more byte
/// in the body it is refused.
pub fn authorization(data: &[u8]) {
    let Some((head, body)) = split_once(data, b"\n\n") else {
        return;
    };
    let Ok(head) = std::str::from_utf8(head) else {
        return;
    };
    let mut lines = head.split('\n');
    let Some((method, target)) = lines.next().and_then(|line| line.split_once(' ')) else {
        return;
    };
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let name = HeaderName::from_bytes(name.as_bytes());
        let value = HeaderValue::from_str(value.trim_matches([' ', '\t']));
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let request = HttpRequest {
        method,
        path,
        query,
        headers: &headers,
        body,
    };
    if let Some(id) = claimed_key_id(&request) {
        assert!(is_key_id(&id), "{id:?} would be logged");
    }
    for key in [key(None), key(Some("session-token"))] {
        match verified(&request, &key) {
            Ok(signer) => {
                assert_eq!(signer.access_key_id, KEY_ID);
                assert_eq!(signer.region, "us-east-1");
                assert!(["service", "ec2"].contains(&signer.service.as_str()));
                assert_eq!(claimed_key_id(&request).as_deref(), Some(KEY_ID));
                let longer = [body, b"\0"].concat();
                let other = HttpRequest {
                    body: &longer,
                    ..request
                };
                assert!(verified(&other, &key).is_err());
            }
            Err(error) => assert!(matches!(error.status(), 400 | 401 | 403), "{error}"),
        }
    }
}

/// A form that our signer signed is accepted, and after any change of what the signature covers it
/// is refused.
///
/// The input: the kind of the change, its place and its byte, whether there is a session token, and
/// then the path, a line feed and the body.
pub fn signed_post(data: &[u8]) {
    let Some((&[kind, place, byte, has_token], rest)) = data.split_first_chunk() else {
        return;
    };
    let (path, body) = split_once(rest, b"\n").unwrap_or((b"", rest));
    let path = path.iter().filter(|byte| byte.is_ascii_graphic());
    let path: String = path.map(|byte| char::from(*byte)).collect();
    let path = format!("/{}", path.replace(['?', '#'], ""));
    let key = key((has_token % 2 == 1).then_some("session-token"));
    let post = Post {
        host: "ec2.example",
        path: &path,
        content_type: "application/x-www-form-urlencoded",
        body,
    };
    let headers = sign(&post, &key, "us-east-1", "ec2", now()).expect("nothing odd is signed");
    let request = HttpRequest {
        method: "POST",
        path: &path,
        query: "",
        headers: &headers,
        body,
    };
    assert!(verified(&request, &key).is_ok());
    assert_eq!(claimed_key_id(&request).as_deref(), Some(KEY_ID));

    let is_refused = |request: &HttpRequest<'_>| verified(request, &key).is_err();
    match kind % 4 {
        0 => {
            let other = changed(body, place, byte);
            let request = HttpRequest {
                body: &other,
                ..request
            };
            assert_eq!(is_refused(&request), other != body);
        }
        1 => {
            let other =
                String::from_utf8_lossy(&changed(path.as_bytes(), place, byte)).into_owned();
            let request = HttpRequest {
                path: &other,
                ..request
            };
            assert_eq!(
                is_refused(&request),
                canonical::path(&other) != canonical::path(&path)
            );
        }
        2 => {
            let names: Vec<HeaderName> = headers.keys().cloned().collect();
            let name = &names[usize::from(place) % names.len()];
            let mut value = headers[name].as_bytes().to_vec();
            let at = value.len() - 1 - usize::from(place) % value.len();
            value[at] = byte;
            let Ok(value) = HeaderValue::from_bytes(&value) else {
                return;
            };
            let is_same = value == headers[name];
            let mut headers = headers.clone();
            headers.insert(name, value);
            let request = HttpRequest {
                headers: &headers,
                ..request
            };
            // A comma or a blank between the parts of Authorization may be another one.
            if name != "authorization" {
                assert_eq!(is_refused(&request), !is_same, "{name}");
            }
        }
        _ => {
            let mut headers = headers.clone();
            headers.insert("x-amz-added", HeaderValue::from_static("1"));
            let request = HttpRequest {
                headers: &headers,
                ..request
            };
            assert!(is_refused(&request), "a header that is not signed");
        }
    }
}

fn changed(bytes: &[u8], place: u8, byte: u8) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    match bytes.len() {
        0 => bytes.push(byte),
        length => bytes[usize::from(place) % length] = byte,
    }
    bytes
}

fn split_once<'d>(data: &'d [u8], separator: &[u8]) -> Option<(&'d [u8], &'d [u8])> {
    let at = data
        .windows(separator.len())
        .position(|window| window == separator)?;
    Some((&data[..at], &data[at + separator.len()..]))
}

/// The canonical form: what is escaped and decoded again is the same, the canonical query is the
/// canonical form of itself whatever the order of the pairs was, and a canonical path has no segments
/// left to resolve.
pub fn canonicalization(data: &[u8]) {
    let escaped = percent_encode(data);
    assert_eq!(decode_form(escaped.as_bytes()).as_deref(), Some(data));
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    assert!(escaped.bytes().all(|byte| unreserved(byte) || byte == b'%'));
    if let Some(decoded) = decode_form(data) {
        let again = percent_encode(&decoded);
        assert_eq!(decode_form(again.as_bytes()), Some(decoded));
    } else {
        assert!(data.contains(&b'%'), "only an escape can be malformed");
    }

    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Some(pairs) = canonical::query_pairs(text) {
        let mut reversed = pairs.clone();
        reversed.reverse();
        let printed = canonical::query(pairs);
        assert_eq!(canonical::query(reversed), printed);
        let again = canonical::query_pairs(&printed).expect("what is printed can be read");
        assert!(again.iter().all(|(name, _)| name != b"X-Amz-Signature"));
        assert_eq!(canonical::query(again), printed);
    }

    let path = canonical::path(text);
    assert!(path.starts_with('/'));
    let inner = path.strip_suffix('/').unwrap_or(&path);
    let mut segments = inner.split('/').skip(1);
    assert!(segments.all(|segment| !["", ".", ".."].contains(&segment)));
    assert!(
        path.bytes()
            .all(|byte| unreserved(byte) || b"/%".contains(&byte))
    );
    assert_eq!(canonical::path(&format!("/gone/../{text}")), path);
    assert_eq!(canonical::path(&text.replace('/', "//./")), path);
}
