//! The configuration: a TOML file becomes a [`Config`] in which every setting is decided.
//!
//! One function, [`resolve()`], knows all settings with their defaults and bounds; `config/imdsd.toml` says them to the
//! operator. Every fault is reported at once, with its line. Refused: unknown keys and tables, values out of their range,
//! two ways in on one address, a control endpoint that others than this host can reach. Not supported: settings from the
//! environment, and files that include others.

mod resolve;
mod section;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::document;
use crate::document::near_miss;
use crate::fault::{Fault, FieldFault};
use crate::instance::{
    Attachment, BridgePort, ClaimKey, ClaimMode, CredentialSource, Instance, InstanceId, Role,
    SourceAddress,
};
use crate::plain_file;
use crate::sigv4::Regions;

use resolve::{Resolved, resolve};

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
pub const METADATA_IPV6: SocketAddrV6 =
    SocketAddrV6::new(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), 80, 0, 0);
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
    pub guest: GuestSettings,
    /// The ways in that stand on addresses of their own.
    pub listeners: Vec<ListenerSettings>,
    /// How guests are served that are recognised by where their packets come in; `None` where no guest is.
    pub interfaces: Option<InterfaceSettings>,
    /// The control endpoint, if any.
    pub control: Option<ControlSettings>,
    /// The operator's socket; `None` in a demo that found no place for one.
    pub admin: Option<AdminSettings>,
    /// Who signs identity documents and web identities.
    pub identity: IdentitySettings,
    /// What is logged, and how.
    pub log: LogSettings,
}

/// `[identity]`: who signs identity documents and web identities.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentitySettings {
    /// A key of the operator's; without one, imdsd makes and keeps its own in the state directory.
    pub own: Option<OperatorIdentity>,
    /// The URL under which verifiers of web identities find the key set; empty where there are none.
    pub issuer: String,
}

/// A key of the operator's, with its certificate and those that went before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorIdentity {
    /// RSA, at least 2048 bits, in PEM.
    pub key: PathBuf,
    /// Of this key, in PEM.
    pub certificate: PathBuf,
    /// Certificates of earlier keys that stay published.
    pub retired: Vec<PathBuf>,
}

/// `[guest]`: how guests are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestSettings {
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
pub struct ListenerSettings {
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
pub struct InterfaceSettings {
    /// Who puts the metadata addresses on the guests' interfaces.
    pub addresses: AddressMode,
    /// The IPv4 address and port of the service.
    pub ipv4: SocketAddrV4,
    /// The IPv6 address and port of the service.
    pub ipv6: SocketAddrV6,
    /// How many routers stand between an interface and its guest.
    pub extra_hops: u8,
    /// InterfaceSettings, bridges and network namespaces (by the name that documents call them) with other routers between.
    pub extra_hops_of: BTreeMap<String, u8>,
    /// Whether the addresses may be managed although the host itself seems to ask a metadata service there.
    pub shadow_host_metadata: bool,
}

impl InterfaceSettings {
    /// How many routers stand between this interface, bridge or namespace and its guests.
    pub fn extra_hops(&self, name: &str) -> u8 {
        self.extra_hops_of
            .get(name)
            .copied()
            .unwrap_or(self.extra_hops)
    }
}

/// Who puts the metadata addresses on the guests' interfaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressMode {
    /// Somebody else; what is missing is said, and nothing changed.
    #[default]
    Check,
    /// The daemon, which takes them away again when it ends.
    Manage,
}

