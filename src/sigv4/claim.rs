//! What a request says about its own signature, from the `Authorization` header or from the query. Nothing here is
//! believed yet; it is only well-formed.

use hyper::HeaderMap;
use jiff::civil::DateTime;
use jiff::{Timestamp, tz::TimeZone};

use super::AuthError;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// The longest life of a presigned request, in seconds: seven days.
const MAX_LIFETIME: u32 = 604_800;
/// Any of these in the query means that the request is presigned.
const QUERY_SIGNATURE: [&str; 4] = [
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
];

/// A claim to be signed.
pub(super) struct Claim {
    pub(super) form: Form,
    credential: String,
    /// `host;x-amz-date`, as the caller spelled it.
    pub(super) signed_headers: String,
    pub(super) signature: String,
    /// The text of X-Amz-Date.
    pub(super) date: String,
    pub(super) session_token: Option<String>,
}

/// Where the signature stood, and how long it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Header,
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
    /// Everything behind the access key id.
    pub(super) fn scope(&self) -> String {
        [self.day, self.region, self.service, self.terminator].join("/")
    }
}

impl Claim {
    pub(super) fn read(
        headers: &HeaderMap,
        query: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<Claim, AuthError> {
        let authorization = single(headers, "authorization")?;
        let presigned = query
            .iter()
            .any(|(name, _)| QUERY_SIGNATURE.iter().any(|known| known.as_bytes() == name));
        match (authorization, presigned) {
            (Some(_), true) => Err(AuthError::SignedTwice),
            (Some(authorization), false) => Claim::in_header(authorization, headers),
            (None, true) => Claim::in_query(query, headers),
            (None, false) => Err(AuthError::Unsigned),
        }
    }

    fn in_header(authorization: &str, headers: &HeaderMap) -> Result<Claim, AuthError> {
        let (algorithm, fields) = authorization.split_once(' ').unwrap_or((authorization, ""));
        supported(algorithm)?;
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
        let date = single(headers, "x-amz-date")?.map(str::to_string);
        let mut parts = Parts::default();
        let claim = Claim {
            form: Form::Header,
            credential: parts.required(
                credential,
                "Authorization header requires 'Credential' parameter.",
            ),
            signature: parts.required(
                signature,
                "Authorization header requires 'Signature' parameter.",
            ),
            signed_headers: parts.required(
                signed_headers,
                "Authorization header requires 'SignedHeaders' parameter.",
            ),
            date: parts.required(
                date,
                "Authorization header requires existence of a 'X-Amz-Date' header.",
            ),
            session_token: single(headers, "x-amz-security-token")?.map(str::to_string),
        };
        parts.complete(claim)
    }

    fn in_query(query: &[(Vec<u8>, Vec<u8>)], headers: &HeaderMap) -> Result<Claim, AuthError> {
        let part = |wanted: &str| -> Result<Option<String>, AuthError> {
            let mut values = query.iter().filter(|(name, _)| name == wanted.as_bytes());
            let Some((_, value)) = values.next() else {
                return Ok(None);
            };
            match (String::from_utf8(value.clone()), values.next()) {
                (Ok(value), None) => Ok(Some(value)),
                (Err(_), _) => incomplete(format!("The parameter {wanted} is not text.")),
                (_, Some(_)) => incomplete(format!(
                    "The request contains the parameter {wanted} twice."
                )),
            }
        };
        let required = |name: &str| format!("AWS query-string parameters must include '{name}'.");
        if let Some(algorithm) = part("X-Amz-Algorithm")? {
            supported(&algorithm)?;
        } else {
            return incomplete(required("X-Amz-Algorithm"));
        }
        if headers.contains_key("x-amz-date") {
            return incomplete("The request contains X-Amz-Date twice.");
        }
        let mut parts = Parts::default();
        let expires = parts.required(part("X-Amz-Expires")?, &required("X-Amz-Expires"));
        let claim = Claim {
            form: Form::Query {
                expires: expires.parse().unwrap_or(0),
            },
            credential: parts.required(part("X-Amz-Credential")?, &required("X-Amz-Credential")),
            signature: parts.required(part("X-Amz-Signature")?, &required("X-Amz-Signature")),
            signed_headers: parts.required(
                part("X-Amz-SignedHeaders")?,
                &required("X-Amz-SignedHeaders"),
            ),
            date: parts.required(part("X-Amz-Date")?, &required("X-Amz-Date")),
            session_token: part("X-Amz-Security-Token")?,
        };
        let claim = parts.complete(claim)?;
        match claim.form {
            Form::Query {
                expires: 1..=MAX_LIFETIME,
            } if expires.bytes().all(|b| b.is_ascii_digit()) => Ok(claim),
            _ => incomplete(format!(
                "X-Amz-Expires must be a number of seconds from 1 to {MAX_LIFETIME}."
            )),
        }
    }

    /// The names of the signed header fields: lower-case, ascending, none twice, as the canonical form has them.
    pub(super) fn signed_headers(&self) -> Result<Vec<&str>, AuthError> {
        let names: Vec<_> = self.signed_headers.split(';').collect();
        let ascending = names.is_sorted_by(|one, next| one < next);
        let spelled = names
            .iter()
            .all(|name| !name.is_empty() && !name.bytes().any(|b| b.is_ascii_uppercase()));
        if ascending && spelled {
            return Ok(names);
        }
        incomplete(
            "SignedHeaders must be lower-case names in ascending order, separated by semicolons.",
        )
    }

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

/// The one value of a header field; two of them, or one that is not text, is a fault.
pub(super) fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, AuthError> {
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

/// `20150830T123600Z`, and no other form of a date.
pub(super) fn read_date(text: &str) -> Result<Timestamp, AuthError> {
    let bytes = text.as_bytes();
    let spelled = bytes.len() == 16
        && bytes.iter().enumerate().all(|(place, byte)| match place {
            8 => *byte == b'T',
            15 => *byte == b'Z',
            _ => byte.is_ascii_digit(),
        });
    let civil = if spelled {
        DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()
    } else {
        None
    };
    match civil.and_then(|civil| TimeZone::UTC.to_timestamp(civil).ok()) {
        Some(date) => Ok(date),
        None => incomplete("Date must be in ISO-8601 'basic format', e.g. 20150830T123600Z."),
    }
}

fn supported(algorithm: &str) -> Result<(), AuthError> {
    if algorithm == ALGORITHM {
        Ok(())
    } else {
        incomplete(format!("Unsupported AWS 'algorithm': '{algorithm}'."))
    }
}

fn incomplete<T>(what: impl Into<String>) -> Result<T, AuthError> {
    Err(AuthError::Incomplete(what.into()))
}

/// Collects every missing part, so that the caller is told of all of them.
#[derive(Default)]
struct Parts {
    missing: Vec<String>,
}

impl Parts {
    fn required(&mut self, part: Option<String>, sentence: &str) -> String {
        part.filter(|text| !text.is_empty()).unwrap_or_else(|| {
            self.missing.push(sentence.to_string());
            String::new()
        })
    }

    fn complete(self, claim: Claim) -> Result<Claim, AuthError> {
        if self.missing.is_empty() {
            Ok(claim)
        } else {
            incomplete(self.missing.join(" "))
        }
    }
}
