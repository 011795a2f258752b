//! Requests that were changed after they were signed, or whose signature is malformed.

use super::*;

/// The code and a part of the message that answer a changed request, and the change.
type Case = (&'static str, &'static str, fn(&mut Sent));

fn resign(sent: &mut Sent) {
    sent.headers.retain(|(name, _)| name != "authorization");
    sign(sent, ID, SECRET, DATE, SCOPE);
}

#[test]
fn a_header_signed_request_is_refused_when_any_part_of_it_is_changed() {
    let cases: &[Case] = &[
        // The signed parts were changed.
        ("AuthFailure", "credentials", |sent| {
            sent.method = "GET".into()
        }),
        ("AuthFailure", "credentials", |sent| sent.path = "/x".into()),
        ("AuthFailure", "credentials", |sent| {
            sent.query = "DryRun=true".into()
        }),
        ("AuthFailure", "credentials", |sent| sent.body[7] = b'X'),
        ("AuthFailure", "credentials", |sent| sent.body.clear()),
        ("AuthFailure", "credentials", |sent| {
            sent.set("host", "127.0.0.1:1340")
        }),
        ("AuthFailure", "credentials", |sent| {
            sent.set("content-type", "text/plain")
        }),
        ("AuthFailure", "credentials", |sent| {
            sent.set("x-amz-date", "20260501T120001Z")
        }),
        ("AuthFailure", "credentials", |sent| {
            sent.headers.push(("host".into(), "evil".into()))
        }),
        // The signature was changed.
        ("AuthFailure", "credentials", |sent| {
            sent.replace("authorization", "Signature=", "Signature=0")
        }),
        ("AuthFailure", "credentials", |sent| {
            sent.replace("authorization", ID, "AKIDIMDSDTEST0000002")
        }),
        ("AuthFailure", "credentials", |sent| {
            let cut = sent.header("authorization").len() - 1;
            let cut = sent.header("authorization")[..cut].to_string();
            sent.set("authorization", &cut);
        }),
        ("AuthFailure", "credentials", |sent| {
            let (kept, signature) = sent
                .header("authorization")
                .split_once("Signature=")
                .unwrap();
            let upper = format!("{kept}Signature={}", signature.to_uppercase());
            sent.set("authorization", &upper);
        }),
        // A session token that the key does not have.
        ("AuthFailure", "credentials", |sent| {
            sent.set("x-amz-security-token", "anything");
            resign(sent);
        }),
        // The scope is a different one.
        (
            "SignatureDoesNotMatch",
            "valid region, not 'eu-west-1'",
            |sent| {
                sign(
                    sent,
                    ID,
                    SECRET,
                    DATE,
                    "20260501/eu-west-1/ec2/aws4_request",
                )
            },
        ),
        ("SignatureDoesNotMatch", "not 'US-EAST-1'", |sent| {
            sign(
                sent,
                ID,
                SECRET,
                DATE,
                "20260501/US-EAST-1/ec2/aws4_request",
            )
        }),
        ("SignatureDoesNotMatch", "correct service: 'ec2'", |sent| {
            sign(sent, ID, SECRET, DATE, "20260501/us-east-1/s3/aws4_request")
        }),
        ("SignatureDoesNotMatch", "terminator", |sent| {
            sign(
                sent,
                ID,
                SECRET,
                DATE,
                "20260501/us-east-1/ec2/aws5_request",
            )
        }),
        ("SignatureDoesNotMatch", "to the day", |sent| {
            sign(
                sent,
                ID,
                SECRET,
                DATE,
                "20260430/us-east-1/ec2/aws4_request",
            )
        }),
        ("SignatureDoesNotMatch", "to the day", |sent| {
            sign(sent, ID, SECRET, DATE, "2026/us-east-1/ec2/aws4_request")
        }),
        // A required header field is not signed.
        ("SignatureDoesNotMatch", "'host' must be", |sent| {
            sent.replace("authorization", ";host", "")
        }),
        // A signed content-type cannot be made an unsigned one: the list of signed header fields is
        // part of what is signed.
        ("AuthFailure", "credentials", |sent| {
            sent.replace("authorization", "content-type;", "")
        }),
        ("IncompleteSignature", "'content-type' is not in", |sent| {
            sent.headers.retain(|(name, _)| name != "content-type")
        }),
        ("SignatureDoesNotMatch", "'x-amz-date' must be", |sent| {
            sent.replace("authorization", ";x-amz-date", "")
        }),
        ("SignatureDoesNotMatch", "'x-amz-target' must be", |sent| {
            sent.set("x-amz-target", "x")
        }),
        // The suite's post-sts-header-after: a token added after signing.
        (
            "SignatureDoesNotMatch",
            "'x-amz-security-token' must be",
            |sent| sent.set("x-amz-security-token", TOKEN),
        ),
        // The payload hash is not the hash of the body.
        ("SignatureDoesNotMatch", "x-amz-content-sha256", |sent| {
            sent.set("x-amz-content-sha256", "UNSIGNED-PAYLOAD");
            resign(sent);
        }),
        ("SignatureDoesNotMatch", "x-amz-content-sha256", |sent| {
            sent.set("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD");
            resign(sent);
        }),
        ("SignatureDoesNotMatch", "x-amz-content-sha256", |sent| {
            sent.set("x-amz-content-sha256", &"0".repeat(64));
            resign(sent);
        }),
        // Unsigned, it must still be the hash of the body.
        ("SignatureDoesNotMatch", "x-amz-content-sha256", |sent| {
            sent.set("x-amz-content-sha256", "UNSIGNED-PAYLOAD")
        }),
        ("SignatureDoesNotMatch", "x-amz-content-sha256", |sent| {
            sent.set("x-amz-content-sha256", &"0".repeat(64))
        }),
        // Two signatures.
        ("SignatureDoesNotMatch", "both", |sent| {
            sent.query = "X-Amz-Signature=00".into()
        }),
        ("IncompleteSignature", "twice", |sent| {
            let again = sent.header("authorization").to_string();
            sent.headers.push(("authorization".into(), again));
        }),
        ("IncompleteSignature", "twice", |sent| {
            sent.headers.push(("x-amz-date".into(), DATE.into()))
        }),
        ("IncompleteSignature", "twice", |sent| {
            sent.replace("authorization", "Signature=", "Signature=0, Signature=")
        }),
        // There is no signature, or it is malformed.
        ("MissingParameter", "AWSAccessKeyId", |sent| {
            sent.headers.retain(|(name, _)| name != "authorization")
        }),
        // Older signatures. boto 2 puts the parameters of version 2 in the query or the form; the
        // header forms are those of S3 and of version 3.
        ("AuthFailure", "Sign it with Signature Version 4", |sent| {
            sent.headers.retain(|(name, _)| name != "authorization");
            sent.query =
                "AWSAccessKeyId=x&SignatureVersion=2&SignatureMethod=HmacSHA256&Signature=y".into();
        }),
        ("AuthFailure", "Sign it with Signature Version 4", |sent| {
            sent.headers.retain(|(name, _)| name != "authorization");
            sent.body = b"Action=DescribeInstances&AWSAccessKeyId=x&Signature=y".to_vec();
        }),
        ("AuthFailure", "Sign it with Signature Version 4", |sent| {
            sent.headers.retain(|(name, _)| name != "authorization");
            sent.body = b"SignatureVersion=1".to_vec();
        }),
        ("IncompleteSignature", "'algorithm': 'AWS'", |sent| {
            sent.set("authorization", "AWS AKID:c2lnbmF0dXJl")
        }),
        ("IncompleteSignature", "'algorithm': 'AWS3-HTTPS'", |sent| {
            sent.set(
                "authorization",
                "AWS3-HTTPS AWSAccessKeyId=x,Algorithm=HmacSHA256,Signature=y",
            )
        }),
        ("IncompleteSignature", "'algorithm': 'Basic'", |sent| {
            sent.set("authorization", "Basic aW1kc2Q6eA==")
        }),
        ("IncompleteSignature", "'algorithm': ''", |sent| {
            sent.set("authorization", "")
        }),
        ("IncompleteSignature", "'algorithm'", |sent| {
            sent.replace("authorization", "SHA256", "SHA1")
        }),
        ("IncompleteSignature", "'algorithm'", |sent| {
            sent.replace("authorization", "AWS4-HMAC", "AWS4-ECDSA-P256")
        }),
        ("IncompleteSignature", "key=value", |sent| {
            sent.replace("authorization", "Signature=", "Signature")
        }),
        ("IncompleteSignature", "not known", |sent| {
            sent.replace("authorization", "Signature=", "signature=")
        }),
        ("IncompleteSignature", "requires 'Credential'", |sent| {
            sent.set("authorization", "AWS4-HMAC-SHA256")
        }),
        ("IncompleteSignature", "requires 'Signature'", |sent| {
            sent.set(
                "authorization",
                "AWS4-HMAC-SHA256 Credential=a/b/c/d/e, SignedHeaders=host, Signature=",
            )
        }),
        ("IncompleteSignature", "X-Amz-Date", |sent| {
            sent.headers.retain(|(name, _)| name != "x-amz-date");
            sent.set("date", "20260501T120000Z");
        }),
        ("IncompleteSignature", "ascending", |sent| {
            sent.replace("authorization", "host;x-amz-date", "x-amz-date;host")
        }),
        ("IncompleteSignature", "ascending", |sent| {
            sent.replace("authorization", "host;", "host;host;")
        }),
        ("IncompleteSignature", "lower-case", |sent| {
            sent.replace("authorization", ";host", ";Host")
        }),
        ("IncompleteSignature", "'zzz' is not in", |sent| {
            sent.replace("authorization", "x-amz-date", "x-amz-date;zzz")
        }),
        ("IncompleteSignature", "5 slash-delimited", |sent| {
            sent.replace("authorization", "/ec2", "")
        }),
        ("IncompleteSignature", "5 slash-delimited", |sent| {
            sent.replace("authorization", "/ec2", "/ec2/ec2")
        }),
        ("IncompleteSignature", "basic format", |sent| {
            sent.set("x-amz-date", "2026-05-01T12:00:00Z")
        }),
        ("IncompleteSignature", "basic format", |sent| {
            sent.set("x-amz-date", "20260532T120000Z")
        }),
        ("IncompleteSignature", "basic format", |sent| {
            sent.set("x-amz-date", "20260501T1200-1Z")
        }),
        ("MalformedQueryString", "syntax", |sent| {
            sent.query = "a=%zz".into()
        }),
    ];
    for (index, (code, words, change)) in cases.iter().enumerate() {
        let mut sent = signed();
        change(&mut sent);
        let error = check_ours(&sent, None).expect_err("the request was changed");
        assert_eq!(error.code(), *code, "case {index}: {words}: {error:?}");
        assert!(
            error.message().contains(words),
            "case {index}: {words}: {error:?}"
        );
    }
}

