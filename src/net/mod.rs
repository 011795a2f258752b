//! How bytes arrive: listeners, connections, their limits, and the hop limit.
//!
//! This module moves bytes and knows none of the planes: it gets what answers requests as a value.
//! It enforces what belongs to a connection (how many, how long, how large, how far an answer
//! travels) and decides nothing else.

mod accept;
mod arrival_filter;
pub(crate) mod bound_interface;
pub(crate) mod connection;
pub(crate) mod control;
mod drain;
mod early_refusal;
pub(crate) mod fast;
mod filtered_io;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub(crate) mod guest_service;
mod guest_socket;
mod guest_turns;
pub(crate) mod head_filter;
pub(crate) mod hop_limit;
mod http1;
mod hyper;
pub(crate) mod ingress;
mod limits;
pub(crate) mod listener;
mod noted_io;
pub(crate) mod owner_slots;
pub(crate) mod rate;
mod reply_bytes;
mod slot_state;
pub(crate) mod slots;
pub(crate) mod status;
pub(crate) mod tls;
mod turn_queue;
mod turns;
pub(crate) mod unix;
mod user_shares;

pub(crate) use drain::{Drain, DrainControl};
pub(crate) use limits::{Delivery, FastPath, Limits, MAX_HEAD_BYTES, MAX_HEADERS};
