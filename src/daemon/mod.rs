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
mod observed_links;
mod opened_files;
mod refused_hosts;
mod reload;
mod signals;
mod single_task;
mod start_error;
mod start_trial;
mod supervisor;
mod throttled;
mod token_keys;
mod unserved;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

use crate::admin::AdminApi;
use crate::clock::Moment;
use crate::config::Config;
use crate::fault::Fault;
use crate::guest::request::HostRule;
use crate::guest::{Guest, Precomputed};
use crate::host;
use crate::host::netlink::{Links, OwnAddresses};
use crate::instance::claims::ClaimKey;
use crate::instance::{Attachment, InstanceId, InstanceState};
use crate::net::unix::{UnixServer, UnixSocket};
use crate::registry::{Phase, Progress, Registry, Snapshot};

use admin_host::AdminHost;
use background::{AwaitedSignatures, Background};
use connection_limits::ConnectionLimits;
use control_endpoint::{BoundControl, ControlEndpoint};
use documents::CheckedDocuments;
use guest_plane::GuestPlane;
use guest_threads::GuestThreads;
use host_interfaces::HostInterfaces;
use intake::{Intake, PROGRESS_LOGGED, TakenIn};
use listeners::{Accepting, Listeners, OnBindError};
use observed_links::ObservedLinks;
use opened_files::OpenedFiles;
use refused_hosts::RefusedHosts;
use reload::Reload;
use signals::ReloadSignal;
use single_task::SingleTask;
use supervisor::Supervisor;
use token_keys::TokenKeys;

pub(crate) use background::IdentitySource;
pub(crate) use control_files::ControlFiles;
pub(crate) use start_error::StartError;
pub(crate) use start_trial::StartTrial;

/// How long open connections may take to end at shutdown. What is left of five seconds is for
/// addresses and threads.
const DRAIN: Duration = Duration::from_secs(4);
/// How often keys are rotated if they are due, and failed sockets and writes are retried.
const TICK: Duration = Duration::from_secs(1);

/// A running daemon.
pub(crate) struct Daemon {
    registry: Arc<Registry>,
    token_keys: Arc<Mutex<TokenKeys>>,
    connection_limits: Arc<ConnectionLimits>,
    guest_threads: Arc<GuestThreads>,
    listeners: Listeners,
    interfaces: Option<HostInterfaces>,
    control: Option<ControlEndpoint>,
    admin_host: Arc<AdminHost>,
    admin: Option<UnixServer>,
    background: Option<Background>,
    /// What begins in the course of the start.
    unstarted: Unstarted,
    chores: Chores,
    observed_links: ObservedLinks,
}

/// What is open and waits for the documents.
struct Unstarted {
    control: Option<BoundControl>,
    admin: Option<UnixSocket>,
    background: Option<BackgroundParts>,
    /// The faults of the files of the control endpoint.
    faults: Vec<Fault>,
}

/// What the background task works with.
struct BackgroundParts {
    precomputed: Precomputed,
    awaited: Arc<AwaitedSignatures>,
    identity: IdentitySource,
}

/// What the main loop starts each second. It may wait for the disk, so the loop does not wait for
/// it.
#[derive(Default)]
struct Chores {
    roll_keys: SingleTask,
    forget_terminated: SingleTask,
    retry_failed_writes: SingleTask,
}

/// Runs the daemon until SIGTERM or SIGINT, and then lets the answers in progress finish. The
/// instances are those of the configuration's documents, or `given`. `announce` is called once all
/// of them are served.
///
/// Nothing is stored or served if an address, the store or another requirement is missing. A fault of
/// a file that the configuration names is logged, and costs what the file is for.
pub(crate) async fn run(
    config: Config,
    given: Option<CheckedDocuments>,
    announce: impl FnOnce(&Daemon),
) -> Result<(), StartError> {
    // First, so that a signal never finds a daemon that does not handle it yet. Without a
    // configuration there is nothing to reload.
    let is_reloadable = config.state_directory.is_some();
    let (mut stop, mut reload) = signals::install(is_reloadable).map_err(StartError::System)?;
    let mut supervisor = Supervisor::starting();
    let opened = tokio::select! {
        biased;
        () = stop.received() => None,
        opened = Daemon::open(config) => Some(opened?),
    };
    let Some(mut daemon) = opened else {
        info!("shutting down: nothing was served yet");
        return Ok(());
    };
    // Wherever the daemon is in its work, it hears the signal and leaves the rest undone. What has
    // been stored stays.
    tokio::select! {
        biased;
        () = stop.received() => {}
        () = daemon.serve(given, announce, &mut supervisor, &mut reload) => {}
    }
    info!("shutting down: open connections may finish");
    supervisor.stopping(daemon.shut_down()).await;
    Ok(())
}

