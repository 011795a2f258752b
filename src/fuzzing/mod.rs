//! The fuzz targets: functions of some bytes that panic when a property does not hold.
//!
//! This module is compiled for tests and for fuzzing only. `fuzz/` has a program for each target,
//! and `fuzz/corpus/` the inputs that say something: a plain `cargo test` replays them. A target is
//! in the `fuzzing` module of the folder whose parser it tests; here are those that need several
//! folders.

mod guest_head;

pub use crate::guest::fuzzing::{host, path, token, ttl};
pub use guest_head::guest_head;

/// A target: it panics if the bytes show that a property does not hold.
pub type FuzzTarget = fn(&[u8]);

/// All targets, by name.
pub const TARGETS: &[(&str, FuzzTarget)] = &[
    ("guest_head", guest_head),
    ("host", host),
    ("path", path),
    ("token", token),
    ("ttl", ttl),
];

#[cfg(test)]
mod tests;
