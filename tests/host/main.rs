//! `imdsd check --host` in real network namespaces: each test creates a problem, expects the
//! finding, runs the printed command and expects no finding afterwards. Where packets can show it,
//! the guest gets no reply before and gets replies afterwards.
//!
//! Everything happens in namespaces that the test creates, as root or as a user who may create user
//! namespaces.

#[path = "../support/mod.rs"]
mod support;

mod bridge;
mod interface;
mod lab;
mod namespace;
