//! What the registry knows of its store beside the entries.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::account::Account;
use super::entry::Entry;
use crate::instance::InstanceId;

/// What only the registry's writers know.
#[derive(Default)]
pub(super) struct Writer {
    /// Instances whose on-disk state is unknown, with the state before the failed write.
    pub(super) state_unknown: BTreeMap<InstanceId, PreviousState>,
    /// The account's previous record, while its on-disk state is unknown.
    pub(super) account_state_unknown: Option<Option<Account>>,
}

/// An instance before a write that failed.
#[derive(Clone)]
pub(super) enum PreviousState {
    /// It had this record.
    Stored(Arc<Entry>),
    /// It had no record.
    Absent,
    /// It had no record, and the daemon registers its document again.
    Offered,
}
