//! Verifies a signature or a container with a document and certificates, and names the first fault.
//!
//! It accepts the signatures of imdsd, and those of EC2 with RSA and SHA-256: `rsa2048`, and
//! `signature` with its key of 1024 bits. Not supported: EC2's `pkcs7` (DSA with SHA-1), and
//! containers without signed attributes or with several signers. Like AWS's own commands, it does
//! not check who signed a certificate or whether it is still valid: the caller trusts the
//! certificates that it passes.

use std::fmt;

use der::asn1::{ObjectIdentifier, OctetString, SetOfVec};
use der::{Decode as _, Encode as _};
use jiff::Timestamp;
use rsa::sha2::{Digest as _, Sha256};
use x509_cert::attr::Attribute;
use x509_cert::time::Time;

use super::certificate::{Certificate, serial_digits};
use super::container::{
    CONTENT_TYPE, ContentInfo, DATA, MESSAGE_DIGEST, RSA, RSA_WITH_SHA_256, SHA_256, SIGNED_DATA,
    SIGNING_TIME, SignedData, SignerInfo,
};
use super::{armour, ber};

/// A valid signature and its signer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedSignature {
    /// The issuer of the signer's certificate.
    pub issuer: String,
    /// The serial number of that certificate, in hexadecimal digits.
    pub serial: String,
    /// The signing time, which only containers have.
    pub signed_at: Option<Timestamp>,
    /// The signed document.
    pub document: Vec<u8>,
}

/// The reason why a signature is not valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerifyError {
    /// The text is not base64.
    NotBase64,
    /// The bytes are not a supported container.
    NotContainer(String),
    /// The certificates cannot be read.
    Certificates(String),
    /// The container has a different document.
    OtherDocument {
        /// The position of the first different byte, counted from 0.
        at: usize,
    },
    /// No certificate has the name of the signer in the container.
    UnknownSigner {
        /// The signer's issuer.
        issuer: String,
        /// The signer's serial number.
        serial: String,
        /// The issuers and serial numbers of the given certificates.
        given: Vec<(String, String)>,
    },
    /// The container or the certificate uses an unsupported algorithm. Contains its name.
    UnsupportedAlgorithm(String),
    /// The digest of the document is not the signed digest.
    DigestMismatch,
    /// The signature was not made with the certificate's key for these bytes.
    SignatureMismatch,
}

/// Verifies the value of `signature`. It does not name its signer, so each certificate is tried.
pub fn verify_signature(
    document: &[u8],
    signature: &str,
    certificates: &str,
) -> Result<VerifiedSignature, VerifyError> {
    let signature = armour::decode(signature).ok_or(VerifyError::NotBase64)?;
    let certificates = Certificate::read_pem(certificates).map_err(VerifyError::Certificates)?;
    let keys: Vec<_> = certificates
        .iter()
        .filter_map(|one| Some((one, one.rsa_key()?)))
        .collect();
    if keys.is_empty() {
        return Err(unsupported(certificates[0].key_algorithm()));
    }
    let digest = Sha256::digest(document);
    let signer = keys.iter().find(|(_, key)| {
        key.pkcs1v15_verify_prehash::<Sha256>(&digest, &signature)
            .is_ok()
    });
    let (signer, _) = signer.ok_or(VerifyError::SignatureMismatch)?;
    Ok(VerifiedSignature {
        issuer: signer.issuer(),
        serial: signer.serial(),
        signed_at: None,
        document: document.to_vec(),
    })
}

