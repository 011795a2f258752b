//! The admin socket: the real command line, over the socket, with a real daemon.

#[path = "../support/mod.rs"]
mod support;

mod client;
mod command_line;
mod events;
mod explain;
mod faults;
mod files;
mod instances;
mod socket;
