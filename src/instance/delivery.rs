//! Role delivery: whether role credentials are read with a session token.

/// Which protocol version a read of role credentials uses. EC2's `ec2:RoleDelivery`: a role session
/// carries it, so the two versions get different credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RoleDelivery {
    /// IMDSv1: without a session token.
    V1,
    /// IMDSv2: with a session token.
    V2,
}

impl RoleDelivery {
    /// Returns `1.0` or `2.0`, as condition keys and session tags spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            RoleDelivery::V1 => "1.0",
            RoleDelivery::V2 => "2.0",
        }
    }
}
