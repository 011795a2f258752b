//! Attachments pass from one instance to another, or are given up, in one publication:
//! `POST /v1/instances/ID/claim` and `POST /v1/instances/ID/release`.
//!
//! ```text
//!   claim    this instance has these attachments now; the instances that had them lose them
//!   release  this instance gives them up, if it still has them
//! ```
//!
//! Programs that start and stop guests use them, such as a hypervisor's hooks: what the program
//! sees happen is true, whatever older records say. At no time has an attachment two holders, or
//! none because of an order of events. Both are idempotent.

mod handler;
mod lost;
mod release;

pub(super) use handler::claim;
pub(super) use lost::LostAttachment;
pub(super) use release::release;
