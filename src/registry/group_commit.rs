//! Group commit: changes that are ready at the same time are put in force together, with one sync of
//! the store's directory and one publication.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::Mutex;

use super::entry::Entry;
use super::store::{CommitError, PreparedWrite, Store};
use crate::instance::{InstanceId, LinkIdentity};

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
    outcome: Arc<Mutex<Option<CommitOutcome>>>,
}

/// What a commit did; `None` if nothing is known, because the store panicked.
type CommitOutcome = Option<Result<(), CommitError>>;

impl GroupCommit {
    /// Returns how many changes wait for a commit that has not begun.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.waiting.lock().len()
    }

    /// Puts a batch in force, and publishes it. The caller's thread commits its own batch with all
    /// that wait, or waits while another thread does it.
    ///
    /// If the store panics, all of the group fail, and `ids` returns whose stored state is unknown.
    pub(super) fn commit(
        &self,
        store: &dyn Store,
        batch: Vec<PreparedWrite>,
        publication: Publishable,
        publish: impl FnOnce(Publishable),
        ids: impl FnOnce() -> Vec<InstanceId>,
    ) -> Result<(), CommitError> {
        let outcome = self.commit_with_others(store, batch, publication, publish);
        outcome.unwrap_or_else(|| {
            let reason = io::Error::other("the store failed unexpectedly");
            Err(CommitError::new(
                "store the change".to_string(),
                reason,
                ids(),
            ))
        })
    }

    fn commit_with_others(
        &self,
        store: &dyn Store,
        batch: Vec<PreparedWrite>,
        publication: Publishable,
        publish: impl FnOnce(Publishable),
    ) -> CommitOutcome {
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
        // The others must not wait for an outcome that never comes.
        let committed = catch_unwind(AssertUnwindSafe(|| {
            let outcomes = store.commit(batches);
            let mut all = Publishable::default();
            for ((publication, _), outcome) in members.iter_mut().zip(&outcomes) {
                if outcome.is_ok() {
                    all.entries.append(&mut publication.entries);
                    all.observed.append(&mut publication.observed);
                }
            }
            if !all.entries.is_empty() {
                publish(all);
            }
            outcomes
        }));
        let mut outcomes = committed.unwrap_or_default().into_iter();
        for (_, slot) in members {
            *slot.lock() = Some(outcomes.next());
        }
        own.lock().take().flatten()
    }
}
