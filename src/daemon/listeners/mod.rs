//! The ways in that are open: which there should be, by what the instances are attached to and the host has, and the sockets
//! that carry their options.
//!
//! ```text
//!   registry: who claims what ──┐
//!   host: which links there are ┼──► Listeners::apply ──► sockets opened, sockets closed, connections ended
//!   configuration: listeners ───┘
//! ```
//!
//! A listener in that two instances claim is open for neither. An interface that was deleted and made again is another one: the
//! sockets of the old one are closed and its connections ended before the new one has any.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use crate::config::{self, Config, InterfaceSettings};
use crate::daemon::StartError;
use crate::daemon::connection_limits::ConnectionLimits;
use crate::guest::gate;
use crate::host::addresses::DesiredAddresses;
use crate::host::netlink::{Incarnation, Links};
use crate::instance::{Attachment, BridgePort, InstanceId, SourceAddress, namespace_path};
use crate::net::connection::GuestService;
use crate::net::ingress::{self, Ingress};
use crate::net::status;
use crate::net::{self, DrainControl, Limits};
use crate::origin::{Family, Origin};
use crate::registry::{Claimants, Entry, Registry, Snapshot};

/// How many sockets are opened before others get their turn: guests are answered meanwhile.
const OPENED_AT_ONCE: usize = 16;

/// All ways in.
pub struct Listeners {
    listeners: Vec<config::ListenerSettings>,
    interfaces: Option<InterfaceSettings>,
    head: Duration,
    answering: Arc<dyn GuestService>,
    open: BTreeMap<Key, OpenListener>,
    /// What the operator was told of last: ways in that serve nobody.
    unserved: BTreeSet<String>,
    /// Listeners in that are not what they should be on this host, and why: nobody is served there.
    unfit: BTreeMap<Key, String>,
    /// What could not be put on interfaces, by interface.
    faults: BTreeMap<String, String>,
    /// How they all are, for the operator's socket.
    published: Arc<ArcSwap<status::ListenersStatus>>,
    /// Whether connections are accepted yet.
    begun: watch::Sender<bool>,
}

/// What makes a listener in the same listener in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Listener(String),
    /// An interface of a guest's own.
    Interface(String),
    /// A bridge, whose ports are guests.
    Bridge(String),
    Namespace(String),
}

/// A listener in as it should be.
#[derive(Default)]
struct Asked<'s> {
    /// Who is attached there: with one entry several times where it is attached several times.
    attached: Vec<(&'s Attachment, &'s Arc<Entry>)>,
}

struct OpenListener {
    ingress: Arc<dyn Ingress>,
    /// The same once more, where it is a bridge.
    bridge: Option<Arc<ingress::BridgeIngress>>,
    presence: Presence,
    limits: Limits,
    sockets: [Option<Socket>; 2],
    drain: DrainControl,
}

/// What the sockets of a listener in stand on. When it is another, so must they be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Presence {
    /// Addresses of the configuration, which are always there.
    Always,
    Link(Incarnation),
    /// The device and the inode of the file of a network namespace.
    Namespace(u64, u64),
}

struct Socket {
    family: Family,
    /// Where to listen; once a port was chosen for port 0, that port.
    address: SocketAddr,
    accepting: Option<JoinHandle<()>>,
    /// Why it could not be opened, when it could not.
    refused: Option<String>,
}

/// What to do about an address that can't be listened on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum OnBindError {
    /// Fail, where it is an IPv4 address of the configuration: a mistake.
    Fail,
    /// Leave it for now.
    Leave,
    /// Leave it for now, and try those again that were left before.
    TryAgain,
}

impl Listeners {
    /// Listeners in of a configuration; none is open yet.
    pub fn new(config: &Config, answering: Arc<dyn GuestService>) -> Listeners {
        Listeners {
            listeners: config.listeners.clone(),
            interfaces: config.interfaces.clone(),
            head: config.guest.head_time,
            answering,
            open: BTreeMap::new(),
            unserved: BTreeSet::new(),
            unfit: BTreeMap::new(),
            faults: BTreeMap::new(),
            published: Arc::default(),
            begun: watch::Sender::new(false),
        }
    }

