//! Links, addresses and routes of the host, through netlink. No other folder speaks it.
//!
//! [`watch()`] keeps [`Links`] equal to the kernel's. A link that was deleted and created again is
//! another link, even with the same name and index: each has its own [`Incarnation`]. When messages
//! are lost because they were not read in time, everything is read again, and every link counts as
//! new. [`Netlink`] sends requests to the kernel.

mod commands;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod links;
mod message;
mod own_addresses;
mod socket;
mod watch;

pub(super) use commands::route_metric;
pub use commands::{Netlink, PROTOCOL, link_identities, read_links};
pub use links::{Incarnation, Link, Links, UpperLinks};
pub use message::Route;
pub use own_addresses::OwnAddresses;
pub use watch::watch;