#[test]
fn a_presigned_request_is_refused_when_any_part_of_it_is_changed() {
    let cases: &[(&str, &str, &str, &str)] = &[
        (
            "X-Amz-Expires=60",
            "X-Amz-Expires=600",
            "AuthFailure",
            "credentials",
        ),
        (
            "X-Amz-Signature=",
            "X-Amz-Signature=0",
            "AuthFailure",
            "credentials",
        ),
        (
            "X-Amz-Signature=",
            "DryRun=true&X-Amz-Signature=",
            "AuthFailure",
            "credentials",
        ),
        (
            "X-Amz-Signature=",
            "X-Amz-Security-Token=x&X-Amz-Signature=",
            "AuthFailure",
            "credentials",
        ),
        (
            "us-east-1",
            "eu-west-1",
            "SignatureDoesNotMatch",
            "valid region",
        ),
        (
            "SignedHeaders=host",
            "SignedHeaders=date",
            "SignatureDoesNotMatch",
            "'host' must be",
        ),
        (
            "X-Amz-Expires=60",
            "X-Amz-Expires=0",
            "IncompleteSignature",
            "from 1 to 604800",
        ),
        (
            "X-Amz-Expires=60",
            "X-Amz-Expires=604801",
            "IncompleteSignature",
            "from 1 to 604800",
        ),
        (
            "X-Amz-Expires=60",
            "X-Amz-Expires=-1",
            "IncompleteSignature",
            "from 1 to 604800",
        ),
        (
            "X-Amz-Expires=60",
            "X-Amz-Expires=%2B60",
            "IncompleteSignature",
            "from 1 to 604800",
        ),
        (
            "X-Amz-Expires=60",
            "X-Amz-Expires=4294967356",
            "IncompleteSignature",
            "from 1 to 604800",
        ),
        (
            "X-Amz-Expires=60",
            "X-Amz-Expires=60&X-Amz-Expires=600",
            "IncompleteSignature",
            "twice",
        ),
        (
            "X-Amz-Expires=60&",
            "",
            "IncompleteSignature",
            "'X-Amz-Expires'",
        ),
        (
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&",
            "",
            "IncompleteSignature",
            "'X-Amz-Algorithm'",
        ),
        (
            "AWS4-HMAC-SHA256",
            "AWS4-ECDSA-P256-SHA256",
            "IncompleteSignature",
            "Unsupported",
        ),
        (
            "X-Amz-Date=20260501T120000Z",
            "X-Amz-Date=%ff",
            "IncompleteSignature",
            "not text",
        ),
        (
            "X-Amz-SignedHeaders=host",
            "X-Amz-SignedHeaders=",
            "IncompleteSignature",
            "'X-Amz-SignedHeaders'",
        ),
    ];
    for (from, to, code, words) in cases {
        let mut sent = presigned("60");
        sent.query = sent.query.replacen(from, to, 1);
        let error = check_ours(&sent, None).expect_err(to);
        assert_eq!(error.code(), *code, "{to}: {error:?}");
        assert!(error.message().contains(words), "{to}: {error:?}");
    }
    for (name, code) in [
        ("x-amz-date", "IncompleteSignature"),
        ("x-amz-meta", "SignatureDoesNotMatch"),
    ] {
        let mut sent = presigned("60");
        sent.set(name, DATE);
        assert_eq!(check_ours(&sent, None).unwrap_err().code(), code);
    }
    let mut with_body = presigned("60");
    with_body.body = b"DryRun=true".to_vec();
    assert_eq!(
        check_ours(&with_body, None),
        Err(AuthError::Refused(RefusedPart::Signature))
    );
}

