//! The messages of rtnetlink(7) that imdsd sends and reads, as bytes. Numbers have the byte order of
//! the host; every message, attribute and next hop begins at a multiple of four bytes.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

// Kinds of messages: NLMSG_… and RTM_….
const ANSWER: u16 = 2;
const DONE: u16 = 3;
const OVERRUN: u16 = 4;
const NEW_LINK: u16 = 16;
const DELETED_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const DELETED_ADDRESS: u16 = 21;
const GET_ADDRESS: u16 = 22;
const NEW_ROUTE: u16 = 24;
const DELETE_ROUTE: u16 = 25;
const GET_ROUTE: u16 = 26;

// Flags of requests: NLM_F_….
const REQUEST: u16 = 0x1;
const CONFIRM: u16 = 0x4;
const EXCLUSIVE: u16 = 0x200;
const ALL: u16 = 0x300;
const CREATE: u16 = 0x400;

// Address families: AF_….
const UNSPECIFIED: u8 = 0;
const INET: u8 = 2;
const INET6: u8 = 10;

// Attributes of links: IFLA_…, and the flag IFF_UP.
const LINK_MAC: u16 = 1;
const LINK_NAME: u16 = 3;
const LINK_MTU: u16 = 4;
const LINK_BELOW: u16 = 5;
const LINK_CONTROLLER: u16 = 10;
const LINK_INFO: u16 = 18;
const LINK_INFO_KIND: u16 = 1;
const LINK_IS_UP: u32 = 1;

// Attributes of addresses: IFA_…, their flags IFA_F_…, and RT_SCOPE_LINK.
const ADDRESS_ADDRESS: u16 = 1;
const ADDRESS_LOCAL: u16 = 2;
const ADDRESS_LIFETIME: u16 = 6;
const ADDRESS_PROTOCOL: u16 = 11;
const WITHOUT_DETECTION: u8 = 0x02;
const DETECTION_FAILED: u8 = 0x08;
const TENTATIVE: u8 = 0x40;
const SCOPE_LINK: u8 = 253;

// Attributes of routes: RTA_…; RT_TABLE_MAIN, RTPROT_STATIC, RTN_…, RTM_F_FIB_MATCH.
const ROUTE_DESTINATION: u16 = 1;
const ROUTE_LINK: u16 = 4;
const ROUTE_GATEWAY: u16 = 5;
const ROUTE_METRIC: u16 = 6;
const ROUTE_NEXT_HOPS: u16 = 9;
const ROUTE_VIA: u16 = 18;
const MAIN_TABLE: u8 = 254;
const STATIC_ROUTE: u8 = 4;
const UNICAST: u8 = 1;
const LOCAL: u8 = 2;
const MATCHED_ENTRY: u32 = 0x2000;

const HEADER_SIZE: usize = 16;
const LINK_HEADER_SIZE: usize = 16;
const ADDRESS_HEADER_SIZE: usize = 8;
const ROUTE_HEADER_SIZE: usize = 12;
const NEXT_HOP_HEADER_SIZE: usize = 8;
const ATTRIBUTE_HEADER_SIZE: usize = 4;
/// The bits of an attribute's kind; the others say how it is stored.
const ATTRIBUTE_KIND: u16 = 0x3fff;

/// What the kernel reports of a link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LinkReport {
    pub(super) index: u32,
    /// Whether the message is about the link itself. A bridge reports its ports in messages of the
    /// bridge family: they have fewer attributes, and a port that leaves the bridge is "deleted" in
    /// them.
    pub(super) is_of_link: bool,
    pub(super) is_up: bool,
    pub(super) name: Option<String>,
    /// Its hardware address, of any length.
    pub(super) mac: Vec<u8>,
    pub(super) kind: String,
    pub(super) controller: Option<u32>,
    pub(super) below: Option<u32>,
    pub(super) mtu: Option<u32>,
}

