//! The counts that `GET /v1/health` and `GET /metrics` report.

use std::collections::BTreeMap;

use super::api::AdminApi;
use crate::instance::InstanceState;
use crate::net::status::{AttachmentState, ListenersStatus, SocketState};
use crate::registry::{Claimants, OptionsState, Snapshot};

const STATES: [InstanceState; 6] = [
    InstanceState::Pending,
    InstanceState::Running,
    InstanceState::ShuttingDown,
    InstanceState::Terminated,
    InstanceState::Stopping,
    InstanceState::Stopped,
];

/// Counts at one moment.
pub(super) struct Counts {
    pub(super) instances: InstanceCounts,
    pub(super) attachments: AttachmentCounts,
    pub(super) listeners: ListenerCounts,
    /// Open guest connections.
    pub(super) connections: usize,
    /// Faults in the operator's files at the last start or reload.
    pub(super) file_faults: usize,
    /// Instances with injected faults.
    pub(super) with_injected_faults: usize,
}

pub(super) struct InstanceCounts {
    /// Every state, also those without an instance.
    pub(super) by_state: BTreeMap<&'static str, usize>,
    pub(super) unreadable: usize,
    pub(super) not_stored: usize,
    /// Without a record, because their documents have faults.
    pub(super) faulty_documents: usize,
    /// New ones, which a start or a reload is registering.
    pub(super) being_registered: usize,
    /// 1 if the account's record is unreadable.
    pub(super) account_unreadable: usize,
    pub(super) options_pending: usize,
}

pub(super) struct AttachmentCounts {
    /// Every state, also those without an attachment.
    pub(super) by_state: Vec<(&'static str, usize)>,
    /// Claimed by several instances.
    pub(super) disputed: usize,
    /// Not servable under this configuration or on this host.
    pub(super) unserved: usize,
}

pub(super) struct ListenerCounts {
    pub(super) all: usize,
    /// Waiting for a link or a namespace.
    pub(super) waiting: usize,
    /// Sockets that listen.
    pub(super) sockets_open: usize,
    /// Sockets that could not be opened.
    pub(super) sockets_refused: usize,
}

impl Counts {
    pub(super) fn now(api: &AdminApi) -> Counts {
        let (snapshot, listeners) = (api.registry.snapshot(), api.listeners.load());
        let account_unreadable = api.registry.account().account().is_err();
        Counts {
            instances: InstanceCounts::of(&snapshot, account_unreadable),
            attachments: AttachmentCounts::of(&snapshot, &listeners),
            listeners: ListenerCounts::of(&listeners),
            connections: api.daemon.connections(),
            file_faults: api.daemon.file_faults().len(),
            with_injected_faults: api.daemon.injected_faults().all().len(),
        }
    }
}

impl InstanceCounts {
    fn of(snapshot: &Snapshot, account_unreadable: bool) -> InstanceCounts {
        let mut by_state: BTreeMap<_, _> = STATES.iter().map(|state| (state.as_str(), 0)).collect();
        for entry in snapshot.entries() {
            *by_state.entry(entry.instance.state.as_str()).or_default() += 1;
        }
        let is_pending = |state: OptionsState| matches!(state, OptionsState::Pending);
        InstanceCounts {
            by_state,
            unreadable: snapshot.unreadable().count(),
            not_stored: snapshot.not_stored().count(),
            faulty_documents: snapshot.faulty_documents().count(),
            being_registered: snapshot.being_registered().count(),
            account_unreadable: usize::from(account_unreadable),
            options_pending: snapshot
                .entries()
                .filter(|entry| is_pending(entry.options_state()))
                .count(),
        }
    }
}

impl AttachmentCounts {
    fn of(snapshot: &Snapshot, listeners: &ListenersStatus) -> AttachmentCounts {
        let is_disputed = |claim: &Claimants| matches!(claim, Claimants::Conflict(_));
        AttachmentCounts {
            by_state: AttachmentState::ALL
                .into_iter()
                .map(|state| (state.as_str(), listeners.attachments_in(state)))
                .collect(),
            disputed: snapshot
                .claims()
                .filter(|(_, claim)| is_disputed(claim))
                .count(),
            unserved: listeners.unserved_count(),
        }
    }
}

impl ListenerCounts {
    fn of(status: &ListenersStatus) -> ListenerCounts {
        ListenerCounts {
            all: status.listener_count(),
            waiting: status.waiting_count(),
            sockets_open: status.sockets_in(SocketState::Listening),
            sockets_refused: status.sockets_in(SocketState::Refused),
        }
    }
}
