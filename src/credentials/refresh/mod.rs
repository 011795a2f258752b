//! Keeps role credentials fresh: one task for each session fetches, waits and fetches again.
//!
//! ```text
//!            ┌── fetched: until half to two thirds of the validity have passed ──┐
//!   fetch ◄──┤                                                                   ├──► fetch
//!            └── failed: 1 s, 2 s, 4 s … 60 s ───────────────────────────────────┘
//! ```
//!
//! The times are functions of their arguments (`schedule`). Time, randomness and sleep are a
//! [`Clock`].

mod clock;
mod fetch_limits;
mod refresher;
mod schedule;
mod session_task;
mod target;
mod targets;
#[cfg(test)]
mod tests;

pub use clock::{Clock, SystemClock};
pub use fetch_limits::{DESCRIPTORS_PER_FETCH, MAX_FETCHES};
pub use refresher::Refresher;
pub use schedule::{refresh_at, retry_after};
pub use session_task::Counters;
pub use target::RefreshTarget;
pub use targets::RefreshTargets;
