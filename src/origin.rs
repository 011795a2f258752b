//! The origin of a request: where it came in, as the kernel reports it, and the launch to which its
//! connection belongs.

use std::net::SocketAddr;

use crate::instance::{Attachment, InstanceId};

/// The address family of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// 169.254.169.254, or an IPv4 loopback address.
    Ipv4,
    /// fd00:ec2::254, or an IPv6 loopback address.
    Ipv6,
}

impl Family {
    /// Both families.
    pub const ALL: [Family; 2] = [Family::Ipv4, Family::Ipv6];
}

/// The origin of a request, as the kernel reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The attachment that accepted the connection.
    pub attachment: Attachment,
    /// The address family of the connection.
    pub family: Family,
    /// The peer's address. For logs only: a guest can choose it, so it does not identify the guest.
    pub peer: SocketAddr,
    /// The instance that had the attachment when the connection was accepted; `None` until that is
    /// known. An attachment can move to another instance, a connection cannot.
    pub holder: Option<Holder>,
}

/// One launch of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The instance.
    pub instance: InstanceId,
    /// The number of the launch. After another launch the guest is another one.
    pub launch_epoch: u64,
}
