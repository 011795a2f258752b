//! The metadata tree. One nest of tables answers both "which names are here" and "what is the
//! value", so a listing and a lookup cannot disagree: a name is listed exactly when it resolves.
//! The only exception is EC2's own: `user-data` in the listing of a version.
//!
//! A category is absent (404 and not listed) if a later version introduced it, if the instance has
//! no data for it, or if everything below it is absent.

mod category;
mod content;
mod dynamic;
mod faults;
mod iam;
mod known;
mod meta_data;
mod network;
mod read;
mod top;
mod walk;

pub use content::{ContentType, TreeContent};
pub use faults::faults;
pub use known::{PathExtent, is_known};
pub use read::read;
