//! Who imdsd is to those who verify what it signs: a key, its certificate, and the certificates that went before.
//!
//! Two things are signed with it: identity documents ([`Signatures`]), three ways as EC2 signs them, and web identity tokens
//! ([`WebIdentityClaims`]). RSA with SHA-256 signs everything. Verifiers get the certificates from the operator
//! (`imdsd identity certificate`) or, for tokens, the key set (`imdsd identity jwks`).
//!
//! Nothing here is done on a guest's request: signatures wait in [`SignedDocuments`].

mod armour;
mod ber;
mod certificate;
mod container;
mod documents;
mod files;
mod jwt;
mod signing;
mod verify;

use std::fmt;

use jiff::Timestamp;
use rsa::PrivateKey;
use rsa::traits::PublicKeyParts as _;

pub use certificate::Certificate;
pub use documents::SignedDocuments;
pub use files::{IdentityError, rotate};
pub use jwt::{JWKS_PATH, WEB_IDENTITY_LIFE, WebIdentityClaims, openid_configuration};
pub use signing::Signatures;
pub use verify::{Verified, VerifyError, verify_pkcs7, verify_signature};

/// Bits of a key made here: what EC2's `rsa2048` has, and what every verifier takes.
pub const KEY_BITS: usize = 2048;
/// Bits that an operator's own key must have at least.
pub const MIN_KEY_BITS: usize = 2048;

/// The signing key in use and every certificate that is published.
pub struct Identity {
    key: PrivateKey,
    /// The key's own.
    certificate: Certificate,
    /// Those of earlier keys, newest first, without the one in use.
    retired: Vec<Certificate>,
}

/// A signature could not be made: no randomness to blind it, or it did not verify, as after a fault of the hardware.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningError(rsa::Error);

impl Identity {
    /// A new identity that lasts as long as the process, for the demo and for tests.
    pub fn generate(now: Timestamp) -> Result<Identity, SigningError> {
        let key = PrivateKey::new(&mut rand::rng(), KEY_BITS).map_err(SigningError)?;
        let certificate = Certificate::self_signed(&key, now)?;
        Ok(Identity {
            key,
            certificate,
            retired: Vec::new(),
        })
    }

    /// The certificate of the key in use.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Every published certificate, the one in use first, then newest first.
    pub fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        std::iter::once(&self.certificate).chain(&self.retired)
    }

    /// Every published certificate as PEM blocks, in the same order.
    pub fn certificates_pem(&self) -> String {
        self.certificates().map(Certificate::to_pem).collect()
    }

    /// An identity of what was read; `retired` in any order, with repetitions.
    fn of(key: PrivateKey, certificate: Certificate, mut retired: Vec<Certificate>) -> Identity {
        retired.sort_by_key(|certificate| std::cmp::Reverse(certificate.not_before()));
        retired.dedup();
        retired.retain(|other| *other != certificate);
        Identity {
            key,
            certificate,
            retired,
        }
    }
}

/// Bits of a key's modulus.
fn bits(key: &PrivateKey) -> usize {
    key.n().bit_width_vartime() as usize
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Identity {
            key: _,
            certificate,
            retired,
        } = self;
        f.debug_struct("Identity")
            .field("certificate", certificate)
            .field("retired", retired)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for SigningError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "can't sign: {}", self.0)
    }
}

impl std::error::Error for SigningError {}

/// What the tests of this module share: making a key takes its time.
#[cfg(test)]
mod testing {
    use std::sync::LazyLock;

    use super::*;

    pub(super) const NOW: &str = "2026-03-04T05:06:07Z";

    pub(super) static IDENTITY: LazyLock<Identity> =
        LazyLock::new(|| Identity::generate(now()).unwrap());
    pub(super) static OTHER: LazyLock<Identity> =
        LazyLock::new(|| Identity::generate(now()).unwrap());

    pub(super) fn now() -> Timestamp {
        NOW.parse().unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{IDENTITY, OTHER, now};
    use super::*;

    #[test]
    fn two_installations_share_neither_issuer_nor_serial() {
        let (one, other) = (IDENTITY.certificate(), OTHER.certificate());
        assert_ne!(one.issuer(), other.issuer());
        assert_ne!(one.serial(), other.serial());
        for certificate in [one, other] {
            assert_eq!(
                certificate.serial().len(),
                40,
                "20 bytes, whatever was drawn"
            );
            assert!(certificate.serial().as_bytes()[0] < b'8', "positive");
            assert!(
                certificate.issuer().starts_with("CN=imdsd "),
                "{}",
                certificate.issuer()
            );
            assert!(certificate.issuer().ends_with(",O=imdsd"));
        }
    }

    #[test]
    fn the_certificate_is_of_the_key_and_begins_a_day_early() {
        let certificate = IDENTITY.certificate();
        assert_eq!(
            certificate.rsa_key().as_ref(),
            Some(IDENTITY.key.as_public_key())
        );
        assert_eq!(
            certificate.not_before().as_secs() as i64,
            now().as_second() - 86_400
        );
    }

    #[test]
    fn published_certificates_are_read_back_newest_first_and_once() {
        let certificate =
            |time: &str| Certificate::self_signed(&OTHER.key, time.parse().unwrap()).unwrap();
        let (old, older) = (
            certificate("2025-01-01T00:00:00Z"),
            certificate("2024-01-01T00:00:00Z"),
        );
        let retired = vec![
            older.clone(),
            old.clone(),
            IDENTITY.certificate.clone(),
            older.clone(),
        ];
        let identity = Identity::of(IDENTITY.key.clone(), IDENTITY.certificate.clone(), retired);
        let published = Certificate::read_pem(&identity.certificates_pem()).unwrap();
        assert_eq!(published, [IDENTITY.certificate.clone(), old, older]);
    }

    #[test]
    fn the_key_does_not_show() {
        let shown = format!("{:?}", *IDENTITY);
        assert!(
            shown.contains(&IDENTITY.certificate.serial()) && shown.ends_with(", .. }"),
            "{shown}"
        );
        assert!(!shown.contains("key") && !shown.contains("Limb"), "{shown}");
    }
}
