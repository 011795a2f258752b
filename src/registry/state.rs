//! The registry's state: the published snapshot and account, the store, and whose turn it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::account::AccountState;
use super::change_feed::ChangeFeed;
use super::entry::Entry;
use super::group_commit::GroupCommit;
use super::next_snapshot::Publication;
use super::primitives::Native;
use super::publisher::Publisher;
use super::quarantine::{QuarantineReason, Quarantined};
use super::snapshot::Snapshot;
use super::store::{LoadedAccount, Store, StoreError, UnreadableRecord};
use super::text_pool::TextPool;
use super::turns::ChangeTurns;
use super::writer::Writer;
use crate::fault::Fault;
use crate::instance::{Images, InstanceId, LinkIdentity};
use crate::origin::Origin;

/// The instances of this host.
pub struct Registry {
    publisher: Publisher<Native>,
    pub(super) account: ArcSwap<AccountState>,
    images: Arc<Images>,
    pub(super) store: Arc<dyn Store>,
    pub(super) turns: ChangeTurns,
    pub(super) group_commit: GroupCommit,
    pub(super) writer: parking_lot::Mutex<Writer>,
    /// The texts that records have in common.
    pub(super) texts: TextPool,
    /// Counts publications.
    publication_count: AtomicU64,
    /// The count that subscribers know, so that they can wait for the next publication.
    published: watch::Sender<u64>,
}

impl Registry {
    /// Opens the registry over a store. Returns unreadable records as faults; their instances are
    /// quarantined.
    pub fn open(store: Arc<dyn Store>) -> Result<(Arc<Registry>, Vec<Fault>), StoreError> {
        Registry::open_with_images(store, Images::default())
    }

    /// Like [`open`](Registry::open), with the operator's table of images.
    pub fn open_with_images(
        store: Arc<dyn Store>,
        images: Images,
    ) -> Result<(Arc<Registry>, Vec<Fault>), StoreError> {
        let loaded = store.load()?;
        let mut faults = Vec::new();
        let quarantined = quarantine_unreadable(loaded.unreadable, &mut faults);
        let entries = loaded.records.into_iter().map(Entry::of_record);
        let snapshot = Snapshot::new(entries, quarantined);
        let account = match loaded.account {
            LoadedAccount::Absent => AccountState::Known(None),
            LoadedAccount::Read(account) => AccountState::Known(Some(account)),
            LoadedAccount::Unreadable(fault) => {
                faults.push(fault);
                AccountState::Unreadable
            }
        };
        let registry = Registry {
            publisher: Publisher::new(snapshot),
            account: ArcSwap::from_pointee(account),
            images: Arc::new(images),
            store,
            turns: ChangeTurns::default(),
            group_commit: GroupCommit::default(),
            writer: parking_lot::Mutex::default(),
            texts: loaded.texts,
            publication_count: AtomicU64::new(0),
            published: watch::Sender::new(0),
        };
        Ok((Arc::new(registry), faults))
    }

