//! Holds a signature or a container against a document and certificates, and names the first thing that is wrong.
//!
//! It reads what imdsd signs and what EC2 signs with RSA and SHA-256: `rsa2048`, and `signature` with its key of 1024 bits.
//! Not supported: EC2's `pkcs7` (DSA with SHA-1), containers without signed attributes or with several signers. Not checked,
//! as AWS's own commands don't: who signed a certificate and until when it is valid. Whoever gives it here trusts it.

use std::fmt;

use der::asn1::{ObjectIdentifier, OctetString};
use der::{Decode as _, Encode as _};
use jiff::Timestamp;
use rsa::sha2::{Digest as _, Sha256};
use x509_cert::attr::Attribute;
use x509_cert::time::Time;

use super::certificate::{Certificate, serial_digits};
use super::container::{
    CONTENT_TYPE, ContentInfo, DATA, MESSAGE_DIGEST, RSA, RSA_WITH_SHA_256, SHA_256, SIGNED_DATA,
    SIGNING_TIME, SignedData,
};
use super::{armour, ber};

/// A signature that is good, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Issuer of the signer's certificate.
    pub issuer: String,
    /// Its serial number, in hexadecimal digits.
    pub serial: String,
    /// When it was signed, where the signature says so: containers do.
    pub signed_at: Option<Timestamp>,
    /// The document that is signed.
    pub document: Vec<u8>,
}

/// Why a signature is not good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerifyError {
    /// The text is not base64.
    NotBase64,
    /// The bytes are no container that is read here.
    NotContainer(String),
    /// The certificates can't be read.
    Certificates(String),
    /// The container has another document in it.
    OtherDocument {
        /// The first byte that differs, counted from 0.
        at: usize,
    },
    /// No certificate has the name that the container gives its signer.
    UnknownSigner {
        /// The signer's issuer.
        issuer: String,
        /// The signer's serial number.
        serial: String,
        /// Issuer and serial number of the certificates there are.
        given: Vec<(String, String)>,
    },
    /// The container or the certificate uses an algorithm that is not supported; its name.
    UnsupportedAlgorithm(String),
    /// The document is not the one whose digest was signed.
    DigestMismatch,
    /// The signature was not made with the certificate's key over these bytes.
    SignatureMismatch,
}

/// Verifies what `signature` has. It names no signer, so each certificate is tried.
pub fn verify_signature(
    document: &[u8],
    signature: &str,
    certificates: &str,
) -> Result<Verified, VerifyError> {
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
    Ok(Verified {
        issuer: signer.issuer(),
        serial: signer.serial(),
        signed_at: None,
        document: document.to_vec(),
    })
}

