//! The [`Store`] trait, which the file store and the memory store implement, and what a store
//! returns.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use super::account::Account;
use super::record::Record;
use super::text_pool::TextPool;
use crate::fault::Fault;
use crate::instance::{InstanceAttachment, InstanceId, LaunchToken};

/// The contents of a store when it was opened.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Every readable record.
    pub records: Vec<Arc<Record>>,
    /// The texts that the records share.
    pub texts: TextPool,
    /// Unreadable records. Their instances must not be served.
    pub unreadable: Vec<UnreadableRecord>,
    /// The account's record.
    pub account: LoadedAccount,
}

/// A record that could not be read.
#[derive(Debug)]
pub struct UnreadableRecord {
    /// The id of its instance.
    pub id: InstanceId,
    /// Why it cannot be read.
    pub fault: Fault,
    /// The instance's attachments, as far as the damaged record still contains them. No other
    /// instance is served there.
    pub attachments: Vec<InstanceAttachment>,
    /// The client tokens that the damaged record still contains.
    pub client_tokens: Vec<LaunchToken>,
}

/// The account's record when the store was opened.
#[derive(Debug, Default)]
pub enum LoadedAccount {
    /// Nothing was ever stored: no preferences.
    #[default]
    Absent,
    /// The record.
    Read(Account),
    /// The record cannot be read, and why. Operations that need it must be refused.
    Unreadable(Fault),
}

/// A place that keeps records. Its methods block; the registry calls them off the runtime, and
/// several at the same time.
///
/// A write has two steps. [`prepare`](Store::prepare) does the slow work, in which a writer delays
/// no other; nothing of it is in force. [`commit`](Store::commit) is short, and puts several
/// batches in force at once. Each write says what it replaces, and the store checks it in the same
/// step that puts the write in force: of two writers that read the same record, one gets a
/// [`Conflict`], and nothing is lost.
///
/// This is what a store of one host needs. A store that several hosts share must also report the
/// records that other hosts wrote, in the order of their revisions, from the one that `load`
/// returned (a watch). The registry then publishes them as it publishes its own changes, and a
/// writer that got a conflict waits for the newer record before it plans its change again. Such a
/// store gives every write a revision of its own, also one that keeps the generation of the record
/// (only its document's digest changed), and compares revisions.
pub trait Store: Send + Sync {
    /// Reads everything. Fails only when nothing can be read at all.
    fn load(&self) -> Result<Loaded, StoreError>;

    /// Prepares writes: everything that can fail for want of space, and takes long. Readers and a
    /// restart see nothing of it, and a prepared write that is dropped leaves nothing.
    fn prepare(&self, writes: Vec<Write>) -> Result<Vec<PreparedWrite>, StoreError>;

    /// Puts batches of prepared writes in force, in their order. After `Ok` the writes of a batch
    /// survive a crash. After an error the batch is undone, as far as the error says; the other
    /// batches are not affected by a batch that conflicts.
    ///
    /// A crash in the middle leaves each record of a batch either as it was or as it was to be:
    /// none of them was acknowledged.
    fn commit(&self, batches: Vec<Vec<PreparedWrite>>) -> Vec<Result<(), CommitError>>;

    /// Stores the account's record in place of the one before. After `Ok` it survives a crash. An
    /// error contains what is stored: the old record, or an unknown state.
    fn put_account(&self, account: &Account) -> Result<(), StoreError>;

    /// Prepares and commits one write.
    fn write(&self, write: Write) -> Result<(), StoreError> {
        let prepared = self.prepare(vec![write])?;
        let mut outcomes = self.commit(vec![prepared]);
        let outcome = outcomes.pop().expect("one outcome for each batch");
        outcome.map_err(|failed| failed.error)
    }
}

/// One record to store or to remove.
#[derive(Clone, Debug)]
pub struct Write {
    /// The instance.
    pub id: InstanceId,
    /// What must be stored now.
    pub expected: Expected,
    /// The new record; `None` removes the record.
    pub record: Option<Arc<Record>>,
}

