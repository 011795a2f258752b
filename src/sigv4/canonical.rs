//! The canonical request: the one spelling of a request that both sides sign, for services other than S3.

use hyper::HeaderMap;

use super::{AuthError, HttpRequest};

/// A decoded query: names and values as bytes, since a signature covers bytes that need not be text.
pub(super) type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// The bytes to hash. `query` is the decoded query, `list` the SignedHeaders as the caller spelled them.
pub(super) fn request(
    request: &HttpRequest<'_>,
    query: Pairs,
    signed_headers: &[&str],
    list: &str,
    payload_hash: &str,
) -> Result<Vec<u8>, AuthError> {
    let mut bytes = Vec::with_capacity(512);
    for line in [request.method, &path(request.path), &self::query(query)] {
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
    }
    for name in signed_headers {
        header(&mut bytes, name, request.headers)?;
    }
    bytes.push(b'\n');
    bytes.extend_from_slice(list.as_bytes());
    bytes.push(b'\n');
    bytes.extend_from_slice(payload_hash.as_bytes());
    Ok(bytes)
}

/// Dot segments resolved and empty segments dropped, then every segment escaped, including the escapes it already has.
fn path(raw: &str) -> String {
    let mut segments = Vec::new();
    for segment in raw.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            other => segments.push(escape(other.as_bytes())),
        }
    }
    let last = if raw.ends_with('/') && !segments.is_empty() {
        "/"
    } else {
        ""
    };
    format!("/{}{last}", segments.join("/"))
}

/// Escaped anew and sorted by name, then value; the signature itself is left out, the session token is not.
fn query(pairs: Pairs) -> String {
    let signed = pairs
        .into_iter()
        .filter(|(name, _)| name != b"X-Amz-Signature");
    let mut pairs: Vec<_> = signed
        .map(|(name, value)| (escape(&name), escape(&value)))
        .collect();
    pairs.sort();
    let pairs: Vec<_> = pairs
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("&")
}

/// `name:value`, blanks trimmed and collapsed, repeated fields joined with a comma in the order they came.
fn header(into: &mut Vec<u8>, name: &str, headers: &HeaderMap) -> Result<(), AuthError> {
    let values: Vec<_> = headers
        .get_all(name)
        .iter()
        .map(|value| collapse(value.as_bytes()))
        .collect();
    if values.is_empty() {
        return Err(AuthError::Incomplete(format!(
            "The signed header '{name}' is not in the request."
        )));
    }
    into.extend_from_slice(name.as_bytes());
    into.push(b':');
    into.extend_from_slice(&values.join(&b','));
    into.push(b'\n');
    Ok(())
}

fn collapse(value: &[u8]) -> Vec<u8> {
    let words = value
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(&b' ')
}

/// Everything but the unreserved characters as `%XX`, upper-case.
fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                text.push(byte.into())
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// The names and values of a query, decoded; `None` when an escape is bad. A name without `=` has an empty value.
pub(super) fn query_pairs(query: &str) -> Option<Pairs> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((
                decode_form(name.as_bytes())?,
                decode_form(value.as_bytes())?,
            ))
        })
        .collect()
}

/// Decodes `application/x-www-form-urlencoded`: `+` is a space, `%XX` a byte; `None` when an escape is bad.
///
/// The signature and the parameters are read with the same decoder, so they can't differ about what was signed.
pub fn decode_form(raw: &[u8]) -> Option<Vec<u8>> {
    let nibble = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.iter().copied();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => nibble(rest.next()?)? << 4 | nibble(rest.next()?)?,
            other => other,
        });
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_normalised_and_escaped_once_more() {
        for (raw, canonical) in [
            ("", "/"),
            ("/", "/"),
            ("//", "/"),
            ("/./", "/"),
            ("/example/..", "/"),
            ("/../../x", "/x"),
            // As boto3 has it; Amazon's signer for Rust ends both with a slash.
            ("/a/.", "/a"),
            ("/a/b/..", "/a"),
            ("//example//", "/example/"),
            ("/ec2/v1", "/ec2/v1"),
            ("/example space/", "/example%20space/"),
            ("/a%3Ab", "/a%253Ab"),
            ("/ሴ", "/%E1%88%B4"),
        ] {
            assert_eq!(path(raw), canonical, "{raw:?}");
        }
    }

    #[test]
    fn a_query_is_decoded_escaped_and_sorted() {
        for (raw, canonical) in [
            ("", ""),
            ("b=2&a=1", "a=1&b=2"),
            ("a=2&a=1", "a=1&a=2"),
            ("a=x+y&b=x%20y", "a=x%20y&b=x%20y"),
            ("a=%7e%2f*", "a=~%2F%2A"),
            ("a&&b=", "a=&b="),
            ("a=b=c", "a=b%3Dc"),
            (
                "X-Amz-Signature=00&X-Amz-Security-Token=t",
                "X-Amz-Security-Token=t",
            ),
            (
                "Param-3=Value3&Param=Value2&%E1%88%B4=Value1",
                "%E1%88%B4=Value1&Param=Value2&Param-3=Value3",
            ),
        ] {
            assert_eq!(query(query_pairs(raw).unwrap()), canonical, "{raw:?}");
        }
        for bad in ["%", "a=%", "a=%4", "a=%zz", "a=%+1", "%4\u{e9}=1", "a=%-1"] {
            assert_eq!(query_pairs(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn blanks_in_a_header_are_trimmed_and_collapsed() {
        for (raw, canonical) in [
            (" value1", "value1"),
            ("\"a   b\t c\" ", "\"a b c\""),
            ("", ""),
            ("  ", ""),
        ] {
            assert_eq!(collapse(raw.as_bytes()), canonical.as_bytes(), "{raw:?}");
        }
    }
}
