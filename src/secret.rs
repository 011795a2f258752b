//! Secrets: values that are never logged or printed.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A value that must not appear in logs, errors or debug output. Its `Debug` is redacted.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Secret {
        Secret(value.into())
    }

    /// Returns the value, for the code that has to send or compare it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
/// Words that documentation has in place of a secret: their letters and digits, in lower case.
const PLACEHOLDERS: [&str; 8] = [
    "changeme",
    "replaceme",
    "placeholder",
    "secret",
    "password",
    "secretaccesskey",
    "yoursecretkey",
    "yoursecretaccesskey",
];

/// Secrets that documentation publishes: the example key in AWS's, and that of the demo.
const PUBLIC_SECRETS: [&str; 2] = [
    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "imdsd-demo-secret-key-known-to-everyone",
];

/// Returns whether a secret is what documentation shows in its place, or one character repeated.
pub fn is_placeholder(secret: &str) -> bool {
    let letters: String = secret.chars().filter(char::is_ascii_alphanumeric).collect();
    let letters = letters.to_ascii_lowercase();
    let first = secret.chars().next();
    secret.contains('…')
        || secret.contains("...")
        || secret.contains("EXAMPLE")
        || PUBLIC_SECRETS.contains(&secret)
        || PLACEHOLDERS.contains(&letters.as_str())
        || secret.chars().count() > 1 && secret.chars().all(|c| Some(c) == first)
}
