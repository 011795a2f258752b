//! The top level of the command line, and which subcommand runs.

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use super::bench::{self, BenchArgs};
use super::check::{self, CheckArgs};
use super::credential_program;
use super::event::{self, EventArgs};
use super::generate::{self, CompletionsArgs, ManArgs};
use super::guest_rules::{self, GuestRulesArgs};
use super::identity::{self, IdentityArgs};
use super::instance::{self, InstanceArgs};
use super::listeners::{self, ListenersArgs};
use super::reload::{self, ReloadArgs};
use super::serve::{self, ServeArgs};
use super::status::{self, StatusArgs};
use super::verify::{self, VerifyArgs};
use crate::credentials::launch;

/// Serve EC2-compatible instance metadata to machines that are not EC2 instances
///
/// Guests read their identity, the credentials of their role and their user data, as on EC2
/// (IMDSv1 and IMDSv2). Operators change instance metadata options while imdsd runs, with the
/// unmodified AWS CLI and SDKs, and inject events such as spot interruptions.
///
/// Without a configuration, imdsd serves one demo instance on loopback: metadata on
/// 127.0.0.1:1338, the EC2 API on 127.0.0.1:1339. It needs no root.
#[derive(Parser)]
#[command(
    name = "imdsd",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  imdsd                                            # serve the demo instance; prints what to try
  imdsd --instance web-1.json                      # serve another document in its place
  imdsd check --config /etc/imdsd/imdsd.toml --host
  imdsd serve --config /etc/imdsd/imdsd.toml
  imdsd instance put web-1.json                    # register an instance with a running imdsd
  imdsd event spot --in 5s                         # announce a spot interruption to its guest

Each subcommand has its own examples: imdsd SUBCOMMAND --help"
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Subcommands>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Subcommand)]
enum Subcommands {
    /// Serve guests and the EC2 API until SIGTERM (the default subcommand)
    Serve(ServeArgs),
    /// Check a configuration and everything it names, and report every fault
    Check(CheckArgs),
    GuestRules(GuestRulesArgs),
    /// Put, show, list, delete, export and explain the instances of a running imdsd
    Instance(InstanceArgs),
    /// Inject events: spot interruptions, maintenance, lifecycle changes, scenarios
    Event(EventArgs),
    Bench(BenchArgs),
    /// Make a running imdsd read documents, access keys and the TLS certificate again
    Reload(ReloadArgs),
    /// Show the state of a running imdsd on one screen; with an exit status for scripts
    Status(StatusArgs),
    /// List the listeners of a running imdsd: open, waiting for a link, or refused with the reason
    Listeners(ListenersArgs),
    /// Print what verifiers of identity documents and web identities need; rotate the signing key
    Identity(IdentityArgs),
    /// Verify a signature of an instance identity document
    Verify(VerifyArgs),
    /// Print a shell completion script
    Completions(CompletionsArgs),
    /// Write the manual pages
    Man(ManArgs),
}

/// Runs the program with the arguments of the process.
pub fn run() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments
        .next()
        .is_some_and(|first| first == launch::LAUNCH)
    {
        return credential_program::run(arguments);
    }
    let cli = Cli::parse();
    match cli.command {
        None => serve::run(cli.serve),
        Some(Subcommands::Serve(args)) => serve::run(args),
        Some(Subcommands::Check(args)) => check::run(args),
        Some(Subcommands::GuestRules(args)) => guest_rules::run(args),
        Some(Subcommands::Instance(args)) => instance::run(args),
        Some(Subcommands::Event(args)) => event::run(args),
        Some(Subcommands::Bench(args)) => bench::run(args),
        Some(Subcommands::Reload(args)) => reload::run(args),
        Some(Subcommands::Status(args)) => status::run(args),
        Some(Subcommands::Listeners(args)) => listeners::run(args),
        Some(Subcommands::Identity(args)) => identity::run(args),
        Some(Subcommands::Verify(args)) => verify::run(args),
        Some(Subcommands::Completions(args)) => generate::completions(args, Cli::command()),
        Some(Subcommands::Man(args)) => generate::man(args, Cli::command()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_valid_and_every_subcommand_and_argument_has_help() {
        fn each(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command
                .get_arguments()
                .filter(|argument| !argument.is_hide_set())
            {
                assert!(
                    argument.get_help().is_some(),
                    "{}: {}",
                    command.get_name(),
                    argument.get_id()
                );
            }
            command.get_subcommands().for_each(each);
        }
        let mut command = Cli::command();
        command.build();
        command.clone().debug_assert();
        each(&command);
    }
}
