//! The signature parameters of a request, read from the `Authorization` header or from the query.
//!
//! They are only checked for their form here. [`verify`](super::verify()) checks whether they are
//! true.

use hyper::HeaderMap;
use jiff::civil::DateTime;
use jiff::{Timestamp, tz::TimeZone};

use super::auth_error::AuthError;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// The longest lifetime of a presigned request, in seconds: seven days.
const MAX_EXPIRES: u32 = 604_800;
/// A request with any of these in its query is presigned.
const PRESIGNED_PARAMETERS: [&str; 4] = [
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
];

/// A request with any of these parameters is signed with an older version of the signature, usually
/// version 2, in its query or its form.
const OLD_SIGNATURE_PARAMETERS: [&str; 2] = ["AWSAccessKeyId", "SignatureVersion"];

/// The parameters of one signature.
pub(super) struct SignatureParameters {
    pub(super) location: SignatureLocation,
    credential: String,
    /// `host;x-amz-date`, as the caller spelled it.
    pub(super) signed_headers: String,
    pub(super) signature: String,
    /// The text of X-Amz-Date.
    pub(super) date: String,
    pub(super) session_token: Option<String>,
}

/// Where the signature was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignatureLocation {
    /// In the `Authorization` header.
    Header,
    /// In the query, valid for `expires` seconds.
    Query { expires: u32 },
}

/// `access key id/day/region/service/aws4_request`
pub(super) struct Credential<'a> {
    pub(super) access_key_id: &'a str,
    pub(super) day: &'a str,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
    pub(super) terminator: &'a str,
}

impl Credential<'_> {
    /// Returns the parts after the access key id.
    pub(super) fn scope(&self) -> String {
        [self.day, self.region, self.service, self.terminator].join("/")
    }
}

impl SignatureParameters {
    /// Reads the parameters from the one place that has them. `body` only decides which error
    /// describes a request without them.
    pub(super) fn read(
        headers: &HeaderMap,
        query: &[(Vec<u8>, Vec<u8>)],
        body: &[u8],
    ) -> Result<SignatureParameters, AuthError> {
        let authorization = single_header(headers, "authorization")?;
        let presigned = query.iter().any(|(name, _)| {
            PRESIGNED_PARAMETERS
                .iter()
                .any(|known| known.as_bytes() == name)
        });
        match (authorization, presigned) {
            (Some(_), true) => Err(AuthError::SignedTwice),
            (Some(authorization), false) => SignatureParameters::in_header(authorization, headers),
            (None, true) => SignatureParameters::in_query(query, headers),
            (None, false) if has_old_signature(query, body) => Err(AuthError::OldSignature),
            (None, false) => Err(AuthError::Unsigned),
        }
    }

    fn in_header(
        authorization: &str,
        headers: &HeaderMap,
    ) -> Result<SignatureParameters, AuthError> {
        let (algorithm, fields) = authorization.split_once(' ').unwrap_or((authorization, ""));
        check_algorithm(algorithm)?;
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for field in fields
            .split(',')
            .map(str::trim)
            .filter(|field| !field.is_empty())
        {
            let Some((name, value)) = field.split_once('=') else {
                return incomplete(
                    "A part of the Authorization header is not a key=value pair (missing equal-sign).",
                );
            };
            let part = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                _ => {
                    return incomplete(
                        "The Authorization header has a parameter that is not known.",
                    );
                }
            };
            if part.replace(value.to_string()).is_some() {
                return incomplete(format!(
                    "Authorization header has the '{name}' parameter twice."
                ));
            }
        }
        let date = single_header(headers, "x-amz-date")?.map(str::to_string);
        let mut parts = RequiredParts::default();
        let parameters = SignatureParameters {
            location: SignatureLocation::Header,
            credential: parts.take(
                credential,
                "Authorization header requires 'Credential' parameter.",
            ),
            signature: parts.take(
                signature,
                "Authorization header requires 'Signature' parameter.",
            ),
            signed_headers: parts.take(
                signed_headers,
                "Authorization header requires 'SignedHeaders' parameter.",
            ),
            date: parts.take(
                date,
                "Authorization header requires existence of a 'X-Amz-Date' header.",
            ),
            session_token: single_header(headers, "x-amz-security-token")?.map(str::to_string),
        };
        parts.complete(parameters)
    }

    fn in_query(
        query: &[(Vec<u8>, Vec<u8>)],
        headers: &HeaderMap,
    ) -> Result<SignatureParameters, AuthError> {
        let part = |parameter: &str| -> Result<Option<String>, AuthError> {
            let mut values = query
                .iter()
                .filter(|(name, _)| name == parameter.as_bytes());
            let Some((_, value)) = values.next() else {
                return Ok(None);
            };
            match (String::from_utf8(value.clone()), values.next()) {
                (Ok(value), None) => Ok(Some(value)),
                (Err(_), _) => incomplete(format!("The parameter {parameter} is not text.")),
                (_, Some(_)) => incomplete(format!(
                    "The request contains the parameter {parameter} twice."
                )),
            }
        };
        let required = |name: &str| format!("AWS query-string parameters must include '{name}'.");
        if let Some(algorithm) = part("X-Amz-Algorithm")? {
            check_algorithm(&algorithm)?;
        } else {
            return incomplete(required("X-Amz-Algorithm"));
        }
        if headers.contains_key("x-amz-date") {
            return incomplete("The request contains X-Amz-Date twice.");
        }
        let mut parts = RequiredParts::default();
        let expires = parts.take(part("X-Amz-Expires")?, &required("X-Amz-Expires"));
        let parameters = SignatureParameters {
            location: SignatureLocation::Query {
                expires: expires.parse().unwrap_or(0),
            },
            credential: parts.take(part("X-Amz-Credential")?, &required("X-Amz-Credential")),
            signature: parts.take(part("X-Amz-Signature")?, &required("X-Amz-Signature")),
            signed_headers: parts.take(
                part("X-Amz-SignedHeaders")?,
                &required("X-Amz-SignedHeaders"),
            ),
            date: parts.take(part("X-Amz-Date")?, &required("X-Amz-Date")),
            session_token: part("X-Amz-Security-Token")?,
        };
        let parameters = parts.complete(parameters)?;
        match parameters.location {
            SignatureLocation::Query {
                expires: 1..=MAX_EXPIRES,
            } if expires.bytes().all(|b| b.is_ascii_digit()) => Ok(parameters),
            _ => incomplete(format!(
                "X-Amz-Expires must be a number of seconds from 1 to {MAX_EXPIRES}."
            )),
        }
    }

    /// Returns the names of the signed header fields: lower-case, in ascending order and without
    /// duplicates, as the canonical form requires.
    pub(super) fn signed_headers(&self) -> Result<Vec<&str>, AuthError> {
        let names: Vec<_> = self.signed_headers.split(';').collect();
        let ascending = names.is_sorted_by(|one, next| one < next);
        let is_lower_case = names
            .iter()
            .all(|name| !name.is_empty() && !name.bytes().any(|b| b.is_ascii_uppercase()));
        if ascending && is_lower_case {
            return Ok(names);
        }
        incomplete(
            "SignedHeaders must be lower-case names in ascending order, separated by semicolons.",
        )
    }

    /// Splits the credential into its five parts.
    pub(super) fn credential(&self) -> Result<Credential<'_>, AuthError> {
        let parts: Vec<_> = self.credential.split('/').collect();
        let [access_key_id, day, region, service, terminator] = parts[..] else {
            return incomplete(
                "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term.",
            );
        };
        Ok(Credential {
            access_key_id,
            day,
            region,
            service,
            terminator,
        })
    }
}

