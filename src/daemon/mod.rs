//! The daemon: opens the store, loads the registry, binds sockets, reports ready, serves, applies
//! changes, drains.
//!
//! This is the only place where the planes, the registry and the network meet. A change of the
//! options is `pending` until [`listeners::Listeners::apply`] has opened and closed the sockets
//! that it needs.

mod admin_host;
mod admin_socket;
mod background;
mod connection_limits;
mod control_endpoint;
mod control_files;
pub(crate) mod documents;
mod guest_plane;
mod guest_threads;
mod host_interfaces;
mod intake;
mod listeners;
mod refused_hosts;
mod reload;
mod start_error;
mod start_trial;
mod supervisor;
mod throttled;
mod token_keys;
mod unserved;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::admin::{AdminApi, DaemonView as _};
use crate::clock::Moment;
use crate::config::Config;
use crate::fault::Fault;
use crate::guest::request::HostRule;
use crate::guest::{Guest, Precomputed};
use crate::host;
use crate::host::netlink::{Link, Links, OwnAddresses};
use crate::instance::Attachment;
use crate::instance::claims::ClaimKey;
use crate::net::unix::UnixServer;
use crate::registry::file::FileStore;
use crate::registry::memory::MemoryStore;
use crate::registry::{Registry, Snapshot, Store};

use admin_host::AdminHost;
use background::{AwaitedSignatures, Background};
use connection_limits::ConnectionLimits;
use control_endpoint::{BoundControl, ControlEndpoint};
use documents::CheckedDocuments;
use guest_plane::GuestPlane;
use guest_threads::GuestThreads;
use host_interfaces::HostInterfaces;
use intake::Intake;
use listeners::{Listeners, OnBindError};
use refused_hosts::RefusedHosts;
use reload::Reload;
use supervisor::Supervisor;
use token_keys::TokenKeys;

pub(crate) use background::IdentitySource;
pub(crate) use control_files::ControlFiles;
pub(crate) use start_error::StartError;
pub(crate) use start_trial::StartTrial;

/// How long open connections may take to end at shutdown.
const DRAIN: Duration = Duration::from_secs(5);
/// How often keys are rotated if they are due, and failed sockets and writes are retried.
const TICK: Duration = Duration::from_secs(1);

/// A running daemon.
pub(crate) struct Daemon {
    registry: Arc<Registry>,
    token_keys: TokenKeys,
    connection_limits: Arc<ConnectionLimits>,
    guest_threads: Arc<GuestThreads>,
    listeners: Listeners,
    interfaces: Option<HostInterfaces>,
    control: Option<ControlEndpoint>,
    admin_host: Arc<AdminHost>,
    admin: Option<UnixServer>,
    background: Option<Background>,
    signals: Signals,
    /// The identity of this boot of the host.
    boot_id: String,
}

