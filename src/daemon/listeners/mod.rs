//! The reconciler of listeners: it opens the sockets that the instances need, and closes the
//! others.
//!
//! ```text
//!   registry: who claims what ──┐
//!   host: which links exist ────┼──► Listeners::apply ──► sockets opened and closed, connections cut
//!   configuration: listeners ───┘
//! ```
//!
//! A listener that two instances claim is open for neither. An interface that was deleted and
//! created again is a different one: the old one's sockets are closed and its connections are cut
//! before the new one gets any.
//!
//! | file | duty |
//! |---|---|
//! | `key` | which listener an attachment belongs to |
//! | `desired` | what the configuration and the instances need |
//! | `presence` | what exists on the host |
//! | `conflicts` | interfaces that receive another instance's packets |
//! | `socket` | the sockets of one listener |
//! | `attachments` | the state of every attachment, which decides between `pending` and `applied` |
//! | `status` | what is published for the admin socket, and the log |

mod attachments;
mod conflicts;
mod desired;
mod key;
mod presence;
mod socket;
mod status;

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::config::Config;
use crate::daemon::connection_limits::ConnectionLimits;
use crate::daemon::guest_threads::GuestThreads;
use crate::daemon::start_error::StartError;
use crate::host::addresses::DesiredAddresses;
use crate::host::netlink::{Links, OwnAddresses};
use crate::net::connection::GuestService;
use crate::net::status::{AttachmentState, ListenersStatus};
use crate::origin::Family;
use crate::registry::{Registry, Snapshot};
use attachments::AttachmentsInput;
use desired::{DesiredListener, ListenerConfig, desired_addresses, desired_listeners};
use key::ListenerKey;
use presence::{ListenerPresence, PresenceSurvey};
pub(super) use socket::OnBindError;
use socket::{AcceptContext, OpenListener};
use status::ConflictLog;

/// The number of sockets that are opened before other tasks get their turn, so that guests are
/// answered meanwhile.
const SOCKETS_PER_TURN: usize = 16;

/// All listeners.
pub(super) struct Listeners {
    config: ListenerConfig,
    service: Arc<dyn GuestService>,
    /// The host's addresses, from which no guest of a network namespace sends.
    own_addresses: OwnAddresses,
    /// The threads of the listeners.
    threads: Arc<GuestThreads>,
    /// True from [`Listeners::start_accepting`] on.
    accepting: watch::Sender<bool>,
    open: BTreeMap<ListenerKey, OpenListener>,
    /// Which addresses could not be added, by interface.
    address_faults: BTreeMap<String, String>,
    log: ConflictLog,
    published: Arc<ArcSwap<ListenersStatus>>,
}

impl Listeners {
    /// Returns the listeners of a configuration. None is open yet.
    pub(super) fn new(
        config: &Config,
        service: Arc<dyn GuestService>,
        own_addresses: OwnAddresses,
        threads: Arc<GuestThreads>,
    ) -> Listeners {
        Listeners {
            config: ListenerConfig::new(config),
            service,
            own_addresses,
            threads,
            accepting: watch::Sender::new(false),
            open: BTreeMap::new(),
            address_faults: BTreeMap::new(),
            log: ConflictLog::default(),
            published: Arc::default(),
        }
    }

    /// Accepts connections from now on. Earlier ones have waited in the queues of their sockets.
    pub(super) fn start_accepting(&self) {
        self.accepting.send_replace(true);
    }

    /// Returns the status, which every [`Listeners::apply`] updates.
    pub(super) fn published(&self) -> Arc<ArcSwap<ListenersStatus>> {
        Arc::clone(&self.published)
    }

    /// Sets which addresses could not be added to interfaces: it is why sockets there cannot be
    /// opened.
    pub(super) fn set_address_faults(&mut self, faults: Option<&BTreeMap<String, String>>) {
        self.address_faults = faults.cloned().unwrap_or_default();
    }

    /// Returns the addresses and routes that the guests' interfaces need.
    pub(super) fn desired_addresses(
        &self,
        snapshot: &Snapshot,
    ) -> BTreeMap<String, DesiredAddresses> {
        desired_addresses(&self.config, snapshot)
    }

