//! `imdsd check`: every fault of a configuration and of what it names, before anything is started; with `--host`, also what
//! on this host keeps a guest from being served, and the command that mends it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{Registered, host_attachments, registered};
use crate::config::{self, InterfaceSettings};
use crate::daemon::{self, IdentitySource, documents};
use crate::host::examine::{self, AddressOwner, HostMetadata, MetadataService, examine};
use crate::instance::Instance;

#[derive(Args)]
pub struct Arguments {
    /// Configuration file
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,

    /// Look at this host too: what keeps guests from being served, and the command that mends it
    ///
    /// StoredInstances at are the interfaces, bridge ports and network namespaces of the instances in the documents and in the state
    /// directory (those that are pending or running), from the network namespace that this command runs in. Nothing is
    /// changed and nothing is sent. Without root, network namespaces and the rules of nftables stay unseen, which is said;
    /// firewalls are not judged. The exit status is 1 when anything is found.
    #[arg(long)]
    host: bool,

    /// Print what was found on this host as a JSON list, and nothing else on standard output
    #[arg(long, requires = "host")]
    json: bool,
}

pub fn run(arguments: Arguments) -> ExitCode {
    let checked = match documents::check(&arguments.config) {
        Ok(checked) => checked,
        Err(faults) => {
            faults.iter().for_each(|fault| eprintln!("{fault}"));
            return ExitCode::FAILURE;
        }
    };
    if let Err(faults) = daemon::control_tls(&checked.config) {
        faults.iter().for_each(|fault| eprintln!("{fault}"));
        return ExitCode::FAILURE;
    }
    match IdentitySource::at_start(&checked.config) {
        Err(fault) => {
            eprintln!("{fault}");
            return ExitCode::FAILURE;
        }
        Ok(IdentitySource::Damaged(_, reason)) => {
            eprintln!("warning: no signatures and no web identities: {reason}");
        }
        Ok(IdentitySource::Ready(_) | IdentitySource::Stored(_) | IdentitySource::Ephemeral) => {}
    }
    checked
        .warnings
        .iter()
        .for_each(|warning| eprintln!("warning: {warning}"));
    if !arguments.json {
        println!(
            "{}: no faults; {} instances",
            arguments.config.display(),
            checked.instances.len()
        );
    }
    let interfaces = checked.config.interfaces.clone().unwrap_or_default();
    let socket = checked
        .config
        .admin
        .as_ref()
        .map(|admin| admin.socket.clone());
    let Registered {
        instances,
        unread,
        account_unread,
    } = registered(checked);
    account_unread
        .iter()
        .for_each(|reason| eprintln!("warning: {reason}"));
    let told_as = if arguments.host {
        "not checked"
    } else {
        "warning"
    };
    unread
        .iter()
        .for_each(|reason| eprintln!("{told_as}: {reason}"));
    if arguments.host {
        look_at_host(&arguments, &interfaces, socket, &instances)
    } else {
        ExitCode::SUCCESS
    }
}

fn look_at_host(
    arguments: &Arguments,
    interfaces: &InterfaceSettings,
    socket: Option<PathBuf>,
    instances: &[Instance],
) -> ExitCode {
    let service = MetadataService {
        ipv4: *interfaces.ipv4.ip(),
        ipv6: *interfaces.ipv6.ip(),
        address_owner: match interfaces.addresses {
            config::AddressMode::Check => AddressOwner::Operator,
            config::AddressMode::Manage => AddressOwner::Daemon,
        },
        host_metadata: match interfaces.shadow_host_metadata {
            true => HostMetadata::Shadowed,
            false => HostMetadata::Kept,
        },
        daemon: socket,
        load_rules: format!(
            "imdsd guest-rules --config {} | nft -f -",
            examine::shell_word(&arguments.config.to_string_lossy())
        ),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let attachments = host_attachments(instances);
    let examination =
        match runtime.and_then(|runtime| runtime.block_on(examine(&attachments, &service))) {
            Ok(examination) => examination,
            Err(reason) => {
                eprintln!("cannot read this host's network: {reason}");
                return ExitCode::FAILURE;
            }
        };
    for unchecked in &examination.unchecked {
        eprintln!(
            "{}: {}: not checked: {}",
            unchecked.instance, unchecked.attachment, unchecked.what
        );
    }
    match arguments.json {
        true => println!(
            "{}",
            serde_json::to_string_pretty(&examination.findings).expect("findings are plain data")
        ),
        false => {
            for finding in &examination.findings {
                println!(
                    "{}: {}: {}\n    fix: {}",
                    finding.instance, finding.attachment, finding.what, finding.fix
                );
            }
            let (fine, all) = (examination.fine(), examination.guests.len());
            println!("{fine} of {all} guests on this host's network are fine");
        }
    }
    if examination.findings.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
