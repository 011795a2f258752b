//! Real clients against a real daemon: SDKs and cloud-init read metadata, and the AWS CLI changes
//! options while a guest reads.
//!
//! Clients have the metadata address built in. They run only with an endpoint on loopback, or in a
//! network namespace where the address belongs to the test.

mod control;
mod records;
mod signers;
#[path = "../support/mod.rs"]
mod support;
mod tls;
mod tools;

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{
    ACCESS_KEY, Daemon, INSTANCE, MetadataService, PATIENCE, TOKEN_REQUEST, ask, venv_python,
};

/// Returns a command without the machine's own credentials, profiles and endpoints.
fn client(program: PathBuf, daemon: &Daemon) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", daemon.directory.path())
        .env(
            "AWS_EC2_METADATA_SERVICE_ENDPOINT",
            format!("http://{}", daemon.ipv4),
        )
        .env("AWS_EC2_METADATA_V1_DISABLED", "true");
    command
}

fn output(command: &mut Command) -> Output {
    command.output().expect("the client runs")
}

/// Runs `aws ec2 …` as an operator types it.
fn aws(daemon: &Daemon, arguments: &[&str]) -> Output {
    let aws = venv_python().with_file_name("aws");
    let mut command = client(aws, daemon);
    command
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY.0)
        .env("AWS_SECRET_ACCESS_KEY", ACCESS_KEY.1)
        .arg("ec2");
    command.args(arguments).args([
        "--region",
        "us-east-1",
        "--endpoint-url",
        &format!("http://{}", daemon.control),
    ]);
    output(&mut command)
}

fn options_now(daemon: &Daemon) -> Value {
    let described = aws(
        daemon,
        &[
            "describe-instances",
            "--instance-ids",
            INSTANCE,
            "--output",
            "json",
        ],
    );
    assert!(
        described.status.success(),
        "{}",
        String::from_utf8_lossy(&described.stderr)
    );
    let described: Value = serde_json::from_slice(&described.stdout).unwrap();
    described["Reservations"][0]["Instances"][0]["MetadataOptions"].clone()
}

#[test]
#[ignore = "needs .venv with boto3; tests/all runs it"]
fn boto3_reads_region_instance_id_and_credentials_with_tokens_required() {
    let python = venv_python();
    let daemon = Daemon::start(|_| {});
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/boto3_reads.py");
    let read = output(client(python, &daemon).arg(script));
    assert!(
        read.status.success(),
        "{}",
        String::from_utf8_lossy(&read.stderr)
    );
    let read: Value = serde_json::from_slice(&read.stdout).unwrap();
    println!("{read:#}");
    assert_eq!(read["region"], "us-east-1");
    assert_eq!(read["instance_id"], INSTANCE);
    assert_eq!(read["credentials"]["role_name"], "demo-role");
    assert_eq!(read["found_by"], "iam-role");
    let v2 = daemon
        .get_with(
            "/latest/meta-data/iam/security-credentials/demo-role",
            &daemon.token(),
        )
        .body;
    let v2: Value = serde_json::from_str(&v2).unwrap();
    assert_eq!(read["credentials"]["access_key"], v2["AccessKeyId"]);
    assert_eq!(read["access_key"], v2["AccessKeyId"]);
}

