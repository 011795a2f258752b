//! The daemon as a process: bytes on sockets, kills, restarts, bad files.

#[path = "../support/mod.rs"]
mod support;

mod aemm;
mod bench;
mod connections;
mod crash;
mod documents;
mod durability;
mod facts;
mod fairness;
mod hop_limit;
mod inheritance;
mod key_files;
mod logs;
mod options;
mod polling;
mod restart;
mod shutdown;
mod starting;
mod store;
mod supervised;
mod threads;
