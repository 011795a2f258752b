//! The signer: signs a form POST in its header fields.
//!
//! Not supported, because nothing here needs them: other methods, queries, presigned requests, S3.

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, InvalidHeaderValue};
use jiff::Timestamp;

use super::access_key::AccessKey;
use super::canonical;
use super::http_request::HttpRequest;
use super::signature::{payload_hash, signature};
use crate::secret::Secret;

/// A POST to be signed.
#[derive(Clone, Copy, Debug)]
pub struct Post<'a> {
    /// The `Host` field, with the port unless it is the default port of the scheme.
    pub host: &'a str,
    /// The path as it is sent.
    pub path: &'a str,
    /// The `Content-Type` field.
    pub content_type: &'a str,
    /// The whole body.
    pub body: &'a [u8],
}

const DATE: &str = "x-amz-date";
const SECURITY_TOKEN: &str = "x-amz-security-token";

/// Returns the header fields of the signed request without its length: host, type, date, session
/// token, authorization.
///
/// Fails only if a value contains characters that a header field cannot have.
pub fn sign(
    post: &Post<'_>,
    key: &AccessKey,
    region: &str,
    service: &str,
    now: Timestamp,
) -> Result<HeaderMap, InvalidHeaderValue> {
    // 1. The signed header fields: those that the verifier requires, in its order.
    let date = now.strftime("%Y%m%dT%H%M%SZ").to_string();
    let mut headers = HeaderMap::new();
    let mut signed = vec![CONTENT_TYPE.as_str(), HOST.as_str(), DATE];
    headers.insert(CONTENT_TYPE, HeaderValue::from_str(post.content_type)?);
    headers.insert(HOST, HeaderValue::from_str(post.host)?);
    headers.insert(DATE, HeaderValue::from_str(&date)?);
    if let Some(token) = key.session_token.as_ref().map(Secret::expose) {
        headers.insert(SECURITY_TOKEN, sensitive(token)?);
        signed.push(SECURITY_TOKEN);
    }

    // 2. The signature.
    let list = signed.join(";");
    let request = HttpRequest {
        method: "POST",
        path: post.path,
        query: "",
        headers: &headers,
        body: post.body,
    };
    let payload_hash = payload_hash(post.body);
    let canonical = canonical::request(&request, Vec::new(), &signed, &list, &payload_hash)
        .expect("every signed header field was inserted above");
    let scope = format!("{}/{region}/{service}/aws4_request", &date[..8]);
    let signature = signature(key.secret_access_key.expose(), &scope, &date, &canonical);

    // 3. The header field that carries it.
    let id = &key.access_key_id;
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={list}, Signature={signature}"
    );
    headers.insert(AUTHORIZATION, sensitive(&authorization)?);
    Ok(headers)
}

/// Returns a header value whose `Debug` does not show it.
fn sensitive(value: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    let mut value = HeaderValue::from_str(value)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::super::{Regions, Scope, verify};
    use super::*;

    const FORM: &str = "application/x-www-form-urlencoded";

    fn key(token: Option<&str>) -> AccessKey {
        AccessKey {
            access_key_id: "AKIDEXAMPLE".to_string(),
            secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
            session_token: token.map(Secret::new),
        }
    }

    fn time() -> Timestamp {
        "2015-08-30T12:36:00Z".parse().unwrap()
    }

    /// "post-x-www-form-urlencoded" of Amazon's published Signature Version 4 test suite.
    #[test]
    fn the_signature_matches_amazons_test_suite() {
        let post = Post {
            host: "example.amazonaws.com",
            path: "/",
            content_type: FORM,
            body: b"Param1=value1",
        };
        let headers = sign(&post, &key(None), "us-east-1", "service", time()).unwrap();
        assert_eq!(
            headers[AUTHORIZATION],
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date, \
             Signature=ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"
        );
    }

    #[test]
    fn the_verifier_accepts_the_signed_request_and_no_other() {
        let regions = Regions::These(vec!["eu-west-1".to_string()]);
        let scope = Scope {
            regions: &regions,
            services: &["sts"],
        };
        for (token, host, path) in [
            (None, "127.0.0.1:9000", "/"),
            (Some("a//token+with=="), "[::1]:9000", "/sts/v1/"),
            (Some("a-third-one"), "sts.example.com", "/a%20b/../c~//d"),
        ] {
            let (key, body) = (
                key(token),
                b"Action=AssumeRole&Version=2011-06-15".as_slice(),
            );
            let post = Post {
                host,
                path,
                content_type: FORM,
                body,
            };
            let headers = sign(&post, &key, "eu-west-1", "sts", time()).unwrap();
            let check = |headers: &HeaderMap, path: &str, body: &[u8]| {
                let request = HttpRequest {
                    method: "POST",
                    path,
                    query: "",
                    headers,
                    body,
                };
                verify(
                    &request,
                    |id| (id == key.access_key_id).then_some(&key),
                    &scope,
                    time(),
                )
            };
            assert_eq!(
                check(&headers, path, body).unwrap().access_key_id,
                "AKIDEXAMPLE"
            );
            assert!(
                check(&headers, "/other", body).is_err()
                    && check(&headers, path, b"Action=Other").is_err()
            );
            let mut other_host = headers.clone();
            other_host.insert(HOST, HeaderValue::from_static("elsewhere"));
            assert!(check(&other_host, path, body).is_err());
            assert!(
                token.is_none_or(|token| !format!("{headers:?}").contains(token)),
                "{headers:?}"
            );
        }
    }

    #[test]
    fn a_value_that_a_header_field_cannot_have_is_refused() {
        let post = Post {
            host: "h\r\nX: y",
            path: "/",
            content_type: FORM,
            body: b"",
        };
        assert!(sign(&post, &key(None), "r", "sts", time()).is_err());
        let post = Post { host: "h", ..post };
        assert!(sign(&post, &key(Some("a\nb")), "r", "sts", time()).is_err());
        assert!(sign(&post, &key(None), "r\n", "sts", time()).is_err());
    }
}
