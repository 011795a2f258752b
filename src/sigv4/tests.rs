//! Tests of the verifier against Amazon's test suite, Amazon's signer, recorded requests of AWS
//! clients, and a signer of our own that shares no code with the verifier. Then the refusals.

mod oracle;
mod recorded;
mod refusals;
mod signer;
mod suite;

use jiff::Timestamp;

use super::*;
use crate::secret::Secret;
use signer::presign;
pub(crate) use signer::{Sent, sign};

const ID: &str = "AKIDIMDSDTEST0000001";
const SECRET: &str = "imdsd-test-secret-known-to-everyone";
const TOKEN: &str = "imdsd-test-session-token//with+signs==";
const DATE: &str = "20260501T120000Z";
const SCOPE: &str = "20260501/us-east-1/ec2/aws4_request";

fn key(id: &str, secret: &str, token: Option<&str>) -> AccessKey {
    AccessKey {
        access_key_id: id.to_string(),
        secret_access_key: Secret::new(secret),
        session_token: token.map(Secret::new),
    }
}

fn check(sent: &Sent, key: &AccessKey, scope: [&str; 2], now: &str) -> Result<Signer, AuthError> {
    let headers = sent.header_map();
    let request = HttpRequest {
        method: &sent.method,
        path: &sent.path,
        query: &sent.query,
        headers: &headers,
        body: &sent.body,
    };
    let lookup = |id: &str| (id == key.access_key_id).then_some(key);
    let regions = Regions::These(vec![scope[0].to_string()]);
    verify(
        &request,
        lookup,
        &Scope {
            regions: &regions,
            services: &[scope[1]],
        },
        now.parse().unwrap(),
    )
}

/// Verifies a request for EC2 in us-east-1 half a minute after [`DATE`].
fn check_ours(sent: &Sent, token: Option<&str>) -> Result<Signer, AuthError> {
    check(
        sent,
        &key(ID, SECRET, token),
        ["us-east-1", "ec2"],
        "2026-05-01T12:00:30Z",
    )
}

fn signed() -> Sent {
    let mut sent = Sent::post("Action=DescribeInstances&Version=2016-11-15");
    sign(&mut sent, ID, SECRET, DATE, SCOPE);
    sent
}

fn presigned(expires: &str) -> Sent {
    let mut sent = Sent::read("GET / HTTP/1.1\nHost:127.0.0.1:1339");
    presign(&mut sent, ID, SECRET, DATE, SCOPE, expires);
    sent
}

#[test]
fn a_correctly_signed_request_is_accepted() {
    let signer = Signer {
        access_key_id: ID.into(),
        region: "us-east-1".into(),
        service: "ec2".into(),
    };
    assert_eq!(check_ours(&signed(), None), Ok(signer.clone()));
    assert_eq!(check_ours(&presigned("60"), None), Ok(signer.clone()));

    let mut with_token = Sent::post("Action=DescribeInstances");
    with_token.set("x-amz-security-token", TOKEN);
    sign(&mut with_token, ID, SECRET, DATE, SCOPE);
    assert_eq!(check_ours(&with_token, Some(TOKEN)), Ok(signer));
}

/// EC2 answers RequestExpired more than 15 minutes from its own clock. A presigned request is valid
/// for X-Amz-Expires seconds, at most seven days (604800).
#[test]
fn a_signature_is_valid_for_fifteen_minutes_and_a_presigned_one_for_its_expires() {
    for (sent, now, is_valid) in [
        (signed(), "2026-05-01T11:44:59Z", false),
        (signed(), "2026-05-01T11:45:00Z", true),
        (signed(), "2026-05-01T12:15:00Z", true),
        (signed(), "2026-05-01T12:15:00.001Z", false),
        (signed(), "2027-05-01T12:00:00Z", false),
        (presigned("60"), "2026-05-01T11:44:59Z", false),
        (presigned("60"), "2026-05-01T12:01:00Z", true),
        (presigned("60"), "2026-05-01T12:01:01Z", false),
        (presigned("604800"), "2026-05-08T12:00:00Z", true),
        (presigned("604800"), "2026-05-08T12:00:01Z", false),
    ] {
        let result = check(&sent, &key(ID, SECRET, None), ["us-east-1", "ec2"], now);
        let expected = if is_valid {
            Ok(())
        } else {
            Err(AuthError::Expired)
        };
        assert_eq!(result.map(drop), expected, "{now}");
    }
}

#[test]
fn the_answer_does_not_show_which_credential_is_wrong() {
    let mut wrong_token = Sent::post("");
    wrong_token.set("x-amz-security-token", "another");
    sign(&mut wrong_token, ID, SECRET, DATE, SCOPE);
    let mut wrong_secret = Sent::post("");
    sign(&mut wrong_secret, ID, "guess", DATE, SCOPE);
    let mut unknown_key = Sent::post("");
    sign(
        &mut unknown_key,
        "AKIDIMDSDTEST0000002",
        SECRET,
        DATE,
        SCOPE,
    );
    // The secret that the verifier uses for unknown keys is public in the source. It must not open
    // anything.
    let mut guessed_secret = Sent::post("");
    sign(
        &mut guessed_secret,
        "AKIDIMDSDTEST0000002",
        verify::UNKNOWN_KEY_SECRET,
        DATE,
        SCOPE,
    );

    for (sent, token, part) in [
        (&wrong_token, Some(TOKEN), RefusedPart::SessionToken),
        (&signed(), Some(TOKEN), RefusedPart::SessionToken),
        (&wrong_token, None, RefusedPart::SessionToken),
        (&wrong_secret, None, RefusedPart::Signature),
        (&unknown_key, None, RefusedPart::AccessKey),
        (&guessed_secret, None, RefusedPart::AccessKey),
    ] {
        let error = check_ours(sent, token).unwrap_err();
        assert_eq!(error, AuthError::Refused(part));
        let answer = (error.code(), error.status(), error.message());
        let text = "AWS was not able to validate the provided access credentials".to_string();
        assert_eq!(answer, ("AuthFailure", 401, text));
    }
}

#[test]
fn no_secret_is_printed() {
    let printed = format!("{:?}", key(ID, SECRET, Some(TOKEN)));
    assert!(
        printed.contains(ID) && !printed.contains(SECRET) && !printed.contains(TOKEN),
        "{printed}"
    );
}