/// The signals that the daemon handles.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Daemon {
    /// Opens the store, registers the instances and binds every address. Serves nothing before all of
    /// that has worked. The instances are those of the configuration's documents, or `given`.
    ///
    /// A fault of a file that the configuration names is logged. It costs what the file is for.
    pub(crate) async fn start(
        config: Config,
        given: Option<CheckedDocuments>,
    ) -> Result<Daemon, StartError> {
        let now = Moment::now();
        // First, so that a signal never finds a daemon that does not handle it yet.
        let signals = Signals::install()?;

        // 1. The registry. Instances with unreadable records are not served; the others are.
        let registry = open_registry(&config)?;

        // 2. The guest plane.
        let boot_id = boot_id();
        let token_keys = open_token_keys(&config, &boot_id, now)?;
        let precomputed = Precomputed::default();
        let awaited = AwaitedSignatures::new(Arc::clone(&precomputed.signatures));
        let plane = guest_plane(&registry, &token_keys, &precomputed, &awaited, &config);

        // 3. The sockets of the configuration, and the host's interfaces. Connections wait in the
        // queues of the sockets until the instances are registered.
        let files = ControlFiles::read(&config);
        let mut faults = files.faults.clone();
        log_control_faults(&faults);
        let control = BoundControl::bind(&registry, &config, files)?;
        let admin_host = admin_host(&registry, &plane, control.as_ref(), &config, &boot_id);
        let own_addresses = OwnAddresses::default();
        let threads = GuestThreads::start(config.guest.threads).map_err(StartError::System)?;
        let guest_threads = Arc::new(threads);
        let mut daemon = Daemon {
            token_keys,
            connection_limits: Arc::clone(&plane.connection_limits),
            listeners: Listeners::new(
                &config,
                &registry,
                plane,
                own_addresses.clone(),
                Arc::clone(&guest_threads),
            ),
            registry,
            guest_threads,
            interfaces: None,
            control: None,
            admin_host,
            admin: None,
            background: None,
            signals,
            boot_id,
        };
        daemon.apply(OnBindError::Fail).await?;
        let admin = config.admin.as_ref().map(admin_socket::open_admin);
        let admin = admin.transpose()?.flatten();
        let identity = IdentitySource::at_start(&config);
        daemon.interfaces = HostInterfaces::open(&config, own_addresses).await?;

        // 4. The documents. They are stored only now: a failed start leaves nothing behind. If one
        // has faults or cannot be stored, only its own instance is not served.
        let intake = &daemon.admin_host.reload.intake;
        let taken_in = match given {
            Some(documents) => {
                intake
                    .take_in(documents, now.wall, watch::Sender::default())
                    .await
            }
            None => intake.read_documents(watch::Sender::default()).await,
        };
        taken_in.log();
        faults.extend(taken_in.faults);
        intake.set_file_faults(faults);
        log_unclaimed_listeners(&config, &daemon.registry.snapshot());
        daemon.forget_terminated().await;
        daemon.apply(OnBindError::Retry).await?;
        daemon.listeners.start_accepting();
        if let Some(bound) = control {
            daemon.control = Some(bound.start(config.guest.head_time)?);
        }
        daemon.admin = admin.map(|socket| socket.serve(daemon.admin_api()));

        // 5. Signatures and credentials in the background.
        daemon.background = Some(Background::start(
            Arc::clone(&daemon.registry),
            precomputed,
            awaited,
            identity,
            config.identity.issuer,
        ));
        info!("ready");
        Ok(daemon)
    }

    /// Serves until SIGTERM or SIGINT, then lets the answers in progress finish.
    pub(crate) async fn serve(mut self) -> Result<(), StartError> {
        let mut publications = self.registry.publications();
        let mut links = self.interfaces.as_ref().map(HostInterfaces::changes);
        let mut tick = tokio::time::interval(TICK);
        let mut supervisor = Supervisor::ready(self.guest_threads.heartbeats());
        supervisor.report(
            &self.registry.snapshot(),
            &self.listeners.published().load(),
        );
        loop {
            let on_bind_error = tokio::select! {
                _ = self.signals.terminate.recv() => break,
                _ = self.signals.interrupt.recv() => break,
                _ = self.signals.hangup.recv() => {
                    // Without a configuration there is nothing to reload: the terminal was closed.
                    if self.admin_host.reload.config.state_directory.is_none() {
                        break;
                    }
                    self.reload();
                    OnBindError::Leave
                }
                _ = publications.changed() => OnBindError::Leave,
                () = changed(links.as_mut()) => OnBindError::Retry,
                _ = tick.tick() => {
                    self.roll_keys();
                    self.forget_terminated().await;
                    self.retry_failed_writes();
                    OnBindError::Retry
                }
            };
            publications.borrow_and_update();
            // Cannot fail: an address that is refused is tried again.
            let _ = self.apply(on_bind_error).await;
            supervisor.report(
                &self.registry.snapshot(),
                &self.listeners.published().load(),
            );
        }
        info!("shutting down: open connections may finish");
        supervisor.stopping();
        self.shut_down().await;
        Ok(())
    }

    /// Returns whether there is an admin socket.
    pub(crate) fn has_admin(&self) -> bool {
        self.admin.is_some()
    }

    /// Returns the address that the control endpoint listens on.
    pub(crate) fn control_address(&self) -> Option<SocketAddr> {
        self.control.as_ref().map(|control| control.address)
    }

    /// Makes the host's interfaces and the sockets match what the instances need.
    async fn apply(&mut self, on_bind_error: OnBindError) -> Result<(), StartError> {
        let mut links = Links::default();
        if let Some(interfaces) = &mut self.interfaces {
            links = interfaces.links();
        }
        // First, so that nothing is opened on a link for the instance of an earlier one.
        let identity_of = |name: &str| links.named(name).map(Link::identity);
        self.registry.observe_links(&self.boot_id, identity_of);
        if let Some(interfaces) = &mut self.interfaces {
            let listeners = &mut self.listeners;
            let (desired, version) = listeners
                .desired_addresses(&self.registry, &links, &self.connection_limits)
                .await;
            interfaces.settle(&links, desired, version).await;
            self.listeners
                .set_address_faults(interfaces.address_faults());
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

    /// Closes the sockets, stops the background task, waits for the connections, and removes the
    /// addresses from the interfaces. That comes last: the answers in progress need them.
    async fn shut_down(&mut self) {
        self.listeners.shut_down();
        if let Some(control) = &self.control {
            control.shut_down();
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
                control.ended().await;
            }
        };
        let _ = tokio::time::timeout(DRAIN, all_ended).await;
        if let Some(interfaces) = &mut self.interfaces {
            interfaces.release().await;
        }
        self.guest_threads.end().await;
    }

    fn admin_api(&self) -> Arc<AdminApi> {
        Arc::new(AdminApi::new(
            Arc::clone(&self.registry),
            self.listeners.published(),
            Arc::clone(&self.admin_host) as _,
        ))
    }

    /// Retries failed writes in a task of its own: a failing disk may take its time.
    fn retry_failed_writes(&self) {
        let intake = Arc::clone(&self.admin_host.reload.intake);
        tokio::spawn(async move { intake.retry_failed_writes().await });
    }

    async fn forget_terminated(&self) {
        for error in self.registry.forget_terminated(Moment::now().wall).await {
            warn!("cannot remove the record of a terminated instance: {error}");
        }
    }

    /// Does what `imdsd reload` does, for SIGHUP. The result is in the log.
    fn reload(&self) {
        tokio::spawn(self.admin_host.reload());
    }

    fn roll_keys(&mut self) {
        if let Err(reason) = self.token_keys.roll(Moment::now()) {
            warn!(%reason, "cannot store new token keys; the old ones stay in use");
        }
    }
}