    /// Accepts connections from here on. Those that came before have waited in their sockets' queues.
    pub fn begin(&self) {
        self.begun.send_replace(true);
    }

    /// Where it is published how they all are, after each [`Listeners::apply`].
    pub fn published(&self) -> Arc<ArcSwap<status::ListenersStatus>> {
        Arc::clone(&self.published)
    }

    /// Takes in what could not be put on interfaces: why sockets there can't be opened.
    pub fn take_faults(&mut self, faults: Option<&BTreeMap<String, String>>) {
        self.faults = faults.cloned().unwrap_or_default();
    }

    /// Opens and closes sockets as the instances' options ask for, and confirms the generations that are carried out.
    pub async fn apply(
        &mut self,
        registry: &Registry,
        links: &Links,
        connection_limits: &ConnectionLimits,
        on_bind_error: OnBindError,
    ) -> Result<(), StartError> {
        let snapshot = registry.snapshot();
        let asked = self.asked(&snapshot);
        let presences = self.presences(&asked, &snapshot, links);
        // What ends has ended before anything new is opened on its address.
        let mut ended = Vec::new();
        for key in self.open.keys().cloned().collect::<Vec<_>>() {
            if self
                .open
                .get(&key)
                .is_some_and(|listener| presences.get(&key) != Some(&listener.presence))
            {
                ended.extend(
                    self.open
                        .remove(&key)
                        .map(|listener| listener.end(&key))
                        .into_iter()
                        .flatten(),
                );
            }
        }
        for accepting in ended {
            // An aborted task has no result worth looking at.
            let _ = accepting.await;
        }
        connection_limits.share(&snapshot, asked.len());

        let mut opened = 0;
        let mut refused = BTreeSet::new();
        for (key, asked) in &asked {
            let Some(presence) = presences.get(key).copied() else {
                continue;
            };
            if !self.open.contains_key(key) {
                let listener = self.new_listener(key, presence);
                self.open.insert(key.clone(), listener);
            }
            let listener = self.open.get_mut(key).expect("it was put there");
            if let Some(bridge) = &listener.bridge {
                *bridge.ports.write() = asked.ports();
            }
            for socket in listener.sockets.iter_mut().flatten() {
                let wanted_by = asked.wanted_by(socket.family, matches!(key, Key::Listener(_)));
                if wanted_by == WantedBy::Nobody {
                    if let Some(accepting) = socket.close(key) {
                        // Once it is said to be applied, nobody is accepted any more.
                        let _ = accepting.await;
                    }
                    continue;
                }
                if !socket.is_open()
                    && (on_bind_error != OnBindError::Leave || socket.refused.is_none())
                {
                    let begun = self.begun.subscribe();
                    let outcome = socket.open(
                        key,
                        &listener.ingress,
                        &self.answering,
                        listener.limits,
                        listener.drain.drain(),
                        begun,
                    );
                    if let Err(reason) = outcome {
                        let is_configured =
                            matches!(key, Key::Listener(_)) && socket.family == Family::Ipv4;
                        if on_bind_error == OnBindError::Fail && is_configured {
                            return Err(StartError::Listen(socket.address, reason));
                        }
                        socket.tell_refused(key, &reason, self.faults.get(key.name()));
                    }
                    opened += 1;
                    if opened % OPENED_AT_ONCE == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                if socket.refused.is_some() {
                    let waiting = asked
                        .attached
                        .iter()
                        .filter(|(_, entry)| gate::listens(entry, socket.family));
                    refused.extend(waiting.map(|(_, entry)| entry.instance.instance_id.clone()));
                }
            }
        }
        // An instance is applied when every listener in of its own carries its options. One that is not there carries none that are
        // older, and will open with these.
        for entry in snapshot.entries() {
            let attachments = &entry.instance.imds.attachments;
            let is_served = |attachment| {
                snapshot.attached_to(attachment).is_some()
                    && self.unserved_by(attachment).is_none()
                    && !self.unfit.contains_key(&key_of(attachment))
            };
            if attachments.iter().all(is_served) && !refused.contains(&entry.instance.instance_id) {
                registry.confirm(entry);
            }
        }
        self.publish(&asked, &snapshot, links);
        self.tell_unserved(&snapshot);
        Ok(())
    }

    /// What the ways in stand on now; those that are not there are left out, and those where the kernel could not tell two
    /// guests apart.
    fn presences(
        &mut self,
        asked: &BTreeMap<Key, Asked<'_>>,
        snapshot: &Snapshot,
        links: &Links,
    ) -> BTreeMap<Key, Presence> {
        let mut presences: BTreeMap<Key, Presence> = BTreeMap::new();
        let mut namespaces: HashMap<Presence, Vec<Key>> = HashMap::new();
        let own = namespace(Path::new("/proc/self/ns/net")).ok().flatten();
        let mut unfit = BTreeMap::new();
        for key in asked.keys() {
            let before = self.open.get(key).map(|listener| &listener.presence);
            let presence = match (key, self.interface_of(key)) {
                (Key::Namespace(name), _) => {
                    namespace(&namespace_path(name)).unwrap_or_else(|reason| {
                        unfit.insert(key.clone(), reason);
                        None
                    })
                }
                (_, Some(interface)) => link(interface, before, links),
                (_, None) => Some(Presence::Always),
            };
            let Some(presence) = presence else { continue };
            if matches!(key, Key::Namespace(_)) {
                if Some(presence) == own {
                    unfit.insert(key.clone(), "it is the host's own".to_string());
                    continue;
                }
                namespaces.entry(presence).or_default().push(key.clone());
            }
            presences.insert(key.clone(), presence);
        }
        for several in namespaces.into_values().filter(|keys| keys.len() > 1) {
            let names: Vec<String> = several.iter().map(Key::to_string).collect();
            let reason = format!("{} are one and the same", names.join(" and "));
            unfit.extend(several.into_iter().map(|key| (key, reason.clone())));
        }
        unfit.extend(self.reached_by_others(snapshot, links));
        presences.retain(|key, _| !unfit.contains_key(key));
        for (key, reason) in unfit
            .iter()
            .filter(|(key, reason)| self.unfit.get(key) != Some(reason))
        {
            error!("nobody is served at {key}: {reason}");
        }
        self.unfit = unfit;
        presences
    }

    /// InterfaceSettings by which another instance's guest comes in, too: a bridge hears its ports, and a device for a VLAN hears
    /// whoever may tag on what it stands on. Guests that are known by more than the interface lose nothing by it: ports by
    /// their marks, and those whose addresses can be trusted. Whoever claims a listener in counts, served there or not.
    fn reached_by_others(&self, snapshot: &Snapshot, links: &Links) -> BTreeMap<Key, String> {
        let mut claimed: BTreeMap<u32, BTreeSet<(Key, &InstanceId)>> = BTreeMap::new();
        for (attachment, claim) in snapshot.claims() {
            let key = key_of(attachment);
            let port = match attachment {
                Attachment::BridgePort(BridgePort { port, .. }) => Some(port.as_str()),
                _ => None,
            };
            let interfaces = self.interface_of(&key).into_iter().chain(port);
            for link in interfaces.filter_map(|name| links.named(name)) {
                claimed
                    .entry(link.index)
                    .or_default()
                    .extend(claim.claimants().map(|id| (key.clone(), id)));
            }
        }
        // A bridge with a thousand ports has a thousand claims, and is none of those that hear others' guests by mistake.
        let mut hearing = claimed.clone();
        hearing
            .values_mut()
            .for_each(|claims| claims.retain(|(key, _)| !matches!(key, Key::Bridge(_))));
        hearing.retain(|_, claims| !claims.is_empty());
        let upper_links = links.upper_links();
        let mut unfit = BTreeMap::new();
        for (index, here) in &claimed {
            for (above, other) in upper_links
                .of(*index)
                .iter()
                .filter_map(|hearer| hearing.get(hearer))
                .flatten()
            {
                for (key, guest) in here.iter().filter(|(_, guest)| guest != other) {
                    if !self.knows_by_more(above) {
                        unfit.insert(
                            above.clone(),
                            format!("{key} is heard there, too, and is {guest}'s"),
                        );
                    }
                    if !self.knows_by_more(key) {
                        unfit.insert(
                            key.clone(),
                            format!("{above} hears it, too, and is {other}'s"),
                        );
                    }
                }
            }
        }
        unfit
    }

    /// Whether its guests are known by more than the interface that they come in by.
    fn knows_by_more(&self, key: &Key) -> bool {
        match key {
            Key::Bridge(_) => true,
            Key::Listener(name) => self
                .listener_named(name)
                .is_some_and(|listener| listener.anti_spoofed),
            Key::Interface(_) | Key::Namespace(_) => false,
        }
    }

    fn interface_of<'k>(&'k self, key: &'k Key) -> Option<&'k str> {
        match key {
            Key::Listener(name) => self.listener_named(name)?.interface.as_deref(),
            Key::Interface(name) | Key::Bridge(name) => Some(name.as_str()),
            Key::Namespace(_) => None,
        }
    }

    fn publish(&self, asked: &BTreeMap<Key, Asked<'_>>, snapshot: &Snapshot, links: &Links) {
        let listeners = asked
            .iter()
            .map(|(key, asked)| self.told(key, asked, links))
            .collect();
        let claims = snapshot.claims().map(|(attachment, _)| attachment);
        let reason = |attachment: &Attachment| {
            let by_configuration = self.unserved_by(attachment).map(str::to_string);
            by_configuration.or_else(|| self.unfit.get(&key_of(attachment)).cloned())
        };
        let unserved =
            claims.filter_map(|attachment| Some((attachment.clone(), reason(attachment)?)));
        self.published.store(Arc::new(status::ListenersStatus {
            listeners,
            unserved: unserved.collect(),
        }));
    }

    fn told(&self, key: &Key, asked: &Asked<'_>, links: &Links) -> status::ListenerStatus {
        let (kind, by_address) = match key {
            Key::Listener(name) => (
                status::ListenerKind::Listener,
                self.listener(name).anti_spoofed,
            ),
            Key::Interface(_) => (status::ListenerKind::Interface, false),
            Key::Bridge(_) => (status::ListenerKind::Bridge, false),
            Key::Namespace(_) => (status::ListenerKind::NetworkNamespace, false),
        };
        let instances: BTreeSet<_> = asked
            .attached
            .iter()
            .map(|(_, entry)| &entry.instance.instance_id)
            .collect();
        let listener = self.open.get(key);
        let sockets = listener
            .iter()
            .flat_map(|listener| listener.sockets.iter().flatten())
            .map(Socket::told);
        status::ListenerStatus {
            kind,
            name: key.name().to_string(),
            by_address,
            instances: instances.into_iter().cloned().collect(),
            waits_for: listener.is_none().then(|| self.missing(key, links)),
            sockets: sockets.collect(),
        }
    }

    /// What a listener in waits for that is not there.
    fn missing(&self, key: &Key, links: &Links) -> String {
        if let Some(reason) = self.unfit.get(key) {
            return reason.clone();
        }
        if let Key::Namespace(name) = key {
            return format!("there is no {}", namespace_path(name).display());
        }
        match self.interface_of(key).map(|name| (name, links.named(name))) {
            None => "it is opened next".to_string(),
            Some((name, None)) => format!("there is no interface '{name}'"),
            Some((name, Some(_))) => format!("interface '{name}' is not up"),
        }
    }

    /// What the guests' interfaces should have for their guests to reach the service and to be reached.
    pub fn wanted_of_interfaces(&self, snapshot: &Snapshot) -> BTreeMap<String, DesiredAddresses> {
        let mut wanted: BTreeMap<String, DesiredAddresses> = BTreeMap::new();
        let Some(interfaces) = &self.interfaces else {
            return wanted;
        };
        for (key, asked) in self.asked(snapshot) {
            let (Key::Interface(name) | Key::Bridge(name)) = key else {
                continue;
            };
            let of_interface = wanted.entry(name).or_default();
            of_interface.addresses.extend([
                SocketAddr::from(interfaces.ipv4).ip(),
                interfaces.ipv6.ip().to_owned().into(),
            ]);
            for (_, entry) in asked.attached {
                of_interface
                    .routes
                    .extend(entry.instance.routable_ipv6_addresses());
            }
        }
        wanted
    }

    /// Closes all sockets and tells all connections to end.
    pub fn end(&mut self) {
        for listener in self.open.values_mut() {
            listener
                .sockets
                .iter_mut()
                .flatten()
                .for_each(|socket| drop(socket.stop()));
            listener.drain.end();
        }
    }

    /// Returns when all connections have ended.
    pub async fn ended(&self) {
        for listener in self.open.values() {
            listener.drain.ended().await;
        }
    }

    /// The ways in that the configuration and the held claims of the instances ask for.
    fn asked<'s>(&self, snapshot: &'s Snapshot) -> BTreeMap<Key, Asked<'s>> {
        let configured = self
            .listeners
            .iter()
            .map(|listener| Key::Listener(listener.name.clone()));
        let mut asked: BTreeMap<Key, Asked<'s>> =
            configured.map(|key| (key, Asked::default())).collect();
        for (attachment, _) in snapshot.claims() {
            let Some(entry) = snapshot
                .attached_to(attachment)
                .filter(|_| self.unserved_by(attachment).is_none())
            else {
                continue;
            };
            asked
                .entry(key_of(attachment))
                .or_default()
                .attached
                .push((attachment, entry));
        }
        asked
    }

    fn new_listener(&self, key: &Key, presence: Presence) -> OpenListener {
        let mut bridge = None;
        let name = key.name();
        let ingress: Arc<dyn Ingress> = match key {
            Key::Listener(name) => {
                let config::ListenerSettings {
                    anti_spoofed,
                    interface,
                    ..
                } = self.listener(name).clone();
                Arc::new(ingress::ListenerIngress {
                    name: name.clone(),
                    interface,
                    anti_spoofed,
                })
            }
            Key::Interface(name) => Arc::new(ingress::InterfaceIngress { name: name.clone() }),
            Key::Bridge(name) => {
                let made = ingress::BridgeIngress {
                    name: name.clone(),
                    ports: Default::default(),
                };
                Arc::clone(bridge.insert(Arc::new(made))) as Arc<dyn Ingress>
            }
            Key::Namespace(name) => Arc::new(ingress::NamespaceIngress {
                name: name.clone(),
                path: namespace_path(name),
            }),
        };
        let (addresses, extra_hops) = match key {
            Key::Listener(name) => {
                let listener = self.listener(name);
                (
                    [
                        listener.ipv4.map(SocketAddr::from),
                        listener.ipv6.map(SocketAddr::from),
                    ],
                    listener.extra_hops,
                )
            }
            Key::Interface(_) | Key::Bridge(_) | Key::Namespace(_) => {
                let interfaces = self
                    .interfaces
                    .as_ref()
                    .expect("without the table none of these is asked for");
                (
                    [Some(interfaces.ipv4.into()), Some(interfaces.ipv6.into())],
                    interfaces.extra_hops(name),
                )
            }
        };
        let [ipv4, ipv6] = addresses;
        let socket = |family, address: Option<SocketAddr>| {
            address.map(|address| Socket {
                family,
                address,
                accepting: None,
                refused: None,
            })
        };
        OpenListener {
            ingress,
            bridge,
            presence,
            limits: Limits {
                head: self.head,
                extra_hops,
            },
            sockets: [socket(Family::Ipv4, ipv4), socket(Family::Ipv6, ipv6)],
            drain: DrainControl::new(),
        }
    }

    /// A document may claim one that the configuration does not have.
    fn listener_named(&self, name: &str) -> Option<&config::ListenerSettings> {
        self.listeners.iter().find(|listener| listener.name == name)
    }

    fn listener(&self, name: &str) -> &config::ListenerSettings {
        self.listener_named(name)
            .expect("only configured listeners are asked for")
    }

    /// Why nobody can be served at an attachment, whoever claims it.
    fn unserved_by(&self, attachment: &Attachment) -> Option<&'static str> {
        let (name, by_address) = match attachment {
            Attachment::Listener(name) => (name, false),
            Attachment::SourceAddress(SourceAddress { listener, .. }) => (listener, true),
            Attachment::Interface(name)
            | Attachment::BridgePort(BridgePort { bridge: name, .. }) => {
                let heard = self
                    .listeners
                    .iter()
                    .any(|listener| listener.interface.as_ref() == Some(name));
                return match self.interfaces {
                    None => Some("the configuration has no table [interfaces]"),
                    Some(_) => {
                        heard.then_some("a listener of the configuration hears that interface too")
                    }
                };
            }
            Attachment::NetworkNamespace(_) => {
                return self
                    .interfaces
                    .is_none()
                    .then_some("the configuration has no table [interfaces]");
            }
        };
        match self.listener_named(name) {
            None => Some("there is no such listener"),
            Some(listener) if by_address && !listener.anti_spoofed => {
                Some("the listener is not anti_spoofed")
            }
            Some(listener) if !by_address && listener.anti_spoofed => {
                Some("the listener is anti_spoofed")
            }
            Some(_) => None,
        }
    }

    /// Tells the operator, once for each change, which ways in serve nobody, and why.
    fn tell_unserved(&mut self, snapshot: &Snapshot) {
        let mut unserved = BTreeSet::new();
        for (attachment, claim) in snapshot.claims() {
            match (claim, self.unserved_by(attachment)) {
                (Claimants::Conflict(several), _) => {
                    let several: Vec<&str> = several.iter().map(InstanceId::as_str).collect();
                    unserved.insert(format!(
                        "{attachment} is claimed by {}: none is served there",
                        several.join(" and ")
                    ));
                }
                (Claimants::One(id), Some(reason)) => {
                    unserved.insert(format!("{id} is attached to {attachment}, and {reason}"));
                }
                (Claimants::One(_), None) => {}
            }
        }
        for fault in unserved.difference(&self.unserved) {
            error!("{fault}");
        }
        self.unserved = unserved;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WantedBy {
    Nobody,
    Somebody,
}

impl Asked<'_> {
    /// A listener of the configuration that belongs to nobody stays open on IPv4, and answers nobody.
    fn wanted_by(&self, family: Family, is_configured: bool) -> WantedBy {
        let is_free = self.attached.is_empty() && is_configured && family == Family::Ipv4;
        match is_free
            || self
                .attached
                .iter()
                .any(|(_, entry)| gate::listens(entry, family))
        {
            true => WantedBy::Somebody,
            false => WantedBy::Nobody,
        }
    }

    fn ports(&self) -> HashMap<u32, Attachment> {
        let marked = self
            .attached
            .iter()
            .filter_map(|(attachment, _)| match attachment {
                Attachment::BridgePort(BridgePort { mark, .. }) => {
                    Some((*mark, (*attachment).clone()))
                }
                _ => None,
            });
        marked.collect()
    }
}

