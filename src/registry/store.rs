//! Where instances are kept: the trait that the file store, the memory store and a fleet's store share.

use std::fmt;

use jiff::Timestamp;

use crate::fault::Fault;
use crate::instance::{Attachment, Instance, InstanceId, MetadataDefaults};

/// What is stored of one instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Rises with every change.
    pub generation: u64,
    /// Differs for every launch.
    pub launch_epoch: u64,
    /// The instance identity document of this launch, to the byte.
    pub identity_document: String,
    /// Of the document it was registered from, so that a later edit of that is noticed. Empty for one that the API made.
    pub document_digest: String,
    /// Of the RunInstances call that made it, so that the call can be repeated; `None` for one from a document.
    pub launch_request: Option<String>,
    /// When it was terminated.
    pub terminated: Option<Timestamp>,
    /// When anything but its options was last changed.
    pub changed: Timestamp,
    /// The instance.
    pub instance: Instance,
}

/// What is stored of the account, beside its instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// What launches get that say nothing.
    pub metadata_defaults: MetadataDefaults,
}

/// What a store held when it was opened.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Every record that could be read.
    pub records: Vec<Record>,
    /// Records that could not be read. Their instances must not be served.
    pub unreadable: Vec<UnreadableRecord>,
    /// The account's record.
    pub account: LoadedAccount,
}

/// A record that could not be read.
#[derive(Debug)]
pub struct UnreadableRecord {
    /// The instance that it is of.
    pub id: InstanceId,
    /// Why it can't be read.
    pub fault: Fault,
    /// What it still tells of the instance's ways in. Nobody else is served there.
    pub attachments: Vec<Attachment>,
}

/// What a store held of the account.
#[derive(Debug, Default)]
pub enum LoadedAccount {
    /// Nothing was ever stored: no preferences.
    #[default]
    Absent,
    /// This.
    Read(Account),
    /// Something that can't be read, and why. Whatever asks for it must be refused.
    Unreadable(Fault),
}

/// A place that keeps records. Its methods block; the registry calls them off the runtime, one at a time.
pub trait Store: Send + Sync {
    /// Reads everything. Fails only when nothing can be read at all.
    fn load(&self) -> Result<Loaded, StoreError>;

    /// Stores one record in place of `before`. When it returns `Ok` the record survives a crash. After an error the error
    /// says what is stored: the old record, or something that nobody can be sure of.
    fn put(&self, record: &Record, before: Option<&Record>) -> Result<(), StoreError>;

    /// Removes one record. After an error the error says what is stored: the record as it was, or nobody can be sure
    /// what.
    fn remove(&self, id: &InstanceId) -> Result<(), StoreError>;

    /// Stores the account's record in place of `before`, on the terms of [`Store::put`].
    fn put_account(&self, account: &Account, before: Option<&Account>) -> Result<(), StoreError>;
}

/// A store that failed: what it was action, and with what.
#[derive(Debug)]
pub struct StoreError {
    /// `write /var/lib/imdsd/instances/i-….json`, say.
    pub action: String,
    /// The system's reason.
    pub reason: std::io::Error,
    /// What a failed write leaves.
    pub stored: StoredState,
}

/// What is stored after a failed write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredState {
    /// What was there before, which stays in force.
    Previous,
    /// Perhaps the new record, or none: it can't be told, and the instance must not be served.
    Unknown,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "can't {}: {}", self.action, self.reason)
    }
}

impl std::error::Error for StoreError {}
