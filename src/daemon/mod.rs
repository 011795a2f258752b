//! The daemon put together: open the store, load the registry, bind, say ready, serve, apply changes, drain.
//!
//! This is the only place where the planes, the registry and the network meet. It owns every listener and carries option
//! changes out on them: a change is `pending` until [`Daemon::apply`] has opened and closed what it asks for.

mod background;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper::http::request::Parts;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use crate::clock::Moment;
use crate::config::{Config, KeySource};
use crate::control::{self, AccessKeys, Control};
use crate::fault::Fault;
use crate::guest::request::{self, HostRule};
use crate::guest::token::TokenAuthority;
use crate::guest::{Guest, Made, admission};
use crate::identity::IdentityError;
use crate::instance::{Attachment, Family, HopLimit, Instance, InstanceId, Origin};
use crate::net::connection::{Answering, Body, Outgoing};
use crate::net::control::{ControlBody, Controlling};
use crate::net::{self, DrainControl, Limits};
use crate::registry::file::FileStore;
use crate::registry::memory::MemoryStore;
use crate::registry::{Claim, Registered, Registry, Snapshot, Store};

use background::Background;
pub use background::IdentitySource;

/// How long open connections may take to end at shutdown.
const DRAIN: Duration = Duration::from_secs(5);
/// How often keys are looked at, and listeners that could not be opened are tried again.
const TICK: Duration = Duration::from_secs(1);
/// Connections of the control endpoint at once.
const CONTROL_CONNECTIONS: usize = 32;

/// Descriptors for listeners, the store, logs and the runtime.
const RESERVED_DESCRIPTORS: u64 = 128 + CONTROL_CONNECTIONS as u64;

/// Why the daemon did not start. Each says what to do about it.
#[derive(Debug)]
pub enum StartFault {
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
    /// Signals or the runtime.
    System(io::Error),
}

impl fmt::Display for StartFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartFault::Store(reason) => write!(f, "{reason}"),
            StartFault::TokenKeys(path, reason) => write!(
                f,
                "can't keep token keys in {}: {reason}; set runtime_directory to a directory this user may write",
                path.display()
            ),
            StartFault::Files(faults) => {
                let lines: Vec<String> = faults.iter().map(Fault::to_string).collect();
                f.write_str(&lines.join("\n"))
            }
            StartFault::Identity(reason) => write!(f, "{reason}"),
            StartFault::Listen(address, reason) => {
                write!(f, "can't listen on {address}: {reason}")?;
                match reason.kind() {
                    io::ErrorKind::AddrInUse => f.write_str("; another program has it (another imdsd?)"),
                    io::ErrorKind::AddrNotAvailable => f.write_str("; no interface of this host has the address"),
                    io::ErrorKind::PermissionDenied => f.write_str("; ports below 1024 need CAP_NET_BIND_SERVICE"),
                    _ => Ok(()),
                }
            }
            StartFault::System(reason) => write!(f, "{reason}"),
        }
    }
}

impl std::error::Error for StartFault {}

/// A running daemon.
pub struct Daemon {
    registry: Arc<Registry>,
    tokens: Arc<TokenAuthority>,
    answering: Arc<dyn Answering>,
    ways: Vec<Way>,
    limits: Limits,
    /// Ends the guests' connections; each listener has as many as `limits` says.
    drains: Vec<DrainControl>,
    control: Option<(SocketAddr, JoinHandle<()>)>,
    background: Option<Background>,
    /// What the operator was told of last: ways in that serve nobody.
    unserved: BTreeSet<String>,
    terminate: Signal,
    interrupt: Signal,
}

/// A listener of the configuration, with its sockets.
struct Way {
    name: String,
    sockets: Vec<WaySocket>,
    drain: net::Drain,
}

struct WaySocket {
    family: Family,
    /// Where to listen; once a port was chosen for port 0, that port.
    address: SocketAddr,
    accepting: Option<JoinHandle<()>>,
    /// Whether opening it has failed and the operator was told.
    failing: bool,
}

