//! The Linux that guests come in by: its links, its addresses, its routes.
//!
//! [`netlink`] follows links and addresses and changes them; [`addresses`] puts the metadata addresses where guests ask for
//! them, and takes away exactly what it put. Nothing here knows what an instance is allowed: it moves addresses, not bytes.

pub mod addresses;
pub mod netlink;
