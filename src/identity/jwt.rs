//! Web identity tokens for STS AssumeRoleWithWebIdentity, and the documents that their verifiers
//! read.
//!
//! A token is a short-lived JWT (RFC 7519) that identifies an instance, signed with RS256. The key
//! set follows RFC 7517 and contains the certificate (`x5c`), which Ceph requires.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use rsa::sha2::{Digest as _, Sha256};
use rsa::traits::PublicKeyParts as _;
use serde_json::{Value, json};

use super::certificate::Certificate;
use super::signing_error::SigningError;
use super::signing_identity::Identity;
use crate::instance::{InstanceId, RoleDelivery};
use crate::secret::Secret;

/// How long a token is valid. It is used at once, and each call gets a new one.
pub const WEB_IDENTITY_LIFE: Duration = Duration::from_secs(600);
/// How far a token is backdated, because some verifiers allow no clock difference.
const LEEWAY: Duration = Duration::from_secs(30);
/// The path of the key set below the issuer's URL.
pub const JWKS_PATH: &str = "/.well-known/jwks.json";
/// The claim that AWS reads session tags from.
const AWS_TAGS: &str = "https://aws.amazon.com/tags";

/// The claims of a token.
#[derive(Clone, Copy, Debug)]
pub struct WebIdentityClaims<'a> {
    /// `iss`: the URL of the issuer, exactly as the verifiers have it configured.
    pub issuer: &'a str,
    /// `aud`: the recipient, for example `sts.amazonaws.com`.
    pub audience: &'a str,
    /// `sub`: the instance.
    pub instance_id: &'a InstanceId,
    /// The instance's account, 12 digits.
    pub account: &'a str,
    /// The name of the role in its instance profile.
    pub role: &'a str,
    /// The delivery of the role.
    pub role_delivery: RoleDelivery,
}

impl Identity {
    /// Mints a token that is valid for [`WEB_IDENTITY_LIFE`] from 30 seconds before `now`.
    ///
    /// Its holder can act as the instance for that time, so guests never see it and it is never
    /// logged.
    pub fn web_identity(
        &self,
        claims: &WebIdentityClaims<'_>,
        now: Timestamp,
    ) -> Result<Secret, SigningError> {
        let delivery = claims.role_delivery.as_str();
        let begin = now.as_second() - LEEWAY.as_secs() as i64;
        let header = json!({ "alg": "RS256", "typ": "JWT", "kid": key_id(&self.certificate) });
        let payload = json!({
            "iss": claims.issuer,
            "sub": claims.instance_id.as_str(),
            "aud": claims.audience,
            "iat": begin,
            "nbf": begin,
            "exp": begin + WEB_IDENTITY_LIFE.as_secs() as i64,
            "jti": format!("{:032x}", rand::random::<u128>()),
            "account": claims.account,
            "role": claims.role,
            "role_delivery": delivery,
            AWS_TAGS: {
                "principal_tags": { "InstanceId": [claims.instance_id.as_str()], "RoleDelivery": [delivery] },
                "transitive_tag_keys": [],
            },
        });
        let signed = format!(
            "{}.{}",
            base64url(header.to_string()),
            base64url(payload.to_string())
        );
        let signature = self.sign_bytes(signed.as_bytes())?;
        Ok(Secret::new(signed + "." + &base64url(signature)))
    }

    /// Returns the key set for verifiers: the keys of all published certificates, the current one
    /// first.
    pub fn jwks(&self) -> String {
        let mut keys: Vec<Value> = Vec::new();
        for key in self.certificates().filter_map(web_key) {
            // A renewed certificate has the same key as the one before it.
            if keys.iter().all(|other| other["kid"] != key["kid"]) {
                keys.push(key);
            }
        }
        format!("{:#}\n", json!({ "keys": keys }))
    }
}

/// Returns the discovery document of an issuer, which verifiers read at
/// `/.well-known/openid-configuration` below its URL.
pub fn openid_configuration(issuer: &str) -> String {
    let configuration = json!({
        "issuer": issuer,
        "jwks_uri": format!("{}{JWKS_PATH}", issuer.trim_end_matches('/')),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "claims_supported": ["iss", "sub", "aud", "iat", "nbf", "exp", "jti", "account", "role", "role_delivery"],
    });
    format!("{configuration:#}\n")
}

/// Returns a key in the form of RFC 7517; `None` for a certificate without an RSA key.
fn web_key(certificate: &Certificate) -> Option<Value> {
    let key = certificate.rsa_key()?;
    Some(json!({
        "kty": "RSA",
        "use": "sig",
        "alg": "RS256",
        "kid": key_id(certificate),
        "n": base64url(key.n_bytes()),
        "e": base64url(key.e_bytes()),
        "x5c": [BASE64_STANDARD.encode(certificate.as_der())],
    }))
}

