//! Links, addresses and routes of the host, by netlink. This is the one file that names the netlink library.
//!
//! [`watch`] keeps [`Links`] as the kernel has them. A link that was deleted and made again is another link, whatever its
//! name and its index: each has an [`Incarnation`] of its own. When the kernel has told more than was read in time,
//! everything is read anew, and every link counts as new.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use parking_lot::Mutex;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::packet_route::route::{RouteAttribute, RouteFlags, RouteMessage, RouteProtocol};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::AsyncSocket as _;
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder};
use tokio::sync::watch;
use tracing::warn;

/// The protocol number of the routes that are put here, so that `ip route` tells them from others: one that
/// /etc/iproute2/rt_protos leaves free, after 169.254.169.254.
pub const ROUTE_PROTOCOL: u8 = 169;
/// How long to wait before netlink is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// The kernel's queue of news, in bytes: enough for a few thousand links that come at once.
const NEWS: usize = 4 << 20;

/// Tells a link from every other there was, one of the same name and index included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(u64);

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number, which another may have later.
    pub index: u32,
    /// Its name, which another may have later.
    pub name: String,
    /// Which of all links it is.
    pub incarnation: Incarnation,
    /// Whether it is administratively up.
    pub up: bool,
    /// How often it came up: the kernel drops IPv6 addresses and routes when a link goes down.
    pub ups: u64,
    /// Its Ethernet address, as colon-separated lower-case hexadecimal; empty when it has none.
    pub mac: String,
    /// What the kernel calls its kind: `bridge`, `vlan`, `veth`, `tun`; empty for hardware.
    pub kind: String,
    /// The index of the bridge, or the VRF, that it is a port of.
    pub controller: Option<u32>,
    /// The index of the link that it stands on, as a VLAN device does.
    pub below: Option<u32>,
    /// Its addresses. One that is not usable yet (duplicate address detection) or never (it failed) is left out.
    pub addresses: BTreeSet<IpAddr>,
}

#[cfg(test)]
impl Link {
    /// A link that a test makes up: up, and without addresses.
    pub(super) fn made_up(index: u32, name: &str, kind: &str) -> Link {
        Link {
            index,
            name: name.to_string(),
            incarnation: Incarnation(index.into()),
            up: true,
            ups: 1,
            mac: format!("02:00:00:00:00:{index:02x}"),
            kind: kind.to_string(),
            controller: None,
            below: None,
            addresses: BTreeSet::new(),
        }
    }
}

/// All links of the host.
#[derive(Clone, Debug, Default)]
pub struct Links {
    links: BTreeMap<u32, Link>,
    indexes: HashMap<String, u32>,
    made: u64,
}

impl Links {
    /// The link that has this name now.
    pub fn named(&self, name: &str) -> Option<&Link> {
        self.links.get(self.indexes.get(name)?)
    }

    /// The link that has this index now.
    pub fn indexed(&self, index: u32) -> Option<&Link> {
        self.links.get(&index)
    }

