//! `imdsd guest-rules`: the packet rules of this host's guests, for `nft` to load.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{Registered, host_attachments, registered};
use crate::daemon::documents;
use crate::host::guest_rules::{self, GuestLink, MetadataAddresses};
use crate::host::guests;
use crate::host::netlink::{self, Links};

/// Prints the packet rules of this host's guests, for nft
///
/// Load them with: imdsd guest-rules --config /etc/imdsd/imdsd.toml | nft -f -
///
/// On a bridge, guests are told apart by these rules alone: they mark what comes in by a guest's port, and keep guests from
/// posing as the metadata service or as each other. On interfaces of their own, guests are told apart without; there the
/// rules keep connection tracking away, and guests to their own addresses.
///
/// The script replaces the tables 'inet imdsd' and 'bridge imdsd' as a whole and touches no other. It is made from the
/// documents, from what the state directory has of them, and from the MACs that bridges have now: load it anew whenever an
/// instance, a port or a bridge has changed, best before the guest starts. 'imdsd check --host' says when that was
/// forgotten. Bridges also need 'sysctl -w net.ipv4.tcp_fwmark_accept=1'.
///
/// When anything is wrong, it is told on standard error, and what is printed is one line that nft refuses: the rules that are
/// loaded stay, and the pipe fails.
#[derive(Args)]
pub struct Arguments {
    /// Configuration file
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
}

/// Instead of a script. An empty one nft would load, and a pipe ends with nft's status: nobody would notice.
const REFUSED: &str = "refused # There are no rules, since faults were found, which standard error has. nft fails here: what is loaded stays.";

pub fn run(arguments: Arguments) -> ExitCode {
    match script(arguments) {
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

fn script(arguments: Arguments) -> Result<String, Vec<String>> {
    let checked = documents::check(&arguments.config)
        .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let interfaces = checked.config.interfaces.clone().unwrap_or_default();
    let addresses = MetadataAddresses {
        ipv4: *interfaces.ipv4.ip(),
        ipv6: *interfaces.ipv6.ip(),
    };
    let Registered {
        instances,
        unread,
        account_unread: _,
    } = registered(checked);
    // Rules that leave a guest out would put it out.
    if !unread.is_empty() {
        return Err(unread);
    }

    let links =
        links().map_err(|reason| vec![format!("this host's links can't be read: {reason}")])?;
    let guests = guests::filtered(&host_attachments(&instances), &links);
    for guest in &guests {
        if let GuestLink::BridgePort {
            bridge,
            bridge_mac: None,
            ..
        } = &guest.link
        {
            eprintln!(
                "warning: {}: there is no {bridge} yet; load the rules anew when there is",
                guest.instance
            );
        }
    }
    guest_rules::script(&guests, addresses).map_err(|faults| {
        faults
            .iter()
            .map(|(instance, what)| format!("{instance}: {what}"))
            .collect()
    })
}

fn links() -> io::Result<Links> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (_netlink, links) = netlink::read_links().await?;
        Ok(links)
    })
}
