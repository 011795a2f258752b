//! Every setting, decided: its default, its bounds, and what goes with what.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml_edit::Document;

use super::section::{Faults, Section};
use super::{
    ACCESS_KEYS, ADMIN_SOCKET, AccessKeySource, AddressMode, AdminSettings, AdminSocketPolicy,
    CONNECTIONS, CONNECTIONS_RANGE, CONTROL_LISTEN, Config, ControlSettings, ControlTlsFiles,
    EXTRA_HOPS_RANGE, GuestSettings, HEAD_SECONDS, HEAD_SECONDS_RANGE, IdentitySettings,
    InterfaceSettings, ListenerSettings, LogFormat, LogLevel, LogSettings, METADATA_IPV4,
    METADATA_IPV6, OperatorIdentity, REFUSE_REBINDING, RUNTIME_DIRECTORY, STATE_DIRECTORY,
};
use crate::fault::{Fault, line_of};
use crate::instance::interface_name_fault;
use crate::sigv4::Regions;

/// A configuration in which defaults stand for what is faulty, and the faults.
pub(super) struct Resolved {
    pub(super) config: Config,
    pub(super) listener_lines: Vec<usize>,
    pub(super) faults: Vec<Fault>,
}

/// Decides every setting. Fails only when the text is not TOML.
pub(super) fn resolve(file: &Path, text: &str) -> Result<Resolved, Vec<Fault>> {
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(error) => {
            let line = error.span().map_or(0, |span| line_of(text, span.start));
            let message = format!("not TOML: {}", error.message());
            return Err(vec![Fault {
                file: file.to_path_buf(),
                line,
                field: String::new(),
                message,
            }]);
        }
    };
    let mut faults = Faults {
        file,
        text,
        list: Vec::new(),
    };
    let directory = file.parent().unwrap_or(Path::new(""));
    let path = |text: &str| match text {
        "" => Err("a path can't be empty".to_string()),
        text => Ok(directory.join(text)),
    };

    let mut root = Section {
        name: "",
        table: document.as_table(),
        start: 0,
        known: Vec::new(),
    };
    let instances = root.parsed("instances", &mut faults, path);
    let state_directory = root
        .parsed("state_directory", &mut faults, path)
        .unwrap_or(STATE_DIRECTORY.into());
    let runtime_directory = root
        .parsed("runtime_directory", &mut faults, path)
        .unwrap_or(RUNTIME_DIRECTORY.into());

    let mut guest = GuestSettings::default();
    if let Some(mut section) = root.table("guest", &mut faults) {
        guest.allowed_hosts = section
            .each("allowed_hosts", &mut faults, host_name)
            .unwrap_or_default();
        guest.refuse_rebinding = section
            .boolean("refuse_rebinding", &mut faults)
            .unwrap_or(REFUSE_REBINDING);
        let connections =
            section.integer("connections", CONNECTIONS_RANGE, "connections", &mut faults);
        guest.connections = connections.map_or(CONNECTIONS, |count| count as usize);
        let seconds = section.integer("head_seconds", HEAD_SECONDS_RANGE, "seconds", &mut faults);
        guest.head_time = Duration::from_secs(seconds.unwrap_or(HEAD_SECONDS) as u64);
        section.finish(&mut faults);
    }

    let mut taken = Taken::default();
    let (mut listeners, mut listener_lines) = (Vec::<ListenerSettings>::new(), Vec::new());
    let root_has_interfaces = root.has("interfaces");
    for mut section in root.tables("listener", &mut faults) {
        let name = section.required("name", &mut faults, |name| {
            let name = listener_name(name)?;
            match listeners.iter().any(|listener| listener.name == name) {
                true => Err(format!("another listener is named '{name}'")),
                false => Ok(name),
            }
        });
        let owner = name.as_deref().map_or("a listener".to_string(), |name| {
            format!("listener '{name}'")
        });
        let ipv4 = section.parsed("ipv4", &mut faults, |text| {
            let address: SocketAddrV4 = text
                .parse()
                .map_err(|_| no_address(text, "an IPv4", "127.0.0.1:1338"))?;
            taken.take(address.into(), &owner).map(|()| address)
        });
        let ipv6 = section.parsed("ipv6", &mut faults, |text| {
            let address: SocketAddrV6 = text
                .parse()
                .map_err(|_| no_address(text, "an IPv6", "[::1]:1338"))?;
            taken.take(address.into(), &owner).map(|()| address)
        });
        if !section.has("ipv4") && !section.has("ipv6") {
            section.missing("ipv4", "a listener has ipv4, ipv6 or both", &mut faults);
        }
        let interface = section.parsed(
            "interface",
            &mut faults,
            |name| match interface_name_fault(name) {
                None => Ok(name.to_string()),
                Some(fault) => Err(fault),
            },
        );
        let anti_spoofed = section
            .boolean("anti_spoofed", &mut faults)
            .unwrap_or(false);
        // Guests reach every address of the host by whatever interface they have.
        let reached = [ipv4.map(SocketAddr::from), ipv6.map(SocketAddr::from)]
            .into_iter()
            .flatten();
        let is_reached = reached
            .into_iter()
            .any(|address| !address.ip().is_loopback());
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
        let extra_hops = section
            .integer("extra_hops", EXTRA_HOPS_RANGE, "routers", &mut faults)
            .unwrap_or(0) as u8;
        if let Some(name) = name {
            listeners.push(ListenerSettings {
                name,
                ipv4,
                ipv6,
                interface,
                anti_spoofed,
                extra_hops,
            });
            listener_lines.push(faults.line(section.start));
        }
        section.finish(&mut faults);
    }

    let mut interfaces = None;
    if let Some(mut section) = root.table("interfaces", &mut faults) {
        let addresses = section
            .word("addresses", &ADDRESSES, &mut faults)
            .unwrap_or_default();
        let mut decided = InterfaceSettings {
            addresses,
            ..InterfaceSettings::default()
        };
        if let Some(address) = section.parsed("ipv4", &mut faults, |text| {
            text.parse()
                .map_err(|_| no_address(text, "an IPv4", &METADATA_IPV4.to_string()))
        }) {
            decided.ipv4 = address;
        }
        if let Some(address) = section.parsed("ipv6", &mut faults, |text| {
            text.parse()
                .map_err(|_| no_address(text, "an IPv6", &METADATA_IPV6.to_string()))
        }) {
            decided.ipv6 = address;
        }
        // A socket that hears every interface would answer for those that are to have their own.
        for (key, address) in [
            ("ipv4", SocketAddr::from(decided.ipv4)),
            ("ipv6", decided.ipv6.into()),
        ] {
            let unfit = match address.port() == 0
                || address.ip().is_unspecified()
                || address.ip().is_loopback()
            {
                true => Err(format!(
                    "guests can't reach {address}; this is an address of the interface and a port"
                )),
                false => taken.take(address, "[interfaces]"),
            };
            match unfit {
                Err(message) if section.has(key) => section.fault(key, message, &mut faults),
                Err(message) => section.missing(key, &message, &mut faults),
                Ok(()) => {}
            }
        }
        decided.extra_hops = section
            .integer("extra_hops", EXTRA_HOPS_RANGE, "routers", &mut faults)
            .unwrap_or(0) as u8;
        decided.extra_hops_of =
            section.integers("extra_hops_of", EXTRA_HOPS_RANGE, "routers", &mut faults);
        decided.shadow_host_metadata = section
            .boolean("shadow_host_metadata", &mut faults)
            .unwrap_or(false);
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
            let address = text
                .parse()
                .map_err(|_| no_address(text, "an IP", "127.0.0.1:1339"))?;
            taken.take(address, "control.listen").map(|()| address)
        });
        let certificate = section.parsed("certificate", &mut faults, path);
        let key = section.parsed("key", &mut faults, path);
        match (section.has("certificate"), section.has("key")) {
            (true, false) => section.missing("key", "a certificate needs its key", &mut faults),
            (false, true) => {
                section.missing("certificate", "a key needs its certificate", &mut faults)
            }
            _ => {}
        }
        let exposed = section
            .boolean("expose_signed_calls_in_plain_http", &mut faults)
            .unwrap_or(false);
        if let Some(address) = listen
            && !address.ip().is_loopback()
            && !section.has("certificate")
            && !exposed
        {
            section.fault("listen", in_plain_http(address), &mut faults);
        }
        let access_keys = section
            .parsed("access_keys", &mut faults, path)
            .unwrap_or(ACCESS_KEYS.into());
        let regions = section
            .each("regions", &mut faults, region)
            .map_or(Regions::Any, Regions::These);
        if regions == Regions::These(Vec::new()) {
            section.fault(
                "regions",
                "no call could be signed; leave the key out to allow any region",
                &mut faults,
            );
        }
        control = Some(ControlSettings {
            listen: listen.unwrap_or(CONTROL_LISTEN),
            tls: certificate
                .zip(key)
                .map(|(certificate, key)| ControlTlsFiles { certificate, key }),
            access_keys: AccessKeySource::File(access_keys),
            regions,
        });
        section.finish(&mut faults);
    }

    let mut admin = AdminSettings {
        socket: runtime_directory.join(ADMIN_SOCKET),
        users: Vec::new(),
        socket_policy: AdminSocketPolicy::Required,
    };
    if let Some(mut section) = root.table("admin", &mut faults) {
        admin.socket = section
            .parsed("socket", &mut faults, path)
            .unwrap_or(admin.socket);
        admin.users = section.users("users", &mut faults);
        section.finish(&mut faults);
    }

    let mut identity = IdentitySettings::default();
    if let Some(mut section) = root.table("identity", &mut faults) {
        let key = section.parsed("key", &mut faults, path);
        let certificate = section.parsed("certificate", &mut faults, path);
        let retired = section.each("retired", &mut faults, |text| {
            Ok(path(text)?.to_string_lossy().into_owned())
        });
        match (section.has("key"), section.has("certificate")) {
            (true, false) => section.missing(
                "certificate",
                "a key of your own needs its certificate",
                &mut faults,
            ),
            (false, true) => section.missing(
                "key",
                "a certificate of your own needs its key",
                &mut faults,
            ),
            (false, false) if section.has("retired") => {
                section.fault(
                    "retired",
                    "goes with a key of your own; imdsd keeps its own ones itself",
                    &mut faults,
                );
            }
            _ => {}
        }
        if let (Some(key), Some(certificate)) = (key, certificate) {
            let retired = retired
                .unwrap_or_default()
                .into_iter()
                .map(PathBuf::from)
                .collect();
            identity.own = Some(OperatorIdentity {
                key,
                certificate,
                retired,
            });
        }
        identity.issuer = section
            .parsed("issuer", &mut faults, issuer)
            .unwrap_or_default();
        section.finish(&mut faults);
    }

    let mut log = LogSettings::default();
    if let Some(mut section) = root.table("log", &mut faults) {
        log.format = section
            .word("format", &LOG_FORMATS, &mut faults)
            .unwrap_or_default();
        log.level = section
            .word("level", &LOG_LEVELS, &mut faults)
            .unwrap_or_default();
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
    Ok(Resolved {
        config,
        listener_lines,
        faults,
    })
}

