//! The guests' rules against real guests: a bridge with three of them, one on an interface of its own, and a service that
//! answers with the mark of the accepted socket. Each attack is first shown to work without the guards.
//!
//! Everything is in network namespaces that the test makes, as root or as anybody who may make a user namespace.

#[path = "../support/mod.rs"]
mod support;

mod attacks;
mod lab;
mod requests;
mod script;
