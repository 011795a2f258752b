//! The daemon under test on the host of a lab, and the documents that it serves.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::lab::{HOST, Lab, SocketOpener};
use crate::support::{Answer, Namespace, PATIENCE, call_on, element, spawn_by, write_keys};

/// A daemon with a directory of its own.
pub struct Imdsd {
    child: Child,
    lines: Receiver<Value>,
    pub directory: tempfile::TempDir,
    control: SocketOpener,
}

/// The configuration for guests on interfaces that the test prepares.
pub const CHECK: &str = "[interfaces]\naddresses = \"check\"\n";
/// The configuration for guests on interfaces that the daemon prepares.
pub const MANAGE: &str = "[interfaces]\naddresses = \"manage\"\n";

impl Imdsd {
    /// Starts a daemon on the host and waits until it is ready. `config` has the attachments and
    /// what else the test needs.
    pub fn start(lab: &Lab, config: &str, instances: &[Value]) -> Imdsd {
        let mut imdsd = Imdsd::spawn(lab, config, instances);
        imdsd.wait_until_ready();
        imdsd
    }

    /// Starts a daemon on the host without waiting.
    pub fn spawn(lab: &Lab, config: &str, instances: &[Value]) -> Imdsd {
        let directory = tempfile::tempdir().unwrap();
        write_keys(&directory.path().join("access-keys.toml"));
        write_configuration(directory.path(), config, instances);
        let (child, lines) = spawn_by(
            lab.command(HOST, env!("CARGO_BIN_EXE_imdsd")),
            directory.path(),
        );
        Imdsd {
            child,
            lines,
            directory,
            control: lab.sockets(HOST),
        }
    }

    /// Starts it again with the same directory and waits until it is ready.
    pub fn start_again(&mut self, lab: &Lab) {
        self.spawn_again(lab);
        self.wait_until_ready();
    }

    /// Starts it again with the same directory without waiting.
    pub fn spawn_again(&mut self, lab: &Lab) {
        (self.child, self.lines) = spawn_by(
            lab.command(HOST, env!("CARGO_BIN_EXE_imdsd")),
            self.directory.path(),
        );
    }

    /// Starts it again with the same directory and without a capability, and waits until it is ready.
    pub fn start_again_without(&mut self, lab: &Lab, capability: &str) {
        let mut command = lab.command(HOST, "setpriv");
        command
            .arg(format!("--bounding-set=-{capability}"))
            .arg("--pdeathsig=KILL")
            .arg(env!("CARGO_BIN_EXE_imdsd"));
        (self.child, self.lines) = spawn_by(command, self.directory.path());
        self.wait_until_ready();
    }

    /// Replaces the configuration and the documents, and deletes the records, for the next start.
    pub fn configure(&self, config: &str, instances: &[Value]) {
        let _ = std::fs::remove_dir_all(self.directory.path().join("state/instances"));
        std::fs::remove_dir_all(self.directory.path().join("instances.d")).unwrap();
        write_configuration(self.directory.path(), config, instances);
    }

    /// Replaces the documents and keeps the records, for the next start.
    pub fn document(&self, instances: &[Value]) {
        std::fs::remove_dir_all(self.directory.path().join("instances.d")).unwrap();
        write_documents(self.directory.path(), instances);
    }

    pub fn wait_until_ready(&mut self) {
        self.wait_for(|line| line["message"] == "ready");
    }

    /// Waits for a log line.
    pub fn wait_for(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        self.wait_for_within(PATIENCE, is_it)
    }

    /// Waits for a log line that may take longer.
    pub fn wait_for_within(&mut self, patience: Duration, is_it: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + patience;
        let mut said = Vec::new();
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) if is_it(&line) => return line,
                Ok(line) => said.push(line.to_string()),
                Err(_) => panic!(
                    "the line did not come; status {:?}\n{}",
                    self.child.try_wait(),
                    said.join("\n")
                ),
            }
        }
    }

    /// Returns the log lines that no wait consumed, once it has ended.
    pub fn remaining_log(&self) -> Vec<Value> {
        self.lines.iter().collect()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends SIGTERM and expects a normal end.
    pub fn terminate(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let mut status = None;
        crate::lab::eventually("the daemon ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        assert_eq!(status.unwrap().code(), Some(0));
    }

    /// Sends a call to the EC2 API, from the host.
    pub fn call(&self, action: &str, parameters: &[(&str, &str)]) -> Answer {
        let stream = self
            .control
            .connect(Namespace::CONTROL)
            .expect("the control endpoint is there");
        call_on(
            stream,
            Namespace::CONTROL.parse().unwrap(),
            action,
            parameters,
        )
        .expect("an answer")
    }

    /// Changes an option of an instance and waits until it is applied.
    pub fn modify(&self, id: &str, option: &str, value: &str) {
        let answer = self.call(
            "ModifyInstanceMetadataOptions",
            &[("InstanceId", id), (option, value)],
        );
        assert_eq!(answer.status, 200, "{}", answer.body);
        crate::lab::eventually("the change is applied", || self.state_of(id) == "applied");
    }

    /// Returns `pending` or `applied`.
    pub fn state_of(&self, id: &str) -> String {
        let answer = self.call("DescribeInstances", &[("InstanceId.1", id)]);
        let options = element(&answer.body, "metadataOptions").expect("the instance is there");
        element(options, "state").unwrap().to_string()
    }

    /// Returns the output of `imdsd guest-rules` for this configuration.
    pub fn guest_rules(&self, lab: &Lab) -> String {
        self.output_of(
            lab.command(HOST, env!("CARGO_BIN_EXE_imdsd"))
                .arg("guest-rules"),
        )
    }

    /// Returns whether `imdsd check --host` succeeds, and its output.
    pub fn check_host(&self, lab: &Lab) -> (bool, String) {
        let mut command = lab.command(HOST, env!("CARGO_BIN_EXE_imdsd"));
        command
            .args(["check", "--host", "--config"])
            .arg(self.directory.path().join("imdsd.toml"));
        let said = command.output().unwrap();
        let text = [said.stdout, said.stderr].concat();
        (said.status.success(), String::from_utf8(text).unwrap())
    }

    fn output_of(&self, command: &mut Command) -> String {
        let command = command
            .arg("--config")
            .arg(self.directory.path().join("imdsd.toml"));
        let said = command.stderr(Stdio::piped()).output().unwrap();
        assert!(
            said.status.success(),
            "{}",
            String::from_utf8_lossy(&said.stderr)
        );
        String::from_utf8(said.stdout).unwrap()
    }
}

impl Drop for Imdsd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let lines: Vec<String> = self.lines.try_iter().map(|line| line.to_string()).collect();
            eprintln!(
                "the daemon said last:\n{}",
                lines[lines.len().saturating_sub(20)..].join("\n")
            );
        }
    }
}