/// What the kernel reports of an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct AddressReport {
    pub(super) index: u32,
    /// The local address. IPv4 has it in `IFA_LOCAL`, IPv6 may have it in `IFA_ADDRESS` alone.
    pub(super) address: Option<IpAddr>,
    /// Whether duplicate address detection has passed or was not needed.
    pub(super) is_usable: bool,
    /// What added it; `None` with kernels before 5.18.
    pub(super) protocol: Option<u8>,
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

/// What the kernel reports of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RouteReport {
    pub(super) route: Route,
    /// What added it.
    pub(super) protocol: u8,
    /// `None` for the default route.
    pub(super) destination: Option<IpAddr>,
}

/// What a message of the kernel says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KernelReport {
    NewLink(LinkReport),
    DeletedLink(LinkReport),
    NewAddress(AddressReport),
    DeletedAddress(AddressReport),
    Route(RouteReport),
    /// The answer to a request is complete: the error's number, or 0.
    Finished(i32),
    /// The kernel could not deliver messages.
    Lost,
    /// Something that imdsd does not use.
    Other,
}

/// A message of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// The number of the request that it answers; 0 for a notification.
    pub(super) answers: u32,
    pub(super) report: KernelReport,
}

/// Reads all messages of a datagram.
pub(super) fn read_messages(datagram: &[u8]) -> io::Result<Vec<Message>> {
    let mut messages = Vec::new();
    let mut rest = datagram;
    while !rest.is_empty() {
        let size = number(rest, 0)? as usize;
        let message = rest.get(..size).ok_or_else(malformed)?;
        let body = message.get(HEADER_SIZE..).ok_or_else(malformed)?;
        messages.push(Message {
            answers: number(message, 8)?,
            report: read_report(short(message, 4)?, body)?,
        });
        rest = after(rest, size);
    }
    Ok(messages)
}

fn read_report(kind: u16, body: &[u8]) -> io::Result<KernelReport> {
    Ok(match kind {
        NEW_LINK => KernelReport::NewLink(read_link(body)?),
        DELETED_LINK => KernelReport::DeletedLink(read_link(body)?),
        NEW_ADDRESS => KernelReport::NewAddress(read_address(body)?),
        DELETED_ADDRESS => KernelReport::DeletedAddress(read_address(body)?),
        NEW_ROUTE => KernelReport::Route(read_route(body)?),
        ANSWER => KernelReport::Finished((number(body, 0)? as i32).wrapping_neg()),
        // The code of a failure is optional.
        DONE => {
            KernelReport::Finished(number(body, 0).map_or(0, |code| (code as i32).wrapping_neg()))
        }
        OVERRUN => KernelReport::Lost,
        _ => KernelReport::Other,
    })
}

fn read_link(body: &[u8]) -> io::Result<LinkReport> {
    let header = body.get(..LINK_HEADER_SIZE).ok_or_else(malformed)?;
    let mut link = LinkReport {
        index: number(header, 4)?,
        is_of_link: header[0] == UNSPECIFIED,
        is_up: number(header, 8)? & LINK_IS_UP != 0,
        ..LinkReport::default()
    };
    for attribute in NetlinkAttributes(&body[LINK_HEADER_SIZE..]) {
        let (kind, value) = attribute?;
        match kind {
            LINK_NAME => link.name = Some(text(value)),
            LINK_MAC => link.mac = value.to_vec(),
            LINK_MTU => link.mtu = Some(number(value, 0)?),
            // Links are counted from 1.
            LINK_BELOW => link.below = Some(number(value, 0)?).filter(|index| *index != 0),
            LINK_CONTROLLER => {
                link.controller = Some(number(value, 0)?).filter(|index| *index != 0);
            }
            LINK_INFO => {
                for attribute in NetlinkAttributes(value) {
                    let (kind, value) = attribute?;
                    if kind == LINK_INFO_KIND {
                        link.kind = text(value);
                    }
                }
            }
            _ => {}
        }
    }
    Ok(link)
}

