//! The instances of this host: one snapshot for readers, turns for writers, and for every instance a
//! desired and an applied generation.
//!
//! ```text
//!   change ──► store (durable) ──► publish (next request sees it) ──► apply (listeners) ──► applied ≥ desired
//!                │ fails: nothing changed                                  DescribeInstances: pending → applied
//! ```
//!
//! Readers take a [`Snapshot`] once per request and keep it. Writers wait for changes of the same
//! instances, and for those that have to be alone. A change that has begun is finished even when its
//! caller goes away, so memory and disk stay the same.
//!
//! A terminated instance stays listed for an hour, as on EC2, and is then forgotten. If it came
//! from a document, its record stays in the store as a tombstone, which keeps the document from
//! bringing the instance back at the next start.
//!
//! | file | concept |
//! |---|---|
//! | `state` | the [`Registry`]: opening, reading, publishing |
//! | `turns` | which changes wait for each other |
//! | `registration` | registering documents |
//! | `changes`, `transaction`, `next_record` | changing instances and the account |
//! | `bulk` | changing many instances at once |
//! | `conflicts` | which conflicts a change would cause |
//! | `launch_options` | the options of instances whose documents name none |
//! | `progress` | how far a change of many instances is |
//! | `removal` | forgetting terminated instances, deleting |
//! | `group_commit` | changes that are ready at the same time are put in force together |
//! | `parallel` | work on many items by several threads |
//! | `persistence`, `recovery` | writing to the store; quarantine and repair after a failed write |
//! | `publisher`, `primitives` | publishing, on the primitives of threads or of a model checker |
//! | `change_feed` | what changed since a consumer last looked |
//! | `snapshot`, `entry`, `claimants`, `quarantine` | what readers see |
//! | `successors`, `next_snapshot` | the next snapshot, at the cost of what changes |
//! | `claim_index`, `claimed`, `multimap` | persistent indexes of the snapshot |
//! | `text_pool` | the texts that records have in common |
//! | `store`, `record`, `account` | what a store keeps; `file` and `memory` are the stores |

mod account;
mod bulk;
mod change_feed;
mod changes;
mod claim_index;
mod claimants;
mod claimed;
mod conflicts;
mod entry;
pub mod file;
mod group_commit;
mod launch_options;
pub mod memory;
mod multimap;
mod next_record;
mod next_snapshot;
mod parallel;
mod persistence;
mod primitives;
mod progress;
mod publisher;
mod quarantine;
mod record;
mod recovery;
mod registration;
mod removal;
mod snapshot;
mod state;
#[cfg(test)]
pub(crate) mod stepwise;
pub mod store;
mod successors;
mod text_pool;
mod transaction;
mod turns;
mod update_error;
mod writer;

#[cfg(test)]
mod tests;

pub use account::{Account, AccountState, AccountUnreadable};
pub use bulk::{BulkOutcome, ChangedInstance};
pub use change_feed::{ChangeFeed, Changes};
pub use claimants::Claimants;
pub use conflicts::{ClaimConflict, UnownedConflict};
pub use entry::{Entry, OptionsState};
pub use progress::{Phase, Progress};
pub use quarantine::QuarantineReason;
pub use record::{Document, Record, document_digest};
pub use registration::{FaultyOutcome, RegisterOutcome};
pub use snapshot::{Snapshot, UnownedAttachments};
pub use state::Registry;
pub use store::{Store, StoreError, StoredState, UnreadableRecord};
pub use text_pool::TextPool;
pub use transaction::Transaction;
pub use update_error::{PartialEffect, UpdateError};
