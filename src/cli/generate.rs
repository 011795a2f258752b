//! `imdsd completions` and `imdsd man`: what packages install beside the program, generated from the
//! same definitions as the help texts.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use clap_complete::Shell;

use super::output;

#[derive(Args)]
#[command(after_help = "\
Example:
  imdsd completions bash > /usr/share/bash-completion/completions/imdsd")]
pub(super) struct CompletionsArgs {
    /// The shell to generate the script for
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

#[derive(Args)]
#[command(after_help = "\
Example:
  imdsd man /usr/share/man/man1")]
pub(super) struct ManArgs {
    /// The directory to write the pages to; created if it does not exist
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

pub(super) fn completions(args: CompletionsArgs, mut imdsd: clap::Command) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut imdsd, "imdsd", &mut script);
    output::print(&String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}

pub(super) fn man(args: ManArgs, imdsd: clap::Command) -> ExitCode {
    let directory = args.directory;
    let written = std::fs::create_dir_all(&directory)
        .and_then(|()| clap_mangen::generate_to(imdsd, &directory));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{}: {reason}", directory.display());
            ExitCode::FAILURE
        }
    }
}
