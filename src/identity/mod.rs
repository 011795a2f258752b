//! The identity of this imdsd: a signing key, its certificate, and the certificates of earlier
//! keys.
//!
//! The key signs identity documents ([`Signatures`]), in the three ways of EC2, and web identity
//! tokens ([`WebIdentityClaims`]). All signatures are RSA with SHA-256. Verifiers get the
//! certificates from the operator (`imdsd identity certificate`) or, for tokens, the key set
//! (`imdsd identity jwks`).
//!
//! Nothing is signed during a guest's request: signatures are precomputed and kept in
//! [`SignatureCache`].
//!
//! ```text
//! signature_cache ──► signing ──► signing_identity ──► certificate ──► container, armour
//! key_directory ──► pem_files, durable_write              verify ──► certificate, ber
//! ```

mod armour;
mod ber;
mod certificate;
mod container;
mod durable_write;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod identity_error;
mod jwt;
mod key_directory;
mod pem_files;
mod signature_cache;
mod signing;
mod signing_error;
mod signing_identity;
#[cfg(test)]
mod testing;
mod verify;

pub use certificate::Certificate;
pub use identity_error::IdentityError;
pub use jwt::{JWKS_PATH, WEB_IDENTITY_LIFE, WebIdentityClaims, openid_configuration};
pub use key_directory::rotate;
pub use signature_cache::SignatureCache;
pub use signing::Signatures;
pub use signing_error::SigningError;
pub use signing_identity::{Identity, KEY_BITS, MIN_KEY_BITS};
pub use verify::{VerifiedSignature, VerifyError, verify_pkcs7, verify_signature};