/// Verifies what `pkcs7` or `rsa2048` has, with PEM armour or without. A document, where one is given, must be the one inside.
pub fn verify_pkcs7(
    text: &str,
    document: Option<&[u8]>,
    certificates: &str,
) -> Result<Verified, VerifyError> {
    // 1. The container, and that it holds this document.
    let bytes = armour::decode(text).ok_or(VerifyError::NotBase64)?;
    let bytes = ber::to_der(&bytes).map_err(|reason| not_container(&reason))?;
    let signed_data = signed_data(&bytes)?;
    let content = signed_data
        .content
        .bytes
        .ok_or_else(|| not_container(&"there is no document in it"))?
        .into_bytes();
    if let Some(document) = document.filter(|document| **document != *content) {
        let at = document
            .iter()
            .zip(&*content)
            .take_while(|(one, other)| one == other)
            .count();
        return Err(VerifyError::OtherDocument { at });
    }
    let [signer] = signed_data.signers.as_slice() else {
        return Err(not_container(&format_args!(
            "it has {} signers",
            signed_data.signers.len()
        )));
    };

    // 2. The certificate that it names.
    let given = Certificate::read_pem(certificates).map_err(VerifyError::Certificates)?;
    let Some(certificate) = given
        .iter()
        .find(|one| one.issuer_and_serial_number() == signer.name)
    else {
        return Err(VerifyError::UnknownSigner {
            issuer: signer.name.issuer.to_string(),
            serial: serial_digits(&signer.name.serial_number),
            given: given
                .iter()
                .map(|one| (one.issuer(), one.serial()))
                .collect(),
        });
    };

    // 3. Algorithms: RSA with SHA-256, in either of the two ways of saying so.
    if !matches!(signer.signature_algorithm.oid, RSA | RSA_WITH_SHA_256) {
        return Err(unsupported(signer.signature_algorithm.oid));
    }
    if signer.digest_algorithm.oid != SHA_256 {
        return Err(unsupported(signer.digest_algorithm.oid));
    }
    let key = certificate
        .rsa_key()
        .ok_or_else(|| unsupported(certificate.key_algorithm()))?;

    // 4. The document's digest, which stands among the signed attributes. A signature over the document itself is refused:
    //    then attributes that were once signed could be passed off as a document.
    let attributes = signer
        .signed_attributes
        .as_ref()
        .ok_or_else(|| not_container(&"it has no signed attributes"))?;
    if value::<ObjectIdentifier>(attributes.as_slice(), CONTENT_TYPE) != Some(DATA) {
        return Err(not_container(
            &"its signed attributes name no content type, or another",
        ));
    }
    let digest: OctetString = value(attributes.as_slice(), MESSAGE_DIGEST)
        .ok_or_else(|| not_container(&"its signed attributes have no digest"))?;
    if digest.as_bytes() != Sha256::digest(&*content).as_slice() {
        return Err(VerifyError::DigestMismatch);
    }

    // 5. The signature, over the attributes.
    let signed = attributes
        .to_der()
        .map_err(|reason| not_container(&reason))?;
    key.pkcs1v15_verify::<Sha256>(&signed, signer.signature.as_bytes())
        .map_err(|_| VerifyError::SignatureMismatch)?;
    let time: Option<Time> = value(attributes.as_slice(), SIGNING_TIME);
    let seconds = time.and_then(|time| i64::try_from(time.to_unix_duration().as_secs()).ok());
    Ok(Verified {
        issuer: certificate.issuer(),
        serial: certificate.serial(),
        signed_at: seconds.and_then(|seconds| Timestamp::from_second(seconds).ok()),
        document: content.into(),
    })
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

/// The one value of an attribute; `None` when the attribute is missing, repeated or of another kind.
fn value<T: der::DecodeOwned>(attributes: &[Attribute], oid: ObjectIdentifier) -> Option<T> {
    let mut found = attributes.iter().filter(|attribute| attribute.oid == oid);
    let (Some(attribute), None) = (found.next(), found.next()) else {
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
                    "the signature is no PKCS #7 container as EC2 makes it: {reason}"
                )
            }
            VerifyError::Certificates(reason) => f.write_str(reason),
            VerifyError::OtherDocument { at } => {
                write!(
                    f,
                    "the document is not the one in the container: they differ from byte {at} on"
                )
            }
            VerifyError::UnknownSigner {
                issuer,
                serial,
                given,
            } => {
                write!(
                    f,
                    "no certificate of the signer, {issuer} with serial {serial}; given:"
                )?;
                given
                    .iter()
                    .try_for_each(|(issuer, serial)| write!(f, " {issuer} with serial {serial};"))
            }
            VerifyError::UnsupportedAlgorithm(name) => {
                write!(
                    f,
                    "{name} is not supported, only RSA with SHA-256; EC2's own pkcs7 uses DSA with SHA-1: take rsa2048"
                )
            }
            VerifyError::DigestMismatch => {
                f.write_str("the document in the container was changed: it has another digest")
            }
            VerifyError::SignatureMismatch => f.write_str(
                "the signature is not of these bytes by the key of any certificate that was given",
            ),
        }
    }
}