/// For each of the five options: before, the change by the AWS CLI, the guest's next request, and
/// `applied` in describe-instances.
#[test]
#[ignore = "needs .venv with the AWS CLI; tests/all runs it"]
fn the_aws_cli_flips_every_option_and_the_next_guest_request_sees_it() {
    venv_python();
    let daemon = Daemon::start(|_| {});
    let tokens = |d: &Daemon| {
        format!(
            "GET without a token: {}",
            d.get("/latest/meta-data/instance-id").status
        )
    };
    let tags = |d: &Daemon| {
        format!(
            "GET tags/instance/Name: {}",
            d.get_with("/latest/meta-data/tags/instance/Name", &d.token())
                .status
        )
    };
    let endpoint = |d: &Daemon| format!("PUT token: {}", d.ask(TOKEN_REQUEST).status);
    let ipv6 = |d: &Daemon| match TcpStream::connect_timeout(&d.ipv6, PATIENCE) {
        Ok(_) => format!(
            "GET by IPv6: {}",
            ask(d.ipv6, "GET / HTTP/1.1\r\nHost: imds\r\n\r\n").status
        ),
        Err(reason) => format!("GET by IPv6: {}", reason.kind()),
    };
    let hops = |d: &Daemon| format!("token answer with TTL {}", received_ttl(d));
    type Effect<'a> = &'a dyn Fn(&Daemon) -> String;
    let rows: [(&str, &str, &str, Effect<'_>, &str, &str); 5] = [
        (
            "http-tokens",
            "HttpTokens",
            "optional",
            &tokens,
            "GET without a token: 401",
            "GET without a token: 200",
        ),
        (
            "http-put-response-hop-limit",
            "HttpPutResponseHopLimit",
            "5",
            &hops,
            "token answer with TTL 2",
            "token answer with TTL 5",
        ),
        (
            "instance-metadata-tags",
            "InstanceMetadataTags",
            "enabled",
            &tags,
            "GET tags/instance/Name: 404",
            "GET tags/instance/Name: 200",
        ),
        (
            "http-protocol-ipv6",
            "HttpProtocolIpv6",
            "enabled",
            &ipv6,
            "GET by IPv6: connection refused",
            "GET by IPv6: 200",
        ),
        (
            "http-endpoint",
            "HttpEndpoint",
            "disabled",
            &endpoint,
            "PUT token: 200",
            "PUT token: 403",
        ),
    ];
    println!("| option | before | change | after | describe-instances |\n|---|---|---|---|---|");
    for (flag, field, value, effect, before, after) in rows {
        assert_eq!(effect(&daemon), before, "{flag}");
        let flag_given = format!("--{flag}");
        let changed = aws(
            &daemon,
            &[
                "modify-instance-metadata-options",
                "--instance-id",
                INSTANCE,
                &flag_given,
                value,
                "--output",
                "json",
            ],
        );
        assert!(
            changed.status.success(),
            "{}",
            String::from_utf8_lossy(&changed.stderr)
        );
        let changed: Value = serde_json::from_slice(&changed.stdout).unwrap();
        let options = &changed["InstanceMetadataOptions"];
        let printed = options[field]
            .as_str()
            .map_or_else(|| options[field].to_string(), str::to_string);
        assert_eq!(printed, value, "{changed}");
        assert_eq!(options.as_object().unwrap().len(), 6, "{changed}");

        assert_eq!(effect(&daemon), after, "{flag}");
        let deadline = Instant::now() + PATIENCE;
        let mut state = options_now(&daemon)["State"].clone();
        while state != "applied" && Instant::now() < deadline {
            state = options_now(&daemon)["State"].clone();
        }
        assert_eq!(state, "applied", "{flag}");
        println!(
            "| {flag} | {before} | {value} | {after} | {} |",
            state.as_str().unwrap()
        );
    }
}

#[test]
#[ignore = "needs .venv with the AWS CLI; tests/all runs it"]
fn the_aws_cli_understands_every_refusal() {
    venv_python();
    let daemon = Daemon::start(|_| {});
    for (arguments, printed) in [
        (
            &["--instance-id", "i-00000000", "--http-tokens", "optional"][..],
            "(InvalidInstanceID.NotFound)",
        ),
        (
            &["--instance-id", "ma1", "--http-tokens", "optional"],
            "(InvalidInstanceID.Malformed)",
        ),
        (
            &["--instance-id", INSTANCE, "--http-tokens", "bogus"],
            "(InvalidParameterValue)",
        ),
        (
            &[
                "--instance-id",
                INSTANCE,
                "--http-put-response-hop-limit",
                "65",
            ],
            "(InvalidParameterValue)",
        ),
        (
            &[
                "--instance-id",
                INSTANCE,
                "--http-tokens",
                "optional",
                "--dry-run",
            ],
            "(DryRunOperation)",
        ),
    ] {
        let refused = aws(
            &daemon,
            &[&["modify-instance-metadata-options"], arguments].concat(),
        );
        let words = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            !refused.status.success() && words.contains(printed),
            "{arguments:?}: {words}"
        );
    }
    assert_eq!(options_now(&daemon)["HttpTokens"], "required");
}

/// What a client says it read.
fn read_by(test: &str, output: &Output) -> Value {
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{test}: {printed}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{test}: {printed}"))
}

/// Asserts the credentials, the region and the instance id that the demo instance returns with a
/// token.
fn assert_demo_instance(read: &Value) {
    println!("{}", serde_json::to_string(read).unwrap());
    assert_eq!(read["region"], "us-east-1");
    assert_eq!(read["instance_id"], INSTANCE);
    assert_eq!(read["access_key"], "ASIAIMDSDDEMO00000V2");
}

