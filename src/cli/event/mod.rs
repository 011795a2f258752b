//! `imdsd event`: injects events, as EC2 would announce them.

mod args;
mod command;
mod describe;
mod parse;
mod play;
mod request;

pub use args::EventArgs;
pub use command::run;
