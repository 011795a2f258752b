//! What changed in the registry since a consumer last looked.
//!
//! Every consumer has a feed of its own. A feed keeps a set and not a queue, so a slow consumer
//! costs no memory with every further change, and gets several changes of one instance as one.
//!
//! A publication is first visible in the registry's snapshot and then in the feeds. A consumer
//! that takes the changes and then reads the snapshot sees at least these changes in it.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use super::primitives::{Native, Primitives};
use crate::instance::{Attachment, InstanceId};

/// The number of instances, and of attachments, that a feed names. Beyond it, the feed reports
/// that everything changed.
const MAX_NAMED: usize = 1 << 16;

/// What publications changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Whether anything may have changed, also what is not named here.
    pub everything: bool,
    /// The instances that were added, replaced, removed or quarantined, those whose quarantine
    /// changed, and those with an attachment in `attachments`.
    pub instances: BTreeSet<InstanceId>,
    /// The attachments whose claimants changed, and those that are bound to a link that changed.
    pub attachments: BTreeSet<Attachment>,
    /// Whether the links that bindings are compared with changed.
    pub links: bool,
}

impl Changes {
    /// Returns whether nothing changed.
    pub fn is_empty(&self) -> bool {
        *self == Changes::default()
    }

    /// Adds other changes to these.
    pub fn merge(&mut self, other: Changes) {
        self.links |= other.links;
        self.everything |= other.everything;
        if !self.everything {
            self.instances.extend(other.instances);
            self.attachments.extend(other.attachments);
            self.everything = self.instances.len().max(self.attachments.len()) > MAX_NAMED;
        }
        if self.everything {
            self.instances.clear();
            self.attachments.clear();
        }
    }
}

/// The changes that one consumer has not taken yet.
pub struct ChangeFeed {
    feed: FeedOn<Native>,
}

impl ChangeFeed {
    pub(super) fn of(feed: FeedOn<Native>) -> ChangeFeed {
        ChangeFeed { feed }
    }

    /// Waits until there are changes to take.
    pub async fn changed(&self) {
        self.feed.changed().await;
    }

    /// Returns the changes since the last call; everything, at the first call.
    pub fn take(&self) -> Changes {
        self.feed.take()
    }

    /// Returns changes to the feed, to be taken again: the consumer could not do its work.
    pub fn put_back(&self, changes: Changes) {
        self.feed.put_back(changes);
    }
}

/// A feed on given primitives.
pub(super) struct FeedOn<P: Primitives> {
    pending: Arc<Pending<P>>,
}

/// What a feed and the registry share.
struct Pending<P: Primitives> {
    changes: P::Locked<Changes>,
    changed: P::Signal,
}

impl<P: Primitives> FeedOn<P> {
    /// See [`ChangeFeed::changed`].
    pub(super) async fn changed(&self) {
        while P::with(&self.pending.changes, |changes| changes.is_empty()) {
            P::notified(&self.pending.changed).await;
        }
    }

    /// See [`ChangeFeed::take`].
    pub(super) fn take(&self) -> Changes {
        P::with(&self.pending.changes, std::mem::take)
    }

    /// See [`ChangeFeed::put_back`].
    pub(super) fn put_back(&self, changes: Changes) {
        self.pending.add(changes);
        self.pending.wake();
    }
}

impl<P: Primitives> Pending<P> {
    fn add(&self, added: Changes) {
        if !added.is_empty() {
            P::with(&self.changes, |changes| changes.merge(added));
        }
    }

    fn wake(&self) {
        if !P::with(&self.changes, |changes| changes.is_empty()) {
            P::notify(&self.changed);
        }
    }
}

/// The feeds of a registry.
pub(super) struct Feeds<P: Primitives> {
    feeds: P::Locked<Vec<Weak<Pending<P>>>>,
}

impl<P: Primitives> Feeds<P> {
    /// Starts without any.
    pub(super) fn new() -> Feeds<P> {
        Feeds {
            feeds: P::locked(Vec::new()),
        }
    }

