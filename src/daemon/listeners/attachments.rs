//! The state of every attachment of every instance: each is in exactly one, and the first row that
//! applies decides.
//!
//! | state | when |
//! |---|---|
//! | `quarantined` | the instance's record cannot be trusted, or there is none |
//! | `inactive` | the instance is stopped or terminated: it claims nothing |
//! | `void` | the attachment is bound to a link that is gone: it claims nothing |
//! | `refused` | another instance claims it too, this configuration or this host cannot serve it, or no socket could be opened |
//! | `waiting` | its link or network namespace does not exist, or is not up; or the instance is being registered |
//! | `partial` | one address family is open and another one, which the options enable, is not |
//! | `closed` | the options enable no address family that its listener has |
//! | `open` | imdsd listens there for everything that the options enable |
//!
//! The options of an active instance are `applied` while all of its attachments are `open` or
//! `closed`. `HttpProtocolIpv6` needs one attachment with an IPv6 address, not all: listeners of a
//! configuration can have one family each.

use std::collections::BTreeMap;

use crate::daemon::listeners::desired::ListenerConfig;
use crate::daemon::listeners::key::ListenerKey;
use crate::daemon::listeners::socket::OpenListener;
use crate::guest::gate;
use crate::host::netlink::Links;
use crate::instance::{Attachment, InstanceAttachment, InstanceId, namespace_path};
use crate::net::status::{AttachmentState, AttachmentStatus};
use crate::origin::Family;
use crate::registry::{Claimants, Entry, QuarantineReason, Snapshot};

/// What the states are read from.
pub(super) struct AttachmentsInput<'a> {
    pub(super) config: &'a ListenerConfig,
    pub(super) open: &'a BTreeMap<ListenerKey, OpenListener>,
    /// Returns why no instance is served at a listener on this host.
    pub(super) unusable: &'a dyn Fn(&ListenerKey) -> Option<String>,
    pub(super) links: &'a Links,
    pub(super) snapshot: &'a Snapshot,
}

