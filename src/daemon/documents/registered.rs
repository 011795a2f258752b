//! The instances that have a record. A record takes precedence over the document that registered
//! it, so these are the facts about its instance.

use std::collections::BTreeMap;

use crate::instance::{
    Attachment, Instance, InstanceAttachment, InstanceId, InstanceState, LinkIdentities,
};
use crate::registry::Snapshot;
use crate::registry::file::StoredInstances;

/// The instances that have a record.
#[derive(Debug, Default)]
pub(crate) struct Registered {
    by_id: BTreeMap<InstanceId, RegisteredInstance>,
    /// What the bindings of attachments are compared with; `None` where that is not known, without
    /// a running daemon.
    links: Option<LinkIdentities>,
}

/// What the record of an instance says.
#[derive(Debug)]
pub(super) struct RegisteredInstance {
    /// Its attachments; those that are reserved for it if the record cannot be read.
    pub(super) attachments: Vec<InstanceAttachment>,
    /// `None` if the record cannot be read.
    pub(super) state: Option<InstanceState>,
}

impl Registered {
    /// Returns the instances of a running daemon.
    pub(crate) fn of_snapshot(snapshot: &Snapshot) -> Registered {
        let entries = snapshot.entries().map(|entry| of_instance(&entry.instance));
        let unreadable = snapshot.unreadable().map(|id| {
            let attachments = snapshot.reserved_attachments(id).cloned().collect();
            (id.clone(), of_unreadable(attachments))
        });
        let forgotten = snapshot.tombstones().map(|id| {
            let instance = RegisteredInstance {
                attachments: Vec::new(),
                state: Some(InstanceState::Terminated),
            };
            (id.clone(), instance)
        });
        Registered {
            by_id: entries.chain(unreadable).chain(forgotten).collect(),
            links: None,
        }
    }

    /// Returns the instances of a state directory.
    pub(super) fn of_store(stored: &StoredInstances) -> Registered {
        let readable = stored.instances.iter().map(of_instance);
        let unreadable = stored.unreadable.iter().map(|record| {
            let attachments = record.attachments.clone();
            (record.id.clone(), of_unreadable(attachments))
        });
        Registered {
            by_id: readable.chain(unreadable).collect(),
            links: None,
        }
    }

    /// Adds the links of the host as they are.
    pub(crate) fn on_links(self, links: Option<LinkIdentities>) -> Registered {
        Registered { links, ..self }
    }

    /// Returns whether an attachment is claimed: bound ones only where the links are known, and
    /// their binding is not void.
    pub(super) fn is_claimed(&self, attachment: &InstanceAttachment) -> bool {
        match &self.links {
            Some(links) => attachment.void_reason(links).is_none(),
            None => attachment.binding.is_none(),
        }
    }

    /// Returns what the record of an instance says; `None` if it has none.
    pub(super) fn get(&self, id: &InstanceId) -> Option<&RegisteredInstance> {
        self.by_id.get(id)
    }

    /// Returns all of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &RegisteredInstance> {
        self.by_id.values()
    }
}

impl RegisteredInstance {
    /// Returns whether the instance claims its attachments: a stopped one does not. What cannot be
    /// read counts.
    pub(super) fn is_active(&self) -> bool {
        self.state.is_none_or(InstanceState::is_active)
    }

    /// Returns whether its record has an attachment.
    pub(super) fn has(&self, attachment: &Attachment) -> bool {
        let mut attachments = self.attachments.iter();
        attachments.any(|of_record| of_record.attachment == *attachment)
    }

    /// Returns whether the instance was terminated. Its document does not bring it back.
    pub(super) fn is_terminated(&self) -> bool {
        self.state == Some(InstanceState::Terminated)
    }
}

fn of_instance(instance: &Instance) -> (InstanceId, RegisteredInstance) {
    let attachments = match instance.state {
        InstanceState::Terminated => Vec::new(),
        InstanceState::Pending
        | InstanceState::Running
        | InstanceState::ShuttingDown
        | InstanceState::Stopping
        | InstanceState::Stopped => instance.imds.attachments.clone(),
    };
    let registered = RegisteredInstance {
        attachments,
        state: Some(instance.state),
    };
    (instance.instance_id.clone(), registered)
}

fn of_unreadable(attachments: Vec<InstanceAttachment>) -> RegisteredInstance {
    RegisteredInstance {
        attachments,
        state: None,
    }
}