/// Serves the demo instance at EC2's addresses, IPv6 included, with tokens required.
fn demo_at_the_metadata_address() -> MetadataService {
    MetadataService::serve(
        include_str!("../../config/demo-instance.json"),
        |instance| {
            instance["MetadataOptions"]["HttpTokens"] = "required".into();
            instance["MetadataOptions"]["HttpProtocolIpv6"] = "enabled".into();
        },
    )
}

const BY_IPV6: (&str, &str) = ("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv6");

#[test]
#[ignore = "needs root, network namespaces and .venv with boto3; tests/all runs it"]
fn boto3_reads_at_the_metadata_addresses_by_ipv4_and_ipv6() {
    let test = "boto3 at the metadata addresses";
    let python = venv_python();
    let service = demo_at_the_metadata_address();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/boto3_reads.py");
    let by_ipv4 = read_by(test, &output(service.client(&python).arg(script)));
    assert_demo_instance(&by_ipv4);
    assert_eq!(by_ipv4["endpoint"], "http://169.254.169.254/");
    let by_ipv6 = read_by(
        test,
        &output(
            service
                .client(&python)
                .arg(script)
                .env(BY_IPV6.0, BY_IPV6.1),
        ),
    );
    assert_demo_instance(&by_ipv6);
    assert_eq!(by_ipv6["endpoint"], "http://[fd00:ec2::254]/");
}

#[test]
#[ignore = "needs root, network namespaces and .venv with the AWS CLI; tests/all runs it"]
fn the_aws_cli_takes_its_credentials_from_the_metadata_address() {
    let python = venv_python();
    let service = demo_at_the_metadata_address();
    let printed = output(
        service
            .client(python.with_file_name("aws"))
            .args(["configure", "list"]),
    );
    let printed = String::from_utf8(printed.stdout).unwrap();
    println!("{printed}");
    let found = printed
        .lines()
        .find(|line| line.trim_start().starts_with("access_key"))
        .unwrap();
    assert!(
        found.contains("00V2") && found.contains("iam-role"),
        "{printed}"
    );
}

/// Version 2 also reads the region from the metadata service; version 1 does not.
#[test]
#[ignore = "needs root, network namespaces and version 2 of the AWS CLI; tests/all runs it"]
fn version_2_of_the_aws_cli_takes_its_credentials_and_its_region_from_the_metadata_addresses() {
    let service = demo_at_the_metadata_address();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let version = |aws: &PathBuf| {
        String::from_utf8(output(service.client(aws).arg("--version")).stdout).unwrap()
    };
    let mut programs = std::env::split_paths(&path)
        .map(|folder| folder.join("aws"))
        .filter(|aws| aws.is_file());
    let aws = programs.find(|aws| version(aws).starts_with("aws-cli/2"));
    support::require(aws.is_some(), "version 2 of the AWS CLI");
    let aws = aws.unwrap();
    for mode in ["IPv4", "IPv6"] {
        let configure = |arguments: &[&str]| {
            let mut command = service.client(&aws);
            let printed = output(
                command
                    .env(BY_IPV6.0, mode)
                    .arg("configure")
                    .args(arguments),
            );
            assert!(
                printed.status.success(),
                "{}",
                String::from_utf8_lossy(&printed.stderr)
            );
            String::from_utf8(printed.stdout).unwrap()
        };
        let exported: Value = serde_json::from_str(&configure(&["export-credentials"])).unwrap();
        assert_eq!(exported["AccessKeyId"], "ASIAIMDSDDEMO00000V2");
        let listed = configure(&["list"]);
        let region = listed
            .lines()
            .find(|line| line.trim_start().starts_with("region"))
            .unwrap();
        assert_eq!(
            region.split_whitespace().collect::<Vec<_>>(),
            ["region", "us-east-1", "imds"],
            "{listed}"
        );
        println!("{} by {mode}:\n{listed}", version(&aws).trim());
    }
}

/// EC2 refuses the token with 403 while HttpEndpoint is disabled, so no client gets credentials.
#[test]
#[ignore = "needs root, network namespaces, .venv, node_modules and the Rust client; tests/all runs it"]
fn no_sdk_finds_credentials_while_the_endpoint_is_disabled() {
    let document = include_str!("../../config/demo-instance.json");
    let disabled =
        |instance: &mut Value| instance["MetadataOptions"]["HttpEndpoint"] = "disabled".into();
    let service = MetadataService::serve(document, disabled);
    let tree = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = venv_python();
    for (program, script) in [
        (python, Some("tests/clients/boto3_reads.py")),
        ("node".into(), Some("tests/clients/javascript/reads.mjs")),
        (
            tree.join("tests/.work/rust/debug/imdsd-client-tests-rust"),
            None,
        ),
    ] {
        let refused = output(
            service
                .client(&program)
                .args(script.map(|script| tree.join(script))),
        );
        let words = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            !refused.status.success() && refused.stdout.is_empty(),
            "{program:?} found credentials: {refused:?}"
        );
        // It must fail for one of these reasons, not because the client is not installed.
        let known = [
            "MetadataRetrievalError",
            "Region is missing",
            "FailedToLoadToken",
        ];
        assert!(
            known.iter().any(|reason| words.contains(reason)),
            "{program:?}: {words}"
        );
    }
}

