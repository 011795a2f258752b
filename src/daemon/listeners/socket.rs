//! The sockets of one listener, and its connections.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::daemon::guest_threads::GuestThread;
use crate::daemon::listeners::accepting::AcceptCondition;
use crate::daemon::listeners::desired::{DesiredListener, ListenerConfig};
use crate::daemon::listeners::key::ListenerKey;
use crate::daemon::listeners::presence::ListenerPresence;
use crate::daemon::start_error::StartError;
use crate::host::netlink::OwnAddresses;
use crate::instance::namespace_path;
use crate::net::bound_interface::{BoundInterface, IsHostAddress};
use crate::net::fast::GuestListener;
use crate::net::guest_service::GuestService;
use crate::net::ingress::{self, Ingress};
use crate::net::{self, Delivery, DrainControl, Limits};
use crate::origin::{Family, Origin};

/// setns(2) needs CAP_SYS_ADMIN, and /proc/PID/ns/net also the permission to trace the process.
const NAMESPACE_PERMISSION: &str = "; the daemon may not enter network namespaces: its unit needs \
                                    the drop-in systemd/network-namespaces.conf";

/// What to do if the daemon cannot listen on an address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnBindError {
    /// Fail if it is an IPv4 address of a configured listener: a mistake in the configuration.
    Fail,
    /// Leave the socket closed. Do not retry sockets that failed before.
    Leave,
    /// Leave the socket closed. Retry sockets that failed before.
    Retry,
}

/// A listener that exists, with at most one socket for each family.
pub(super) struct OpenListener {
    pub(super) presence: ListenerPresence,
    pub(super) sockets: Vec<FamilySocket>,
    ingress: Arc<dyn Ingress>,
    /// The ingress again, if it is a bridge.
    bridge: Option<Arc<ingress::BridgeIngress>>,
    limits: Limits,
    drain: DrainControl,
    context: AcceptContext,
}

/// What accepts and serves connections.
pub(super) struct AcceptContext {
    pub(super) service: Arc<dyn GuestService>,
    /// When its sockets begin to accept.
    pub(super) condition: AcceptCondition,
    /// The host's addresses.
    pub(super) own_addresses: OwnAddresses,
    /// Gets the listener when the kernel closes one of its sockets.
    pub(super) ended: mpsc::UnboundedSender<ListenerKey>,
    /// The thread of its sockets and connections.
    pub(super) thread: Arc<GuestThread>,
}

/// A socket, open or not.
pub(super) struct FamilySocket {
    pub(super) family: Family,
    /// The address to listen on. Port 0 becomes the chosen port once the socket is open.
    pub(super) address: SocketAddr,
    /// Why the last attempt to open it failed.
    pub(super) refused: Option<String>,
    accept_task: Option<AcceptTask>,
}

/// The task that accepts the connections of an open socket.
struct AcceptTask {
    task: JoinHandle<()>,
    /// Turns true when the kernel has closed the socket.
    ended: Arc<AtomicBool>,
}

impl OpenListener {
    pub(super) fn new(
        config: &ListenerConfig,
        key: &ListenerKey,
        presence: ListenerPresence,
        context: AcceptContext,
    ) -> OpenListener {
        let (addresses, extra_hops) = addresses_of(config, key);
        let families = [Family::Ipv4, Family::Ipv6];
        let sockets = families.into_iter().zip(addresses);
        let (ingress, bridge) = ingress_of(config, key, &context.own_addresses);
        OpenListener {
            presence,
            sockets: sockets
                .filter_map(|(family, address)| Some(FamilySocket::new(family, address?)))
                .collect(),
            ingress,
            bridge,
            limits: Limits {
                head: config.head_time,
                extra_hops,
                delivery: delivery_of(config, key),
                fast_path: config.fast_path,
            },
            drain: DrainControl::new(),
            context,
        }
    }

    /// Updates which guest each port of a bridge is.
    pub(super) fn set_bridge_ports(&self, desired: &DesiredListener) {
        if let Some(bridge) = &self.bridge {
            bridge.ports.store(Arc::new(desired.bridge_ports().clone()));
        }
    }

    /// Returns whether a socket exists that is closed and should be tried now.
    pub(super) fn needs_opening(&self, family: Family, on_bind_error: OnBindError) -> bool {
        self.socket(family).is_some_and(|socket| {
            !socket.is_open() && (on_bind_error != OnBindError::Leave || socket.refused.is_none())
        })
    }