/// Returns the value of a header field, `None` if it is absent. A repeated field and a value that
/// is not text are errors.
pub(super) fn single_header<'a>(
    headers: &'a HeaderMap,
    name: &str,
) -> Result<Option<&'a str>, AuthError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    match (value.to_str(), values.next()) {
        (Ok(value), None) => Ok(Some(value)),
        (Err(_), _) => incomplete(format!("The header '{name}' is not text.")),
        (_, Some(_)) => incomplete(format!("The request contains the header '{name}' twice.")),
    }
}

/// Returns whether the query or a form in the body has the parameters of an older signature.
fn has_old_signature(query: &[(Vec<u8>, Vec<u8>)], body: &[u8]) -> bool {
    let in_query = query.iter().map(|(name, _)| name.as_slice());
    let in_body = body
        .split(|byte| *byte == b'&')
        .filter_map(|pair| pair.split(|byte| *byte == b'=').next());
    in_query.chain(in_body).any(|name| {
        OLD_SIGNATURE_PARAMETERS
            .iter()
            .any(|old| old.as_bytes() == name)
    })
}

/// Reads a date of the form `20150830T123600Z`, and no other form.
pub(super) fn read_date(text: &str) -> Result<Timestamp, AuthError> {
    let bytes = text.as_bytes();
    let has_form = bytes.len() == 16
        && bytes.iter().enumerate().all(|(index, byte)| match index {
            8 => *byte == b'T',
            15 => *byte == b'Z',
            _ => byte.is_ascii_digit(),
        });
    let civil = if has_form {
        DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()
    } else {
        None
    };
    match civil.and_then(|civil| TimeZone::UTC.to_timestamp(civil).ok()) {
        Some(date) => Ok(date),
        None => incomplete("Date must be in ISO-8601 'basic format', e.g. 20150830T123600Z."),
    }
}

fn check_algorithm(algorithm: &str) -> Result<(), AuthError> {
    if algorithm == ALGORITHM {
        Ok(())
    } else {
        incomplete(format!("Unsupported AWS 'algorithm': '{algorithm}'."))
    }
}

fn incomplete<T>(message: impl Into<String>) -> Result<T, AuthError> {
    Err(AuthError::Incomplete(message.into()))
}

/// Collects the messages for all missing parts, so that the error names every one of them.
#[derive(Default)]
struct RequiredParts {
    missing: Vec<String>,
}

impl RequiredParts {
    fn take(&mut self, part: Option<String>, message: &str) -> String {
        part.filter(|text| !text.is_empty()).unwrap_or_else(|| {
            self.missing.push(message.to_string());
            String::new()
        })
    }

    fn complete(self, parameters: SignatureParameters) -> Result<SignatureParameters, AuthError> {
        if self.missing.is_empty() {
            Ok(parameters)
        } else {
            incomplete(self.missing.join(" "))
        }
    }
}
