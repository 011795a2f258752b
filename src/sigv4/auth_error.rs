//! The reasons why a request is not authenticated, with EC2's codes and messages.

use std::fmt;

/// The reason why a request is not authenticated.
///
/// [`AuthError::message`] is for the caller. `Display` is for the log and contains no text from the
/// request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthError {
    /// The query has a bad escape.
    MalformedQuery,
    /// The request is not signed.
    Unsigned,
    /// The request is signed with an older version than Signature Version 4.
    OldSignature,
    /// The request is signed both in the header and in the query.
    SignedTwice,
    /// The signature is malformed or lacks some parts. Contains the message that names them.
    Incomplete(String),
    /// A header field that must be signed is not signed. Contains its name.
    HeaderNotSigned(String),
    /// `x-amz-content-sha256` is not the hash of the body.
    PayloadHash,
    /// Signed too long ago, or in the future.
    Expired,
    /// Signed for another region, service or day. Contains the message that names the right ones.
    WrongScope(String),
    /// The access key, its session token or the signature is wrong. The message does not say which.
    Refused(RefusedPart),
}

/// The part of a refused request that is wrong. Only for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedPart {
    /// No such access key id.
    AccessKey,
    /// The key's session token is missing or a different one.
    SessionToken,
    /// The signature was not made with this key for this request.
    Signature,
}

impl AuthError {
    /// Returns EC2's error code.
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
            // As EC2 in the regions that have Signature Version 4 only.
            AuthError::OldSignature | AuthError::Refused(_) => "AuthFailure",
        }
    }

    /// Returns the reason in a word, for the log and the counters.
    pub fn reason(&self) -> &'static str {
        match self {
            AuthError::MalformedQuery => "malformed_query",
            AuthError::Unsigned => "unsigned",
            AuthError::SignedTwice => "signed_twice",
            AuthError::Incomplete(_) => "incomplete_signature",
            AuthError::HeaderNotSigned(_) => "header_not_signed",
            AuthError::PayloadHash => "payload_hash",
            AuthError::Expired => "expired",
            AuthError::OldSignature => "old_signature_version",
            AuthError::WrongScope(_) => "wrong_scope",
            AuthError::Refused(RefusedPart::AccessKey) => "unknown_access_key",
            AuthError::Refused(RefusedPart::SessionToken) => "wrong_session_token",
            AuthError::Refused(RefusedPart::Signature) => "wrong_signature",
        }
    }

    /// Returns the HTTP status that EC2 sends with the code.
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
            AuthError::OldSignature | AuthError::Refused(_) => 401,
        }
    }

    /// Returns the message for the caller, in EC2's words where EC2 has such an error.
    pub fn message(&self) -> String {
        match self {
            AuthError::MalformedQuery => "The query string contains a syntax error.".to_string(),
            AuthError::Unsigned => {
                "The request must contain the parameter AWSAccessKeyId".to_string()
            }
            AuthError::OldSignature => {
                "The request is signed with an older signature version. Sign it with Signature Version 4 \
                 (AWS4-HMAC-SHA256)."
                    .to_string()
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
            AuthError::OldSignature => "signed with an older signature version",
            AuthError::SignedTwice => "signed in header and query",
            AuthError::Incomplete(_) => "malformed or incomplete signature",
            AuthError::HeaderNotSigned(_) => "a required header field is not signed",
            AuthError::PayloadHash => "x-amz-content-sha256 is not the hash of the body",
            AuthError::Expired => "signed too long ago or in the future",
            AuthError::WrongScope(_) => "signed for another region, service or day",
            AuthError::Refused(RefusedPart::AccessKey) => "unknown access key",
            AuthError::Refused(RefusedPart::SessionToken) => "wrong session token",
            AuthError::Refused(RefusedPart::Signature) => "wrong signature",
        })
    }
}

impl std::error::Error for AuthError {}
