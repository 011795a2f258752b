//! How documents are put.

use crate::instance::InstanceId;

/// The parameters of a put.
#[derive(Clone, Debug, Default)]
pub(in crate::admin) struct PutOptions {
    /// The body must hold one document, of this instance.
    pub(in crate::admin) only: Option<InstanceId>,
    /// The body must hold one document, and its instance must be at this generation.
    pub(in crate::admin) generation: Option<u64>,
    /// Instances that exist are launched again.
    pub(in crate::admin) relaunch: bool,
    /// Attachments are bound to the links that the kernel has now.
    pub(in crate::admin) bind: bool,
    /// Attachments are taken from the instances that hold them.
    pub(in crate::admin) force: bool,
    /// Check everything and store nothing.
    pub(in crate::admin) dry_run: bool,
}
