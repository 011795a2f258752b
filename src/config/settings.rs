//! The settings of each table, with their defaults and ranges.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::instance::Images;
use crate::ownership::KeyOwner;
use crate::sigv4::Regions;

/// The default of `state_directory`: where the Filesystem Hierarchy Standard puts data that a
/// daemon must not lose.
pub const STATE_DIRECTORY: &str = "/var/lib/imdsd";
/// The default of `runtime_directory`. `/run` is empty after a reboot, and tokens from before it
/// are invalid.
pub const RUNTIME_DIRECTORY: &str = "/run/imdsd";
/// The default of `guest.refuse_rebinding`. DNS rebinding, with a foreign `Host`, is how a page in
/// a guest's browser reaches an address that it was not served from.
pub const REFUSE_REBINDING: bool = true;
/// The default of `guest.connections`: well above what one guest needs, well below the usual limit
/// on descriptors.
pub const CONNECTIONS: usize = 1024;
/// The range of `guest.connections`: one peer has no more ports than this.
pub const CONNECTIONS_RANGE: RangeInclusive<i64> = 2..=65_536;
/// The default of `guest.head_seconds`. Guests are one hop away, and clients give up after one to
/// five seconds.
pub const HEAD_SECONDS: i64 = 5;
/// The range of `guest.head_seconds`: less than a second would drop guests that swap; more than a
/// minute is no limit.
pub const HEAD_SECONDS_RANGE: RangeInclusive<i64> = 1..=60;
/// The default of `guest.requests_per_second`. EC2 drops what exceeds 1,024 packets a second, and a
/// request on a connection of its own takes at least five: this is twice what EC2 lets through.
pub const REQUESTS_PER_SECOND: u32 = 500;
/// The range of `guest.requests_per_second`: no thread answers a million, and 0 means no limit.
pub const REQUESTS_PER_SECOND_RANGE: RangeInclusive<i64> = 0..=1_000_000;
/// The default of `guest.burst`: at boot an agent, cloud-init and hundreds of programs with an SDK
/// begin within a second or two, each with a few requests.
pub const BURST: u32 = 2_000;
/// The range of `guest.burst`.
pub const BURST_RANGE: RangeInclusive<i64> = 1..=1_000_000;
/// The default of `guest.threads`: one answers the guests of thousands of instances.
pub const GUEST_THREADS: usize = 1;
/// The most guest threads. Each needs descriptors of its own.
pub const MAX_GUEST_THREADS: usize = 16;
/// The range of `guest.threads`.
pub const GUEST_THREADS_RANGE: RangeInclusive<i64> = 1..=MAX_GUEST_THREADS as i64;
/// The default of `control.listen`: one port above the demo's guest listener.
pub const CONTROL_LISTEN: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1339));
/// The default of `control.access_keys`.
pub const ACCESS_KEYS: &str = "/etc/imdsd/access-keys.toml";
/// The port of the demo's guest listener, which other EC2 metadata mocks use too.
pub const DEMO_PORT: u16 = 1338;
/// The IPv4 address and port of EC2's metadata service.
pub const METADATA_IPV4: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(169, 254, 169, 254), 80);
/// The IPv6 address and port of EC2's metadata service.
pub const METADATA_IPV6: SocketAddrV6 =
    SocketAddrV6::new(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), 80, 0, 0);
/// The range of `extra_hops`: with the highest hop limit (64) added, a packet's limit fits its
/// eight bits.
pub const EXTRA_HOPS_RANGE: RangeInclusive<i64> = 0..=191;
/// The file name of the admin socket, by default in the runtime directory.
pub const ADMIN_SOCKET: &str = "admin.sock";
/// The name of the demo's listener in its instance document.
pub const DEMO_LISTENER: &str = "demo";

/// Every setting, with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The file or directory of instance documents, if any.
    pub instances: Option<PathBuf>,
    /// The directory of the instances' records; `None` in the demo, which keeps nothing.
    pub state_directory: Option<PathBuf>,
    /// The directory that keeps token keys across restarts; `None` in the demo, whose tokens end
    /// with it.
    pub runtime_directory: Option<PathBuf>,
    /// How guests are served on every listener.
    pub guest: GuestSettings,
    /// The listeners on addresses of their own.
    pub listeners: Vec<ListenerSettings>,
    /// How guests on interfaces, bridge ports and network namespaces are served; `None` if there
    /// are none.
    pub interfaces: Option<InterfaceSettings>,
    /// What is known about images.
    pub images: Images,
    /// The control endpoint, if any.
    pub control: Option<ControlEndpointSettings>,
    /// The admin socket; `None` in a demo that found no directory for one.
    pub admin: Option<AdminSettings>,
    /// The key that signs identity documents and web identities.
    pub identity: IdentitySettings,
    /// The log's format and level.
    pub log: LogSettings,
}

impl Config {
    /// Returns the directory of the key that imdsd generates; `None` if nothing is kept.
    pub fn identity_directory(&self) -> Option<PathBuf> {
        self.state_directory
            .as_ref()
            .map(|directory| directory.join("identity"))
    }

    /// Returns the user that the key files must belong to.
    pub fn key_owner(&self) -> KeyOwner {
        KeyOwner::of_daemon(self.state_directory.as_deref())
    }
}

/// `[identity]`: the key that signs identity documents and web identities.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentitySettings {
    /// The operator's own key. Without one, imdsd generates a key and keeps it in the state
    /// directory.
    pub own: Option<OperatorIdentity>,
    /// The URL where verifiers of web identities find the key set; empty if there are no web
    /// identities.
    pub issuer: String,
}

