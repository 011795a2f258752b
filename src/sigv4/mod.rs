//! Signature Version 4, the receiving side: which access key signed a request, if any.
//!
//! A function of the request, the known keys, the permitted scope and the time; no I/O, no clock, no state. A signature
//! comes in the `Authorization` header or in the query (presigned). Refused, not supported: SigV4A, Signature
//! Version 2, streamed and unsigned payloads, a `Date` header in place of `X-Amz-Date`, a signature in both places.
//!
//! There is no replay cache: equal calls within one second are signed alike by every SDK, so it would refuse honest
//! ones.

pub mod access_key_file;
mod canonical;
mod claim;
pub mod sign;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use hyper::HeaderMap;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::secret::Secret;
pub use canonical::decode_form;
use claim::{Claim, Form};

/// How far a request's time may lie from ours, either way (EC2's RequestExpired).
const WINDOW: SignedDuration = SignedDuration::from_mins(15);
/// Signs in place of the key that nobody has, so that an unknown access key id takes as long as a known one.
const NOBODY: &str = "0000000000000000000000000000000000000000";

/// A request as it was signed: before anything is decoded.
#[derive(Clone, Copy, Debug)]
pub struct HttpRequest<'a> {
    /// `GET` or `POST`
    pub method: &'a str,
    /// The path as it came, escapes included.
    pub path: &'a str,
    /// What followed the `?`, escapes included; empty when there was none.
    pub query: &'a str,
    /// Every header field.
    pub headers: &'a HeaderMap,
    /// The whole body.
    pub body: &'a [u8],
}

/// A key that may sign requests.
#[derive(Clone, Debug)]
pub struct AccessKey {
    /// `AKIA…` or `ASIA…`. Public.
    pub access_key_id: String,
    /// The secret half.
    pub secret_access_key: Secret,
    /// What `X-Amz-Security-Token` must say; without it, such a token is refused.
    pub session_token: Option<Secret>,
}

/// The regions that a control call may be signed for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Regions {
    /// Any region: clients sign for the one they happen to be configured with.
    Any,
    /// These and no other.
    These(Vec<String>),
}

impl Regions {
    /// Whether a call may be signed for `region`.
    pub fn allow(&self, region: &str) -> bool {
        match self {
            Regions::Any => true,
            Regions::These(regions) => regions.iter().any(|allowed| allowed == region),
        }
    }
}

/// What a credential may be scoped to.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// The regions that this endpoint answers for.
    pub regions: &'a Regions,
    /// Every service that this endpoint is.
    pub services: &'a [&'a str],
}

/// Who signed the request, and for where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The key that signed.
    pub access_key_id: String,
    /// The region in its scope.
    pub region: String,
    /// The service in its scope.
    pub service: String,
}

/// Why a request is not believed. [`AuthError::message`] is for the caller; `Display` is for the log, where nothing
/// that a stranger wrote may stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthError {
    /// The query has a bad escape.
    MalformedQuery,
    /// It is not signed at all.
    Unsigned,
    /// It is signed in the header and in the query.
    SignedTwice,
    /// The signature is malformed or parts of it are missing. The sentence says which.
    Incomplete(String),
    /// A header field that must be signed is not: its name.
    HeaderNotSigned(String),
    /// `x-amz-content-sha256` is not the hash of the body.
    PayloadHash,
    /// Signed too long ago, or in the future.
    Expired,
    /// Signed for another region, service or day. The sentence says for which it should be.
    WrongScope(String),
    /// The access key, its session token or the signature is wrong. Callers are not told which.
    Refused(Wrong),
}

/// What is wrong with a refused request; for the log only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// No such access key id.
    AccessKey,
    /// The key's session token is missing or another.
    SessionToken,
    /// The signature is not this key's for this request.
    Signature,
}

/// Says which key signed `request`. `lookup` finds a key by its id.
pub fn verify<'k>(
    request: &HttpRequest<'_>,
    lookup: impl FnOnce(&str) -> Option<&'k AccessKey>,
    scope: &Scope<'_>,
    now: Timestamp,
) -> Result<Verified, AuthError> {
    // The order is that of the "AWS Auth Error Ordering" chart, so that a request with two faults gets Amazon's answer.
    // 1. Escapes in the query.
    let query = canonical::query_pairs(request.query).ok_or(AuthError::MalformedQuery)?;
    // 2. A signature is there, in one place; 3. its algorithm; 4. its form; 5. all its parts.
    let claim = Claim::read(request.headers, &query)?;
    // 6. Whatever changes the meaning of the request is signed.
    let signed_headers = claim.signed_headers()?;
    everything_is_signed(request.headers, &signed_headers)?;
    // 7. Its date; 8. not too old, not too new.
    let date = claim::read_date(&claim.date)?;
    within_time(date, claim.form, now)?;
    // 9. Five parts in the credential; 10. for this place and day.
    let credential = claim.credential()?;
    in_scope(&credential, &claim.date, scope)?;
    // 11. The body is the one that was signed.
    let payload_hash = hex(&Sha256::digest(request.body));
    payload_matches(request.headers, &payload_hash)?;

    // 12. The key, its session token and the signature, all at once: which of them is wrong shows neither in the answer
    // nor in the time it takes.
    let canonical = canonical::request(
        request,
        query,
        &signed_headers,
        &claim.signed_headers,
        &payload_hash,
    )?;
    let key = lookup(credential.access_key_id);
    let secret = key.map_or(NOBODY, |key| key.secret_access_key.expose());
    let expected = signature(secret, &credential.scope(), &claim.date, &canonical);
    let signature_fits = expected.as_bytes().ct_eq(claim.signature.as_bytes());
    let stored = key
        .and_then(|key| key.session_token.as_ref())
        .map(Secret::expose);
    let token_fits = same_token(stored, claim.session_token.as_deref());
    if bool::from(Choice::from(u8::from(key.is_some())) & token_fits & signature_fits) {
        return Ok(Verified {
            access_key_id: credential.access_key_id.to_string(),
            region: credential.region.to_string(),
            service: credential.service.to_string(),
        });
    }
    Err(AuthError::Refused(match (key, bool::from(token_fits)) {
        (None, _) => Wrong::AccessKey,
        (Some(_), false) => Wrong::SessionToken,
        (Some(_), true) => Wrong::Signature,
    }))
}

