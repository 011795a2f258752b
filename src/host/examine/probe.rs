//! What there is to see of a network namespace: links, routes, settings. Reading only; what it means is judged elsewhere.
//!
//! What can't be read is not guessed: it is missing from [`Seen`], and whoever judges says so.

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

use crate::host::examine::unusable;
use crate::host::examine::unusable::Unusable;
use crate::host::netlink::{self, Link, Links, Netlink, Route};

/// The settings of an interface that decide whether a guest behind it is heard.
const IPV4_SETTINGS: [&str; 4] = ["rp_filter", "arp_ignore", "arp_filter", "accept_local"];
const IPV6_SETTINGS: [&str; 3] = ["accept_ra", "forwarding", "disable_ipv6"];

/// How long `nft` may take.
const NFT: Duration = Duration::from_secs(10);

/// An interface that guests come in by, and the addresses of theirs that answers go to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Interest {
    pub(super) interface: String,
    pub(super) guests: BTreeSet<IpAddr>,
}

/// What was read of one network namespace.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) links: Links,
    /// Addresses that can't be used, by the index of their link.
    pub(super) unusable: Vec<Unusable>,
    /// Numbers below /proc/sys/net, by their path there.
    pub(super) settings: BTreeMap<String, i64>,
    /// Where answers would go: to the guest's address, of a socket bound to the link of the index or of an unbound one.
    pub(super) routes: BTreeMap<(IpAddr, Option<u32>), Result<Option<Route>, String>>,
    /// Whether the MAC of a bridge stays what it is when ports come and go, by the bridge's index.
    pub(super) pinned: BTreeMap<u32, Result<bool, String>>,
    /// Whether connections may be tracked.
    pub(super) tracks: bool,
    /// Why the host seems to ask a metadata service itself, unless it does not matter.
    pub(super) hosts_own: Option<String>,
    /// The daemon that is to put addresses; where somebody else is, nobody looks for it.
    pub(super) daemon: Daemon,
}

/// The daemon that manages this host's addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Daemon {
    /// None runs.
    #[default]
    Absent,
    /// It runs; whether it may change interfaces is not always seen.
    Runs { may: Option<bool> },
    /// Whether it runs can't be told, and why.
    Hidden(String),
}

/// Why nothing was read of a network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hidden {
    /// There is no file for it.
    Missing,
    /// The file is not one of a network namespace.
    Other,
    /// This process may not look.
    Forbidden(String),
}

impl Seen {
    /// Reads the network namespace of the calling thread.
    pub(super) async fn read(interests: &[Interest]) -> io::Result<Seen> {
        let (netlink, links) = netlink::read_links().await?;
        let mut seen = Seen {
            links,
            tracks: number("netfilter/nf_conntrack_max").is_some(),
            ..Seen::default()
        };
        seen.unusable = unusable::read();
        seen.take_setting("ipv4/tcp_fwmark_accept".to_string());
        for interest in interests {
            seen.take_settings(&interest.interface);
            seen.take_routes(&netlink, interest).await;
        }
        let bridges: Vec<Link> = seen
            .links
            .iter()
            .filter(|link| link.kind == "bridge")
            .cloned()
            .collect();
        seen.pinned = bridges
            .iter()
            .map(|bridge| (bridge.index, is_pinned(bridge)))
            .collect();
        Ok(seen)
    }

