//! `imdsd guest-rules`: prints the packet rules of this host's guests, for `nft` to load.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::host_attachments::{host_attachments, host_links};
use super::known_instances::{KnownInstances, known_instances};
use super::rules_table::rules_table;
use crate::daemon::documents::{self, CheckedConfig};
use crate::host::guest_rules::{self, GuestLink, MetadataAddresses};
use crate::host::guests;

/// Print the nftables rules that this host's guests need
///
/// On a bridge, these rules alone tell guests apart: they mark packets by the port they come in at,
/// and stop guests from posing as the metadata service or as each other. On an interface of its own
/// a guest is identified without rules; there they exempt metadata traffic from connection tracking
/// and hold guests to their own addresses.
///
/// The rules also keep the host's own processes from the metadata addresses.
///
/// The script replaces this daemon's two tables, 'inet imdsd-…' and 'bridge imdsd-…', which the
/// setting interfaces.rules_table can name. It also removes the tables 'imdsd' of earlier versions,
/// and touches no others. It is generated from the documents, the state directory and the current MAC addresses of the bridges.
/// Load it again whenever an instance, a port or a bridge changes, ideally before the guest starts;
/// 'imdsd check --host' reports outdated rules. Bridges also need 'sysctl -w
/// net.ipv4.tcp_fwmark_accept=1'.
///
/// If anything is wrong, the faults go to standard error and the output is one line that nft
/// refuses: the loaded rules stay, and the pipe fails.
#[derive(Args)]
#[command(after_help = "\
Example:
  imdsd guest-rules --config /etc/imdsd/imdsd.toml | nft -f -")]
pub(super) struct GuestRulesArgs {
    /// Configuration file, such as /etc/imdsd/imdsd.toml
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
}

/// Printed in place of a script. nft would load an empty script, and a pipe ends with nft's status, so
/// the fault would go unnoticed.
const REFUSED: &str = "refused # No rules were generated, because of the faults on standard error. nft fails here, so the loaded rules stay.";

pub(super) fn run(args: GuestRulesArgs) -> ExitCode {
    match script(args) {
        Ok(script) => {
            print!("{script}");
            ExitCode::SUCCESS
        }
        Err(faults) => {
            faults.iter().for_each(|fault| eprintln!("{fault}"));
            println!("{REFUSED}");
            ExitCode::FAILURE
        }
    }
}

fn script(args: GuestRulesArgs) -> Result<String, Vec<String>> {
    let CheckedConfig {
        config,
        documents,
        stored,
    } = documents::check(&args.config)
        .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    // A guest whose document has faults is served from its record or not at all. The others need
    // their rules.
    for fault in &documents.faults {
        eprintln!("warning: {fault}");
    }
    let table = rules_table(&config);
    let interfaces = config.interfaces.clone().unwrap_or_default();
    let addresses = MetadataAddresses {
        ipv4: *interfaces.ipv4.ip(),
        ipv6: *interfaces.ipv6.ip(),
    };
    let KnownInstances {
        instances,
        unreadable,
        account_unreadable: _,
    } = known_instances(&config, documents, stored);
    // Rules without a guest would cut it off.
    if !unreadable.is_empty() {
        return Err(unreadable);
    }

    let links = host_links()
        .map_err(|reason| vec![format!("can't read the links of this host: {reason}")])?;
    let guests = guests::filtered(&host_attachments(&instances), &links);
    for guest in &guests {
        if let GuestLink::BridgePort {
            bridge,
            bridge_mac: None,
            ..
        } = &guest.link
        {
            eprintln!(
                "warning: {}: bridge {bridge} does not exist yet; load the rules again when it does",
                guest.instance
            );
        }
    }
    guest_rules::script(&table, &guests, addresses).map_err(|faults| {
        faults
            .iter()
            .map(|(instance, what)| format!("{instance}: {what}"))
            .collect()
    })
}
