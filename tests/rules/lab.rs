//! A host with a bridge, three guests on the bridge and one on an interface of its own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};

use imdsd::host::guest_rules::{self, FilteredGuest, GuestLink, MetadataAddresses, TableName};
use imdsd::instance::InstanceId;

use crate::support::{Namespace, require, require_program};

pub const BRIDGE_MAC: &str = "02:00:00:00:00:fe";
pub const HOST_IPV4: &str = "10.0.0.254";
pub const HOST_IPV6: &str = "fd11::fe";
/// Rules that only set marks: what the daemon needs to identify guests, and no protection.
pub const MARKS_ONLY: &str = r#"
table bridge imdsd-test {
  chain arriving {
    type filter hook prerouting priority -300; policy accept;
    ip daddr 169.254.169.254 meta mark set iifname map { "tap1" : 0x1001, "tap2" : 0x1002, "tap3" : 0x1003 }
    ip6 daddr fd00:ec2::254 meta mark set iifname map { "tap1" : 0x1001, "tap2" : 0x1002, "tap3" : 0x1003 }
  }
}
"#;

pub struct Lab {
    // Declared first: servers and guests end before the network does.
    servers: Vec<Child>,
    guests: Vec<Child>,
    pub host: Namespace,
}

/// Guests 1 to 3 are on the bridge, guest 4 is behind `own4`.
pub fn mac(guest: usize) -> String {
    format!("02:00:00:00:00:0{guest}")
}

pub fn ipv4(guest: usize) -> String {
    format!("10.0.{}.{guest}", guest / 4)
}

pub fn ipv6(guest: usize) -> String {
    format!("fd1{}::{guest}", 1 + guest / 4)
}

pub fn link_local(guest: usize) -> String {
    format!("fe80::ff:fe00:{guest}")
}

pub fn instance(guest: usize) -> InstanceId {
    InstanceId::parse(&format!("i-0000000{guest}")).unwrap()
}

/// Returns the guest as its document describes it.
pub fn filtered(guest: usize) -> FilteredGuest {
    let link = match guest {
        4 => GuestLink::Interface {
            name: "own4".to_string(),
        },
        _ => GuestLink::BridgePort {
            bridge: "br0".to_string(),
            bridge_mac: Some(BRIDGE_MAC.to_string()),
            port: format!("tap{guest}"),
            mark: 0x1000 + guest as u32,
        },
    };
    FilteredGuest {
        instance: instance(guest),
        link,
        macs: vec![mac(guest)],
        ipv4: vec![ipv4(guest).parse().unwrap()],
        ipv4_prefixes: Vec::new(),
        ipv6: vec![ipv6(guest).parse().unwrap()],
        ipv6_prefixes: Vec::new(),
    }
}

/// The name of the tables in these tests.
pub fn table() -> TableName {
    TableName::ending_in("test")
}

pub fn script(guests: &[FilteredGuest]) -> String {
    guest_rules::script(&table(), guests, MetadataAddresses::EC2).unwrap()
}

/// Returns the script for all four guests.
pub fn script_for_all() -> String {
    script(&[filtered(1), filtered(2), filtered(3), filtered(4)])
}

impl Lab {
    /// Creates the host and its guests; panics if that is not possible here.
    pub fn new() -> Lab {
        for program in ["nft", "ip", "python3"] {
            require_program(program);
        }
        let mut lab = Lab {
            servers: Vec::new(),
            guests: Vec::new(),
            host: Namespace::with_metadata_addresses(),
        };
        let both_families = lab.try_nft(
            "table bridge t { }\ntable inet t { }\ndelete table bridge t\ndelete table inet t\n",
        );
        require(
            both_families.is_ok(),
            &format!("nftables with the families inet and bridge: {both_families:?}"),
        );
        lab.host_sh(&format!(
            "sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0 net.ipv4.tcp_fwmark_accept=1
             sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
             ip address flush dev lo scope global; ip link add br0 address {BRIDGE_MAC} type bridge
             ip link set br0 up
             sysctl -qw net.ipv4.neigh.br0.locktime=0 net.ipv6.conf.br0.accept_ra=0
             ip address add 169.254.169.254/32 dev br0; ip address add fd00:ec2::254/128 dev br0 nodad
             ip address add {HOST_IPV4}/24 dev br0; ip address add {HOST_IPV6}/64 dev br0 nodad"
        ));
        for guest in 1..=4 {
            lab.add(guest);
        }
        lab.host_sh(
            "ip address add 169.254.169.254/32 dev own4; ip address add fd00:ec2::254/128 dev own4 nodad
             ip address add 10.0.1.254/24 dev own4; ip address add fd12::fe/64 dev own4 nodad",
        );
        lab.serve("br0");
        lab.serve("own4");
        lab
    }