impl Default for InterfaceSettings {
    fn default() -> Self {
        InterfaceSettings {
            addresses: AddressMode::default(),
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
pub struct ControlSettings {
    /// An address and a port; not on loopback only with TLS, or where the operator exposes signed calls.
    pub listen: SocketAddr,
    /// The certificate and the key of TLS; `None` for plain HTTP.
    pub tls: Option<ControlTlsFiles>,
    /// Where the access keys come from.
    pub access_keys: AccessKeySource,
    /// The regions a call may be signed for.
    pub regions: Regions,
}

/// `[admin]`: the operator's socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminSettings {
    /// Where it is.
    pub socket: PathBuf,
    /// The numbers of the users who may call, beside root and the daemon's own.
    pub users: Vec<u32>,
    /// What becomes of the start where it can't be opened.
    pub socket_policy: AdminSocketPolicy,
}

/// What a daemon does whose admin socket is another's, or can't be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminSocketPolicy {
    /// It does not start: its operator would change another's instances unawares, or reach none.
    Required,
    /// It has none, and says so: a demo's place is nobody's choice.
    Optional,
}

/// The files of the control endpoint's TLS, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlTlsFiles {
    /// The endpoint's certificate and those between it and its authority.
    pub certificate: PathBuf,
    /// Its key, which nobody else may read.
    pub key: PathBuf,
}

/// Where the access keys for control calls come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessKeySource {
    /// Keys that the demo prints.
    Demo,
    /// A file of keys.
    File(PathBuf),
}

/// `[log]`: what is logged, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogSettings {
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
            guest: GuestSettings::default(),
            listeners: vec![ListenerSettings {
                name: DEMO_LISTENER.to_string(),
                ipv4: Some(SocketAddrV4::new(Ipv4Addr::LOCALHOST, DEMO_PORT)),
                ipv6: Some(SocketAddrV6::new(Ipv6Addr::LOCALHOST, DEMO_PORT, 0, 0)),
                interface: None,
                anti_spoofed: false,
                extra_hops: 0,
            }],
            interfaces: None,
            control: Some(ControlSettings {
                listen: CONTROL_LISTEN,
                tls: None,
                access_keys: AccessKeySource::Demo,
                regions: Regions::Any,
            }),
            admin: None,
            identity: IdentitySettings::default(),
            log: LogSettings::default(),
        }
    }

    /// Where imdsd keeps the key that it makes; `None` where nothing is kept.
    pub fn identity_directory(&self) -> Option<PathBuf> {
        self.state_directory
            .as_ref()
            .map(|directory| directory.join("identity"))
    }
}

impl Default for GuestSettings {
    fn default() -> Self {
        GuestSettings {
            allowed_hosts: Vec::new(),
            refuse_rebinding: REFUSE_REBINDING,
            connections: CONNECTIONS,
            head_time: Duration::from_secs(HEAD_SECONDS as u64),
        }
    }
}

/// The instance that the demo serves.
pub fn demo_instance() -> Instance {
    const TEXT: &str = include_str!("../../config/demo-instance.json");
    let mut instances = document::read(Path::new("demo-instance.json"), TEXT)
        .expect("the built-in document is sound");
    instances.remove(0)
}

/// Reads a configuration file.
pub fn read(path: &Path) -> Result<Config, Vec<Fault>> {
    parse(path, &text_of(path)?)
}

/// Reads the text of a configuration; `file` stands in faults, and relative paths count from its directory.
pub fn parse(file: &Path, text: &str) -> Result<Config, Vec<Fault>> {
    let Resolved { config, faults, .. } = resolve(file, text)?;
    if faults.is_empty() {
        Ok(config)
    } else {
        Err(faults)
    }
}

