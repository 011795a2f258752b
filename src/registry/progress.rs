//! How far a change of many instances is.

/// How far a change of many instances is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// How many instances are done in this phase.
    pub done: usize,
    /// How many instances there are.
    pub total: usize,
}

/// What a change of many instances is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// It plans the changes and writes the new records beside the old ones. Nothing of it is in
    /// force, and it can still be cancelled.
    #[default]
    Preparing,
    /// It puts the new records in force and publishes them.
    Committing,
}
