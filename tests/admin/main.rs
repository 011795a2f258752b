//! The operator's door: the real command line, over the socket, at a real daemon.

#[path = "../support/mod.rs"]
mod support;

mod command_line;
mod events;
mod explain;
mod files;
mod instances;
mod operator;
mod socket;
