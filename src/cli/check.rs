//! `imdsd check`: reports every fault of a configuration and of the files it names, before anything
//! is started. With `--host` it also reports what on this host prevents a guest from being served,
//! and the command that fixes it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::host_attachments::host_attachments;
use super::known_instances::{self, KnownInstances};
use crate::config::{self, InterfaceSettings};
use crate::daemon::{self, IdentitySource, documents};
use crate::host::boot::boot_id;
use crate::host::examine::{self, AddressOwner, HostMetadata, MetadataService, examine};
use crate::host::netlink;
use crate::instance::Instance;

#[derive(Args)]
#[command(after_help = "\
Examples:
  imdsd check --config /etc/imdsd/imdsd.toml
  imdsd check --config /etc/imdsd/imdsd.toml --host

The exit status is 1 if there is a fault or, with --host, a finding; otherwise it is 0.")]
pub(super) struct CheckArgs {
    /// Configuration file to check, such as /etc/imdsd/imdsd.toml
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,

    /// Check this host too: report what prevents guests from being served, and the command that fixes it
    ///
    /// Checks the interfaces, bridge ports and network namespaces of the instances that are
    /// served (not stopped or terminated), in the documents and in the state directory, from the
    /// network namespace of this command. It changes nothing and sends nothing. Without root, network namespaces and nftables
    /// rules are skipped and reported as not checked. Firewalls are not evaluated.
    #[arg(long)]
    host: bool,

    /// Print the findings on this host as a JSON list instead of text
    #[arg(long, requires = "host")]
    json: bool,
}

pub(super) fn run(args: CheckArgs) -> ExitCode {
    let checked = match documents::check(&args.config) {
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
    if !args.json {
        println!(
            "{}: no faults; {} instances",
            args.config.display(),
            checked.instances.len()
        );
    }
    let interfaces = checked.config.interfaces.clone().unwrap_or_default();
    let socket = checked
        .config
        .admin
        .as_ref()
        .map(|admin| admin.socket.clone());
    let KnownInstances {
        instances,
        unreadable,
        account_unreadable,
    } = known_instances::read(checked);
    account_unreadable
        .iter()
        .for_each(|reason| eprintln!("warning: {reason}"));
    let label = if args.host { "not checked" } else { "warning" };
    unreadable
        .iter()
        .for_each(|reason| eprintln!("{label}: {reason}"));
    if args.host {
        check_host(&args, &interfaces, socket, &instances)
    } else {
        ExitCode::SUCCESS
    }
}

fn check_host(
    args: &CheckArgs,
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
            examine::shell_word(&args.config.to_string_lossy())
        ),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let examination = runtime.and_then(|runtime| {
        runtime.block_on(async {
            let (_netlink, links) = netlink::read_links().await?;
            let attachments = host_attachments(instances, &links.identities(&boot_id()));
            examine(&attachments, &service).await
        })
    });
    let examination = match examination {
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
    match args.json {
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