    /// Opens and closes sockets as the instances' options require, and confirms the generations
    /// that the sockets now implement. Fails only for [`OnBindError::Fail`].
    pub(super) async fn apply(
        &mut self,
        registry: &Registry,
        links: &Links,
        connection_limits: &ConnectionLimits,
        on_bind_error: OnBindError,
    ) -> Result<(), StartError> {
        // 1. What there should be, and what exists on the host.
        let snapshot = registry.snapshot();
        let desired = desired_listeners(&self.config, &snapshot);
        let before: BTreeMap<&ListenerKey, ListenerPresence> = self
            .open
            .iter()
            .map(|(key, listener)| (key, listener.presence))
            .collect();
        let survey = PresenceSurvey::run(&self.config, &desired, &before, &snapshot, links);
        self.log.log_unusable(&survey.unusable);

        // 2. Close what is gone. It has ended before anything new is opened on its address.
        self.close_gone(&survey).await;
        connection_limits.share(&snapshot, desired.len());

        // 3. Open what is missing, and close what no instance wants.
        self.open_missing(&desired, &survey, on_bind_error).await?;

        // 4. Confirm the generations, publish the status, log changes.
        let input = AttachmentsInput {
            config: &self.config,
            open: &self.open,
            unusable: &survey.unusable,
            links,
            snapshot: &snapshot,
        };
        confirm(registry, &input);
        let attachments = input.all();
        self.log.log_void(&attachments);
        let status = status::listeners_status(&input, &desired, attachments);
        self.published.store(Arc::new(status));
        self.log.log_waiting(&input, &desired);
        self.log.log_unserved(&self.config, &snapshot);
        Ok(())
    }

    /// Closes all sockets and tells all connections to end.
    pub(super) fn shut_down(&mut self) {
        self.open.values_mut().for_each(OpenListener::shut_down);
    }

    /// Returns when all connections have ended.
    pub(super) async fn ended(&self) {
        for listener in self.open.values() {
            listener.ended().await;
        }
    }

    /// Closes the listeners that are not wanted any more, or whose interface or namespace is gone
    /// or another one.
    async fn close_gone(&mut self, survey: &PresenceSurvey) {
        let is_gone = |key: &ListenerKey, listener: &mut OpenListener| {
            survey.present.get(key) != Some(&listener.presence)
        };
        let mut tasks = Vec::new();
        for (key, listener) in self.open.extract_if(.., is_gone) {
            tasks.extend(listener.close(&key));
        }
        for task in tasks {
            // The result of an aborted task does not matter.
            let _ = task.await;
        }
    }

    /// Opens the missing sockets of every listener that exists, and closes those that no instance
    /// wants.
    async fn open_missing(
        &mut self,
        desired: &BTreeMap<ListenerKey, DesiredListener<'_>>,
        survey: &PresenceSurvey,
        on_bind_error: OnBindError,
    ) -> Result<(), StartError> {
        let mut attempts = 0;
        for (key, desired) in desired {
            let Some(presence) = survey.present.get(key).copied() else {
                continue;
            };
            let listener = self.open.entry(key.clone()).or_insert_with(|| {
                let context = AcceptContext {
                    service: Arc::clone(&self.service),
                    accepting: self.accepting.subscribe(),
                    own_addresses: self.own_addresses.clone(),
                    thread: self.threads.least_used(),
                };
                OpenListener::new(&self.config, key, presence, context)
            });
            listener.set_bridge_ports(desired);
            for family in [Family::Ipv4, Family::Ipv6] {
                if !desired.wants(key, family) {
                    listener.close_socket(key, family).await;
                    continue;
                }
                let fault = self.address_faults.get(key.name());
                if listener.needs_opening(family, on_bind_error) {
                    listener.open_socket(key, family, fault, on_bind_error)?;
                    attempts += 1;
                    if attempts % SOCKETS_PER_TURN == 0 {
                        tokio::task::yield_now().await;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Confirms every instance that is served with its options at all of its attachments, and retracts
/// the others. An instance without a guest has nothing that could be served with other options: one
/// that is stopped or terminated, or has no attachments.
fn confirm(registry: &Registry, input: &AttachmentsInput<'_>) {
    for entry in input.snapshot.entries() {
        let is_active = entry.instance.state.is_active();
        let mut states = input.of_entry(entry).map(|status| status.state);
        let as_desired = |state| matches!(state, AttachmentState::Open | AttachmentState::Closed);
        match !is_active || states.all(as_desired) {
            true => registry.confirm(entry),
            false => registry.retract(entry),
        }
    }
}
