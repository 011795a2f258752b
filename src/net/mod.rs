//! How bytes arrive: listeners, connections, their limits, and the hop limit.
//!
//! This module moves bytes and knows none of the planes: it gets what answers requests as a value.
//! It enforces what belongs to a connection (how many, how long, how large, how far an answer
//! travels) and decides nothing else.

mod accept;
pub mod connection;
pub mod control;
mod drain;
mod guest_socket;
pub mod head_filter;
mod http1;
mod hyper;
pub mod ingress;
mod limits;
pub mod listener;
pub mod slots;
pub mod status;
pub mod tls;
pub mod unix;

pub use drain::{Drain, DrainControl};
pub use limits::{CONNECTION_AGE, Limits, MAX_HEAD_BYTES, MAX_HEADERS, UNDELIVERABLE};