    /// Opens the socket of a family. A failure is logged and kept in the status, or is an error if
    /// `on_bind_error` says so. `address_fault` is why the interface lacks its address.
    pub(super) fn open_socket(
        &mut self,
        key: &ListenerKey,
        family: Family,
        address_fault: Option<&String>,
        on_bind_error: OnBindError,
    ) -> Result<(), StartError> {
        let OpenListener {
            sockets,
            ingress,
            limits,
            drain,
            context,
            ..
        } = self;
        let Some(socket) = sockets.iter_mut().find(|socket| socket.family == family) else {
            return Ok(());
        };
        let Err(reason) = socket.open(key, ingress, context, *limits, drain.drain()) else {
            return Ok(());
        };
        let is_mistake = key.is_configured() && family == Family::Ipv4;
        if on_bind_error == OnBindError::Fail && is_mistake {
            return Err(StartError::Listen(socket.address, reason));
        }
        socket.refuse(key, &reason, address_fault);
        Ok(())
    }

    /// Closes the socket of a family. Once that is confirmed, no connection is accepted any more.
    pub(super) async fn close_socket(&mut self, key: &ListenerKey, family: Family) {
        let mut sockets = self.sockets.iter_mut();
        let socket = sockets.find(|socket| socket.family == family);
        if let Some(task) = socket.and_then(|socket| socket.close(key)) {
            let _ = task.await;
        }
    }

    /// Closes all sockets for good and cuts the connections. A connection of the old interface must
    /// not continue on a new interface that got its index. Returns the tasks that own the sockets
    /// until they have ended.
    pub(super) fn close(mut self, key: &ListenerKey) -> Vec<JoinHandle<()>> {
        self.drain.cut();
        self.sockets
            .iter_mut()
            .filter_map(|socket| socket.close(key))
            .collect()
    }

    /// Closes all sockets and tells the connections to end after their answer.
    pub(super) fn shut_down(&mut self) {
        for socket in &mut self.sockets {
            drop(socket.stop());
        }
        self.drain.end();
    }

    /// Returns when all connections have ended.
    pub(super) async fn ended(&self) {
        self.drain.ended().await;
    }

    /// Returns whether the listener has an address of this family.
    pub(super) fn has(&self, family: Family) -> bool {
        self.socket(family).is_some()
    }

    fn socket(&self, family: Family) -> Option<&FamilySocket> {
        self.sockets.iter().find(|socket| socket.family == family)
    }
}

impl FamilySocket {
    fn new(family: Family, address: SocketAddr) -> FamilySocket {
        FamilySocket {
            family,
            address,
            refused: None,
            accept_task: None,
        }
    }

    /// Returns whether the socket is open. Its task ends by itself if the kernel closes the socket.
    pub(super) fn is_open(&self) -> bool {
        self.accept_task
            .as_ref()
            .is_some_and(|of| !of.task.is_finished() && !of.ended.load(Ordering::Acquire))
    }

    fn open(
        &mut self,
        key: &ListenerKey,
        ingress: &Arc<dyn Ingress>,
        context: &AcceptContext,
        limits: Limits,
        drain: net::Drain,
    ) -> io::Result<()> {
        let listener = context.thread.open(|| ingress.open(self.address))?;
        self.address = listener.local_addr()?;
        self.refused = None;
        info!(at = %key, address = %self.address, "listening");

        let (family, ingress) = (self.family, Arc::clone(ingress));
        let service = Arc::clone(&context.service);
        let identify = move |stream: &TcpStream, peer| {
            let origin = Origin {
                attachment: ingress.attachment(stream, peer)?,
                family,
                peer,
                holder: None,
            };
            let accepted = service.accept(&origin)?;
            let holder = Some(accepted.holder);
            Some((accepted.slot, Origin { holder, ..origin }))
        };
        let listener = GuestListener {
            listener,
            family,
            service: Arc::clone(&context.service),
            limits,
        };
        let accept = net::fast::accept(listener, drain, identify);
        let condition = context.condition.clone();
        let (key, report, ended) = (key.clone(), context.ended.clone(), Arc::default());
        let has_ended: Arc<AtomicBool> = Arc::clone(&ended);
        let task = context.thread.spawn(async move {
            if condition.met().await {
                accept.await;
            }
            has_ended.store(true, Ordering::Release);
            let _ = report.send(key);
        });
        self.accept_task = Some(AcceptTask { task, ended });
        Ok(())
    }

