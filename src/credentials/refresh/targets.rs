//! Which roles are kept fresh, as that changes: one instance at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::target::RefreshTarget;
use crate::instance::InstanceId;

/// The roles whose credentials are kept fresh. Clones share them.
#[derive(Clone, Default)]
pub struct RefreshTargets {
    pending: Arc<PendingTargets>,
}

/// What a refresher has not taken yet.
#[derive(Default)]
struct PendingTargets {
    /// Locked for one entry, or for as many as the refresher takes at once.
    by_instance: Mutex<BTreeMap<InstanceId, Option<RefreshTarget>>>,
    changed: Notify,
}

impl RefreshTargets {
    /// Sets the role of an instance that is kept fresh; `None` if there is none.
    pub fn set(&self, instance: &InstanceId, target: Option<RefreshTarget>) {
        let mut by_instance = self.pending.by_instance.lock();
        by_instance.insert(instance.clone(), target);
        drop(by_instance);
        self.pending.changed.notify_one();
    }

    /// Takes up to `count` changes.
    pub(super) fn take(&self, count: usize) -> Vec<(InstanceId, Option<RefreshTarget>)> {
        let mut by_instance = self.pending.by_instance.lock();
        std::iter::from_fn(|| by_instance.pop_first())
            .take(count)
            .collect()
    }

    /// Returns when there may be changes to take.
    pub(super) async fn changed(&self) {
        if self.pending.by_instance.lock().is_empty() {
            self.pending.changed.notified().await;
        }
    }
}

impl FromIterator<RefreshTarget> for RefreshTargets {
    fn from_iter<T: IntoIterator<Item = RefreshTarget>>(all: T) -> RefreshTargets {
        let targets = RefreshTargets::default();
        for target in all {
            targets.set(&target.instance.clone(), Some(target));
        }
        targets
    }
}
