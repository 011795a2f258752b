//! The signing key and the published certificates.

use std::fmt;

use jiff::Timestamp;
use rsa::PrivateKey;
use rsa::traits::PublicKeyParts as _;

use super::certificate::Certificate;
use super::signing_error::SigningError;

/// The size of a generated key in bits: that of EC2's `rsa2048`, which every verifier accepts.
pub const KEY_BITS: usize = 2048;
/// The smallest size of an operator's own key, in bits.
pub const MIN_KEY_BITS: usize = 2048;

/// The signing key in use and every certificate that is published.
pub struct Identity {
    pub(super) key: PrivateKey,
    /// The certificate of the key.
    pub(super) certificate: Certificate,
    /// The certificates of earlier keys, newest first, without the current one.
    pub(super) retired: Vec<Certificate>,
}

impl Identity {
    /// Generates an identity that is not stored, for the demo and for tests.
    pub fn generate(now: Timestamp) -> Result<Identity, SigningError> {
        let key = PrivateKey::new(&mut rand::rng(), KEY_BITS).map_err(SigningError)?;
        let certificate = Certificate::self_signed(&key, now)?;
        Ok(Identity {
            key,
            certificate,
            retired: Vec::new(),
        })
    }

    /// Returns the certificate of the current key.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Returns every published certificate: the current one, then the others with the newest first.
    pub fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        std::iter::once(&self.certificate).chain(&self.retired)
    }

    /// Returns every published certificate as PEM blocks, in the same order.
    pub fn certificates_pem(&self) -> String {
        self.certificates().map(Certificate::to_pem).collect()
    }

    /// Returns an identity. `retired` may be in any order and contain duplicates.
    pub(super) fn new(
        key: PrivateKey,
        certificate: Certificate,
        mut retired: Vec<Certificate>,
    ) -> Identity {
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

/// Returns the size of a key in bits.
pub(super) fn key_bits(key: &PrivateKey) -> usize {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::testing::{IDENTITY, OTHER, now};

    #[test]
    fn two_installations_share_neither_issuer_nor_serial() {
        let (one, other) = (IDENTITY.certificate(), OTHER.certificate());
        assert_ne!(one.issuer(), other.issuer());
        assert_ne!(one.serial(), other.serial());
        for certificate in [one, other] {
            assert_eq!(
                certificate.serial().len(),
                40,
                "20 bytes, whatever the random number is"
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
    fn the_certificate_contains_the_key_and_is_valid_from_a_day_ago() {
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
    fn published_certificates_are_ordered_newest_first_without_duplicates() {
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
        let identity = Identity::new(IDENTITY.key.clone(), IDENTITY.certificate.clone(), retired);
        let published = Certificate::read_pem(&identity.certificates_pem()).unwrap();
        assert_eq!(published, [IDENTITY.certificate.clone(), old, older]);
    }

    #[test]
    fn debug_output_does_not_contain_the_key() {
        let shown = format!("{:?}", *IDENTITY);
        assert!(
            shown.contains(&IDENTITY.certificate.serial()) && shown.ends_with(", .. }"),
            "{shown}"
        );
        assert!(!shown.contains("key") && !shown.contains("Limb"), "{shown}");
    }
}
