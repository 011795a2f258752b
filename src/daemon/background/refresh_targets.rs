//! Which role credentials the background task keeps fresh.

use std::sync::Arc;

use crate::credentials::RefreshTarget;
use crate::guest::gate;
use crate::origin::Family;
use crate::registry::{Entry, Snapshot};

/// Returns a target for each instance whose guest can read role credentials.
pub(super) fn refresh_targets(snapshot: &Snapshot) -> Vec<RefreshTarget> {
    snapshot.entries().filter_map(refresh_target).collect()
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
        role: instance.imds.role.clone()?,
        deliveries: deliveries.to_vec(),
    })
}