impl Daemon {
    /// Opens the store, registers `instances`, binds every address. Nothing is served before all of it has worked.
    pub async fn start(config: Config, instances: Vec<Instance>) -> Result<Daemon, StartFault> {
        let now = Moment::now();
        // First of all, so that a signal never finds the daemon half started and unprepared.
        let terminate = signal(SignalKind::terminate()).map_err(StartFault::System)?;
        let interrupt = signal(SignalKind::interrupt()).map_err(StartFault::System)?;

        // 1. The registry. Instances with unreadable records are not served; the others are.
        let store: Arc<dyn Store> = match &config.state_directory {
            Some(directory) => Arc::new(FileStore::open(directory).map_err(StartFault::Store)?),
            None => Arc::new(MemoryStore),
        };
        let (registry, unreadable) = Registry::open(store).map_err(StartFault::Store)?;
        for fault in unreadable {
            error!("{fault}");
        }

        // 2. The data plane.
        let tokens = Arc::new(match &config.runtime_directory {
            Some(directory) => TokenAuthority::open(directory, &boot_id(), now)
                .map_err(|reason| StartFault::TokenKeys(directory.clone(), reason))?,
            None => TokenAuthority::in_memory(now),
        });
        let hosts = match config.guest.refuse_rebinding {
            true => HostRule::Known(config.guest.allowed_hosts.clone()),
            false => HostRule::Any,
        };
        let made = Made::default();
        let guest = Guest::new(Arc::clone(&registry), Arc::clone(&tokens), made.clone(), hosts);
        let connections = fair_share(config.guest.connections, config.listeners.len());
        let limits = Limits { connections, head: config.guest.head_time };

        // 3. The sockets.
        let mut drains = Vec::new();
        let mut ways = Vec::new();
        for listener in &config.listeners {
            let control = DrainControl::new(limits.connections);
            let socket = |family, address: SocketAddr| WaySocket { family, address, accepting: None, failing: false };
            let ipv4 = listener.ipv4.map(|address| socket(Family::Ipv4, address.into()));
            let ipv6 = listener.ipv6.map(|address| socket(Family::Ipv6, address.into()));
            let sockets = ipv4.into_iter().chain(ipv6).collect();
            ways.push(Way { name: listener.name.clone(), sockets, drain: control.drain() });
            drains.push(control);
        }
        let mut daemon = Daemon {
            registry,
            tokens,
            answering: Arc::new(GuestPlane(guest)),
            ways,
            limits,
            drains,
            control: None,
            background: None,
            unserved: BTreeSet::new(),
            terminate,
            interrupt,
        };
        daemon.apply(WhenRefused::Fail)?;
        let control = daemon.open_control(&config)?;

        let identity = IdentitySource::of(&config).map_err(StartFault::Identity)?;

        // 4. The documents. They are stored only now: a start that failed leaves nothing behind.
        daemon.register(instances, config.state_directory.as_deref(), now.wall).await?;
        daemon.forget_terminated().await;
        daemon.apply(WhenRefused::Retry)?;
        if let Some((listener, control)) = control {
            daemon.start_control(listener, control)?;
        }

        // 5. What is made ahead of need.
        daemon.background =
            Some(Background::start(Arc::clone(&daemon.registry), made, identity, config.identity.issuer));
        info!("ready");
        Ok(daemon)
    }

    /// Serves until SIGTERM or SIGINT, then lets started answers finish.
    pub async fn serve(mut self) -> Result<(), StartFault> {
        let mut publications = self.registry.publications();
        let mut tick = tokio::time::interval(TICK);
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        loop {
            tokio::select! {
                _ = self.terminate.recv() => break,
                _ = self.interrupt.recv() => break,
                _ = publications.changed() => {}
                _ = tick.tick() => {
                    self.roll_keys();
                    self.forget_terminated().await;
                }
            }
            publications.borrow_and_update();
            // Can't fail: a refused address is tried again.
            let _ = self.apply(WhenRefused::Retry);
        }
        info!("ending: open connections may finish");
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        for way in &mut self.ways {
            way.sockets.iter_mut().for_each(WaySocket::close);
        }
        if let Some((_, accepting)) = &self.control {
            accepting.abort();
        }
        if let Some(background) = self.background.take() {
            background.stop().await;
        }
        self.drains.iter().for_each(DrainControl::end);
        let all_ended = async {
            for drain in &self.drains {
                drain.ended().await;
            }
        };
        let _ = tokio::time::timeout(DRAIN, all_ended).await;
        Ok(())
    }

    /// Where the control endpoint listens.
    pub fn control_address(&self) -> Option<SocketAddr> {
        self.control.as_ref().map(|(address, _)| *address)
    }

