//! imdsd: an EC2-compatible instance metadata service for machines that are not EC2.
//!
//! Two doors, one registry. `guest` answers virtual machines and trusts nothing; `control` answers signed EC2 API calls, and
//! `admin` the host's own operator on a Unix socket. They never import each other and meet in `registry`. `net` moves the bytes of both and knows neither; `daemon` puts them
//! together. Who may lean on whom is a table in `tests/house`, and a test holds it:
//!
//! ```text
//! cli → daemon → { net, host, guest, control, admin } → registry → instance → fault
//! ```
//!
//! The way of a guest's request: `net` accepts it and learns from the kernel where it came in, `registry` says whose it is,
//! `guest::request` reads it, `guest::gate` decides on the instance's metadata options, `guest::tree` or
//! `guest::gate::issue` has the answer, `guest::reply` gives it EC2's form, and `net` sends it as far as it may travel.
//!
//! The way of an operator's change: `sigv4` says who signed it, `control` reads and checks it, `registry` stores it durably
//! and publishes it to the next request, `daemon` opens and closes listeners for it, and from then on it is `applied`.

#![forbid(unsafe_code)]
// A caller must not be able to cause a panic; `expect` states why it cannot happen.
#![warn(clippy::unwrap_used, clippy::panic)]
#![warn(clippy::disallowed_types)]

pub mod admin;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod credentials;
pub mod daemon;
pub mod document;
pub mod fault;
pub mod guest;
pub mod host;
pub mod http;
pub mod identity;
pub mod instance;
pub mod logging;
pub mod net;
pub mod origin;
pub mod ownership;
pub mod plain_file;
pub mod registry;
pub mod secret;
pub mod sigv4;
