//! Why a change failed, and what remains of it.

use super::store::{StoreError, StoredState};
use crate::instance::InstanceId;

/// Why a change failed. Nothing has changed, except where a store error says so.
#[derive(Debug)]
pub enum UpdateError<E> {
    /// No such instance.
    Unknown(InstanceId),
    /// The change itself was refused.
    Refused(E),
    /// The change could not be stored durably. What is not stored keeps its old values.
    Store(StoreError, PartialEffect),
}

/// What remains of a change that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartialEffect {
    /// Nothing: everything is as before.
    None,
    /// Possibly a part: instances before the failure were changed, or the stored state is unknown.
    Possible,
}

impl<E> UpdateError<E> {
    /// Returns the error for a store that failed after `effect` had taken place.
    pub(super) fn store(error: StoreError, effect: PartialEffect) -> UpdateError<E> {
        let effect = match error.stored {
            StoredState::Previous => effect,
            StoredState::Unknown => PartialEffect::Possible,
        };
        UpdateError::Store(error, effect)
    }
}
