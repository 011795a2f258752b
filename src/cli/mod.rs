//! The command line: one file per subcommand. Without a subcommand it serves.

mod admin_client;
mod check;
mod event;
mod generate;
mod guest_rules;
mod identity;
mod instance;
mod reload;
mod serve;
mod verify;

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::daemon::documents::CheckedConfig;
use crate::guest::gate;
use crate::host::guests::{self, GuestAttachment};
use crate::instance::{Instance, InstanceId};
use crate::origin::Family;
use crate::registry::file::{self, StoredInstances};

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
    GuestRules(guest_rules::Arguments),
    /// Puts, shows, lists, deletes, exports and explains the instances of a running imdsd
    Instance(instance::Arguments),
    /// Lets something happen to instances: interruptions, maintenance, lifecycle states, scenarios
    Event(event::Arguments),
    /// A running imdsd reads its instance documents, its access keys and the control endpoint's certificate again
    Reload(reload::Arguments),
    /// Lists the ways in of a running imdsd: open, waiting for their links, or refused and why
    Listeners(reload::Listeners),
    /// Prints what verifiers of identity documents and web identities need, and rotates the key
    Identity(identity::Arguments),
    /// Verifies a signature of an identity document, and names what failed
    Verify(verify::Arguments),
    /// Prints a script that completes imdsd's command lines in a shell
    Completions(generate::Completions),
    /// Writes the manual pages
    Man(generate::Man),
}

/// Runs the program with the process's own arguments.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        None => serve::run(cli.serve),
        Some(Command::Serve(arguments)) => serve::run(arguments),
        Some(Command::Check(arguments)) => check::run(arguments),
        Some(Command::GuestRules(arguments)) => guest_rules::run(arguments),
        Some(Command::Instance(arguments)) => instance::run(arguments),
        Some(Command::Event(arguments)) => event::run(arguments),
        Some(Command::Reload(arguments)) => reload::run(arguments),
        Some(Command::Listeners(arguments)) => reload::run_listeners(arguments),
        Some(Command::Identity(arguments)) => identity::run(arguments),
        Some(Command::Verify(arguments)) => verify::run(arguments),
        Some(Command::Completions(arguments)) => generate::completions(arguments),
        Some(Command::Man(arguments)) => generate::man(arguments),
    }
}

/// Returns the attachments of these instances to the host's network. The gate decides for which
/// address families an instance has listeners; an instance without any has no guest.
fn host_attachments(instances: &[Instance]) -> Vec<GuestAttachment<'_>> {
    let of_instance = |instance| {
        let mut families = Family::ALL.to_vec();
        families.retain(|family| gate::listens_for(instance, *family));
        guests::attachments(instance, &families)
    };
    instances.iter().flat_map(of_instance).collect()
}

/// What a daemon of this configuration serves.
struct Registered {
    /// The instances: those of the documents, as the state directory has them since they were registered, and those that
    /// only it has.
    instances: Vec<Instance>,
    /// Why some of them can't be read.
    unread: Vec<String>,
    /// Why the account can't be read, which costs no instance anything.
    account_unread: Option<String>,
}

fn registered(checked: CheckedConfig) -> Registered {
    let documents = checked
        .instances
        .into_iter()
        .map(|instance| (instance.instance_id.clone(), instance));
    let mut instances: BTreeMap<InstanceId, Instance> = documents.collect();
    let Some(directory) = checked.config.state_directory else {
        return Registered {
            instances: instances.into_values().collect(),
            unread: Vec::new(),
            account_unread: None,
        };
    };
    let (unread, account_unread) = match file::read_state_directory(&directory) {
        Ok(StoredInstances {
            instances: records,
            unreadable,
            account_unreadable,
        }) => {
            instances.extend(
                records
                    .into_iter()
                    .map(|record| (record.instance_id.clone(), record)),
            );
            let unread = unreadable.iter().map(ToString::to_string).collect();
            (unread, account_unreadable.as_ref().map(ToString::to_string))
        }
        Err(reason) => (
            vec![format!(
                "the instances in {}: {reason}",
                directory.display()
            )],
            None,
        ),
    };
    Registered {
        instances: instances.into_values().collect(),
        unread,
        account_unread,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::config::demo_instance;
    use crate::instance::{Attachment, InstanceState, Switch};

    #[test]
    fn the_command_line_is_sound_and_every_subcommand_says_what_it_does() {
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

    /// Rules are for every guest that is served, including one whose instance is stopping.
    #[test]
    fn only_instances_that_are_served_have_host_attachments() {
        let mut instance = demo_instance();
        instance.imds.attachments = vec![Attachment::Interface("tap0".to_string())];
        for (state, count) in [
            (InstanceState::Running, 1),
            (InstanceState::Stopping, 1),
            (InstanceState::Stopped, 0),
            (InstanceState::Terminated, 0),
        ] {
            instance.state = state;
            let attachments = host_attachments(std::slice::from_ref(&instance));
            assert_eq!(attachments.len(), count, "{}", state.as_str());
        }
    }

    #[test]
    fn http_protocol_ipv6_decides_whether_a_guest_uses_ipv6() {
        let mut instance = demo_instance();
        instance.imds.attachments = vec![Attachment::Interface("tap0".to_string())];
        for (setting, uses_ipv6) in [(Switch::Enabled, true), (Switch::Disabled, false)] {
            instance.metadata_options.http_protocol_ipv6 = setting;
            let attachments = host_attachments(std::slice::from_ref(&instance));
            assert_eq!(attachments[0].guest.uses_ipv6, uses_ipv6);
        }
    }
}
