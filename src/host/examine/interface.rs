//! Section 1 for interfaces: the guest's interface exists, is up and belongs to the guest alone.

use super::commands::shell_word;
use super::findings::Report;
use crate::document::near_miss;
use crate::host::guests::GuestAttachment;
use crate::host::netlink::{Link, Links};
use crate::instance::{Attachment, InstanceId};

/// Returns the interface of the guest, unless packets from the guest never arrive at it.
pub(super) fn check<'s>(
    name: &str,
    instance: &InstanceId,
    attachments: &[GuestAttachment<'_>],
    links: &'s Links,
    report: &mut Report,
) -> Option<&'s Link> {
    let link = existing(name, links, report)?;
    let Some(controller) = link.controller.and_then(|index| links.indexed(index)) else {
        return Some(link);
    };
    let over = &controller.name;
    match controller.kind.as_str() {
        "vrf" => {
            report.problem(
                format_args!(
                    "it is in VRF {over}, where the host's own processes cannot be distinguished from the guest, so it is not \
                     served"
                ),
                format_args!("ip link set {} nomaster", shell_word(name)),
            );
            None
        }
        "bridge" => {
            let mark = free_mark(attachments);
            report.problem(
                format_args!("it is a port of bridge {over}, which receives its packets instead"),
                format_args!(
                    r#"in the document of {instance}, use the attachment {{"BridgePort": {{"Bridge": "{over}", "Port": "{name}", "Mark": {mark}}}}}"#
                ),
            );
            None
        }
        kind => {
            report.problem(
                format_args!("it is part of {over} ({kind}), which receives its packets instead"),
                format_args!("ip link set {} nomaster", shell_word(name)),
            );
            None
        }
    }
}

/// Returns the lowest mark that no bridge port uses.
fn free_mark(attachments: &[GuestAttachment<'_>]) -> u32 {
    let is_used = |mark: u32| {
        attachments.iter().any(|of| match of.attachment {
            Attachment::BridgePort(port) => port.mark == mark,
            _ => false,
        })
    };
    (1..).find(|mark| !is_used(*mark)).unwrap_or(1)
}

/// Returns the link with this name if it exists and is up.
pub(super) fn existing<'s>(name: &str, links: &'s Links, report: &mut Report) -> Option<&'s Link> {
    let Some(link) = links.named(name) else {
        let names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
        let hint = near_miss(name, &names)
            .map(|near| format!("; did you mean {near}?"))
            .unwrap_or_default();
        report.problem(
            format_args!("there is no interface {name}{hint}"),
            "start the guest so that its hypervisor creates the interface, or correct the name in its document",
        );
        return None;
    };
    if !link.up {
        report.problem(
            format_args!("{name} is down"),
            format_args!("ip link set {} up", shell_word(name)),
        );
        return None;
    }
    Some(link)
}