    /// Opens and closes listeners as the instances' options ask for, and confirms the generations that are carried out.
    fn apply(&mut self, when_refused: WhenRefused) -> Result<(), StartFault> {
        let snapshot = self.registry.snapshot();
        let mut refused: Vec<Attachment> = Vec::new();
        for way in &mut self.ways {
            let attachment = Attachment::Listener(way.name.clone());
            let entry = snapshot.attached_to(&attachment);
            for socket in &mut way.sockets {
                // A way in that belongs to nobody stays open on IPv4 and answers nobody.
                let wanted = match (entry, socket.family) {
                    (Some(entry), family) => admission::listens(entry, family),
                    (None, Family::Ipv4) => true,
                    (None, Family::Ipv6) => false,
                };
                if !wanted {
                    socket.close();
                } else if let Err(reason) = socket.open(&attachment, &way.drain, &self.answering, self.limits) {
                    // An IPv6 address may come later; an IPv4 address that is missing at start is a mistake.
                    if when_refused == WhenRefused::Fail && socket.family == Family::Ipv4 {
                        return Err(StartFault::Listen(socket.address, reason));
                    }
                    socket.tell_refused(&way.name, &reason);
                    refused.push(attachment.clone());
                }
            }
        }
        // An instance is applied when every way in of its own carries it. One that has none has nothing to wait for.
        for entry in snapshot.entries() {
            let carried = |attachment: &Attachment| {
                let is_held = snapshot.attached_to(attachment).is_some();
                is_held && self.has(attachment) && !refused.contains(attachment)
            };
            if entry.instance.imds.attachments.iter().all(carried) {
                self.registry.confirm(entry);
            }
        }
        self.tell_unserved(&snapshot);
        Ok(())
    }

    /// Binds the control endpoint. Nobody is answered there before [`Daemon::start_control`].
    fn open_control(&self, config: &Config) -> Result<Option<(TcpListener, Arc<Control>)>, StartFault> {
        let Some(settings) = &config.control else { return Ok(None) };
        let keys = match &settings.access_keys {
            KeySource::Demo => AccessKeys::demo(),
            KeySource::File(path) => AccessKeys::read(path).map_err(StartFault::Files)?,
        };
        let control = Control::new(Arc::clone(&self.registry), keys, settings.regions.clone());
        let listener =
            net::listener::open(settings.listen).map_err(|reason| StartFault::Listen(settings.listen, reason))?;
        Ok(Some((listener, Arc::new(control))))
    }

    fn start_control(&mut self, listener: TcpListener, control: Arc<Control>) -> Result<(), StartFault> {
        let address = listener.local_addr().map_err(StartFault::System)?;
        info!(%address, "control endpoint");
        let drain = DrainControl::new(CONTROL_CONNECTIONS);
        let controlling = controlling(control);
        let limits = self.limits;
        let accepting = net::listener::accept(listener, drain.drain(), move |stream, _, _, drain| {
            net::control::serve(stream, Arc::clone(&controlling), control::MOST_BODY, limits, drain)
        });
        self.drains.push(drain);
        self.control = Some((address, tokio::spawn(accepting)));
        Ok(())
    }

    async fn register(
        &self,
        instances: Vec<Instance>,
        state_directory: Option<&Path>,
        now: Timestamp,
    ) -> Result<(), StartFault> {
        for instance in instances {
            let id = instance.instance_id.clone();
            match self.registry.register(instance, now).await.map_err(StartFault::Store)? {
                Registered::New => info!(instance = %id, "registered"),
                Registered::Known => {}
                Registered::Edited => {
                    let record = state_directory.map(|state| state.join(format!("instances/{id}.json")));
                    let record = record.unwrap_or_default();
                    warn!(
                        instance = %id,
                        "its document was edited after it was registered, and the edit is not read: the stored record is \
                         served. To register it anew, stop imdsd, remove {}, and start it",
                        record.display()
                    );
                }
                Registered::Unreadable => {
                    error!(instance = %id, "not served: its record is unreadable, and no document replaces it");
                }
                Registered::Terminated => {
                    let record = state_directory.map(|state| state.join(format!("instances/{id}.json")));
                    warn!(
                        instance = %id,
                        "not served: it was terminated, and its document does not bring it back. To register it anew, stop \
                         imdsd, remove {}, and start it; or remove the document",
                        record.unwrap_or_default().display()
                    );
                }
            }
        }
        Ok(())
    }

