//! X.509 certificates: generated self-signed ones, and those that are read.
//!
//! A certificate only carries a key and a name here. Operators give verifiers of identity documents
//! the certificates, and verifiers build no chains. So nothing here checks who signed a certificate
//! or whether it is still valid.

use std::fmt;

use der::asn1::{BitString, OctetString};
use der::{DateTime, Decode as _, Encode as _, Sequence};
use jiff::{SignedDuration, Timestamp};
use rsa::PrivateKey;
use rsa::pkcs8::EncodePublicKey as _;
use rsa::sha2::Sha256;
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::Version;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::BasicConstraints;
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::time::{Time, Validity};

use super::armour;
use super::container::{IssuerAndSerialNumber, RSA_WITH_SHA_256, algorithm};
use super::signing_error::SigningError;

/// How long a certificate is valid: 20 years. Operators register it by hand with every verifier,
/// and replace it by rotation.
const VALIDITY: SignedDuration = SignedDuration::from_hours(20 * 365 * 24 + 5 * 24);
/// How long before its generation a certificate becomes valid. A verifier's clock may be behind,
/// and some verifiers refuse a signing time outside the validity of the certificate.
const LEEWAY: SignedDuration = SignedDuration::from_hours(24);
/// The longest serial number, in bytes (RFC 5280, section 4.1.2.2).
const SERIAL_BYTES: usize = 20;

const LABEL: &str = "CERTIFICATE";
const BASIC_CONSTRAINTS: der::asn1::ObjectIdentifier =
    der::asn1::ObjectIdentifier::new_unwrap("2.5.29.19");

/// An X.509 certificate and its DER encoding.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    parsed: x509_cert::Certificate,
}

/// The signed part of a self-signed certificate (TBSCertificate, RFC 5280, section 4.1).
#[derive(Sequence)]
struct TbsCertificate {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    version: Version,
    serial_number: SerialNumber,
    signature: AlgorithmIdentifierOwned,
    issuer: Name,
    validity: Validity,
    subject: Name,
    key: SubjectPublicKeyInfoOwned,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT")]
    extensions: Vec<Extension>,
}

/// A self-signed certificate (Certificate, RFC 5280, section 4.1).
#[derive(Sequence)]
struct SignedCertificate {
    tbs: TbsCertificate,
    signature_algorithm: AlgorithmIdentifierOwned,
    signature: BitString,
}

impl Certificate {
    /// Generates the certificate of a key, signed with that key. Its name and its serial number are
    /// random: verifiers find a signer by both and must not confuse two installations.
    pub(super) fn self_signed(
        key: &PrivateKey,
        now: Timestamp,
    ) -> Result<Certificate, SigningError> {
        let mut serial: [u8; SERIAL_BYTES] = rand::random();
        // The top bit is the sign. The next bit is set so that the number always has 20 bytes.
        serial[0] = serial[0] & 0x7f | 0x40;
        let name = format!("CN=imdsd {:016x},O=imdsd", rand::random::<u64>());
        let der =
            tbs_certificate(key, &serial, &name, now).and_then(|tbs| Ok((tbs.to_der()?, tbs)));
        let (bytes, tbs) = der.expect("a generated certificate can be encoded as DER");
        let signature = key.pkcs1v15_sign::<Sha256>(&bytes).map_err(SigningError)?;
        let certificate = SignedCertificate {
            tbs,
            signature_algorithm: algorithm(RSA_WITH_SHA_256),
            signature: BitString::from_bytes(&signature).expect("a signature has whole bytes"),
        };
        let der = certificate
            .to_der()
            .expect("a generated certificate can be encoded as DER");
        Ok(Certificate::from_der(der).expect("a generated certificate can be parsed"))
    }

    /// Reads all certificates in a text with PEM blocks. The error names the first block that is
    /// not a certificate.
    pub fn read_pem(text: &str) -> Result<Vec<Certificate>, String> {
        let mut certificates = Vec::new();
        for (index, block) in armour::blocks(text, LABEL).enumerate() {
            let wrong = |reason: &dyn fmt::Display| {
                format!("certificate {} cannot be read: {reason}", index + 1)
            };
            let der = armour::decode(block).ok_or_else(|| wrong(&"not base64"))?;
            certificates.push(Certificate::from_der(der).map_err(|reason| wrong(&reason))?);
        }
        match certificates.is_empty() {
            true => Err("no PEM block -----BEGIN CERTIFICATE-----".to_string()),
            false => Ok(certificates),
        }
    }

