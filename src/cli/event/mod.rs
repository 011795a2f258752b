//! `imdsd event`: injects events, as EC2 would announce them.

mod args;
mod command;
mod describe;
mod parse;
mod play;
mod request;

pub(super) use args::EventArgs;
pub(super) use command::run;