impl Signals {
    fn install() -> Result<Signals, StartError> {
        let install = |kind| signal(kind).map_err(StartError::System);
        Ok(Signals {
            terminate: install(SignalKind::terminate())?,
            interrupt: install(SignalKind::interrupt())?,
            hangup: install(SignalKind::hangup())?,
        })
    }
}

/// Opens the store and loads the registry. Logs the records that cannot be read.
fn open_registry(config: &Config) -> Result<Arc<Registry>, StartError> {
    let store: Arc<dyn Store> = match &config.state_directory {
        Some(directory) => Arc::new(FileStore::open(directory).map_err(StartError::Store)?),
        None => Arc::new(MemoryStore),
    };
    let (registry, unreadable) =
        Registry::open_with_images(store, config.images.clone()).map_err(StartError::Store)?;
    for fault in unreadable {
        error!("{fault}");
    }
    Ok(registry)
}

fn open_token_keys(config: &Config, boot_id: &str, now: Moment) -> Result<TokenKeys, StartError> {
    match &config.runtime_directory {
        Some(directory) => TokenKeys::open(directory, boot_id, now)
            .map_err(|reason| StartError::TokenKeys(directory.clone(), reason)),
        None => Ok(TokenKeys::in_memory(now)),
    }
}

fn guest_plane(
    registry: &Arc<Registry>,
    token_keys: &TokenKeys,
    precomputed: &Precomputed,
    awaited: &Arc<AwaitedSignatures>,
    config: &Config,
) -> Arc<GuestPlane> {
    Arc::new(GuestPlane {
        guest: Guest::new(
            Arc::clone(registry),
            token_keys.authority(),
            precomputed.clone(),
            host_rule(config),
        ),
        registry: Arc::clone(registry),
        connection_limits: Arc::new(ConnectionLimits::new(&config.guest)),
        awaited: Arc::clone(awaited),
        refused_hosts: RefusedHosts::default(),
    })
}

fn admin_host(
    registry: &Arc<Registry>,
    plane: &Arc<GuestPlane>,
    control: Option<&BoundControl>,
    config: &Config,
    boot_id: &str,
) -> Arc<AdminHost> {
    let config = Arc::new(config.clone());
    Arc::new(AdminHost {
        plane: Arc::clone(plane),
        reload: Reload {
            intake: Arc::new(Intake::new(
                Arc::clone(registry),
                Arc::clone(&config),
                boot_id,
            )),
            control: control.map(|bound| Arc::clone(&bound.plane)),
            tls: control.and_then(|bound| bound.tls.clone()),
            config,
            turn: Arc::default(),
        },
        boot_id: boot_id.to_string(),
    })
}

/// Logs what keeps callers of the EC2 API from being served.
fn log_control_faults(faults: &[Fault]) {
    for fault in faults {
        error!("{fault}");
    }
    if !faults.is_empty() {
        error!(
            "the EC2 API accepts no call that needs what these files say; fix them, then run: imdsd reload"
        );
    }
}

fn log_unclaimed_listeners(config: &Config, snapshot: &Snapshot) {
    for listener in &config.listeners {
        let name = &listener.name;
        let claims = |attachment: &Attachment| {
            let keys = attachment.claim_keys();
            keys.iter().any(|(key, _)| *key == ClaimKey::Listener(name))
        };
        if !snapshot.claims().any(|(attachment, _)| claims(attachment)) {
            warn!("no instance claims listener '{name}': its connections are not answered");
        }
    }
}

fn host_rule(config: &Config) -> HostRule {
    match config.guest.refuse_rebinding {
        true => HostRule::Known(config.guest.allowed_hosts.clone()),
        false => HostRule::Any,
    }
}

/// Returns when the links change; never if they are not watched.
async fn changed(links: Option<&mut watch::Receiver<Links>>) {
    let is_watched = match links {
        Some(links) => links.changed().await.is_ok(),
        None => false,
    };
    if !is_watched {
        std::future::pending::<()>().await;
    }
}

/// Returns the identity of this boot of the host. Without one, token keys end with the process, and
/// no binding is valid.
fn boot_id() -> String {
    match host::boot::boot_id() {
        unknown if unknown.is_empty() => format!(
            "unknown boot, process {}, {}",
            std::process::id(),
            Moment::now().wall
        ),
        known => known,
    }
}
