//! Role credentials: fetched ahead of time, kept while they are valid, read from memory.
//!
//! ```text
//!   instances ──► Refresher ──► source: a program, or STS ──► Cache ──► guest's read
//!                    ▲               │
//!                    └── due, or ◄───┘ failed: again after 1 s … 60 s
//! ```
//!
//! Each role has two deliveries, which are fetched separately: a read without a session token (1.0)
//! never returns the credentials of a read with one (2.0). Credentials in the instance document
//! itself (`Static`) are not handled here.
//!
//! A guest's read never waits and never causes a fetch. If a source fails, valid credentials stay
//! in service.

pub mod cache;
pub mod fetch;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub mod launch;
pub mod process;
pub mod refresh;
mod session;
mod sources;
pub mod sts;

pub use cache::{Cache, CredentialStatus, Credentials};
pub use fetch::{FailureKind, Fetch, FetchError, FetchFuture, FetchedCredentials};
pub use launch::Launcher;
pub use refresh::{
    Clock, Counters, DESCRIPTORS_PER_FETCH, MAX_FETCHES, RefreshTarget, RefreshTargets, Refresher,
    SystemClock,
};
pub use session::RoleSession;
pub use sources::Sources;
pub use sts::{Mint, WebIdentityRequest, access_key_fault};