fn key_of(attachment: &Attachment) -> Key {
    match attachment {
        Attachment::Listener(name) => Key::Listener(name.clone()),
        Attachment::SourceAddress(SourceAddress { listener, .. }) => {
            Key::Listener(listener.clone())
        }
        Attachment::Interface(name) => Key::Interface(name.clone()),
        Attachment::BridgePort(BridgePort { bridge, .. }) => Key::Bridge(bridge.clone()),
        Attachment::NetworkNamespace(name) => Key::Namespace(name.clone()),
    }
}

/// An interface as it is now; `None` when it is not there. One that is not up yet is not there; one that goes down later keeps
/// its sockets.
fn link(name: &str, before: Option<&Presence>, links: &Links) -> Option<Presence> {
    let link = links.named(name)?;
    let presence = Presence::Link(link.incarnation);
    (link.up || before == Some(&presence)).then_some(presence)
}

/// A network namespace as it is now; `None` when it is not there. Or why that can't be told.
fn namespace(path: &Path) -> Result<Option<Presence>, String> {
    use std::os::unix::fs::MetadataExt as _;
    match std::fs::metadata(path) {
        Ok(file) => Ok(Some(Presence::Namespace(file.dev(), file.ino()))),
        Err(reason) if reason.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(reason) => {
            // Those of other users' processes are for who may trace them.
            let needs = match reason.kind() == io::ErrorKind::PermissionDenied
                && path.starts_with("/proc")
            {
                true => "; paths below /proc need CAP_SYS_PTRACE",
                false => "",
            };
            Err(format!(
                "{} can't be looked at: {reason}{needs}",
                path.display()
            ))
        }
    }
}

