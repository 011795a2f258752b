//! Rules for `Imds.Attachments`.

use std::net::IpAddr;

use crate::document::fields::IMDS;
use crate::document::json_path::{JsonPath, PathFault};
use crate::document::validate::network::is_mac_address;
use crate::instance::{
    Attachment, Binding, BridgePort, Instance, InstanceAttachment, SourceAddress,
    interface_name_fault,
};

/// The longest word of a program that claims attachments, in bytes.
const MAX_CLAIMED_BY: usize = 128;

pub(super) fn check_attachments(instance: &Instance, faults: &mut Vec<PathFault>) {
    let attachments = &instance.imds.attachments;
    for (index, attachment) in attachments.iter().enumerate() {
        let path = JsonPath::root().key(IMDS).key("Attachments").index(index);
        faults.extend(attachment_fault(&path, attachment));
        faults.extend(binding_fault(&path, attachment));
        let claimed_by = attachment.claimed_by.as_deref().and_then(claimed_by_fault);
        faults.extend(claimed_by.map(|message| PathFault::new(path.key("ClaimedBy"), message)));
        let before = &attachments[..index];
        if before
            .iter()
            .any(|other| other.attachment == attachment.attachment)
        {
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

/// Returns the first fault of an attachment's binding.
fn binding_fault(path: &JsonPath, attachment: &InstanceAttachment) -> Option<PathFault> {
    let path = path.key("Binding");
    let fault = |path: JsonPath, message: &str| Some(PathFault::new(path, message));
    let Binding {
        if_index,
        boot_id,
        mac_address,
    } = attachment.binding.as_ref()?;
    if attachment.bindable_interface().is_none() {
        return fault(
            path,
            "only an Interface or a BridgePort can be bound to a link",
        );
    }
    match (if_index, boot_id) {
        (None, None) if mac_address.is_none() => {
            return fault(path, "is empty: give IfIndex and BootId, or MacAddress");
        }
        (Some(0), _) => return fault(path.key("IfIndex"), "an index is at least 1"),
        (Some(_), None) => {
            return fault(
                path,
                "IfIndex needs BootId: an index means nothing after a reboot",
            );
        }
        (None, Some(_)) => return fault(path, "BootId needs IfIndex"),
        (Some(_), Some(_)) | (None, None) => {}
    }
    if boot_id
        .as_deref()
        .is_some_and(|boot_id| !is_boot_id(boot_id))
    {
        let message = "expected the contents of /proc/sys/kernel/random/boot_id: 36 hexadecimal \
                       digits and hyphens";
        return fault(path.key("BootId"), message);
    }
    if mac_address
        .as_deref()
        .is_some_and(|mac| !is_mac_address(mac))
    {
        let message = "a MAC address is six pairs of hexadecimal digits between colons, such as \
                       fe:54:00:00:00:05";
        return fault(path.key("MacAddress"), message);
    }
    None
}

/// Returns whether a text is a UUID as the kernel writes it: lower-case digits in groups of 8, 4, 4,
/// 4 and 12.
fn is_boot_id(text: &str) -> bool {
    let is_digits = |group: &str| {
        group
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.iter().all(|group| is_digits(group))
}

fn claimed_by_fault(word: &str) -> Option<String> {
    let is_word = (1..=MAX_CLAIMED_BY).contains(&word.len())
        && word.bytes().all(|byte| byte.is_ascii_graphic());
    (!is_word).then(|| {
        format!("expected 1 to {MAX_CLAIMED_BY} printable ASCII characters without spaces")
    })
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
