//! imdsd: an EC2-compatible instance metadata service for machines that are not EC2.
//!
//! # Three planes, one registry
//!
//! `guest` answers virtual machines and trusts nothing. `control` answers signed EC2 API calls.
//! `admin` answers the host's operator on a Unix socket. The planes never import each other: they
//! meet in `registry`, which knows every instance and stores every change. `net` moves bytes and
//! knows none of them; `daemon` composes all of it.
//!
//! # Who may import whom
//!
//! Each folder imports only folders below it. `tests/house` has the table, and checks that no two
//! files import each other.
//!
//! ```text
//! cli         one file a subcommand
//! daemon      composition: start, listeners, background work, shutdown
//! guest   control   admin   net   host        the planes, the network, the Linux host
//! lab         faults that operators inject
//! audit       one audit line for control and admin
//! registry    config   credentials   identity   sigv4   document
//! origin      where a request came from
//! instance    what an instance is: plain data
//! bench       measuring any metadata service; uses nothing of the above
//! clock   fault   http   logging   ownership   plain_file   refusals   secret   side_by_side
//! ```
//!
//! # Threads
//!
//! `daemon::guest_threads` runs the guests' connections, and nothing else. Everything else is on the
//! main thread's runtime, and what blocks is on that runtime's blocking threads. A guest waits for
//! neither.
//!
//! # The way of a guest's request
//!
//! 1. `net::listener` accepts the connection, and the kernel says where it came in: an `Origin`.
//! 2. `Guest::turn` takes one registry snapshot, finds the instance, and asks the first half of the
//!    gate (`guest::gate`): state, address family, endpoint.
//! 3. `net` reads the request into a `RawRequest` (`http`).
//! 4. `Turn::answer` parses it (`guest::request`) and asks the second half of the gate: method,
//!    token, HttpTokens. What passes is an `Admitted`.
//! 5. `guest::tree` returns a metadata value, or `guest::gate::token` issues a session token. Both
//!    take an `Admitted` and nothing else.
//! 6. `guest::reply` gives it EC2's form, and `net` sends it with the hop limit of the instance.
//!
//! # The way of an operator's change
//!
//! `sigv4` verifies the signature, `control` reads and checks the call, `registry` stores the
//! change durably and publishes it to the next request, `daemon::listeners` opens and closes
//! sockets, and from then on DescribeInstances says `applied`.

#![forbid(unsafe_code)]
// A caller must not be able to cause a panic; `expect` states why it cannot happen.
#![warn(clippy::unwrap_used, clippy::panic)]
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]
// What nothing outside can name is not public, so that the compiler sees dead code.
#![warn(unreachable_pub)]

mod admin;
mod audit;
mod bench;
pub mod cli;
pub mod clock;
pub mod config;
mod control;
pub mod credentials;
mod daemon;
pub mod document;
mod fault;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod guest;
pub mod host;
pub mod http;
pub mod identity;
pub mod instance;
mod lab;
mod logging;
mod net;
pub mod origin;
pub mod ownership;
mod plain_file;
mod refusals;
pub mod registry;
pub mod secret;
mod side_by_side;
pub mod sigv4;
