//! `imdsd check`: reports every fault of a configuration and of the files it names, before anything
//! is started. With `--host` it also reports what on this host prevents a guest from being served,
//! and the command that fixes it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::host_attachments::{host_attachments, host_links, missing_interfaces};
use super::known_instances::{KnownInstances, known_instances};
use super::rules_table::rules_table;
use crate::config::{self, Config};
use crate::daemon::documents::{self, CheckedConfig, CheckedDocuments};
use crate::daemon::{ControlFiles, IdentitySource, StartTrial};
use crate::fault::Fault;
use crate::host::boot::boot_id;
use crate::host::examine::{self, AddressOwner, HostMetadata, MetadataService, examine};
use crate::host::netlink;
use crate::instance::Instance;

#[derive(Args)]
#[command(after_help = "\
Examples:
  imdsd check --config /etc/imdsd/imdsd.toml
  imdsd check --config /etc/imdsd/imdsd.toml --host

It also tries what a start here needs: directories, addresses that are free, capabilities. While imdsd
runs, its addresses are not tried. What was not checked is named on standard error.

The exit status is 1 if there is a fault or, with --host, something that keeps a guest from being
served; otherwise it is 0. Warnings, advice and what was not checked do not change it.")]
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
    let count = documents.instances.len();
    let mut report = CheckReport::default();
    report.add_files(&config, &documents);
    let KnownInstances {
        instances,
        unreadable,
        account_unreadable,
    } = known_instances(&config, documents, stored);
    report.warnings.extend(account_unreadable);
    match args.host {
        true => report.untried.extend(unreadable),
        false => report.warnings.extend(unreadable),
    }
    report.add_start(&config, &instances);
    if !args.host {
        report.add_missing_interfaces(&config, &instances);
    }
    report.print(&args, count);
    let host_is_fine = !args.host || check_host(&args, &config, &instances);
    match report.faults.is_empty() && host_is_fine {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// What a check found, as text.
#[derive(Default)]
struct CheckReport {
    faults: Vec<String>,
    warnings: Vec<String>,
    /// Warnings about documents and listeners.
    doubts: Vec<Fault>,
    /// What was not checked, and why.
    untried: Vec<String>,
}

impl CheckReport {
    /// Adds what was found in the documents and in the other files that the configuration names.
    fn add_files(&mut self, config: &Config, documents: &CheckedDocuments) {
        let control = ControlFiles::read(config).faults;
        let faults = control.iter().chain(&documents.faults);
        self.faults.extend(faults.map(ToString::to_string));
        match IdentitySource::at_start(config) {
            IdentitySource::Operator(_, _, fault) => self.faults.push(fault.to_string()),
            IdentitySource::Damaged(_, reason) => {
                let warning = format!("no signatures and no web identities: {reason}");
                self.warnings.push(warning);
            }
            IdentitySource::Ready(_) | IdentitySource::Stored(_) | IdentitySource::Ephemeral => {}
        }
        self.doubts.extend_from_slice(&documents.warnings);
        self.doubts.extend_from_slice(&documents.doubts);
    }

    /// Adds what a start on this host needs.
    fn add_start(&mut self, config: &Config, instances: &[Instance]) {
        let StartTrial {
            faults,
            warnings,
            untried,
        } = StartTrial::run(config, instances);
        self.faults.extend(faults);
        self.warnings.extend(warnings);
        self.untried.extend(untried);
    }

    fn add_missing_interfaces(&mut self, config: &Config, instances: &[Instance]) {
        let mut attachments = instances.iter().flat_map(|of| &of.imds.attachments);
        let has_guests = attachments.any(|of| of.bindable_interface().is_some());
        let is_bound = config
            .listeners
            .iter()
            .any(|listener| listener.interface.is_some());
        if !has_guests && !is_bound {
            return;
        }
        match host_links() {
            Ok(links) => {
                let attachments = host_attachments(instances, &links.identities(&boot_id()));
                let missing = missing_interfaces(config, &attachments, &links);
                self.warnings.extend(some_of(missing, "attachments"));
            }
            Err(reason) => {
                let untried = format!("whether the interfaces of the guests exist: {reason}");
                self.untried.push(untried);
            }
        }
    }

    fn print(&self, args: &CheckArgs, instances: usize) {
        let doubts = grouped(&self.doubts);
        for warning in self.warnings.iter().chain(&doubts) {
            eprintln!("warning: {warning}");
        }
        for untried in &self.untried {
            eprintln!("not checked: {untried}");
        }
        self.faults.iter().for_each(|fault| eprintln!("{fault}"));
        if !args.json {
            let found = match self.faults.len() {
                0 => "no faults".to_string(),
                1 => "1 fault".to_string(),
                count => format!("{count} faults"),
            };
            println!("{}: {found}; {instances} instances", args.config.display());
        }
    }
}

/// How many texts of one kind are printed.
const SHOWN: usize = 3;

/// Returns the first of many texts of one kind, and how many more there are.
fn some_of(mut texts: Vec<String>, kind: &str) -> Vec<String> {
    if texts.len() > SHOWN + 1 {
        let more = texts.len() - SHOWN;
        texts.truncate(SHOWN);
        texts.push(format!("and {more} more {kind} like these"));
    }
    texts
}

/// Returns doubts as text. Of many documents with one doubt, the first are named.
fn grouped(doubts: &[Fault]) -> Vec<String> {
    let mut groups: Vec<((&str, &str), Vec<String>)> = Vec::new();
    let mut numbers: HashMap<(&str, &str), usize> = HashMap::new();
    for doubt in doubts {
        let (_, field) = doubt.field.split_once(": ").unwrap_or_default();
        let kind = (field, doubt.message.as_str());
        let number = *numbers.entry(kind).or_insert_with(|| {
            groups.push((kind, Vec::new()));
            groups.len() - 1
        });
        groups[number].1.push(doubt.to_string());
    }
    let groups = groups.into_iter();
    groups
        .flat_map(|(_, texts)| some_of(texts, "documents"))
        .collect()
}

/// Prints the findings on this host. Returns whether every guest is served.
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
                let advice = if finding.is_advice { "advice: " } else { "" };
                println!(
                    "{}: {}: {advice}{}\n    fix: {}",
                    finding.instance, finding.attachment, finding.what, finding.fix
                );
            }
            let (fine, all) = (examination.fine(), examination.guests.len());
            println!("{fine} of {all} guests on this host's network are fine");
        }
    }
    examination.serves_all()
}
