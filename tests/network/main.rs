//! Guests on a real network: namespaces for the host, its guests and routers, with wires and bridges between them.
//!
//! Nothing here leaves the namespaces that the tests make; `lab.rs` says how they are kept apart from the machine's own.
//! Figures and tables are printed: `cargo test --test network -- --nocapture`.

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
mod managed;
mod options;
mod regress;
mod same_address;
mod scale;
