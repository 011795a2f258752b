//! The reasons why an identity cannot be read, generated or stored.

use std::path::{Path, PathBuf};
use std::{fmt, io};

use super::signing_error::SigningError;

/// The reason why there is no identity to sign with.
#[derive(Debug)]
pub enum IdentityError {
    /// A file or a directory cannot be read, created or written.
    File {
        /// The failed operation: `read`, `write`, …
        operation: &'static str,
        /// The file or the directory.
        path: PathBuf,
        /// The error of the system.
        reason: io::Error,
    },
    /// This directory has no identity yet.
    Missing(PathBuf),
    /// Other users can read or replace the key, or the file contains no usable RSA key.
    Key {
        /// The file of the key.
        key: PathBuf,
        /// The fault. It contains no part of the key.
        reason: String,
    },
    /// The file contains no usable certificate.
    Certificate {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The fault.
        reason: String,
    },
    /// The certificate belongs to another key.
    Mismatch {
        /// The file of the key.
        key: PathBuf,
        /// The file of the certificate.
        certificate: PathBuf,
    },
    /// Generating a key failed.
    Generation(SigningError),
}

impl IdentityError {
    /// Returns a function that wraps an I/O error of an operation on a file.
    pub(super) fn of_file(
        operation: &'static str,
        path: &Path,
    ) -> impl Fn(io::Error) -> IdentityError {
        move |reason| IdentityError::File {
            operation,
            path: path.to_path_buf(),
            reason,
        }
    }
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdentityError::File {
                operation,
                path,
                reason,
            } => write!(f, "cannot {operation} {}: {reason}", path.display()),
            IdentityError::Missing(directory) => {
                let directory = directory.display();
                write!(
                    f,
                    "{directory}: there is no key yet; imdsd generates one when it starts, or run: imdsd identity rotate"
                )
            }
            IdentityError::Key { key, reason } => write!(f, "{}: {reason}", key.display()),
            IdentityError::Certificate {
                certificate,
                reason,
            } => write!(f, "{}: {reason}", certificate.display()),
            IdentityError::Mismatch { key, certificate } if key == certificate => {
                write!(
                    f,
                    "{}: its certificate belongs to another key; restore the file from a backup",
                    key.display()
                )
            }
            IdentityError::Mismatch { key, certificate } => {
                let (key, certificate) = (key.display(), certificate.display());
                write!(
                    f,
                    "{certificate}: this certificate does not belong to the key in {key}; configure a matching pair"
                )
            }
            IdentityError::Generation(reason) => write!(f, "cannot generate a key: {reason}"),
        }
    }
}

impl std::error::Error for IdentityError {}