impl Key {
    fn name(&self) -> &str {
        match self {
            Key::Listener(name)
            | Key::Interface(name)
            | Key::Bridge(name)
            | Key::Namespace(name) => name,
        }
    }
}

impl OpenListener {
    /// Closes it for good, and cuts its connections off: what was connected by the old interface must not go on by a new one
    /// that got its number. Returns the tasks that hold the sockets until they have ended.
    fn end(mut self, key: &Key) -> Vec<JoinHandle<()>> {
        self.drain.cut();
        self.sockets
            .iter_mut()
            .flatten()
            .filter_map(|socket| socket.close(key))
            .collect()
    }
}

impl Socket {
    fn open(
        &mut self,
        key: &Key,
        ingress: &Arc<dyn Ingress>,
        answering: &Arc<dyn GuestService>,
        limits: Limits,
        drain: net::Drain,
        mut begun: watch::Receiver<bool>,
    ) -> io::Result<()> {
        let listener = ingress.open(self.address)?;
        self.address = listener.local_addr()?;
        self.refused = None;
        info!(at = %key, address = %self.address, "listening");

        let (family, ingress, plane) = (self.family, Arc::clone(ingress), Arc::clone(answering));
        let owner = move |stream: &tokio::net::TcpStream, peer| {
            let origin = Origin {
                attachment: ingress.attachment(stream, peer)?,
                family,
                peer,
                holder: None,
            };
            let accepted = plane.accept(&origin)?;
            let holder = Some(accepted.holder);
            Some((accepted.slot, Origin { holder, ..origin }))
        };
        let answering = Arc::clone(answering);
        let accepting = net::listener::accept(
            listener,
            drain,
            owner,
            move |stream, origin, slot, drain| {
                net::connection::serve(stream, origin, Arc::clone(&answering), limits, slot, drain)
            },
        );
        self.accepting = Some(tokio::spawn(async move {
            // It never begins where a start fails later on.
            if begun.wait_for(|begun| *begun).await.is_ok() {
                accepting.await;
            }
        }));
        Ok(())
    }

