//! Links, addresses and routes of the host, by netlink. This is the one file that names the netlink library.
//!
//! [`watch`] keeps [`Links`] as the kernel has them. A link that was deleted and made again is another link, whatever its
//! name and its index: each has an [`Incarnation`] of its own. When the kernel has told more than was read in time,
//! everything is read anew, and every link counts as new.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use parking_lot::Mutex;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressProtocol, AddressScope, CacheInfo,
};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::AsyncSocket as _;
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

/// The protocol number of the addresses and routes that are put here, so that `ip` tells them from others: one that
/// /etc/iproute2/rt_protos leaves free, after 169.254.169.254.
pub const PROTOCOL: u8 = 169;
/// How long the kernel may take over an answer.
const PATIENCE: Duration = Duration::from_secs(2);
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
    /// The longest packet that it carries.
    pub mtu: u32,
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
            mtu: 1500,
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

    /// By which links packets come in, too, that came in by another.
    pub fn upper_links(&self) -> UpperLinks {
        // The other end of a veth takes no part of its packets, though the kernel names it in the same place.
        let takes_a_part =
            |kind: &str| matches!(kind, "vlan" | "macvlan" | "macvtap" | "ipvlan" | "ipvtap");
        let mut direct: HashMap<u32, Vec<u32>> = HashMap::new();
        for link in self.links.values() {
            if let Some(below) = link.below.filter(|_| takes_a_part(&link.kind)) {
                direct.entry(below).or_default().push(link.index);
            }
            if let Some(controller) = link.controller {
                direct.entry(link.index).or_default().push(controller);
            }
        }
        UpperLinks(direct)
    }

    /// Takes in what the kernel says; whether anything is different now.
    fn take(&mut self, news: &RouteNetlinkMessage) -> bool {
        match news {
            RouteNetlinkMessage::NewLink(message) => self.take_link(message),
            RouteNetlinkMessage::DelLink(message) => {
                is_of_link(message) && self.remove(message.header.index)
            }
            RouteNetlinkMessage::NewAddress(message) => {
                self.take_address(message, is_usable(message))
            }
            RouteNetlinkMessage::DelAddress(message) => self.take_address(message, false),
            _ => false,
        }
    }

    fn take_link(&mut self, message: &LinkMessage) -> bool {
        let index = message.header.index;
        let up = message.header.flags.contains(LinkFlags::Up);
        let (mut name, mut mac, mut controller) = (None, String::new(), None);
        let (mut kind, mut below, mut mtu) = (String::new(), None, u32::MAX);
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(value) => name = Some(value),
                LinkAttribute::Address(bytes) if bytes.len() == 6 => mac = mac_text(bytes),
                LinkAttribute::Controller(value) => controller = (*value != 0).then_some(*value),
                LinkAttribute::Mtu(value) => mtu = *value,
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
        let (Some(name), true) = (name, is_of_link(message)) else {
            return false;
        };
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
                mtu,
                ..known.clone()
            },
            None => {
                self.made += 1;
                let incarnation = Incarnation(self.made);
                let (ups, addresses) = (u64::from(up), BTreeSet::new());
                Link {
                    index,
                    name: name.clone(),
                    incarnation,
                    up,
                    ups,
                    mac,
                    kind,
                    controller,
                    below,
                    mtu,
                    addresses,
                }
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
        let Some(link) = self.links.remove(&index) else {
            return false;
        };
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
        let (Some(address), Some(link)) = (
            address_of(message),
            self.links.get_mut(&message.header.index),
        ) else {
            return false;
        };
        if has {
            link.addresses.insert(address)
        } else {
            link.addresses.remove(&address)
        }
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

    fn forget_addresses(&mut self) {
        self.links
            .values_mut()
            .for_each(|link| link.addresses.clear());
    }

    /// Takes over the addresses of links that are the same in `anew`; whether any is different now.
    fn take_addresses_of(&mut self, anew: &Links) -> bool {
        let mut is_news = false;
        for link in self.links.values_mut() {
            let same = anew
                .indexed(link.index)
                .filter(|other| other.incarnation == link.incarnation);
            if let Some(same) = same.filter(|same| same.addresses != link.addresses) {
                link.addresses.clone_from(&same.addresses);
                is_news = true;
            }
        }
        is_news
    }

    /// Forgets all links; those that are found again are new ones.
    fn start_anew(&mut self) {
        self.links.clear();
        self.indexes.clear();
    }
}

