//! Guests on a real network: namespaces for the host, its guests and routers, with wires and
//! bridges between them.
//!
//! No packet leaves the namespaces that the tests create; `lab.rs` describes how they are kept
//! apart from the machine's own. The tests print figures and tables: `cargo test --test network --
//! --include-ignored --nocapture`.

#[path = "../support/mod.rs"]
mod support;

mod imdsd;
mod lab;

mod attachments;
mod bridge;
mod churn;
mod hops;
mod kit;
mod limits;
mod local_process;
mod managed;
mod options;
mod regress;
mod reuse;
mod same_address;
mod scale;
mod two_daemons;