/// `host`, the type of the body, and every `x-amz-*` field change what a request means, so they must be signed. Other
/// fields are added and dropped by clients and proxies on the way.
fn everything_is_signed(headers: &HeaderMap, signed: &[&str]) -> Result<(), AuthError> {
    let must_be = |name: &str| name == "content-type" || name.starts_with("x-amz-");
    let present = headers
        .keys()
        .map(|name| name.as_str())
        .filter(|name| must_be(name));
    match ["host"]
        .into_iter()
        .chain(present)
        .find(|name| !signed.contains(name))
    {
        Some(name) => Err(AuthError::HeaderNotSigned(name.to_string())),
        None => Ok(()),
    }
}

/// A signature in the header lives for the window around its date. A presigned one lives as long as it says, and not
/// the window longer: its life was chosen by whoever signed it.
fn within_time(date: Timestamp, form: Form, now: Timestamp) -> Result<(), AuthError> {
    let life = match form {
        Form::Header => WINDOW,
        Form::Query { expires } => SignedDuration::from_secs(expires.into()),
    };
    let age = now.duration_since(date);
    if age < -WINDOW || age > life {
        Err(AuthError::Expired)
    } else {
        Ok(())
    }
}

fn in_scope(
    credential: &claim::Credential<'_>,
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

/// The field is optional. `UNSIGNED-PAYLOAD` and `STREAMING-…` are no hashes, so they never match.
fn payload_matches(headers: &HeaderMap, payload_hash: &str) -> Result<(), AuthError> {
    let Some(claimed) = claim::single(headers, "x-amz-content-sha256")? else {
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

/// The signature in hexadecimal. `scope` is `day/region/service/aws4_request`.
fn signature(secret: &str, scope: &str, date: &str, canonical_request: &[u8]) -> String {
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{date}\n{scope}\n{}",
        hex(&Sha256::digest(canonical_request))
    );
    let key = scope
        .split('/')
        .fold(format!("AWS4{secret}").into_bytes(), |key, part| {
            hmac(&key, part.as_bytes())
        });
    hex(&hmac(&key, to_sign.as_bytes()))
}

fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(*byte)])
        .collect()
}

impl AuthError {
    /// EC2's code.
    pub fn code(&self) -> &'static str {
        match self {
            AuthError::MalformedQuery => "MalformedQueryString",
            AuthError::Unsigned => "MissingParameter",
            AuthError::Incomplete(_) => "IncompleteSignature",
            AuthError::SignedTwice
            | AuthError::HeaderNotSigned(_)
            | AuthError::PayloadHash
            | AuthError::WrongScope(_) => "SignatureDoesNotMatch",
            AuthError::Expired => "RequestExpired",
            AuthError::Refused(_) => "AuthFailure",
        }
    }

    /// The HTTP status that EC2 sends with the code.
    pub fn status(&self) -> u16 {
        match self {
            AuthError::MalformedQuery
            | AuthError::Unsigned
            | AuthError::Incomplete(_)
            | AuthError::Expired => 400,
            AuthError::SignedTwice
            | AuthError::HeaderNotSigned(_)
            | AuthError::PayloadHash
            | AuthError::WrongScope(_) => 403,
            AuthError::Refused(_) => 401,
        }
    }

    /// What the caller is told.
    pub fn message(&self) -> String {
        match self {
            AuthError::MalformedQuery => "The query string contains a syntax error.".to_string(),
            AuthError::Unsigned => {
                "The request must contain the parameter AWSAccessKeyId".to_string()
            }
            AuthError::SignedTwice => {
                "The request is signed both in its header and in its query string.".to_string()
            }
            AuthError::Incomplete(what) | AuthError::WrongScope(what) => what.clone(),
            AuthError::HeaderNotSigned(name) => {
                format!("'{name}' must be a 'SignedHeader' in the AWS Authorization.")
            }
            AuthError::PayloadHash => {
                "The provided 'x-amz-content-sha256' header does not match what was computed."
                    .to_string()
            }
            AuthError::Expired => "Request has expired.".to_string(),
            AuthError::Refused(_) => {
                "AWS was not able to validate the provided access credentials".to_string()
            }
        }
    }
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AuthError::MalformedQuery => "bad escape in the query",
            AuthError::Unsigned => "not signed",
            AuthError::SignedTwice => "signed in header and query",
            AuthError::Incomplete(_) => "malformed or incomplete signature",
            AuthError::HeaderNotSigned(_) => "a header field that must be signed is not",
            AuthError::PayloadHash => "x-amz-content-sha256 is not the body's hash",
            AuthError::Expired => "too old or too new",
            AuthError::WrongScope(_) => "signed for another region, service or day",
            AuthError::Refused(Wrong::AccessKey) => "unknown access key",
            AuthError::Refused(Wrong::SessionToken) => "wrong session token",
            AuthError::Refused(Wrong::Signature) => "wrong signature",
        })
    }
}

impl std::error::Error for AuthError {}
