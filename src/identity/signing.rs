//! The three signatures of an identity document, in EC2's form: base64 in lines of 76 columns
//! without a final newline. They are kept as bytes, once, and become text when they are read.
//!
//! EC2 signs `signature` with an RSA key of 1024 bits, and `pkcs7` with DSA and SHA-1. Both are
//! weak, and verifiers are dropping them. Here one RSA key of 2048 bits with SHA-256 signs all
//! three, so `pkcs7` and `rsa2048` are the same container. EC2 encodes it in BER; here it is DER,
//! which every reader of BER accepts.

use std::ops::Range;

use der::asn1::{ObjectIdentifier, OctetString, SetOfVec};
use der::{Any, Encode, EncodeValue, Tagged};
use jiff::Timestamp;
use rsa::sha2::{Digest as _, Sha256};
use x509_cert::attr::Attribute;

use super::armour::{EC2_COLUMNS, lines};
use super::certificate::asn1_time;
use super::container::{
    CONTENT_TYPE, ContentInfo, DATA, EncapsulatedContentInfo, MESSAGE_DIGEST, RSA, SHA_256,
    SIGNED_DATA, SIGNING_TIME, SignedData, SignerInfo, algorithm,
};
use super::signing_error::SigningError;
use super::signing_identity::Identity;

/// The signatures that a guest reads with its identity document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signatures {
    signature: Box<[u8]>,
    /// In DER.
    container: Box<[u8]>,
    /// Where the container has the document.
    document: Range<usize>,
}

impl Signatures {
    /// Returns `signature`: RSA PKCS #1 v1.5 with SHA-256 over the document.
    pub fn signature(&self) -> String {
        lines(&self.signature, EC2_COLUMNS)
    }

    /// Returns `pkcs7`: a container with the document and its signature, without PEM armour.
    pub fn pkcs7(&self) -> String {
        lines(&self.container, EC2_COLUMNS)
    }

    /// Returns `rsa2048`: the same.
    pub fn rsa2048(&self) -> String {
        self.pkcs7()
    }

    /// Returns the document that was signed.
    pub(super) fn document(&self) -> &[u8] {
        &self.container[self.document.clone()]
    }
}

impl Identity {
    /// Signs a document. `now` becomes the signing time of the containers.
    ///
    /// This takes some milliseconds of processor time and must not run during a guest's request.
    pub fn sign(&self, document: &[u8], now: Timestamp) -> Result<Signatures, SigningError> {
        let signature = self.sign_bytes(document)?;
        let container = self.container(document, now)?;
        // Any place with these bytes will do.
        let start = (0..container.len()).find(|start| container[*start..].starts_with(document));
        let start = start.expect("the container has the document");
        Ok(Signatures {
            signature: signature.into_boxed_slice(),
            container: container.into_boxed_slice(),
            document: start..start + document.len(),
        })
    }

    /// Signs with RSA PKCS #1 v1.5 and SHA-256, with blinding.
    pub(super) fn sign_bytes(&self, bytes: &[u8]) -> Result<Vec<u8>, SigningError> {
        self.key
            .pkcs1v15_sign_with_rng::<Sha256, _>(&mut rand::rng(), bytes)
            .map_err(SigningError)
    }

    /// Returns SignedData, version 1, as AWS's guide verifies it: with the document, without
    /// certificates, with one signer.
    fn container(&self, document: &[u8], now: Timestamp) -> Result<Vec<u8>, SigningError> {
        let digest = Sha256::digest(document);
        let attributes = set([
            attribute(CONTENT_TYPE, &DATA),
            attribute(SIGNING_TIME, &asn1_time(now)),
            attribute(MESSAGE_DIGEST, &octets(&digest)),
        ]);
        // The signature covers the attributes with the tag SET, not with the implicit tag that they
        // have inside the container (RFC 5652, section 5.4).
        let signature = self.sign_bytes(&to_der(&attributes))?;
        let signed_data = SignedData {
            version: 1,
            digest_algorithms: set([algorithm(SHA_256)]),
            content: EncapsulatedContentInfo {
                content_type: DATA,
                bytes: Some(octets(document)),
            },
            certificates: None,
            revocation_lists: None,
            signers: set([SignerInfo {
                version: 1,
                name: self.certificate.issuer_and_serial_number(),
                digest_algorithm: algorithm(SHA_256),
                signed_attributes: Some(attributes),
                signature_algorithm: algorithm(RSA),
                signature: octets(&signature),
                unsigned_attributes: None,
            }]),
        };
        Ok(to_der(&ContentInfo {
            content_type: SIGNED_DATA,
            content: any(&signed_data),
        }))
    }
}

fn attribute(oid: ObjectIdentifier, value: &(impl Tagged + EncodeValue)) -> Attribute {
    Attribute {
        oid,
        values: set([any(value)]),
    }
}

fn set<T: der::DerOrd, const N: usize>(elements: [T; N]) -> SetOfVec<T> {
    SetOfVec::try_from(elements).expect("the elements differ")
}

fn octets(bytes: &[u8]) -> OctetString {
    OctetString::new(bytes).expect("a document is shorter than 256 MiB")
}

fn any(value: &(impl Tagged + EncodeValue)) -> Any {
    Any::encode_from(value).expect("a document is shorter than 256 MiB")
}

fn to_der(value: &impl Encode) -> Vec<u8> {
    value.to_der().expect("a document is shorter than 256 MiB")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{IDENTITY, now};
    use super::*;

    /// The commands of AWS's guide decode and armour these. EC2's have lines of 76 columns and no
    /// final newline.
    #[test]
    fn signatures_have_the_form_of_ec2() {
        let signatures = IDENTITY.sign(b"{}", now()).unwrap();
        for text in [
            &signatures.signature(),
            &signatures.pkcs7(),
            &signatures.rsa2048(),
        ] {
            let (last, full) = text
                .split('\n')
                .collect::<Vec<_>>()
                .split_last()
                .map(|(l, f)| (*l, f.to_vec()))
                .unwrap();
            assert!(
                full.iter().all(|line| line.len() == 76) && (1..=76).contains(&last.len()),
                "{text}"
            );
            assert!(!text.contains('\r'));
        }
        assert_eq!(
            super::super::armour::decode(&signatures.signature())
                .unwrap()
                .len(),
            256
        );
        assert_eq!(signatures.pkcs7(), signatures.rsa2048());
        assert_eq!(signatures.document(), b"{}");
        // What an instance keeps, besides its document: bytes, and the container once.
        let kept = signatures.signature.len() + signatures.container.len() - 2;
        assert!(kept < 800, "{kept} bytes");
    }

    /// UTCTime ends in 2049 (RFC 5280, section 4.1.2.5).
    #[test]
    fn signing_works_after_2049_and_before_1970() {
        for time in ["2051-01-01T00:00:00Z", "1969-01-01T00:00:00Z"] {
            let container = IDENTITY.sign(b"{}", time.parse().unwrap()).unwrap().pkcs7();
            let verified =
                super::super::verify_pkcs7(&container, None, &IDENTITY.certificates_pem()).unwrap();
            assert_eq!(
                verified.signed_at.unwrap(),
                time.parse::<Timestamp>()
                    .unwrap()
                    .max(Timestamp::UNIX_EPOCH)
            );
        }
    }
}