/// Reads a configuration and everything that it names, and holds them against each other.
///
/// `keys` reads the file of access keys and returns its faults; `tree` says what of an instance its metadata can't show.
pub fn check(
    path: &Path,
    keys: impl FnOnce(&Path) -> Vec<Fault>,
    tree: impl Fn(&Instance) -> Vec<FieldFault>,
) -> Result<Checked, Vec<Fault>> {
    let text = text_of(path)?;
    let Resolved {
        config,
        listener_lines,
        mut faults,
    } = resolve(path, &text)?;
    let of_config = faults.len();
    if let Some(ControlSettings {
        access_keys: AccessKeySource::File(file),
        ..
    }) = &config.control
    {
        faults.extend(keys(file));
    }
    let (documents, wrong) = config
        .instances
        .as_deref()
        .map(document::read_documents)
        .unwrap_or_default();
    faults.extend(wrong);
    let Held {
        claims,
        faults: of_documents,
        mut warnings,
    } = hold(&config, of_config == 0, &documents, tree);
    faults.extend(of_documents);
    if !faults.is_empty() {
        return Err(faults);
    }

    for (listener, line) in config.listeners.iter().zip(listener_lines) {
        if !claims.holds(&ClaimKey::Listener(&listener.name)) {
            let message = format!(
                "no document claims listener '{}': it answers nobody",
                listener.name
            );
            warnings.push(Fault {
                file: path.to_path_buf(),
                line,
                field: "listener.name".to_string(),
                message,
            });
        }
    }
    Ok(Checked {
        config,
        instances: documents
            .into_iter()
            .map(|document| document.instance)
            .collect(),
        warnings,
    })
}

/// Reads the documents that a configuration names once more, and holds them against it and each other.
pub fn read_instances(
    config: &Config,
    tree: impl Fn(&Instance) -> Vec<FieldFault>,
) -> Result<Vec<Instance>, Vec<Fault>> {
    let (documents, mut faults) = config
        .instances
        .as_deref()
        .map(document::read_documents)
        .unwrap_or_default();
    faults.extend(hold(config, true, &documents, tree).faults);
    match faults.is_empty() {
        true => Ok(documents
            .into_iter()
            .map(|document| document.instance)
            .collect()),
        false => Err(faults),
    }
}

/// What of an instance this configuration does not serve: fields and sentences. Who else claims its ways in is not looked at.
pub fn faults_of(instance: &Instance, config: &Config) -> Vec<FieldFault> {
    let attachments = instance.imds.attachments.iter().enumerate();
    let unserved = attachments.filter_map(|(index, attachment)| {
        Some(FieldFault::new(
            format!("Imds.Attachments[{index}]"),
            unserved(attachment, config)?,
        ))
    });
    unserved
        .chain(
            without_issuer(instance, config).map(|message| FieldFault::new(ROLE_SOURCE, message)),
        )
        .collect()
}

const ROLE_SOURCE: &str = "Imds.Role.Source";

