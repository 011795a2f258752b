//! AWS Signature Version 4: verifies the signature of a request, and signs form POSTs.
//!
//! [`verify()`] is a function of the request, the known keys, the accepted scope and the time. It
//! has no I/O, no clock and no state. A signature comes in the `Authorization` header or in the
//! query (presigned request). Refused as unsupported: SigV4A, Signature Version 2, streamed and
//! unsigned payloads, a `Date` header in place of `X-Amz-Date`, and a signature in both places.
//!
//! There is no replay cache. Every SDK signs equal calls within one second alike, so a cache would
//! refuse honest calls.
//!
//! ```text
//! verify ──► parameters ──► auth_error        sign ──► canonical, signature
//!        └─► canonical, signature
//! ```

mod access_key;
pub mod access_key_file;
mod auth_error;
mod canonical;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod http_request;
mod parameters;
mod scope;
pub mod sign;
mod signature;
#[cfg(test)]
pub(crate) mod tests;
mod verify;

pub use access_key::AccessKey;
pub use auth_error::{AuthError, RefusedPart};
pub use canonical::{decode_form, percent_encode};
pub use http_request::HttpRequest;
pub use scope::{Regions, Scope};
pub use verify::{Signer, claimed_key_id, verify};
