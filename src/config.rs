//! The configuration: a TOML file becomes a [`Config`] in which every setting is decided.
//!
//! One function, [`resolve`], knows all settings with their defaults and bounds; `config/imdsd.toml` says them to the
//! operator. Every fault is reported at once, with its line. Refused: unknown keys and tables, values out of their range,
//! two ways in on one address, a control endpoint that others than this host can reach. Not supported: settings from the
//! environment, and files that include others.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml_edit::{Document, Item, TableLike};

use crate::fault::{Fault, line_of};
use crate::instance::document::{self, near_miss};
use crate::instance::{
    Attachment, BridgePort, CredentialSource, Ground, Hold, Instance, InstanceId, InstanceState, Role, SourceAddress,
    interface_name_fault,
};
use crate::sigv4::Regions;

/// Where instances are kept once registered: where the Filesystem Hierarchy Standard puts what a daemon must not lose.
pub const STATE_DIRECTORY: &str = "/var/lib/imdsd";
/// Where token keys are kept: `/run` is empty after a reboot, and tokens from before it are void.
pub const RUNTIME_DIRECTORY: &str = "/run/imdsd";
/// A foreign `Host` is refused: it is how a page in a guest's browser reaches an address it was never given.
pub const REFUSE_REBINDING: bool = true;
/// Connections a listener holds at once: well above what one guest needs, well below the usual limit on descriptors.
pub const CONNECTIONS: usize = 1024;
/// The range of `guest.connections`: above, the number of ports of one peer is the limit.
pub const CONNECTIONS_RANGE: RangeInclusive<i64> = 2..=65_536;
/// Seconds for a request's head: guests are one hop away, and clients give up after one to five.
pub const HEAD_SECONDS: i64 = 5;
/// The range of `guest.head_seconds`: a limit below a second would drop guests that swap, one above a minute is none.
pub const HEAD_SECONDS_RANGE: RangeInclusive<i64> = 1..=60;
/// Where control calls are taken: one port above that of the demo's guest listener.
pub const CONTROL_LISTEN: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1339));
/// The access keys beside the configuration that names them.
pub const ACCESS_KEYS: &str = "/etc/imdsd/access-keys.toml";
/// The guest listener of the demo: the port that other stand-ins for EC2's metadata service took before.
pub const DEMO_PORT: u16 = 1338;
/// Where every client of EC2's metadata service asks, by IPv4.
pub const METADATA_IPV4: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(169, 254, 169, 254), 80);
/// Where every client of EC2's metadata service asks, by IPv6.
pub const METADATA_IPV6: SocketAddrV6 = SocketAddrV6::new(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), 80, 0, 0);
/// The range of `extra_hops`: with the highest hop limit on top, a packet's limit stays within its eight bits.
pub const EXTRA_HOPS_RANGE: RangeInclusive<i64> = 0..=191;
/// The operator's socket, in the runtime directory.
pub const ADMIN_SOCKET: &str = "admin.sock";
/// What the demo's document calls its listener.
pub const DEMO_LISTENER: &str = "demo";

/// Every setting, decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The file or directory of instance documents, if any.
    pub instances: Option<PathBuf>,
    /// Where instances are kept; `None` in the demo, which keeps nothing.
    pub state_directory: Option<PathBuf>,
    /// Where token keys are kept over a restart; `None` in the demo, whose tokens end with it.
    pub runtime_directory: Option<PathBuf>,
    /// How guests are served, whichever way they come in.
    pub guest: Guest,
    /// The ways in that stand on addresses of their own.
    pub listeners: Vec<Listener>,
    /// How guests are served that are recognised by where their packets come in; `None` where no guest is.
    pub interfaces: Option<Interfaces>,
    /// The control endpoint, if any.
    pub control: Option<Control>,
    /// The operator's socket; `None` in a demo that found no place for one.
    pub admin: Option<Admin>,
    /// Who signs identity documents and web identities.
    pub identity: Identity,
    /// What is logged, and how.
    pub log: Log,
}

/// `[identity]`: who signs identity documents and web identities.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// A key of the operator's; without one, imdsd makes and keeps its own in the state directory.
    pub own: Option<OwnIdentity>,
    /// The URL under which verifiers of web identities find the key set; empty where there are none.
    pub issuer: String,
}

/// A key of the operator's, with its certificate and those that went before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnIdentity {
    /// RSA, at least 2048 bits, in PEM.
    pub key: PathBuf,
    /// Of this key, in PEM.
    pub certificate: PathBuf,
    /// Certificates of earlier keys that stay published.
    pub retired: Vec<PathBuf>,
}

/// `[guest]`: how guests are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// Further values of `Host`, in lower case and without a port.
    pub allowed_hosts: Vec<String>,
    /// Whether requests are refused that a browser would send for a hostile page; EC2 serves them.
    pub refuse_rebinding: bool,
    /// The most connections at once, for each guest.
    pub connections: usize,
    /// The time a request's head may take, waiting on a kept-alive connection included.
    pub head_time: Duration,
}

/// `[[listener]]`: a way in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// What documents call it in `Imds.Attachments`.
    pub name: String,
    /// Its IPv4 address and port.
    pub ipv4: Option<SocketAddrV4>,
    /// Its IPv6 address and port.
    pub ipv6: Option<SocketAddrV6>,
    /// The one interface of the host that it hears; `None` for all of them.
    pub interface: Option<String>,
    /// Whether a guest there can have no other's address, so that addresses tell guests apart.
    pub anti_spoofed: bool,
    /// How many routers stand between it and its guests.
    pub extra_hops: u8,
}

/// `[interfaces]`: guests recognised by where their packets come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interfaces {
    /// Who puts the metadata addresses on the guests' interfaces.
    pub addresses: Addresses,
    /// The IPv4 address and port of the service.
    pub ipv4: SocketAddrV4,
    /// The IPv6 address and port of the service.
    pub ipv6: SocketAddrV6,
    /// How many routers stand between an interface and its guest.
    pub extra_hops: u8,
    /// Interfaces, bridges and network namespaces (by the name that documents call them) with other routers between.
    pub extra_hops_of: BTreeMap<String, u8>,
    /// Whether the addresses may be managed although the host itself seems to ask a metadata service there.
    pub shadow_host_metadata: bool,
}

impl Interfaces {
    /// How many routers stand between this interface, bridge or namespace and its guests.
    pub fn extra_hops(&self, name: &str) -> u8 {
        self.extra_hops_of.get(name).copied().unwrap_or(self.extra_hops)
    }
}

/// Who puts the metadata addresses on the guests' interfaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Addresses {
    /// Somebody else; what is missing is said, and nothing changed.
    #[default]
    Check,
    /// The daemon, which takes them away again when it ends.
    Manage,
}

impl Default for Interfaces {
    fn default() -> Self {
        Interfaces {
            addresses: Addresses::default(),
            ipv4: METADATA_IPV4,
            ipv6: METADATA_IPV6,
            extra_hops: 0,
            extra_hops_of: BTreeMap::new(),
            shadow_host_metadata: false,
        }
    }
}

/// `[control]`: the EC2 API for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// A loopback address and a port.
    pub listen: SocketAddr,
    /// Where the access keys come from.
    pub access_keys: KeySource,
    /// The regions a call may be signed for.
    pub regions: Regions,
}

/// `[admin]`: the operator's socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Where it is.
    pub socket: PathBuf,
    /// The numbers of the users who may call, beside root and the daemon's own.
    pub users: Vec<u32>,
}

/// Where the access keys for control calls come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// Keys that the demo prints.
    Demo,
    /// A file of keys.
    File(PathBuf),
}

/// `[log]`: what is logged, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// Lines for people or for machines.
    pub format: LogFormat,
    /// The least important level that is logged.
    pub level: LogLevel,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// A line of text.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// How much is logged; each level includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// What keeps the daemon from its work.
    Error,
    /// What an operator should look at.
    Warn,
    /// Starts, stops and changes.
    #[default]
    Info,
    /// What strangers can cause at will.
    Debug,
    /// Everything.
    Trace,
}

