//! Web identity: a short-lived signed token that says which instance asks, for STS AssumeRoleWithWebIdentity, and what its
//! verifiers read. JWT (RFC 7519), signed with RS256; key set as of RFC 7517, with the certificate (`x5c`) that Ceph wants.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use rsa::sha2::{Digest as _, Sha256};
use rsa::traits::PublicKeyParts as _;
use serde_json::{Value, json};

use super::{Certificate, Identity, SigningError};
use crate::instance::{InstanceId, RoleDelivery};
use crate::secret::Secret;

/// How long a token is good: STS is asked at once, and asking again costs a new one nothing.
pub const WEB_IDENTITY_LIFE: Duration = Duration::from_secs(600);
/// A token is dated this much back: some verifiers allow their clock no lag at all.
const LEEWAY: Duration = Duration::from_secs(30);
/// Where the key set is expected, below the issuer's address.
pub const JWKS_PATH: &str = "/.well-known/jwks.json";
/// The claim from which AWS takes session tags.
const AWS_TAGS: &str = "https://aws.amazon.com/tags";

/// What a token says.
#[derive(Clone, Copy, Debug)]
pub struct WebIdentityClaims<'a> {
    /// `iss`: the address under which verifiers find the key set, byte for byte as they were told it.
    pub issuer: &'a str,
    /// `aud`: whom the token is for, `sts.amazonaws.com` say.
    pub audience: &'a str,
    /// `sub`: the instance.
    pub instance_id: &'a InstanceId,
    /// The instance's account, 12 digits.
    pub account: &'a str,
    /// The name of the role in its instance profile.
    pub role: &'a str,
    /// Which of the two kinds of credentials is asked for.
    pub role_delivery: RoleDelivery,
}

impl Identity {
    /// Mints a token, good for [`WEB_IDENTITY_LIFE`] from 30 seconds before `now`.
    ///
    /// Whoever has it is the instance for as long: it is no guest's to see, and never logged.
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

    /// The key set for verifiers: every published certificate's key, the one in use first.
    pub fn jwks(&self) -> String {
        let mut keys: Vec<Value> = Vec::new();
        for key in self.certificates().filter_map(web_key) {
            // A renewed certificate has the key of the one before it.
            if keys.iter().all(|other| other["kid"] != key["kid"]) {
                keys.push(key);
            }
        }
        format!("{:#}\n", json!({ "keys": keys }))
    }
}

/// The discovery document for an issuer: what a verifier reads at `/.well-known/openid-configuration` below its address.
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

/// A key as RFC 7517 writes it; `None` for a certificate without an RSA key.
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

/// RFC 7638: the SHA-256 of the key's required members in byte order, without blanks. Empty for a key that is not RSA.
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
    fn a_token_says_who_asks_for_which_delivery_and_for_ten_minutes() {
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
            "each has its own jti"
        );
    }

    #[test]
    fn the_key_set_has_every_published_key_once() {
        let again = Certificate::self_signed(&OTHER.key, now()).unwrap();
        let retired = vec![OTHER.certificate.clone(), again];
        let identity = Identity::of(IDENTITY.key.clone(), IDENTITY.certificate.clone(), retired);
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
    fn the_key_set_is_found_below_the_issuer() {
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