    /// All links.
    pub fn iter(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    /// Takes in what the kernel says; whether anything is different now.
    fn take(&mut self, news: &RouteNetlinkMessage) -> bool {
        match news {
            RouteNetlinkMessage::NewLink(message) => self.take_link(message),
            RouteNetlinkMessage::DelLink(message) => is_of_link(message) && self.remove(message.header.index),
            RouteNetlinkMessage::NewAddress(message) => self.take_address(message, is_usable(message)),
            RouteNetlinkMessage::DelAddress(message) => self.take_address(message, false),
            _ => false,
        }
    }

    fn take_link(&mut self, message: &LinkMessage) -> bool {
        let index = message.header.index;
        let up = message.header.flags.contains(LinkFlags::Up);
        let (mut name, mut mac, mut controller) = (None, String::new(), None);
        let (mut kind, mut below) = (String::new(), None);
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(value) => name = Some(value),
                LinkAttribute::Address(bytes) if bytes.len() == 6 => mac = mac_text(bytes),
                LinkAttribute::Controller(value) => controller = (*value != 0).then_some(*value),
                LinkAttribute::Link(value) => below = (*value != 0).then_some(*value),
                LinkAttribute::LinkInfo(infos) => {
                    let of_info = infos.iter().find_map(|info| match info {
                        LinkInfo::Kind(kind) => Some(kind.to_string()),
                        _ => None,
                    });
                    kind = of_info.unwrap_or_default();
                }
                _ => {}
            }
        }
        let (Some(name), true) = (name, is_of_link(message)) else { return false };
        let before = self.links.get(&index).cloned();
        let link = match &before {
            Some(known) => Link {
                name: name.clone(),
                up,
                ups: known.ups + u64::from(up && !known.up),
                mac,
                kind,
                controller,
                below,
                ..known.clone()
            },
            None => {
                self.made += 1;
                let incarnation = Incarnation(self.made);
                let (ups, addresses) = (u64::from(up), BTreeSet::new());
                Link { index, name: name.clone(), incarnation, up, ups, mac, kind, controller, below, addresses }
            }
        };
        let is_news = before.as_ref() != Some(&link);
        if let Some(before) = before.filter(|before| before.name != *name) {
            self.forget_name(&before);
        }
        self.indexes.insert(name.clone(), index);
        self.links.insert(index, link);
        is_news
    }

    fn remove(&mut self, index: u32) -> bool {
        let Some(link) = self.links.remove(&index) else { return false };
        self.forget_name(&link);
        true
    }

    /// The name may be another's by now.
    fn forget_name(&mut self, link: &Link) {
        if self.indexes.get(&link.name) == Some(&link.index) {
            self.indexes.remove(&link.name);
        }
    }

    fn take_address(&mut self, message: &AddressMessage, has: bool) -> bool {
        let (Some(address), Some(link)) = (address_of(message), self.links.get_mut(&message.header.index)) else {
            return false;
        };
        if has { link.addresses.insert(address) } else { link.addresses.remove(&address) }
    }

    /// Links that a test made up.
    #[cfg(test)]
    pub(super) fn of(made_up: impl IntoIterator<Item = Link>) -> Links {
        let mut links = Links::default();
        for link in made_up {
            links.indexes.insert(link.name.clone(), link.index);
            links.links.insert(link.index, link);
        }
        links
    }

    /// Forgets all links; those that are found again are new ones.
    fn start_anew(&mut self) {
        self.links.clear();
        self.indexes.clear();
    }
}

/// A bridge tells of its ports in messages of its own family: they say less, and a port that leaves is "deleted" in them.
fn is_of_link(message: &LinkMessage) -> bool {
    message.header.interface_family == AddressFamily::Unspec
}

/// An IPv4 address is local in `IFA_LOCAL`; an IPv6 one may stand in `IFA_ADDRESS` alone.
fn address_of(message: &AddressMessage) -> Option<IpAddr> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })
}

fn is_usable(message: &AddressMessage) -> bool {
    !message.header.flags.intersects(AddressHeaderFlags::Tentative | AddressHeaderFlags::Dadfailed)
}

fn mac_text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

/// A route of the kernel's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// The links that it may leave by: several for a route with several next hops.
    pub by: Vec<u32>,
    /// Whether the destination itself is on the link, and no gateway between.
    pub is_direct: bool,
}

impl Route {
    fn read(message: &RouteMessage) -> Route {
        let mut route = Route { by: Vec::new(), is_direct: true };
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Oif(index) => route.by.push(*index),
                RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => route.is_direct = false,
                RouteAttribute::MultiPath(hops) => {
                    route.by.extend(hops.iter().map(|hop| hop.interface_index));
                    let gateway =
                        |of: &RouteAttribute| matches!(of, RouteAttribute::Gateway(_) | RouteAttribute::Via(_));
                    route.is_direct &= !hops.iter().any(|hop| hop.attributes.iter().any(gateway));
                }
                _ => {}
            }
        }
        route
    }
}

/// Asks the kernel for things. Clones ask by the same connection.
#[derive(Clone)]
pub struct Netlink(Arc<Mutex<Handle>>);

/// Follows the links of this network namespace. Returns when all links there are have been read; the receiver changes with
/// every change, for as long as the returned [`Netlink`] lives.
pub async fn watch() -> io::Result<(Netlink, watch::Receiver<Links>)> {
    let (handle, mut news) = connect()?;
    let mut links = Links::default();
    read_all(&handle, &mut links).await?;
    let netlink = Netlink(Arc::new(Mutex::new(handle)));
    let (publish, published) = watch::channel(links);

    let held = Arc::downgrade(&netlink.0);
    tokio::spawn(async move {
        loop {
            let message = tokio::select! {
                message = news.next() => message,
                () = publish.closed() => return,
            };
            let Some(current) = held.upgrade() else { return };
            let is_whole = match message.map(|(message, _)| message.payload) {
                Some(NetlinkPayload::InnerMessage(message)) => {
                    publish.send_if_modified(|links| links.take(&message));
                    true
                }
                Some(NetlinkPayload::Overrun(_)) | None => false,
                Some(_) => true,
            };
            // Something was lost: read everything anew, by a new connection, whose news begin before the reading does.
            if !is_whole {
                warn!("more news of links than could be read: all are read anew");
                loop {
                    let mut anew = publish.borrow().clone();
                    anew.start_anew();
                    match reconnect(&mut anew).await {
                        Ok((handle, stream)) => {
                            *current.lock() = handle;
                            news = stream;
                            publish.send_replace(anew);
                            break;
                        }
                        Err(reason) => {
                            warn!(%reason, "links can't be read; trying again");
                            tokio::time::sleep(TRY_AGAIN).await;
                        }
                    }
                }
            }
        }
    });
    Ok((netlink, published))
}