/// The operator's own key with its certificate, and the certificates of earlier keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorIdentity {
    /// An RSA key of at least 2048 bits, in PEM.
    pub key: PathBuf,
    /// The certificate of this key, in PEM.
    pub certificate: PathBuf,
    /// Certificates of earlier keys, which stay published.
    pub retired: Vec<PathBuf>,
}

/// `[guest]`: how guests are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestSettings {
    /// More accepted values of `Host`, in lower case and without a port.
    pub allowed_hosts: Vec<String>,
    /// Whether to refuse requests that a browser would send for a hostile page. EC2 serves them.
    pub refuse_rebinding: bool,
    /// The maximum number of connections at once, for each guest.
    pub connections: usize,
    /// The time limit for a request's head. It includes the wait for the next request on a
    /// connection kept alive.
    pub head_time: Duration,
    /// How many requests a second each guest may make; 0 means no limit.
    pub requests_per_second: u32,
    /// How many requests a guest may make at once after a pause.
    pub burst: u32,
    /// The number of threads that serve guests. The listeners are spread over them.
    pub threads: usize,
    /// Whether ordinary requests take the fast path. Both paths give the same answers.
    pub fast_path: bool,
}

impl Default for GuestSettings {
    fn default() -> Self {
        GuestSettings {
            allowed_hosts: Vec::new(),
            refuse_rebinding: REFUSE_REBINDING,
            connections: CONNECTIONS,
            head_time: Duration::from_secs(HEAD_SECONDS as u64),
            requests_per_second: REQUESTS_PER_SECOND,
            burst: BURST,
            threads: GUEST_THREADS,
            fast_path: true,
        }
    }
}

/// `[[listener]]`: a listener on addresses of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSettings {
    /// The name that documents use in `Imds.Attachments`.
    pub name: String,
    /// The IPv4 address and port.
    pub ipv4: Option<SocketAddrV4>,
    /// The IPv6 address and port.
    pub ipv6: Option<SocketAddrV6>,
    /// The one interface of the host that it accepts connections from; `None` for all interfaces.
    pub interface: Option<String>,
    /// Whether no guest there can use another's address, so that source addresses identify guests.
    pub anti_spoofed: bool,
    /// How many routers there are between the listener and its guests.
    pub extra_hops: u8,
}

/// `[interfaces]`: guests that are identified by the interface, bridge port or network namespace of
/// their packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceSettings {
    /// Who adds the metadata addresses to the guests' interfaces.
    pub addresses: AddressMode,
    /// The IPv4 address and port of the service.
    pub ipv4: SocketAddrV4,
    /// The IPv6 address and port of the service.
    pub ipv6: SocketAddrV6,
    /// How many routers there are between an interface and its guest.
    pub extra_hops: u8,
    /// Exceptions from `extra_hops`, by the name that documents use for the interface, bridge or
    /// network namespace.
    pub extra_hops_of: BTreeMap<String, u8>,
    /// Whether to manage the addresses even if the host itself seems to use a metadata service at
    /// them.
    pub shadow_host_metadata: bool,
    /// The ending of the names of the packet rules' tables; `None` for a digest of the state
    /// directory's path.
    pub rules_table: Option<String>,
}

impl InterfaceSettings {
    /// Returns how many routers there are between this interface, bridge or namespace and its
    /// guests.
    pub fn extra_hops(&self, name: &str) -> u8 {
        self.extra_hops_of
            .get(name)
            .copied()
            .unwrap_or(self.extra_hops)
    }
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
            rules_table: None,
        }
    }
}

/// Who adds the metadata addresses to the guests' interfaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressMode {
    /// The operator. The daemon reports missing addresses and changes nothing.
    #[default]
    Check,
    /// The daemon, which removes them when it ends.
    Manage,
}

/// `[control]`: the EC2 API for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlEndpointSettings {
    /// The address and port. It is outside loopback only with TLS, or if the operator accepts plain
    /// HTTP.
    pub listen: SocketAddr,
    /// The certificate and the key for TLS; `None` for plain HTTP.
    pub tls: Option<ControlTlsFiles>,
    /// The source of the access keys.
    pub access_keys: AccessKeySource,
    /// The regions that a call may be signed for.
    pub regions: Regions,
}

/// The files of the control endpoint's TLS, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlTlsFiles {
    /// The endpoint's certificate and the intermediate certificates up to its authority.
    pub certificate: PathBuf,
    /// The private key, which no other user may read.
    pub key: PathBuf,
}

/// The source of the access keys for control calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessKeySource {
    /// The built-in keys that the demo prints.
    Demo,
    /// A file of keys.
    File(PathBuf),
}

/// `[admin]`: the admin socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminSettings {
    /// The path of the socket.
    pub socket: PathBuf,
    /// The user IDs that may connect, besides root and the daemon's own user. The members that
    /// `groups` listed when the configuration was read are among them.
    pub users: Vec<u32>,
    /// The group IDs whose processes may connect: those with this primary group.
    pub groups: Vec<u32>,
    /// Whether the daemon starts without the socket.
    pub socket_policy: AdminSocketPolicy,
}

/// What a daemon does if it cannot open its admin socket, or another daemon has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminSocketPolicy {
    /// It does not start. Its operator would unknowingly change the other daemon's instances, or
    /// reach none.
    Required,
    /// It logs a warning and starts without the socket: a demo's user did not choose its path.
    Optional,
}

/// `[log]`: the log's format and level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogSettings {
    /// Lines for people or for machines.
    pub format: LogFormat,
    /// The least important level that is logged.
    pub level: LogLevel,
}

/// The format of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// A line of text.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// How much is logged. Each level includes the ones before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// What keeps the daemon from working.
    Error,
    /// What an operator should look at.
    Warn,
    /// Starts, stops and changes.
    #[default]
    Info,
    /// What clients can cause at will.
    Debug,
    /// Everything.
    Trace,
}