/// Clients that do not sign content-type: AWS SDKs for JavaScript v2 and PHP, boto 2, aws4fetch,
/// aws-requests-auth, `curl --aws-sigv4 -d`. None of them has a setting for it.
#[test]
fn an_unsigned_content_type_and_content_hash_are_accepted_whatever_becomes_of_them() {
    let without = |change: fn(&mut Sent)| {
        let mut sent = Sent::post("Action=DescribeInstances&Version=2016-11-15");
        sent.headers.retain(|(name, _)| name != "content-type");
        sign(&mut sent, ID, SECRET, DATE, SCOPE);
        change(&mut sent);
        check_ours(&sent, None)
    };
    let changes: [fn(&mut Sent); 6] = [
        |_| {},
        |sent| sent.set("content-type", "application/x-www-form-urlencoded"),
        |sent| sent.set("content-type", "application/json"),
        |sent| sent.set("content-type", ""),
        |sent| {
            for value in ["text/plain", "application/x-amz-json-1.1"] {
                sent.headers.push(("content-type".into(), value.into()));
            }
        },
        |sent| {
            let hash = signature::payload_hash(&sent.body);
            sent.set("x-amz-content-sha256", &hash);
        },
    ];
    for (index, change) in changes.into_iter().enumerate() {
        assert_eq!(without(change).map(|_| ()), Ok(()), "case {index}");
    }
    let mut form = presigned("60");
    form.set("content-type", "application/x-www-form-urlencoded");
    assert_eq!(check_ours(&form, None).map(|_| ()), Ok(()));
}
