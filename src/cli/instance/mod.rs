//! `imdsd instance`: the instances of a running daemon, over its admin socket.

mod args;
mod claim;
mod command;
mod explain;
mod export;
mod manage;
mod put;
mod set;

pub(super) use args::InstanceArgs;
pub(super) use command::run;