/// No client that has the metadata address built in may run in the machine's own network.
#[test]
#[ignore = "needs network namespaces; tests/all runs it"]
fn a_client_that_finds_itself_in_the_forbidden_network_is_not_started() {
    let namespace = support::Namespace::with_metadata_addresses();
    let inside =
        String::from_utf8(output(namespace.command("readlink").arg("/proc/self/ns/net")).stdout)
            .unwrap();
    let refused = output(
        namespace
            .command("echo")
            .env("IMDSD_TEST_NOT_IN", inside.trim()),
    );
    assert_eq!((refused.status.code(), refused.stdout), (Some(97), vec![]));
    let refused = output(namespace.command("echo").env_remove("IMDSD_TEST_NOT_IN"));
    assert_eq!((refused.status.code(), refused.stdout), (Some(97), vec![]));
}

#[test]
#[ignore = "needs root, network namespaces and node_modules; tests/all runs it"]
fn the_javascript_sdk_reads_at_the_metadata_addresses_by_ipv4_and_ipv6() {
    let test = "JavaScript SDK";
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/javascript");
    support::require(
        Path::new(directory).join("node_modules").exists(),
        "node_modules in tests/clients/javascript",
    );
    let service = demo_at_the_metadata_address();
    // Versions 3 and 2 of the SDK.
    for script in ["reads.mjs", "reads_v2.mjs"] {
        let script = format!("{directory}/{script}");
        assert_demo_instance(&read_by(test, &output(service.client("node").arg(&script))));
        assert_demo_instance(&read_by(
            test,
            &output(
                service
                    .client("node")
                    .arg(&script)
                    .env(BY_IPV6.0, BY_IPV6.1),
            ),
        ));
    }
}

#[test]
#[ignore = "needs root, network namespaces and the built Rust client; tests/all runs it"]
fn the_rust_sdk_reads_at_the_metadata_addresses_by_ipv4_and_ipv6() {
    let test = "Rust SDK";
    let program = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/.work/rust/debug/imdsd-client-tests-rust"
    );
    support::require(Path::new(program).exists(), "the built tests/clients/rust");
    let service = demo_at_the_metadata_address();
    assert_demo_instance(&read_by(test, &output(&mut service.client(program))));
    assert_demo_instance(&read_by(
        test,
        &output(service.client(program).env(BY_IPV6.0, BY_IPV6.1)),
    ));
}