type News = futures_util::stream::BoxStream<
    'static,
    (rtnetlink::packet_core::NetlinkMessage<RouteNetlinkMessage>, rtnetlink::sys::SocketAddr),
>;

fn connect() -> io::Result<(Handle, News)> {
    let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
    let (mut connection, handle, news) = rtnetlink::new_multicast_connection(&groups)?;
    // Best effort: the kernel's own size is enough for all but a burst.
    let _ = connection.socket_mut().socket_mut().set_rx_buf_sz(NEWS);
    tokio::spawn(connection);
    Ok((handle, news.boxed()))
}

async fn reconnect(links: &mut Links) -> io::Result<(Handle, News)> {
    let (handle, news) = connect()?;
    read_all(&handle, links).await?;
    Ok((handle, news))
}

async fn read_all(handle: &Handle, links: &mut Links) -> io::Result<()> {
    let mut found = handle.link().get().execute();
    while let Some(link) = found.try_next().await.map_err(plain)? {
        links.take_link(&link);
    }
    let mut found = Box::pin(handle.address().get().execute());
    while let Some(address) = found.try_next().await.map_err(plain)? {
        links.take_address(&address, is_usable(&address));
    }
    Ok(())
}

impl Netlink {
    /// Puts an address on a link, for itself alone (/32 or /128). An IPv6 address is usable at once: without `nodad` a guest
    /// could claim it first and so keep the host from it. `AlreadyExists` when it is there.
    pub async fn add_address(&self, index: u32, address: IpAddr) -> io::Result<()> {
        let handle = self.handle();
        let mut request = handle.address().add(index, address, own_prefix(address));
        if address.is_ipv6() {
            request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        }
        request.execute().await.map_err(plain)
    }

    /// Takes an address away again.
    pub async fn remove_address(&self, index: u32, address: IpAddr) -> io::Result<()> {
        let handle = self.handle();
        // The message that adds it names it too.
        let mut message = handle.address().add(index, address, own_prefix(address));
        let message = std::mem::take(message.message_mut());
        handle.address().del(message).execute().await.map_err(plain)
    }

    /// Leads packets of sockets bound to a link to a guest that is on it. The metric keeps the route from deciding anything
    /// else. `AlreadyExists` when it is there.
    pub async fn add_route(&self, index: u32, to: Ipv6Addr) -> io::Result<()> {
        self.handle().route().add(route(index, to)).execute().await.map_err(plain)
    }

    /// Takes such a route away again.
    pub async fn remove_route(&self, index: u32, to: Ipv6Addr) -> io::Result<()> {
        self.handle().route().del(route(index, to)).execute().await.map_err(plain)
    }

    /// The route that a packet to this address would take, of a socket bound to `bound` if that is given. Only the routing
    /// table is asked; nothing is sent. `None` when there is no route.
    pub async fn route_to(&self, to: IpAddr, bound: Option<u32>) -> io::Result<Option<Route>> {
        let mut message = match to {
            IpAddr::V4(to) => RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(to, 32).build(),
            IpAddr::V6(to) => RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(to, 128).build(),
        };
        message.header.flags |= RouteFlags::FibMatch;
        message.attributes.extend(bound.map(RouteAttribute::Oif));
        let handle = self.handle();
        let mut found = Box::pin(handle.route().get(message).execute());
        match found.try_next().await.map_err(plain) {
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

/// The metric of a guest's route by this link: worse than any of an operator's, and no two links' the same.
pub(super) fn route_metric(index: u32) -> u32 {
    0x4000_0000 | index
}

fn route(index: u32, to: Ipv6Addr) -> RouteMessage {
    RouteMessageBuilder::<Ipv6Addr>::new()
        .destination_prefix(to, 128)
        .output_interface(index)
        .priority(route_metric(index))
        .protocol(RouteProtocol::Other(ROUTE_PROTOCOL))
        .build()
}

fn is_no_route(reason: &io::Error) -> bool {
    use rustix::io::Errno;
    let code = reason.raw_os_error().map(Errno::from_raw_os_error);
    matches!(code, Some(Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::NODEV))
}

/// The kernel's own error, where there is one.
fn plain(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str, up: bool) -> RouteNetlinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
        message.attributes =
            vec![LinkAttribute::IfName(name.to_string()), LinkAttribute::Address(vec![2, 0, 0, 0, 0, index as u8])];
        RouteNetlinkMessage::NewLink(message)
    }

    fn deleted(index: u32) -> RouteNetlinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = index;
        RouteNetlinkMessage::DelLink(message)
    }