/// Verifies the value of `pkcs7` or `rsa2048`, with or without PEM armour. If a document is given,
/// it must be the document in the container.
pub fn verify_pkcs7(
    text: &str,
    document: Option<&[u8]>,
    certificates: &str,
) -> Result<VerifiedSignature, VerifyError> {
    // 1. The container, and that it contains this document.
    let bytes = armour::decode(text).ok_or(VerifyError::NotBase64)?;
    let bytes = ber::to_der(&bytes).map_err(|reason| not_container(&reason))?;
    let signed_data = signed_data(&bytes)?;
    let content = signed_data
        .content
        .bytes
        .ok_or_else(|| not_container(&"it contains no document"))?
        .into_bytes();
    check_document(document, &content)?;
    let [signer] = signed_data.signers.as_slice() else {
        return Err(not_container(&format_args!(
            "it has {} signers",
            signed_data.signers.len()
        )));
    };
    // 2. The certificate that it names, with algorithms that are supported.
    let certificate = signer_certificate(signer, certificates)?;
    let key = signer_key(signer, &certificate)?;
    // 3. The digest of the document, which is among the signed attributes.
    let attributes = signed_attributes(signer, &content)?;
    // 4. The signature of the attributes.
    let signed = attributes
        .to_der()
        .map_err(|reason| not_container(&reason))?;
    key.pkcs1v15_verify::<Sha256>(&signed, signer.signature.as_bytes())
        .map_err(|_| VerifyError::SignatureMismatch)?;
    Ok(VerifiedSignature {
        issuer: certificate.issuer(),
        serial: certificate.serial(),
        signed_at: signing_time(attributes),
        document: content.into(),
    })
}

/// Checks that a given document is the content of the container.
fn check_document(document: Option<&[u8]>, content: &[u8]) -> Result<(), VerifyError> {
    let Some(document) = document.filter(|document| *document != content) else {
        return Ok(());
    };
    let at = document
        .iter()
        .zip(content)
        .take_while(|(one, other)| one == other)
        .count();
    Err(VerifyError::OtherDocument { at })
}

/// Finds the certificate that the container names as its signer's.
fn signer_certificate(signer: &SignerInfo, certificates: &str) -> Result<Certificate, VerifyError> {
    let given = Certificate::read_pem(certificates).map_err(VerifyError::Certificates)?;
    let certificate = given
        .iter()
        .find(|one| one.issuer_and_serial_number() == signer.name);
    certificate
        .cloned()
        .ok_or_else(|| VerifyError::UnknownSigner {
            issuer: signer.name.issuer.to_string(),
            serial: serial_digits(&signer.name.serial_number),
            given: given
                .iter()
                .map(|one| (one.issuer(), one.serial()))
                .collect(),
        })
}

/// Returns the key of the signer. The algorithms must be RSA, in either of its two notations, and
/// SHA-256.
fn signer_key(
    signer: &SignerInfo,
    certificate: &Certificate,
) -> Result<rsa::PublicKey, VerifyError> {
    if !matches!(signer.signature_algorithm.oid, RSA | RSA_WITH_SHA_256) {
        return Err(unsupported(signer.signature_algorithm.oid));
    }
    if signer.digest_algorithm.oid != SHA_256 {
        return Err(unsupported(signer.digest_algorithm.oid));
    }
    certificate
        .rsa_key()
        .ok_or_else(|| unsupported(certificate.key_algorithm()))
}

/// Returns the signed attributes, which must contain the digest of the content.
///
/// A signature of the content itself, without attributes, is refused. Otherwise attributes that
/// were signed once could be presented as a document.
fn signed_attributes<'a>(
    signer: &'a SignerInfo,
    content: &[u8],
) -> Result<&'a SetOfVec<Attribute>, VerifyError> {
    let attributes = signer
        .signed_attributes
        .as_ref()
        .ok_or_else(|| not_container(&"it has no signed attributes"))?;
    if attribute_value::<ObjectIdentifier>(attributes.as_slice(), CONTENT_TYPE) != Some(DATA) {
        return Err(not_container(
            &"its signed attributes have no content type or a wrong one",
        ));
    }
    let digest: OctetString = attribute_value(attributes.as_slice(), MESSAGE_DIGEST)
        .ok_or_else(|| not_container(&"its signed attributes have no digest"))?;
    if digest.as_bytes() != Sha256::digest(content).as_slice() {
        return Err(VerifyError::DigestMismatch);
    }
    Ok(attributes)
}

fn signing_time(attributes: &SetOfVec<Attribute>) -> Option<Timestamp> {
    let time: Time = attribute_value(attributes.as_slice(), SIGNING_TIME)?;
    let seconds = i64::try_from(time.to_unix_duration().as_secs()).ok()?;
    Timestamp::from_second(seconds).ok()
}

