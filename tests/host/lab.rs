//! A host in a network namespace, guests in others, and the results of `imdsd check --host` there.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Namespace, PATIENCE, require_program};

pub const DOCUMENT: &str = include_str!("../../config/demo-instance.json");

pub struct Host {
    // Declared first: the daemon and the guests end before the network does.
    daemon: Option<Child>,
    guests: Vec<Child>,
    pub directory: tempfile::TempDir,
    pub namespace: Namespace,
}

/// The result of a check.
#[derive(Debug)]
pub struct Check {
    pub status: Option<i32>,
    pub findings: Vec<Value>,
    /// Standard error.
    pub unchecked: String,
}

impl Check {
    /// Returns the text and the command of the only finding. Advice does not change the exit status.
    pub fn only(&self) -> (&str, &str) {
        let [finding] = &self.findings[..] else {
            panic!("expected one finding: {self:#?}")
        };
        let is_advice = finding["is_advice"] == true;
        assert_eq!(self.status, Some(i32::from(!is_advice)), "{self:#?}");
        (
            finding["what"].as_str().unwrap(),
            finding["mend"].as_str().unwrap(),
        )
    }

    pub fn assert_fine(&self) {
        assert_eq!(
            (self.status, self.findings.len()),
            (Some(0), 0),
            "{self:#?}"
        );
    }
}

impl Host {
    /// Creates a host without guests and with settings that suit them; panics if that is not
    /// possible here.
    pub fn new() -> Host {
        for program in ["ip", "curl"] {
            require_program(program);
        }
        let host = Host {
            daemon: None,
            guests: Vec::new(),
            directory: tempfile::tempdir().unwrap(),
            namespace: Namespace::with_metadata_addresses(),
        };
        host.sh("ip address flush dev lo scope global
             sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
             sysctl -qw net.ipv6.conf.all.accept_ra=0 net.ipv6.conf.default.accept_ra=0 net.ipv6.conf.lo.accept_ra=0");
        host
    }

    /// Adds a guest with 10.0.0.N and fd11::N behind an interface of the host. Returns its number,
    /// counted from 1.
    pub fn guest(&mut self, interface: &str, address: u8) -> usize {
        let mut unshare = self.namespace.command("unshare");
        unshare.args(["--net", "sh", "-c", "echo ready && exec timeout 600 cat"]);
        let mut holder = unshare
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "ready\n");
        let pid = holder.id();
        self.guests.push(holder);
        let number = self.guests.len();
        self.sh(&format!(
            "ip link add '{interface}' type veth peer name eth0 netns {pid} && ip link set '{interface}' up"
        ));
        self.guest_sh(
            number,
            &format!(
                "ip link set lo up; ip link set eth0 up
                 ip address add 10.0.0.{address}/24 dev eth0; ip address add fd11::{address}/64 dev eth0 nodad
                 ip route add 169.254.169.254/32 dev eth0; ip -6 route add fd00:ec2::254/128 dev eth0"
            ),
        );
        number
    }

    /// Adds the metadata addresses to an interface, and the route to the guest with this last byte
    /// in its IPv6 address.
    pub fn set_up(&self, interface: &str, address: u8) {
        self.sh(&format!(
            "ip address add 169.254.169.254/32 dev '{interface}'; ip address add fd00:ec2::254/128 dev '{interface}' nodad
             ip -6 route add fd11::{address}/128 dev '{interface}'"
        ));
    }

    /// Returns the process that holds the namespace of a guest.
    pub fn pid(&self, guest: usize) -> u32 {
        self.guests[guest - 1].id()
    }

    /// Writes the configuration, and a document for each guest: its attachment, and the last byte
    /// of its addresses.
    pub fn configure(&self, more: &str, guests: &[(Value, u8)]) {
        let documents = self.directory.path().join("instances");
        let _ = std::fs::remove_dir_all(&documents);
        std::fs::create_dir(&documents).unwrap();
        for (number, (attachment, address)) in guests.iter().enumerate() {
            let mut document: Value = serde_json::from_str(DOCUMENT).unwrap();
            document["InstanceId"] = instance(number + 1).into();
            document["PrivateIpAddress"] = format!("10.0.0.{address}").into();
            document["Ipv6Address"] = format!("fd11::{address}").into();
            document["MetadataOptions"]["HttpProtocolIpv6"] = "enabled".into();
            document["MetadataOptions"]["HttpTokens"] = "optional".into();
            document["NetworkInterfaces"] = json!([]);
            document["Imds"]["Attachments"] = json!([attachment]);
            std::fs::write(
                documents.join(format!("{number}.json")),
                document.to_string(),
            )
            .unwrap();
        }
        let config = format!(
            "instances = \"instances\"\nstate_directory = \"state\"\nruntime_directory = \"run\"\n[interfaces]\n{more}\n"
        );
        std::fs::write(self.directory.path().join("imdsd.toml"), config).unwrap();
    }

    pub fn config(&self) -> String {
        self.directory
            .path()
            .join("imdsd.toml")
            .display()
            .to_string()
    }