    /// Its task ends by itself when the kernel took the socket away.
    fn is_open(&self) -> bool {
        self.accepting
            .as_ref()
            .is_some_and(|accepting| !accepting.is_finished())
    }

    fn told(&self) -> status::SocketStatus {
        let state = match (self.is_open(), &self.refused) {
            (true, _) => status::SocketState::Listening,
            (false, Some(_)) => status::SocketState::Refused,
            (false, None) => status::SocketState::Closed,
        };
        status::SocketStatus {
            address: self.address,
            state,
            reason: self.refused.clone(),
        }
    }

    fn stop(&mut self) -> Option<JoinHandle<()>> {
        self.refused = None;
        let accepting = self.accepting.take()?;
        accepting.abort();
        Some(accepting)
    }

    fn close(&mut self, key: &Key) -> Option<JoinHandle<()>> {
        if self.accepting.is_some() {
            info!(at = %key, address = %self.address, "no longer listening");
        }
        self.stop()
    }

    /// `fault` is why the interface lacks what was to be put there.
    fn tell_refused(&mut self, key: &Key, reason: &io::Error, fault: Option<&String>) {
        let mut text = reason.to_string();
        if let (Key::Interface(name) | Key::Bridge(name), io::ErrorKind::AddrNotAvailable) =
            (key, reason.kind())
        {
            text += &match fault {
                Some(fault) => format!("; {fault}"),
                // No command here: on a host that asks a metadata service itself it could cut that off.
                None => format!("; {name} lacks the address: `imdsd check --host` says what to do"),
            };
        }
        if self.refused.as_ref() != Some(&text) {
            warn!(at = %key, address = %self.address, reason = text, "can't listen; its options stay pending, trying again");
            self.refused = Some(text);
        }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Key::Listener(name) => write!(f, "listener '{name}'"),
            Key::Interface(name) => write!(f, "interface '{name}'"),
            Key::Bridge(name) => write!(f, "bridge '{name}'"),
            Key::Namespace(name) => write!(f, "network namespace '{name}'"),
        }
    }
}
