//! Fuzz targets of the identity's files: containers with a signature, and certificates.

use super::certificate::Certificate;
use super::verify::VerifyError;
use super::{armour, ber, verify_pkcs7, verify_signature};

/// A certificate whose key is thrown away: it signed [`DOCUMENT`], and nothing else ever.
const CERTIFICATE: &str = include_str!("../../fuzz/certificate.pem");
/// The one document that was signed.
const DOCUMENT: &[u8] = b"{\"instanceId\":\"i-0123456789abcdef0\"}";

/// A signature or a container. Nothing but the one document that was signed is ever valid; BER that
/// is converted to DER stays as it is; base64 in lines is decoded to what was encoded.
pub fn identity_container(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for document in [None, Some(DOCUMENT)] {
        match verify_pkcs7(text, document, CERTIFICATE) {
            Ok(verified) => assert_eq!(verified.document, DOCUMENT),
            Err(reason) => assert!(!reason.to_string().is_empty()),
        }
    }
    let other = verify_pkcs7(text, Some(b"another document"), CERTIFICATE);
    assert!(other.is_err(), "a container of another document");
    if let Err(VerifyError::NotBase64) = other {
        assert_eq!(armour::decode(text), None);
    }
    let _ = verify_signature(DOCUMENT, text, CERTIFICATE);
    assert!(verify_signature(b"another document", text, CERTIFICATE).is_err());

    for bytes in [armour::decode(text).as_deref(), Some(data)]
        .into_iter()
        .flatten()
    {
        let lines = armour::lines(bytes, armour::EC2_COLUMNS);
        let decoded = (!bytes.is_empty()).then(|| bytes.to_vec());
        assert_eq!(armour::decode(&lines), decoded);
        if let Ok(der) = ber::to_der(bytes) {
            assert!(der.len() <= bytes.len(), "DER is the shorter form");
            assert_eq!(ber::to_der(&der).as_ref(), Ok(&der));
        }
    }
}

/// Certificates in PEM. What is read is printed and read again.
pub fn certificates(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match Certificate::read_pem(text) {
        Ok(certificates) => {
            let printed: String = certificates.iter().map(Certificate::to_pem).collect();
            let again = Certificate::read_pem(&printed).expect("it was printed");
            let encoded = |all: &[Certificate]| -> Vec<Vec<u8>> {
                all.iter().map(|one| one.as_der().to_vec()).collect()
            };
            assert_eq!(encoded(&again), encoded(&certificates));
            for certificate in &certificates {
                let _ = (
                    certificate.issuer(),
                    certificate.serial(),
                    certificate.rsa_key(),
                );
            }
        }
        Err(reason) => assert!(!reason.is_empty()),
    }
}
