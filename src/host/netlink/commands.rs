//! Requests to the kernel: links, addresses and routes are read, and addresses and routes are added
//! and removed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::io::Errno;

use super::links::Links;
use super::message::{KernelReport, Request, Route};
use super::socket::NetlinkSocket;
use crate::instance::LinkIdentity;

/// The protocol number of the addresses and routes that imdsd adds, which `ip` shows as their
/// `proto`. It is free in /etc/iproute2/rt_protos, and chosen after 169.254.169.254.
pub const PROTOCOL: u8 = 169;
/// How long the kernel may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Returns the current links of this network namespace with all their addresses.
pub async fn read_links() -> io::Result<(Netlink, Links)> {
    let netlink = Netlink::connect()?;
    let mut links = Links::default();
    netlink.read_links(&mut links).await?;
    netlink.read_addresses(&mut links, |_| true).await?;
    Ok((netlink, links))
}

/// Returns the links that have these names now. It asks the kernel, so a link that was created a
/// moment ago is found.
pub async fn link_identities(
    names: impl IntoIterator<Item = &str>,
) -> io::Result<BTreeMap<String, LinkIdentity>> {
    let netlink = Netlink::connect()?;
    let mut links = Links::default();
    let mut identities = BTreeMap::new();
    for name in names {
        netlink.read_link(name, &mut links).await?;
        if let Some(link) = links.named(name) {
            identities.insert(name.to_string(), link.identity());
        }
    }
    Ok(identities)
}

/// Sends requests to the kernel. Clones share the sockets.
///
/// Notifications use other sockets: answers and notifications that share a queue are lost together
/// when it is full, and a notification about a requested change would be mistaken for the answer.
#[derive(Clone)]
pub struct Netlink(Arc<IdleSocket>);

/// A reference to a [`Netlink`] that does not keep it open.
pub(super) struct WeakNetlink(Weak<IdleSocket>);

/// The socket of the last request. A request takes it, so a socket never has answers to two requests
/// in its queue: one that fails, or is given up, ends with its socket.
struct IdleSocket {
    socket: Mutex<Option<NetlinkSocket>>,
    /// The number of the next request; notifications have 0.
    requests: AtomicU32,
}

impl WeakNetlink {
    /// Returns the connection while some [`Netlink`] still holds it.
    pub(super) fn upgrade(&self) -> Option<Netlink> {
        self.0.upgrade().map(Netlink)
    }
}

impl Netlink {
    /// Opens a socket in the network namespace of the calling thread, where all requests must be
    /// made.
    pub(super) fn connect() -> io::Result<Netlink> {
        let socket = NetlinkSocket::open(0)?;
        Ok(Netlink(Arc::new(IdleSocket {
            socket: Mutex::new(Some(socket)),
            requests: AtomicU32::new(1),
        })))
    }

    pub(super) fn downgrade(&self) -> WeakNetlink {
        WeakNetlink(Arc::downgrade(&self.0))
    }

