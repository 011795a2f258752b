//! Tests of valid configurations, and of many more that are rejected.

use std::path::Path;
use std::time::Duration;

use toml_edit::{Document, TableLike};

use super::*;
use crate::document;
use crate::instance::{Attachment, Images, ImdsSupport};
use crate::sigv4::Regions;

const LISTENER: &str = "[[listener]]\nname = \"a\"\nipv4 = \"127.0.0.1:1338\"\n";

fn parse_text(text: &str) -> Result<Config, Vec<Fault>> {
    parse(Path::new("/etc/imdsd/imdsd.toml"), text)
}

/// Returns the faults of a text, without the file name.
fn refused(text: &str) -> Vec<String> {
    let faults = parse_text(text).expect_err(text);
    faults
        .iter()
        .map(|fault| fault.to_string().replace("/etc/imdsd/imdsd.toml:", ""))
        .collect()
}

#[test]
fn a_listener_is_the_only_required_setting() {
    let config = parse_text(LISTENER).unwrap();
    assert_eq!(
        config,
        Config {
            instances: None,
            state_directory: Some(STATE_DIRECTORY.into()),
            runtime_directory: Some(RUNTIME_DIRECTORY.into()),
            guest: GuestSettings::default(),
            listeners: vec![ListenerSettings {
                name: "a".to_string(),
                ipv4: Some("127.0.0.1:1338".parse().unwrap()),
                ipv6: None,
                interface: None,
                anti_spoofed: false,
                extra_hops: 0,
            }],
            interfaces: None,
            images: Images::default(),
            control: None,
            admin: Some(AdminSettings {
                socket: "/run/imdsd/admin.sock".into(),
                users: Vec::new(),
                groups: Vec::new(),
                socket_policy: AdminSocketPolicy::Required,
            }),
            identity: IdentitySettings::default(),
            log: LogSettings::default(),
        }
    );
}

#[test]
fn the_shipped_configuration_has_the_defaults() {
    let shipped = parse_text(include_str!("../../config/imdsd.toml")).unwrap();
    // Settings without a default, and tables that are absent by default.
    let text = "instances = \"instances.d\"\n[control]\n[interfaces]\n[[listener]]\nname = \"loopback\"\n\
                ipv4 = \"127.0.0.1:1338\"\nipv6 = \"[::1]:1338\"\n";
    assert_eq!(shipped, parse_text(text).unwrap());
}

#[test]
fn the_shipped_configuration_names_every_setting() {
    let shipped = include_str!("../../config/imdsd.toml");
    let document = Document::parse(shipped).unwrap();
    let mut named = Vec::new();
    for (key, item) in document.iter() {
        named.push(key.to_string());
        let tables: Vec<&dyn TableLike> = match (item.as_table_like(), item.as_array_of_tables()) {
            (Some(table), _) => vec![table],
            (None, Some(tables)) => tables.iter().map(|table| table as &dyn TableLike).collect(),
            (None, None) => vec![],
        };
        named.extend(
            tables
                .iter()
                .flat_map(|table| table.iter().map(|(below, _)| format!("{key}.{below}"))),
        );
    }
    // An unknown key in every table: the faults list the known keys.
    let unknown = "xxxxxxxx = 1\n[guest]\nxxxxxxxx = 1\n[[listener]]\nname = \"a\"\nipv4 = \"127.0.0.1:0\"\n\
                   xxxxxxxx = 1\n[control]\nxxxxxxxx = 1\n[admin]\nxxxxxxxx = 1\n[images]\nxxxxxxxx = 1\n[[image]]\n\
                   id = \"ami-12345678\"\nimds_support = \"none\"\nxxxxxxxx = 1\n[log]\nxxxxxxxx = 1\n[interfaces]\nxxxxxxxx = 1\n";
    for fault in parse_text(unknown).unwrap_err() {
        let table = fault.field.strip_suffix("xxxxxxxx").unwrap();
        for known in fault
            .message
            .strip_prefix("unknown key; known keys: ")
            .unwrap()
            .split(", ")
        {
            let setting = format!("{table}{known}");
            // Settings without a default that can be written appear in comments.
            let written = named.contains(&setting)
                || (setting == "control.regions" && shipped.contains("`regions ="))
                || (setting == "control.certificate"
                    && shipped.contains("`certificate = \"/etc/imdsd/control.pem\"`"))
                || (setting == "control.key"
                    && shipped.contains("`key = \"/etc/imdsd/control.key\"`"))
                || (setting == "interfaces.extra_hops_of" && shipped.contains("`extra_hops_of ="))
                || (setting == "image" && shipped.contains("# [[image]]"))
                || (table == "image." && shipped.contains(&format!("# {known} = ")))
                || (setting == "interfaces.rules_table" && shipped.contains("`rules_table ="))
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
                _ => assert!(path.is_dir(), "{} is not read by any test", path.display()),
            }
        }
    }
    assert!(configurations >= 2 && documents >= 3);
}

