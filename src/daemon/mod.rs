//! The daemon put together: open the store, load the registry, bind, say ready, serve, apply changes, drain.
//!
//! This is the only place where the planes, the registry and the network meet. It owns every listener and carries option
//! changes out on them: a change is `pending` until [`Daemon::apply`] has opened and closed what it asks for.

mod admin_host;
mod background;
mod connection_limits;
pub mod documents;
mod guest_plane;
mod listeners;
mod token_keys;
mod unserved;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use crate::admin::{AdminApi, DaemonView as _};
use crate::clock::Moment;
use crate::config::{self, AccessKeySource, AdminSocketPolicy, Config, InterfaceSettings};
use crate::control::{self, AccessKeys, Control};
use crate::fault::Fault;
use crate::guest::request::HostRule;
use crate::guest::{Guest, Precomputed};
use crate::host::addresses::{DesiredAddresses, InterfaceAddresses};
use crate::host::netlink::{self, Links, Netlink};
use crate::host::own_metadata;
use crate::identity::IdentityError;
use crate::instance::Instance;
use crate::net::control::{ControlBody, ControlServer, ControlService};
use crate::net::slots::ConnectionSlots;
use crate::net::tls::Tls;
use crate::net::unix::{UnixServer, UnixSocket};
use crate::net::{self, DrainControl, Limits};
use crate::registry::file::FileStore;
use crate::registry::memory::MemoryStore;
use crate::registry::{RegisterOutcome, Registry, Store};

use crate::daemon::admin_host::AdminHost;
use crate::daemon::connection_limits::ConnectionLimits;
use crate::daemon::guest_plane::GuestPlane;
use crate::daemon::listeners::{Listeners, OnBindError};
use crate::daemon::token_keys::TokenKeys;
use background::Background;
pub use background::IdentitySource;

/// How long open connections may take to end at shutdown.
const DRAIN: Duration = Duration::from_secs(5);
/// How often keys are looked at, and listeners that could not be opened are tried again.
const TICK: Duration = Duration::from_secs(1);
/// How often the host is asked for what nobody tells of: routes that others changed, and its own metadata service.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// Connections of the control endpoint at once.
const CONTROL_CONNECTIONS: usize = 32;

/// Why the daemon did not start. Each says what to do about it.
#[derive(Debug)]
pub enum StartError {
    /// The state directory.
    Store(crate::registry::StoreError),
    /// The key ring in the runtime directory.
    TokenKeys(std::path::PathBuf, io::Error),
    /// A file of the operator's.
    Files(Vec<Fault>),
    /// The key and the certificate of the identity documents.
    Identity(IdentityError),
    /// An address that can't be listened on.
    Listen(SocketAddr, io::Error),
    /// The operator's socket.
    Admin(PathBuf, io::Error),
    /// The host's links and addresses.
    Host(io::Error),
    /// Signals or the runtime.
    System(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Store(reason) => write!(f, "{reason}"),
            StartError::TokenKeys(path, reason) => write!(
                f,
                "can't keep token keys in {}: {reason}; set runtime_directory to a directory this user may write",
                path.display()
            ),
            StartError::Files(faults) => {
                let lines: Vec<String> = faults.iter().map(Fault::to_string).collect();
                f.write_str(&lines.join("\n"))
            }
            StartError::Identity(reason) => write!(f, "{reason}"),
            StartError::Listen(address, reason) => {
                write!(f, "can't listen on {address}: {reason}")?;
                match reason.kind() {
                    io::ErrorKind::AddrInUse => {
                        f.write_str("; another program has it (another imdsd?)")
                    }
                    io::ErrorKind::AddrNotAvailable => {
                        f.write_str("; no interface of this host has the address")
                    }
                    io::ErrorKind::PermissionDenied => {
                        f.write_str("; ports below 1024 need CAP_NET_BIND_SERVICE")
                    }
                    _ => Ok(()),
                }
            }
            StartError::Admin(path, reason) => {
                write!(
                    f,
                    "can't open the admin socket {}: {reason}",
                    path.display()
                )?;
                match reason.kind() {
                    io::ErrorKind::AddrInUse => {
                        f.write_str("; give this one another place: admin.socket")
                    }
                    io::ErrorKind::NotFound => {
                        f.write_str("; make its directory, or set admin.socket to another place")
                    }
                    io::ErrorKind::PermissionDenied => f.write_str(
                        "; set admin.socket to a place in a directory that this user may write",
                    ),
                    _ => f.write_str(
                        "; remove what stands there, or set admin.socket to another place",
                    ),
                }
            }
            StartError::Host(reason) => write!(
                f,
                "the host's interfaces can't be followed: {reason}; guests on interfaces need netlink (AF_NETLINK in \
                 RestrictAddressFamilies), and addresses = \"manage\" needs CAP_NET_ADMIN"
            ),
            StartError::System(reason) => write!(f, "{reason}"),
        }
    }
}