fn without_issuer(instance: &Instance, config: &Config) -> Option<String> {
    let web_identity =
        |role: &Role| matches!(role.source, CredentialSource::AssumeRoleWithWebIdentity(_));
    let is_without =
        instance.imds.role.as_ref().is_some_and(web_identity) && config.identity.issuer.is_empty();
    let message =
        "web identities need identity.issuer in the configuration: the URL of their key set";
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
    documents: &'a [document::InstanceDocument],
    tree: impl Fn(&Instance) -> Vec<FieldFault>,
) -> Held<'a> {
    let (mut faults, mut warnings, mut claims) = (Vec::new(), Vec::new(), Claims::default());
    for document in documents {
        let id = &document.instance.instance_id;
        let at = |line, message| Fault {
            file: document.file.clone(),
            line,
            field: attachments_of(id),
            message,
        };
        if document.instance.imds.attachments.is_empty() {
            warnings.push(at(
                document.line,
                "there is none, so nobody can reach this instance".to_string(),
            ));
        }
        let of_tree = tree(&document.instance).into_iter();
        faults.extend(of_tree.map(|fault| Fault {
            field: format!("{id}: {}", fault.field),
            ..at(document.line, fault.message)
        }));
        if let Some(message) = without_issuer(&document.instance, config) {
            faults.push(Fault {
                field: format!("{id}: {ROLE_SOURCE}"),
                ..at(document.line, message)
            });
        }
        if !document.instance.state.is_active() {
            let message = format!(
                "is {}, so nobody is answered for it",
                document.instance.state.as_str()
            );
            warnings.push(Fault {
                field: format!("{id}: State"),
                ..at(document.line, message)
            });
        }
        for (attachment, line) in document
            .instance
            .imds
            .attachments
            .iter()
            .zip(&document.attachment_lines)
        {
            // A faulty listener may be the very one that is missing.
            if is_sound && let Some(message) = unserved(attachment, config) {
                faults.push(at(*line, message));
            }
            if let Some((other, holder)) = claims.rival(attachment, document) {
                faults.push(at(*line, claimed_twice(attachment, other, holder)));
            }
            claims.add(attachment, document);
        }
    }
    Held {
        claims,
        faults,
        warnings,
    }
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
            if config
                .listeners
                .iter()
                .any(|listener| listener.interface.as_ref() == Some(name)) =>
        {
            return Some(format!("a listener of the configuration hears {name} too"));
        }
        Attachment::Interface(_) | Attachment::BridgePort(_) | Attachment::NetworkNamespace(_) => {
            let message = format!(
                "{attachment} needs the table [interfaces] in the configuration, which may be empty"
            );
            return config.interfaces.is_none().then_some(message);
        }
    };
    let Some(listener) = config
        .listeners
        .iter()
        .find(|listener| listener.name == *name)
    else {
        let names: Vec<&str> = config
            .listeners
            .iter()
            .map(|listener| listener.name.as_str())
            .collect();
        let hint = near_miss(name, &names)
            .map(|name| format!("; did you mean '{name}'?"))
            .unwrap_or_default();
        return Some(format!("the configuration has no listener '{name}'{hint}"));
    };
    match (attachment, listener.anti_spoofed) {
        (Attachment::SourceAddress(_), false) => Some(format!(
            "an address tells nobody apart where guests can choose theirs; where something keeps them from it, set \
             anti_spoofed = true for listener '{name}'"
        )),
        (Attachment::Listener(_), true) => Some(format!(
            "listener '{name}' is anti_spoofed: attach the instance by SourceAddress"
        )),
        _ => None,
    }
}

/// Whose each way in is, as far as the documents are read.
#[derive(Default)]
struct Claims<'a>(
    BTreeMap<ClaimKey<'a>, Vec<(&'a Attachment, ClaimMode, &'a document::InstanceDocument)>>,
);

impl<'a> Claims<'a> {
    fn add(&mut self, attachment: &'a Attachment, document: &'a document::InstanceDocument) {
        for (ground, hold) in attachment.claim_keys() {
            self.0
                .entry(ground)
                .or_default()
                .push((attachment, hold, document));
        }
    }

    /// The first of another document to claim what can't be shared with this attachment.
    fn rival(
        &self,
        attachment: &'a Attachment,
        of: &document::InstanceDocument,
    ) -> Option<(&'a Attachment, &'a document::InstanceDocument)> {
        attachment.claim_keys().iter().find_map(|(ground, hold)| {
            let mut holders = self
                .0
                .get(ground)?
                .iter()
                .filter(|(_, _, document)| !std::ptr::eq(*document, of));
            let rival = holders.find(|(_, other, _)| {
                *hold == ClaimMode::Exclusive || *other == ClaimMode::Exclusive
            })?;
            Some((rival.0, rival.2))
        })
    }

    fn holds(&self, ground: &ClaimKey<'a>) -> bool {
        self.0.contains_key(ground)
    }
}

fn claimed_twice(
    attachment: &Attachment,
    other: &Attachment,
    holder: &document::InstanceDocument,
) -> String {
    let document::InstanceDocument {
        instance,
        file,
        line,
        ..
    } = holder;
    let what = if attachment == other {
        "too".to_string()
    } else {
        format!("as {other}")
    };
    let id = &instance.instance_id;
    format!(
        "{attachment} is claimed by {id} {what} ({}:{line}); neither would be served there",
        file.display()
    )
}

fn text_of(path: &Path) -> Result<String, Vec<Fault>> {
    plain_file::read_text(path, plain_file::MAX_BYTES).map_err(|reason| {
        vec![Fault::of_file(
            path,
            format_args!("can't be read: {reason}"),
        )]
    })
}

#[cfg(test)]
mod tests;
