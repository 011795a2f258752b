//! What the faults of an instance do to one request.

use std::time::Duration;

use crate::instance::events::injected_fault::{FaultAnswer, MAX_DELAY};

/// What happens to one request. Nothing by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FaultEffect {
    /// How long the answer is delayed.
    pub(crate) delay: Duration,
    /// What is sent instead of the answer.
    pub(crate) answer: Option<FaultAnswer>,
}

impl FaultEffect {
    /// Adds another fault: delays add up, and the first answer counts.
    pub(super) fn add(&mut self, delay: Duration, answer: Option<FaultAnswer>) {
        self.delay = self.delay.saturating_add(delay).min(MAX_DELAY);
        self.answer = self.answer.or(answer);
    }
}