impl std::error::Error for VerifyError {}

#[cfg(test)]
mod tests {
    use super::super::Identity;
    use super::super::container::algorithm;
    use super::super::testing::{IDENTITY, OTHER, now};
    use super::*;

    const DOCUMENT: &[u8] = b"{\n  \"instanceId\" : \"i-0123456789abcdef0\"\n}";

    /// The container of [`DOCUMENT`], taken apart, changed and put together again.
    fn changed(change: impl FnOnce(&mut SignedData)) -> String {
        let container = armour::decode(&IDENTITY.sign(DOCUMENT, now()).unwrap().pkcs7).unwrap();
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

    fn changed_signer(change: impl FnOnce(&mut super::super::container::Signer)) -> String {
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
    fn what_was_signed_verifies_and_says_by_whom_and_when() {
        let signatures = IDENTITY.sign(DOCUMENT, now()).unwrap();
        let both = pem(&OTHER) + &pem(&IDENTITY);
        let good = verify_signature(DOCUMENT, &signatures.signature, &both).unwrap();
        assert_eq!(
            (good.serial, good.signed_at),
            (IDENTITY.certificate().serial(), None)
        );

        let armoured = armour::wrap("PKCS7", &armour::decode(&signatures.pkcs7).unwrap());
        for text in [
            &signatures.pkcs7,
            &signatures.rsa2048,
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
    fn what_is_wrong_with_a_signature_is_named() {
        let good = IDENTITY.sign(DOCUMENT, now()).unwrap().signature;
        let other = OTHER.sign(DOCUMENT, now()).unwrap().signature;
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
                VerifyError::Certificates(
                    "there is no PEM block -----BEGIN CERTIFICATE----- in it".to_string(),
                ),
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
    fn what_is_wrong_with_a_container_is_named() {
        let good = IDENTITY.sign(DOCUMENT, now()).unwrap().pkcs7;
        let refused = |text: &str| verify_pkcs7(text, Some(DOCUMENT), &pem(&IDENTITY)).unwrap_err();
        let container = |reason: &str| VerifyError::NotContainer(reason.to_string());
        let algorithms = |name: &str| VerifyError::UnsupportedAlgorithm(name.to_string());
        let dsa = ObjectIdentifier::new_unwrap("1.2.840.10040.4.3");
        let sha_1 = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");

        for (text, error) in [
            ("?".to_string(), VerifyError::NotBase64),
            ("AAAAAA==".to_string(), container("bytes follow its end")),
            (good[..81].to_string(), container("it is cut short")),
            (
                changed(|data| data.content.bytes = None),
                container("there is no document in it"),
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
                container("its signed attributes name no content type, or another"),
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
    fn another_document_is_told_from_a_changed_container() {
        let certificate = pem(&IDENTITY);
        let good = IDENTITY.sign(DOCUMENT, now()).unwrap().pkcs7;
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
    fn a_missing_certificate_is_named_with_those_that_were_given() {
        let good = IDENTITY.sign(DOCUMENT, now()).unwrap().pkcs7;
        let error = verify_pkcs7(&good, Some(DOCUMENT), &pem(&OTHER)).unwrap_err();
        let (signer, given) = (IDENTITY.certificate(), OTHER.certificate());
        let expected = VerifyError::UnknownSigner {
            issuer: signer.issuer(),
            serial: signer.serial(),
            given: vec![(given.issuer(), given.serial())],
        };
        assert_eq!(error, expected);
        let said = error.to_string();
        assert!(
            said.contains(&signer.serial()) && said.contains(&given.serial()),
            "{said}"
        );
    }

    /// One bit of the container changed, wherever it is: never good with another document, never a panic.
    #[test]
    fn no_changed_bit_leaves_another_document_good() {
        let certificate = pem(&IDENTITY);
        let good = armour::decode(&IDENTITY.sign(DOCUMENT, now()).unwrap().pkcs7).unwrap();
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
