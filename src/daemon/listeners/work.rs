//! What the reconciler still has to look at.

use std::collections::BTreeSet;

use crate::daemon::listeners::key::ListenerKey;
use crate::instance::{Attachment, InstanceId};

/// The attachments, instances and listeners for which something changed. Each stays here until it
/// has been dealt with, so that nothing is lost when that does not come to its end.
#[derive(Default)]
pub(super) struct PendingWork {
    /// Their claimants, or the instances there, may have changed.
    pub(super) attachments: BTreeSet<Attachment>,
    /// They changed, or where they are served.
    pub(super) instances: BTreeSet<InstanceId>,
    /// What they need, what they depend on, or their sockets may have changed.
    pub(super) listeners: BTreeSet<ListenerKey>,
    /// How many of each were dealt with.
    #[cfg(test)]
    pub(super) done: DoneWork,
}

/// How many attachments, instances and listeners were looked at.
#[cfg(test)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct DoneWork {
    pub(super) attachments: usize,
    pub(super) instances: usize,
    pub(super) listeners: usize,
}

impl PendingWork {
    /// Returns whether nothing changed.
    pub(super) fn is_empty(&self) -> bool {
        self.attachments.is_empty() && self.instances.is_empty() && self.listeners.is_empty()
    }
}