impl std::error::Error for StartError {}

/// A running daemon.
pub struct Daemon {
    registry: Arc<Registry>,
    token_keys: TokenKeys,
    connection_limits: Arc<ConnectionLimits>,
    listeners: Listeners,
    host: Option<Host>,
    control: Option<ControlEndpoint>,
    operated: Arc<AdminHost>,
    admin: Option<UnixServer>,
    background: Option<Background>,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// The host's interfaces, where guests come in by them.
struct Host {
    links: watch::Receiver<Links>,
    /// Keeps the links followed.
    netlink: Netlink,
    /// The addresses of the service.
    metadata: (Ipv4Addr, Ipv6Addr),
    /// What the daemon puts on interfaces, where it may.
    addresses: Option<InterfaceAddresses>,
    /// Whether it may even where the host itself asks.
    may_shadow: bool,
    /// When it was last looked at whether the host does, and why it seems to.
    looked: Option<Instant>,
    sign: Option<String>,
}

/// The control endpoint, bound and not yet answering.
struct BoundControl {
    listener: TcpListener,
    plane: Arc<Control>,
    tls: Option<Arc<Tls>>,
}

/// The control endpoint, open.
struct ControlEndpoint {
    address: SocketAddr,
    accepting: JoinHandle<()>,
    drain: DrainControl,
}

impl Daemon {
    /// Opens the store, registers `instances`, binds every address. Nothing is served before all of it has worked.
    pub async fn start(config: Config, instances: Vec<Instance>) -> Result<Daemon, StartError> {
        let now = Moment::now();
        // First of all, so that a signal never finds the daemon half started and unprepared.
        let terminate = signal(SignalKind::terminate()).map_err(StartError::System)?;
        let interrupt = signal(SignalKind::interrupt()).map_err(StartError::System)?;
        let hangup = signal(SignalKind::hangup()).map_err(StartError::System)?;

        // 1. The registry. Instances with unreadable records are not served; the others are.
        let store: Arc<dyn Store> = match &config.state_directory {
            Some(directory) => Arc::new(FileStore::open(directory).map_err(StartError::Store)?),
            None => Arc::new(MemoryStore),
        };
        let (registry, unreadable) = Registry::open(store).map_err(StartError::Store)?;
        for fault in unreadable {
            error!("{fault}");
        }

        // 2. The data plane.
        let token_keys = match &config.runtime_directory {
            Some(directory) => TokenKeys::open(directory, &boot_id(), now)
                .map_err(|reason| StartError::TokenKeys(directory.clone(), reason))?,
            None => TokenKeys::in_memory(now),
        };
        let hosts = match config.guest.refuse_rebinding {
            true => HostRule::Known(config.guest.allowed_hosts.clone()),
            false => HostRule::Any,
        };
        let made = Precomputed::default();
        let guest = Guest::new(
            Arc::clone(&registry),
            token_keys.authority(),
            made.clone(),
            hosts,
        );
        let connection_limits = Arc::new(ConnectionLimits::new(config.guest.connections));
        let plane = Arc::new(GuestPlane {
            guest,
            registry: Arc::clone(&registry),
            connection_limits: Arc::clone(&connection_limits),
        });

        // 3. The sockets of the configuration, and the host's links. Connections wait in the sockets' queues until it
        // is known whose they are.
        let control = open_control(&registry, &config)?;
        let operated = Arc::new(AdminHost {
            registry: Arc::clone(&registry),
            plane: Arc::clone(&plane),
            control: control.as_ref().map(|bound| Arc::clone(&bound.plane)),
            tls: control.as_ref().and_then(|bound| bound.tls.clone()),
            config: Arc::new(config.clone()),
            left_out: Arc::default(),
        });
        let mut daemon = Daemon {
            registry,
            token_keys,
            connection_limits,
            listeners: Listeners::new(&config, plane),
            host: None,
            control: None,
            operated,
            admin: None,
            background: None,
            terminate,
            interrupt,
            hangup,
        };
        daemon.apply(OnBindError::Fail).await?;
        let admin = config.admin.as_ref().map(open_admin).transpose()?.flatten();
        let identity = IdentitySource::at_start(&config).map_err(StartError::Identity)?;
        let managed = config
            .interfaces
            .as_ref()
            .filter(|interfaces| interfaces.addresses == config::AddressMode::Manage);
        if let (None, Some(directory)) = (managed, &config.runtime_directory) {
            remove_leftovers(directory).await;
        }
        if config.interfaces.is_some()
            || config
                .listeners
                .iter()
                .any(|listener| listener.interface.is_some())
        {
            let interfaces = config.interfaces.clone().unwrap_or_default();
            daemon.host =
                Some(Host::follow(&interfaces, config.runtime_directory.as_deref()).await?);
        }

        // 4. The documents. They are stored only now: a start that failed leaves nothing behind. One that can't be
        // stored costs its own instance, and nobody else's.
        daemon.register(instances, now.wall).await;
        daemon.forget_terminated().await;
        daemon.apply(OnBindError::TryAgain).await?;
        daemon.listeners.begin();
        if let Some(bound) = control {
            daemon.start_control(bound, config.guest.head_time)?;
        }
        daemon.admin = admin.map(|socket| {
            let (registry, host) = (Arc::clone(&daemon.registry), Arc::clone(&daemon.operated));
            socket.serve(Arc::new(AdminApi::new(
                registry,
                daemon.listeners.published(),
                host,
            )))
        });

        // 5. What is made ahead of need.
        daemon.background = Some(Background::start(
            Arc::clone(&daemon.registry),
            made,
            identity,
            config.identity.issuer,
        ));
        info!("ready");
        Ok(daemon)
    }