/// What `imdsd check` finds sound.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The configuration.
    pub config: Config,
    /// The instances of all documents.
    pub instances: Vec<Instance>,
    /// What is allowed and yet unlikely to be meant.
    pub warnings: Vec<Fault>,
}

impl Config {
    /// What `imdsd` serves without a configuration: one made-up instance on loopback, without root, keeping nothing.
    pub fn demo() -> Config {
        Config {
            instances: None,
            state_directory: None,
            runtime_directory: None,
            guest: Guest::default(),
            listeners: vec![Listener {
                name: DEMO_LISTENER.to_string(),
                ipv4: Some(SocketAddrV4::new(Ipv4Addr::LOCALHOST, DEMO_PORT)),
                ipv6: Some(SocketAddrV6::new(Ipv6Addr::LOCALHOST, DEMO_PORT, 0, 0)),
                interface: None,
                anti_spoofed: false,
                extra_hops: 0,
            }],
            interfaces: None,
            control: Some(Control { listen: CONTROL_LISTEN, access_keys: KeySource::Demo, regions: Regions::Any }),
            admin: None,
            identity: Identity::default(),
            log: Log::default(),
        }
    }

    /// Where imdsd keeps the key that it makes; `None` where nothing is kept.
    pub fn identity_directory(&self) -> Option<PathBuf> {
        self.state_directory.as_ref().map(|directory| directory.join("identity"))
    }
}

impl Default for Guest {
    fn default() -> Self {
        Guest {
            allowed_hosts: Vec::new(),
            refuse_rebinding: REFUSE_REBINDING,
            connections: CONNECTIONS,
            head_time: Duration::from_secs(HEAD_SECONDS as u64),
        }
    }
}

/// The instance that the demo serves.
pub fn demo_instance() -> Instance {
    const TEXT: &str = include_str!("../config/demo-instance.json");
    let mut instances = document::read(Path::new("demo-instance.json"), TEXT).expect("the built-in document is sound");
    instances.remove(0)
}

/// Reads a configuration file.
pub fn read(path: &Path) -> Result<Config, Vec<Fault>> {
    parse(path, &text_of(path)?)
}

/// Reads the text of a configuration; `file` stands in faults, and relative paths count from its directory.
pub fn parse(file: &Path, text: &str) -> Result<Config, Vec<Fault>> {
    let Resolved { config, faults, .. } = resolve(file, text)?;
    if faults.is_empty() { Ok(config) } else { Err(faults) }
}

/// Reads a configuration and everything that it names, and holds them against each other.
///
/// `keys` reads the file of access keys and returns its faults; `tree` says what of an instance its metadata can't show.
pub fn check(
    path: &Path,
    keys: impl FnOnce(&Path) -> Vec<Fault>,
    tree: impl Fn(&Instance) -> Vec<(String, String)>,
) -> Result<Checked, Vec<Fault>> {
    let text = text_of(path)?;
    let Resolved { config, listener_lines, mut faults } = resolve(path, &text)?;
    let of_config = faults.len();
    if let Some(Control { access_keys: KeySource::File(file), .. }) = &config.control {
        faults.extend(keys(file));
    }
    let (documents, wrong) = config.instances.as_deref().map(document::read_documents).unwrap_or_default();
    faults.extend(wrong);
    let Held { claims, faults: of_documents, mut warnings } = hold(&config, of_config == 0, &documents, tree);
    faults.extend(of_documents);
    if !faults.is_empty() {
        return Err(faults);
    }

    for (listener, line) in config.listeners.iter().zip(listener_lines) {
        if !claims.holds(&Ground::Listener(&listener.name)) {
            let message = format!("no document claims listener '{}': it answers nobody", listener.name);
            warnings.push(Fault { file: path.to_path_buf(), line, field: "listener.name".to_string(), message });
        }
    }
    Ok(Checked { config, instances: documents.into_iter().map(|document| document.instance).collect(), warnings })
}

/// Reads the documents that a configuration names once more, and holds them against it and each other.
pub fn read_instances(
    config: &Config,
    tree: impl Fn(&Instance) -> Vec<(String, String)>,
) -> Result<Vec<Instance>, Vec<Fault>> {
    let (documents, mut faults) = config.instances.as_deref().map(document::read_documents).unwrap_or_default();
    faults.extend(hold(config, true, &documents, tree).faults);
    match faults.is_empty() {
        true => Ok(documents.into_iter().map(|document| document.instance).collect()),
        false => Err(faults),
    }
}

/// What of an instance this configuration does not serve: fields and sentences. Who else claims its ways in is not looked at.
pub fn faults_of(instance: &Instance, config: &Config) -> Vec<(String, String)> {
    let attachments = instance.imds.attachments.iter().enumerate();
    let unserved = attachments
        .filter_map(|(index, attachment)| Some((format!("Imds.Attachments[{index}]"), unserved(attachment, config)?)));
    unserved.chain(without_issuer(instance, config).map(|message| (ROLE_SOURCE.to_string(), message))).collect()
}

const ROLE_SOURCE: &str = "Imds.Role.Source";

fn without_issuer(instance: &Instance, config: &Config) -> Option<String> {
    let web_identity = |role: &Role| matches!(role.source, CredentialSource::AssumeRoleWithWebIdentity(_));
    let is_without = instance.imds.role.as_ref().is_some_and(web_identity) && config.identity.issuer.is_empty();
    let message = "web identities need identity.issuer in the configuration: the URL of their key set";
    is_without.then(|| message.to_string())
}

/// Documents held against a configuration and each other.
struct Held<'a> {
    claims: Claims<'a>,
    faults: Vec<Fault>,
    warnings: Vec<Fault>,
}

fn hold<'a>(
    config: &Config,
    is_sound: bool,
    documents: &'a [document::Document],
    tree: impl Fn(&Instance) -> Vec<(String, String)>,
) -> Held<'a> {
    let (mut faults, mut warnings, mut claims) = (Vec::new(), Vec::new(), Claims::default());
    for document in documents {
        let id = &document.instance.instance_id;
        let at = |line, message| Fault { file: document.file.clone(), line, field: attachments_of(id), message };
        if document.instance.imds.attachments.is_empty() {
            warnings.push(at(document.line, "there is none, so nobody can reach this instance".to_string()));
        }
        let of_tree = tree(&document.instance).into_iter();
        faults.extend(
            of_tree.map(|(field, message)| Fault { field: format!("{id}: {field}"), ..at(document.line, message) }),
        );
        if let Some(message) = without_issuer(&document.instance, config) {
            faults.push(Fault { field: format!("{id}: {ROLE_SOURCE}"), ..at(document.line, message) });
        }
        if !matches!(document.instance.state, InstanceState::Pending | InstanceState::Running) {
            let message = format!("is {}, so nobody is answered for it", document.instance.state.as_str());
            warnings.push(Fault { field: format!("{id}: State"), ..at(document.line, message) });
        }
        for (attachment, line) in document.instance.imds.attachments.iter().zip(&document.attachment_lines) {
            // A faulty listener may be the very one that is missing.
            if is_sound && let Some(message) = unserved(attachment, config) {
                faults.push(at(*line, message));
            }
            if let Some((other, holder)) = claims.rival(attachment) {
                faults.push(at(*line, claimed_twice(attachment, other, holder)));
            }
            claims.add(attachment, document);
        }
    }
    Held { claims, faults, warnings }
}

fn attachments_of(id: &InstanceId) -> String {
    format!("{id}: Imds.Attachments")
}

