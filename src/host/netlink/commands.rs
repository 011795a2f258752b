//! Requests to the kernel: links, addresses and routes are read, and addresses and routes are added
//! and removed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use parking_lot::Mutex;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressProtocol, AddressScope, CacheInfo,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteType,
};
use rtnetlink::{Handle, RouteMessageBuilder};

use super::links::{Links, address_of, is_usable};
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

/// A connection for requests to the kernel. Clones share the connection.
///
/// Notifications use another connection: answers and notifications that share a queue are lost
/// together when it is full, and a notification about a requested change would be mistaken for the
/// answer.
#[derive(Clone)]
pub struct Netlink(Arc<Mutex<Handle>>);

/// A reference to a [`Netlink`] that does not keep it open.
pub(super) struct WeakNetlink(Weak<Mutex<Handle>>);

impl WeakNetlink {
    /// Returns the connection while some [`Netlink`] still holds it.
    pub(super) fn upgrade(&self) -> Option<Netlink> {
        self.0.upgrade().map(Netlink)
    }
}

impl Netlink {
    pub(super) fn connect() -> io::Result<Netlink> {
        Ok(Netlink(Arc::new(Mutex::new(Netlink::new_handle()?))))
    }

    pub(super) fn downgrade(&self) -> WeakNetlink {
        WeakNetlink(Arc::downgrade(&self.0))
    }

    fn new_handle() -> io::Result<Handle> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        Ok(handle)
    }

    /// Waits at most [`PATIENCE`]: a lost answer would never come.
    async fn within<T>(
        &self,
        request: impl Future<Output = Result<T, rtnetlink::Error>>,
    ) -> io::Result<T> {
        match tokio::time::timeout(PATIENCE, request).await {
            Ok(answer) => answer.map_err(kernel_error),
            Err(_) => {
                // A new connection, so that a late answer is not taken for the answer to another
                // request.
                if let Ok(handle) = Netlink::new_handle() {
                    *self.0.lock() = handle;
                }
                Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the kernel did not answer a netlink request",
                ))
            }
        }
    }

    /// Reads one link by its name. It is not an error if no link has the name.
    async fn read_link(&self, name: &str, links: &mut Links) -> io::Result<()> {
        let request = self.handle().link().get().match_name(name.to_string());
        let mut found = request.execute();
        match self.within(found.try_next()).await {
            Ok(Some(link)) => drop(links.apply_link(&link)),
            Ok(None) => {}
            Err(reason)
                if reason.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => {}
            Err(reason) => return Err(reason),
        }
        Ok(())
    }

    pub(super) async fn read_links(&self, links: &mut Links) -> io::Result<()> {
        let mut found = self.handle().link().get().execute();
        while let Some(link) = self.within(found.try_next()).await? {
            links.apply_link(&link);
        }
        Ok(())
    }

    /// Reads the addresses for which `is_wanted` returns true.
    pub(super) async fn read_addresses(
        &self,
        links: &mut Links,
        is_wanted: impl Fn(&IpAddr) -> bool,
    ) -> io::Result<()> {
        let mut found = Box::pin(self.handle().address().get().execute());
        while let Some(address) = self.within(found.try_next()).await? {
            if address_of(&address).is_some_and(|address| is_wanted(&address)) {
                links.apply_address(&address, is_usable(&address));
            }
        }
        Ok(())
    }

    /// Returns all addresses, usable or not, each with the index of its link.
    pub(super) async fn all_addresses(&self) -> io::Result<BTreeSet<(IpAddr, u32)>> {
        let mut addresses = BTreeSet::new();
        let mut found = Box::pin(self.handle().address().get().execute());
        while let Some(address) = self.within(found.try_next()).await? {
            addresses.extend(address_of(&address).map(|of| (of, address.header.index)));
        }
        Ok(addresses)
    }

    /// Adds an address to a link, as /32 or /128. The host does not choose it as a source address:
    /// it has link scope (IPv4) or is deprecated (IPv6). An IPv6 address is added with `nodad` and
    /// is usable at once: with duplicate address detection, a guest could claim it first. Fails
    /// with `AlreadyExists` if the link has the address.
    pub async fn add_address(&self, index: u32, address: IpAddr) -> io::Result<()> {
        let mut request = self
            .handle()
            .address()
            .add(index, address, own_prefix(address));
        let message = request.message_mut();
        // Kernels before 5.18 ignore it.
        message
            .attributes
            .push(AddressAttribute::Protocol(AddressProtocol::Other(PROTOCOL)));
        if address.is_ipv6() {
            message.header.flags |= AddressHeaderFlags::Nodad;
            let mut lifetime = CacheInfo::default();
            lifetime.ifa_valid = u32::MAX;
            message
                .attributes
                .push(AddressAttribute::CacheInfo(lifetime));
        } else {
            message.header.scope = AddressScope::Link;
        }
        self.within(request.execute()).await
    }

    /// Removes an address that [`Netlink::add_address`] added.
    pub async fn remove_address(&self, index: u32, address: IpAddr) -> io::Result<()> {
        // The message that adds an address identifies it as well.
        let mut message = self
            .handle()
            .address()
            .add(index, address, own_prefix(address));
        let message = std::mem::take(message.message_mut());
        self.within(self.handle().address().del(message).execute())
            .await
    }

    /// Adds a route to a guest on a link, for packets of sockets bound to that link. Any other
    /// route to this very address is preferred to it, but it is preferred to a route to the
    /// address's network: call [`Netlink::route_to`] first. Fails with `AlreadyExists` if the route
    /// exists.
    pub async fn add_route(&self, index: u32, to: Ipv6Addr) -> io::Result<()> {
        self.within(self.handle().route().add(route(index, to)).execute())
            .await
    }

    /// Removes a route that [`Netlink::add_route`] added.
    pub async fn remove_route(&self, index: u32, to: Ipv6Addr) -> io::Result<()> {
        self.within(self.handle().route().del(route(index, to)).execute())
            .await
    }

    /// Returns the addresses and the route destinations that have [`PROTOCOL`], with the index of
    /// their link.
    pub async fn own_entries(&self) -> io::Result<BTreeSet<(u32, IpAddr)>> {
        let mut entries = BTreeSet::new();
        let mut addresses = Box::pin(self.handle().address().get().execute());
        let mark = AddressAttribute::Protocol(AddressProtocol::Other(PROTOCOL));
        while let Some(address) = self.within(addresses.try_next()).await? {
            if address.attributes.contains(&mark) {
                entries.extend(address_of(&address).map(|of| (address.header.index, of)));
            }
        }
        let all = RouteMessageBuilder::<Ipv6Addr>::new().build();
        let mut routes = Box::pin(self.handle().route().get(all).execute());
        while let Some(route) = self.within(routes.try_next()).await? {
            if route.header.protocol != RouteProtocol::Other(PROTOCOL) {
                continue;
            }
            let to = route
                .attributes
                .iter()
                .find_map(|attribute| match attribute {
                    RouteAttribute::Destination(RouteAddress::Inet6(to)) => Some(IpAddr::V6(*to)),
                    _ => None,
                });
            entries.extend(Route::read(&route).links.into_iter().zip(to));
        }
        Ok(entries)
    }

    /// Returns the route for a packet to this address, from a socket bound to the link `bound` if
    /// given; `None` when there is no route. Only the routing table is read; nothing is sent.
    pub async fn route_to(&self, to: IpAddr, bound: Option<u32>) -> io::Result<Option<Route>> {
        let mut message = match to {
            IpAddr::V4(to) => RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(to, 32)
                .build(),
            IpAddr::V6(to) => RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(to, 128)
                .build(),
        };
        message.header.flags |= RouteFlags::FibMatch;
        message.attributes.extend(bound.map(RouteAttribute::Oif));
        let mut found = Box::pin(self.handle().route().get(message).execute());
        match self.within(found.try_next()).await {
            Ok(route) => Ok(route.map(|route| Route::read(&route))),
            Err(reason) if is_no_route(&reason) => Ok(None),
            Err(reason) => Err(reason),
        }
    }

    fn handle(&self) -> Handle {
        self.0.lock().clone()
    }
}