    /// Serves until SIGTERM or SIGINT, then lets started answers finish.
    pub async fn serve(mut self) -> Result<(), StartError> {
        let mut publications = self.registry.publications();
        let mut links = self.host.as_ref().map(|host| host.links.clone());
        let mut tick = tokio::time::interval(TICK);
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        loop {
            let on_bind_error = tokio::select! {
                _ = self.terminate.recv() => break,
                _ = self.interrupt.recv() => break,
                _ = self.hangup.recv() => {
                    // Without a configuration there is nothing to read again: its terminal was closed.
                    if self.operated.config.state_directory.is_none() {
                        break;
                    }
                    self.reload();
                    OnBindError::Leave
                }
                _ = publications.changed() => OnBindError::Leave,
                () = changed(links.as_mut()) => OnBindError::TryAgain,
                _ = tick.tick() => {
                    self.roll_keys();
                    self.forget_terminated().await;
                    self.store_again();
                    OnBindError::TryAgain
                }
            };
            publications.borrow_and_update();
            // Can't fail: a refused address is tried again.
            let _ = self.apply(on_bind_error).await;
        }
        info!("ending: open connections may finish");
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        self.listeners.end();
        if let Some(control) = &self.control {
            control.accepting.abort();
            control.drain.end();
        }
        if let Some(background) = self.background.take() {
            background.stop().await;
        }
        let admin = self.admin.take();
        let all_ended = async {
            if let Some(admin) = admin {
                admin.end().await;
            }
            self.listeners.ended().await;
            if let Some(control) = &self.control {
                control.drain.ended().await;
            }
        };
        let _ = tokio::time::timeout(DRAIN, all_ended).await;
        // Last: the answers that were still under way needed them.
        if let Some(addresses) = self.host.as_mut().and_then(|host| host.addresses.as_mut()) {
            addresses.release().await;
        }
        Ok(())
    }

