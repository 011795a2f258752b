//! The role session: the unit in which credentials are fetched and kept.

use crate::instance::{CredentialSource, InstanceId, RoleDelivery};

/// The role of an instance in one delivery, for one launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleSession {
    /// The instance. STS gets its id as the session name.
    pub instance: InstanceId,
    /// The launch of the instance.
    pub launch_epoch: u64,
    /// The instance's account.
    pub account: String,
    /// The role's name.
    pub role_name: String,
    /// Where the credentials come from.
    pub source: CredentialSource,
    /// The delivery of the role.
    pub delivery: RoleDelivery,
}