fn own_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Returns the metric of guest routes through a link. It is higher (so less preferred) than an
/// operator's metrics, and different for each link.
pub(in crate::host) fn route_metric(index: u32) -> u32 {
    0x4000_0000 | index
}

fn route(index: u32, to: Ipv6Addr) -> RouteMessage {
    RouteMessageBuilder::<Ipv6Addr>::new()
        .destination_prefix(to, 128)
        .output_interface(index)
        .priority(route_metric(index))
        .protocol(RouteProtocol::Other(PROTOCOL))
        .build()
}

fn is_no_route(reason: &io::Error) -> bool {
    use rustix::io::Errno;
    let code = reason.raw_os_error().map(Errno::from_raw_os_error);
    matches!(
        code,
        Some(Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::NODEV)
    )
}

/// Returns the kernel's own error if there is one.
fn kernel_error(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    }
}

/// A route in the routing table of the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// The indexes of the links that it uses: several for a route with several next hops.
    pub links: Vec<u32>,
    /// Whether the destination is on the link itself, without a gateway.
    pub is_direct: bool,
    /// The prefix length; 0 is the default route.
    pub prefix: u8,
    /// Whether the destination is this host itself.
    pub is_local: bool,
}

impl Route {
    fn read(message: &RouteMessage) -> Route {
        let mut route = Route {
            links: Vec::new(),
            is_direct: true,
            prefix: message.header.destination_prefix_length,
            is_local: message.header.kind == RouteType::Local,
        };
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Oif(index) => route.links.push(*index),
                RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => route.is_direct = false,
                RouteAttribute::MultiPath(hops) => {
                    route
                        .links
                        .extend(hops.iter().map(|hop| hop.interface_index));
                    let gateway = |of: &RouteAttribute| {
                        matches!(of, RouteAttribute::Gateway(_) | RouteAttribute::Via(_))
                    };
                    route.is_direct &= !hops.iter().any(|hop| hop.attributes.iter().any(gateway));
                }
                _ => {}
            }
        }
        route
    }
}