    /// Ends the socket as the kernel can, for tests.
    #[cfg(test)]
    pub(super) fn end(&self) {
        if let Some(of) = &self.accept_task {
            of.task.abort();
            of.ended.store(true, Ordering::Release);
        }
    }

    fn stop(&mut self) -> Option<JoinHandle<()>> {
        self.refused = None;
        let AcceptTask { task, .. } = self.accept_task.take()?;
        task.abort();
        Some(task)
    }

    fn close(&mut self, key: &ListenerKey) -> Option<JoinHandle<()>> {
        if self.accept_task.is_some() {
            info!(at = %key, address = %self.address, "listening socket closed");
        }
        self.stop()
    }

    /// Records why the socket could not be opened, and logs a new reason.
    fn refuse(&mut self, key: &ListenerKey, reason: &io::Error, address_fault: Option<&String>) {
        let mut text = reason.to_string();
        if let (
            ListenerKey::Interface(name) | ListenerKey::Bridge(name),
            io::ErrorKind::AddrNotAvailable,
        ) = (key, reason.kind())
        {
            text += &match address_fault {
                Some(fault) => format!("; {fault}"),
                // No command here: if the host itself uses a metadata service, adding the address
                // could cut the host off from it.
                None => format!("; {name} lacks the address: `imdsd check --host` says what to do"),
            };
        }
        if let (ListenerKey::Namespace(_), io::ErrorKind::PermissionDenied) = (key, reason.kind()) {
            text += NAMESPACE_PERMISSION;
        }
        if self.refused.as_ref() != Some(&text) {
            warn!(
                at = %key,
                address = %self.address,
                reason = text,
                "cannot listen; the options stay pending; retrying"
            );
            self.refused = Some(text);
        }
    }
}

/// Returns what happens to last answers. A listener of the configuration whose socket is not bound to
/// an interface has nothing that could get another's number.
fn delivery_of(config: &ListenerConfig, key: &ListenerKey) -> Delivery {
    match key {
        ListenerKey::Listener(name) if config.listener(name).interface.is_none() => {
            Delivery::ByKernel
        }
        _ => Delivery::Awaited,
    }
}

/// Returns the IPv4 and the IPv6 address of a listener, and its extra hops.
fn addresses_of(config: &ListenerConfig, key: &ListenerKey) -> ([Option<SocketAddr>; 2], u8) {
    match key {
        ListenerKey::Listener(name) => {
            let listener = config.listener(name);
            let (ipv4, ipv6) = (listener.ipv4, listener.ipv6);
            (
                [ipv4.map(SocketAddr::from), ipv6.map(SocketAddr::from)],
                listener.extra_hops,
            )
        }
        ListenerKey::Interface(name) | ListenerKey::Bridge(name) | ListenerKey::Namespace(name) => {
            let interfaces = config.interfaces();
            (
                [Some(interfaces.ipv4.into()), Some(interfaces.ipv6.into())],
                interfaces.extra_hops(name),
            )
        }
    }
}

/// Returns how connections of a listener are identified, and the same again for a bridge.
fn ingress_of(
    config: &ListenerConfig,
    key: &ListenerKey,
    own_addresses: &OwnAddresses,
) -> (Arc<dyn Ingress>, Option<Arc<ingress::BridgeIngress>>) {
    let own_addresses = own_addresses.clone();
    let is_host_address: IsHostAddress = Arc::new(move |address| own_addresses.contains(address));
    let on = |name: &str| BoundInterface::new(name, Arc::clone(&is_host_address));
    let ingress: Arc<dyn Ingress> = match key {
        ListenerKey::Listener(name) => {
            let listener = config.listener(name);
            Arc::new(ingress::ListenerIngress {
                name: name.clone(),
                interface: listener.interface.as_deref().map(on),
                anti_spoofed: listener.anti_spoofed,
            })
        }
        ListenerKey::Interface(name) => Arc::new(ingress::InterfaceIngress {
            interface: on(name),
        }),
        ListenerKey::Bridge(name) => {
            let bridge = Arc::new(ingress::BridgeIngress {
                interface: on(name),
                ports: Default::default(),
            });
            return (Arc::clone(&bridge) as Arc<dyn Ingress>, Some(bridge));
        }
        ListenerKey::Namespace(name) => Arc::new(ingress::NamespaceIngress {
            name: name.clone(),
            path: namespace_path(name),
            is_host_address,
        }),
    };
    (ingress, None)
}
