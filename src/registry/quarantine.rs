//! Quarantined instances: known, but not served, because their records cannot be trusted.

use std::collections::BTreeSet;

use crate::instance::{InstanceAttachment, LaunchToken};

/// A quarantined instance. Its attachments stay reserved: no other instance is served there,
/// because the guest behind an attachment may be the quarantined one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Quarantined {
    pub(super) reason: QuarantineReason,
    pub(super) attachments: BTreeSet<InstanceAttachment>,
    /// The client tokens of launches that its record may have: a call with one of them may already
    /// have launched this instance.
    pub(super) client_tokens: BTreeSet<LaunchToken>,
}

impl Quarantined {
    /// Returns an instance with these attachments reserved.
    pub(super) fn with_attachments(
        reason: QuarantineReason,
        attachments: impl IntoIterator<Item = InstanceAttachment>,
    ) -> Quarantined {
        Quarantined {
            reason,
            attachments: attachments.into_iter().collect(),
            client_tokens: BTreeSet::new(),
        }
    }
}

/// Why an instance is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuarantineReason {
    /// Its record cannot be read.
    Unreadable,
    /// A write of its record failed and the on-disk state is unknown. The registry retries to
    /// restore the previous record.
    StateUnknown,
    /// It has no record: its document could not be stored. The daemon registers it again.
    NotStored,
    /// It has no record: its document has faults.
    FaultyDocument,
    /// It has no record yet: a start or a reload is registering it. Nothing failed.
    BeingRegistered,
}