#[test]
fn the_demo_is_one_instance_on_one_listener() {
    let (config, instance) = (Config::demo(), demo_instance());
    assert_eq!(
        instance.imds.attachments,
        [Attachment::Listener(config.listeners[0].name.clone().into()).into()]
    );
    assert_eq!(instance.region(), "us-east-1");
    assert_eq!(
        instance.metadata_options,
        crate::instance::MetadataOptions::default()
    );
    assert!(config.control.unwrap().listen.ip().is_loopback());
    let role = instance.imds.role.unwrap();
    let crate::instance::CredentialSource::Static(source) = role.source else {
        panic!("the demo fetches nothing")
    };
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
                  head_seconds = 60, threads = 16, requests_per_second = 0, burst = 1 }
        control.listen = "[::1]:0"
        control.access_keys = "../keys.toml"
        control.regions = ["us-east-1", "basement"]
        log.format = "json"
        log.level = "trace"
        [[listener]]
        name = "a"
        ipv4 = "0.0.0.0:80"
        expose_credentials_to_every_network = true
        [[listener]]
        name = "b"
        ipv6 = "[::]:80"
        expose_credentials_to_every_network = true
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
    assert_eq!(
        config.guest.allowed_hosts,
        ["metadata.internal", "[fd00::1]"]
    );
    assert!(!config.guest.refuse_rebinding);
    assert_eq!(
        (
            config.guest.connections,
            config.guest.head_time,
            config.guest.threads
        ),
        (65_536, Duration::from_secs(60), 16)
    );
    assert_eq!(
        (config.guest.requests_per_second, config.guest.burst),
        (0, 1)
    );
    assert_eq!(config.listeners.len(), 4);
    let control = config.control.unwrap();
    assert_eq!(
        control.access_keys,
        AccessKeySource::File("/etc/imdsd/../keys.toml".into())
    );
    assert!(control.regions.allow("basement") && !control.regions.allow("us-east-2"));
    assert!(Regions::Any.allow("anywhere"));
    assert_eq!(
        config.log,
        LogSettings {
            format: LogFormat::Json,
            level: LogLevel::Trace
        }
    );
}

