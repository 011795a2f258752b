//! The failure of a signature.

use std::fmt;

/// A failure to sign: there was no randomness for blinding, or the signature did not verify, for
/// example after a hardware fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningError(pub(super) rsa::Error);

impl fmt::Display for SigningError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot sign: {}", self.0)
    }
}

impl std::error::Error for SigningError {}