    /// Tells the operator, once for each change, which ways in serve nobody, and why.
    fn tell_unserved(&mut self, snapshot: &Snapshot) {
        let mut unserved = BTreeSet::new();
        for (attachment, claim) in snapshot.claims() {
            match claim {
                Claim::Disputed(several) => {
                    let several: Vec<&str> = several.iter().map(InstanceId::as_str).collect();
                    unserved
                        .insert(format!("{attachment} is claimed by {}: none is served there", several.join(" and ")));
                }
                Claim::Held(id) if !self.has(attachment) => {
                    unserved.insert(format!("{id} is attached to {attachment}, and there is no such listener"));
                }
                Claim::Held(_) => {}
            }
        }
        for fault in unserved.difference(&self.unserved) {
            error!("{fault}");
        }
        self.unserved = unserved;
    }

    fn has(&self, attachment: &Attachment) -> bool {
        let Attachment::Listener(name) = attachment;
        self.ways.iter().any(|way| way.name == *name)
    }

    async fn forget_terminated(&self) {
        for error in self.registry.forget_terminated(Moment::now().wall).await {
            warn!("a terminated instance's record stays: {error}");
        }
    }

    fn roll_keys(&self) {
        if let Err(reason) = self.tokens.roll(Moment::now()) {
            warn!(%reason, "can't keep new token keys; the old ones stay in use");
        }
    }
}

/// What to do about an address that can't be listened on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WhenRefused {
    Fail,
    Retry,
}

impl WaySocket {
    fn open(
        &mut self,
        attachment: &Attachment,
        drain: &net::Drain,
        answering: &Arc<dyn Answering>,
        limits: Limits,
    ) -> io::Result<()> {
        if self.accepting.is_some() {
            return Ok(());
        }
        let listener = net::listener::open(self.address)?;
        self.address = listener.local_addr()?;
        self.failing = false;
        info!(%attachment, address = %self.address, "listening");

        let (attachment, family, answering) = (attachment.clone(), self.family, Arc::clone(answering));
        self.accepting =
            Some(tokio::spawn(net::listener::accept(listener, drain.clone(), move |stream, peer, seat, drain| {
                let origin = Origin { attachment: attachment.clone(), family, peer };
                net::connection::serve(stream, origin, Arc::clone(&answering), limits, seat, drain)
            })));
        Ok(())
    }

    fn close(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
            info!(address = %self.address, "no longer listening");
        }
    }

    fn tell_refused(&mut self, name: &str, reason: &io::Error) {
        if !self.failing {
            warn!(listener = name, address = %self.address, %reason, "can't listen; its options stay pending, trying again");
            self.failing = true;
        }
    }
}

/// How many connections each listener may hold, so that no guest can use up the descriptors that the others, the control
/// endpoint and the store need: the process's limit is raised as far as it goes, and shared out.
fn fair_share(connections: usize, listeners: usize) -> usize {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let listeners = listeners.max(1) as u64;
    let needed = (connections as u64).saturating_mul(listeners).saturating_add(RESERVED_DESCRIPTORS);
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < needed) {
        limit.current = Some(limit.maximum.map_or(needed, |maximum| maximum.min(needed)));
        let _ = setrlimit(Resource::Nofile, limit);
    }
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < needed => {
            let share = (limit.saturating_sub(RESERVED_DESCRIPTORS) / listeners).max(2);
            warn!(
                limit,
                share,
                "too few file descriptors for guest.connections; each listener has this share. Raise LimitNOFILE"
            );
            usize::try_from(share).unwrap_or(connections)
        }
        _ => connections,
    }
}

/// The data plane as the network takes it.
struct GuestPlane(Guest);

impl Answering for GuestPlane {
    fn opens(&self, origin: &Origin, head: &Parts) -> Option<Option<HopLimit>> {
        self.0.opens(origin, head.method.as_str())
    }

    fn answer(&self, origin: &Origin, head: &Parts, body: Body) -> Option<Outgoing> {
        let body = match body {
            Body::Empty => request::Body::Empty,
            Body::NotEmpty => request::Body::NotEmpty,
        };
        let (response, hop_limit) = self.0.respond(origin, head, body, Moment::now())?;
        Some(Outgoing { response, hop_limit })
    }
}

/// The control plane as the network takes it.
fn controlling(control: Arc<Control>) -> Arc<Controlling> {
    Arc::new(move |head, body| {
        let control = Arc::clone(&control);
        Box::pin(async move {
            match body {
                ControlBody::Complete(body) => control.answer(&head, &body, Moment::now()).await,
                ControlBody::TooLarge => control::too_large(Moment::now()),
            }
        })
    })
}

/// Names this boot of the host. Without one, token keys end with the process that made them.
fn boot_id() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    read.unwrap_or_else(|_| format!("unknown boot, process {}, {}", std::process::id(), Timestamp::now()))
}