/// Why nobody is served at this attachment under this configuration.
fn unserved(attachment: &Attachment, config: &Config) -> Option<String> {
    let name = match attachment {
        Attachment::Listener(name) => name,
        Attachment::SourceAddress(SourceAddress { listener, .. }) => listener,
        Attachment::Interface(name) | Attachment::BridgePort(BridgePort { bridge: name, .. })
            if config.listeners.iter().any(|listener| listener.interface.as_ref() == Some(name)) =>
        {
            return Some(format!("a listener of the configuration hears {name} too"));
        }
        Attachment::Interface(_) | Attachment::BridgePort(_) | Attachment::NetworkNamespace(_) => {
            let message = format!("{attachment} needs the table [interfaces] in the configuration, which may be empty");
            return config.interfaces.is_none().then_some(message);
        }
    };
    let Some(listener) = config.listeners.iter().find(|listener| listener.name == *name) else {
        let names: Vec<&str> = config.listeners.iter().map(|listener| listener.name.as_str()).collect();
        let hint = near_miss(name, &names).map(|name| format!("; did you mean '{name}'?")).unwrap_or_default();
        return Some(format!("the configuration has no listener '{name}'{hint}"));
    };
    match (attachment, listener.anti_spoofed) {
        (Attachment::SourceAddress(_), false) => Some(format!(
            "an address tells nobody apart where guests can choose theirs; where something keeps them from it, set \
             anti_spoofed = true for listener '{name}'"
        )),
        (Attachment::Listener(_), true) => {
            Some(format!("listener '{name}' is anti_spoofed: attach the instance by SourceAddress"))
        }
        _ => None,
    }
}

/// Whose each way in is, as far as the documents are read.
#[derive(Default)]
struct Claims<'a>(BTreeMap<Ground<'a>, Vec<(&'a Attachment, Hold, &'a document::Document)>>);

impl<'a> Claims<'a> {
    fn add(&mut self, attachment: &'a Attachment, document: &'a document::Document) {
        for (ground, hold) in attachment.grounds() {
            self.0.entry(ground).or_default().push((attachment, hold, document));
        }
    }

    /// The first to claim what can't be shared with this attachment.
    fn rival(&self, attachment: &'a Attachment) -> Option<(&'a Attachment, &'a document::Document)> {
        attachment.grounds().iter().find_map(|(ground, hold)| {
            let mut holders = self.0.get(ground)?.iter();
            let rival = holders.find(|(_, other, _)| *hold == Hold::Alone || *other == Hold::Alone)?;
            Some((rival.0, rival.2))
        })
    }

    fn holds(&self, ground: &Ground<'a>) -> bool {
        self.0.contains_key(ground)
    }
}

fn claimed_twice(attachment: &Attachment, other: &Attachment, holder: &document::Document) -> String {
    let document::Document { instance, file, line, .. } = holder;
    let what = if attachment == other { "too".to_string() } else { format!("as {other}") };
    let id = &instance.instance_id;
    format!("{attachment} is claimed by {id} {what} ({}:{line}); neither would be served there", file.display())
}

fn text_of(path: &Path) -> Result<String, Vec<Fault>> {
    std::fs::read_to_string(path).map_err(|reason| vec![Fault::of_file(path, format_args!("can't be read: {reason}"))])
}

/// A configuration in which defaults stand for what is faulty, and the faults.
struct Resolved {
    config: Config,
    listener_lines: Vec<usize>,
    faults: Vec<Fault>,
}

/// Decides every setting. Fails only when the text is not TOML.
fn resolve(file: &Path, text: &str) -> Result<Resolved, Vec<Fault>> {
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(error) => {
            let line = error.span().map_or(0, |span| line_of(text, span.start));
            let message = format!("not TOML: {}", error.message());
            return Err(vec![Fault { file: file.to_path_buf(), line, field: String::new(), message }]);
        }
    };
    let mut faults = Faults { file, text, list: Vec::new() };
    let directory = file.parent().unwrap_or(Path::new(""));
    let path = |text: &str| match text {
        "" => Err("a path can't be empty".to_string()),
        text => Ok(directory.join(text)),
    };

    let mut root = Section { name: "", table: document.as_table(), start: 0, known: Vec::new() };
    let instances = root.parsed("instances", &mut faults, path);
    let state_directory = root.parsed("state_directory", &mut faults, path).unwrap_or(STATE_DIRECTORY.into());
    let runtime_directory = root.parsed("runtime_directory", &mut faults, path).unwrap_or(RUNTIME_DIRECTORY.into());

    let mut guest = Guest::default();
    if let Some(mut section) = root.table("guest", &mut faults) {
        guest.allowed_hosts = section.each("allowed_hosts", &mut faults, host_name).unwrap_or_default();
        guest.refuse_rebinding = section.boolean("refuse_rebinding", &mut faults).unwrap_or(REFUSE_REBINDING);
        let connections = section.integer("connections", CONNECTIONS_RANGE, "connections", &mut faults);
        guest.connections = connections.map_or(CONNECTIONS, |count| count as usize);
        let seconds = section.integer("head_seconds", HEAD_SECONDS_RANGE, "seconds", &mut faults);
        guest.head_time = Duration::from_secs(seconds.unwrap_or(HEAD_SECONDS) as u64);
        section.finish(&mut faults);
    }

    let mut taken = Taken::default();
    let (mut listeners, mut listener_lines) = (Vec::<Listener>::new(), Vec::new());
    let root_has_interfaces = root.has("interfaces");
    for mut section in root.tables("listener", &mut faults) {
        let name = section.required("name", &mut faults, |name| {
            let name = listener_name(name)?;
            match listeners.iter().any(|listener| listener.name == name) {
                true => Err(format!("another listener is named '{name}'")),
                false => Ok(name),
            }
        });
        let owner = name.as_deref().map_or("a listener".to_string(), |name| format!("listener '{name}'"));
        let ipv4 = section.parsed("ipv4", &mut faults, |text| {
            let address: SocketAddrV4 = text.parse().map_err(|_| no_address(text, "an IPv4", "127.0.0.1:1338"))?;
            taken.take(address.into(), &owner).map(|()| address)
        });
        let ipv6 = section.parsed("ipv6", &mut faults, |text| {
            let address: SocketAddrV6 = text.parse().map_err(|_| no_address(text, "an IPv6", "[::1]:1338"))?;
            taken.take(address.into(), &owner).map(|()| address)
        });
        if !section.has("ipv4") && !section.has("ipv6") {
            section.missing("ipv4", "a listener has ipv4, ipv6 or both", &mut faults);
        }
        let interface = section.parsed("interface", &mut faults, |name| match interface_name_fault(name) {
            None => Ok(name.to_string()),
            Some(fault) => Err(fault),
        });
        let anti_spoofed = section.boolean("anti_spoofed", &mut faults).unwrap_or(false);
        // Guests reach every address of the host by whatever interface they have.
        let reached = [ipv4.map(SocketAddr::from), ipv6.map(SocketAddr::from)].into_iter().flatten();
        let is_reached = reached.into_iter().any(|address| !address.ip().is_loopback());
        if is_reached && !section.has("interface") {
            if anti_spoofed {
                let message = "goes with interface: what comes in by others is not kept from choosing its address";
                section.fault("anti_spoofed", message, &mut faults);
            } else if root_has_interfaces {
                let message = "beside [interfaces], a listener that is not on loopback names the interface that it hears: \
                               guests on others would be answered there as its instance";
                section.missing("interface", message, &mut faults);
            }
        }
        let extra_hops = section.integer("extra_hops", EXTRA_HOPS_RANGE, "routers", &mut faults).unwrap_or(0) as u8;
        if let Some(name) = name {
            listeners.push(Listener { name, ipv4, ipv6, interface, anti_spoofed, extra_hops });
            listener_lines.push(faults.line(section.start));
        }
        section.finish(&mut faults);
    }

    let mut interfaces = None;
    if let Some(mut section) = root.table("interfaces", &mut faults) {
        let addresses = section.word("addresses", &ADDRESSES, &mut faults).unwrap_or_default();
        let mut decided = Interfaces { addresses, ..Interfaces::default() };
        if let Some(address) = section.parsed("ipv4", &mut faults, |text| {
            text.parse().map_err(|_| no_address(text, "an IPv4", &METADATA_IPV4.to_string()))
        }) {
            decided.ipv4 = address;
        }
        if let Some(address) = section.parsed("ipv6", &mut faults, |text| {
            text.parse().map_err(|_| no_address(text, "an IPv6", &METADATA_IPV6.to_string()))
        }) {
            decided.ipv6 = address;
        }
        // A socket that hears every interface would answer for those that are to have their own.
        for (key, address) in [("ipv4", SocketAddr::from(decided.ipv4)), ("ipv6", decided.ipv6.into())] {
            let unfit = match address.port() == 0 || address.ip().is_unspecified() || address.ip().is_loopback() {
                true => Err(format!("guests can't reach {address}; this is an address of the interface and a port")),
                false => taken.take(address, "[interfaces]"),
            };
            match unfit {
                Err(message) if section.has(key) => section.fault(key, message, &mut faults),
                Err(message) => section.missing(key, &message, &mut faults),
                Ok(()) => {}
            }
        }
        decided.extra_hops = section.integer("extra_hops", EXTRA_HOPS_RANGE, "routers", &mut faults).unwrap_or(0) as u8;
        decided.extra_hops_of = section.integers("extra_hops_of", EXTRA_HOPS_RANGE, "routers", &mut faults);
        decided.shadow_host_metadata = section.boolean("shadow_host_metadata", &mut faults).unwrap_or(false);
        section.finish(&mut faults);
        interfaces = Some(decided);
    }
    if !root.has("listener") && !root.has("interfaces") {
        root.missing(
            "listener",
            "there must be a [[listener]] or the table [interfaces], or nothing is served",
            &mut faults,
        );
    }

    let mut control = None;
    if let Some(mut section) = root.table("control", &mut faults) {
        let listen = section.parsed("listen", &mut faults, |text| {
            let address = text.parse().map_err(|_| no_address(text, "an IP", "127.0.0.1:1339"))?;
            control_address(address)?;
            taken.take(address, "control.listen").map(|()| address)
        });
        let access_keys = section.parsed("access_keys", &mut faults, path).unwrap_or(ACCESS_KEYS.into());
        let regions = section.each("regions", &mut faults, region).map_or(Regions::Any, Regions::These);
        if regions == Regions::These(Vec::new()) {
            section.fault("regions", "no call could be signed; leave the key out to allow any region", &mut faults);
        }
        control = Some(Control {
            listen: listen.unwrap_or(CONTROL_LISTEN),
            access_keys: KeySource::File(access_keys),
            regions,
        });
        section.finish(&mut faults);
    }

    let mut admin = Admin { socket: runtime_directory.join(ADMIN_SOCKET), users: Vec::new() };
    if let Some(mut section) = root.table("admin", &mut faults) {
        admin.socket = section.parsed("socket", &mut faults, path).unwrap_or(admin.socket);
        admin.users = section.users("users", &mut faults);
        section.finish(&mut faults);
    }

    let mut identity = Identity::default();
    if let Some(mut section) = root.table("identity", &mut faults) {
        let key = section.parsed("key", &mut faults, path);
        let certificate = section.parsed("certificate", &mut faults, path);
        let retired = section.each("retired", &mut faults, |text| Ok(path(text)?.to_string_lossy().into_owned()));
        match (section.has("key"), section.has("certificate")) {
            (true, false) => section.missing("certificate", "a key of your own needs its certificate", &mut faults),
            (false, true) => section.missing("key", "a certificate of your own needs its key", &mut faults),
            (false, false) if section.has("retired") => {
                section.fault("retired", "goes with a key of your own; imdsd keeps its own ones itself", &mut faults);
            }
            _ => {}
        }
        if let (Some(key), Some(certificate)) = (key, certificate) {
            let retired = retired.unwrap_or_default().into_iter().map(PathBuf::from).collect();
            identity.own = Some(OwnIdentity { key, certificate, retired });
        }
        identity.issuer = section.parsed("issuer", &mut faults, issuer).unwrap_or_default();
        section.finish(&mut faults);
    }

    let mut log = Log::default();
    if let Some(mut section) = root.table("log", &mut faults) {
        log.format = section.word("format", &LOG_FORMATS, &mut faults).unwrap_or_default();
        log.level = section.word("level", &LOG_LEVELS, &mut faults).unwrap_or_default();
        section.finish(&mut faults);
    }
    root.finish(&mut faults);

    let config = Config {
        instances,
        state_directory: Some(state_directory),
        runtime_directory: Some(runtime_directory),
        guest,
        listeners,
        interfaces,
        control,
        admin: Some(admin),
        identity,
        log,
    };
    let mut faults = faults.list;
    faults.sort_by_key(|fault| fault.line);
    Ok(Resolved { config, listener_lines, faults })
}

