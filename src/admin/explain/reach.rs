//! How far a packet gets that comes in at an attachment.

use std::sync::Arc;

use crate::instance::{Attachment, InstanceId};
use crate::net::status::{ListenersStatus, SocketState};
use crate::origin::Family;
use crate::registry::{Claimants, Entry, QuarantineReason, Snapshot};

/// How far a packet gets.
pub(super) struct Reach<'s> {
    /// The instance that it belongs to.
    pub(super) entry: Option<&'s Arc<Entry>>,
    /// Why it belongs to that instance, or what stops it.
    pub(super) reason: String,
    /// Whether it gets to the gate.
    pub(super) reaches_gate: bool,
}

/// Follows a packet from an attachment to the gate.
pub(super) fn follow<'s>(
    snapshot: &'s Snapshot,
    listeners: &ListenersStatus,
    attachment: &Attachment,
    family: Family,
) -> Reach<'s> {
    let entry = match holder(snapshot, listeners, attachment) {
        Ok(entry) => entry,
        Err(reason) => {
            let former = former_holder(snapshot, attachment);
            let (entry, reason) =
                former.map_or((None, reason), |(entry, reason)| (Some(entry), reason));
            return Reach {
                entry,
                reason,
                reaches_gate: false,
            };
        }
    };
    let (reason, reaches_gate) = match open_socket(listeners, attachment, family) {
        Ok(reason) => (reason, true),
        Err(reason) => (reason, false),
    };
    Reach {
        entry: Some(entry),
        reason,
        reaches_gate,
    }
}

/// Returns the one instance that holds an attachment, or why there is none.
fn holder<'s>(
    snapshot: &'s Snapshot,
    listeners: &ListenersStatus,
    attachment: &Attachment,
) -> Result<&'s Arc<Entry>, String> {
    match snapshot.claim(attachment) {
        Some(Claimants::One(id)) => match (snapshot.quarantine_reason(id), snapshot.entry(id)) {
            (None, Some(entry)) => Ok(entry),
            (None, None) => Err(unclaimed(listeners, attachment)),
            (Some(reason), _) => {
                let cause = match reason {
                    QuarantineReason::Unreadable | QuarantineReason::StateUnknown => {
                        "but its record can't be trusted"
                    }
                    QuarantineReason::NotStored => "but its document could not be stored",
                    QuarantineReason::FaultyDocument => "but its document has faults",
                    QuarantineReason::BeingRegistered => "which is being registered",
                };
                Err(format!(
                    "{attachment} is claimed by {id}, {cause}: no instance is served there"
                ))
            }
        },
        Some(Claimants::Conflict(claimants)) => {
            let claimants: Vec<&str> = claimants.iter().map(InstanceId::as_str).collect();
            if let Some(reserved) = reserved(snapshot, attachment) {
                return Err(reserved);
            }
            Err(format!(
                "{attachment} is claimed by {}: none of them is served there",
                claimants.join(" and ")
            ))
        }
        None => {
            Err(reserved(snapshot, attachment).unwrap_or_else(|| unclaimed(listeners, attachment)))
        }
    }
}

/// Returns why an attachment is reserved while nothing says whose it is; `None` if it is not.
fn reserved(snapshot: &Snapshot, attachment: &Attachment) -> Option<String> {
    let file = snapshot.file_that_reserves(attachment)?;
    Some(format!(
        "{attachment} is reserved: {} names it and has faults, so no instance is served there",
        file.display()
    ))
}

/// Returns an instance that has an attachment and does not claim it, and why, if no other instance
/// claims it.
fn former_holder<'s>(
    snapshot: &'s Snapshot,
    attachment: &Attachment,
) -> Option<(&'s Arc<Entry>, String)> {
    if snapshot.claim(attachment).is_some() {
        return None;
    }
    snapshot.entries().find_map(|entry| {
        let attachments = &entry.instance.imds.attachments;
        let held = attachments
            .iter()
            .find(|held| held.attachment == *attachment)?;
        let (id, state) = (&entry.instance.instance_id, entry.instance.state);
        let reason = match held.void_reason(snapshot.links()) {
            _ if !state.is_active() => {
                format!("{attachment} belongs to {id}, which is {}", state.as_str())
            }
            Some(reason) => format!("{attachment} of {id} is void: {reason}"),
            None => return None,
        };
        Some((entry, reason))
    })
}

fn unclaimed(listeners: &ListenersStatus, attachment: &Attachment) -> String {
    match (listeners.of(attachment), attachment) {
        (Some(_), _) => format!("no instance claims {attachment}"),
        (None, Attachment::Listener(name)) => format!(
            "no instance claims {attachment}, and the configuration has no listener '{name}'"
        ),
        (None, _) => format!("no instance claims {attachment}, so no socket is open there"),
    }
}

/// Returns which socket takes the packets of an instance's attachment, or why there is none.
fn open_socket(
    listeners: &ListenersStatus,
    attachment: &Attachment,
    family: Family,
) -> Result<String, String> {
    // 1. This configuration, on this host, can serve the attachment.
    if let Some(reason) = listeners.unserved(attachment) {
        return Err(format!("{attachment} is not served: {reason}"));
    }
    let Some(listener) = listeners.of(attachment) else {
        return Err(format!("{attachment} is not open yet"));
    };

    // 2. Its link is there, and it listens on this family.
    if let Some(missing) = &listener.waits_for {
        return Err(format!("{listener} waits: {missing}"));
    }
    let family_name = match family {
        Family::Ipv4 => "IPv4",
        Family::Ipv6 => "IPv6",
    };
    let Some(socket) = listener.socket(family) else {
        return Err(format!("{listener} has no {family_name} address"));
    };
    match socket.state {
        SocketState::Listening => Ok(format!(
            "{attachment} belongs to this instance, and imdsd listens on {}",
            socket.address
        )),
        SocketState::Closed => Err(format!(
            "{listener} does not listen on {family_name}: no instance there is served over it"
        )),
        SocketState::Refused => {
            let reason = socket.reason.as_deref().unwrap_or_default();
            Err(format!("cannot listen on {}: {reason}", socket.address))
        }
    }
}