fn write_configuration(directory: &Path, config: &str, instances: &[Value]) {
    let control = match config.contains("[control]") {
        true => String::new(),
        false => format!(
            "[control]\nlisten = \"{}\"\naccess_keys = \"access-keys.toml\"\n",
            Namespace::CONTROL
        ),
    };
    let config = format!(
        "instances = \"instances.d\"\nstate_directory = \"state\"\nruntime_directory = \"run\"\n{config}\n{control}\
         [log]\nformat = \"json\"\nlevel = \"debug\"\n"
    );
    std::fs::write(directory.join("imdsd.toml"), config).unwrap();
    write_documents(directory, instances);
}

fn write_documents(directory: &Path, instances: &[Value]) {
    std::fs::create_dir(directory.join("instances.d")).unwrap();
    for instance in instances {
        let name = format!(
            "instances.d/{}.json",
            instance["InstanceId"].as_str().unwrap()
        );
        std::fs::write(directory.join(name), instance.to_string()).unwrap();
    }
}

/// Returns the instance id of the guest with this number.
pub fn id(number: u32) -> String {
    format!("i-{number:017x}")
}

/// Returns an instance with tokens required and IPv6 enabled, and with these attachments.
pub fn instance(number: u32, attachments: Value) -> Value {
    json!({
        "InstanceId": id(number),
        "LaunchTime": "2026-01-01T00:00:00+00:00",
        "State": { "Code": 16, "Name": "running" },
        "Placement": { "AvailabilityZone": "us-east-1a" },
        "MetadataOptions": {
            "HttpTokens": "required",
            "HttpPutResponseHopLimit": 2,
            "HttpEndpoint": "enabled",
            "HttpProtocolIpv6": "enabled",
            "InstanceMetadataTags": "disabled"
        },
        "Tags": [ { "Key": "Name", "Value": format!("guest {number}") } ],
        "Imds": { "Attachments": attachments, "UserDataText": format!("user-data of {}", id(number)) }
    })
}

/// Returns an instance that is attached to an interface of the host.
pub fn on_interface(number: u32, interface: &str) -> Value {
    instance(number, json!([{ "Interface": interface }]))
}

/// Returns an instance that is attached to a port of a bridge.
pub fn on_port(number: u32, bridge: &str, port: &str, mark: u32) -> Value {
    instance(
        number,
        json!([{ "BridgePort": { "Bridge": bridge, "Port": port, "Mark": mark } }]),
    )
}

/// Adds the instance's network interface, as describe-instances lists it.
pub fn with_addresses(mut instance: Value, mac: &str, ipv4: &str, ipv6: &str) -> Value {
    let number = &instance["InstanceId"].as_str().unwrap()[2..];
    let interface = json!({
        "NetworkInterfaceId": format!("eni-{number}"),
        "MacAddress": mac,
        "Attachment": { "DeviceIndex": 0, "NetworkCardIndex": 0 },
        "PrivateIpAddress": ipv4,
        "PrivateIpAddresses": [ { "PrivateIpAddress": ipv4, "Primary": true } ],
        "Ipv6Addresses": [ { "Ipv6Address": ipv6 } ],
        "SubnetId": "subnet-0123456789abcdef0",
        "VpcId": "vpc-0123456789abcdef0"
    });
    instance["NetworkInterfaces"] = json!([interface]);
    instance["PrivateIpAddress"] = ipv4.into();
    instance["SubnetId"] = "subnet-0123456789abcdef0".into();
    instance["VpcId"] = "vpc-0123456789abcdef0".into();
    instance
}

/// Sets a metadata option of the instance.
pub fn with_option(mut instance: Value, option: &str, value: impl Into<Value>) -> Value {
    instance["MetadataOptions"][option] = value.into();
    instance
}
