//! Which role credentials the background task keeps fresh.

use std::collections::HashSet;
use std::sync::Arc;

use crate::credentials::{RefreshTarget, RefreshTargets};
use crate::guest::gate;
use crate::instance::{InstanceId, Role};
use crate::origin::Family;
use crate::registry::Entry;

/// The instances whose role credentials are kept fresh.
#[derive(Default)]
pub(super) struct RefreshedInstances {
    ids: HashSet<InstanceId>,
    pub(super) targets: RefreshTargets,
}

impl RefreshedInstances {
    /// Follows a change of one instance; `None` if it is not registered any more.
    pub(super) fn follow(&mut self, id: &InstanceId, entry: Option<&Arc<Entry>>) {
        let target = entry.and_then(refresh_target);
        let is_known = match target.is_some() {
            true => !self.ids.insert(id.clone()),
            false => self.ids.remove(id),
        };
        if target.is_some() || is_known {
            self.targets.set(id, target);
        }
    }

    /// Returns the instances that have a target.
    pub(super) fn ids(&self) -> impl Iterator<Item = &InstanceId> {
        self.ids.iter()
    }
}

/// Returns the target of one instance; `None` if its guest cannot read credentials. A disabled
/// endpoint counts as readable: once it is enabled, the guest reads without delay.
fn refresh_target(entry: &Arc<Entry>) -> Option<RefreshTarget> {
    let instance = &entry.instance;
    let deliveries = gate::role_deliveries(entry);
    // Without a listener the instance does not run, and it has no guest that reads.
    if deliveries.is_empty() || !gate::listens(entry, Family::Ipv4) {
        return None;
    }
    Some(RefreshTarget {
        instance: instance.instance_id.clone(),
        launch_epoch: entry.launch_epoch,
        account: instance.owner_id().to_string(),
        role: Role::clone(instance.imds.role.as_ref()?),
        deliveries: deliveries.to_vec(),
    })
}
