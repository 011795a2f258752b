//! The fuzz targets: functions of some bytes that panic when a property does not hold.
//!
//! This module is compiled for tests and for fuzzing only. `fuzz/` has a program for each target,
//! and `fuzz/corpus/` the inputs that say something: a plain `cargo test` replays them. A target is
//! in the `fuzzing` module of the folder whose parser it tests; here are those that need several
//! folders.

mod fast_path;
mod fixed_service;
mod guest_connection;
mod guest_head;
mod guest_request;

pub use crate::admin::fuzzing::admin_request;
pub use crate::config::fuzzing::configuration;
pub use crate::control::fuzzing::{access_keys, api_call, query_parameters};
pub use crate::credentials::fuzzing::{credential_process, sts_answer};
pub use crate::document::fuzzing::{instance_document, mock_configuration, scenario};
pub use crate::guest::fuzzing::{host, path, token, ttl};
pub use crate::host::netlink::fuzzing::netlink_messages;
pub use crate::identity::fuzzing::{certificates, identity_container};
pub use crate::registry::file::fuzzing::store_record;
pub use crate::sigv4::fuzzing::{authorization, canonicalization, signed_post};
pub use fast_path::fast_path;
pub use guest_connection::{guest_connection, guest_paths};
pub use guest_head::guest_head;
pub use guest_request::guest_request;

/// A target: it panics if the bytes show that a property does not hold.
pub type FuzzTarget = fn(&[u8]);

/// All targets, by name.
pub const TARGETS: &[(&str, FuzzTarget)] = &[
    ("access_keys", access_keys),
    ("admin_request", admin_request),
    ("api_call", api_call),
    ("authorization", authorization),
    ("canonicalization", canonicalization),
    ("certificates", certificates),
    ("configuration", configuration),
    ("credential_process", credential_process),
    ("fast_path", fast_path),
    ("guest_connection", guest_connection),
    ("guest_head", guest_head),
    ("guest_paths", guest_paths),
    ("guest_request", guest_request),
    ("host", host),
    ("identity_container", identity_container),
    ("instance_document", instance_document),
    ("mock_configuration", mock_configuration),
    ("netlink_messages", netlink_messages),
    ("path", path),
    ("query_parameters", query_parameters),
    ("scenario", scenario),
    ("signed_post", signed_post),
    ("store_record", store_record),
    ("sts_answer", sts_answer),
    ("token", token),
    ("ttl", ttl),
];

#[cfg(test)]
mod tests;