impl AttachmentsInput<'_> {
    /// Returns the state of every attachment of one instance, and those that are reserved for it.
    pub(super) fn of_instance(&self, id: &InstanceId) -> Vec<AttachmentStatus> {
        let quarantined = AttachmentState::Quarantined;
        let (state, reason) = match self.snapshot.quarantine_reason(id) {
            Some(QuarantineReason::NotStored) => (quarantined, "its document could not be stored"),
            Some(QuarantineReason::FaultyDocument) => (quarantined, "its document has faults"),
            Some(QuarantineReason::BeingRegistered) => {
                (AttachmentState::Waiting, "the instance is being registered")
            }
            Some(QuarantineReason::Unreadable | QuarantineReason::StateUnknown) | None => {
                (quarantined, "its record cannot be read or trusted")
            }
        };
        let reserved = self.snapshot.reserved_attachments(id);
        let reserved =
            reserved.map(|attachment| status(id, attachment, (state, Some(reason.to_string()))));
        let entry = self.snapshot.entry(id).into_iter();
        let of_entry = entry.flat_map(|entry| self.of_entry(entry));
        of_entry.chain(reserved).collect()
    }

    /// Returns whether an instance is served with its options at all of its attachments. One
    /// without a guest has nothing that could be served with other options: it is stopped or
    /// terminated, or has no attachments.
    pub(super) fn is_applied(&self, entry: &Entry) -> bool {
        let as_desired = |status: AttachmentStatus| {
            matches!(
                status.state,
                AttachmentState::Open | AttachmentState::Closed
            )
        };
        !entry.instance.state.is_active() || self.of_entry(entry).all(as_desired)
    }

    /// Returns the state of every attachment of a registered instance.
    fn of_entry<'s>(&'s self, entry: &'s Entry) -> impl Iterator<Item = AttachmentStatus> + 's {
        let attachments = entry.instance.imds.attachments.iter();
        let id = &entry.instance.instance_id;
        attachments.map(move |attachment| status(id, attachment, self.state(entry, attachment)))
    }

    fn state(
        &self,
        entry: &Entry,
        attachment: &InstanceAttachment,
    ) -> (AttachmentState, Option<String>) {
        let state = entry.instance.state;
        if !state.is_active() {
            let reason = format!("the instance is {}", state.as_str());
            return (AttachmentState::Inactive, Some(reason));
        }
        if let Some(reason) = attachment.void_reason(self.snapshot.links()) {
            return (AttachmentState::Void, Some(reason));
        }
        if let Some(Claimants::Conflict(ids)) = self.snapshot.claim(attachment) {
            let ids: Vec<&str> = ids.iter().map(InstanceId::as_str).collect();
            let reason = format!(
                "claimed by {}: none of them is served there",
                ids.join(" and ")
            );
            return (AttachmentState::Refused, Some(reason));
        }
        if let Some(reason) = self.unserved_reason(attachment) {
            return (AttachmentState::Refused, Some(reason));
        }
        let key = ListenerKey::of(attachment);
        match self.open.get(&key) {
            None => (AttachmentState::Waiting, Some(self.missing(&key))),
            Some(listener) => socket_state(entry, &key, listener, self.has_ipv6(entry)),
        }
    }

    /// Returns whether a listener of the instance has an IPv6 address.
    fn has_ipv6(&self, entry: &Entry) -> bool {
        let attachments = entry.instance.claimed_attachments(self.snapshot.links());
        let mut listeners =
            attachments.filter_map(|attachment| self.open.get(&ListenerKey::of(attachment)));
        listeners.any(|listener| listener.has(Family::Ipv6))
    }

    /// Returns why this configuration or this host cannot serve an attachment.
    pub(super) fn unserved_reason(&self, attachment: &Attachment) -> Option<String> {
        self.config
            .unserved_reason(attachment)
            .or_else(|| (self.unusable)(&ListenerKey::of(attachment)))
    }

    /// Returns what a listener waits for.
    pub(super) fn missing(&self, key: &ListenerKey) -> String {
        if let Some(reason) = (self.unusable)(key) {
            return reason;
        }
        if let ListenerKey::Namespace(name) = key {
            return format!("there is no {}", namespace_path(name).display());
        }
        match self
            .config
            .interface_of(key)
            .map(|name| (name, self.links.named(name)))
        {
            None => "it is opened next".to_string(),
            Some((name, None)) => format!("there is no interface '{name}'"),
            Some((name, Some(_))) => format!("interface '{name}' is not up"),
        }
    }
}

fn status(
    id: &InstanceId,
    attachment: &InstanceAttachment,
    (state, reason): (AttachmentState, Option<String>),
) -> AttachmentStatus {
    AttachmentStatus {
        instance: id.clone(),
        attachment: attachment.attachment.clone(),
        state,
        reason,
    }
}

/// Returns whether the sockets of a listener are open for what an instance's options enable.
fn socket_state(
    entry: &Entry,
    key: &ListenerKey,
    listener: &OpenListener,
    has_ipv6: bool,
) -> (AttachmentState, Option<String>) {
    let mut is_open = false;
    let mut missing = Vec::new();
    for family in Family::ALL {
        if !gate::listens(entry, family) {
            continue;
        }
        let socket = listener
            .sockets
            .iter()
            .find(|socket| socket.family == family);
        match (socket, family) {
            (Some(socket), _) if socket.is_open() => is_open = true,
            (Some(socket), _) => {
                let reason = socket.refused.as_deref().unwrap_or("it is opened next");
                missing.push(format!("cannot listen on {}: {reason}", socket.address));
            }
            // Another attachment has it, or the configuration chose IPv6 alone.
            (None, Family::Ipv6) if has_ipv6 => {}
            (None, Family::Ipv4) => {}
            (None, Family::Ipv6) => missing.push(format!(
                "HttpProtocolIpv6 is enabled, and {key} has no IPv6 address"
            )),
        }
    }
    let state = match (is_open, missing.is_empty()) {
        (true, true) => return (AttachmentState::Open, None),
        (true, false) => AttachmentState::Partial,
        (false, false) => AttachmentState::Refused,
        (false, true) => {
            let reason = format!("HttpProtocolIpv6 is disabled, and {key} has no IPv4 address");
            return (AttachmentState::Closed, Some(reason));
        }
    };
    (state, Some(missing.join("; ")))
}
