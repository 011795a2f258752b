//! The Linux that guests come in by: its links, its addresses, its routes, its packet rules.
//!
//! [`netlink`] follows links and addresses and changes them; [`addresses`] puts the metadata
//! addresses where guests ask for them, and takes away exactly what it put. [`guests`] is what
//! documents say of the guests, [`guest_rules`] the packet rules that follow from it, [`examine`]
//! what keeps guests from being served, and [`own_metadata`] whether the host asks a metadata
//! service itself. Nothing here knows what an instance is allowed: it moves addresses, not bytes.

pub mod addresses;
pub mod boot;
pub mod examine;
pub mod guest_rules;
pub mod guests;
pub mod netlink;
pub mod own_metadata;