fn read_address(body: &[u8]) -> io::Result<AddressReport> {
    let header = body.get(..ADDRESS_HEADER_SIZE).ok_or_else(malformed)?;
    let (mut local, mut other, mut protocol) = (None, None, None);
    for attribute in NetlinkAttributes(&body[ADDRESS_HEADER_SIZE..]) {
        let (kind, value) = attribute?;
        match kind {
            ADDRESS_LOCAL => local = ip(value),
            ADDRESS_ADDRESS => other = ip(value),
            ADDRESS_PROTOCOL => protocol = value.first().copied(),
            _ => {}
        }
    }
    Ok(AddressReport {
        index: number(header, 4)?,
        address: local.or(other),
        is_usable: header[2] & (TENTATIVE | DETECTION_FAILED) == 0,
        protocol,
    })
}

fn read_route(body: &[u8]) -> io::Result<RouteReport> {
    let header = body.get(..ROUTE_HEADER_SIZE).ok_or_else(malformed)?;
    let mut report = RouteReport {
        route: Route {
            links: Vec::new(),
            is_direct: true,
            prefix: header[1],
            is_local: header[7] == LOCAL,
        },
        protocol: header[5],
        destination: None,
    };
    let route = &mut report.route;
    for attribute in NetlinkAttributes(&body[ROUTE_HEADER_SIZE..]) {
        let (kind, value) = attribute?;
        match kind {
            ROUTE_DESTINATION => report.destination = ip(value),
            ROUTE_LINK => route.links.push(number(value, 0)?),
            ROUTE_GATEWAY | ROUTE_VIA => route.is_direct = false,
            ROUTE_NEXT_HOPS => read_next_hops(value, route)?,
            _ => {}
        }
    }
    Ok(report)
}

fn read_next_hops(mut hops: &[u8], route: &mut Route) -> io::Result<()> {
    while !hops.is_empty() {
        let size = usize::from(short(hops, 0)?);
        let hop = hops.get(..size).ok_or_else(malformed)?;
        let attributes = hop.get(NEXT_HOP_HEADER_SIZE..).ok_or_else(malformed)?;
        route.links.push(number(hop, 4)?);
        for attribute in NetlinkAttributes(attributes) {
            if matches!(attribute?.0, ROUTE_GATEWAY | ROUTE_VIA) {
                route.is_direct = false;
            }
        }
        hops = after(hops, size);
    }
    Ok(())
}

/// The attributes of a message, each with its kind. Ends after the first that is malformed.
struct NetlinkAttributes<'a>(&'a [u8]);

impl<'a> Iterator for NetlinkAttributes<'a> {
    type Item = io::Result<(u16, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.0);
        let read = || {
            let size = usize::from(short(bytes, 0)?);
            let value = bytes.get(ATTRIBUTE_HEADER_SIZE..size);
            let value = value.ok_or_else(malformed)?;
            Ok((short(bytes, 2)? & ATTRIBUTE_KIND, value, after(bytes, size)))
        };
        Some(read().map(|(kind, value, rest)| {
            self.0 = rest;
            (kind, value)
        }))
    }
}

/// Returns what follows `size` bytes and the padding after them.
fn after(bytes: &[u8], size: usize) -> &[u8] {
    bytes.get(size.next_multiple_of(4)..).unwrap_or_default()
}

fn number(bytes: &[u8], at: usize) -> io::Result<u32> {
    let bytes = bytes.get(at..).and_then(|rest| rest.first_chunk());
    bytes.copied().map(u32::from_ne_bytes).ok_or_else(malformed)
}

fn short(bytes: &[u8], at: usize) -> io::Result<u16> {
    let bytes = bytes.get(at..).and_then(|rest| rest.first_chunk());
    bytes.copied().map(u16::from_ne_bytes).ok_or_else(malformed)
}

/// Returns the text before the first zero byte.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned()
}

/// Returns an address; `None` for those of other families.
fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|bytes| Ipv4Addr::from(bytes).into());
    let v6 = <[u8; 16]>::try_from(bytes).map(|bytes| Ipv6Addr::from(bytes).into());
    v4.or(v6).ok()
}

