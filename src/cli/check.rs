//! `imdsd check`: reports every fault of a configuration and of the files it names, before anything
//! is started. With `--host` it also reports what on this host prevents a guest from being served,
//! and the command that fixes it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::host_attachments::host_attachments;
use super::known_instances::{KnownInstances, known_instances};
use super::rules_table::rules_table;
use crate::config::{self, Config};
use crate::daemon::documents::{self, CheckedConfig};
use crate::daemon::{ControlFiles, IdentitySource};
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
    let CheckedConfig {
        config,
        documents,
        stored,
    } = checked;
    let mut faults: Vec<String> = ControlFiles::read(&config)
        .faults
        .iter()
        .chain(&documents.faults)
        .map(ToString::to_string)
        .collect();
    match IdentitySource::at_start(&config) {
        IdentitySource::Operator(_, fault) => faults.push(fault.to_string()),
        IdentitySource::Damaged(_, reason) => {
            eprintln!("warning: no signatures and no web identities: {reason}");
        }
        IdentitySource::Ready(_) | IdentitySource::Stored(_) | IdentitySource::Ephemeral => {}
    }
    documents
        .warnings
        .iter()
        .for_each(|warning| eprintln!("warning: {warning}"));
    faults.iter().for_each(|fault| eprintln!("{fault}"));
    if !args.json {
        let found = match faults.len() {
            0 => "no faults".to_string(),
            1 => "1 fault".to_string(),
            count => format!("{count} faults"),
        };
        println!(
            "{}: {found}; {} instances",
            args.config.display(),
            documents.instances.len()
        );
    }
    let KnownInstances {
        instances,
        unreadable,
        account_unreadable,
    } = known_instances(&config, documents, stored);
    account_unreadable
        .iter()
        .for_each(|reason| eprintln!("warning: {reason}"));
    let label = if args.host { "not checked" } else { "warning" };
    unreadable
        .iter()
        .for_each(|reason| eprintln!("{label}: {reason}"));
    let host_is_fine = !args.host || check_host(&args, &config, &instances);
    match faults.is_empty() && host_is_fine {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Prints the findings on this host. Returns whether there are none.
fn check_host(args: &CheckArgs, config: &Config, instances: &[Instance]) -> bool {
    let interfaces = config.interfaces.clone().unwrap_or_default();
    let admin = config.admin.as_ref();
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
        daemon: admin.map(|admin| admin.socket.clone()),
        rules_table: rules_table(config),
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
            return false;
        }
    };
    for unchecked in &examination.unchecked {
        eprintln!(
            "{}: {}: not checked: {}",
            unchecked.instance, unchecked.attachment, unchecked.what
        );
    }
    for note in &examination.notes {
        eprintln!("note: {note}");
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
    examination.findings.is_empty()
}
