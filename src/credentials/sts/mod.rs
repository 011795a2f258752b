//! STS: a form POST and a small XML answer, so AWS, MinIO, Ceph RGW, LocalStack and moto all work.
//!
//! AssumeRole is signed with an access key of the host. AssumeRoleWithWebIdentity is not signed: it
//! carries a short-lived token that imdsd mints for the instance, so the host keeps no long-lived
//! secret. In both cases the session is named after the instance.
//!
//! Each call uses a connection of its own, HTTP/1.1, and TLS if the endpoint is https. Redirects
//! are not followed and proxies are not used. Keys and certificates are read again for each call,
//! so a replaced file is used from the next call on.

mod access_key;
mod assume_role;
mod byte_limit;
mod client;
mod endpoint;
mod form;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod preparation;
mod response;
mod tls;
mod web_identity;

pub use access_key::access_key_fault;
pub use assume_role::assume_role;
pub use web_identity::{Mint, WebIdentityRequest, assume_role_with_web_identity};
