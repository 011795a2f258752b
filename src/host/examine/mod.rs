//! Finds what keeps guests on this host from being served, and the command that fixes each problem.
//!
//! [`examine`] checks every attachment to the host's network: interface, bridge port, network
//! namespace. It changes nothing and sends nothing. The [`probe`] reads; all other files judge what
//! was read, in the order in which an operator would fix it:
//!
//! 1. [`interface`], [`bridge`], [`namespace`]: what the attachment names exists, is up and is of
//!    the right kind;
//! 2. [`addresses`]: the metadata addresses are on it;
//! 3. [`routing`]: routes lead back to the guest, and `rp_filter` accepts its packets;
//! 4. [`settings`]: ARP, guests that share an address with the host, guests that could give the
//!    host a route;
//! 5. [`bridge`], [`rules`]: marks reach the socket, the bridge's MAC is fixed, the guest rules are
//!    loaded.
//!
//! Firewalls are not evaluated: reading other rules does not tell whether they let a guest pass.

mod addresses;
mod bridge;
mod commands;
mod device;
mod findings;
mod interface;
mod namespace;
mod probe;
mod routing;
mod rules;
mod service;
mod settings;
#[cfg(test)]
mod tests;
pub(super) mod unusable;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use super::guests::GuestAttachment;
use crate::instance::{Attachment, namespace_path};

use device::GuestDevice;
use findings::Report;
use probe::{GuestInterface, NetworkState};
use rules::RulesCheck;

pub use commands::shell_word;
pub use findings::{Examination, Finding, Unchecked};
pub use service::{AddressOwner, HostMetadata, MetadataService};

/// Examines these attachments. Fails when netlink does not work at all.
pub async fn examine(
    attachments: &[GuestAttachment<'_>],
    service: &MetadataService,
) -> io::Result<Examination> {
    let mut examination = Examination {
        guests: attachments.iter().map(|of| of.guest.id.clone()).collect(),
        ..Examination::default()
    };
    if attachments.is_empty() {
        return Ok(examination);
    }
    let network = read_host(attachments, service).await?;
    let rules = RulesCheck::new(probe::rules().await, attachments, &network, service);
    examination.notes.extend(rules.note(attachments));
    for attachment in attachments {
        let mut report = Report::default();
        if let Attachment::NetworkNamespace(name) = attachment.attachment {
            let guest = &attachment.guest;
            let inside = NetworkState::read_in(namespace_path(name), guest.addresses()).await;
            namespace::check(name, guest, inside, service, &mut report);
        } else {
            check_on_host(attachment, attachments, &network, service, &mut report);
            rules.check(attachment, &mut report);
        }
        examination.add(attachment, report);
    }
    Ok(examination)
}

/// Reads the host's network, the evidence of a metadata service of its own, and the daemon's state.
async fn read_host(
    attachments: &[GuestAttachment<'_>],
    service: &MetadataService,
) -> io::Result<NetworkState> {
    let interfaces = guest_interfaces(attachments);
    let mut network = NetworkState::read(&interfaces).await?;
    network.host_metadata = addresses::host_metadata(&interfaces, service).await;
    if let (AddressOwner::Daemon, Some(socket)) = (service.address_owner, &service.daemon) {
        network.daemon = probe::daemon(socket).await;
    }
    Ok(network)
}

/// Checks an interface or a bridge port: sections 1 to 5 except the rules.
fn check_on_host(
    attachment: &GuestAttachment<'_>,
    attachments: &[GuestAttachment<'_>],
    network: &NetworkState,
    service: &MetadataService,
    report: &mut Report,
) {
    let guest = &attachment.guest;
    let device = |link, is_bridge| GuestDevice {
        link,
        guest,
        is_bridge,
        network,
        service,
    };
    match attachment.attachment {
        Attachment::Interface(name) => {
            let link = interface::check(name, &guest.id, attachments, &network.links, report);
            if let Some(link) = link {
                check_device(&device(link, false), report);
            }
        }
        Attachment::BridgePort(port) => {
            if let Some(link) = bridge::check(port, &network.links, report) {
                check_device(&device(link, true), report);
                bridge::check_settings(link, network, report);
            }
        }
        Attachment::NetworkNamespace(_)
        | Attachment::Listener(_)
        | Attachment::SourceAddress(_) => {}
    }
}

fn check_device(device: &GuestDevice<'_>, report: &mut Report) {
    addresses::check(device, report);
    routing::check(device, report);
    settings::check(device, report);
}

/// Returns the interfaces where the guests' packets reach the host's IP layer, each with its
/// guests.
fn guest_interfaces(attachments: &[GuestAttachment<'_>]) -> Vec<GuestInterface> {
    let mut interfaces: BTreeMap<&str, BTreeSet<IpAddr>> = BTreeMap::new();
    for attachment in attachments {
        let interface = match attachment.attachment {
            Attachment::Interface(name) => name,
            Attachment::BridgePort(port) => &port.bridge,
            Attachment::NetworkNamespace(_)
            | Attachment::Listener(_)
            | Attachment::SourceAddress(_) => continue,
        };
        interfaces
            .entry(interface)
            .or_default()
            .extend(attachment.guest.addresses());
    }
    interfaces
        .into_iter()
        .map(|(name, guests)| GuestInterface {
            interface: name.to_string(),
            guests,
        })
        .collect()
}