fn signed_data(der: &[u8]) -> Result<SignedData, VerifyError> {
    let outer = ContentInfo::from_der(der).map_err(|reason| not_container(&reason))?;
    if outer.content_type != SIGNED_DATA {
        return Err(not_container(&format_args!(
            "it is of type {}, not SignedData",
            outer.content_type
        )));
    }
    let signed_data: SignedData = outer
        .content
        .decode_as()
        .map_err(|reason| not_container(&reason))?;
    match signed_data.content.content_type {
        DATA => Ok(signed_data),
        other => Err(not_container(&format_args!(
            "its content is of type {other}, not data"
        ))),
    }
}

/// Returns the value of an attribute; `None` if the attribute is missing, repeated or of another
/// type.
fn attribute_value<T: der::DecodeOwned>(
    attributes: &[Attribute],
    oid: ObjectIdentifier,
) -> Option<T> {
    let mut matching = attributes.iter().filter(|attribute| attribute.oid == oid);
    let (Some(attribute), None) = (matching.next(), matching.next()) else {
        return None;
    };
    let [value] = attribute.values.as_slice() else {
        return None;
    };
    T::from_der(&value.to_der().ok()?).ok()
}

fn not_container(reason: &dyn fmt::Display) -> VerifyError {
    VerifyError::NotContainer(reason.to_string())
}

fn unsupported(oid: ObjectIdentifier) -> VerifyError {
    let oid = oid.to_string();
    let name = match oid.as_str() {
        "1.2.840.10040.4.1" => "DSA",
        "1.2.840.10040.4.3" => "DSA with SHA-1",
        "2.16.840.1.101.3.4.3.2" => "DSA with SHA-256",
        "1.2.840.113549.1.1.5" => "RSA with SHA-1",
        "1.2.840.113549.1.1.10" => "RSA-PSS",
        "1.2.840.10045.2.1" | "1.2.840.10045.4.3.2" => "ECDSA",
        "1.3.14.3.2.26" => "SHA-1",
        "1.2.840.113549.1.1.1" => "an RSA key below 1024 or above 8192 bits",
        _ => return VerifyError::UnsupportedAlgorithm(format!("algorithm {oid}")),
    };
    VerifyError::UnsupportedAlgorithm(name.to_string())
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VerifyError::NotBase64 => f.write_str("the signature is not base64"),
            VerifyError::NotContainer(reason) => {
                write!(
                    f,
                    "the signature is not a PKCS #7 container like those of EC2: {reason}"
                )
            }
            VerifyError::Certificates(reason) => f.write_str(reason),
            VerifyError::OtherDocument { at } => {
                write!(
                    f,
                    "the document is not the document in the container: they differ from byte {at} on"
                )
            }
            VerifyError::UnknownSigner {
                issuer,
                serial,
                given,
            } => {
                write!(
                    f,
                    "no certificate for the signer, {issuer} with serial {serial}; given:"
                )?;
                given
                    .iter()
                    .try_for_each(|(issuer, serial)| write!(f, " {issuer} with serial {serial};"))
            }
            VerifyError::UnsupportedAlgorithm(name) => {
                write!(
                    f,
                    "{name} is not supported, only RSA with SHA-256; EC2's own pkcs7 uses DSA with SHA-1: use rsa2048"
                )
            }
            VerifyError::DigestMismatch => {
                f.write_str("the document in the container was changed: its digest is different")
            }
            VerifyError::SignatureMismatch => f.write_str(
                "the signature was not made for these bytes with the key of any given certificate",
            ),
        }
    }
}