const ADDRESSES: [(&str, Addresses); 2] = [("check", Addresses::Check), ("manage", Addresses::Manage)];

const LOG_FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];

const LOG_LEVELS: [(&str, LogLevel); 5] = [
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

fn listener_name(text: &str) -> Result<String, String> {
    let letters = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    match letters && (1..=64).contains(&text.len()) {
        true => Ok(text.to_string()),
        false => Err(format!("a listener's name is 1 to 64 letters, digits and ._-, not '{}'", text.escape_debug())),
    }
}

/// Verifiers compare it byte for byte, and look for the key set below it.
fn issuer(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or_default();
    let letters = rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:/[]".contains(&b));
    match letters && !rest.is_empty() && !rest.ends_with('/') {
        true => Ok(text.to_string()),
        false => {
            Err(format!("'{}' is no URL such as https://imds.example.com (no slash at its end)", text.escape_debug()))
        }
    }
}

/// A name or an address, as it stands in `Host` in front of the port.
fn host_name(text: &str) -> Result<String, String> {
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_address = bracketed.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    let letters = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    match is_address || (letters && (1..=253).contains(&text.len())) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err(format!("'{}' is not a host name without a port", text.escape_debug())),
    }
}

fn region(text: &str) -> Result<String, String> {
    let letters = text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    match letters && (1..=64).contains(&text.len()) {
        true => Ok(text.to_string()),
        false => Err(format!("'{}' is not a region such as us-east-1", text.escape_debug())),
    }
}

fn no_address(text: &str, family: &str, example: &str) -> String {
    format!("'{}' is not {family} address and port such as {example}", text.escape_debug())
}

fn control_address(address: SocketAddr) -> Result<(), String> {
    match address.ip().is_loopback() {
        true => Ok(()),
        false => Err(format!(
            "{} is not a loopback address; signed calls travel in plain HTTP here, so others must not reach it (listen on \
             127.0.0.1 or [::1], and put a proxy with TLS in front)",
            address.ip()
        )),
    }
}

/// The addresses that are spoken for, with whose they are.
#[derive(Default)]
struct Taken(Vec<(SocketAddr, String)>);

impl Taken {
    fn take(&mut self, address: SocketAddr, owner: &str) -> Result<(), String> {
        let before = self.0.iter().find(|(other, _)| collide(*other, address)).cloned();
        self.0.push((address, owner.to_string()));
        match before {
            Some((other, owner)) => Err(format!("{other} belongs to {owner} already")),
            None => Ok(()),
        }
    }
}

/// Port 0 is any free port, and the unspecified address is every address of its family.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let everywhere = |address: IpAddr| address.is_unspecified();
    let same_address = one == other || everywhere(one.ip()) || everywhere(other.ip());
    one.port() != 0 && one.port() == other.port() && one.is_ipv4() == other.is_ipv4() && same_address
}

/// The faults found so far in one file.
struct Faults<'a> {
    file: &'a Path,
    text: &'a str,
    list: Vec<Fault>,
}

impl Faults<'_> {
    fn line(&self, offset: usize) -> usize {
        line_of(self.text, offset)
    }

    fn add(&mut self, offset: usize, field: String, message: impl fmt::Display) {
        let fault =
            Fault { file: self.file.to_path_buf(), line: self.line(offset), field, message: message.to_string() };
        self.list.push(fault);
    }
}

/// A table of the file, being read. It remembers what it was asked for, so that in the end it can tell what nobody asked
/// for.
struct Section<'t> {
    name: &'static str,
    table: &'t dyn TableLike,
    start: usize,
    known: Vec<&'static str>,
}