/// Which links hear what comes in by others: a bridge, bond or VRF its ports, and what stands on a link and takes a part of its
/// packets, such as a device for a VLAN.
pub struct UpperLinks(HashMap<u32, Vec<u32>>);

impl UpperLinks {
    /// All that hear what comes in by the link with this index, at whatever remove.
    pub fn of(&self, index: u32) -> BTreeSet<u32> {
        let (mut all, mut next) = (BTreeSet::new(), vec![index]);
        while let Some(here) = next.pop() {
            let heard_by = self.0.get(&here).into_iter().flatten();
            next.extend(heard_by.filter(|hearer| **hearer != index && all.insert(**hearer)));
        }
        all
    }
}

/// A bridge tells of its ports in messages of its own family: they say less, and a port that leaves is "deleted" in them.
fn is_of_link(message: &LinkMessage) -> bool {
    message.header.interface_family == AddressFamily::Unspec
}

/// An IPv4 address is local in `IFA_LOCAL`; an IPv6 one may stand in `IFA_ADDRESS` alone.
fn address_of(message: &AddressMessage) -> Option<IpAddr> {
    let local = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            AddressAttribute::Local(address) => Some(*address),
            _ => None,
        });
    local.or_else(|| {
        message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                AddressAttribute::Address(address) => Some(*address),
                _ => None,
            })
    })
}

fn is_usable(message: &AddressMessage) -> bool {
    !message
        .header
        .flags
        .intersects(AddressHeaderFlags::Tentative | AddressHeaderFlags::Dadfailed)
}

fn mac_text(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .join(":")
}

/// A route of the kernel's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// The links that it may leave by: several for a route with several next hops.
    pub by: Vec<u32>,
    /// Whether the destination itself is on the link, and no gateway between.
    pub is_direct: bool,
    /// How many bits of the destination it asks for; 0 is the default route.
    pub prefix: u8,
    /// Whether the destination is this host itself.
    pub is_local: bool,
}

