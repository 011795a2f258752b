//! The admin API over a registry in memory: a request in, an answer out.

mod claim;
mod counts;
mod events;
mod export;
mod fake;
mod put;
mod refusals;
mod socket;
