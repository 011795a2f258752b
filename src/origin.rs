//! Where a request comes from, as the kernel reports it, and the launch that its connection belongs to.

use std::net::SocketAddr;

use crate::instance::{Attachment, InstanceId};

/// The address family a request came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// 169.254.169.254, or an IPv4 loopback address.
    Ipv4,
    /// fd00:ec2::254, or an IPv6 loopback address.
    Ipv6,
}

impl Family {
    /// Both.
    pub const ALL: [Family; 2] = [Family::Ipv4, Family::Ipv6];
}

/// Where a request came from, as the kernel reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The way in that accepted the connection.
    pub attachment: Attachment,
    /// The address family of the connection.
    pub family: Family,
    /// The guest's own address. For logs only: a guest can choose it, so it identifies nobody.
    pub peer: SocketAddr,
    /// Who held the way in when the connection was accepted; `None` before that is known. A way in may pass to another
    /// instance, a connection never does.
    pub holder: Option<Holder>,
}

/// One launch of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The instance.
    pub instance: InstanceId,
    /// The launch: another one is another guest.
    pub launch_epoch: u64,
}