impl std::error::Error for VerifyError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::container::algorithm;
    use crate::identity::signing_identity::Identity;
    use crate::identity::testing::{IDENTITY, OTHER, now};

    const DOCUMENT: &[u8] = b"{\n  \"instanceId\" : \"i-0123456789abcdef0\"\n}";

    /// Returns the container of [`DOCUMENT`] with a change.
    fn changed(change: impl FnOnce(&mut SignedData)) -> String {
        let container = armour::decode(&IDENTITY.sign(DOCUMENT, now()).unwrap().pkcs7()).unwrap();
        let mut signed_data = signed_data(&container).unwrap();
        change(&mut signed_data);
        let content = der::Any::encode_from(&signed_data).unwrap();
        armour::lines(
            &ContentInfo {
                content_type: SIGNED_DATA,
                content,
            }
            .to_der()
            .unwrap(),
            76,
        )
    }

    fn changed_signer(change: impl FnOnce(&mut SignerInfo)) -> String {
        changed(|signed_data| {
            let mut signer = signed_data.signers.as_slice()[0].clone();
            change(&mut signer);
            signed_data.signers = [signer].try_into().unwrap();
        })
    }

    fn without(oid: ObjectIdentifier) -> String {
        changed_signer(|signer| {
            let attributes = signer.signed_attributes.take().unwrap().into_vec();
            let rest: Vec<Attribute> = attributes
                .into_iter()
                .filter(|attribute| attribute.oid != oid)
                .collect();
            signer.signed_attributes = Some(rest.try_into().unwrap());
        })
    }

    fn pem(identity: &Identity) -> String {
        identity.certificates_pem()
    }

    #[test]
    fn valid_signatures_are_accepted_and_return_signer_and_time() {
        let signatures = IDENTITY.sign(DOCUMENT, now()).unwrap();
        let both = pem(&OTHER) + &pem(&IDENTITY);
        let good = verify_signature(DOCUMENT, &signatures.signature(), &both).unwrap();
        assert_eq!(
            (good.serial, good.signed_at),
            (IDENTITY.certificate().serial(), None)
        );

        let armoured = armour::wrap("PKCS7", &armour::decode(&signatures.pkcs7()).unwrap());
        for text in [
            &signatures.pkcs7(),
            &signatures.rsa2048(),
            &armoured,
            &armoured.replace('\n', "\r\n"),
        ] {
            for document in [None, Some(DOCUMENT)] {
                let good = verify_pkcs7(text, document, &both).unwrap();
                assert_eq!(
                    (good.issuer, good.serial),
                    (
                        IDENTITY.certificate().issuer(),
                        IDENTITY.certificate().serial()
                    )
                );
                assert_eq!((good.signed_at, &*good.document), (Some(now()), DOCUMENT));
            }
        }
    }

    #[test]
    fn the_fault_of_a_signature_is_named() {
        let good = IDENTITY.sign(DOCUMENT, now()).unwrap().signature();
        let other = OTHER.sign(DOCUMENT, now()).unwrap().signature();
        let certificate = pem(&IDENTITY);
        let mut longer = DOCUMENT.to_vec();
        longer.push(b'\n');
        for (document, signature, certificates, error) in [
            (DOCUMENT, "what?", &certificate, VerifyError::NotBase64),
            (DOCUMENT, "", &certificate, VerifyError::NotBase64),
            (
                DOCUMENT,
                "AAAA",
                &certificate,
                VerifyError::SignatureMismatch,
            ),
            (
                DOCUMENT,
                &other,
                &certificate,
                VerifyError::SignatureMismatch,
            ),
            (&longer, &good, &certificate, VerifyError::SignatureMismatch),
            (
                DOCUMENT,
                &good,
                &pem(&OTHER),
                VerifyError::SignatureMismatch,
            ),
            (
                DOCUMENT,
                &good,
                &String::new(),
                VerifyError::Certificates("no PEM block -----BEGIN CERTIFICATE-----".to_string()),
            ),
        ] {
            assert_eq!(
                verify_signature(document, signature, certificates),
                Err(error),
                "{signature}"
            );
        }
    }

    #[test]
    fn the_fault_of_a_container_is_named() {
        let good = IDENTITY.sign(DOCUMENT, now()).unwrap().pkcs7();
        let refused = |text: &str| verify_pkcs7(text, Some(DOCUMENT), &pem(&IDENTITY)).unwrap_err();
        let container = |reason: &str| VerifyError::NotContainer(reason.to_string());
        let algorithms = |name: &str| VerifyError::UnsupportedAlgorithm(name.to_string());
        let dsa = ObjectIdentifier::new_unwrap("1.2.840.10040.4.3");
        let sha_1 = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");

        for (text, error) in [
            ("?".to_string(), VerifyError::NotBase64),
            (
                "AAAAAA==".to_string(),
                container("extra bytes after its end"),
            ),
            (good[..81].to_string(), container("it is truncated")),
            (
                changed(|data| data.content.bytes = None),
                container("it contains no document"),
            ),
            (
                changed(|data| data.signers = Default::default()),
                container("it has 0 signers"),
            ),
            (
                changed(|data| data.content.content_type = SHA_256),
                container("its content is of type 2.16.840.1.101.3.4.2.1, not data"),
            ),
            (
                changed_signer(|signer| signer.signature_algorithm = algorithm(dsa)),
                algorithms("DSA with SHA-1"),
            ),
            (
                changed_signer(|signer| signer.digest_algorithm = algorithm(sha_1)),
                algorithms("SHA-1"),
            ),
            (
                changed_signer(|signer| signer.signed_attributes = None),
                container("it has no signed attributes"),
            ),
            (
                without(CONTENT_TYPE),
                container("its signed attributes have no content type or a wrong one"),
            ),
            (
                without(MESSAGE_DIGEST),
                container("its signed attributes have no digest"),
            ),
            (without(SIGNING_TIME), VerifyError::SignatureMismatch),
            (
                changed_signer(|signer| signer.signature = OctetString::new(vec![1; 256]).unwrap()),
                VerifyError::SignatureMismatch,
            ),
        ] {
            assert_eq!(refused(&text), error);
        }

        let text = armour::lines(
            &ContentInfo {
                content_type: DATA,
                content: der::Any::null(),
            }
            .to_der()
            .unwrap(),
            76,
        );
        assert_eq!(
            refused(&text),
            container("it is of type 1.2.840.113549.1.7.1, not SignedData")
        );
    }

    #[test]
    fn a_different_document_and_a_changed_container_are_different_faults() {
        let certificate = pem(&IDENTITY);
        let good = IDENTITY.sign(DOCUMENT, now()).unwrap().pkcs7();
        for (document, at) in [
            (&DOCUMENT[..9], 9),
            (b"", 0),
            (&[DOCUMENT, b"\n"].concat(), DOCUMENT.len()),
        ] {
            let error = verify_pkcs7(&good, Some(document), &certificate).unwrap_err();
            assert_eq!(error, VerifyError::OtherDocument { at });
        }
        let text = changed(|data| data.content.bytes = Some(OctetString::new(*b"{}").unwrap()));
        assert_eq!(
            verify_pkcs7(&text, None, &certificate),
            Err(VerifyError::DigestMismatch)
        );
    }

    #[test]
    fn an_unknown_signer_is_named_with_the_given_certificates() {
        let good = IDENTITY.sign(DOCUMENT, now()).unwrap().pkcs7();
        let error = verify_pkcs7(&good, Some(DOCUMENT), &pem(&OTHER)).unwrap_err();
        let (signer, given) = (IDENTITY.certificate(), OTHER.certificate());
        let expected = VerifyError::UnknownSigner {
            issuer: signer.issuer(),
            serial: signer.serial(),
            given: vec![(given.issuer(), given.serial())],
        };
        assert_eq!(error, expected);
        let message = error.to_string();
        assert!(
            message.contains(&signer.serial()) && message.contains(&given.serial()),
            "{message}"
        );
    }

    /// After any changed bit of a container, no other document is accepted, and nothing panics.
    #[test]
    fn a_changed_bit_never_makes_another_document_valid() {
        let certificate = pem(&IDENTITY);
        let good = armour::decode(&IDENTITY.sign(DOCUMENT, now()).unwrap().pkcs7()).unwrap();
        for at in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[at / 8] ^= 1 << (at % 8);
            if let Ok(verified) = verify_pkcs7(&armour::lines(&bytes, 76), None, &certificate) {
                assert_eq!(
                    (&*verified.document, verified.signed_at),
                    (DOCUMENT, Some(now())),
                    "bit {at}"
                );
            }
        }
    }
}
