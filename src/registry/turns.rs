//! Whose turn it is: which changes wait for each other.
//!
//! | turn | waits for | meant for |
//! |---|---|---|
//! | [`ChangeTurns::beside`] | changes of the same instances | a change of a few instances that leaves their attachments, states and launches as they are |
//! | [`ChangeTurns::alone`] | all changes that are being made | planning anything else; committing a change that was planned without a turn |
//! | [`Alone::narrow`] | – | storing what was planned alone: changes of other instances go on |
//!
//! A change that is planned alone sees no other change half-way, and no other can make its plan
//! wrong until it is published: those of the same instances wait for it, and those that could claim
//! an attachment, create or remove an instance, or change the account need a turn alone.
//!
//! ChangeTurns are taken in one order (alone, then the gate, then the instances by id), so no two changes
//! wait for each other.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use crate::instance::InstanceId;

/// The turns of a registry's changes.
#[derive(Default)]
pub(super) struct ChangeTurns {
    /// Held by a change that needed a turn alone, until it is published.
    alone: Arc<Mutex<()>>,
    /// Shared by the changes that are made beside each other. Exclusive while one is planned alone.
    gate: Arc<RwLock<()>>,
    instances: Arc<InstanceLocks>,
}

/// The turn of a change beside those of other instances.
pub(super) struct Beside {
    /// Dropped before the gate: a change that is alone finds no instance locked.
    _instances: Vec<InstanceLock>,
    _gate: OwnedRwLockReadGuard<()>,
}

/// The turn of a change while no other is made.
pub(super) struct Alone {
    alone: OwnedMutexGuard<()>,
    _gate: OwnedRwLockWriteGuard<()>,
    instances: Arc<InstanceLocks>,
}

/// The turn of a change that was planned alone, while changes of other instances are made.
pub(super) struct Narrow {
    _instances: Vec<InstanceLock>,
    _alone: OwnedMutexGuard<()>,
}

impl ChangeTurns {
    /// Waits for the changes of these instances.
    pub(super) async fn beside(&self, ids: &BTreeSet<InstanceId>) -> Beside {
        let gate = Arc::clone(&self.gate).read_owned().await;
        let mut instances = Vec::with_capacity(ids.len());
        for id in ids {
            instances.push(self.instances.lock(id).await);
        }
        Beside {
            _instances: instances,
            _gate: gate,
        }
    }

    /// Waits for all changes that are being made.
    pub(super) async fn alone(&self) -> Alone {
        let alone = Arc::clone(&self.alone).lock_owned().await;
        Alone {
            alone,
            _gate: Arc::clone(&self.gate).write_owned().await,
            instances: Arc::clone(&self.instances),
        }
    }

    /// Returns the turn that keeps others from being alone, or `None` if another change has it now.
    pub(super) fn try_narrow(&self) -> Option<Narrow> {
        let alone = Arc::clone(&self.alone).try_lock_owned().ok()?;
        Some(Narrow {
            _instances: Vec::new(),
            _alone: alone,
        })
    }
}

impl Alone {
    /// Lets changes of all but these instances be made from now on.
    pub(super) fn narrow<'i>(self, ids: impl Iterator<Item = &'i InstanceId>) -> Narrow {
        let ids: BTreeSet<&InstanceId> = ids.collect();
        let locks = ids.into_iter().map(|id| self.instances.lock_unused(id));
        Narrow {
            _instances: locks.collect(),
            _alone: self.alone,
        }
    }
}

/// A lock for each instance that is being changed.
#[derive(Default)]
struct InstanceLocks(parking_lot::Mutex<HashMap<InstanceId, Arc<Mutex<()>>>>);

/// The lock of one instance, or a place in its queue. Dropping it wakes the next change.
struct InstanceLock {
    id: InstanceId,
    /// `None` while the change waits for it.
    lock: Option<OwnedMutexGuard<()>>,
    locks: Arc<InstanceLocks>,
}

impl InstanceLocks {
    fn of(&self, id: &InstanceId) -> Arc<Mutex<()>> {
        Arc::clone(self.0.lock().entry(id.clone()).or_default())
    }

    async fn lock(self: &Arc<Self>, id: &InstanceId) -> InstanceLock {
        // A change that is given up while it waits leaves nothing either.
        let mut waiting = self.waiting(id);
        waiting.lock = Some(self.of(id).lock_owned().await);
        waiting
    }

    /// Locks an instance that is not locked: a change with such a lock shares the gate.
    fn lock_unused(self: &Arc<Self>, id: &InstanceId) -> InstanceLock {
        let mut unused = self.waiting(id);
        let lock = self.of(id).try_lock_owned();
        unused.lock = Some(lock.expect("no change is made beside one that is alone"));
        unused
    }

    fn waiting(self: &Arc<Self>, id: &InstanceId) -> InstanceLock {
        InstanceLock {
            id: id.clone(),
            lock: None,
            locks: Arc::clone(self),
        }
    }
}

impl Drop for InstanceLock {
    fn drop(&mut self) {
        let mut locks = self.locks.0.lock();
        drop(self.lock.take());
        // The map has the last reference if no other change waits.
        if locks
            .get(&self.id)
            .is_some_and(|lock| Arc::strong_count(lock) == 1)
        {
            locks.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[tokio::test]
    async fn no_lock_stays_of_changes_that_ended_or_were_given_up_while_they_waited() {
        let turns = ChangeTurns::default();
        let ids = |count: u32| -> BTreeSet<InstanceId> {
            let id = |number| InstanceId::parse(&format!("i-{number:08x}")).unwrap();
            (0..count).map(id).collect()
        };
        let locks = || turns.instances.0.lock().len();
        let mut context = Context::from_waker(Waker::noop());
        // Three changes of the same instances: one has its turn, one is given up, one waits on.
        let first = turns.beside(&ids(3)).await;
        {
            let three = ids(3);
            let mut given_up = Box::pin(turns.beside(&three));
            let mut last = pin!(turns.beside(&three));
            assert!(given_up.as_mut().poll(&mut context).is_pending());
            assert!(last.as_mut().poll(&mut context).is_pending());
            drop(first);
            // Its turn has come, and it does not take it.
            drop(given_up);
            let last = last.await;
            assert_eq!(locks(), 3);
            drop(last);
            assert_eq!(locks(), 0);
        }
        // One is given up after the change that it waited for, and one before.
        for is_before in [false, true] {
            let held = turns.beside(&ids(2)).await;
            let two = ids(2);
            let mut given_up = Box::pin(turns.beside(&two));
            assert!(given_up.as_mut().poll(&mut context).is_pending());
            match is_before {
                false => {
                    drop(held);
                    drop(given_up);
                }
                true => {
                    drop(given_up);
                    assert_eq!(locks(), 2);
                    drop(held);
                }
            }
            assert_eq!(locks(), 0, "{is_before}");
        }
        drop(turns.alone().await.narrow(ids(5).iter()));
        assert_eq!(locks(), 0);
    }
}