    fn add(&mut self, guest: usize) {
        let mut unshare = self.host.command("unshare");
        unshare.args(["--net", "sh", "-c", "echo ready && exec timeout 600 cat"]);
        let mut holder = unshare
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        wait_until_ready(&mut holder);
        let pid = holder.id();
        self.guests.push(holder);
        let (port, master) = if guest == 4 {
            ("own4".to_string(), "")
        } else {
            (format!("tap{guest}"), "master br0")
        };
        self.host_sh(&format!(
            "ip link add {port} type veth peer name eth0 address {} netns {pid}
             {} ip link set {port} up",
            mac(guest),
            if master.is_empty() {
                String::new()
            } else {
                format!("ip link set {port} {master};")
            }
        ));
        let (gateway4, gateway6) = if guest == 4 {
            ("10.0.1.254", "fd12::fe")
        } else {
            (HOST_IPV4, HOST_IPV6)
        };
        let setup = format!(
            "sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0
             sysctl -qw net.ipv4.neigh.eth0.locktime=0 net.ipv6.conf.eth0.accept_dad=0; ip link set lo up; ip link set eth0 up
             ip address add {}/24 dev eth0; ip address add {}/64 dev eth0 nodad
             ip route add 169.254.169.254/32 dev eth0; ip -6 route add fd00:ec2::254/128 dev eth0
             ip route add default via {gateway4}; ip -6 route add default via {gateway6}",
            ipv4(guest),
            ipv6(guest)
        );
        self.guest_sh(guest, &setup);
    }

    fn serve(&mut self, device: &str) {
        let mut python = self.host.command(python());
        python.args(["-c", include_str!("wire.py"), "serve", device]);
        let mut server = python.stdout(Stdio::piped()).spawn().unwrap();
        wait_until_ready(&mut server);
        self.servers.push(server);
    }

    /// Returns a command in a guest's namespace.
    pub fn guest(&self, guest: usize, program: &str) -> Command {
        let mut command = self.host.command("nsenter");
        command.args([
            "--target",
            &self.guests[guest - 1].id().to_string(),
            "--net",
            program,
        ]);
        command
    }

    pub fn host_sh(&self, commands: &str) -> String {
        output_of(self.host.command("sh").args(["-ec", commands]))
    }

    pub fn guest_sh(&self, guest: usize, commands: &str) -> String {
        output_of(self.guest(guest, "sh").args(["-ec", commands]))
    }

    pub fn wire(&self, guest: usize, arguments: &[&str]) -> String {
        output_of(
            self.guest(guest, python())
                .args(["-c", include_str!("wire.py")])
                .args(arguments),
        )
    }

    /// Starts a part of wire.py, acts once it is ready, and returns the last line that it prints.
    pub fn meanwhile(&self, guest: usize, arguments: &[&str], act: impl FnOnce()) -> String {
        let mut command = self.guest(guest, python());
        command
            .args(["-c", include_str!("wire.py")])
            .args(arguments);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        act();
        let last = lines.next().unwrap().unwrap();
        child.wait().unwrap();
        last
    }

    /// Returns how many packets from the metadata addresses reach a guest as a result of an action.
    pub fn count_received(&self, guest: usize, act: impl FnOnce()) -> u32 {
        let other = 5 - guest;
        let count = self.meanwhile(guest, &["hear", "eth0"], || {
            act();
            self.wire(other, &["marker", "eth0", &mac(other), &mac(guest)]);
        });
        count.parse().unwrap()
    }

    /// Sends a request to the service; returns the mark that it saw, or `nothing`.
    pub fn request(&self, guest: usize, family: &str, source: &str) -> String {
        self.wire(guest, &["ask", family, source])
    }

    pub fn nft(&self, script: &str) {
        self.try_nft(script).unwrap();
    }

    /// Loads a script on a system without files in /etc, where nft finds the names of no protocols,
    /// services, marks or groups.
    pub fn try_nft(&self, script: &str) -> Result<(), String> {
        const WITHOUT_FILES: &str = "mount -t tmpfs none /etc && exec nft -f -";
        let mut nft = self.host.command("unshare");
        nft.args(["--mount", "sh", "-c", WITHOUT_FILES])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = nft.spawn().map_err(|reason| reason.to_string())?;
        child
            .stdin
            .take()
            .unwrap()
            .write_all(script.as_bytes())
            .map_err(|reason| reason.to_string())?;
        let output = child.wait_with_output().unwrap();
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// Loads rules that only set marks, so that every attack works.
    pub fn load_unprotected(&self) {
        self.nft("add table bridge imdsd-test\ndelete table bridge imdsd-test\nadd table inet imdsd-test\ndelete table inet imdsd-test\n");
        self.nft(MARKS_ONLY);
    }
}

/// Prefers the system's Python: the wrapper of a version manager takes longer to start than a test
/// to run.
fn python() -> &'static str {
    if std::path::Path::new("/usr/bin/python3").exists() {
        "/usr/bin/python3"
    } else {
        "python3"
    }
}

/// Returns whether an attack works in one of 20 attempts: on a busy machine its frame may arrive
/// late, or the victim's own frame after it.
pub fn works(mut attack: impl FnMut() -> bool) -> bool {
    (0..20).any(|_| attack())
}

impl Drop for Lab {
    fn drop(&mut self) {
        for child in self.servers.iter_mut().chain(&mut self.guests) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn wait_until_ready(child: &mut Child) {
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "ready\n");
}

fn output_of(command: &mut Command) -> String {
    let output = command
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}
