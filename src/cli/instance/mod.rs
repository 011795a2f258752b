//! `imdsd instance`: the instances of a running daemon, over its admin socket.

mod args;
mod command;
mod explain;
mod export;
mod manage;
mod put;

pub use args::InstanceArgs;
pub use command::run;
