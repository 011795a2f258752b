//! What an instance loses to another.

use serde::Serialize;

use crate::instance::InstanceId;
use crate::registry::ClaimConflict;

/// An attachment that an instance lost to another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::admin) struct LostAttachment {
    /// The instance that had it.
    instance_id: InstanceId,
    /// What it had.
    attachment: String,
    /// The instance that has it now.
    to: InstanceId,
}

impl LostAttachment {
    /// Returns what happened, for the log.
    pub(super) fn in_words(&self) -> String {
        format!(
            "{} of {} is {}'s now",
            self.attachment, self.instance_id, self.to
        )
    }
}

impl From<ClaimConflict> for LostAttachment {
    fn from(conflict: ClaimConflict) -> LostAttachment {
        LostAttachment {
            instance_id: conflict.holder,
            attachment: conflict.held.to_string(),
            to: conflict.instance,
        }
    }
}
