//! Group commit: changes that are ready at the same time are put in force together, with one sync of
//! the store's directory and one publication.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::entry::Entry;
use super::store::{CommitError, PreparedWrite, Store};
use crate::instance::LinkIdentity;

/// The prepared changes that wait for their commit.
#[derive(Default)]
pub(super) struct GroupCommit {
    waiting: Mutex<Vec<Waiting>>,
    /// Locked while a group is committed. The thread that gets it next commits everything that
    /// came meanwhile.
    committing: Mutex<()>,
}

/// What is published when a change is stored.
#[derive(Default)]
pub(super) struct Publishable {
    /// The new entries.
    pub(super) entries: Vec<Arc<Entry>>,
    /// The links that were read from the kernel for the change.
    pub(super) observed: BTreeMap<String, LinkIdentity>,
}

struct Waiting {
    batch: Vec<PreparedWrite>,
    publication: Publishable,
    outcome: Arc<Mutex<Option<Result<(), CommitError>>>>,
}

impl GroupCommit {
    /// Returns how many changes wait for a commit that has not begun.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.waiting.lock().len()
    }

    /// Puts a batch in force, and publishes it. The caller's thread commits its own batch with all
    /// that wait, or waits while another thread does it.
    pub(super) fn commit(
        &self,
        store: &dyn Store,
        batch: Vec<PreparedWrite>,
        publication: Publishable,
        publish: impl FnOnce(Publishable),
    ) -> Result<(), CommitError> {
        let own = Arc::new(Mutex::new(None));
        self.waiting.lock().push(Waiting {
            batch,
            publication,
            outcome: Arc::clone(&own),
        });
        let _committing = self.committing.lock();
        if let Some(outcome) = own.lock().take() {
            return outcome;
        }
        let group = std::mem::take(&mut *self.waiting.lock());
        let (mut batches, mut members) = (Vec::new(), Vec::new());
        for Waiting {
            batch,
            publication,
            outcome,
        } in group
        {
            batches.push(batch);
            members.push((publication, outcome));
        }
        let mut all = Publishable::default();
        let mut outcomes = Vec::new();
        for ((publication, slot), outcome) in members.into_iter().zip(store.commit(batches)) {
            if outcome.is_ok() {
                all.entries.extend(publication.entries);
                all.observed.extend(publication.observed);
            }
            outcomes.push((slot, outcome));
        }
        if !all.entries.is_empty() {
            publish(all);
        }
        for (slot, outcome) in outcomes {
            *slot.lock() = Some(outcome);
        }
        own.lock().take().expect("the group contains this change")
    }
}