#[test]
fn one_fault_is_one_line() {
    for (text, expected) in [
        ("listener", "1: not TOML: key with no value, expected `=`"),
        ("\n[guest\n", "2: not TOML: unclosed table, expected `]`"),
        (
            "\nlog = 1\n",
            "2: log: expected a table, [log], found an integer",
        ),
        (
            "instances = 5\n",
            "1: instances: expected a string, found an integer",
        ),
        ("instances = \"\"\n", "1: instances: a path cannot be empty"),
        (
            "state_directory = \"\"\n",
            "1: state_directory: a path cannot be empty",
        ),
        (
            "runtime_directory = []\n",
            "1: runtime_directory: expected a string, found an array",
        ),
        (
            "instance = \"x\"\n",
            "1: instance: unknown key; did you mean instances?",
        ),
        (
            "colour = 1\n",
            "1: colour: unknown key; known keys: instances, state_directory, runtime_directory,",
        ),
        (
            "[guset]\n",
            "1: guset: unknown key; known keys: instances, state_directory, runtime_directory, guest,",
        ),
        (
            "[identity]\nkey = \"k.pem\"\n",
            "1: identity.certificate: your own key needs its certificate",
        ),
        (
            "[identity]\ncertificate = \"c.pem\"\n",
            "1: identity.key: your own certificate needs its key",
        ),
        (
            "[identity]\nretired = []\n",
            "2: identity.retired: needs your own key",
        ),
        (
            "[identity]\nissuer = \"imds.example.com\"\n",
            "2: identity.issuer: 'imds.example.com' is not a URL",
        ),
        (
            "[identity]\nissuer = \"https://imds.example.com/\"\n",
            "2: identity.issuer: ",
        ),
        (
            "[interfaces]\nrules_table = \"\"\n",
            "2: interfaces.rules_table: the ending of a table's name has 1 to 24 lower-case",
        ),
        (
            "[interfaces]\nrules_table = \"a {}\"\n",
            "2: interfaces.rules_table: the ending of a table's name has 1 to 24 lower-case",
        ),
        (
            "[interfaces]\nrules_table = \"abcdefghijklmnopqrstuvwxy\"\n",
            "2: interfaces.rules_table: the ending of a table's name has 1 to 24 lower-case",
        ),
        (
            "[guest]\nrequests_per_second = -1\n",
            "2: guest.requests_per_second: expected 0 to 1000000 requests, found -1",
        ),
        (
            "[guest]\nrequests_per_second = \"off\"\n",
            "2: guest.requests_per_second: expected an integer, found a string",
        ),
        (
            "[guest]\nburst = 0\n",
            "2: guest.burst: expected 1 to 1000000 requests, found 0",
        ),
        (
            "[guest]\nthreads = 0\n",
            "2: guest.threads: expected 1 to 16 threads, found 0",
        ),
        (
            "[guest]\nthreads = 17\n",
            "2: guest.threads: expected 1 to 16 threads, found 17",
        ),
        (
            "[guest]\nconnections = 0\n",
            "2: guest.connections: expected 2 to 65536 connections, found 0",
        ),
        (
            "[guest]\nconnections = 65537\n",
            "2: guest.connections: expected 2 to 65536 connections, found 65537",
        ),
        (
            "[guest]\nconnections = \"9\"\n",
            "2: guest.connections: expected an integer, found a string",
        ),
        (
            "[guest]\nhead_seconds = 0\n",
            "2: guest.head_seconds: expected 1 to 60 seconds, found 0",
        ),
        (
            "[guest]\nhead_seconds = 61\n",
            "2: guest.head_seconds: expected 1 to 60 seconds, found 61",
        ),
        (
            "[guest]\nhead_seconds = 1.5\n",
            "2: guest.head_seconds: expected an integer, found a float",
        ),
        (
            "[guest]\nhead_second = 1\n",
            "2: guest.head_second: unknown key; did you mean head_seconds?",
        ),
        (
            "[guest]\nrefuse_rebinding = \"no\"\n",
            "2: guest.refuse_rebinding: expected true or false, found a string",
        ),
        (
            "[guest]\nallowed_hosts = \"a\"\n",
            "2: guest.allowed_hosts: expected an array of strings, found a string",
        ),
        (
            "[guest]\nallowed_hosts = [\n1]\n",
            "3: guest.allowed_hosts: expected strings, found an integer",
        ),
        (
            "[guest]\nallowed_hosts = [\"a:80\"]\n",
            "2: guest.allowed_hosts: 'a:80' is not a host name without a",
        ),
        (
            "[guest]\nallowed_hosts = [\"\"]\n",
            "2: guest.allowed_hosts: '' is not a host name without a port",
        ),
        (
            "[guest]\nallowed_hosts = [\"*\"]\n",
            "2: guest.allowed_hosts: '*' is not a host name without a port",
        ),
        (
            "[guest]\nallowed_hosts = [\"a\",\n\"A\"]\n",
            "3: guest.allowed_hosts: 'a' appears twice",
        ),
        (
            "[control]\nlisten = \"localhost:80\"\n",
            "2: control.listen: 'localhost:80' is not an IP address and",
        ),
        (
            "[control]\nlisten = \"127.0.0.1\"\n",
            "2: control.listen: '127.0.0.1' is not an IP address and port",
        ),
        (
            "[control]\nlisten = \"127.0.0.1:1338\"\n",
            "2: control.listen: 127.0.0.1:1338 is already used by listener 'a'",
        ),
        (
            "[control]\naccess_keys = \"\"\n",
            "2: control.access_keys: a path cannot be empty",
        ),
        (
            "[control]\nregions = []\n",
            "2: control.regions: no call could be signed; remove the key to allow",
        ),
        (
            "[control]\nregions = [\"US\"]\n",
            "2: control.regions: 'US' is not a region such as us-east-1",
        ),
        (
            "[[control]]\n",
            "1: control: expected a table, [control], found an array of tables",
        ),
        (
            "[admin]\nsocket = \"\"\n",
            "2: admin.socket: a path cannot be empty",
        ),
        (
            "[admin]\nusers = \"root\"\n",
            "2: admin.users: expected an array of numbers and names, found a string",
        ),
        (
            "[admin]\nusers = [\n\"no-such-user\"]\n",
            "3: admin.users: there is no user 'no-such-user' on this host; `getent passwd no-such-user`",
        ),
        (
            "[admin]\nusers = [-1]\n",
            "2: admin.users: expected numbers from 0, or names",
        ),
        (
            "[admin]\nusers = [1.5]\n",
            "2: admin.users: expected numbers from 0, or names",
        ),
        (
            "[admin]\ngroups = \"ops\"\n",
            "2: admin.groups: expected an array of numbers and names, found a string",
        ),
        (
            "[admin]\ngroups = [0,\n\"no-such-group\"]\n",
            "3: admin.groups: there is no group 'no-such-group' on this host",
        ),
        (
            "[admin]\nuser = [0]\n",
            "2: admin.user: unknown key; did you mean users?",
        ),
        (
            "[log]\nformat = \"xml\"\n",
            "2: log.format: expected \"text\" or \"json\", found \"xml\"",
        ),
        (
            "[log]\nlevel = \"INFO\"\n",
            "2: log.level: expected \"error\", \"warn\", \"info\", \"debug\" or \"trace\", found \"INFO\"",
        ),
        (
            "[log]\nlevel = 3\n",
            "2: log.level: expected a string, found an integer",
        ),
        (
            "[[listener]]\nipv4 = \"127.0.0.1:1\"\n",
            "1: listener.name: is missing",
        ),
        (
            "[[listener]]\nname = \"b\"\n",
            "1: listener.ipv4: a listener needs ipv4, ipv6 or both",
        ),
        (
            "[[listener]]\nname = \"b\"\nipv4 = \"[::1]:1\"\n",
            "3: listener.ipv4: '[::1]:1' is not an IPv4 address",
        ),
        (
            "[[listener]]\nname = \"b\"\nipv6 = \"127.0.0.1:1\"\n",
            "3: listener.ipv6: '127.0.0.1:1' is not an IPv6",
        ),
        (
            "[[listener]]\nname = \"b\"\nipv4 = \"127.0.0.1:65536\"\n",
            "3: listener.ipv4: '127.0.0.1:65536' is not",
        ),
        (
            "[[listener]]\nname = \"b c\"\nipv4 = \"127.0.0.1:1\"\n",
            "2: listener.name: a listener's name has 1 to",
        ),
        (
            "[[listener]]\nname = \"\"\nipv4 = \"127.0.0.1:1\"\n",
            "2: listener.name: a listener's name has 1 to 64",
        ),
        (
            "[[listener]]\nname = \"b\"\nipv4 = \"127.0.0.1:1\"\nip = 1\n",
            "4: listener.ip: unknown key; known",
        ),
    ] {
        // The valid listener comes last: a `key = value` after it would belong to it.
        let text = match text.contains("1338\"\n") {
            true => format!("{text}{LISTENER}"),
            false => format!("{text}{}", LISTENER.replace("1338", "1337")),
        };
        let faults = refused(&text);
        assert!(
            faults.len() == 1 && faults[0].starts_with(expected),
            "{text}{faults:#?}"
        );
    }
}

