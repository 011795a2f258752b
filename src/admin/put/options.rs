//! How documents are put.

use crate::instance::InstanceId;

/// The parameters of a put.
#[derive(Clone, Debug, Default)]
pub(crate) struct PutOptions {
    /// The body must hold one document, of this instance.
    pub(crate) only: Option<InstanceId>,
    /// The body must hold one document, and its instance must be at this generation.
    pub(crate) generation: Option<u64>,
    /// Instances that exist are launched again.
    pub(crate) relaunch: bool,
    /// Check everything and store nothing.
    pub(crate) dry_run: bool,
}
