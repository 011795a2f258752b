//! Reads a network namespace: links, routes, settings. Other files judge what was read.
//!
//! What cannot be read is not guessed: it is missing from [`NetworkState`], and the checks report
//! it as unchecked.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::process::Command;

use super::unusable::{self, UnusableAddress};
use crate::host::netlink::{self, Link, Links, Netlink, Route};

/// The settings of an interface that decide whether the kernel accepts packets from a guest behind
/// it.
const IPV4_SETTINGS: [&str; 4] = ["rp_filter", "arp_ignore", "arp_filter", "accept_local"];
const IPV6_SETTINGS: [&str; 3] = ["accept_ra", "forwarding", "disable_ipv6"];

/// How long `nft` may take.
const NFT_TIMEOUT: Duration = Duration::from_secs(10);

/// An interface that receives packets from guests, and the addresses of these guests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct GuestInterface {
    pub(super) interface: String,
    pub(super) guests: BTreeSet<IpAddr>,
}

/// The state of one network namespace, as far as it could be read.
#[derive(Clone, Debug, Default)]
pub(super) struct NetworkState {
    pub(super) links: Links,
    /// IPv6 addresses that are on a link but unusable.
    pub(super) unusable: Vec<UnusableAddress>,
    /// Numbers below /proc/sys/net, by their path relative to it.
    pub(super) settings: BTreeMap<String, i64>,
    /// The routes of replies to a guest's address: from a socket bound to the link with this index,
    /// or from an unbound socket.
    pub(super) routes: BTreeMap<(IpAddr, Option<u32>), Result<Option<Route>, String>>,
    /// By the bridge's index: whether its MAC stays the same when ports come and go.
    pub(super) fixed_macs: BTreeMap<u32, Result<bool, String>>,
    /// Whether the kernel has connection tracking.
    pub(super) has_conntrack: bool,
    /// Why the host seems to use a metadata service itself; `None` when it does not or the operator
    /// does not mind.
    pub(super) host_metadata: Option<String>,
    /// The daemon that manages addresses. Absent if the operator does.
    pub(super) daemon: DaemonState,
}

/// The daemon that manages this host's addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum DaemonState {
    /// None is running.
    #[default]
    Absent,
    /// It is running.
    Running {
        /// Whether it has CAP_NET_ADMIN; `None` when that cannot be read.
        may_change_interfaces: Option<bool>,
    },
    /// Whether one is running is unknown, and why.
    Unknown(String),
}

/// Why a network namespace could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NamespaceError {
    /// Its file does not exist.
    Missing,
    /// The file is not a network namespace.
    OtherFile,
    /// This process cannot enter it, and why.
    Inaccessible(String),
}

impl NetworkState {
    /// Reads the network namespace of the calling thread.
    pub(super) async fn read(interfaces: &[GuestInterface]) -> io::Result<NetworkState> {
        let (netlink, links) = netlink::read_links().await?;
        let mut state = NetworkState {
            links,
            has_conntrack: number("netfilter/nf_conntrack_max").is_some(),
            ..NetworkState::default()
        };
        state.unusable = unusable::read();
        state.read_setting("ipv4/tcp_fwmark_accept".to_string());
        for guests in interfaces {
            state.read_settings(&guests.interface);
            state.read_routes(&netlink, guests).await;
        }
        let bridges: Vec<Link> = state
            .links
            .iter()
            .filter(|link| link.kind == "bridge")
            .cloned()
            .collect();
        state.fixed_macs = bridges
            .iter()
            .map(|bridge| (bridge.index, has_fixed_mac(bridge)))
            .collect();
        Ok(state)
    }

    /// Reads another network namespace, on a thread that enters it and ends there.
    pub(super) async fn read_in(
        namespace: PathBuf,
        guests: BTreeSet<IpAddr>,
    ) -> Result<NetworkState, NamespaceError> {
        let file = match fs::File::open(&namespace) {
            Ok(file) => file,
            Err(reason) if reason.kind() == io::ErrorKind::NotFound => {
                return Err(NamespaceError::Missing);
            }
            Err(reason) => {
                return Err(NamespaceError::Inaccessible(format!(
                    "{}: {reason}",
                    namespace.display()
                )));
            }
        };
        let (send, state) = tokio::sync::oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("namespace".to_string())
            .spawn(move || {
                let _ = send.send(read_on_this_thread(&file, guests));
            });
        match (thread, state.await) {
            (Ok(_), Ok(state)) => state,
            (Err(reason), _) => Err(NamespaceError::Inaccessible(reason.to_string())),
            (Ok(_), Err(_)) => Err(NamespaceError::Inaccessible(
                "the thread in the namespace ended early".to_string(),
            )),
        }
    }

    /// Returns a number below /proc/sys/net; `None` when it could not be read.
    pub(super) fn setting(&self, path: &str) -> Option<i64> {
        self.settings.get(path).copied()
    }

    fn read_settings(&mut self, interface: &str) {
        for of in ["all", interface] {
            for name in IPV4_SETTINGS {
                self.read_setting(format!("ipv4/conf/{of}/{name}"));
            }
        }
        for name in IPV6_SETTINGS {
            self.read_setting(format!("ipv6/conf/{interface}/{name}"));
        }
    }

    fn read_setting(&mut self, path: String) {
        if let Some(number) = number(&path) {
            self.settings.insert(path, number);
        }
    }