pub(super) const ADDRESSES: [(&str, AddressMode); 2] = [
    ("check", AddressMode::Check),
    ("manage", AddressMode::Manage),
];

pub(super) const LOG_FORMATS: [(&str, LogFormat); 2] =
    [("text", LogFormat::Text), ("json", LogFormat::Json)];

pub(super) const LOG_LEVELS: [(&str, LogLevel); 5] = [
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

pub(super) fn listener_name(text: &str) -> Result<String, String> {
    let letters = text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    match letters && (1..=64).contains(&text.len()) {
        true => Ok(text.to_string()),
        false => Err(format!(
            "a listener's name is 1 to 64 letters, digits and ._-, not '{}'",
            text.escape_debug()
        )),
    }
}

/// Verifiers compare it byte for byte, and look for the key set below it.
pub(super) fn issuer(text: &str) -> Result<String, String> {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"))
        .unwrap_or_default();
    let letters = rest
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-._:/[]".contains(&b));
    match letters && !rest.is_empty() && !rest.ends_with('/') {
        true => Ok(text.to_string()),
        false => Err(format!(
            "'{}' is no URL such as https://imds.example.com (no slash at its end)",
            text.escape_debug()
        )),
    }
}

/// A name or an address, as it stands in `Host` in front of the port.
pub(super) fn host_name(text: &str) -> Result<String, String> {
    let bracketed = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let is_address = bracketed.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    let letters = text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    match is_address || (letters && (1..=253).contains(&text.len())) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err(format!(
            "'{}' is not a host name without a port",
            text.escape_debug()
        )),
    }
}