impl Daemon {
    /// Opens the store and every address. Accepts no connection yet: they wait in the queues of the
    /// sockets.
    async fn open(config: Config) -> Result<Daemon, StartError> {
        // 1. The registry, the keys, the guest plane.
        let config = Arc::new(config);
        let boot_id = boot_id();
        let files = OpenedFiles::open(&config, &boot_id).await?;
        let registry = files.registry;
        let precomputed = Precomputed::default();
        let awaited = AwaitedSignatures::new(Arc::clone(&precomputed.signatures));
        let plane = guest_plane(
            &registry,
            &files.token_keys,
            &precomputed,
            &awaited,
            &config,
        );

        // 2. The sockets of the configuration, and the host's interfaces.
        let faults = files.control.faults.clone();
        log_control_faults(&faults);
        let control = BoundControl::bind(&registry, &config, files.control)?;
        let admin_host = admin_host(&registry, &plane, control.as_ref(), &config, &boot_id);
        let own_addresses = OwnAddresses::default();
        let threads = GuestThreads::start(config.guest.threads).map_err(StartError::System)?;
        let guest_threads = Arc::new(threads);
        let observed_links = ObservedLinks::new(&registry, boot_id);
        let mut daemon = Daemon {
            token_keys: Arc::new(Mutex::new(files.token_keys)),
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
            unstarted: Unstarted {
                control,
                admin: None,
                background: None,
                faults,
            },
            chores: Chores::default(),
            observed_links,
        };
        daemon.apply(OnBindError::Fail).await?;
        let admin = config.admin.as_ref().map(admin_socket::open_admin);
        daemon.unstarted.admin = admin.transpose()?.flatten();
        daemon.unstarted.background = Some(BackgroundParts {
            precomputed,
            awaited,
            identity: files.identity,
        });
        daemon.interfaces = HostInterfaces::open(&config, own_addresses).await?;
        Ok(daemon)
    }

    /// Takes in the documents, and then follows the registry and the host. Does not return.
    async fn serve(
        &mut self,
        given: Option<CheckedDocuments>,
        announce: impl FnOnce(&Daemon),
        supervisor: &mut Supervisor,
        reload: &mut ReloadSignal,
    ) {
        let taken_in = self.take_in_documents(given, supervisor).await;
        self.finish_start(taken_in).await;
        announce(self);
        supervisor.ready(self.guest_threads.heartbeats());
        self.follow(supervisor, reload).await;
    }

    /// Reads the documents and registers their instances. They are stored only now, so a failed
    /// start leaves nothing behind. Once all documents are read and judged, the instances with
    /// records are served; a new one is served when it is stored.
    async fn take_in_documents(
        &mut self,
        given: Option<CheckedDocuments>,
        supervisor: &mut Supervisor,
    ) -> TakenIn {
        let intake = Arc::clone(&self.admin_host.reload.intake);
        let (progress, mut news) = watch::channel(Progress::default());
        // A task, because it goes on while sockets are opened. It ends with this call.
        let mut task = JoinSet::new();
        task.spawn(async move {
            match given {
                Some(documents) => {
                    let now = Moment::now().wall;
                    intake.take_in(documents, now, progress).await
                }
                None => intake.read_documents(progress).await,
            }
        });
        let mut log = tokio::time::interval(PROGRESS_LOGGED);
        log.set_missed_tick_behavior(MissedTickBehavior::Delay);
        log.reset();
        let mut latest = Progress::default();
        loop {
            tokio::select! {
                Some(taken_in) = task.join_next() => {
                    break taken_in.expect("taking in documents does not panic");
                }
                Ok(()) = news.changed() => {
                    latest = *news.borrow_and_update();
                    supervisor.report_start(latest);
                    if latest.phase == Phase::Committing {
                        self.serve_on(Accepting::Registered).await;
                    }
                }
                _ = log.tick() => {
                    info!(
                        stored = latest.done,
                        new = latest.total,
                        "starting: instances are served as they are stored"
                    );
                    // Guests that are served already should not wait for the others' instances.
                    self.start_background();
                }
            }
        }
    }

    /// Serves the instances that are registered by now, on these listeners.
    async fn serve_on(&mut self, accepting: Accepting) {
        self.listeners.accept_on(accepting);
        // Cannot fail: an address that is refused is tried again.
        let _ = self.apply(OnBindError::Retry).await;
    }

    /// Starts to precompute signatures and credentials.
    fn start_background(&mut self) {
        if let Some(parts) = self.unstarted.background.take() {
            self.background = Some(Background::start(
                Arc::clone(&self.registry),
                parts.precomputed,
                parts.awaited,
                parts.identity,
                self.admin_host.reload.config.identity.issuer.clone(),
            ));
        }
    }

