//! imdsd: an EC2-compatible instance metadata service.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    imdsd::cli::run()
}
