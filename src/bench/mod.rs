//! Measuring the latency of an instance metadata service: ours, another one's, or EC2's own.
//!
//! [`measure`] sends requests of a `Workload` to one or more `BenchTarget`s and returns a
//! `BenchReport`, which is printed ([`text`]), stored as JSON, drawn ([`html`]) or compared with an
//! earlier one ([`compare`]).
//!
//! It works on threads and blocking sockets: a thread for each connection, which does nothing but
//! send, receive and look at the clock, so that what is measured is the service.

pub(crate) mod compare;
mod distribution;
mod exchange;
pub(crate) mod html;
mod load;
pub(crate) mod report;
mod session;
pub(crate) mod target;
pub(crate) mod text;
pub(crate) mod workload;

pub(crate) use load::{BenchProgress, LoadPlan, measure};
