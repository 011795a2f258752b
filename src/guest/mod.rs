//! The data plane: answers the metadata requests of guests.
//!
//! A guest is hostile. It is identified by where its packets came in, and it is served from memory:
//! no request makes the host do anything. The plane is a pure function of (origin, request, time,
//! nonce), so the same function works behind sockets, tests and fuzzers. It has no socket, file,
//! clock, random source or HTTP library.
//!
//! One request takes one snapshot of the registry and visits the gate once:
//!
//! ```text
//! Guest::turn    origin ─► snapshot.at ─► gate: state, IPv6, endpoint ─► Turn
//!                            │ unknown       │ not running, IPv6 disabled
//!                            ▼ silence       ▼ silence
//! Turn::answer   request ─► GuestRequest::read ─► gate: method, token ─► tree::read | gate::issue ─► Reply
//!                            │ malformed           │ Denial               │ absent
//!                            ▼ 400 413 421         ▼ 400 401 403 405      ▼ 404
//! ```

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub mod gate;
pub mod path;
mod precomputed;
pub mod reply;
pub mod request;
pub mod tree;
mod turn;
mod verdict;

pub use precomputed::Precomputed;
pub use turn::{Decision, Guest, Turn};
pub use verdict::Verdict;

#[cfg(test)]
mod tests;