    /// Whether there is an admin socket.
    pub fn has_admin(&self) -> bool {
        self.admin.is_some()
    }

    /// Where the control endpoint listens.
    pub fn control_address(&self) -> Option<SocketAddr> {
        self.control.as_ref().map(|control| control.address)
    }

    /// Makes the host's interfaces and the sockets what the instances ask for.
    async fn apply(&mut self, on_bind_error: OnBindError) -> Result<(), StartError> {
        // A copy: news of links must not wait for what is done with these.
        let mut links = Links::default();
        if let Some(host) = &mut self.host {
            links = host.links.borrow_and_update().clone();
            host.settle(
                &links,
                &self
                    .listeners
                    .wanted_of_interfaces(&self.registry.snapshot()),
            )
            .await;
            self.listeners
                .take_faults(host.addresses.as_ref().map(InterfaceAddresses::faults));
        }
        self.listeners
            .apply(
                &self.registry,
                &links,
                &self.connection_limits,
                on_bind_error,
            )
            .await
    }

    fn start_control(&mut self, bound: BoundControl, head: Duration) -> Result<(), StartError> {
        let BoundControl {
            listener,
            plane,
            tls,
        } = bound;
        let address = listener.local_addr().map_err(StartError::System)?;
        info!(%address, tls = tls.is_some(), "control endpoint");
        let drain = DrainControl::new();
        let server = ControlServer {
            service: control_service(plane),
            tls,
            max_body: control::MAX_BODY_BYTES,
            limits: Limits {
                head,
                extra_hops: 0,
            },
        };
        let slots = ConnectionSlots::new(Arc::new(AtomicUsize::new(CONTROL_CONNECTIONS)));
        let owner = move |_: &TcpStream, _| Some((slots.take()?, ()));
        let accepting = net::listener::accept(
            listener,
            drain.drain(),
            owner,
            move |stream, (), slot, drain| net::control::serve(stream, server.clone(), slot, drain),
        );
        self.control = Some(ControlEndpoint {
            address,
            accepting: tokio::spawn(accepting),
            drain,
        });
        Ok(())
    }

    async fn register(&self, instances: Vec<Instance>, now: Timestamp) {
        for (id, offered) in self.operated.offer(instances, now).await {
            let registered = match offered {
                Ok(registered) => registered,
                Err(error) => {
                    error!(instance = %id, "not served: {error}. It is registered as soon as it can be stored");
                    continue;
                }
            };
            match registered {
                RegisterOutcome::New => info!(instance = %id, "registered"),
                RegisterOutcome::Known => {}
                RegisterOutcome::Edited => {
                    warn!(
                        instance = %id,
                        "its document was edited after it was registered, and the edit is not read: the stored record is \
                         served. To take the edit in: imdsd instance put FILE"
                    );
                }
                RegisterOutcome::Unreadable => {
                    error!(instance = %id, "not served: its record is unreadable, and no document replaces it");
                }
                RegisterOutcome::Terminated => {
                    warn!(
                        instance = %id,
                        "not served: it was terminated, and its document does not bring it back. Remove the document; or, to \
                         register it anew: imdsd instance delete {id} && imdsd reload"
                    );
                }
            }
        }
    }

    /// Stores what could not be stored before. Nobody waits for it: a disk that fails may take its time.
    fn store_again(&self) {
        let operated = Arc::clone(&self.operated);
        tokio::spawn(async move { operated.store_again().await });
    }

    async fn forget_terminated(&self) {
        for error in self.registry.forget_terminated(Moment::now().wall).await {
            warn!("a terminated instance's record stays: {error}");
        }
    }