#[test]
fn a_plain_http_control_endpoint_outside_loopback_is_rejected() {
    for address in [
        "0.0.0.0:1339",
        "[::]:1339",
        "192.0.2.1:1339",
        "169.254.169.254:80",
        "[::ffff:127.0.0.1]:1339",
    ] {
        let faults = refused(&format!("{LISTENER}[control]\nlisten = \"{address}\"\n"));
        assert_eq!(faults.len(), 1, "{address}");
        assert!(
            faults[0].starts_with("5: control.listen: ") && faults[0].contains("plain HTTP"),
            "{}",
            faults[0]
        );
        for more in [
            "certificate = \"a.pem\"\nkey = \"a.key\"\n",
            "expose_signed_calls_in_plain_http = true\n",
        ] {
            let text = format!("{LISTENER}[control]\nlisten = \"{address}\"\n{more}");
            let control = parse_text(&text).unwrap().control.unwrap();
            assert_eq!(control.listen.to_string(), address);
        }
    }
    let half = refused(&format!("{LISTENER}[control]\ncertificate = \"a.pem\"\n"));
    assert_eq!(half, ["4: control.key: a certificate needs its key"]);
    let half = refused(&format!("{LISTENER}[control]\nkey = \"a.key\"\n"));
    assert_eq!(
        half,
        ["4: control.certificate: a key needs its certificate"]
    );
}

