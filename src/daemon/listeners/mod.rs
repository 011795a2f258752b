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
//! What was found is kept from one call to the next. A call looks at what the registry, the kernel
//! or a socket reports as changed, and tries again what failed, so its cost does not depend on the
//! number of instances.
//!
//! | file | duty |
//! |---|---|
//! | `key` | which listener an attachment belongs to |
//! | `desired` | what the configuration and the instances need |
//! | `addresses` | the addresses and routes that the guests' interfaces need |
//! | `presence`, `namespaces` | what exists on the host |
//! | `conflicts` | interfaces that receive another instance's packets |
//! | `followed`, `work` | what changed, and what follows from it |
//! | `accepting` | when sockets begin to accept connections |
//! | `socket` | the sockets of one listener |
//! | `attachments` | the state of every attachment, which decides between `pending` and `applied` |
//! | `status` | the status of a listener, and the log |

mod accepting;
mod addresses;
mod attachments;
mod conflicts;
mod desired;
mod followed;
mod key;
mod namespaces;
mod presence;
mod socket;
mod status;
#[cfg(test)]
mod tests;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};

use crate::config::Config;
use crate::daemon::connection_limits::ConnectionLimits;
use crate::daemon::guest_threads::GuestThreads;
use crate::daemon::start_error::StartError;
use crate::host::addresses::DesiredAddresses;
use crate::host::netlink::{Links, OwnAddresses};
use crate::net::guest_service::GuestService;
use crate::net::status::ListenersStatus;
use crate::origin::Family;
use crate::registry::Registry;
use accepting::AcceptCondition;
pub(super) use accepting::Accepting;
use desired::ListenerConfig;
use followed::FollowedRegistry;
use key::ListenerKey;
pub(super) use socket::OnBindError;
use socket::{AcceptContext, OpenListener};

/// The number of sockets that are opened before other tasks get their turn, so that guests are
/// answered meanwhile.
const SOCKETS_PER_TURN: usize = 16;

/// The listeners whose sockets the kernel closed: their tasks report it as they end.
struct EndedSockets {
    send: mpsc::UnboundedSender<ListenerKey>,
    receive: mpsc::UnboundedReceiver<ListenerKey>,
}

/// All listeners.
pub(super) struct Listeners {
    config: ListenerConfig,
    service: Arc<dyn GuestService>,
    /// The host's addresses, from which no guest of a network namespace sends.
    own_addresses: OwnAddresses,
    /// The threads of the listeners.
    threads: Arc<GuestThreads>,
    /// Which listeners accept connections.
    accepting: watch::Sender<Accepting>,
    registry: Arc<Registry>,
    open: BTreeMap<ListenerKey, OpenListener>,
    /// The open listeners with a socket that could not be opened. They are tried again.
    unsettled: BTreeSet<ListenerKey>,
    /// The listeners whose sockets the kernel closed.
    ended: EndedSockets,
    /// Which addresses could not be added, by interface.
    address_faults: BTreeMap<String, String>,
    followed: FollowedRegistry,
    published: Arc<ArcSwap<ListenersStatus>>,
}

impl Listeners {
    /// Returns the listeners of a configuration. None is open yet.
    pub(super) fn new(
        config: &Config,
        registry: &Arc<Registry>,
        service: Arc<dyn GuestService>,
        own_addresses: OwnAddresses,
        threads: Arc<GuestThreads>,
    ) -> Listeners {
        let config = ListenerConfig::new(config);
        let (send, receive) = mpsc::unbounded_channel();
        Listeners {
            followed: FollowedRegistry::new(&config, registry.change_feed()),
            config,
            service,
            own_addresses,
            threads,
            accepting: watch::Sender::new(Accepting::None),
            registry: Arc::clone(registry),
            open: BTreeMap::new(),
            unsettled: BTreeSet::new(),
            ended: EndedSockets { send, receive },
            address_faults: BTreeMap::new(),
            published: Arc::default(),
        }
    }

    /// Accepts connections on these listeners from now on. Earlier ones have waited in the queues of
    /// their sockets. Must be called again when more instances are registered.
    pub(super) fn accept_on(&self, accepting: Accepting) {
        self.accepting.send_replace(accepting);
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

    /// Follows what changed since the last call. Returns the addresses and routes that the guests'
    /// interfaces need.
    pub(super) async fn desired_addresses(
        &mut self,
        registry: &Registry,
        links: &Links,
        connection_limits: &ConnectionLimits,
    ) -> (&BTreeMap<String, DesiredAddresses>, u64) {
        let followed = &mut self.followed;
        followed
            .follow(&self.config, registry, links, connection_limits)
            .await;
        (followed.addresses.desired(), followed.addresses.version())
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
        // 1. What changed: in the registry, of the links, of the sockets, of the namespaces.
        let followed = &mut self.followed;
        let snapshot = followed
            .follow(&self.config, registry, links, connection_limits)
            .await;
        while let Ok(key) = self.ended.receive.try_recv() {
            followed.work.listeners.insert(key);
        }
        if on_bind_error != OnBindError::Leave {
            followed
                .work
                .listeners
                .extend(self.unsettled.iter().cloned());
            followed.look_at_namespaces();
            followed.forget_gone(connection_limits);
        }
        if followed.work.is_empty() {
            return Ok(());
        }

        // 2. What exists on the host.
        followed.survey(&self.config, &self.open).await;

        // 3. Close what is gone. It has ended before anything new is opened on its address.
        self.close_gone().await;
        let followed = &self.followed;
        connection_limits.share(followed.attached_count(), followed.desired.len());

        // 4. Open what is missing, and close what no instance wants.
        self.open_missing(on_bind_error).await?;

        // 5. Confirm the generations, publish the status, log changes.
        let followed = &mut self.followed;
        followed
            .report(&self.config, &self.open, registry, &snapshot)
            .await;
        self.published.store(Arc::new(followed.status.clone()));
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
    async fn close_gone(&mut self) {
        let mut tasks = Vec::new();
        for key in &self.followed.work.listeners {
            let is_gone = |listener: &OpenListener| {
                self.followed.survey.present(key) != Some(listener.presence)
            };
            if self.open.get(key).is_some_and(is_gone)
                && let Some(listener) = self.open.remove(key)
            {
                self.unsettled.remove(key);
                tasks.extend(listener.close(key));
            }
        }
        for task in tasks {
            // The result of an aborted task does not matter.
            let _ = task.await;
        }
    }

    /// Opens the missing sockets of the listeners that changed and exist, and closes those that no
    /// instance wants.
    async fn open_missing(&mut self, on_bind_error: OnBindError) -> Result<(), StartError> {
        let mut attempts = 0;
        for key in &self.followed.work.listeners {
            let (Some(desired), Some(presence)) = (
                self.followed.desired.get(key),
                self.followed.survey.present(key),
            ) else {
                continue;
            };
            let listener = self.open.entry(key.clone()).or_insert_with(|| {
                let context = AcceptContext {
                    service: Arc::clone(&self.service),
                    condition: AcceptCondition::new(
                        self.accepting.subscribe(),
                        Arc::clone(&self.registry),
                        &self.config,
                        key,
                    ),
                    own_addresses: self.own_addresses.clone(),
                    ended: self.ended.send.clone(),
                    thread: self.threads.least_used(),
                };
                OpenListener::new(&self.config, key, presence, context)
            });
            listener.set_bridge_ports(desired);
            self.unsettled.remove(key);
            for family in Family::ALL {
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
                if listener.needs_opening(family, OnBindError::Retry) {
                    self.unsettled.insert(key.clone());
                }
            }
        }
        Ok(())
    }
}