    /// What `imdsd reload` does, for SIGHUP: what comes of it is in the log.
    fn reload(&self) {
        let reloading = self.operated.reload();
        tokio::spawn(async move {
            for fault in reloading.await.err().into_iter().flatten() {
                error!("not reloaded: {fault}");
            }
        });
    }

    fn roll_keys(&mut self) {
        if let Err(reason) = self.token_keys.roll(Moment::now()) {
            warn!(%reason, "cannot store new token keys; the old ones stay in use");
        }
    }
}

/// Opens the operator's socket. Nobody is answered there before it is served.
fn open_admin(admin: &config::AdminSettings) -> Result<Option<UnixSocket>, StartError> {
    match (
        UnixSocket::open(&admin.socket, &admin.users),
        admin.socket_policy,
    ) {
        (Ok(socket), _) => Ok(Some(socket)),
        (Err(reason), AdminSocketPolicy::Optional) if reason.kind() == io::ErrorKind::AddrInUse => {
            warn!(
                "another imdsd of yours has {}, so this one has no admin socket, and `imdsd event` reaches the other; \
                 with another XDG_RUNTIME_DIR it has its own, which `imdsd event --socket` names",
                admin.socket.display()
            );
            Ok(None)
        }
        (Err(reason), AdminSocketPolicy::Optional) => {
            warn!(
                "can't open the admin socket {}: {reason}. This one goes without, and `imdsd event` does not reach it; \
                 with another XDG_RUNTIME_DIR it may have one",
                admin.socket.display()
            );
            Ok(None)
        }
        (Err(reason), AdminSocketPolicy::Required) => {
            Err(StartError::Admin(admin.socket.clone(), reason))
        }
    }
}

/// Binds the control endpoint. Nobody is answered there before [`Daemon::start_control`].
fn open_control(
    registry: &Arc<Registry>,
    config: &Config,
) -> Result<Option<BoundControl>, StartError> {
    let Some(settings) = &config.control else {
        return Ok(None);
    };
    let keys = match &settings.access_keys {
        AccessKeySource::Demo => AccessKeys::demo(),
        AccessKeySource::File(path) => AccessKeys::read(path).map_err(StartError::Files)?,
    };
    let control = Control::new(Arc::clone(registry), keys, settings.regions.clone());
    let tls = control_tls(config).map_err(StartError::Files)?;
    let listener = net::listener::open(settings.listen, None)
        .map_err(|reason| StartError::Listen(settings.listen, reason))?;
    Ok(Some(BoundControl {
        listener,
        plane: Arc::new(control),
        tls: tls.map(Arc::new),
    }))
}

/// The certificate and the key that the configuration names for the control endpoint, if it names any.
pub fn control_tls(config: &Config) -> Result<Option<Tls>, Vec<Fault>> {
    let Some(files) = config
        .control
        .as_ref()
        .and_then(|control| control.tls.as_ref())
    else {
        return Ok(None);
    };
    let read = Tls::read(&files.certificate, &files.key);
    read.map(Some).map_err(|fault| vec![fault])
}

/// Never returns where no links are followed.
async fn changed(links: Option<&mut watch::Receiver<Links>>) {
    let is_followed = match links {
        Some(links) => links.changed().await.is_ok(),
        None => false,
    };
    if !is_followed {
        std::future::pending::<()>().await;
    }
}

/// A daemon that managed addresses and was killed left them to its successor, which may not manage any.
async fn remove_leftovers(directory: &Path) {
    if !InterfaceAddresses::are_recorded(directory) {
        return;
    }
    let released = async {
        let (netlink, links) = netlink::read_links().await?;
        let mut addresses = InterfaceAddresses::open(netlink, Some(directory))?;
        addresses.settle(&links, &BTreeMap::new()).await;
        io::Result::Ok(())
    };
    if let Err(reason) = released.await {
        warn!(%reason, "what an earlier start put on interfaces can't be taken away");
    }
}

impl Host {
    /// Begins to follow the links of the host.
    async fn follow(
        interfaces: &InterfaceSettings,
        runtime_directory: Option<&Path>,
    ) -> Result<Host, StartError> {
        let metadata = (*interfaces.ipv4.ip(), *interfaces.ipv6.ip());
        let addresses = BTreeSet::from([metadata.0.into(), metadata.1.into()]);
        let (netlink, links) = netlink::watch(addresses).await.map_err(StartError::Host)?;
        let addresses = match interfaces.addresses {
            config::AddressMode::Check => None,
            config::AddressMode::Manage => {
                let addresses = InterfaceAddresses::open(netlink.clone(), runtime_directory)
                    .map_err(StartError::System)?;
                let now = links.borrow().clone();
                addresses.log_unrecorded(&now).await;
                Some(addresses)
            }
        };
        let may_shadow = interfaces.shadow_host_metadata;
        Ok(Host {
            links,
            netlink,
            metadata,
            addresses,
            may_shadow,
            looked: None,
            sign: None,
        })
    }

