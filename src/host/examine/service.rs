//! What the guests should reach, and what the check must know about the configuration.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use crate::host::guest_rules::TableName;

/// The metadata service that the guests of this host should reach.
#[derive(Clone, Debug)]
pub struct MetadataService {
    /// Its IPv4 address.
    pub ipv4: Ipv4Addr,
    /// Its IPv6 address.
    pub ipv6: Ipv6Addr,
    /// Who puts these addresses on interfaces.
    pub address_owner: AddressOwner,
    /// Whether the host may lose access to a metadata service of its own.
    pub host_metadata: HostMetadata,
    /// The admin socket of the daemon, if there is one.
    pub daemon: Option<PathBuf>,
    /// The name of the tables of the guest rules.
    pub rules_table: TableName,
    /// The command that loads the guest rules.
    pub load_rules: String,
}

/// Who puts the service's addresses, and the routes to IPv6 guests, on the guests' interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressOwner {
    /// The operator: a missing address is a finding.
    Operator,
    /// The daemon, while it runs.
    Daemon,
}

/// What to do when the host seems to use a metadata service at the same addresses itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostMetadata {
    /// The host keeps its service: addresses on its interfaces would cut it off.
    Kept,
    /// The host needs no such service: the operator said so.
    Shadowed,
}
