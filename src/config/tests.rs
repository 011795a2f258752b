//! Configurations that are read, and many more that are refused.

use toml_edit::{Document, TableLike};

use super::*;

const LISTENER: &str = "[[listener]]\nname = \"a\"\nipv4 = \"127.0.0.1:1338\"\n";

fn parse_text(text: &str) -> Result<Config, Vec<Fault>> {
    parse(Path::new("/etc/imdsd/imdsd.toml"), text)
}

/// The faults of a text, without the file in front.
fn refused(text: &str) -> Vec<String> {
    let faults = parse_text(text).expect_err(text);
    faults
        .iter()
        .map(|fault| fault.to_string().replace("/etc/imdsd/imdsd.toml:", ""))
        .collect()
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
            control: None,
            admin: Some(AdminSettings {
                socket: "/run/imdsd/admin.sock".into(),
                users: Vec::new(),
                socket_policy: AdminSocketPolicy::Required,
            }),
            identity: IdentitySettings::default(),
            log: LogSettings::default(),
        }
    );
}

#[test]
fn the_shipped_configuration_says_the_defaults() {
    let shipped = parse_text(include_str!("../../config/imdsd.toml")).unwrap();
    // What has no default, and the table whose default is to be absent.
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
    // Every table with a key that nobody knows: the refusals list what is known.
    let unknown = "xxxxxxxx = 1\n[guest]\nxxxxxxxx = 1\n[[listener]]\nname = \"a\"\nipv4 = \"127.0.0.1:0\"\n\
                   xxxxxxxx = 1\n[control]\nxxxxxxxx = 1\n[admin]\nxxxxxxxx = 1\n[log]\nxxxxxxxx = 1\n[interfaces]\nxxxxxxxx = 1\n";
    for fault in parse_text(unknown).unwrap_err() {
        let table = fault.field.strip_suffix("xxxxxxxx").unwrap();
        for known in fault
            .message
            .strip_prefix("is not known; known here: ")
            .unwrap()
            .split(", ")
        {
            let setting = format!("{table}{known}");
            // Settings whose default can't be written down stand in comments.
            let written = named.contains(&setting)
                || (setting == "control.regions" && shipped.contains("`regions ="))
                || (setting == "control.certificate"
                    && shipped.contains("`certificate = \"/etc/imdsd/control.pem\"`"))
                || (setting == "control.key"
                    && shipped.contains("`key = \"/etc/imdsd/control.key\"`"))
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

    let checked = check(
        &directory.join("sidecar.toml"),
        |_| panic!("a sidecar has no control endpoint"),
        |_| Vec::new(),
    )
    .unwrap();
    assert_eq!((checked.instances.len(), checked.warnings), (1, vec![]));
}

#[test]
fn the_demo_is_one_instance_on_one_listener() {
    let (config, instance) = (Config::demo(), demo_instance());
    assert_eq!(
        instance.imds.attachments,
        [Attachment::Listener(config.listeners[0].name.clone())]
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
    assert_eq!(
        config.guest.allowed_hosts,
        ["metadata.internal", "[fd00::1]"]
    );
    assert!(!config.guest.refuse_rebinding);
    assert_eq!(
        (config.guest.connections, config.guest.head_time),
        (65_536, Duration::from_secs(60))
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
            "2: log: this is a table, [log], not an integer",
        ),
        (
            "instances = 5\n",
            "1: instances: this is a string, not an integer",
        ),
        ("instances = \"\"\n", "1: instances: a path can't be empty"),
        (
            "state_directory = \"\"\n",
            "1: state_directory: a path can't be empty",
        ),
        (
            "runtime_directory = []\n",
            "1: runtime_directory: this is a string, not an array",
        ),
        (
            "instance = \"x\"\n",
            "1: instance: is not known; did you mean instances?",
        ),
        (
            "colour = 1\n",
            "1: colour: is not known; known here: instances, state_directory, runtime_directory,",
        ),
        (
            "[guset]\n",
            "1: guset: is not known; known here: instances, state_directory, runtime_directory, guest,",
        ),
        (
            "[identity]\nkey = \"k.pem\"\n",
            "1: identity.certificate: a key of your own needs its certificate",
        ),
        (
            "[identity]\ncertificate = \"c.pem\"\n",
            "1: identity.key: a certificate of your own needs its key",
        ),
        (
            "[identity]\nretired = []\n",
            "2: identity.retired: goes with a key of your own",
        ),
        (
            "[identity]\nissuer = \"imds.example.com\"\n",
            "2: identity.issuer: 'imds.example.com' is no URL",
        ),
        (
            "[identity]\nissuer = \"https://imds.example.com/\"\n",
            "2: identity.issuer: ",
        ),
        (
            "[guest]\nconnections = 0\n",
            "2: guest.connections: this is 2 to 65536 connections, not 0",
        ),
        (
            "[guest]\nconnections = 65537\n",
            "2: guest.connections: this is 2 to 65536 connections, not 65537",
        ),
        (
            "[guest]\nconnections = \"9\"\n",
            "2: guest.connections: this is an integer, not a string",
        ),
        (
            "[guest]\nhead_seconds = 0\n",
            "2: guest.head_seconds: this is 1 to 60 seconds, not 0",
        ),
        (
            "[guest]\nhead_seconds = 61\n",
            "2: guest.head_seconds: this is 1 to 60 seconds, not 61",
        ),
        (
            "[guest]\nhead_seconds = 1.5\n",
            "2: guest.head_seconds: this is an integer, not a float",
        ),
        (
            "[guest]\nhead_second = 1\n",
            "2: guest.head_second: is not known; did you mean head_seconds?",
        ),
        (
            "[guest]\nrefuse_rebinding = \"no\"\n",
            "2: guest.refuse_rebinding: this is true or false, not a string",
        ),
        (
            "[guest]\nallowed_hosts = \"a\"\n",
            "2: guest.allowed_hosts: this is an array of strings, not a string",
        ),
        (
            "[guest]\nallowed_hosts = [\n1]\n",
            "3: guest.allowed_hosts: each of these is a string, not an integer",
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
            "3: guest.allowed_hosts: 'a' stands twice",
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
            "2: control.listen: 127.0.0.1:1338 belongs to listener 'a'",
        ),
        (
            "[control]\naccess_keys = \"\"\n",
            "2: control.access_keys: a path can't be empty",
        ),
        (
            "[control]\nregions = []\n",
            "2: control.regions: no call could be signed; leave the key out to allow",
        ),
        (
            "[control]\nregions = [\"US\"]\n",
            "2: control.regions: 'US' is not a region such as us-east-1",
        ),
        (
            "[[control]]\n",
            "1: control: this is a table, [control], not an array of tables",
        ),
        (
            "[admin]\nsocket = \"\"\n",
            "2: admin.socket: a path can't be empty",
        ),
        (
            "[admin]\nusers = \"root\"\n",
            "2: admin.users: this is an array of numbers, not a string",
        ),
        (
            "[admin]\nusers = [\n\"root\"]\n",
            "3: admin.users: each of these is a user's number, as `id -u NAME`",
        ),
        (
            "[admin]\nusers = [-1]\n",
            "2: admin.users: each of these is a user's number",
        ),
        (
            "[admin]\nuser = [0]\n",
            "2: admin.user: is not known; did you mean users?",
        ),
        (
            "[log]\nformat = \"xml\"\n",
            "2: log.format: this is one of text, json, not 'xml'",
        ),
        (
            "[log]\nlevel = \"INFO\"\n",
            "2: log.level: this is one of error, warn, info, debug, trace, not 'INFO'",
        ),
        (
            "[log]\nlevel = 3\n",
            "2: log.level: this is a string, not an integer",
        ),
        (
            "[[listener]]\nipv4 = \"127.0.0.1:1\"\n",
            "1: listener.name: is missing",
        ),
        (
            "[[listener]]\nname = \"b\"\n",
            "1: listener.ipv4: a listener has ipv4, ipv6 or both",
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
            "2: listener.name: a listener's name is 1 to",
        ),
        (
            "[[listener]]\nname = \"\"\nipv4 = \"127.0.0.1:1\"\n",
            "2: listener.name: a listener's name is 1 to 64",
        ),
        (
            "[[listener]]\nname = \"b\"\nipv4 = \"127.0.0.1:1\"\nip = 1\n",
            "4: listener.ip: is not known; known",
        ),
    ] {
        // The sound listener comes last: after it, a `key = value` would be its own.
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
fn a_control_endpoint_that_others_can_reach_is_refused() {
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
            "6: listener.ipv4: 127.0.0.1:1338 belongs to listener 'a' already",
        ),
        (
            "b",
            "ipv4",
            "0.0.0.0:1338",
            "6: listener.ipv4: 127.0.0.1:1338 belongs to listener 'a' already",
        ),
    ] {
        assert_eq!(
            refused(&format!("{LISTENER}{}", listener(name, key, address))),
            [expected]
        );
    }
    let text = listener("a", "ipv6", "[::]:80") + &listener("b", "ipv6", "[::1]:80");
    assert_eq!(
        refused(&text),
        ["6: listener.ipv6: [::]:80 belongs to listener 'a' already"]
    );
}

#[test]
fn the_admin_socket_is_in_the_runtime_directory_unless_it_is_said_where() {
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
    let said = admin("[admin]\nsocket = \"/srv/a.sock\"\nusers = [1000, 0]\n");
    assert_eq!(
        said,
        AdminSettings {
            socket: "/srv/a.sock".into(),
            users: vec![1000, 0],
            socket_policy: AdminSocketPolicy::Required
        }
    );
}

#[test]
fn the_metadata_addresses_of_interfaces_are_nobody_elses() {
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
            "4: listener.interface: an interface name is 1 to 15 printable characters without '/' and ':', not 'a/b'",
        ),
    ] {
        assert_eq!(refused(&text), [expected]);
    }
}