#[test]
fn a_listener_that_other_hosts_reach_needs_an_interface_or_a_frightening_setting() {
    let listener =
        |key: &str, address: &str| format!("[[listener]]\nname = \"a\"\n{key} = \"{address}\"\n");
    for (key, address) in [
        ("ipv4", "0.0.0.0:80"),
        ("ipv4", "203.0.113.7:80"),
        ("ipv4", "10.0.0.1:80"),
        ("ipv4", "192.168.122.1:80"),
        ("ipv6", "[::]:80"),
        ("ipv6", "[2001:db8::1]:80"),
        ("ipv6", "[fd12::1]:80"),
    ] {
        let faults = refused(&listener(key, address));
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(
            faults[0].starts_with(&format!("3: listener.{key}: every host that reaches "))
                && faults[0].contains("set interface")
                && faults[0].contains("expose_credentials_to_every_network = true"),
            "{}",
            faults[0]
        );
        for more in [
            "interface = \"br0\"\n",
            "expose_credentials_to_every_network = true\n",
        ] {
            let text = listener(key, address) + more;
            assert!(parse_text(&text).is_ok(), "{text}");
        }
        // The setting is not about who else is served as this instance.
        let text =
            listener(key, address) + "expose_credentials_to_every_network = true\n[interfaces]\n";
        assert!(refused(&text)[0].contains("needs interface"), "{text}");
    }
    for (key, address) in [
        ("ipv4", "127.0.0.1:80"),
        ("ipv4", "169.254.169.254:80"),
        ("ipv6", "[::1]:80"),
        ("ipv6", "[fd00:ec2::254]:80"),
    ] {
        assert!(parse_text(&listener(key, address)).is_ok(), "{address}");
    }
    // Both addresses of one listener are checked.
    let both = listener("ipv4", "0.0.0.0:80") + "ipv6 = \"[::]:80\"\n";
    assert_eq!(refused(&both).len(), 2);
}

#[test]
fn two_listeners_cannot_share_a_name_or_an_address() {
    let listener = |name: &str, key: &str, address: &str| {
        format!("[[listener]]\nname = \"{name}\"\n{key} = \"{address}\"\n")
    };
    for (name, key, address, expected) in [
        (
            "a",
            "ipv4",
            "127.0.0.2:1338",
            "5: listener.name: another listener is named 'a'",
        ),
        (
            "b",
            "ipv4",
            "127.0.0.1:1338",
            "6: listener.ipv4: 127.0.0.1:1338 is already used by listener 'a'",
        ),
        (
            "b",
            "ipv4",
            "0.0.0.0:1338",
            "6: listener.ipv4: 127.0.0.1:1338 is already used by listener 'a'",
        ),
    ] {
        assert_eq!(
            refused(&format!("{LISTENER}{}", listener(name, key, address))),
            [expected]
        );
    }
    let text = listener("a", "ipv6", "[::]:80")
        + "expose_credentials_to_every_network = true\n"
        + &listener("b", "ipv6", "[::1]:80");
    assert_eq!(
        refused(&text),
        ["7: listener.ipv6: [::]:80 is already used by listener 'a'"]
    );
}

