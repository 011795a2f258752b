//! The [`Store`] trait, which the file store and the memory store implement, and what a store
//! returns.

use std::fmt;

use super::account::Account;
use super::record::Record;
use crate::fault::Fault;
use crate::instance::{InstanceAttachment, InstanceId, LaunchToken};

/// The contents of a store when it was opened.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Every readable record.
    pub records: Vec<Record>,
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

/// A place that keeps records. Its methods block; the registry calls them off the runtime, one at a
/// time.
pub trait Store: Send + Sync {
    /// Reads everything. Fails only when nothing can be read at all.
    fn load(&self) -> Result<Loaded, StoreError>;

    /// Stores one record in place of `before`. After `Ok` the record survives a crash. An error
    /// contains what is stored: the old record, or an unknown state.
    fn put(&self, record: &Record, before: Option<&Record>) -> Result<(), StoreError>;

    /// Removes one record. An error contains what is stored: the record as it was, or an unknown
    /// state.
    fn remove(&self, id: &InstanceId) -> Result<(), StoreError>;

    /// Stores the account's record in place of `before`, with the guarantees of [`Store::put`].
    fn put_account(&self, account: &Account, before: Option<&Account>) -> Result<(), StoreError>;
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

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.action, self.reason)
    }
}

impl std::error::Error for StoreError {}