    /// Reads another network namespace, on a thread that goes there and ends there.
    pub(super) async fn read_in(
        namespace: PathBuf,
        guests: BTreeSet<IpAddr>,
    ) -> Result<Seen, Hidden> {
        let file = match fs::File::open(&namespace) {
            Ok(file) => file,
            Err(reason) if reason.kind() == io::ErrorKind::NotFound => return Err(Hidden::Missing),
            Err(reason) => {
                return Err(Hidden::Forbidden(format!(
                    "{}: {reason}",
                    namespace.display()
                )));
            }
        };
        let (send, seen) = tokio::sync::oneshot::channel();
        let reading = std::thread::Builder::new()
            .name("namespace".to_string())
            .spawn(move || {
                let entered =
                    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network));
                let seen = match entered {
                    // EINVAL: another kind of namespace; ENOTTY and EBADF would be said of other files.
                    Err(
                        rustix::io::Errno::INVAL
                        | rustix::io::Errno::NOTTY
                        | rustix::io::Errno::BADF,
                    ) => Err(Hidden::Other),
                    Err(rustix::io::Errno::PERM) => {
                        Err(Hidden::Forbidden("that needs CAP_SYS_ADMIN".to_string()))
                    }
                    Err(reason) => Err(Hidden::Forbidden(reason.to_string())),
                    Ok(()) => {
                        let interests = [Interest {
                            interface: "lo".to_string(),
                            guests,
                        }];
                        let runtime = tokio::runtime::Builder::new_current_thread()
                            .enable_all()
                            .build();
                        let seen =
                            runtime.and_then(|runtime| runtime.block_on(Seen::read(&interests)));
                        seen.map_err(|reason| Hidden::Forbidden(reason.to_string()))
                    }
                };
                let _ = send.send(seen);
            });
        match (reading, seen.await) {
            (Ok(_), Ok(seen)) => seen,
            (Err(reason), _) => Err(Hidden::Forbidden(reason.to_string())),
            (Ok(_), Err(_)) => Err(Hidden::Forbidden(
                "the thread in the namespace ended early".to_string(),
            )),
        }
    }

    /// A number below /proc/sys/net; `None` when it could not be read.
    pub(super) fn setting(&self, path: &str) -> Option<i64> {
        self.settings.get(path).copied()
    }

    fn take_settings(&mut self, interface: &str) {
        for of in ["all", interface] {
            for name in IPV4_SETTINGS {
                self.take_setting(format!("ipv4/conf/{of}/{name}"));
            }
        }
        for name in IPV6_SETTINGS {
            self.take_setting(format!("ipv6/conf/{interface}/{name}"));
        }
    }

    fn take_setting(&mut self, path: String) {
        if let Some(number) = number(&path) {
            self.settings.insert(path, number);
        }
    }

    async fn take_routes(&mut self, netlink: &Netlink, interest: &Interest) {
        let index = self.links.named(&interest.interface).map(|link| link.index);
        for guest in &interest.guests {
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

/// The daemon behind this socket, as the kernel tells of it: nothing is asked of it.
pub(super) async fn daemon(socket: &Path) -> Daemon {
    let reached = UnixStream::connect(socket)
        .await
        .and_then(|stream| stream.peer_cred());
    let pid = match reached {
        Ok(peer) => peer.pid(),
        Err(reason)
            if matches!(
                reason.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Daemon::Absent;
        }
        Err(reason) => return Daemon::Hidden(format!("{}: {reason}", socket.display())),
    };
    let status = pid.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok());
    Daemon::Runs {
        may: status.as_deref().and_then(may_change_interfaces),
    }
}

/// Whether a process whose /proc/PID/status this is has CAP_NET_ADMIN.
fn may_change_interfaces(status: &str) -> Option<bool> {
    // linux/capability.h
    const CAP_NET_ADMIN: u64 = 1 << 12;
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    Some(u64::from_str_radix(effective.trim(), 16).ok()? & CAP_NET_ADMIN != 0)
}

fn number(path: &str) -> Option<i64> {
    fs::read_to_string(Path::new("/proc/sys/net").join(path))
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// All rules of nftables in this network namespace, as `nft --json list ruleset` prints them; or why they can't be seen.
pub(super) async fn rules() -> Result<Value, String> {
    // Ordinary users lack sbin in their path.
    for program in ["nft", "/usr/sbin/nft"] {
        let mut nft = Command::new(program);
        let said = nft
            .args(["--json", "list", "ruleset"])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        match tokio::time::timeout(NFT, said).await {
            Err(_) => return Err(format!("nft did not answer within {} s", NFT.as_secs())),
            Ok(Err(reason)) if reason.kind() == io::ErrorKind::NotFound => {}
            Ok(Err(reason)) => return Err(format!("nft can't be run: {reason}")),
            Ok(Ok(said)) if said.status.success() => {
                return serde_json::from_slice(&said.stdout)
                    .map_err(|reason| format!("nft was not understood: {reason}"));
            }
            Ok(Ok(said)) => {
                let reason = String::from_utf8_lossy(&said.stderr);
                return Err(format!(
                    "nft: {}",
                    reason.lines().next().unwrap_or("it failed")
                ));
            }
        }
    }
    Err("nft is not here".to_string())
}

/// Netlink does not say it. What /sys shows is the network namespace that it was mounted in, which may be another.
fn is_pinned(bridge: &Link) -> Result<bool, String> {
    // linux/netdevice.h: the address was set by somebody.
    const NET_ADDR_SET: &str = "3";
    let directory = Path::new("/sys/class/net").join(OsString::from(&bridge.name));
    let read =
        |name: &str| fs::read_to_string(directory.join(name)).map(|text| text.trim().to_string());
    match (read("ifindex"), read("addr_assign_type")) {
        (Ok(index), Ok(assigned)) if index == bridge.index.to_string() => {
            Ok(assigned == NET_ADDR_SET)
        }
        _ => Err(format!(
            "{} is not of this network namespace",
            directory.display()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_may_change_interfaces_by_cap_net_admin() {
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