impl<'t> Section<'t> {
    /// A string that `read` accepts.
    fn parsed<T>(
        &mut self,
        key: &'static str,
        faults: &mut Faults<'_>,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let item = self.item(key)?;
        let Some(text) = item.as_str() else { return self.wrong_type(key, "a string", item, faults) };
        read(text).map_err(|message| self.fault(key, message, faults)).ok()
    }

    fn required<T>(
        &mut self,
        key: &'static str,
        faults: &mut Faults<'_>,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        if !self.has(key) {
            self.missing(key, "is missing", faults);
        }
        self.parsed(key, faults, read)
    }

    /// An array of different strings, each of which `read` accepts.
    fn each(
        &mut self,
        key: &'static str,
        faults: &mut Faults<'_>,
        read: impl Fn(&str) -> Result<String, String>,
    ) -> Option<Vec<String>> {
        let item = self.item(key)?;
        let Some(array) = item.as_array() else { return self.wrong_type(key, "an array of strings", item, faults) };
        let mut values = Vec::new();
        for element in array {
            let value = match element.as_str() {
                Some(text) => read(text).and_then(|value| match values.contains(&value) {
                    true => Err(format!("'{value}' stands twice")),
                    false => Ok(value),
                }),
                None => Err(format!("each of these is a string, not {}", with_article(element.type_name()))),
            };
            match value {
                Ok(value) => values.push(value),
                Err(message) => faults.add(start_of(element.span()), self.field(key), message),
            }
        }
        // An array that is empty for its faults alone is not an empty array.
        (!values.is_empty() || array.is_empty()).then_some(values)
    }

    /// An array of user numbers.
    fn users(&mut self, key: &'static str, faults: &mut Faults<'_>) -> Vec<u32> {
        let Some(item) = self.item(key) else { return Vec::new() };
        let Some(array) = item.as_array() else {
            self.wrong_type::<()>(key, "an array of numbers", item, faults);
            return Vec::new();
        };
        let mut users = Vec::new();
        for element in array {
            match element.as_integer().and_then(|number| u32::try_from(number).ok()) {
                Some(user) => users.push(user),
                None => {
                    let message = "each of these is a user's number, as `id -u NAME` prints it";
                    faults.add(start_of(element.span()), self.field(key), message);
                }
            }
        }
        users
    }

    fn word<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)], faults: &mut Faults<'_>) -> Option<T> {
        self.parsed(key, faults, |text| {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let found = words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
            found.ok_or_else(|| format!("this is one of {}, not '{}'", known.join(", "), text.escape_debug()))
        })
    }

    fn integer(
        &mut self,
        key: &'static str,
        range: RangeInclusive<i64>,
        unit: &str,
        faults: &mut Faults<'_>,
    ) -> Option<i64> {
        let item = self.item(key)?;
        let Some(number) = item.as_integer() else { return self.wrong_type(key, "an integer", item, faults) };
        if !range.contains(&number) {
            self.fault(key, format!("this is {} to {} {unit}, not {number}", range.start(), range.end()), faults);
            return None;
        }
        Some(number)
    }

    /// A table of integers under names of the operator's.
    fn integers(
        &mut self,
        key: &'static str,
        range: RangeInclusive<i64>,
        unit: &str,
        faults: &mut Faults<'_>,
    ) -> BTreeMap<String, u8> {
        let Some(item) = self.item(key) else { return BTreeMap::new() };
        let Some(table) = item.as_table_like() else {
            self.wrong_type::<()>(key, "a table of numbers", item, faults);
            return BTreeMap::new();
        };
        let mut numbers = BTreeMap::new();
        for (name, item) in table.iter() {
            match item.as_integer().filter(|number| range.contains(number)) {
                Some(number) => drop(numbers.insert(name.to_string(), number as u8)),
                None => {
                    let message = format!("'{}' has {} to {} {unit}", name.escape_debug(), range.start(), range.end());
                    faults.add(start_of(item.span()), self.field(key), message);
                }
            }
        }
        numbers
    }

    fn boolean(&mut self, key: &'static str, faults: &mut Faults<'_>) -> Option<bool> {
        let item = self.item(key)?;
        item.as_bool().or_else(|| self.wrong_type(key, "true or false", item, faults))
    }

    fn table(&mut self, key: &'static str, faults: &mut Faults<'_>) -> Option<Section<'t>> {
        let item = self.item(key)?;
        let Some(table) = item.as_table_like() else {
            return self.wrong_type(key, &format!("a table, [{key}]"), item, faults);
        };
        Some(Section { name: key, table, start: self.start_of(key), known: Vec::new() })
    }

    fn tables(&mut self, key: &'static str, faults: &mut Faults<'_>) -> Vec<Section<'t>> {
        let Some(item) = self.item(key) else { return Vec::new() };
        let Some(tables) = item.as_array_of_tables() else {
            self.wrong_type::<()>(key, &format!("a list of tables, each headed [[{key}]]"), item, faults);
            return Vec::new();
        };
        let section = |table: &'t toml_edit::Table| Section {
            name: key,
            table,
            start: start_of(table.span()),
            known: Vec::new(),
        };
        tables.iter().map(section).collect()
    }

    /// Reports every key that was never asked for.
    fn finish(self, faults: &mut Faults<'_>) {
        for (key, item) in self.table.iter().filter(|(key, _)| !self.known.contains(key)) {
            let hint = match near_miss(key, &self.known) {
                Some(meant) => format!("did you mean {meant}?"),
                None => format!("known here: {}", self.known.join(", ")),
            };
            let offset = self.table.key(key).and_then(|key| key.span()).or(item.span());
            faults.add(start_of(offset), self.field(key), format_args!("is not known; {hint}"));
        }
    }

    fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    fn item(&mut self, key: &'static str) -> Option<&'t Item> {
        self.known.push(key);
        self.table.get(key)
    }

    fn missing(&self, key: &str, message: &str, faults: &mut Faults<'_>) {
        faults.add(self.start, self.field(key), message);
    }

    fn fault(&self, key: &str, message: impl fmt::Display, faults: &mut Faults<'_>) {
        faults.add(self.start_of(key), self.field(key), message);
    }

    fn wrong_type<T>(&self, key: &str, right: &str, found: &Item, faults: &mut Faults<'_>) -> Option<T> {
        self.fault(key, format_args!("this is {right}, not {}", with_article(found.type_name())), faults);
        None
    }

    fn start_of(&self, key: &str) -> usize {
        start_of(self.table.key(key).and_then(|key| key.span()))
    }

    fn field(&self, key: &str) -> String {
        match self.name {
            "" => key.escape_debug().to_string(),
            name => format!("{name}.{}", key.escape_debug()),
        }
    }
}

fn start_of(span: Option<std::ops::Range<usize>>) -> usize {
    span.map_or(0, |span| span.start)
}

