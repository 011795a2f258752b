//! A change that is being made up: what the registry would be after it. Nothing of it is stored or visible yet.
//!
//! Whoever makes it up holds the writer, so what it reads here is still so when the change is stored.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::instance::{Instance, InstanceId};
use crate::registry::{Account, AccountState, Entry, Snapshot, digest};

/// The registry, and what is to become of it.
pub struct Transaction {
    snapshot: Arc<Snapshot>,
    account: Arc<AccountState>,
    /// Instances that are shown no longer and still have a record.
    buried: BTreeSet<InstanceId>,
    /// In the order in which they will be stored.
    pub(super) changes: Vec<Change>,
    pub(super) new_account: Option<Account>,
}

/// One instance as it is to be.
pub(super) struct Change {
    pub(super) instance: Instance,
    pub(super) launch: Launch,
    /// Of the document that it is from now; `None` where that stays as it was.
    pub(super) digest: Option<String>,
}

/// What a change means for the launch of an instance, and so for its tokens and its identity document.
pub(super) enum Launch {
    /// It goes on.
    Same,
    /// The instance is started anew.
    Anew,
    /// The instance is new: made by a call of which this is the digest, or registered from a document.
    First(Option<String>),
}

impl Transaction {
    pub(super) fn new(
        snapshot: Arc<Snapshot>,
        account: Arc<AccountState>,
        buried: BTreeSet<InstanceId>,
    ) -> Transaction {
        Transaction {
            snapshot,
            account,
            buried,
            changes: Vec::new(),
            new_account: None,
        }
    }

    /// The registry as it is without this change.
    pub fn before(&self) -> &Snapshot {
        &self.snapshot
    }

    /// One instance as it is without this change.
    pub fn entry(&self, id: &InstanceId) -> Option<&Arc<Entry>> {
        self.snapshot.entry(id)
    }

    /// One instance, to be changed.
    pub fn instance(&mut self, id: &InstanceId) -> Option<&mut Instance> {
        self.change_of(id).map(|change| &mut change.instance)
    }

    /// One instance, to be changed and launched anew: tokens of its earlier launch are void.
    pub fn relaunch(&mut self, id: &InstanceId) -> Option<&mut Instance> {
        let change = self.change_of(id)?;
        if let Launch::Same = change.launch {
            change.launch = Launch::Anew;
        }
        Some(&mut change.instance)
    }

    /// Whether an id is somebody's, or was until lately: a record of it is in the store.
    pub fn is_taken(&self, id: &InstanceId) -> bool {
        let is_made = self
            .changes
            .iter()
            .any(|change| change.instance.instance_id == *id);
        is_made
            || self.snapshot.entry(id).is_some()
            || self.snapshot.quarantine_reason(id).is_some()
            || self.buried.contains(id)
    }

    /// A new instance, whose id must not be taken. `request` is the digest of the call that makes it.
    pub fn create(&mut self, instance: Instance, request: String) {
        assert!(
            !self.is_taken(&instance.instance_id),
            "whoever makes an instance looks whether its id is taken"
        );
        self.changes.push(Change {
            instance,
            launch: Launch::First(Some(request)),
            digest: None,
        });
    }

    /// A new instance of a document. Its id must be nobody's.
    pub fn register(&mut self, instance: Instance) {
        let digest = Some(digest(&instance));
        self.changes.push(Change {
            instance,
            launch: Launch::First(None),
            digest,
        });
    }

    /// Says of which document an instance is from now on, so that a later edit of that is noticed.
    pub fn set_document(&mut self, id: &InstanceId, document: &Instance) {
        if let Some(change) = self.change_of(id) {
            change.digest = Some(digest(document));
        }
    }

    /// Whether this instance was terminated and is shown no longer, while its record keeps its document from bringing it
    /// back.
    pub fn is_tombstone(&self, id: &InstanceId) -> bool {
        self.buried.contains(id)
    }

    /// The account; an error when its record can't be read.
    pub fn account(&self) -> Result<Account, AccountUnreadable> {
        self.new_account.map_or_else(|| self.account.account(), Ok)
    }

    /// Another account record.
    pub fn set_account(&mut self, account: Account) {
        self.new_account = Some(account);
    }

    fn change_of(&mut self, id: &InstanceId) -> Option<&mut Change> {
        let place = match self
            .changes
            .iter()
            .position(|change| change.instance.instance_id == *id)
        {
            Some(place) => place,
            None => {
                let instance = self.snapshot.entry(id)?.instance.clone();
                self.changes.push(Change {
                    instance,
                    launch: Launch::Same,
                    digest: None,
                });
                self.changes.len() - 1
            }
        };
        Some(&mut self.changes[place])
    }
}

/// The account's record can't be read, or nobody knows what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountUnreadable;
