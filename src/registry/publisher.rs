//! The published snapshot: readers take it while writers replace it, one after the other.

use std::sync::Arc;

use super::change_feed::{FeedOn, Feeds};
use super::next_snapshot::Publication;
use super::primitives::Primitives;
use super::snapshot::Snapshot;

/// The published snapshot, and the feeds of what changes.
pub(super) struct Publisher<P: Primitives> {
    snapshot: P::Shared<Snapshot>,
    /// Held while the next snapshot is made from the current one: the writers and the watch of the
    /// host's links all do that.
    turn: P::Turn,
    feeds: Feeds<P>,
}

impl<P: Primitives> Publisher<P> {
    /// Publishes the first snapshot.
    pub(super) fn new(snapshot: Snapshot) -> Publisher<P> {
        Publisher {
            snapshot: P::shared(Arc::new(snapshot)),
            turn: P::turn(),
            feeds: Feeds::new(),
        }
    }

    /// Returns the current snapshot.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        P::load(&self.snapshot)
    }

    /// Reads the current snapshot without taking part in its ownership: for short reads only.
    pub(super) fn read<R>(&self, work: impl FnOnce(&Snapshot) -> R) -> R {
        P::read(&self.snapshot, work)
    }

    /// Returns a feed of what changes from now on.
    pub(super) fn feed(&self) -> FeedOn<P> {
        self.feeds.subscribe()
    }

    /// Publishes the snapshot that follows the current one, and then adds what changed to the feeds.
    /// `None` changes nothing. [`Publisher::wake`] wakes the consumers of the feeds.
    pub(super) fn publish(&self, next: impl FnOnce(&Snapshot) -> Option<Publication>) {
        P::in_turn(&self.turn, || {
            let before = self.snapshot();
            if let Some(Publication { snapshot, changes }) = next(&before) {
                P::store(&self.snapshot, Arc::new(snapshot));
                self.feeds.add(&changes);
            }
        });
    }

    /// Wakes the consumers of the feeds.
    pub(super) fn wake(&self) {
        self.feeds.wake();
    }
}
