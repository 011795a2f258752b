//! The roles to keep credentials of, and the sessions that they need.

use std::collections::BTreeMap;

use crate::credentials::session::RoleSession;
use crate::instance::{CredentialSource, InstanceId, Role, RoleDelivery};

/// A role whose credentials are kept fresh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefreshTarget {
    /// The instance.
    pub instance: InstanceId,
    /// The launch of the instance. Another launch is another session.
    pub launch_epoch: u64,
    /// The instance's account.
    pub account: String,
    /// The role. A role with static credentials needs no session.
    pub role: Role,
    /// The deliveries that a guest can read. If tokens are `required`, or the role has no v1
    /// credentials, only `V2`.
    pub deliveries: Vec<RoleDelivery>,
}

/// The key of a session: an instance has at most one session for each delivery.
pub(super) type SessionKey = (InstanceId, RoleDelivery);

/// Returns the sessions that a target needs.
pub(super) fn sessions(target: RefreshTarget) -> BTreeMap<SessionKey, RoleSession> {
    let RefreshTarget {
        instance,
        launch_epoch,
        account,
        role,
        deliveries,
    } = target;
    if matches!(role.source, CredentialSource::Static(_)) {
        return BTreeMap::new();
    }
    let session = |delivery| RoleSession {
        instance: instance.clone(),
        launch_epoch,
        account: account.clone(),
        role_name: role.role_name.clone(),
        source: role.source.clone(),
        delivery,
    };
    let deliveries = deliveries.into_iter();
    deliveries
        .map(|delivery| ((instance.clone(), delivery), session(delivery)))
        .collect()
}
