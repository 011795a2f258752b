//! Changing many instances at once: planned and prepared while other changes go on, then committed
//! in one short step.
//!
//! 1. Every change is planned on what is in force. A refusal ends it before anything is written.
//! 2. The new records are written beside the old ones, a part at a time.
//! 3. Instances that others changed meanwhile are planned and prepared again, until few are left.
//! 4. Alone: the last of them are prepared, everything is put in force, and published once.
//!
//! Until step 4 it can be cancelled, and leaves nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use tokio::sync::watch;

use super::entry::Entry;
use super::next_record::next_record;
use super::parallel::in_parallel;
use super::persistence::{NewEntry, blocking};
use super::progress::{Phase, Progress};
use super::state::{Registry, to_completion};
use super::store::{PreparedWrite, StoreError};
use super::transaction::{Change, Launch};
use super::turns::Alone;
use super::update_error::{PartialEffect, UpdateError};
use crate::instance::{Instance, InstanceId};

/// How many records are prepared at a time. After each part the progress is reported, and the
/// change can be cancelled.
const PREPARED_AT_ONCE: usize = 100;

/// How often instances that others changed are prepared again before the change is alone.
const MAX_ROUNDS: usize = 6;

/// With no more instances to prepare again than these, the change need not be prepared once more
/// before it is alone.
const FEW: usize = 16;

/// What a change of many instances did to one of them.
#[derive(Debug)]
pub struct ChangedInstance<T> {
    /// The entry before.
    pub before: Arc<Entry>,
    /// The entry after; the same if the instance was left as it was.
    pub after: Arc<Entry>,
    /// The value that the change returned.
    pub outcome: T,
}

impl<T> ChangedInstance<T> {
    /// Returns whether the instance is not as it was.
    pub fn is_changed(&self) -> bool {
        !Arc::ptr_eq(&self.before, &self.after)
    }
}

/// The outcome of a change of many instances, by id.
pub type BulkOutcome<T, E> = Result<Vec<ChangedInstance<T>>, UpdateError<Vec<(InstanceId, E)>>>;

/// One planned change.
struct Plan<T> {
    before: Arc<Entry>,
    /// The new entry; `None` if the instance stays as it is.
    new: Option<NewEntry>,
    prepared: Option<PreparedWrite>,
    outcome: T,
}

/// Everything that is planned, and how to plan it again.
struct Bulk<T, F> {
    registry: Arc<Registry>,
    change: F,
    now: Timestamp,
    progress: watch::Sender<Progress>,
    plans: BTreeMap<InstanceId, Plan<T>>,
    is_cancelled: Arc<AtomicBool>,
}

/// Why a bulk change ended early.
enum BulkError<E> {
    Refused(Vec<(InstanceId, E)>),
    Store(StoreError),
    /// Its caller went away.
    Cancelled,
}

/// Cancels a change when its caller goes away.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Registry {
    /// Changes many instances: all of them, in one publication, or none. Instances that do not exist
    /// are left out, also if they are removed meanwhile.
    ///
    /// Other changes go on meanwhile, and `change` is called again for an instance that was changed.
    /// If the caller goes away before [`Phase::Committing`], nothing changes.
    ///
    /// Returns what was done to each instance, in the order of their ids; or every refusal.
    pub async fn change_all<T, E>(
        self: &Arc<Self>,
        ids: impl IntoIterator<Item = InstanceId>,
        now: Timestamp,
        change: impl Fn(&mut Instance) -> Result<T, E> + Send + Sync + 'static,
        progress: watch::Sender<Progress>,
    ) -> BulkOutcome<T, E>
    where
        T: Send + Sync + 'static,
        E: Send + 'static,
    {
        let mut ids: Vec<InstanceId> = ids.into_iter().collect();
        ids.sort_unstable();
        ids.dedup();
        let is_cancelled = Arc::<AtomicBool>::default();
        let _cancel = CancelOnDrop(Arc::clone(&is_cancelled));
        let mut bulk = Bulk {
            registry: Arc::clone(self),
            change,
            now,
            progress,
            plans: BTreeMap::new(),
            is_cancelled,
        };
        let prepared = blocking(move || bulk.prepare(ids).map(|()| bulk)).await;
        let mut bulk = prepared.map_err(BulkError::into_update_error)?;
        let registry = Arc::clone(self);
        to_completion(async move {
            let turn = registry.turns.alone().await;
            blocking(move || bulk.commit(turn)).await
        })
        .await
        .map_err(BulkError::into_update_error)
    }
}