/// Returns the key's thumbprint (RFC 7638): the SHA-256 of its required members in byte order
/// without blanks. It is empty for a key that is not RSA.
fn key_id(certificate: &Certificate) -> String {
    let Some(key) = certificate.rsa_key() else {
        return String::new();
    };
    let (n, e) = (base64url(key.n_bytes()), base64url(key.e_bytes()));
    base64url(Sha256::digest(format!(
        r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#
    )))
}

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{IDENTITY, OTHER, now};
    use super::*;

    fn decoded(part: &str) -> Value {
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    fn token(role_delivery: RoleDelivery) -> String {
        let instance_id = InstanceId::parse("i-0123456789abcdef0").unwrap();
        let claims = WebIdentityClaims {
            issuer: "https://imds.example",
            audience: "sts.amazonaws.com",
            instance_id: &instance_id,
            account: "123456789012",
            role: "web",
            role_delivery,
        };
        IDENTITY
            .web_identity(&claims, now())
            .unwrap()
            .expose()
            .to_string()
    }

    #[test]
    fn a_token_contains_the_instance_and_the_delivery_and_is_valid_for_ten_minutes() {
        for (delivery, text) in [(RoleDelivery::V1, "1.0"), (RoleDelivery::V2, "2.0")] {
            let token = token(delivery);
            let [header, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else {
                panic!("{token}")
            };
            let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
            let signed = format!("{header}.{payload}");
            IDENTITY
                .key
                .as_public_key()
                .pkcs1v15_verify::<Sha256>(signed.as_bytes(), &signature)
                .unwrap();

            let keys: Value = serde_json::from_str(&IDENTITY.jwks()).unwrap();
            assert_eq!(
                decoded(header),
                json!({ "alg": "RS256", "typ": "JWT", "kid": keys["keys"][0]["kid"] })
            );
            let mut claims = decoded(payload);
            assert_eq!(claims["jti"].take().as_str().unwrap().len(), 32);
            let begin = now().as_second() - 30;
            let expected = json!({
                "iss": "https://imds.example", "sub": "i-0123456789abcdef0", "aud": "sts.amazonaws.com",
                "iat": begin, "nbf": begin, "exp": begin + 600, "jti": null,
                "account": "123456789012", "role": "web", "role_delivery": text,
                "https://aws.amazon.com/tags": {
                    "principal_tags": { "InstanceId": ["i-0123456789abcdef0"], "RoleDelivery": [text] },
                    "transitive_tag_keys": [],
                },
            });
            assert_eq!(claims, expected);
        }
        assert_ne!(
            token(RoleDelivery::V1),
            token(RoleDelivery::V1),
            "each token has its own jti"
        );
    }

    #[test]
    fn the_key_set_contains_every_published_key_once() {
        let again = Certificate::self_signed(&OTHER.key, now()).unwrap();
        let retired = vec![OTHER.certificate.clone(), again];
        let identity = Identity::new(IDENTITY.key.clone(), IDENTITY.certificate.clone(), retired);
        let keys: Value = serde_json::from_str(&identity.jwks()).unwrap();
        let keys = keys["keys"].as_array().unwrap();
        assert_eq!(keys.len(), 2);
        assert_eq!(keys[0]["kid"], key_id(&IDENTITY.certificate).as_str());
        assert_eq!(keys[1]["kid"], key_id(&OTHER.certificate).as_str());
        assert_eq!(
            (&keys[0]["kty"], &keys[0]["alg"], &keys[0]["e"]),
            (&json!("RSA"), &json!("RS256"), &json!("AQAB"))
        );
        assert_eq!(
            BASE64_URL_SAFE_NO_PAD
                .decode(keys[0]["n"].as_str().unwrap())
                .unwrap()
                .len(),
            256
        );
        assert_eq!(
            keys[0]["x5c"][0],
            BASE64_STANDARD.encode(IDENTITY.certificate.as_der())
        );
    }

    #[test]
    fn the_url_of_the_key_set_is_below_the_issuer() {
        for issuer in ["https://imds.example/a", "https://imds.example/a/"] {
            let configuration: Value = serde_json::from_str(&openid_configuration(issuer)).unwrap();
            assert_eq!(configuration["issuer"], issuer);
            assert_eq!(
                configuration["jwks_uri"],
                "https://imds.example/a/.well-known/jwks.json"
            );
        }
    }
}