#[test]
fn a_configuration_without_a_way_in_is_refused() {
    let expected =
        "1: listener: there must be a [[listener]] or the table [interfaces], or nothing is served";
    assert_eq!(refused(""), [expected]);
    assert_eq!(refused("[log]\n"), [expected]);
    let faults = refused("listener = [{ name = \"a\" }]");
    assert_eq!(
        faults,
        ["1: listener: this is a list of tables, each headed [[listener]], not an array"]
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
    let attachments: Vec<String> = listeners
        .iter()
        .map(|name| format!("\n{{\"Listener\":\"{name}\"}}"))
        .collect();
    format!(
        "{{\"InstanceId\":\"{id}\",\"LaunchTime\":\"2026-01-01T00:00:00Z\",\"Imds\":{{\"Attachments\":[{}]}}}}",
        attachments.join(",")
    )
}

fn check_host(host: &tempfile::TempDir) -> Result<Checked, Vec<String>> {
    let folder = format!("{}/", host.path().display());
    check(
        &host.path().join("imdsd.toml"),
        |_| panic!("there is no control endpoint"),
        |_| Vec::new(),
    )
    .map_err(|faults| {
        faults
            .iter()
            .map(|fault| fault.to_string().replace(&folder, ""))
            .collect()
    })
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
    let host = host(&[
        ("1.json", &instance("i-00000001", &["b"])),
        ("2.json", &instance("i-00000002", &[])),
    ]);
    let checked = check_host(&host).unwrap();
    assert_eq!(checked.instances.len(), 2);
    let folder = format!("{}/", host.path().display());
    let warnings: Vec<String> = checked
        .warnings
        .iter()
        .map(|warning| warning.to_string().replace(&folder, ""))
        .collect();
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
    let host = host(&[
        ("1.json", "{}"),
        ("2.json", &instance("i-00000002", &["nowhere"])),
    ]);
    let text = "instances = \"instances.d\"\ncolour = 1\n[control]\naccess_keys = \"keys\"\n[[listener]]\n";
    std::fs::write(host.path().join("imdsd.toml"), text).unwrap();
    let faults = check(
        &host.path().join("imdsd.toml"),
        |keys| vec![Fault::of_file(keys, "no keys")],
        |_| Vec::new(),
    )
    .unwrap_err();
    let fields: Vec<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "colour",
            "listener.name",
            "listener.ipv4",
            "",
            "InstanceId",
            "LaunchTime"
        ]
    );
}

#[test]
fn what_cannot_be_read_is_a_fault() {
    let host = host(&[]);
    assert!(
        read(&host.path().join("absent.toml")).unwrap_err()[0]
            .message
            .starts_with("can't be read: ")
    );
    std::fs::remove_dir(host.path().join("instances.d")).unwrap();
    let faults = check_host(&host).unwrap_err();
    assert!(
        faults.len() == 1 && faults[0].starts_with("instances.d: can't be read: "),
        "{faults:?}"
    );
}