impl<T, E, F> Bulk<T, F>
where
    T: Send + Sync,
    E: Send,
    F: Fn(&mut Instance) -> Result<T, E> + Sync,
{
    /// Plans and prepares everything while other changes go on.
    fn prepare(&mut self, ids: Vec<InstanceId>) -> Result<(), BulkError<E>> {
        self.report(Phase::Preparing, 0, ids.len());
        self.plan(&ids)?;
        self.write(ids)?;
        for _ in 0..MAX_ROUNDS {
            let stale = self.stale();
            if stale.len() <= FEW {
                break;
            }
            self.plan(&stale)?;
            self.write(stale)?;
        }
        Ok(())
    }

    /// Puts everything in force, and publishes it.
    fn commit(&mut self, turn: Alone) -> Result<Vec<ChangedInstance<T>>, BulkError<E>> {
        let stale = self.stale();
        self.plan(&stale)?;
        self.write(stale)?;
        // The caller may have gone away while the change waited for its turn.
        if self.is_cancelled.load(Ordering::Relaxed) {
            return Err(BulkError::Cancelled);
        }
        let total = self.plans.len();
        self.report(Phase::Committing, 0, total);
        let (mut new, mut prepared, mut changed) = (Vec::new(), Vec::new(), Vec::new());
        for plan in std::mem::take(&mut self.plans).into_values() {
            let after = plan.new.as_ref().map_or(&plan.before, |new| &new.entry);
            changed.push(ChangedInstance {
                after: Arc::clone(after),
                before: plan.before,
                outcome: plan.outcome,
            });
            new.extend(plan.new);
            prepared.extend(plan.prepared);
        }
        if !new.is_empty() {
            let in_force = self.registry.put_in_force(&new, prepared, BTreeMap::new());
            self.registry.wake_consumers();
            in_force.map_err(|failed| BulkError::Store(failed.error))?;
        }
        drop(turn);
        self.report(Phase::Committing, total, total);
        Ok(changed)
    }

    /// Returns the instances whose entries are not those that their changes were planned on.
    fn stale(&self) -> Vec<InstanceId> {
        let snapshot = self.registry.snapshot();
        let is_stale = |(id, plan): &(&InstanceId, &Plan<T>)| {
            let entry = snapshot.entry(id);
            entry.is_none_or(|entry| !Arc::ptr_eq(entry, &plan.before))
        };
        let stale = self.plans.iter().filter(is_stale);
        stale.map(|(id, _)| id.clone()).collect()
    }

    /// Plans the changes of these instances on what is in force now.
    fn plan(&mut self, ids: &[InstanceId]) -> Result<(), BulkError<E>> {
        let snapshot = self.registry.snapshot();
        let planned = in_parallel(ids, |id| {
            let before = Arc::clone(snapshot.entry(id)?);
            let mut instance = before.instance.clone();
            let outcome = match (self.change)(&mut instance) {
                Ok(outcome) => outcome,
                Err(error) => return Some(Err(error)),
            };
            let change = Change {
                instance,
                launch: Launch::Same,
                document_digest: None,
            };
            let record = next_record(Some(&before), change, self.now);
            Some(Ok(Plan {
                new: record
                    .map(|record| self.registry.new_entry(record, Some(Arc::clone(&before)))),
                before,
                prepared: None,
                outcome,
            }))
        });
        let mut refusals = Vec::new();
        for (id, planned) in ids.iter().zip(planned) {
            // What an earlier round prepared is dropped.
            self.plans.remove(id);
            match planned {
                None => {}
                Some(Ok(plan)) => drop(self.plans.insert(id.clone(), plan)),
                Some(Err(error)) => refusals.push((id.clone(), error)),
            }
        }
        match refusals.is_empty() {
            true => Ok(()),
            false => Err(BulkError::Refused(refusals)),
        }
    }

    /// Prepares the writes of planned changes.
    fn write(&mut self, ids: Vec<InstanceId>) -> Result<(), BulkError<E>> {
        let mut left = ids.len();
        let total = self.plans.len();
        for part in ids.chunks(PREPARED_AT_ONCE) {
            if self.is_cancelled.load(Ordering::Relaxed) {
                return Err(BulkError::Cancelled);
            }
            let plans = part.iter().filter_map(|id| self.plans.get(id));
            let writes = plans.filter_map(|plan| plan.new.as_ref().map(NewEntry::write));
            let prepared = self.registry.store.prepare(writes.collect());
            for prepared in prepared.map_err(BulkError::Store)? {
                let plan = self.plans.get_mut(&prepared.write.id);
                plan.expect("the write is of a plan").prepared = Some(prepared);
            }
            left -= part.len();
            self.report(Phase::Preparing, total.saturating_sub(left), total);
        }
        Ok(())
    }

    fn report(&self, phase: Phase, done: usize, total: usize) {
        self.progress.send_replace(Progress { phase, done, total });
    }
}

impl<E> BulkError<E> {
    fn into_update_error(self) -> UpdateError<Vec<(InstanceId, E)>> {
        match self {
            BulkError::Refused(refusals) => UpdateError::Refused(refusals),
            BulkError::Store(error) => UpdateError::store(error, PartialEffect::None),
            // The caller has gone away, so nothing gets the error.
            BulkError::Cancelled => UpdateError::Refused(Vec::new()),
        }
    }
}
