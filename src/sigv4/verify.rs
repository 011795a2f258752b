//! The verifier: which access key signed a request.

use hyper::HeaderMap;
use jiff::{SignedDuration, Timestamp};
use subtle::{Choice, ConstantTimeEq};

use super::access_key::AccessKey;
use super::access_key_file;
use super::auth_error::{AuthError, RefusedPart};
use super::canonical;
use super::http_request::HttpRequest;
use super::parameters::{self, Credential, SignatureLocation, SignatureParameters};
use super::scope::Scope;
use super::signature::{payload_hash, signature};
use crate::secret::Secret;

/// How far a request's time may be from ours, in either direction (EC2's RequestExpired).
const WINDOW: SignedDuration = SignedDuration::from_mins(15);

/// The header field with the hash of the body.
const CONTENT_HASH: &str = "x-amz-content-sha256";

/// The secret that is used for an unknown access key id, so that the check takes as long as for a
/// known one.
pub(super) const UNKNOWN_KEY_SECRET: &str = "0000000000000000000000000000000000000000";

/// The key that signed a request, and the scope of the signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// The id of the key.
    pub access_key_id: String,
    /// The region in the scope.
    pub region: String,
    /// The service in the scope.
    pub service: String,
}

/// Returns the signer of `request`. `lookup` finds a key by its id.
pub fn verify<'k>(
    request: &HttpRequest<'_>,
    lookup: impl FnOnce(&str) -> Option<&'k AccessKey>,
    scope: &Scope<'_>,
    now: Timestamp,
) -> Result<Signer, AuthError> {
    // The order is that of Amazon's "AWS Auth Error Ordering" chart, so a request with two faults
    // gets Amazon's answer.
    // 1. The escapes in the query.
    let query = canonical::query_pairs(request.query).ok_or(AuthError::MalformedQuery)?;
    // 2. The signature exists and is in one place. 3. Its algorithm. 4. Its form. 5. All its parts.
    let parameters = SignatureParameters::read(request.headers, &query, request.body)?;
    // 6. All header fields that change the meaning of the request are signed.
    let signed_headers = parameters.signed_headers()?;
    check_signed_headers(request.headers, &signed_headers)?;
    // 7. The date. 8. It is neither too old nor too new.
    let date = parameters::read_date(&parameters.date)?;
    check_time(date, parameters.location, now)?;
    // 9. The five parts of the credential. 10. They fit this endpoint and day.
    let credential = parameters.credential()?;
    check_scope(&credential, &parameters.date, scope)?;
    // 11. The body is the body that was signed.
    let payload_hash = payload_hash(request.body);
    check_payload(request.headers, &payload_hash)?;
    // 12. The key, its session token and the signature.
    let canonical = canonical::request(
        request,
        query,
        &signed_headers,
        &parameters.signed_headers,
        &payload_hash,
    )?;
    check_key(
        lookup(credential.access_key_id),
        &credential,
        &parameters,
        &canonical,
    )?;
    Ok(Signer {
        access_key_id: credential.access_key_id.to_string(),
        region: credential.region.to_string(),
        service: credential.service.to_string(),
    })
}

/// Returns the access key id that a request claims to be signed with, for the log. `None` if there
/// does not have the form that a key file may have: nothing else of a caller's text is logged.
pub fn claimed_key_id(request: &HttpRequest<'_>) -> Option<String> {
    let query = canonical::query_pairs(request.query)?;
    let parameters = SignatureParameters::read(request.headers, &query, request.body).ok()?;
    let id = parameters.credential().ok()?.access_key_id;
    access_key_file::is_key_id(id).then(|| id.to_string())
}

