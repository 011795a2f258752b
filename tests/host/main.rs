//! `imdsd check --host` in real network namespaces: every fault is built, found with its command, mended by that very
//! command, and gone. Where it can be seen in packets, the guest is not answered before and is after.
//!
//! Everything is in namespaces that the test makes, as root or as anybody who may make a user namespace.

#[path = "../support/mod.rs"]
mod support;

mod bridge;
mod interface;
mod lab;
mod namespace;
