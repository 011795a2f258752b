//! Which attachments a question is about.

use std::net::IpAddr;

use super::question::ExplainQuestion;
use crate::admin::refusal::Refusal;
use crate::instance::{Attachment, Instance, InstanceId, SourceAddress};
use crate::net::status::{ListenerKind, ListenersStatus};
use crate::registry::Snapshot;

/// The attachments of a question, and notes on how they were selected.
#[derive(Debug, Default)]
pub(super) struct SelectedAttachments {
    pub(super) attachments: Vec<Attachment>,
    pub(super) notes: Vec<String>,
}

/// Returns the attachments that a question names, in order.
pub(super) fn select(
    question: &ExplainQuestion,
    snapshot: &Snapshot,
    listeners: &ListenersStatus,
) -> Result<SelectedAttachments, Refusal> {
    check(question)?;
    let mut selected = SelectedAttachments::default();
    if let Some(id) = &question.instance_id {
        selected.add_instance(id, snapshot)?;
    } else if let Some(name) = &question.listener {
        selected.add_listener(name, question.address, snapshot, listeners);
    } else if let Some(name) = &question.network_namespace {
        let attachment = Attachment::NetworkNamespace(name.clone().into());
        selected.attachments.push(attachment);
    } else if let Some(name) = &question.interface {
        selected.add_interface(name, question.mark, snapshot);
    } else if let Some(address) = question.address {
        selected.add_address(address, snapshot);
    }
    selected.attachments.sort();
    Ok(selected)
}

/// Refuses a question that names no place, or several.
fn check(question: &ExplainQuestion) -> Result<(), Refusal> {
    let places = [
        question.instance_id.is_some(),
        question.listener.is_some(),
        question.interface.is_some(),
        question.network_namespace.is_some(),
    ];
    let count = places.iter().filter(|given| **given).count();
    if count == 0 && question.address.is_none() {
        return Err(Refusal::invalid(
            "say where the request comes in: an instance, a listener, an interface, a network \
             namespace or an address",
        ));
    }
    if count > 1 {
        return Err(Refusal::invalid(
            "an instance, a listener, an interface and a network namespace exclude each other; \
             name one",
        ));
    }
    if count == 1 && question.mark.is_some() && question.interface.is_none() {
        return Err(Refusal::invalid("a mark needs the interface of a bridge"));
    }
    Ok(())
}

impl SelectedAttachments {
    fn add_instance(&mut self, id: &InstanceId, snapshot: &Snapshot) -> Result<(), Refusal> {
        let Some(entry) = snapshot.entry(id) else {
            return Err(Refusal::absent_instance(snapshot, id));
        };
        let attachments = &entry.instance.imds.attachments;
        let all = attachments.iter().map(|of| of.attachment.clone());
        self.attachments.extend(all);
        if attachments.is_empty() {
            self.notes.push(format!(
                "{id} has no Imds.Attachments, so no request can be attributed to it"
            ));
        }
        Ok(())
    }

    /// A listener is an attachment of its own, unless it tells guests apart by address.
    fn add_listener(
        &mut self,
        name: &str,
        address: Option<IpAddr>,
        snapshot: &Snapshot,
        listeners: &ListenersStatus,
    ) {
        let listener = listeners.listener(ListenerKind::Listener, name);
        let by_address = listener.is_some_and(|listener| listener.by_address);
        match (by_address, address) {
            (false, _) => self.attachments.push(Attachment::Listener(name.into())),
            (true, Some(address)) => {
                self.attachments
                    .push(Attachment::SourceAddress(SourceAddress {
                        listener: name.into(),
                        address,
                    }));
            }
            (true, None) => {
                let of_listener = |attachment: &Attachment| matches!(attachment, Attachment::SourceAddress(of) if of.listener == *name);
                self.attachments.extend(claimed(snapshot, of_listener));
                self.notes.push(format!(
                    "listener '{name}' identifies guests by source address; --address selects one"
                ));
            }
        }
    }

    /// An interface may belong to one guest, be a bridge, or be a port of one.
    fn add_interface(&mut self, name: &str, mark: Option<u32>, snapshot: &Snapshot) {
        let matches_name = |attachment: &Attachment| match attachment {
            Attachment::Interface(own) => own == name,
            Attachment::BridgePort(port) => {
                let has_mark = mark.is_none_or(|mark| mark == port.mark);
                port.port == name || (port.bridge == name && has_mark)
            }
            _ => false,
        };
        self.attachments.extend(claimed(snapshot, matches_name));
        if self.attachments.is_empty() {
            let attachment = Attachment::Interface(name.into());
            self.attachments.push(attachment);
        }
        let is_of_bridge = |attachment: &Attachment| matches!(attachment, Attachment::BridgePort(port) if port.bridge == name);
        if self.attachments.iter().any(is_of_bridge) {
            self.notes.push(format!(
                "bridge '{name}' identifies its ports by packet mark; --mark selects one"
            ));
        }
    }

    /// An address alone identifies a guest only on a listener whose source addresses are trusted.
    fn add_address(&mut self, address: IpAddr, snapshot: &Snapshot) {
        let owners = snapshot
            .entries()
            .map(|entry| &entry.instance)
            .filter(|instance| has_address(instance, address));
        for instance in owners {
            let id = &instance.instance_id;
            self.notes.push(format!(
                "{address} is an address of {id}; a guest can choose its address, so the \
                 attachment decides, and these are the attachments of {id}"
            ));
            let attachments = instance.imds.attachments.iter();
            let all = attachments.map(|of| of.attachment.clone());
            self.attachments.extend(all);
        }
        let by_address = |attachment: &Attachment| matches!(attachment, Attachment::SourceAddress(of) if of.address == address);
        self.attachments.extend(claimed(snapshot, by_address));
        self.attachments.sort();
        self.attachments.dedup();
        if self.attachments.is_empty() {
            self.notes.push(format!(
                "no instance has the source address {address} as an attachment, and no document \
                 has it as an address of its instance"
            ));
        }
    }
}

/// Returns the claimed attachments that match.
fn claimed(snapshot: &Snapshot, matches: impl Fn(&Attachment) -> bool) -> Vec<Attachment> {
    snapshot
        .claims()
        .map(|(attachment, _)| attachment)
        .filter(|attachment| matches(attachment))
        .cloned()
        .collect()
}

/// Whether an instance's document has this private or IPv6 address.
pub(super) fn has_address(instance: &Instance, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => instance.private_addresses().any(|own| own == address),
        IpAddr::V6(address) => instance.ipv6_addresses().any(|own| own == address),
    }
}
