//! The command line: one file per subcommand. Without a subcommand it serves.

mod check;
mod guest_rules;
mod identity;
mod serve;
mod verify;

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Checked;
use crate::instance::{Instance, InstanceId};
use crate::registry;

/// An EC2-compatible instance metadata service for machines that are not EC2.
///
/// Guests ask it who they are, what credentials their role has and what their user data is; operators change the instance
/// metadata options while it runs, with the stock AWS CLI and SDKs.
///
/// Without a configuration it serves one demo instance: metadata on 127.0.0.1:1338, the EC2 API on 127.0.0.1:1339.
#[derive(Parser)]
#[command(name = "imdsd", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::Arguments,
}

#[derive(Subcommand)]
enum Command {
    /// Serves guests and the EC2 API until SIGTERM (the default)
    Serve(serve::Arguments),
    /// Reads a configuration and everything it names, and reports every fault
    Check(check::Arguments),
    /// Prints the packet rules that keep guests apart, for nft
    GuestRules(guest_rules::Arguments),
    /// Prints what verifiers of identity documents and web identities need, and rotates the key
    Identity(identity::Arguments),
    /// Verifies a signature of an identity document, and names what failed
    Verify(verify::Arguments),
}

/// Runs the program with the process's own arguments.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        None => serve::run(cli.serve),
        Some(Command::Serve(arguments)) => serve::run(arguments),
        Some(Command::Check(arguments)) => check::run(arguments),
        Some(Command::GuestRules(arguments)) => guest_rules::run(arguments),
        Some(Command::Identity(arguments)) => identity::run(arguments),
        Some(Command::Verify(arguments)) => verify::run(arguments),
    }
}

/// The instances that a daemon of this configuration serves: those of the documents, as the state directory has them since
/// they were registered, and those that only it has. And what of them can't be read.
fn registered(checked: Checked) -> (Vec<Instance>, Vec<String>) {
    let documents = checked.instances.into_iter().map(|instance| (instance.instance_id.clone(), instance));
    let mut instances: BTreeMap<InstanceId, Instance> = documents.collect();
    let Some(directory) = checked.config.state_directory else {
        return (instances.into_values().collect(), Vec::new());
    };
    let unread = match registry::file::look(&directory) {
        Ok((records, faults)) => {
            instances.extend(records.into_iter().map(|record| (record.instance_id.clone(), record)));
            faults.iter().map(ToString::to_string).collect()
        }
        Err(reason) => vec![format!("the instances in {}: {reason}", directory.display())],
    };
    (instances.into_values().collect(), unread)
}