    /// Adds a feed. Its first changes are everything.
    pub(super) fn subscribe(&self) -> FeedOn<P> {
        let everything = Changes {
            everything: true,
            ..Changes::default()
        };
        let pending = Arc::new(Pending {
            changes: P::locked(everything),
            changed: P::signal(),
        });
        P::with(&self.feeds, |feeds| feeds.push(Arc::downgrade(&pending)));
        FeedOn { pending }
    }

    /// Adds changes to every feed that still has a consumer. [`Feeds::wake`] wakes the consumers.
    pub(super) fn add(&self, changes: &Changes) {
        P::with(&self.feeds, |feeds| {
            feeds.retain(|feed| {
                let feed = feed.upgrade();
                if let Some(feed) = &feed {
                    feed.add(changes.clone());
                }
                feed.is_some()
            });
        });
    }

    /// Wakes every consumer that has changes to take.
    pub(super) fn wake(&self) {
        P::with(&self.feeds, |feeds| {
            feeds
                .iter()
                .filter_map(Weak::upgrade)
                .for_each(|feed| feed.wake());
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(feeds: &Feeds<Native>, changes: &Changes) {
        feeds.add(changes);
        feeds.wake();
    }

    fn of_instance(number: usize) -> Changes {
        let id = InstanceId::parse(&format!("i-{number:08x}")).unwrap();
        Changes {
            instances: BTreeSet::from([id]),
            ..Changes::default()
        }
    }

    #[test]
    fn the_first_changes_are_everything_and_the_next_are_those_since() {
        let feeds = Feeds::<Native>::new();
        send(&feeds, &of_instance(1));
        let (one, other) = (feeds.subscribe(), feeds.subscribe());
        assert!(one.take().everything);
        assert!(one.take().is_empty());
        send(&feeds, &of_instance(2));
        send(&feeds, &of_instance(2));
        assert_eq!(one.take(), of_instance(2));
        assert!(one.take().is_empty());
        assert!(other.take().everything, "the feeds are independent");
        assert!(other.take().is_empty(), "everything includes the rest");
    }

    #[test]
    fn changes_that_were_put_back_are_taken_again_with_the_later_ones() {
        let feeds = Feeds::<Native>::new();
        let feed = feeds.subscribe();
        feed.take();
        send(&feeds, &of_instance(1));
        let taken = feed.take();
        send(&feeds, &of_instance(2));
        feed.put_back(taken);
        let mut both = of_instance(1);
        both.merge(of_instance(2));
        assert_eq!(feed.take(), both);
    }

    #[test]
    fn a_feed_is_bounded_however_slow_its_consumer_is() {
        let feeds = Feeds::<Native>::new();
        let feed = feeds.subscribe();
        feed.take();
        for number in 0..MAX_NAMED {
            send(&feeds, &of_instance(number));
        }
        send(&feeds, &of_instance(0));
        assert_eq!(feed.pending.changes.lock().instances.len(), MAX_NAMED);
        send(&feeds, &of_instance(MAX_NAMED));
        let changes = feed.take();
        assert!(changes.everything && changes.instances.is_empty());
    }

    #[test]
    fn a_feed_without_a_consumer_is_forgotten() {
        let feeds = Feeds::<Native>::new();
        drop(feeds.subscribe());
        send(&feeds, &of_instance(1));
        assert!(feeds.feeds.lock().is_empty());
    }

    #[tokio::test]
    async fn a_consumer_waits_for_changes_and_not_for_their_number() {
        let feeds = Arc::new(Feeds::<Native>::new());
        let feed = feeds.subscribe();
        feed.changed().await;
        feed.take();
        let waiting = tokio::spawn(async move {
            feed.changed().await;
            feed.take()
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        send(&feeds, &Changes::default());
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "nothing changed");
        send(&feeds, &of_instance(1));
        assert_eq!(waiting.await.unwrap(), of_instance(1));
    }
}
