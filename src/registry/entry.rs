//! One instance as published, and whether its metadata options are applied.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::record::Record;
use crate::origin::Holder;

/// One instance as published: its record, and the generation that the sockets carry.
#[derive(Debug)]
pub struct Entry {
    pub(super) record: Arc<Record>,
    /// The applied generation. All entries of one instance share it, including those in old
    /// snapshots.
    applied: Arc<AtomicU64>,
}

/// `State` of the metadata options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionsState {
    /// The sockets do not carry the newest options yet.
    Pending,
    /// The sockets carry the newest options.
    Applied,
}

impl OptionsState {
    /// Returns EC2's word for the state.
    pub fn as_str(self) -> &'static str {
        match self {
            OptionsState::Pending => "pending",
            OptionsState::Applied => "applied",
        }
    }
}

/// An entry reads like its record.
impl Deref for Entry {
    type Target = Record;

    fn deref(&self) -> &Record {
        &self.record
    }
}

impl Entry {
    /// Returns the entry of a record, with nothing applied yet.
    pub fn of_record(record: impl Into<Arc<Record>>) -> Entry {
        Entry {
            record: record.into(),
            applied: Arc::default(),
        }
    }

    /// Returns the instance's next entry. It shares the applied generation with this one.
    pub(super) fn succeeded_by(&self, record: Record) -> Entry {
        Entry {
            record: Arc::new(record),
            applied: Arc::clone(&self.applied),
        }
    }

    /// Returns the holder of connections that this entry is served on.
    pub fn holder(&self) -> Holder {
        Holder {
            instance: self.instance.instance_id.clone(),
            launch_epoch: self.launch_epoch,
        }
    }

    /// Returns whether this is the holder of connections that this entry is served on.
    pub(super) fn is_held_by(&self, holder: &Holder) -> bool {
        let Holder {
            instance,
            launch_epoch,
        } = holder;
        self.launch_epoch == *launch_epoch && self.instance.instance_id == *instance
    }

    /// Returns whether the sockets carry this entry's options.
    pub fn options_state(&self) -> OptionsState {
        match self.applied.load(Ordering::Acquire) >= self.generation {
            true => OptionsState::Applied,
            false => OptionsState::Pending,
        }
    }

    /// Records that this entry, and every earlier one of its instance, is applied.
    pub(super) fn confirm(&self) {
        self.applied.fetch_max(self.generation, Ordering::AcqRel);
    }

    /// Records that the instance is not served as its options say.
    pub(super) fn retract(&self) {
        self.applied.store(0, Ordering::Release);
    }
}
