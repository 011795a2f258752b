//! `imdsd check`: every fault of a configuration and of what it names, before anything is started.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::config;
use crate::control::AccessKeys;
use crate::daemon::IdentitySource;
use crate::guest::tree;

#[derive(Args)]
pub struct Arguments {
    /// Configuration file
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
}

pub fn run(arguments: Arguments) -> ExitCode {
    match config::check(&arguments.config, AccessKeys::faults, tree::faults) {
        Ok(checked) => {
            if let Err(fault) = IdentitySource::of(&checked.config) {
                eprintln!("{fault}");
                return ExitCode::FAILURE;
            }
            checked.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
            println!("{}: no faults; {} instances", arguments.config.display(), checked.instances.len());
            ExitCode::SUCCESS
        }
        Err(faults) => {
            faults.iter().for_each(|fault| eprintln!("{fault}"));
            ExitCode::FAILURE
        }
    }
}