pub(super) fn region(text: &str) -> Result<String, String> {
    let letters = text
        .bytes()
        .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    match letters && (1..=64).contains(&text.len()) {
        true => Ok(text.to_string()),
        false => Err(format!(
            "'{}' is not a region such as us-east-1",
            text.escape_debug()
        )),
    }
}

pub(super) fn no_address(text: &str, family: &str, example: &str) -> String {
    format!(
        "'{}' is not {family} address and port such as {example}",
        text.escape_debug()
    )
}

pub(super) fn in_plain_http(address: SocketAddr) -> String {
    format!(
        "{} is not a loopback address, and signed calls would travel there in plain HTTP: name a certificate and its key, \
         listen on 127.0.0.1 or [::1], or set expose_signed_calls_in_plain_http = true where the network itself keeps \
         others out",
        address.ip()
    )
}

/// The addresses that are spoken for, with whose they are.
#[derive(Default)]
pub(super) struct Taken(Vec<(SocketAddr, String)>);

impl Taken {
    fn take(&mut self, address: SocketAddr, owner: &str) -> Result<(), String> {
        let before = self
            .0
            .iter()
            .find(|(other, _)| collide(*other, address))
            .cloned();
        self.0.push((address, owner.to_string()));
        match before {
            Some((other, owner)) => Err(format!("{other} belongs to {owner} already")),
            None => Ok(()),
        }
    }
}

/// Port 0 is any free port, and the unspecified address is every address of its family.
pub(super) fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let everywhere = |address: IpAddr| address.is_unspecified();
    let same_address = one == other || everywhere(one.ip()) || everywhere(other.ip());
    one.port() != 0
        && one.port() == other.port()
        && one.is_ipv4() == other.is_ipv4()
        && same_address
}
