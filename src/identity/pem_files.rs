//! Reading keys and certificates from PEM files.

use std::path::Path;

use rsa::PrivateKey;
use rsa::pkcs1::DecodeRsaPrivateKey as _;
use rsa::pkcs8::DecodePrivateKey as _;
use zeroize::Zeroizing;

use super::armour;
use super::certificate::Certificate;
use super::identity_error::IdentityError;
use super::signing_identity::{MIN_KEY_BITS, key_bits};
use crate::ownership::KeyOwner;
use crate::plain_file::{self, PlainFile, Symlinks};

/// Parses the RSA key in a text: PEM, PKCS #8 or PKCS #1, at least [`MIN_KEY_BITS`] bits, not
/// encrypted.
pub(super) fn parse_key(path: &Path, text: &str) -> Result<PrivateKey, IdentityError> {
    let wrong = |reason: String| IdentityError::Key {
        key: path.to_path_buf(),
        reason,
    };
    let block = |label: &str| armour::blocks(text, label).next();
    let key = match (block("PRIVATE KEY"), block("RSA PRIVATE KEY")) {
        (Some(pem), _) => PrivateKey::from_pkcs8_pem(pem).map_err(|reason| reason.to_string()),
        (None, Some(pem)) => PrivateKey::from_pkcs1_pem(pem).map_err(|reason| reason.to_string()),
        (None, None) if text.contains("ENCRYPTED PRIVATE KEY-----") => {
            Err("the key is encrypted".to_string())
        }
        (None, None) => Err("no PEM block -----BEGIN PRIVATE KEY-----".to_string()),
    };
    let key = key.map_err(|reason| {
        wrong(format!(
            "{reason}; it must be an RSA key such as openssl genrsa 2048 generates"
        ))
    })?;
    match key_bits(&key) {
        MIN_KEY_BITS.. => Ok(key),
        few => Err(wrong(format!(
            "the key has {few} bits; it must have at least {MIN_KEY_BITS}"
        ))),
    }
}

/// Parses the only certificate in a text.
pub(super) fn parse_certificate(path: &Path, text: &str) -> Result<Certificate, IdentityError> {
    let wrong = |reason: String| IdentityError::Certificate {
        certificate: path.to_path_buf(),
        reason,
    };
    let mut certificates = Certificate::read_pem(text).map_err(wrong)?;
    match certificates.len() {
        1 => Ok(certificates.remove(0)),
        // The other certificates of a chain are not signers' and must not be published as such.
        several => Err(wrong(format!(
            "it contains {several} certificates; it must contain only the certificate of the key"
        ))),
    }
}

/// Reads retired certificates. Each must have an RSA key, or it could not have been in use.
pub(super) fn read_certificates(path: &Path) -> Result<Vec<Certificate>, IdentityError> {
    let wrong = |reason: String| IdentityError::Certificate {
        certificate: path.to_path_buf(),
        reason,
    };
    let certificates = Certificate::read_pem(&read_text(path)?).map_err(wrong)?;
    match certificates
        .iter()
        .find(|certificate| certificate.rsa_key().is_none())
    {
        Some(other) => Err(wrong(format!(
            "the certificate with serial {} has no RSA key",
            other.serial()
        ))),
        None => Ok(certificates),
    }
}

/// Reads a file of certificates.
pub(super) fn read_text(path: &Path) -> Result<String, IdentityError> {
    plain_file::read_text(path, plain_file::MAX_BYTES).map_err(IdentityError::of_file("read", path))
}

/// Reads a file with a private key.
pub(super) fn read_secret(
    path: &Path,
    owner: KeyOwner,
) -> Result<Zeroizing<String>, IdentityError> {
    let file =
        PlainFile::open(path, Symlinks::Follow).map_err(IdentityError::of_file("read", path))?;
    if let Some(reason) = file.key_fault(path, owner) {
        return Err(IdentityError::Key {
            key: path.to_path_buf(),
            reason,
        });
    }
    file.read_secret_text(plain_file::MAX_BYTES)
        .map_err(IdentityError::of_file("read", path))
}