#[test]
fn the_admin_socket_is_in_the_runtime_directory_by_default() {
    let admin = |text: &str| {
        parse_text(&format!("{text}{LISTENER}"))
            .unwrap()
            .admin
            .unwrap()
    };
    assert_eq!(
        admin("runtime_directory = \"run\"\n").socket,
        Path::new("/etc/imdsd/run/admin.sock")
    );
    let said = admin(
        "[admin]\nsocket = \"/srv/a.sock\"\nusers = [1000, \"root\"]\ngroups = [\"root\", 4000000]\n",
    );
    assert_eq!(
        said,
        AdminSettings {
            socket: "/srv/a.sock".into(),
            users: vec![1000, 0],
            groups: vec![0, 4_000_000],
            socket_policy: AdminSocketPolicy::Required
        }
    );
}

#[test]
fn no_listener_shares_the_metadata_addresses_of_interfaces() {
    let interfaces = parse_text("[interfaces]\n").unwrap().interfaces.unwrap();
    assert_eq!(interfaces, InterfaceSettings::default());
    assert_eq!(interfaces.ipv6.to_string(), "[fd00:ec2::254]:80");
    let text =
        "[interfaces]\naddresses = \"manage\"\nextra_hops = 1\nextra_hops_of = { br0 = 2 }\n";
    let interfaces = parse_text(text).unwrap().interfaces.unwrap();
    assert_eq!(interfaces.addresses, AddressMode::Manage);
    assert_eq!(
        [interfaces.extra_hops("tap0"), interfaces.extra_hops("br0")],
        [1, 2]
    );
    let with = |line: &str| format!("[interfaces]\n{line}\n");
    for (text, expected) in [
        (with("addresses = \"put\""), "2: interfaces.addresses: expected \"check\" or \"manage\", found \"put\""),
        (
            with("ipv4 = \"169.254.169.254\""),
            "2: interfaces.ipv4: '169.254.169.254' is not an IPv4 address and port such as 169.254.169.254:80",
        ),
        (
            with("ipv4 = \"0.0.0.0:80\""),
            "2: interfaces.ipv4: guests cannot reach 0.0.0.0:80; expected an address of the interface and a port",
        ),
        (
            with("ipv6 = \"[::1]:80\""),
            "2: interfaces.ipv6: guests cannot reach [::1]:80; expected an address of the interface and a port",
        ),
        (
            with("ipv4 = \"10.0.0.1:0\""),
            "2: interfaces.ipv4: guests cannot reach 10.0.0.1:0; expected an address of the interface and a port",
        ),
        (with("extra_hops = 192"), "2: interfaces.extra_hops: expected 0 to 191 routers, found 192"),
        (with("extra_hops_of = { br0 = -1 }"), "2: interfaces.extra_hops_of: 'br0': expected 0 to 191 routers"),
        (with("extra_hops_of = 3"), "2: interfaces.extra_hops_of: expected a table of numbers, found an integer"),
        // A socket for every interface would answer guests whose interface has no socket of its own
        // yet.
        (
            "[[listener]]\nname = \"a\"\nipv4 = \"169.254.169.254:80\"\ninterface = \"lan0\"\n[interfaces]\n"
                .to_string(),
            "5: interfaces.ipv4: 169.254.169.254:80 is already used by listener 'a'",
        ),
        (
            "[[listener]]\nname = \"a\"\nipv6 = \"[::]:80\"\ninterface = \"lan0\"\n[interfaces]\n".to_string(),
            "5: interfaces.ipv6: [::]:80 is already used by listener 'a'",
        ),
        // So would a socket at another address of the host.
        (
            "[[listener]]\nname = \"a\"\nipv4 = \"10.0.0.1:80\"\n[interfaces]\n".to_string(),
            "1: listener.interface: together with [interfaces], a listener that is not on loopback needs interface: it would \
             answer guests of other interfaces as its own instance",
        ),
        (
            "[[listener]]\nname = \"a\"\nipv4 = \"10.0.0.1:80\"\nanti_spoofed = true\n".to_string(),
            "4: listener.anti_spoofed: needs interface: guests on other interfaces could use any source address",
        ),
        (
            "[[listener]]\nname = \"a\"\nipv4 = \"10.0.0.1:80\"\ninterface = \"a/b\"\n".to_string(),
            "4: listener.interface: an interface name is 1 to 15 printable ASCII characters without spaces, '/' and ':', not 'a/b'",
        ),
    ] {
        assert_eq!(refused(&text), [expected]);
    }
}