    /// Sends a request, and gives each report of the answer to `each`. Waits at most [`PATIENCE`]
    /// for a part of it: a lost answer would never come.
    async fn ask(&self, request: Request, mut each: impl FnMut(KernelReport)) -> io::Result<()> {
        let idle = self.0.socket.lock().take();
        let socket = idle.map_or_else(|| NetlinkSocket::open(0), Ok)?;
        let number = self.0.requests.fetch_add(1, Ordering::Relaxed);
        socket.send(&request.numbered(number))?;
        loop {
            let messages = tokio::time::timeout(PATIENCE, socket.receive()).await;
            let messages = messages.unwrap_or_else(|_| {
                Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the kernel did not answer a netlink request",
                ))
            })?;
            for message in messages {
                match message.report {
                    _ if message.answers != number => {}
                    KernelReport::Finished(0) => {
                        *self.0.socket.lock() = Some(socket);
                        return Ok(());
                    }
                    KernelReport::Finished(code) => return Err(io::Error::from_raw_os_error(code)),
                    KernelReport::Lost => return Err(Errno::NOBUFS.into()),
                    report => each(report),
                }
            }
        }
    }

    /// Reads one link by its name. It is not an error if no link has the name.
    async fn read_link(&self, name: &str, links: &mut Links) -> io::Result<()> {
        let found = self.ask(Request::link(name), |report| {
            links.apply(&report);
        });
        match found.await {
            Err(reason) if Errno::from_io_error(&reason) == Some(Errno::NODEV) => Ok(()),
            found => found,
        }
    }

    pub(super) async fn read_links(&self, links: &mut Links) -> io::Result<()> {
        self.ask(Request::links(), |report| {
            links.apply(&report);
        })
        .await
    }

    /// Reads the addresses for which `is_wanted` returns true.
    pub(super) async fn read_addresses(
        &self,
        links: &mut Links,
        is_wanted: impl Fn(&IpAddr) -> bool,
    ) -> io::Result<()> {
        self.ask(Request::addresses(), |report| {
            if let KernelReport::NewAddress(of) = &report
                && of.address.is_some_and(|address| is_wanted(&address))
            {
                links.apply(&report);
            }
        })
        .await
    }

    /// Returns all addresses, usable or not, each with the index of its link.
    pub(super) async fn all_addresses(&self) -> io::Result<BTreeSet<(IpAddr, u32)>> {
        let mut addresses = BTreeSet::new();
        self.ask(Request::addresses(), |report| {
            if let KernelReport::NewAddress(of) = report {
                addresses.extend(of.address.map(|address| (address, of.index)));
            }
        })
        .await?;
        Ok(addresses)
    }

    /// Adds an address to a link, as /32 or /128. The host does not choose it as a source address:
    /// it has link scope (IPv4) or is deprecated (IPv6). An IPv6 address is added with `nodad` and
    /// is usable at once: with duplicate address detection, a guest could claim it first. Fails
    /// with `AlreadyExists` if the link has the address.
    pub async fn add_address(&self, index: u32, address: IpAddr) -> io::Result<()> {
        let request = Request::add_address(index, address, PROTOCOL);
        self.ask(request, drop).await
    }

    /// Removes an address that [`Netlink::add_address`] added.
    pub async fn remove_address(&self, index: u32, address: IpAddr) -> io::Result<()> {
        let request = Request::remove_address(index, address);
        self.ask(request, drop).await
    }

    /// Adds a route to a guest on a link, for packets of sockets bound to that link. Any other
    /// route to this very address is preferred to it, but it is preferred to a route to the
    /// address's network: call [`Netlink::route_to`] first. Fails with `AlreadyExists` if the route
    /// exists.
    pub async fn add_route(&self, index: u32, to: Ipv6Addr) -> io::Result<()> {
        let request = Request::add_route(index, to, route_metric(index), PROTOCOL);
        self.ask(request, drop).await
    }

    /// Removes a route that [`Netlink::add_route`] added.
    pub async fn remove_route(&self, index: u32, to: Ipv6Addr) -> io::Result<()> {
        let request = Request::remove_route(index, to, route_metric(index), PROTOCOL);
        self.ask(request, drop).await
    }

    /// Returns the addresses and the route destinations that have [`PROTOCOL`], with the index of
    /// their link.
    pub async fn own_entries(&self) -> io::Result<BTreeSet<(u32, IpAddr)>> {
        let mut entries = BTreeSet::new();
        self.ask(Request::addresses(), |report| {
            if let KernelReport::NewAddress(of) = report
                && of.protocol == Some(PROTOCOL)
            {
                entries.extend(of.address.map(|address| (of.index, address)));
            }
        })
        .await?;
        self.ask(Request::routes(), |report| {
            if let KernelReport::Route(of) = report
                && of.protocol == PROTOCOL
                && of.destination.is_some_and(|to| to.is_ipv6())
            {
                entries.extend(of.route.links.into_iter().zip(of.destination));
            }
        })
        .await?;
        Ok(entries)
    }

    /// Returns the route for a packet to this address, from a socket bound to the link `bound` if
    /// given; `None` when there is no route. Only the routing table is read; nothing is sent.
    pub async fn route_to(&self, to: IpAddr, bound: Option<u32>) -> io::Result<Option<Route>> {
        let mut found = None;
        let asked = self.ask(Request::route_to(to, bound), |report| {
            if let KernelReport::Route(of) = report {
                found = Some(of.route);
            }
        });
        match asked.await {
            Ok(()) => Ok(found),
            Err(reason) if is_no_route(&reason) => Ok(None),
            Err(reason) => Err(reason),
        }
    }
}

/// Returns the metric of guest routes through a link. It is higher (so less preferred) than an
/// operator's metrics, and different for each link.
pub(in crate::host) fn route_metric(index: u32) -> u32 {
    0x4000_0000 | index
}

fn is_no_route(reason: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(reason),
        Some(Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::NODEV)
    )
}
