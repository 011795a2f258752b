//! The guest rules with real guests: three on a bridge, one on an interface of its own, and a
//! service that answers with the mark of the accepted socket. Each attack is first shown to work
//! without the rules.
//!
//! Everything happens in network namespaces that the test creates, as root or as a user who may
//! create user namespaces.

#[path = "../support/mod.rs"]
mod support;

mod attacks;
mod lab;
mod requests;
mod script;
