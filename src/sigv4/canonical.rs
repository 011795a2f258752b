//! The canonical request: the form of a request that is signed, for services other than S3.
//!
//! The verifier and the signer share it, so they cannot disagree about it.

use hyper::HeaderMap;

use super::auth_error::AuthError;
use super::http_request::HttpRequest;

/// The decoded names and values of a query. They are bytes because a signature covers bytes that
/// need not be text.
pub(super) type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// Returns the bytes to hash. `query` is the decoded query, `list` is SignedHeaders as the caller
/// wrote it.
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

/// Resolves dot segments, removes empty segments and escapes each segment, including the escapes
/// that it already has.
pub(super) fn path(raw: &str) -> String {
    let mut segments = Vec::new();
    for segment in raw.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            other => segments.push(percent_encode(other.as_bytes())),
        }
    }
    let last = if raw.ends_with('/') && !segments.is_empty() {
        "/"
    } else {
        ""
    };
    format!("/{}{last}", segments.join("/"))
}

/// Escapes the pairs and sorts them by name and value. Omits the signature, but not the session
/// token.
pub(super) fn query(pairs: Pairs) -> String {
    let signed = pairs
        .into_iter()
        .filter(|(name, _)| name != b"X-Amz-Signature");
    let mut pairs: Vec<_> = signed
        .map(|(name, value)| (percent_encode(&name), percent_encode(&value)))
        .collect();
    pairs.sort();
    let pairs: Vec<_> = pairs
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("&")
}

/// Appends `name:value` with blanks trimmed and collapsed. Joins repeated fields with commas, in
/// their order.
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

/// Returns the text with every byte but the unreserved characters of RFC 3986 as `%XX` in upper
/// case.
pub fn percent_encode(bytes: &[u8]) -> String {
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

/// Decodes the names and values of a query; `None` if an escape is malformed. A name without `=`
/// has an empty value.
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

/// Decodes `application/x-www-form-urlencoded`: `+` is a space, `%XX` a byte. Returns `None` if an
/// escape is malformed.
///
/// The verifier and the control endpoint use this one decoder, so they cannot disagree about what
/// was signed.
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
    fn a_path_is_normalised_and_escaped_again() {
        for (raw, canonical) in [
            ("", "/"),
            ("/", "/"),
            ("//", "/"),
            ("/./", "/"),
            ("/example/..", "/"),
            ("/../../x", "/x"),
            // As boto3 signs them. Amazon's signer for Rust ends both with a slash.
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