fn malformed() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "a netlink message of the kernel is malformed",
    )
}

/// A request to the kernel, which is complete except for its number.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request(Vec<u8>);

impl Request {
    fn new(kind: u16, flags: u16, header: &[u8]) -> Request {
        let mut bytes = vec![0; HEADER_SIZE];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(REQUEST | flags).to_ne_bytes());
        bytes.extend_from_slice(header);
        Request(bytes)
    }

    fn with(mut self, kind: u16, value: &[u8]) -> Request {
        let size = (ATTRIBUTE_HEADER_SIZE + value.len()) as u16;
        self.0.extend_from_slice(&size.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn with_ip(self, kind: u16, address: IpAddr) -> Request {
        match address {
            IpAddr::V4(address) => self.with(kind, &address.octets()),
            IpAddr::V6(address) => self.with(kind, &address.octets()),
        }
    }

    /// Returns the bytes of the request with its number, which the answers have too.
    pub(super) fn numbered(mut self, number: u32) -> Vec<u8> {
        let size = self.0.len() as u32;
        self.0[..4].copy_from_slice(&size.to_ne_bytes());
        self.0[8..12].copy_from_slice(&number.to_ne_bytes());
        self.0
    }

    /// All links.
    pub(super) fn links() -> Request {
        Request::new(GET_LINK, ALL, &[0; LINK_HEADER_SIZE])
    }

    /// The link with this name.
    pub(super) fn link(name: &str) -> Request {
        let name = [name.as_bytes(), &[0]].concat();
        Request::new(GET_LINK, CONFIRM, &[0; LINK_HEADER_SIZE]).with(LINK_NAME, &name)
    }

    /// All addresses.
    pub(super) fn addresses() -> Request {
        Request::new(GET_ADDRESS, ALL, &[0; ADDRESS_HEADER_SIZE])
    }

    /// Adds an address, as /32 or /128. The host does not choose it as a source address: it has link
    /// scope (IPv4) or is deprecated (IPv6: its preferred lifetime is 0).
    pub(super) fn add_address(index: u32, address: IpAddr, protocol: u8) -> Request {
        let flags = CONFIRM | CREATE | EXCLUSIVE;
        let (detection, scope) = match address {
            IpAddr::V4(_) => (0, SCOPE_LINK),
            IpAddr::V6(_) => (WITHOUT_DETECTION, 0),
        };
        let header = address_header(index, address, detection, scope);
        // Kernels before 5.18 ignore the protocol.
        let request = Request::new(NEW_ADDRESS, flags, &header)
            .with_ip(ADDRESS_ADDRESS, address)
            .with_ip(ADDRESS_LOCAL, address)
            .with(ADDRESS_PROTOCOL, &[protocol]);
        match address {
            IpAddr::V4(_) => request,
            IpAddr::V6(_) => {
                // Preferred, valid, and two times that the kernel fills in.
                let lifetime = [0, u32::MAX, 0, 0].map(u32::to_ne_bytes);
                request.with(ADDRESS_LIFETIME, lifetime.as_flattened())
            }
        }
    }

    /// Removes an address that [`Request::add_address`] added.
    pub(super) fn remove_address(index: u32, address: IpAddr) -> Request {
        let header = address_header(index, address, 0, 0);
        Request::new(DELETED_ADDRESS, CONFIRM, &header)
            .with_ip(ADDRESS_ADDRESS, address)
            .with_ip(ADDRESS_LOCAL, address)
    }

    /// Adds a route to one address.
    pub(super) fn add_route(index: u32, to: Ipv6Addr, metric: u32, protocol: u8) -> Request {
        let flags = CONFIRM | CREATE | EXCLUSIVE;
        Request::route(NEW_ROUTE, flags, index, to, metric, protocol)
    }

    /// Removes a route that [`Request::add_route`] added.
    pub(super) fn remove_route(index: u32, to: Ipv6Addr, metric: u32, protocol: u8) -> Request {
        Request::route(DELETE_ROUTE, CONFIRM, index, to, metric, protocol)
    }

    fn route(
        kind: u16,
        flags: u16,
        index: u32,
        to: Ipv6Addr,
        metric: u32,
        protocol: u8,
    ) -> Request {
        Request::new(kind, flags, &route_header(INET6, 128, protocol, 0))
            .with_ip(ROUTE_DESTINATION, to.into())
            .with(ROUTE_LINK, &index.to_ne_bytes())
            .with(ROUTE_METRIC, &metric.to_ne_bytes())
    }

    /// All IPv6 routes.
    pub(super) fn routes() -> Request {
        Request::new(GET_ROUTE, ALL, &route_header(INET6, 0, STATIC_ROUTE, 0))
    }

    /// The route for a packet to this address, from a socket bound to the link `bound` if given.
    pub(super) fn route_to(to: IpAddr, bound: Option<u32>) -> Request {
        let (family, prefix) = family_and_length(to);
        let header = route_header(family, prefix, STATIC_ROUTE, MATCHED_ENTRY);
        let request = Request::new(GET_ROUTE, CONFIRM, &header).with_ip(ROUTE_DESTINATION, to);
        match bound {
            Some(index) => request.with(ROUTE_LINK, &index.to_ne_bytes()),
            None => request,
        }
    }
}

fn address_header(index: u32, address: IpAddr, flags: u8, scope: u8) -> [u8; ADDRESS_HEADER_SIZE] {
    let (family, prefix) = family_and_length(address);
    let [a, b, c, d] = index.to_ne_bytes();
    [family, prefix, flags, scope, a, b, c, d]
}

fn route_header(family: u8, prefix: u8, protocol: u8, flags: u32) -> [u8; ROUTE_HEADER_SIZE] {
    let [a, b, c, d] = flags.to_ne_bytes();
    [
        family, prefix, 0, 0, MAIN_TABLE, protocol, 0, UNICAST, a, b, c, d,
    ]
}

/// Returns the family of an address, and its length in bits.
fn family_and_length(address: IpAddr) -> (u8, u8) {
    match address {
        IpAddr::V4(_) => (INET, 32),
        IpAddr::V6(_) => (INET6, 128),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a kernel 6.18 answered to requests in a network namespace with a bridge `br0`, its port
    /// `tap0`, a veth `v0` and `v1`, and a macvlan `mv0`.
    const LINKS: &[u8] = include_bytes!("../../../tests/data/netlink/links.bin");
    /// The answer for the bridge family.
    const PORTS: &[u8] = include_bytes!("../../../tests/data/netlink/ports.bin");
    const ADDRESSES: &[u8] = include_bytes!("../../../tests/data/netlink/addresses.bin");
    const ROUTES_V4: &[u8] = include_bytes!("../../../tests/data/netlink/routes4.bin");
    const ROUTES_V6: &[u8] = include_bytes!("../../../tests/data/netlink/routes6.bin");
    const ROUTE: &[u8] = include_bytes!("../../../tests/data/netlink/route.bin");
    const NO_ROUTE: &[u8] = include_bytes!("../../../tests/data/netlink/no_route.bin");

    /// Returns the reports of an answer, which must be complete and to request 7.
    fn reports(answer: &[u8]) -> Vec<KernelReport> {
        let mut messages = read_messages(answer).unwrap();
        assert!(messages.iter().all(|message| message.answers == 7));
        assert_eq!(messages.pop().unwrap().report, KernelReport::Finished(0));
        messages.into_iter().map(|message| message.report).collect()
    }

    fn routes(answer: &[u8]) -> Vec<RouteReport> {
        let of_route = |report| match report {
            KernelReport::Route(route) => route,
            other => panic!("{other:?}"),
        };
        reports(answer).into_iter().map(of_route).collect()
    }

    #[test]
    fn links_of_a_kernel_are_read() {
        let link = |index, name: &str, kind: &str, last: u8| LinkReport {
            index,
            is_of_link: true,
            is_up: true,
            name: Some(name.to_string()),
            mac: vec![2, 0, 0, 0, 0, last],
            kind: kind.to_string(),
            controller: None,
            below: None,
            mtu: Some(1500),
        };
        let expected = [
            LinkReport {
                mac: vec![0; 6],
                mtu: Some(65536),
                ..link(1, "lo", "", 0)
            },
            link(2, "br0", "bridge", 1),
            LinkReport {
                controller: Some(2),
                ..link(3, "tap0", "tun", 2)
            },
            LinkReport {
                below: Some(5),
                ..link(4, "v1", "veth", 7)
            },
            LinkReport {
                below: Some(4),
                mtu: Some(1400),
                ..link(5, "v0", "veth", 6)
            },
            LinkReport {
                below: Some(5),
                mtu: Some(1400),
                mac: vec![0xde, 0x34, 0x3d, 0xda, 0x62, 0xf3],
                ..link(6, "mv0", "macvlan", 0)
            },
        ];
        assert_eq!(reports(LINKS), expected.map(KernelReport::NewLink));
    }

    #[test]
    fn reports_of_the_bridge_family_are_not_of_the_link() {
        let of_link: Vec<_> = reports(PORTS)
            .into_iter()
            .map(|report| match report {
                KernelReport::NewLink(link) => (link.index, link.is_of_link),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(of_link, [(3, false)]);
    }

    #[test]
    fn addresses_of_a_kernel_are_read() {
        let address = |index, text: &str, is_usable, protocol| {
            KernelReport::NewAddress(AddressReport {
                index,
                address: Some(text.parse().unwrap()),
                is_usable,
                protocol,
            })
        };
        let expected = [
            address(1, "127.0.0.1", true, None),
            address(2, "203.0.113.9", true, Some(169)),
            // The local address, and not that of the peer.
            address(2, "192.0.2.7", true, None),
            address(5, "169.254.169.254", true, None),
            address(5, "192.0.2.1", true, None),
            address(1, "::1", true, Some(1)),
            address(4, "fe80::ff:fe00:7", false, Some(3)),
            address(5, "2001:db8::1", false, None),
            address(5, "fd00:ec2::254", true, None),
            address(5, "fe80::ff:fe00:6", false, Some(3)),
            address(6, "fe80::dc34:3dff:feda:62f3", false, Some(3)),
        ];
        assert_eq!(reports(ADDRESSES), expected);
    }

    #[test]
    fn routes_of_a_kernel_are_read() {
        let of = |routes: &[RouteReport], to: &str| {
            let to = to.parse::<IpAddr>().ok();
            let found = routes.iter().find(|route| route.destination == to);
            found.unwrap_or_else(|| panic!("{to:?}")).clone()
        };
        let route = |links: &[u32], is_direct, prefix, is_local| Route {
            links: links.to_vec(),
            is_direct,
            prefix,
            is_local,
        };
        let v6 = routes(ROUTES_V6);
        let own = of(&v6, "2001:db8:1::5");
        assert_eq!(
            (own.protocol, own.route),
            (169, route(&[5], true, 128, false))
        );
        let several = of(&v6, "2001:db8:2::").route;
        assert_eq!(several, route(&[5, 2], false, 48, false));
        assert_eq!(of(&v6, "none").route, route(&[5], false, 0, false));
        assert_eq!(of(&v6, "2001:db8::").route, route(&[5], true, 64, false));
        assert_eq!(of(&v6, "::1").route, route(&[1], true, 128, true));
        let v4 = routes(ROUTES_V4);
        let several = of(&v4, "198.51.100.0").route;
        assert_eq!(several, route(&[5, 5], false, 24, false));
        // A gateway of another family.
        assert_eq!(of(&v4, "203.0.113.0").route, route(&[5], false, 24, false));
        // The entry of the table, and not the address that was asked for.
        assert_eq!(routes(ROUTE)[0].route, route(&[5], true, 24, false));
    }

    #[test]
    fn an_error_of_the_kernel_ends_the_answer() {
        let unreachable = rustix::io::Errno::NETUNREACH.raw_os_error();
        let messages = read_messages(NO_ROUTE).unwrap();
        assert_eq!(
            messages,
            [Message {
                answers: 7,
                report: KernelReport::Finished(unreachable)
            }]
        );
        // A dump that fails says so at its end.
        let mut done = NO_ROUTE[..20].to_vec();
        done[..4].copy_from_slice(&20_u32.to_ne_bytes());
        done[4..6].copy_from_slice(&DONE.to_ne_bytes());
        let report = &read_messages(&done).unwrap()[0].report;
        assert_eq!(*report, KernelReport::Finished(unreachable));
    }

    #[test]
    fn malformed_messages_are_errors_and_never_panics() {
        let size = number(LINKS, 0).unwrap() as usize;
        let (lo, rest) = LINKS.split_at(size);
        let br0 = &rest[..number(rest, 0).unwrap() as usize];
        for answer in [lo, br0, PORTS, ADDRESSES, ROUTES_V4, ROUTES_V6, ROUTE] {
            // Cut anywhere: what is read is a beginning of the whole, or an error.
            let whole = read_messages(answer).unwrap();
            for end in 0..answer.len() {
                if let Ok(messages) = read_messages(&answer[..end]) {
                    assert!(whole.starts_with(&messages), "{end}");
                    assert!(
                        messages.len() < whole.len() || answer.len() - end < 4,
                        "{end}"
                    );
                }
            }
            // Every length that lies, of messages, attributes and next hops.
            for at in 0..answer.len() {
                for wrong in [0, 1, 3, 0xff] {
                    let mut changed = answer.to_vec();
                    changed[at] = wrong;
                    let _ = read_messages(&changed);
                }
            }
        }
        let mut attribute_beyond_the_end = ROUTE.to_vec();
        attribute_beyond_the_end[HEADER_SIZE + ROUTE_HEADER_SIZE + 1] = 1;
        assert!(read_messages(&attribute_beyond_the_end).is_err());
        assert!(read_messages(&[0; 16]).is_err(), "a length of 0");
        assert!(read_messages(&[16, 0, 0, 0]).is_err(), "half a header");
    }

    #[test]
    fn requests_have_the_kernels_layout() {
        let bytes = Request::add_address(5, "169.254.169.254".parse().unwrap(), 169).numbered(7);
        let expected = [
            &[48, 0, 0, 0, 20, 0, 5, 6, 7, 0, 0, 0, 0, 0, 0, 0][..],
            &[2, 32, 0, 253, 5, 0, 0, 0],
            &[8, 0, 1, 0, 169, 254, 169, 254],
            &[8, 0, 2, 0, 169, 254, 169, 254],
            &[5, 0, 11, 0, 169, 0, 0, 0],
        ];
        #[cfg(target_endian = "little")]
        assert_eq!(bytes, expected.concat());
        // The kernel reads a route that is added as it reports it.
        let to = "2001:db8:1::5".parse().unwrap();
        let added = Request::add_route(5, to, 0x4000_0005, 169).numbered(7);
        let added = &read_messages(&added).unwrap()[0].report;
        let own = routes(ROUTES_V6).into_iter();
        let own = own.filter(|route| route.destination == Some(to.into()));
        assert!(
            own.map(KernelReport::Route)
                .any(|reported| reported == *added)
        );
        // So does an address.
        let of = AddressReport {
            index: 5,
            address: Some(to.into()),
            is_usable: true,
            protocol: Some(169),
        };
        let added = Request::add_address(5, to.into(), 169).numbered(7);
        assert_eq!(
            read_messages(&added).unwrap()[0].report,
            KernelReport::NewAddress(of)
        );
    }
}