    /// Returns the instances as they are now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.publisher.snapshot()
    }

    /// Returns the entry that an origin belongs to now: see [`Snapshot::at`]. It is a hash lookup
    /// in the current snapshot, without a lock and without counting a reference to the snapshot.
    pub fn entry_at(&self, origin: &Origin) -> Option<Arc<Entry>> {
        let entry = |snapshot: &Snapshot| snapshot.at(origin).cloned();
        self.publisher.read(entry)
    }

    /// Returns the account as it is now.
    pub fn account(&self) -> Arc<AccountState> {
        self.account.load_full()
    }

    /// Returns the operator's table of images.
    pub fn images(&self) -> &Arc<Images> {
        &self.images
    }

    /// Returns a receiver that changes with every publication.
    pub fn publications(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }

    /// Returns a feed of what changes from now on. Its first changes are everything.
    pub fn change_feed(&self) -> ChangeFeed {
        ChangeFeed::of(self.publisher.feed())
    }

    /// Records that an entry, and every earlier one of its instance, is applied to the sockets.
    pub fn confirm(&self, entry: &Entry) {
        entry.confirm();
    }

    /// Records that an instance is not served as its options say: they are pending, also if they
    /// were applied before.
    pub fn retract(&self, entry: &Entry) {
        entry.retract();
    }

    /// Compares the bindings of attachments with the links of the host. `identity_of` returns the
    /// link that has a name now. Publishes a snapshot if a binding's link changed.
    pub fn observe_links(&self, boot_id: &str, identity_of: impl Fn(&str) -> Option<LinkIdentity>) {
        self.publish(|snapshot| snapshot.with_links(boot_id, identity_of));
    }

    /// Like [`Registry::observe_links`], where only links of these names can have changed since.
    pub fn observe_links_named<'n>(
        &self,
        boot_id: &str,
        names: impl IntoIterator<Item = &'n str>,
        identity_of: impl Fn(&str) -> Option<LinkIdentity>,
    ) {
        self.publish(|snapshot| snapshot.with_links_named(boot_id, names, identity_of));
    }

    /// Publishes the snapshot that follows the current one: the next request sees it. `None`
    /// changes nothing.
    pub(super) fn publish(&self, next: impl FnOnce(&Snapshot) -> Option<Publication>) {
        self.publish_quietly(next);
        self.wake_consumers();
    }

    /// Publishes, and wakes no consumer: see [`Registry::wake_consumers`].
    fn publish_quietly(&self, next: impl FnOnce(&Snapshot) -> Option<Publication>) {
        let mut is_published = false;
        self.publisher.publish(|snapshot| {
            let next = next(snapshot);
            is_published = next.is_some();
            next
        });
        if is_published {
            self.publication_count.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Wakes the consumers of what was published. Consumers run on the main thread. Each that another
    /// thread wakes interrupts it once, so a change wakes them from the main thread, when it has
    /// come back to it.
    pub(super) fn wake_consumers(&self) {
        self.publisher.wake();
        let count = self.publication_count.load(Ordering::Acquire);
        self.published.send_if_modified(|known| {
            let is_new = *known < count;
            *known = count.max(*known);
            is_new
        });
    }

    /// Publishes entries in one snapshot, judged by the links that `observed` adds. The caller wakes the
    /// consumers.
    pub(super) fn publish_entries(
        &self,
        entries: &[Arc<Entry>],
        observed: &BTreeMap<String, LinkIdentity>,
    ) {
        self.publish_quietly(|snapshot| {
            Some(snapshot.with_entries(entries.iter().cloned(), observed))
        });
    }

    /// Publishes one snapshot in which `next` was applied for each of these.
    pub(super) fn publish_each<T>(
        &self,
        items: impl IntoIterator<Item = T>,
        next: impl Fn(&Snapshot, T) -> Option<Publication>,
    ) {
        self.publish(|snapshot| {
            let mut all: Option<Publication> = None;
            for item in items {
                let before = all.as_ref().map_or(snapshot, |all| &all.snapshot);
                let Some(mut of_item) = next(before, item) else {
                    continue;
                };
                // The earlier ones are many, and these are few.
                if let Some(mut earlier) = all {
                    earlier.changes.merge(of_item.changes);
                    of_item.changes = earlier.changes;
                }
                all = Some(of_item);
            }
            all
        });
    }
}

/// Returns the instances of unreadable records as quarantined, and appends the reasons to `faults`.
fn quarantine_unreadable(
    records: Vec<UnreadableRecord>,
    faults: &mut Vec<Fault>,
) -> BTreeMap<InstanceId, Quarantined> {
    let mut quarantined = BTreeMap::new();
    for record in records {
        faults.push(record.fault);
        let instance = Quarantined {
            reason: QuarantineReason::Unreadable,
            attachments: record.attachments.into_iter().collect(),
            client_tokens: record.client_tokens.into_iter().collect(),
        };
        quarantined.insert(record.id, instance);
    }
    quarantined
}

/// Runs `work` to completion even when the caller's future is dropped.
pub(super) async fn to_completion<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> T {
    tokio::spawn(work)
        .await
        .expect("a registry change does not panic")
}
