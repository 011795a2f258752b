//! FetchFuture: what a source returns, how it fails, and the trait of a source.

use std::fmt;
use std::pin::Pin;

use jiff::Timestamp;

use super::session::RoleSession;
use crate::secret::Secret;

/// Credentials as a source returns them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedCredentials {
    /// `ASIA…`
    pub access_key_id: String,
    /// The secret half.
    pub secret_access_key: Secret,
    /// Empty if there is none.
    pub session_token: Secret,
    /// `None` if the credentials do not expire.
    pub expiration: Option<Timestamp>,
}

/// The kind of a failed fetch. The guest sees this and nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The source refused the request. Trust policies and keys decide that.
    Refused,
    /// The source could not be reached, or its answer could not be understood.
    Unavailable,
}

/// A failed fetch. `Display` is the reason for the operator: it may contain endpoints and paths,
/// but no secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchError {
    /// The kind of the failure.
    pub kind: FailureKind,
    reason: String,
}

impl FetchError {
    /// Returns a refusal by the source.
    pub fn refused(reason: impl Into<String>) -> FetchError {
        FetchError {
            kind: FailureKind::Refused,
            reason: reason.into(),
        }
    }

    /// Returns a failure of the source.
    pub fn unavailable(reason: impl Into<String>) -> FetchError {
        FetchError {
            kind: FailureKind::Unavailable,
            reason: reason.into(),
        }
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for FetchError {}

/// A running fetch. Dropping it stops the fetch and every process that it started.
pub type FetchFuture<'a> =
    Pin<Box<dyn Future<Output = Result<FetchedCredentials, FetchError>> + Send + 'a>>;

/// A source of credentials. A fetch ends within a bounded time.
pub trait Fetch: Send + Sync + 'static {
    /// Fetches the credentials of one session. `now` is the time of the signature.
    fn fetch<'a>(&'a self, session: &'a RoleSession, now: Timestamp) -> FetchFuture<'a>;
}

/// Reads an expiration. Some sources send the last days of the year 9999 for "never", which is
/// outside the range of [`Timestamp`] and becomes its maximum.
pub(super) fn parse_expiration(text: &str) -> Option<Timestamp> {
    text.parse()
        .ok()
        .or_else(|| text.starts_with("9999-12-3").then_some(Timestamp::MAX))
}

/// Returns the beginning of an untrusted text, without control characters, for one line of the log.
pub(super) fn log_excerpt(text: &str) -> String {
    const MAX_CHARACTERS: usize = 200;
    let line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    line.trim().chars().take(MAX_CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_for_the_log_is_one_short_printable_line() {
        assert_eq!(log_excerpt(" a\nb\u{1b}[0m\0 "), "a b [0m");
        assert_eq!(log_excerpt(&"ü".repeat(500)).chars().count(), 200);
    }
}