    fn from_der(der: Vec<u8>) -> der::Result<Certificate> {
        let parsed = x509_cert::Certificate::from_der(&der)?;
        Ok(Certificate { der, parsed })
    }

    /// Returns the certificate as a PEM block.
    pub fn to_pem(&self) -> String {
        armour::wrap(LABEL, &self.der)
    }

    /// Returns the DER encoding.
    pub fn as_der(&self) -> &[u8] {
        &self.der
    }

    /// Returns the issuer in the notation of RFC 4514: `CN=…,O=…`.
    pub fn issuer(&self) -> String {
        self.parsed.tbs_certificate().issuer().to_string()
    }

    /// Returns the serial number in hexadecimal digits, as `openssl x509 -serial` prints it.
    pub fn serial(&self) -> String {
        serial_digits(self.parsed.tbs_certificate().serial_number())
    }

    /// Returns the start of its validity, since 1970.
    pub(super) fn not_before(&self) -> std::time::Duration {
        self.parsed
            .tbs_certificate()
            .validity()
            .not_before
            .to_unix_duration()
    }

    /// Returns the name that a container uses for it.
    pub(super) fn issuer_and_serial_number(&self) -> IssuerAndSerialNumber {
        let certificate = self.parsed.tbs_certificate();
        IssuerAndSerialNumber {
            issuer: certificate.issuer().clone(),
            serial_number: certificate.serial_number().clone(),
        }
    }

    /// Returns its key; `None` if that is not an RSA key of 1024 to 8192 bits.
    pub fn rsa_key(&self) -> Option<rsa::PublicKey> {
        let key = self
            .parsed
            .tbs_certificate()
            .subject_public_key_info()
            .to_der()
            .ok()?;
        rsa::pkcs8::DecodePublicKey::from_public_key_der(&key).ok()
    }

    /// Returns the algorithm of its key.
    pub(super) fn key_algorithm(&self) -> der::asn1::ObjectIdentifier {
        self.parsed
            .tbs_certificate()
            .subject_public_key_info()
            .algorithm
            .oid
    }
}

/// Certificates are public. The name identifies the certificate.
impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Certificate({}, serial {})",
            self.issuer(),
            self.serial()
        )
    }
}

fn tbs_certificate(
    key: &PrivateKey,
    serial: &[u8],
    name: &str,
    now: Timestamp,
) -> der::Result<TbsCertificate> {
    let name: Name = name.parse()?;
    let begin = now.saturating_sub(LEEWAY).unwrap_or(now);
    let end = now.saturating_add(VALIDITY).unwrap_or(now);
    let key = key
        .to_public_key()
        .to_public_key_der()
        .map_err(|_| der::ErrorKind::Failed)?;
    Ok(TbsCertificate {
        version: Version::V3,
        serial_number: SerialNumber::new(serial)?,
        signature: algorithm(RSA_WITH_SHA_256),
        issuer: name.clone(),
        validity: Validity::new(asn1_time(begin), asn1_time(end)),
        subject: name,
        key: SubjectPublicKeyInfoOwned::from_der(key.as_bytes())?,
        // Not an authority: if somebody adds it to the trusted authorities by mistake, it still
        // cannot issue certificates.
        extensions: vec![Extension {
            extn_id: BASIC_CONSTRAINTS,
            critical: true,
            extn_value: OctetString::new(
                BasicConstraints {
                    ca: false,
                    path_len_constraint: None,
                }
                .to_der()?,
            )?,
        }],
    })
}

/// Returns UTCTime up to 2049 and GeneralizedTime after that, in whole seconds. Times before 1970
/// become 1970.
pub(super) fn asn1_time(time: Timestamp) -> Time {
    let seconds = std::time::Duration::from_secs(time.as_second().try_into().unwrap_or(0));
    Time::from(DateTime::from_unix_duration(seconds).unwrap_or(DateTime::INFINITY))
}

/// Returns a serial number in hexadecimal digits, without a leading zero byte that only keeps it
/// positive.
pub(super) fn serial_digits(serial: &SerialNumber) -> String {
    let bytes = match serial.as_bytes() {
        [0, rest @ ..] if !rest.is_empty() => rest,
        bytes => bytes,
    };
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}
