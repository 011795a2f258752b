//! Registers and replaces instances from documents: `PUT /v1/instances/ID` and
//! `POST /v1/instances`.
//!
//! A document **replaces** the stored instance. What an instance may change while it runs stays
//! as stored where the document does not name it; [`merge`] has the rules.
//!
//! ```text
//!   unknown id ───────────────────────────► registered
//!   stopped, and the document starts it ──► relaunched: tokens invalid, identity document signed again
//!   relaunch=true ────────────────────────► relaunched
//!   the identity document would change ───► refused: its signed bytes belong to one launch
//!   otherwise ────────────────────────────► replaced: tokens stay valid
//! ```
//!
//! All documents of a request are one transaction: if one is refused, none is stored. A document
//! does not bring back an instance that was terminated or whose record cannot be read; such an
//! instance must be deleted first.

mod body;
mod handler;
mod merge;
mod options;
mod outcome;
mod transaction;

pub(super) use handler::put;
pub(super) use options::PutOptions;
