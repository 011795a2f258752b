//! A change that is being prepared. Nothing of it is stored or visible yet.
//!
//! It is prepared when it is its turn (`turns`), so everything that it decides by is still current
//! when the change is stored.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::account::{Account, AccountState, AccountUnreadable};
use super::entry::Entry;
use super::record::document_digest;
use super::snapshot::Snapshot;
use crate::instance::{Instance, InstanceId, LinkIdentity};

/// The registry as it is, and the changes to make.
pub struct Transaction {
    pub(super) snapshot: Arc<Snapshot>,
    account: Arc<AccountState>,
    /// In the order in which they are stored.
    pub(super) changes: Vec<Change>,
    /// The positions in `changes`.
    positions: BTreeMap<InstanceId, usize>,
    pub(super) new_account: Option<Account>,
    /// Links that were read from the kernel for this change, by name.
    pub(super) observed: BTreeMap<String, LinkIdentity>,
}

/// The new values of one instance.
pub(super) struct Change {
    pub(super) instance: Instance,
    pub(super) launch: Launch,
    /// The digest of the document that the instance now comes from; `None` where that does not
    /// change.
    pub(super) document_digest: Option<String>,
}

/// What a change does to the launch of an instance, and so to its session tokens and its identity
/// document.
pub(super) enum Launch {
    /// The launch continues.
    Same,
    /// The instance is launched again.
    Relaunch,
    /// The instance is new. Holds the digest of the call that created it; `None` when it is
    /// registered from a document.
    First(Option<String>),
}

impl Transaction {
    pub(super) fn new(snapshot: Arc<Snapshot>, account: Arc<AccountState>) -> Transaction {
        Transaction {
            snapshot,
            account,
            changes: Vec::new(),
            positions: BTreeMap::new(),
            new_account: None,
            observed: BTreeMap::new(),
        }
    }

    /// Adds a link that was just read from the kernel. The registry may not know it yet.
    pub fn observe_link(&mut self, name: &str, link: &LinkIdentity) {
        self.observed.insert(name.to_string(), link.clone());
    }

    /// Returns the registry without this change.
    pub fn before(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Returns the registry without this change, to keep.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot)
    }

    /// Returns one instance without this change.
    pub fn entry(&self, id: &InstanceId) -> Option<&Arc<Entry>> {
        self.snapshot.entry(id)
    }

    /// Returns one instance for modification.
    pub fn instance(&mut self, id: &InstanceId) -> Option<&mut Instance> {
        self.change_of(id).map(|change| &mut change.instance)
    }

    /// Returns one instance for modification and launches it again: session tokens of its earlier
    /// launch become invalid.
    pub fn relaunch(&mut self, id: &InstanceId) -> Option<&mut Instance> {
        let change = self.change_of(id)?;
        if let Launch::Same = change.launch {
            change.launch = Launch::Relaunch;
        }
        Some(&mut change.instance)
    }

    /// Returns whether an id is in use, or its record is still in the store.
    pub fn is_taken(&self, id: &InstanceId) -> bool {
        self.positions.contains_key(id)
            || self.snapshot.entry(id).is_some()
            || self.snapshot.quarantine_reason(id).is_some()
            || self.snapshot.is_tombstone(id)
    }

    /// Creates an instance. `request` is the digest of the call that creates it.
    ///
    /// # Panics
    ///
    /// When the instance's id is taken (see [`Transaction::is_taken`]).
    pub fn create(&mut self, instance: Instance, request: String) {
        assert!(
            !self.is_taken(&instance.instance_id),
            "the caller checks that the id is free"
        );
        self.add(Change {
            instance,
            launch: Launch::First(Some(request)),
            document_digest: None,
        });
    }

    /// Creates an instance from a document. No instance may have its id.
    pub fn register(&mut self, instance: Instance) {
        let document_digest = Some(document_digest(&instance));
        self.add(Change {
            instance,
            launch: Launch::First(None),
            document_digest,
        });
    }

    /// Sets the document that an instance comes from, so that a later edit of it is noticed.
    pub fn set_document(&mut self, id: &InstanceId, document: &Instance) {
        if let Some(change) = self.change_of(id) {
            change.document_digest = Some(document_digest(document));
        }
    }

    /// Returns whether this instance was terminated and is no longer listed, while its record
    /// keeps its document from bringing it back.
    pub fn is_tombstone(&self, id: &InstanceId) -> bool {
        self.snapshot.is_tombstone(id)
    }

    /// Returns the account, or an error when its record is unreadable.
    pub fn account(&self) -> Result<Account, AccountUnreadable> {
        match &self.new_account {
            Some(account) => Ok(account.clone()),
            None => self.account.account(),
        }
    }

    /// Replaces the account's record.
    pub fn set_account(&mut self, account: Account) {
        self.new_account = Some(account);
    }

    /// Returns the ids of the instances that it changes.
    pub(super) fn ids(&self) -> impl Iterator<Item = &InstanceId> {
        self.changes
            .iter()
            .map(|change| &change.instance.instance_id)
    }

    /// Returns whether only changes of these instances have to wait for this one: it changes no
    /// others, and leaves what others decide by as it is: attachments, states, launches, documents,
    /// the account.
    pub(super) fn is_about_only(&self, ids: &BTreeSet<InstanceId>) -> bool {
        let leaves_rest = |change: &Change| {
            let after = &change.instance;
            let is_continued = matches!(change.launch, Launch::Same);
            let before = self.snapshot.entry(&after.instance_id);
            is_continued
                && change.document_digest.is_none()
                && ids.contains(&after.instance_id)
                && before.is_some_and(|before| {
                    before.instance.state == after.state
                        && before.instance.client_token == after.client_token
                        && before.instance.imds.attachments == after.imds.attachments
                })
        };
        self.new_account.is_none()
            && self.observed.is_empty()
            && self.changes.iter().all(leaves_rest)
    }

    /// Returns the change of one instance, and starts one if there is none yet.
    fn change_of(&mut self, id: &InstanceId) -> Option<&mut Change> {
        if !self.positions.contains_key(id) {
            let instance = self.snapshot.entry(id)?.instance.clone();
            self.add(Change {
                instance,
                launch: Launch::Same,
                document_digest: None,
            });
        }
        let position = self.positions.get(id)?;
        self.changes.get_mut(*position)
    }

    fn add(&mut self, change: Change) {
        let id = change.instance.instance_id.clone();
        self.positions.entry(id).or_insert(self.changes.len());
        self.changes.push(change);
    }

    /// Returns an instance as the change leaves it.
    pub(super) fn instance_after(&self, id: &InstanceId) -> Option<&Instance> {
        match self.positions.get(id) {
            Some(position) => Some(&self.changes.get(*position)?.instance),
            None => self.snapshot.entry(id).map(|entry| &entry.instance),
        }
    }
}