    async fn read_routes(&mut self, netlink: &Netlink, guests: &GuestInterface) {
        let index = self.links.named(&guests.interface).map(|link| link.index);
        for guest in &guests.guests {
            for bound in [None, index] {
                let route = netlink
                    .route_to(*guest, bound)
                    .await
                    .map_err(|reason| reason.to_string());
                self.routes.insert((*guest, bound), route);
            }
        }
    }
}

/// Enters the network namespace on the calling thread and reads it there.
fn read_on_this_thread(
    namespace: &fs::File,
    guests: BTreeSet<IpAddr>,
) -> Result<NetworkState, NamespaceError> {
    use rustix::io::Errno;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).map_err(
        |reason| match reason {
            // EINVAL: a namespace of another kind. ENOTTY and EBADF: no namespace at all.
            Errno::INVAL | Errno::NOTTY | Errno::BADF => NamespaceError::OtherFile,
            Errno::PERM => NamespaceError::Inaccessible("that needs CAP_SYS_ADMIN".to_string()),
            other => NamespaceError::Inaccessible(other.to_string()),
        },
    )?;
    let interfaces = [GuestInterface {
        interface: "lo".to_string(),
        guests,
    }];
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime
        .and_then(|runtime| runtime.block_on(NetworkState::read(&interfaces)))
        .map_err(|reason| NamespaceError::Inaccessible(reason.to_string()))
}

/// Returns the state of the daemon that listens on this socket. It is read from the kernel; no
/// request is sent to the daemon.
pub(super) async fn daemon(socket: &Path) -> DaemonState {
    let peer = UnixStream::connect(socket)
        .await
        .and_then(|stream| stream.peer_cred());
    let pid = match peer {
        Ok(peer) => peer.pid(),
        Err(reason)
            if matches!(
                reason.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return DaemonState::Absent;
        }
        Err(reason) => return DaemonState::Unknown(format!("{}: {reason}", socket.display())),
    };
    let status = pid.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok());
    DaemonState::Running {
        may_change_interfaces: status.as_deref().and_then(may_change_interfaces),
    }
}

/// Returns whether the process with this /proc/PID/status has CAP_NET_ADMIN.
fn may_change_interfaces(status: &str) -> Option<bool> {
    // linux/capability.h
    const CAP_NET_ADMIN: u64 = 1 << 12;
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    Some(u64::from_str_radix(effective.trim(), 16).ok()? & CAP_NET_ADMIN != 0)
}

/// Reads a number below /proc/sys/net.
fn number(path: &str) -> Option<i64> {
    fs::read_to_string(Path::new("/proc/sys/net").join(path))
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// Returns the output of `nft --json list ruleset` in this network namespace, or why there is none.
pub(super) async fn rules() -> Result<Value, String> {
    // The path of ordinary users does not contain sbin.
    for program in ["nft", "/usr/sbin/nft"] {
        let mut nft = Command::new(program);
        let output = nft
            .args(["--json", "list", "ruleset"])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        match tokio::time::timeout(NFT_TIMEOUT, output).await {
            Err(_) => {
                return Err(format!(
                    "nft did not answer within {} s",
                    NFT_TIMEOUT.as_secs()
                ));
            }
            Ok(Err(reason)) if reason.kind() == io::ErrorKind::NotFound => {}
            Ok(Err(reason)) => return Err(format!("cannot run nft: {reason}")),
            Ok(Ok(output)) if output.status.success() => {
                return serde_json::from_slice(&output.stdout)
                    .map_err(|reason| format!("cannot read the output of nft: {reason}"));
            }
            Ok(Ok(output)) => {
                let reason = String::from_utf8_lossy(&output.stderr);
                return Err(format!(
                    "nft: {}",
                    reason.lines().next().unwrap_or("it failed")
                ));
            }
        }
    }
    Err("nft is not installed".to_string())
}

/// Returns whether the MAC of a bridge was set explicitly. Netlink does not report it. /sys shows
/// the network namespace in which it was mounted, which may be another one: the index tells.
fn has_fixed_mac(bridge: &Link) -> Result<bool, String> {
    // linux/netdevice.h: the address was set with dev_set_mac_address().
    const NET_ADDR_SET: &str = "3";
    let directory = Path::new("/sys/class/net").join(OsString::from(&bridge.name));
    let read =
        |name: &str| fs::read_to_string(directory.join(name)).map(|text| text.trim().to_string());
    match (read("ifindex"), read("addr_assign_type")) {
        (Ok(index), Ok(assigned)) if index == bridge.index.to_string() => {
            Ok(assigned == NET_ADDR_SET)
        }
        _ => Err(format!(
            "{} is not in this network namespace",
            directory.display()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cap_net_admin_is_read_from_the_effective_capabilities() {
        for (status, may) in [
            (
                "Name:\timdsd\nCapPrm:\t0000000000001400\nCapEff:\t0000000000001400\n",
                Some(true),
            ),
            (
                "CapPrm:\t0000000000001400\nCapEff:\t0000000000000400\n",
                Some(false),
            ),
            ("CapEff:\tnonsense\n", None),
            ("Name:\timdsd\n", None),
        ] {
            assert_eq!(may_change_interfaces(status), may, "{status}");
        }
    }
}