    /// Answers operators as soon as all instances are served. If a document has faults or cannot be
    /// stored, only its own instance is not.
    async fn finish_start(&mut self, taken_in: TakenIn) {
        let reload = &self.admin_host.reload;
        let config = Arc::clone(&reload.config);
        taken_in.log().await;
        let mut faults = std::mem::take(&mut self.unstarted.faults);
        faults.extend(taken_in.faults);
        reload.intake.set_file_faults(faults);
        log_unclaimed_listeners(&config, &self.registry.snapshot());
        self.serve_on(Accepting::All).await;
        let control = self.unstarted.control.take();
        self.control = control.map(|bound| bound.start(config.guest.head_time));
        let admin = self.unstarted.admin.take();
        self.admin = admin.map(|socket| socket.serve(self.admin_api()));
        self.start_background();
        info!("ready");
    }

    /// Brings the sockets up to date after each change of the registry or the host, and retries what
    /// failed. Does not return.
    async fn follow(&mut self, supervisor: &mut Supervisor, reload: &mut ReloadSignal) {
        let mut publications = self.registry.publications();
        let mut links = self.interfaces.as_ref().map(HostInterfaces::changes);
        let mut tick = tokio::time::interval(TICK);
        loop {
            supervisor.report(
                &self.registry.snapshot(),
                &self.listeners.published().load(),
            );
            let on_bind_error = tokio::select! {
                () = reload.received() => {
                    tokio::spawn(self.admin_host.reload.clone().run_on_signal());
                    OnBindError::Leave
                }
                _ = publications.changed() => OnBindError::Leave,
                () = changed(links.as_mut()) => OnBindError::Retry,
                _ = tick.tick() => {
                    self.start_chores();
                    OnBindError::Retry
                }
            };
            publications.borrow_and_update();
            // Cannot fail: an address that is refused is tried again.
            let _ = self.apply(on_bind_error).await;
        }
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
        self.observed_links.observe(&self.registry, &links);
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
        let (background, admin) = (self.background.take(), self.admin.take());
        let background_ended = async {
            if let Some(background) = background {
                background.stop().await;
            }
        };
        let admin_ended = async {
            if let Some(admin) = admin {
                admin.end().await;
            }
        };
        let connections_ended = async {
            self.listeners.ended().await;
            if let Some(control) = &self.control {
                control.ended().await;
            }
        };
        let all_ended = async { tokio::join!(background_ended, admin_ended, connections_ended) };
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

    /// Starts what is due each second and may wait for the disk.
    fn start_chores(&mut self) {
        let Chores {
            roll_keys,
            forget_terminated,
            retry_failed_writes,
        } = &mut self.chores;
        // The lock is taken only here and by the one task that rolls.
        let is_due = |keys: &Mutex<TokenKeys>| keys.lock().are_due(Moment::now());
        if roll_keys.is_idle() && is_due(&self.token_keys) {
            roll_keys.start(roll(Arc::clone(&self.token_keys)));
        }
        let registry = Arc::clone(&self.registry);
        forget_terminated.start(async move {
            for error in registry.forget_terminated(Moment::now().wall).await {
                warn!("cannot remove the record of a terminated instance: {error}");
            }
        });
        let faults = &self.admin_host.plane.injected_faults;
        let snapshot = self.registry.snapshot();
        faults.remove_past(Moment::now().wall, |id| is_present(&snapshot, id));
        let intake = Arc::clone(&self.admin_host.reload.intake);
        retry_failed_writes.start(async move { intake.retry_failed_writes().await });
    }
}

/// Returns whether an instance is registered and not terminated.
fn is_present(snapshot: &Snapshot, id: &InstanceId) -> bool {
    let entry = snapshot.entry(id);
    entry.is_some_and(|entry| entry.instance.state != InstanceState::Terminated)
}

/// Rolls the token keys, which are written to the disk.
async fn roll(keys: Arc<Mutex<TokenKeys>>) {
    let rolled = tokio::task::spawn_blocking(move || keys.lock().roll(Moment::now())).await;
    if let Err(reason) = rolled.expect("rolling keys does not panic") {
        warn!(%reason, "cannot store new token keys; the old ones stay in use");
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
        injected_faults: Arc::default(),
    })
}

fn admin_host(
    registry: &Arc<Registry>,
    plane: &Arc<GuestPlane>,
    control: Option<&BoundControl>,
    config: &Arc<Config>,
    boot_id: &str,
) -> Arc<AdminHost> {
    Arc::new(AdminHost {
        plane: Arc::clone(plane),
        reload: Reload {
            intake: Arc::new(Intake::new(
                Arc::clone(registry),
                Arc::clone(config),
                boot_id,
            )),
            control: control.map(|bound| Arc::clone(&bound.plane)),
            tls: control.and_then(|bound| bound.tls.clone()),
            config: Arc::clone(config),
            turn: Arc::default(),
            waiting: Arc::new(Semaphore::new(1)),
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