/// cloud-init's Ec2 data source crawls everything; then the test reads every listed entry of every
/// version.
#[test]
#[ignore = "needs root, network namespaces, .venv and cloud-init; tests/all runs it"]
fn cloud_init_crawls_the_whole_tree_and_nothing_listed_is_missing() {
    let test = "cloud-init";
    let python = venv_python();
    let package = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/.work/cloud-init");
    support::require(
        Path::new(package).join("usr").exists(),
        "Debian's cloud-init, unpacked in tests/.work",
    );
    let document = include_str!("../../config/instances/gpu-spot.json");
    let instance = support::instance_in(document);
    let options = |instance: &mut Value| {
        instance["MetadataOptions"]["HttpTokens"] = "required".into();
        instance["MetadataOptions"]["InstanceMetadataTags"] = "enabled".into();
    };
    let service = MetadataService::serve(document, options);
    // The guest's interfaces, with the MAC addresses of the document.
    for (index, interface) in instance["NetworkInterfaces"]
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
    {
        let mac = interface["MacAddress"].as_str().unwrap();
        let (name, peer) = (format!("eth{index}"), format!("peer{index}"));
        let add = [
            "link", "add", &name, "address", mac, "type", "veth", "peer", "name", &peer,
        ];
        assert!(output(service.guest("ip").args(add)).status.success());
    }

    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/cloud_init.py");
    let scratch = service.directory.path().join("cloud");
    std::fs::create_dir(&scratch).unwrap();
    // cloud-init reads interfaces from /sys, which shows those of the namespace it was mounted in.
    const WITH_OWN_SYS: &str = "mount -t sysfs sysfs /sys && exec \"$@\"";
    let mut cloud_init = service.client("unshare");
    cloud_init
        .args(["--mount", "sh", "-c", WITH_OWN_SYS, "sh"])
        .arg(python)
        .arg(script)
        .arg(package)
        .arg(&scratch);
    let read = read_by(test, &output(&mut cloud_init));

    assert_eq!(read["missing"], serde_json::json!([]));
    assert_eq!(read["complaints"], serde_json::json!([]));
    assert!(
        read["crawled"].as_u64().unwrap() > 1000,
        "{}",
        read["crawled"]
    );
    assert_eq!(read["instance_id"], instance["InstanceId"]);
    assert_eq!(
        read["availability_zone"],
        instance["Placement"]["AvailabilityZone"]
    );
    assert_eq!(read["region"], "us-west-2");
    assert_eq!(read["identity"]["instanceId"], instance["InstanceId"]);
    assert_eq!(read["metadata_version"], "2021-03-23");
    let key = instance["Imds"]["OpenSshKey"].as_str().unwrap();
    let material = key.split(' ').nth(1).unwrap();
    assert!(
        read["public_ssh_keys"][0]
            .as_str()
            .unwrap()
            .contains(material),
        "{}",
        read["public_ssh_keys"]
    );
    use base64::Engine as _;
    let encoded = instance["Imds"]["UserData"].as_str().unwrap();
    let user_data = base64::engine::general_purpose::STANDARD
        .decode(encoded)
        .unwrap();
    assert_eq!(read["user_data"].as_str().unwrap().as_bytes(), user_data);
    for tag in instance["Tags"].as_array().unwrap() {
        let shown = &read["metadata"]["tags"]["instance"][tag["Key"].as_str().unwrap()];
        assert_eq!(shown, &tag["Value"], "{tag}");
    }
    let network = &read["network_config"];
    assert_eq!(network["version"], 2);
    for (index, interface) in instance["NetworkInterfaces"]
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
    {
        let ethernet = &network["ethernets"][format!("eth{index}")];
        assert_eq!(
            ethernet["match"]["macaddress"], interface["MacAddress"],
            "{network}"
        );
        assert_eq!(ethernet["dhcp4"], true, "{network}");
        assert_eq!(
            ethernet["dhcp4-overrides"]["route-metric"],
            (index + 1) * 100,
            "{network}"
        );
        let has_ipv6 = !interface["Ipv6Addresses"].as_array().unwrap().is_empty();
        assert_eq!(ethernet["dhcp6"], has_ipv6, "{network}");
        // DHCP configures the first address. The others are static, with the subnet's prefix
        // length.
        let others = interface["PrivateIpAddresses"].as_array().unwrap()[1..].iter();
        let others =
            others.map(|address| format!("{}/24", address["PrivateIpAddress"].as_str().unwrap()));
        let given = ethernet["addresses"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        assert_eq!(
            given,
            others.map(Value::String).collect::<Vec<_>>(),
            "{network}"
        );
    }
    println!(
        "{}: instance {}, {} paths crawled in all versions, 0 missing; network {}",
        read["client"].as_str().unwrap(),
        read["instance_id"],
        read["crawled"],
        network
    );
}

/// Returns the lowest TTL of the token reply, found with a client that drops packets below a
/// minimum.
fn received_ttl(daemon: &Daemon) -> u8 {
    use std::io::Write as _;
    use std::os::fd::AsRawFd as _;
    let arrives_with = |minimum: u8| {
        let mut stream = TcpStream::connect_timeout(&daemon.ipv4, PATIENCE).unwrap();
        let value = i32::from(minimum);
        // SAFETY: the descriptor is open, and the option (IP_MINTTL) is an int that outlives the
        // call.
        let set = unsafe {
            libc::setsockopt(
                stream.as_raw_fd(),
                libc::IPPROTO_IP,
                21,
                (&raw const value).cast(),
                size_of::<i32>() as u32,
            )
        };
        assert_eq!(set, 0);
        // A reply that arrives does so at once. On a slow machine it arrives later, with the same
        // TTL.
        stream
            .set_read_timeout(Some(Duration::from_secs(2)))
            .unwrap();
        stream.write_all(TOKEN_REQUEST.as_bytes()).unwrap();
        support::read_to_end(&mut stream).starts_with("HTTP/1.1 200")
    };
    (1..=64)
        .take_while(|&minimum| arrives_with(minimum))
        .last()
        .expect("the reply arrives with a minimum of 1")
}