#[test]
fn a_configuration_without_listeners_and_interfaces_is_rejected() {
    let expected = "1: listener: a [[listener]] or the table [interfaces] is required; without both, no guest is served";
    assert_eq!(refused(""), [expected]);
    assert_eq!(refused("[log]\n"), [expected]);
    let faults = refused("listener = [{ name = \"a\" }]");
    assert_eq!(
        faults,
        ["1: listener: expected tables with the header [[listener]], found an array"]
    );
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
    let lines: Vec<String> = refused(text)
        .iter()
        .map(|fault| fault.splitn(3, ": ").take(2).collect::<Vec<_>>().join(" "))
        .collect();
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

#[test]
fn a_configuration_that_cannot_be_read_is_a_fault() {
    let directory = tempfile::tempdir().unwrap();
    let faults = read(&directory.path().join("absent.toml")).unwrap_err();
    assert!(faults[0].message.starts_with("can't be read: "));
}

/// Rows of a table of images and its faults.
#[test]
fn images_have_ids_and_one_of_two_values() {
    const V2: ImdsSupport = ImdsSupport::V2;
    let images = |text: &str| parse_text(&format!("{LISTENER}{text}")).map(|config| config.images);
    let read = images(
        "[images]\nunlisted = \"none\"\n[[image]]\nid = \"ami-12345678\"\nimds_support = \"v2.0\"\n\
         name = \"golden\"\narchitecture = \"arm64\"\n",
    )
    .unwrap();
    assert_eq!(read.imds_support("ami-12345678"), V2);
    assert_eq!(read.imds_support("ami-87654321"), ImdsSupport::Unset);
    assert_eq!(images("").unwrap().imds_support("ami-12345678"), V2);
    assert_eq!(images("[images]\n").unwrap(), Images::default());
    for (text, words) in [
        (
            "[images]\nunlisted = \"v1.0\"\n",
            "expected \"v2.0\" or \"none\", found \"v1.0\"",
        ),
        ("[images]\nunlisted = \"\"\n", "expected"),
        ("[images]\nunlisted = 2\n", "a string"),
        ("[images]\nlisted = \"v2.0\"\n", "unknown key"),
        ("[[image]]\nimds_support = \"v2.0\"\n", "is missing"),
        (
            "[[image]]\nid = \"ami-12345678\"\n",
            "is missing: \"v2.0\" or \"none\"",
        ),
        (
            "[[image]]\nid = \"ami-1234567\"\nimds_support = \"v2.0\"\n",
            "is not an image id",
        ),
        (
            "[[image]]\nid = \"ami-1234567G\"\nimds_support = \"v2.0\"\n",
            "is not an image id",
        ),
        (
            "[[image]]\nid = \"i-12345678\"\nimds_support = \"v2.0\"\n",
            "is not an image id",
        ),
        (
            "[[image]]\nid = \"ami-12345678\"\nimds_support = \"v2.0\"\n\
             [[image]]\nid = \"ami-12345678\"\nimds_support = \"none\"\n",
            "ami-12345678 appears twice",
        ),
        (
            "[[image]]\nid = \"ami-12345678\"\nimds_support = \"none\"\narchitecture = \"sparc\"\n",
            "expected \"x86_64\"",
        ),
    ] {
        let faults = images(text).unwrap_err();
        assert!(
            faults.iter().any(|fault| fault.to_string().contains(words)),
            "{text}: {faults:?}"
        );
    }
}
