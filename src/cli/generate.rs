//! `imdsd completions` and `imdsd man`: what packages install beside the program, made from the same definitions as the help.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::Cli;
use crate::cli::admin_client;

#[derive(Args)]
#[command(
    after_help = "Example:\n  imdsd completions bash > /usr/share/bash-completion/completions/imdsd"
)]
pub struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

#[derive(Args)]
#[command(after_help = "Example:\n  imdsd man /usr/share/man/man1")]
pub struct Man {
    /// The directory that the pages are written to; it is made if need be
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

pub fn completions(Completions { shell }: Completions) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "imdsd", &mut script);
    admin_client::print(&String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}

pub fn man(Man { directory }: Man) -> ExitCode {
    let written = std::fs::create_dir_all(&directory)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), &directory));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{}: {reason}", directory.display());
            ExitCode::FAILURE
        }
    }
}