    fn address(index: u32, text: &str, flags: AddressHeaderFlags) -> AddressMessage {
        let mut message = AddressMessage::default();
        message.header.index = index;
        message.header.flags = flags;
        message.attributes = vec![AddressAttribute::Address(text.parse().unwrap())];
        message
    }

    #[test]
    fn a_link_that_is_made_again_is_another_link() {
        let mut links = Links::default();
        assert!(links.take(&link(5, "tap0", true)));
        assert!(!links.take(&link(5, "tap0", true)), "no news");
        let first = links.named("tap0").unwrap().clone();
        assert_eq!((first.index, first.mac.as_str(), first.ups), (5, "02:00:00:00:00:05", 1));

        // Down and up again, it is the same.
        assert!(links.take(&link(5, "tap0", false)));
        assert!(links.take(&link(5, "tap0", true)));
        assert_eq!(links.named("tap0").unwrap().incarnation, first.incarnation);
        assert_eq!(links.named("tap0").unwrap().ups, 2);

        // Same name and same index.
        assert!(links.take(&deleted(5)));
        assert_eq!(links.named("tap0"), None);
        assert!(links.take(&link(5, "tap0", true)));
        assert_ne!(links.named("tap0").unwrap().incarnation, first.incarnation);
        assert!(!links.take(&deleted(6)), "never heard of");
    }

    #[test]
    fn a_name_belongs_to_whoever_has_it_now() {
        let mut links = Links::default();
        links.take(&link(5, "tap0", true));
        links.take(&link(6, "tap1", true));
        links.take(&link(5, "old", true));
        assert_eq!(links.named("tap0"), None);
        links.take(&link(6, "tap0", true));
        assert_eq!(links.named("tap0").map(|link| link.index), Some(6));
        // The end of a link takes no other's name away.
        links.take(&link(7, "old", true));
        links.take(&deleted(5));
        assert_eq!(links.named("old").map(|link| link.index), Some(7));
    }

    #[test]
    fn an_address_counts_from_when_it_is_usable() {
        let mut links = Links::default();
        links.take(&link(5, "tap0", true));
        let fd00 = "fd00:ec2::254";
        let has = |links: &Links| links.named("tap0").unwrap().addresses.contains(&fd00.parse().unwrap());
        links.take(&RouteNetlinkMessage::NewAddress(address(5, fd00, AddressHeaderFlags::Tentative)));
        assert!(!has(&links));
        links.take(&RouteNetlinkMessage::NewAddress(address(5, fd00, AddressHeaderFlags::empty())));
        assert!(has(&links));
        links.take(&RouteNetlinkMessage::NewAddress(address(5, fd00, AddressHeaderFlags::Dadfailed)));
        assert!(!has(&links));
        links.take(&RouteNetlinkMessage::NewAddress(address(5, fd00, AddressHeaderFlags::empty())));
        links.take(&RouteNetlinkMessage::DelAddress(address(5, fd00, AddressHeaderFlags::empty())));
        assert!(!has(&links));
        // Of a link that is gone.
        assert!(!links.take(&RouteNetlinkMessage::NewAddress(address(9, fd00, AddressHeaderFlags::empty()))));
    }

    #[test]
    fn what_a_bridge_says_of_its_port_is_no_news_of_the_link() {
        let mut links = Links::default();
        let RouteNetlinkMessage::NewLink(mut message) = link(5, "tap0", true) else { unreachable!() };
        message.header.interface_family = AddressFamily::Bridge;
        assert!(!links.take(&RouteNetlinkMessage::NewLink(message.clone())));
        assert_eq!(links.iter().count(), 0);
        // It leaves the bridge, and is there still.
        links.take(&link(5, "tap0", true));
        assert!(!links.take(&RouteNetlinkMessage::DelLink(message)));
        assert!(links.named("tap0").is_some());
    }
}