    /// Runs `imdsd check --host` with a /sys of this network namespace, if it can be mounted, and
    /// without the firmware tables: on a cloud machine a default route would be evidence of a
    /// metadata service.
    pub fn check(&self) -> Check {
        self.check_after(
            "mount -t sysfs sysfs /sys 2>/dev/null; mount -t tmpfs tmpfs /sys/class/dmi 2>/dev/null; exec \"$@\"",
        )
    }

    /// Runs `imdsd check --host` from a shell script that ends with `exec "$@"`.
    pub fn check_after(&self, script: &str) -> Check {
        let output = self.run(
            script,
            &["check", "--host", "--json", "--config", &self.config()],
        );
        let unchecked = String::from_utf8(output.stderr).unwrap();
        let findings: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("not a JSON list: {unchecked}"));
        Check {
            status: output.status.code(),
            findings: findings.as_array().unwrap().clone(),
            unchecked,
        }
    }

    /// Returns the text output of `imdsd check --host`.
    pub fn check_as_text(&self) -> String {
        let output = self.run(
            "exec \"$@\"",
            &["check", "--host", "--config", &self.config()],
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs imdsd from a shell script that ends with `exec "$@"`, in a mount namespace of its own.
    pub fn run(&self, script: &str, arguments: &[&str]) -> Output {
        let mut command = self.namespace.command("unshare");
        command
            .args([
                "--mount",
                "sh",
                "-c",
                script,
                "sh",
                env!("CARGO_BIN_EXE_imdsd"),
            ])
            .args(arguments)
            .output()
            .unwrap()
    }

    /// Runs the command of a finding as an operator would paste it.
    pub fn fix(&self, command: &str) {
        let imdsd = std::path::Path::new(env!("CARGO_BIN_EXE_imdsd"))
            .parent()
            .unwrap();
        let path = format!(
            "{}:{}:/usr/sbin:/sbin",
            imdsd.display(),
            std::env::var("PATH").unwrap()
        );
        output_of(
            self.namespace
                .command("sh")
                .env("PATH", path)
                .args(["-c", command]),
        );
    }

    /// Runs the commands of all findings, each once a round, until nothing is found.
    pub fn fix_all(&self) {
        for _ in 0..5 {
            let mut done = BTreeSet::new();
            for finding in self.check().findings {
                let command = finding["mend"].as_str().unwrap().to_string();
                if done.insert(command.clone()) {
                    self.fix(&command);
                }
            }
        }
        self.check().assert_fine();
    }

    pub fn sh(&self, commands: &str) -> String {
        output_of(self.namespace.command("sh").args(["-ec", commands]))
    }

    pub fn guest_sh(&self, guest: usize, commands: &str) -> String {
        let mut command = self.namespace.command("nsenter");
        output_of(command.args([
            "--target",
            &self.pid(guest).to_string(),
            "--net",
            "sh",
            "-ec",
            commands,
        ]))
    }

    /// Starts the daemon on the host.
    pub fn serve(&mut self) {
        let imdsd = self.namespace.command(env!("CARGO_BIN_EXE_imdsd"));
        self.serve_by(imdsd);
    }

    /// Starts the daemon without a capability.
    pub fn serve_without(&mut self, capability: &str) {
        let mut setpriv = self.namespace.command("setpriv");
        setpriv
            .arg(format!("--bounding-set=-{capability}"))
            .arg(format!("--inh-caps=-{capability}"));
        setpriv.arg(env!("CARGO_BIN_EXE_imdsd"));
        self.serve_by(setpriv);
    }

    fn serve_by(&mut self, mut imdsd: Command) {
        imdsd.args(["serve", "--log-format", "json", "--config", &self.config()]);
        let mut daemon = imdsd.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(daemon.stderr.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let is_ready = lines.by_ref().any(|line| line.contains(r#""ready""#));
        self.daemon = Some(daemon);
        assert!(is_ready);
        std::thread::spawn(move || lines.for_each(drop));
    }

    /// Returns whether a guest gets replies by IPv4 and by IPv6.
    pub fn answers(&self, guest: usize) -> (bool, bool) {
        let mut answers = [false; 2];
        for (answered, address) in answers
            .iter_mut()
            .zip(["169.254.169.254", "[fd00:ec2::254]"])
        {
            let script = format!(
                "ip neigh flush dev eth0; curl -gs --max-time 1 http://{address}/latest/ || true"
            );
            *answered = self.guest_sh(guest, &script).contains("meta-data");
        }
        answers.into()
    }

    /// Waits until the guest gets replies by both families.
    pub fn wait_until_answered(&self, guest: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.answers(guest) != (true, true) {
            assert!(
                Instant::now() < deadline,
                "guest {guest} gets no reply: {:?}",
                self.answers(guest)
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for child in self.daemon.iter_mut().chain(&mut self.guests) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Returns the instance id of a guest.
pub fn instance(guest: usize) -> String {
    format!("i-0000000{guest}")
}

fn output_of(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