impl Route {
    fn read(message: &RouteMessage) -> Route {
        let mut route = Route {
            by: Vec::new(),
            is_direct: true,
            prefix: message.header.destination_prefix_length,
            is_local: message.header.kind == RouteType::Local,
        };
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Oif(index) => route.by.push(*index),
                RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => route.is_direct = false,
                RouteAttribute::MultiPath(hops) => {
                    route.by.extend(hops.iter().map(|hop| hop.interface_index));
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

/// Asks the kernel for things. Clones ask by the same connection.
///
/// It is another connection than the news come by: answers and news that share a queue are lost together when it is full,
/// and the news of what was asked for here would be taken for answers.
#[derive(Clone)]
pub struct Netlink(Arc<Mutex<Handle>>);

/// The links of this network namespace as they are now, with all their addresses.
pub async fn read_links() -> io::Result<(Netlink, Links)> {
    let netlink = Netlink::connect()?;
    let mut links = Links::default();
    netlink.read_links(&mut links).await?;
    netlink.read_addresses(&mut links, |_| true).await?;
    Ok((netlink, links))
}

/// Follows the links of this network namespace, and of their addresses only `addresses`: guests can make a host change others
/// at will. Returns when all links there are have been read; the receiver changes with every change, for as long as the
/// returned [`Netlink`] lives.
pub async fn watch(addresses: BTreeSet<IpAddr>) -> io::Result<(Netlink, watch::Receiver<Links>)> {
    let netlink = Netlink::connect()?;
    let mut following = Following {
        held: Arc::downgrade(&netlink.0),
        link_news: news_of(&[MulticastGroup::Link])?,
        address_news: news_of(&[MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr])?,
        addresses,
        read_at: None,
    };
    let mut links = Links::default();
    netlink.read_links(&mut links).await?;
    netlink
        .read_addresses(&mut links, |address| following.addresses.contains(address))
        .await?;
    let (publish, published) = watch::channel(links);
    tokio::spawn(async move { while following.follow(&publish).await {} });
    Ok((netlink, published))
}

/// What follows the links.
struct Following {
    held: Weak<Mutex<Handle>>,
    /// News of links have a queue of their own: guests can cause those of addresses, by the thousand.
    link_news: News,
    address_news: News,
    addresses: BTreeSet<IpAddr>,
    /// When addresses are read anew, where some changed that nobody told of. It is not put off: a guest could keep the news
    /// coming, and so every other's address unseen.
    read_at: Option<Instant>,
}

impl Following {
    /// Takes in one piece of news. `false` when nobody is interested any more.
    async fn follow(&mut self, publish: &watch::Sender<Links>) -> bool {
        let told = tokio::select! {
            // An address may be of a link that was told of just before.
            biased;
            () = publish.closed() => return false,
            told = self.link_news.next() => Told::OfLinks(told),
            () = tokio::time::sleep_until(self.read_at.unwrap_or_else(Instant::now)), if self.read_at.is_some() => Told::Nothing,
            told = self.address_news.next() => Told::OfAddresses(told),
        };
        let Some(netlink) = self.held.upgrade().map(Netlink) else {
            return false;
        };
        match told {
            Told::OfLinks(Some((message, _))) if !is_overrun(&message.payload) => {
                if let NetlinkPayload::InnerMessage(message) = &message.payload {
                    publish.send_if_modified(|links| links.take(message));
                }
            }
            Told::OfLinks(ended) => {
                warn!("more news of links than could be read: all are read anew, and count as new");
                while let Err(reason) = self.read_all(&netlink, ended.is_none(), publish).await {
                    warn!(%reason, "links can't be read; trying again");
                    tokio::time::sleep(TRY_AGAIN).await;
                }
            }
            Told::OfAddresses(Some((message, _))) if !is_overrun(&message.payload) => {
                if let NetlinkPayload::InnerMessage(message) = &message.payload {
                    self.take_address(message, publish);
                }
            }
            Told::OfAddresses(Some(_)) => self.read_soon(),
            Told::OfAddresses(None) => {
                self.read_soon();
                tokio::time::sleep(TRY_AGAIN).await;
                if let Ok(news) = news_of(&[MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr])
                {
                    self.address_news = news;
                }
            }
            Told::Nothing => {
                self.read_at = None;
                let mut anew = publish.borrow().clone();
                anew.forget_addresses();
                match netlink
                    .read_addresses(&mut anew, |address| self.addresses.contains(address))
                    .await
                {
                    // Links that were told of meanwhile are newer than this copy: their addresses come by the next reading.
                    Ok(()) => {
                        publish.send_if_modified(|links| links.take_addresses_of(&anew));
                    }
                    Err(_) => self.read_soon(),
                }
            }
        }
        true
    }

    fn read_soon(&mut self) {
        self.read_at
            .get_or_insert_with(|| Instant::now() + TRY_AGAIN);
    }

    fn take_address(&mut self, message: &RouteNetlinkMessage, publish: &watch::Sender<Links>) {
        let (RouteNetlinkMessage::NewAddress(of) | RouteNetlinkMessage::DelAddress(of)) = message
        else {
            return;
        };
        if !address_of(of).is_some_and(|address| self.addresses.contains(&address)) {
            return;
        }
        if publish.borrow().indexed(of.header.index).is_none() {
            // Of a link that the other queue will tell of.
            self.read_soon();
            return;
        }
        publish.send_if_modified(|links| links.take(message));
    }

    async fn read_all(
        &mut self,
        netlink: &Netlink,
        ended: bool,
        publish: &watch::Sender<Links>,
    ) -> io::Result<()> {
        if ended {
            self.link_news = news_of(&[MulticastGroup::Link])?;
        }
        let mut anew = publish.borrow().clone();
        anew.start_anew();
        netlink.read_links(&mut anew).await?;
        netlink
            .read_addresses(&mut anew, |address| self.addresses.contains(address))
            .await?;
        publish.send_replace(anew);
        Ok(())
    }
}

enum Told {
    OfLinks(Option<Message>),
    OfAddresses(Option<Message>),
    Nothing,
}

type Message = (
    rtnetlink::packet_core::NetlinkMessage<RouteNetlinkMessage>,
    rtnetlink::sys::SocketAddr,
);
type News = futures_util::stream::BoxStream<'static, Message>;

fn is_overrun(payload: &NetlinkPayload<RouteNetlinkMessage>) -> bool {
    matches!(payload, NetlinkPayload::Overrun(_))
}

/// A connection that nothing is asked by.
fn news_of(groups: &[MulticastGroup]) -> io::Result<News> {
    let (mut connection, handle, news) = rtnetlink::new_multicast_connection(groups)?;
    // Best effort: the kernel's own size is enough for all but a burst.
    let _ = connection.socket_mut().socket_mut().set_rx_buf_sz(NEWS);
    tokio::spawn(connection);
    // The connection lives as long as somebody could ask by it.
    Ok(news.map(move |message| (&handle, message).1).boxed())
}

impl Netlink {
    fn connect() -> io::Result<Netlink> {
        Ok(Netlink(Arc::new(Mutex::new(Netlink::new_handle()?))))
    }

    fn new_handle() -> io::Result<Handle> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        Ok(handle)
    }

    /// What is asked is answered in time or not at all: an answer that was lost would be waited for for ever.
    async fn within<T>(
        &self,
        asking: impl Future<Output = Result<T, rtnetlink::Error>>,
    ) -> io::Result<T> {
        match tokio::time::timeout(PATIENCE, asking).await {
            Ok(answer) => answer.map_err(plain),
            Err(_) => {
                // Late answers of the old connection are nobody's.
                if let Ok(handle) = Netlink::new_handle() {
                    *self.0.lock() = handle;
                }
                Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the kernel did not answer by netlink",
                ))
            }
        }
    }

