//! Rules for `Imds.Attachments`.

use std::net::IpAddr;

use crate::document::fields::IMDS;
use crate::document::json_path::{JsonPath, PathFault};
use crate::instance::{Attachment, BridgePort, Instance, SourceAddress, interface_name_fault};

pub(super) fn check_attachments(instance: &Instance, faults: &mut Vec<PathFault>) {
    let attachments = &instance.imds.attachments;
    for (index, attachment) in attachments.iter().enumerate() {
        let path = JsonPath::root().key(IMDS).key("Attachments").index(index);
        faults.extend(attachment_fault(&path, attachment));
        let before = &attachments[..index];
        if before.contains(attachment) {
            faults.push(PathFault::new(path, format!("{attachment} appears twice")));
        } else if let Some(other) = before.iter().find(|other| other.repeats(attachment)) {
            let message = format!("{attachment} conflicts with {other}");
            faults.push(PathFault::new(path, message));
        }
    }
}

/// Returns the first fault of one attachment.
fn attachment_fault(path: &JsonPath, attachment: &Attachment) -> Option<PathFault> {
    let fault = |path: JsonPath, message: Option<String>| {
        message.map(|message| PathFault::new(path, message))
    };
    match attachment {
        Attachment::Listener(name) => fault(path.key("Listener"), listener_fault(name)),
        Attachment::Interface(name) => fault(path.key("Interface"), interface_name_fault(name)),
        Attachment::NetworkNamespace(name) => {
            fault(path.key("NetworkNamespace"), namespace_fault(name))
        }
        Attachment::BridgePort(BridgePort { bridge, port, mark }) => {
            let path = path.key("BridgePort");
            fault(path.key("Bridge"), interface_name_fault(bridge))
                .or_else(|| fault(path.key("Port"), interface_name_fault(port)))
                .or_else(|| fault(path.key("Mark"), mark_fault(*mark)))
        }
        Attachment::SourceAddress(SourceAddress { listener, address }) => {
            let path = path.key("SourceAddress");
            fault(path.key("Listener"), listener_fault(listener))
                .or_else(|| fault(path.key("Address"), address_fault(*address)))
        }
    }
}

fn listener_fault(name: &str) -> Option<String> {
    name.is_empty()
        .then(|| "must be the name of a listener in the configuration".to_string())
}

fn mark_fault(mark: u32) -> Option<String> {
    (mark == 0).then(|| "must be at least 1: packets without a mark have mark 0".to_string())
}

/// Returns why no guest can have this source address for itself.
fn address_fault(address: IpAddr) -> Option<String> {
    let (is_link_wide, mapped) = match address {
        IpAddr::V4(address) => (address.is_link_local() || address.is_broadcast(), None),
        IpAddr::V6(address) => (address.is_unicast_link_local(), address.to_ipv4_mapped()),
    };
    if let Some(ipv4) = mapped {
        return Some(format!(
            "IPv4 connections have IPv4 addresses; write this one as {ipv4}"
        ));
    }
    let is_shared = is_link_wide || address.is_unspecified() || address.is_multicast();
    is_shared.then(|| format!("{address} cannot be the address of a single guest"))
}

fn namespace_fault(name: &str) -> Option<String> {
    let is_name = !name.is_empty() && !matches!(name, "." | "..") && !name.contains('/');
    let is_path = name.starts_with('/');
    let is_valid = (is_name || is_path) && !name.contains('\0');
    let name = name.escape_debug();
    (!is_valid)
        .then(|| format!("expected a name below /run/netns or an absolute path, found '{name}'"))
}
