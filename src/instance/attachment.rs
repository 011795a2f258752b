//! How the host recognises a guest: by where its packets come in, never by what it says.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// One way in that belongs to an instance. Tokens belong to the instance, so an instance may have several.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Attachment {
    /// Whoever connects to this listener (by its name in the configuration) is the instance: loopback and sidecars.
    Listener(String),
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Attachment::Listener(name) => write!(f, "listener '{name}'"),
        }
    }
}

/// The address family a request came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// 169.254.169.254, or an IPv4 loopback address.
    Ipv4,
    /// fd00:ec2::254, or an IPv6 loopback address.
    Ipv6,
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
}