    async fn read_links(&self, links: &mut Links) -> io::Result<()> {
        let mut found = self.handle().link().get().execute();
        while let Some(link) = self.within(found.try_next()).await? {
            links.take_link(&link);
        }
        Ok(())
    }

    async fn read_addresses(
        &self,
        links: &mut Links,
        which: impl Fn(&IpAddr) -> bool,
    ) -> io::Result<()> {
        let mut found = Box::pin(self.handle().address().get().execute());
        while let Some(address) = self.within(found.try_next()).await? {
            if address_of(&address).is_some_and(|address| which(&address)) {
                links.take_address(&address, is_usable(&address));
            }
        }
        Ok(())
    }

    /// Puts an address on a link, for itself alone (/32 or /128), and not for the host to choose as its own: it belongs to
    /// the link (scope), or is deprecated. An IPv6 address is usable at once: without `nodad` a guest could claim it first and
    /// so keep the host from it. `AlreadyExists` when it is there.
    pub async fn add_address(&self, index: u32, address: IpAddr) -> io::Result<()> {
        let mut request = self
            .handle()
            .address()
            .add(index, address, own_prefix(address));
        let message = request.message_mut();
        // Kernels before 5.18 don't keep it.
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

    /// Takes an address away again.
    pub async fn remove_address(&self, index: u32, address: IpAddr) -> io::Result<()> {
        // The message that adds it names it too.
        let mut message = self
            .handle()
            .address()
            .add(index, address, own_prefix(address));
        let message = std::mem::take(message.message_mut());
        self.within(self.handle().address().del(message).execute())
            .await
    }

    /// Leads packets of sockets bound to a link to a guest that is on it. It is the worst route to this very address, and
    /// yet better than one to its network: see [`Netlink::route_to`] before. `AlreadyExists` when it is there.
    pub async fn add_route(&self, index: u32, to: Ipv6Addr) -> io::Result<()> {
        self.within(self.handle().route().add(route(index, to)).execute())
            .await
    }

    /// Takes such a route away again.
    pub async fn remove_route(&self, index: u32, to: Ipv6Addr) -> io::Result<()> {
        self.within(self.handle().route().del(route(index, to)).execute())
            .await
    }

    /// The addresses and the destinations of routes that bear [`PROTOCOL`], with the links that they are on.
    pub async fn ours(&self) -> io::Result<BTreeSet<(u32, IpAddr)>> {
        let mut ours = BTreeSet::new();
        let mut addresses = Box::pin(self.handle().address().get().execute());
        let mark = AddressAttribute::Protocol(AddressProtocol::Other(PROTOCOL));
        while let Some(address) = self.within(addresses.try_next()).await? {
            if address.attributes.contains(&mark) {
                ours.extend(address_of(&address).map(|of| (address.header.index, of)));
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
            ours.extend(Route::read(&route).by.into_iter().zip(to));
        }
        Ok(ours)
    }

    /// The route that a packet to this address would take, of a socket bound to `bound` if that is given. Only the routing
    /// table is asked; nothing is sent. `None` when there is no route.
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

/// The metric of a guest's route by this link: worse than any of an operator's, and no two links' the same.
pub(super) fn route_metric(index: u32) -> u32 {
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

    #[test]
    fn what_comes_in_by_a_link_is_heard_by_what_it_is_a_port_of_and_by_what_stands_on_it() {
        let under = |link: Link, controller| Link {
            controller: Some(controller),
            ..link
        };
        let on = |link: Link, below| Link {
            below: Some(below),
            ..link
        };
        let links = Links::of([
            Link::made_up(1, "br0", "bridge"),
            under(Link::made_up(2, "tap2", "tun"), 1),
            under(Link::made_up(3, "tap3", "tun"), 1),
            on(Link::made_up(4, "br0.100", "vlan"), 1),
            on(Link::made_up(5, "tap2.7", "vlan"), 2),
            // Ends of one veth, each of which the kernel says is on the other.
            on(Link::made_up(6, "veth6", "veth"), 7),
            on(Link::made_up(7, "veth7", "veth"), 6),
            // Two that say so of each other, which the kernel would not.
            on(Link::made_up(8, "a", "vlan"), 9),
            on(Link::made_up(9, "b", "vlan"), 8),
        ]);
        let upper_links = links.upper_links();
        for (index, heard_by) in [
            (1, vec![4]),
            (2, vec![1, 4, 5]),
            (3, vec![1, 4]),
            (4, vec![]),
            (5, vec![]),
            (6, vec![]),
            (8, vec![9]),
            (99, vec![]),
        ] {
            assert_eq!(
                upper_links.of(index),
                BTreeSet::from_iter(heard_by),
                "{index}"
            );
        }
    }

    fn link(index: u32, name: &str, up: bool) -> RouteNetlinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = if up {
            LinkFlags::Up
        } else {
            LinkFlags::empty()
        };
        message.attributes = vec![
            LinkAttribute::IfName(name.to_string()),
            LinkAttribute::Address(vec![2, 0, 0, 0, 0, index as u8]),
        ];
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
        assert_eq!(
            (first.index, first.mac.as_str(), first.ups),
            (5, "02:00:00:00:00:05", 1)
        );

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
        let has = |links: &Links| {
            links
                .named("tap0")
                .unwrap()
                .addresses
                .contains(&fd00.parse().unwrap())
        };
        links.take(&RouteNetlinkMessage::NewAddress(address(
            5,
            fd00,
            AddressHeaderFlags::Tentative,
        )));
        assert!(!has(&links));
        links.take(&RouteNetlinkMessage::NewAddress(address(
            5,
            fd00,
            AddressHeaderFlags::empty(),
        )));
        assert!(has(&links));
        links.take(&RouteNetlinkMessage::NewAddress(address(
            5,
            fd00,
            AddressHeaderFlags::Dadfailed,
        )));
        assert!(!has(&links));
        links.take(&RouteNetlinkMessage::NewAddress(address(
            5,
            fd00,
            AddressHeaderFlags::empty(),
        )));
        links.take(&RouteNetlinkMessage::DelAddress(address(
            5,
            fd00,
            AddressHeaderFlags::empty(),
        )));
        assert!(!has(&links));
        // Of a link that is gone.
        assert!(!links.take(&RouteNetlinkMessage::NewAddress(address(
            9,
            fd00,
            AddressHeaderFlags::empty()
        ))));
    }

    #[test]
    fn what_a_bridge_says_of_its_port_is_no_news_of_the_link() {
        let mut links = Links::default();
        let RouteNetlinkMessage::NewLink(mut message) = link(5, "tap0", true) else {
            unreachable!()
        };
        message.header.interface_family = AddressFamily::Bridge;
        assert!(!links.take(&RouteNetlinkMessage::NewLink(message.clone())));
        assert_eq!(links.iter().count(), 0);
        // It leaves the bridge, and is there still.
        links.take(&link(5, "tap0", true));
        assert!(!links.take(&RouteNetlinkMessage::DelLink(message)));
        assert!(links.named("tap0").is_some());
    }
}