fn with_article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {noun}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTENER: &str = "[[listener]]\nname = \"a\"\nipv4 = \"127.0.0.1:1338\"\n";

    fn parse_text(text: &str) -> Result<Config, Vec<Fault>> {
        parse(Path::new("/etc/imdsd/imdsd.toml"), text)
    }

    /// The faults of a text, without the file in front.
    fn refused(text: &str) -> Vec<String> {
        let faults = parse_text(text).expect_err(text);
        faults.iter().map(|fault| fault.to_string().replace("/etc/imdsd/imdsd.toml:", "")).collect()
    }

    #[test]
    fn a_listener_is_all_that_a_configuration_must_have() {
        let config = parse_text(LISTENER).unwrap();
        assert_eq!(
            config,
            Config {
                instances: None,
                state_directory: Some(STATE_DIRECTORY.into()),
                runtime_directory: Some(RUNTIME_DIRECTORY.into()),
                guest: Guest::default(),
                listeners: vec![Listener {
                    name: "a".to_string(),
                    ipv4: Some("127.0.0.1:1338".parse().unwrap()),
                    ipv6: None,
                    interface: None,
                    anti_spoofed: false,
                    extra_hops: 0,
                }],
                interfaces: None,
                control: None,
                admin: Some(Admin { socket: "/run/imdsd/admin.sock".into(), users: Vec::new() }),
                identity: Identity::default(),
                log: Log::default(),
            }
        );
    }

    #[test]
    fn the_shipped_configuration_says_the_defaults() {
        let shipped = parse_text(include_str!("../config/imdsd.toml")).unwrap();
        // What has no default, and the table whose default is to be absent.
        let text = "instances = \"instances.d\"\n[control]\n[interfaces]\n[[listener]]\nname = \"loopback\"\n\
                    ipv4 = \"127.0.0.1:1338\"\nipv6 = \"[::1]:1338\"\n";
        assert_eq!(shipped, parse_text(text).unwrap());
    }

    #[test]
    fn the_shipped_configuration_names_every_setting() {
        let shipped = include_str!("../config/imdsd.toml");
        let document = Document::parse(shipped).unwrap();
        let mut named = Vec::new();
        for (key, item) in document.iter() {
            named.push(key.to_string());
            let tables: Vec<&dyn TableLike> = match (item.as_table_like(), item.as_array_of_tables()) {
                (Some(table), _) => vec![table],
                (None, Some(tables)) => tables.iter().map(|table| table as &dyn TableLike).collect(),
                (None, None) => vec![],
            };
            named.extend(tables.iter().flat_map(|table| table.iter().map(|(below, _)| format!("{key}.{below}"))));
        }
        // Every table with a key that nobody knows: the refusals list what is known.
        let unknown = "xxxxxxxx = 1\n[guest]\nxxxxxxxx = 1\n[[listener]]\nname = \"a\"\nipv4 = \"127.0.0.1:0\"\n\
                       xxxxxxxx = 1\n[control]\nxxxxxxxx = 1\n[admin]\nxxxxxxxx = 1\n[log]\nxxxxxxxx = 1\n[interfaces]\nxxxxxxxx = 1\n";
        for fault in parse_text(unknown).unwrap_err() {
            let table = fault.field.strip_suffix("xxxxxxxx").unwrap();
            for known in fault.message.strip_prefix("is not known; known here: ").unwrap().split(", ") {
                let setting = format!("{table}{known}");
                // Settings whose default can't be written down stand in comments.
                let written = named.contains(&setting)
                    || (setting == "control.regions" && shipped.contains("`regions ="))
                    || (setting == "interfaces.extra_hops_of" && shipped.contains("`extra_hops_of ="))
                    || (setting == "listener.interface" && shipped.contains("`interface ="));
                assert!(written, "config/imdsd.toml does not name {setting}");
            }
        }
    }

    #[test]
    fn every_shipped_file_is_accepted() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
        let (mut configurations, mut documents) = (0, 0);
        for folder in [directory.clone(), directory.join("instances")] {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.extension().and_then(|extension| extension.to_str()) {
                    Some("toml") if path.ends_with("access-keys.toml") => {}
                    Some("toml") => {
                        read(&path).unwrap_or_else(|faults| panic!("{faults:#?}"));
                        configurations += 1;
                    }
                    Some("json") => {
                        document::read_path(&path).unwrap_or_else(|faults| panic!("{faults:#?}"));
                        documents += 1;
                    }
                    _ => assert!(path.is_dir(), "{} is read by no test", path.display()),
                }
            }
        }
        assert!(configurations >= 2 && documents >= 3);

        let checked =
            check(&directory.join("sidecar.toml"), |_| panic!("a sidecar has no control endpoint"), |_| Vec::new())
                .unwrap();
        assert_eq!((checked.instances.len(), checked.warnings), (1, vec![]));
    }

    #[test]
    fn the_demo_is_one_instance_on_one_listener() {
        let (config, instance) = (Config::demo(), demo_instance());
        assert_eq!(instance.imds.attachments, [Attachment::Listener(config.listeners[0].name.clone())]);
        assert_eq!(instance.region(), "us-east-1");
        assert_eq!(instance.metadata_options, crate::instance::MetadataOptions::default());
        assert!(config.control.unwrap().listen.ip().is_loopback());
        let role = instance.imds.role.unwrap();
        let crate::instance::CredentialSource::Static(source) = role.source else { panic!("the demo fetches nothing") };
        assert_ne!(source.v1.unwrap().access_key_id, source.v2.access_key_id);
    }

    #[test]
    fn values_are_read() {
        let config = parse_text(
            r#"
            instances = "one.json"
            state_directory = "/srv/state"
            runtime_directory = "run"
            guest = { allowed_hosts = ["Metadata.Internal", "[fd00::1]"], refuse_rebinding = false, connections = 65536,
                      head_seconds = 60 }
            control.listen = "[::1]:0"
            control.access_keys = "../keys.toml"
            control.regions = ["us-east-1", "basement"]
            log.format = "json"
            log.level = "trace"
            [[listener]]
            name = "a"
            ipv4 = "0.0.0.0:80"
            [[listener]]
            name = "b"
            ipv6 = "[::]:80"
            [[listener]]
            name = "c"
            ipv4 = "127.0.0.1:0"
            [[listener]]
            name = "d"
            ipv4 = "127.0.0.1:0"
            "#,
        )
        .unwrap();
        assert_eq!(config.instances, Some("/etc/imdsd/one.json".into()));
        assert_eq!(config.state_directory, Some("/srv/state".into()));
        assert_eq!(config.runtime_directory, Some("/etc/imdsd/run".into()));
        assert_eq!(config.guest.allowed_hosts, ["metadata.internal", "[fd00::1]"]);
        assert!(!config.guest.refuse_rebinding);
        assert_eq!((config.guest.connections, config.guest.head_time), (65_536, Duration::from_secs(60)));
        assert_eq!(config.listeners.len(), 4);
        let control = config.control.unwrap();
        assert_eq!(control.access_keys, KeySource::File("/etc/imdsd/../keys.toml".into()));
        assert!(control.regions.allow("basement") && !control.regions.allow("us-east-2"));
        assert!(Regions::Any.allow("anywhere"));
        assert_eq!(config.log, Log { format: LogFormat::Json, level: LogLevel::Trace });
    }

    #[test]
    fn one_fault_is_one_line() {
        for (text, expected) in [
            ("listener", "1: not TOML: key with no value, expected `=`"),
            ("\n[guest\n", "2: not TOML: unclosed table, expected `]`"),
            ("\nlog = 1\n", "2: log: this is a table, [log], not an integer"),
            ("instances = 5\n", "1: instances: this is a string, not an integer"),
            ("instances = \"\"\n", "1: instances: a path can't be empty"),
            ("state_directory = \"\"\n", "1: state_directory: a path can't be empty"),
            ("runtime_directory = []\n", "1: runtime_directory: this is a string, not an array"),
            ("instance = \"x\"\n", "1: instance: is not known; did you mean instances?"),
            ("colour = 1\n", "1: colour: is not known; known here: instances, state_directory, runtime_directory,"),
            ("[guset]\n", "1: guset: is not known; known here: instances, state_directory, runtime_directory, guest,"),
            ("[identity]\nkey = \"k.pem\"\n", "1: identity.certificate: a key of your own needs its certificate"),
            ("[identity]\ncertificate = \"c.pem\"\n", "1: identity.key: a certificate of your own needs its key"),
            ("[identity]\nretired = []\n", "2: identity.retired: goes with a key of your own"),
            ("[identity]\nissuer = \"imds.example.com\"\n", "2: identity.issuer: 'imds.example.com' is no URL"),
            ("[identity]\nissuer = \"https://imds.example.com/\"\n", "2: identity.issuer: "),
            ("[guest]\nconnections = 0\n", "2: guest.connections: this is 2 to 65536 connections, not 0"),
            ("[guest]\nconnections = 65537\n", "2: guest.connections: this is 2 to 65536 connections, not 65537"),
            ("[guest]\nconnections = \"9\"\n", "2: guest.connections: this is an integer, not a string"),
            ("[guest]\nhead_seconds = 0\n", "2: guest.head_seconds: this is 1 to 60 seconds, not 0"),
            ("[guest]\nhead_seconds = 61\n", "2: guest.head_seconds: this is 1 to 60 seconds, not 61"),
            ("[guest]\nhead_seconds = 1.5\n", "2: guest.head_seconds: this is an integer, not a float"),
            ("[guest]\nhead_second = 1\n", "2: guest.head_second: is not known; did you mean head_seconds?"),
            ("[guest]\nrefuse_rebinding = \"no\"\n", "2: guest.refuse_rebinding: this is true or false, not a string"),
            ("[guest]\nallowed_hosts = \"a\"\n", "2: guest.allowed_hosts: this is an array of strings, not a string"),
            ("[guest]\nallowed_hosts = [\n1]\n", "3: guest.allowed_hosts: each of these is a string, not an integer"),
            ("[guest]\nallowed_hosts = [\"a:80\"]\n", "2: guest.allowed_hosts: 'a:80' is not a host name without a"),
            ("[guest]\nallowed_hosts = [\"\"]\n", "2: guest.allowed_hosts: '' is not a host name without a port"),
            ("[guest]\nallowed_hosts = [\"*\"]\n", "2: guest.allowed_hosts: '*' is not a host name without a port"),
            ("[guest]\nallowed_hosts = [\"a\",\n\"A\"]\n", "3: guest.allowed_hosts: 'a' stands twice"),
            ("[control]\nlisten = \"localhost:80\"\n", "2: control.listen: 'localhost:80' is not an IP address and"),
            ("[control]\nlisten = \"127.0.0.1\"\n", "2: control.listen: '127.0.0.1' is not an IP address and port"),
            ("[control]\nlisten = \"127.0.0.1:1338\"\n", "2: control.listen: 127.0.0.1:1338 belongs to listener 'a'"),
            ("[control]\naccess_keys = \"\"\n", "2: control.access_keys: a path can't be empty"),
            ("[control]\nregions = []\n", "2: control.regions: no call could be signed; leave the key out to allow"),
            ("[control]\nregions = [\"US\"]\n", "2: control.regions: 'US' is not a region such as us-east-1"),
            ("[[control]]\n", "1: control: this is a table, [control], not an array of tables"),
            ("[admin]\nsocket = \"\"\n", "2: admin.socket: a path can't be empty"),
            ("[admin]\nusers = \"root\"\n", "2: admin.users: this is an array of numbers, not a string"),
            ("[admin]\nusers = [\n\"root\"]\n", "3: admin.users: each of these is a user's number, as `id -u NAME`"),
            ("[admin]\nusers = [-1]\n", "2: admin.users: each of these is a user's number"),
            ("[admin]\nuser = [0]\n", "2: admin.user: is not known; did you mean users?"),
            ("[log]\nformat = \"xml\"\n", "2: log.format: this is one of text, json, not 'xml'"),
            ("[log]\nlevel = \"INFO\"\n", "2: log.level: this is one of error, warn, info, debug, trace, not 'INFO'"),
            ("[log]\nlevel = 3\n", "2: log.level: this is a string, not an integer"),
            ("[[listener]]\nipv4 = \"127.0.0.1:1\"\n", "1: listener.name: is missing"),
            ("[[listener]]\nname = \"b\"\n", "1: listener.ipv4: a listener has ipv4, ipv6 or both"),
            ("[[listener]]\nname = \"b\"\nipv4 = \"[::1]:1\"\n", "3: listener.ipv4: '[::1]:1' is not an IPv4 address"),
            ("[[listener]]\nname = \"b\"\nipv6 = \"127.0.0.1:1\"\n", "3: listener.ipv6: '127.0.0.1:1' is not an IPv6"),
            ("[[listener]]\nname = \"b\"\nipv4 = \"127.0.0.1:65536\"\n", "3: listener.ipv4: '127.0.0.1:65536' is not"),
            ("[[listener]]\nname = \"b c\"\nipv4 = \"127.0.0.1:1\"\n", "2: listener.name: a listener's name is 1 to"),
            ("[[listener]]\nname = \"\"\nipv4 = \"127.0.0.1:1\"\n", "2: listener.name: a listener's name is 1 to 64"),
            ("[[listener]]\nname = \"b\"\nipv4 = \"127.0.0.1:1\"\nip = 1\n", "4: listener.ip: is not known; known"),
        ] {
            // The sound listener comes last: after it, a `key = value` would be its own.
            let text = match text.contains("1338\"\n") {
                true => format!("{text}{LISTENER}"),
                false => format!("{text}{}", LISTENER.replace("1338", "1337")),
            };
            let faults = refused(&text);
            assert!(faults.len() == 1 && faults[0].starts_with(expected), "{text}{faults:#?}");
        }
    }

    #[test]
    fn a_control_endpoint_that_others_can_reach_is_refused() {
        for address in ["0.0.0.0:1339", "[::]:1339", "192.0.2.1:1339", "169.254.169.254:80", "[::ffff:127.0.0.1]:1339"]
        {
            let faults = refused(&format!("{LISTENER}[control]\nlisten = \"{address}\"\n"));
            assert_eq!(faults.len(), 1, "{address}");
            assert!(faults[0].starts_with("5: control.listen: ") && faults[0].contains("plain HTTP"), "{}", faults[0]);
        }
    }

    #[test]
    fn two_listeners_cannot_share_a_name_or_an_address() {
        let listener =
            |name: &str, key: &str, address: &str| format!("[[listener]]\nname = \"{name}\"\n{key} = \"{address}\"\n");
        for (name, key, address, expected) in [
            ("a", "ipv4", "127.0.0.2:1338", "5: listener.name: another listener is named 'a'"),
            ("b", "ipv4", "127.0.0.1:1338", "6: listener.ipv4: 127.0.0.1:1338 belongs to listener 'a' already"),
            ("b", "ipv4", "0.0.0.0:1338", "6: listener.ipv4: 127.0.0.1:1338 belongs to listener 'a' already"),
        ] {
            assert_eq!(refused(&format!("{LISTENER}{}", listener(name, key, address))), [expected]);
        }
        let text = listener("a", "ipv6", "[::]:80") + &listener("b", "ipv6", "[::1]:80");
        assert_eq!(refused(&text), ["6: listener.ipv6: [::]:80 belongs to listener 'a' already"]);
    }

    #[test]
    fn the_admin_socket_is_in_the_runtime_directory_unless_it_is_said_where() {
        let admin = |text: &str| parse_text(&format!("{text}{LISTENER}")).unwrap().admin.unwrap();
        assert_eq!(admin("runtime_directory = \"run\"\n").socket, Path::new("/etc/imdsd/run/admin.sock"));
        let said = admin("[admin]\nsocket = \"/srv/a.sock\"\nusers = [1000, 0]\n");
        assert_eq!(said, Admin { socket: "/srv/a.sock".into(), users: vec![1000, 0] });
    }

    #[test]
    fn the_metadata_addresses_of_interfaces_are_nobody_elses() {
        let interfaces = parse_text("[interfaces]\n").unwrap().interfaces.unwrap();
        assert_eq!(interfaces, Interfaces::default());
        assert_eq!(interfaces.ipv6.to_string(), "[fd00:ec2::254]:80");
        let text = "[interfaces]\naddresses = \"manage\"\nextra_hops = 1\nextra_hops_of = { br0 = 2 }\n";
        let interfaces = parse_text(text).unwrap().interfaces.unwrap();
        assert_eq!(interfaces.addresses, Addresses::Manage);
        assert_eq!([interfaces.extra_hops("tap0"), interfaces.extra_hops("br0")], [1, 2]);
        let with = |line: &str| format!("[interfaces]\n{line}\n");
        for (text, expected) in [
            (with("addresses = \"put\""), "2: interfaces.addresses: this is one of check, manage, not 'put'"),
            (
                with("ipv4 = \"169.254.169.254\""),
                "2: interfaces.ipv4: '169.254.169.254' is not an IPv4 address and port such as 169.254.169.254:80",
            ),
            (
                with("ipv4 = \"0.0.0.0:80\""),
                "2: interfaces.ipv4: guests can't reach 0.0.0.0:80; this is an address of the interface and a port",
            ),
            (
                with("ipv6 = \"[::1]:80\""),
                "2: interfaces.ipv6: guests can't reach [::1]:80; this is an address of the interface and a port",
            ),
            (
                with("ipv4 = \"10.0.0.1:0\""),
                "2: interfaces.ipv4: guests can't reach 10.0.0.1:0; this is an address of the interface and a port",
            ),
            (with("extra_hops = 192"), "2: interfaces.extra_hops: this is 0 to 191 routers, not 192"),
            (with("extra_hops_of = { br0 = -1 }"), "2: interfaces.extra_hops_of: 'br0' has 0 to 191 routers"),
            (with("extra_hops_of = 3"), "2: interfaces.extra_hops_of: this is a table of numbers, not an integer"),
            // A socket that hears every interface would answer for interfaces that have none of their own yet.
            (
                "[[listener]]\nname = \"a\"\nipv4 = \"169.254.169.254:80\"\ninterface = \"lan0\"\n[interfaces]\n"
                    .to_string(),
                "5: interfaces.ipv4: 169.254.169.254:80 belongs to listener 'a' already",
            ),
            (
                "[[listener]]\nname = \"a\"\nipv6 = \"[::]:80\"\ninterface = \"lan0\"\n[interfaces]\n".to_string(),
                "5: interfaces.ipv6: [::]:80 belongs to listener 'a' already",
            ),
            // So would one at another address of the host's.
            (
                "[[listener]]\nname = \"a\"\nipv4 = \"10.0.0.1:80\"\n[interfaces]\n".to_string(),
                "1: listener.interface: beside [interfaces], a listener that is not on loopback names the interface that it \
                 hears: guests on others would be answered there as its instance",
            ),
            (
                "[[listener]]\nname = \"a\"\nipv4 = \"10.0.0.1:80\"\nanti_spoofed = true\n".to_string(),
                "4: listener.anti_spoofed: goes with interface: what comes in by others is not kept from choosing its address",
            ),
            (
                "[[listener]]\nname = \"a\"\nipv4 = \"10.0.0.1:80\"\ninterface = \"a/b\"\n".to_string(),
                "4: listener.interface: an interface's name is 1 to 15 printable characters without '/' and ':', not 'a/b'",
            ),
        ] {
            assert_eq!(refused(&text), [expected]);
        }
    }

    #[test]
    fn a_configuration_without_a_way_in_is_refused() {
        let expected = "1: listener: there must be a [[listener]] or the table [interfaces], or nothing is served";
        assert_eq!(refused(""), [expected]);
        assert_eq!(refused("[log]\n"), [expected]);
        let faults = refused("listener = [{ name = \"a\" }]");
        assert_eq!(faults, ["1: listener: this is a list of tables, each headed [[listener]], not an array"]);
    }

    #[test]
    fn every_fault_is_reported_at_once() {
        let text = r#"
            state_dir = "/srv"
            [guest]
            connections = -1
            head_seconds = "5"
            allowed_hosts = ["ok", 3, "no/slash"]
            [[listener]]
            name = "x y"
            ipv4 = "127.0.0.1"
            [control]
            listen = "10.0.0.1:1339"
            [metrics]
        "#;
        let lines: Vec<String> =
            refused(text).iter().map(|fault| fault.splitn(3, ": ").take(2).collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            lines,
            [
                "2 state_dir",
                "4 guest.connections",
                "5 guest.head_seconds",
                "6 guest.allowed_hosts",
                "6 guest.allowed_hosts",
                "8 listener.name",
                "9 listener.ipv4",
                "11 control.listen",
                "12 metrics",
            ]
        );
    }

    /// A directory with a configuration that has listeners `a` and `b`, and the given documents.
    fn host(documents: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let text = "instances = \"instances.d\"\n[[listener]]\nname = \"a\"\nipv4 = \"127.0.0.1:1\"\n\
                    [[listener]]\nname = \"b\"\nipv4 = \"127.0.0.1:2\"\n";
        std::fs::write(directory.path().join("imdsd.toml"), text).unwrap();
        std::fs::create_dir(directory.path().join("instances.d")).unwrap();
        for (name, text) in documents {
            std::fs::write(directory.path().join("instances.d").join(name), text).unwrap();
        }
        directory
    }

    fn instance(id: &str, listeners: &[&str]) -> String {
        let attachments: Vec<String> = listeners.iter().map(|name| format!("\n{{\"Listener\":\"{name}\"}}")).collect();
        format!(
            "{{\"InstanceId\":\"{id}\",\"LaunchTime\":\"2026-01-01T00:00:00Z\",\"Imds\":{{\"Attachments\":[{}]}}}}",
            attachments.join(",")
        )
    }

    fn check_host(host: &tempfile::TempDir) -> Result<Checked, Vec<String>> {
        let folder = format!("{}/", host.path().display());
        check(&host.path().join("imdsd.toml"), |_| panic!("there is no control endpoint"), |_| Vec::new())
            .map_err(|faults| faults.iter().map(|fault| fault.to_string().replace(&folder, "")).collect())
    }

    #[test]
    fn check_holds_documents_against_the_configuration() {
        let host = host(&[
            ("1.json", &instance("i-00000001", &["a"])),
            ("2.json", &instance("i-00000002", &["c", "a"])),
            ("3.json", "{"),
            ("4.json", &instance("i-00000004", &["B"])),
        ]);
        assert_eq!(
            check_host(&host).unwrap_err(),
            [
                "instances.d/3.json:1: not JSON: EOF while parsing an object",
                "instances.d/2.json:2: i-00000002: Imds.Attachments: the configuration has no listener 'c'",
                "instances.d/2.json:3: i-00000002: Imds.Attachments: listener 'a' is claimed by i-00000001 too \
                 (instances.d/1.json:1); neither would be served there",
                "instances.d/4.json:2: i-00000004: Imds.Attachments: the configuration has no listener 'B'; did you mean 'b'?",
            ]
        );
    }

    #[test]
    fn check_warns_of_what_nobody_can_reach() {
        let host = host(&[("1.json", &instance("i-00000001", &["b"])), ("2.json", &instance("i-00000002", &[]))]);
        let checked = check_host(&host).unwrap();
        assert_eq!(checked.instances.len(), 2);
        let folder = format!("{}/", host.path().display());
        let warnings: Vec<String> =
            checked.warnings.iter().map(|warning| warning.to_string().replace(&folder, "")).collect();
        assert_eq!(
            warnings,
            [
                "instances.d/2.json:1: i-00000002: Imds.Attachments: there is none, so nobody can reach this instance",
                "imdsd.toml:2: listener.name: no document claims listener 'a': it answers nobody",
            ]
        );
    }

    #[test]
    fn check_goes_on_after_a_fault_in_the_configuration() {
        let host = host(&[("1.json", "{}"), ("2.json", &instance("i-00000002", &["nowhere"]))]);
        let text = "instances = \"instances.d\"\ncolour = 1\n[control]\naccess_keys = \"keys\"\n[[listener]]\n";
        std::fs::write(host.path().join("imdsd.toml"), text).unwrap();
        let faults =
            check(&host.path().join("imdsd.toml"), |keys| vec![Fault::of_file(keys, "no keys")], |_| Vec::new())
                .unwrap_err();
        let fields: Vec<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, ["colour", "listener.name", "listener.ipv4", "", "InstanceId", "LaunchTime"]);
    }

    #[test]
    fn what_cannot_be_read_is_a_fault() {
        let host = host(&[]);
        assert!(read(&host.path().join("absent.toml")).unwrap_err()[0].message.starts_with("can't be read: "));
        std::fs::remove_dir(host.path().join("instances.d")).unwrap();
        let faults = check_host(&host).unwrap_err();
        assert!(faults.len() == 1 && faults[0].starts_with("instances.d: can't be read: "), "{faults:?}");
    }
}