    /// Puts what is wanted on interfaces, and nothing where the host itself asks: it would ask this daemon.
    async fn settle(&mut self, links: &Links, wanted: &BTreeMap<String, DesiredAddresses>) {
        let Some(addresses) = &mut self.addresses else {
            return;
        };
        if self
            .looked
            .is_none_or(|looked| looked.elapsed() > LOOK_AGAIN)
        {
            self.looked = Some(Instant::now());
            let guests: BTreeSet<&str> = wanted.keys().map(String::as_str).collect();
            addresses.recheck_routes(&guests).await;
            if !self.may_shadow {
                let sign = match own_metadata::evidence(
                    &self.netlink,
                    links,
                    &guests,
                    self.metadata,
                )
                .await
                {
                    Ok(sign) => sign,
                    Err(reason) => Some(format!("its routes can't be read: {reason}")),
                };
                if let Some(sign) = sign.as_ref().filter(|_| sign != self.sign) {
                    error!(
                        "the host seems to ask a metadata service of its own: {sign}. No address is put on any interface; \
                         where the host needs no such service, set interfaces.shadow_host_metadata = true"
                    );
                }
                self.sign = sign;
            }
        }
        match self.sign {
            None => addresses.settle(links, wanted).await,
            Some(_) => addresses.settle(links, &BTreeMap::new()).await,
        }
    }
}

/// The control plane as the network takes it.
fn control_service(control: Arc<Control>) -> Arc<ControlService> {
    Arc::new(move |head, body| {
        let control = Arc::clone(&control);
        Box::pin(async move {
            match body {
                ControlBody::Complete(body) => control.answer(&head, &body, Moment::now()).await,
                ControlBody::TooLarge => control::too_large(Moment::now()),
                ControlBody::WithoutLength => control::without_length(Moment::now()),
            }
        })
    })
}

/// Names this boot of the host. Without one, token keys end with the process that made them.
fn boot_id() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    read.unwrap_or_else(|_| {
        format!(
            "unknown boot, process {}, {}",
            std::process::id(),
            Timestamp::now()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A demo is run to try something out, and where it has its socket is nobody's choice.
    #[test]
    fn a_demo_goes_without_an_admin_socket_that_can_not_be_opened_and_a_configured_daemon_does_not_start()
     {
        let directory = tempfile::tempdir().unwrap();
        let taken = directory.path().join("taken");
        std::fs::create_dir(&taken).unwrap();
        let places = [
            taken,
            directory.path().join("a".repeat(120)),
            directory.path().join("nowhere/admin.sock"),
        ];
        for socket in places {
            let open = |socket_policy| {
                open_admin(&config::AdminSettings {
                    socket: socket.clone(),
                    users: Vec::new(),
                    socket_policy,
                })
            };
            assert!(
                matches!(open(AdminSocketPolicy::Optional), Ok(None)),
                "{}",
                socket.display()
            );
            assert!(
                matches!(
                    open(AdminSocketPolicy::Required),
                    Err(StartError::Admin(..))
                ),
                "{}",
                socket.display()
            );
        }
    }
}