/// Checks the key, its session token and the signature together. Neither the answer nor the time it
/// takes shows which of them is wrong.
fn check_key(
    key: Option<&AccessKey>,
    credential: &Credential<'_>,
    parameters: &SignatureParameters,
    canonical: &[u8],
) -> Result<(), AuthError> {
    let secret = key.map_or(UNKNOWN_KEY_SECRET, |key| key.secret_access_key.expose());
    let expected = signature(secret, &credential.scope(), &parameters.date, canonical);
    let signature_matches = expected.as_bytes().ct_eq(parameters.signature.as_bytes());
    let stored = key
        .and_then(|key| key.session_token.as_ref())
        .map(Secret::expose);
    let token_matches = same_token(stored, parameters.session_token.as_deref());
    if bool::from(Choice::from(u8::from(key.is_some())) & token_matches & signature_matches) {
        return Ok(());
    }
    Err(AuthError::Refused(match (key, bool::from(token_matches)) {
        (None, _) => RefusedPart::AccessKey,
        (Some(_), false) => RefusedPart::SessionToken,
        (Some(_), true) => RefusedPart::Signature,
    }))
}

/// Checks that `host` and every `x-amz-*` field are signed, because they change the meaning of a
/// request. Clients and proxies add and remove other fields, so those need not be signed.
///
/// Two fields are exempt, because a change of them on the wire changes nothing:
///
/// - `content-type`. The endpoint never reads it: `x-amz-target`, which must be signed, decides
///   between a form and JSON. The AWS SDKs for JavaScript v2 and PHP, boto 2, aws4fetch and
///   `curl --aws-sigv4 -d` do not sign it.
/// - `x-amz-content-sha256`. It must be the hash of the body ([`check_payload`]), and the signature
///   covers that hash anyway. aws-requests-auth sends it unsigned.
fn check_signed_headers(headers: &HeaderMap, signed: &[&str]) -> Result<(), AuthError> {
    let is_required = |name: &str| name.starts_with("x-amz-") && name != CONTENT_HASH;
    let present = headers
        .keys()
        .map(|name| name.as_str())
        .filter(|name| is_required(name));
    match ["host"]
        .into_iter()
        .chain(present)
        .find(|name| !signed.contains(name))
    {
        Some(name) => Err(AuthError::HeaderNotSigned(name.to_string())),
        None => Ok(()),
    }
}

/// Checks the age of a signature. A signature in the header is valid for the window around its
/// date. A presigned request is valid for as long as its signer chose, without the window on top.
fn check_time(
    date: Timestamp,
    location: SignatureLocation,
    now: Timestamp,
) -> Result<(), AuthError> {
    let lifetime = match location {
        SignatureLocation::Header => WINDOW,
        SignatureLocation::Query { expires } => SignedDuration::from_secs(expires.into()),
    };
    let age = now.duration_since(date);
    if age < -WINDOW || age > lifetime {
        Err(AuthError::Expired)
    } else {
        Ok(())
    }
}

fn check_scope(
    credential: &Credential<'_>,
    date: &str,
    scope: &Scope<'_>,
) -> Result<(), AuthError> {
    let mut faults = Vec::new();
    if !scope.regions.allow(credential.region) {
        faults.push(format!(
            "Credential should be scoped to a valid region, not '{}'.",
            credential.region
        ));
    }
    if !scope.services.contains(&credential.service) {
        faults.push(format!(
            "Credential should be scoped to correct service: '{}'.",
            scope.services.join("', '")
        ));
    }
    if credential.terminator != "aws4_request" {
        faults.push(
            "Credential should be scoped with a valid terminator: 'aws4_request'.".to_string(),
        );
    }
    if !date.starts_with(credential.day) || credential.day.len() != 8 {
        faults.push("Credential should be scoped to the day of the X-Amz-Date.".to_string());
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(AuthError::WrongScope(faults.join(" ")))
    }
}

/// Checks the optional [`CONTENT_HASH`]. `UNSIGNED-PAYLOAD` and `STREAMING-…` are not hashes,
/// so they never match.
fn check_payload(headers: &HeaderMap, payload_hash: &str) -> Result<(), AuthError> {
    let Some(claimed) = parameters::single_header(headers, CONTENT_HASH)? else {
        return Ok(());
    };
    if claimed == payload_hash {
        Ok(())
    } else {
        Err(AuthError::PayloadHash)
    }
}

fn same_token(stored: Option<&str>, sent: Option<&str>) -> Choice {
    match (stored, sent) {
        (Some(stored), Some(sent)) => stored.as_bytes().ct_eq(sent.as_bytes()),
        (None, None) => Choice::from(1),
        (Some(_), None) | (None, Some(_)) => Choice::from(0),
    }
}