/// What a write replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// There is no record.
    Absent,
    /// The record has this generation.
    Generation(u64),
    /// Whatever there is: its state is unknown, or it cannot be read.
    Anything,
}

/// A write that is prepared and not in force.
pub struct PreparedWrite {
    pub(super) write: Write,
    /// What the store needs to put it in force. Dropping it undoes the preparation.
    pub(super) staged: Box<dyn Any + Send>,
}

/// A failure of the store: the action, its reason, and what is stored now.
#[derive(Debug)]
pub struct StoreError {
    /// The action that failed, for example `write /var/lib/imdsd/instances/i-….json`.
    pub action: String,
    /// The system's reason.
    pub reason: std::io::Error,
    /// What is stored after the failure.
    pub stored: StoredState,
}

/// What is stored after a failed write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredState {
    /// The previous record, which stays in force.
    Previous,
    /// Unknown: possibly the new record, possibly none. The instance must not be served.
    Unknown,
}

/// Why a batch was not put in force.
#[derive(Debug)]
pub struct CommitError {
    /// The failure.
    pub error: StoreError,
    /// The instances whose stored state is unknown. The others have their previous records.
    pub unknown: Vec<InstanceId>,
}

/// The store has another record than the one that a write replaces: another writer was first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// What the write expected.
    pub expected: Expected,
    /// The generation of the stored record; `None` if there is none, or one that cannot be read.
    pub found: Option<u64>,
}

impl Write {
    /// Returns the write that stores a record.
    pub fn put(record: Arc<Record>, expected: Expected) -> Write {
        Write {
            id: record.instance.instance_id.clone(),
            expected,
            record: Some(record),
        }
    }

    /// Returns the write that removes a record, if there is one.
    pub fn remove(id: InstanceId, expected: Expected) -> Write {
        Write {
            id,
            expected,
            record: None,
        }
    }
}

impl PreparedWrite {
    /// Returns the write of a store that does all of its work at the commit.
    pub(super) fn unstaged(write: Write) -> PreparedWrite {
        PreparedWrite {
            write,
            staged: Box::new(()),
        }
    }
}

impl StoreError {
    /// Returns the error of a write that would have replaced what another writer stored.
    pub fn conflict(action: String, conflict: Conflict) -> StoreError {
        StoreError {
            action,
            reason: std::io::Error::other(conflict),
            stored: StoredState::Previous,
        }
    }

    /// Returns the conflict, if that is why the write failed.
    pub fn as_conflict(&self) -> Option<&Conflict> {
        self.reason.get_ref()?.downcast_ref()
    }
}

impl CommitError {
    /// Returns the error of a batch that `error` kept from being in force, with the instances whose
    /// stored state is unknown.
    pub fn new(action: String, reason: std::io::Error, unknown: Vec<InstanceId>) -> CommitError {
        let stored = match unknown.is_empty() {
            true => StoredState::Previous,
            false => StoredState::Unknown,
        };
        CommitError {
            error: StoreError {
                action,
                reason,
                stored,
            },
            unknown,
        }
    }
}

impl From<StoreError> for CommitError {
    /// An error that left everything as it was.
    fn from(error: StoreError) -> CommitError {
        CommitError {
            error,
            unknown: Vec::new(),
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.action, self.reason)
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("another writer was first: ")?;
        match self.found {
            Some(generation) => write!(f, "the stored record has generation {generation}")?,
            None => f.write_str("there is no readable record")?,
        }
        match self.expected {
            Expected::Absent => f.write_str(", and none was expected"),
            Expected::Generation(generation) => write!(f, ", and {generation} was expected"),
            Expected::Anything => Ok(()),
        }
    }
}

impl std::error::Error for StoreError {}

impl std::error::Error for Conflict {}
