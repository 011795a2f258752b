//! The metadata addresses on the guests' interfaces, and the routes that lead back to IPv6 guests.
//!
//! [`Addresses::settle`] puts what is wanted and missing, and takes away what it put and nobody wants any more. What it puts
//! is written down first, in the runtime directory, so that a daemon that was killed leaves nothing that its successor does
//! not know. What somebody else put is never recorded, and so never taken away.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io::{self, BufRead as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::{debug, info, warn};

use super::netlink::{Link, Links, Netlink};

/// The name of the record in the runtime directory.
const RECORD: &str = "host.json";

/// What one interface should have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Addresses of its own.
    pub addresses: BTreeSet<IpAddr>,
    /// Guests that it leads to.
    pub routes: BTreeSet<Ipv6Addr>,
}

/// Something that was put on an interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Put {
    interface: String,
    index: u32,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum What {
    Address(IpAddr),
    Route(Ipv6Addr),
}

/// The addresses and routes that this daemon, or one before it, put on the host's interfaces.
pub struct Addresses {
    netlink: Netlink,
    record: Option<PathBuf>,
    put: BTreeSet<Put>,
    /// For every route that was seen to be there: how often its link had come up by then.
    routed: BTreeMap<Put, u64>,
    /// What could not be put, by interface, as it was told last.
    faults: BTreeMap<String, String>,
}

impl Addresses {
    /// Whether an earlier daemon left anything.
    pub fn are_recorded(directory: &Path) -> bool {
        directory.join(RECORD).exists()
    }

    /// Reads what an earlier daemon left. `directory` is the runtime directory; without one, nothing is remembered.
    ///
    /// Fails when the record is there and can't be read: then nobody can say what to take away.
    pub fn open(netlink: Netlink, directory: Option<&Path>) -> io::Result<Addresses> {
        let record = directory.map(|directory| directory.join(RECORD));
        let put = match record.as_deref().map(fs::read) {
            Some(Ok(bytes)) => serde_json::from_slice(&bytes).map_err(|reason| {
                let path = record.as_deref().unwrap_or(Path::new("")).display();
                io::Error::other(format!(
                    "{path}, the record of addresses put on interfaces, can't be read: {reason}; remove it, and the \
                     addresses and routes (proto {}) that `ip address` and `ip -6 route` show",
                    super::netlink::ROUTE_PROTOCOL
                ))
            })?,
            Some(Err(reason)) if reason.kind() != io::ErrorKind::NotFound => return Err(reason),
            _ => BTreeSet::new(),
        };
        Ok(Addresses { netlink, record, put, routed: BTreeMap::new(), faults: BTreeMap::new() })
    }

    /// Makes the interfaces have what is wanted of them. An interface that is not there, or not up, is left alone until it is.
    ///
    /// What can't be put is told once and tried again by the next call.
    pub async fn settle(&mut self, links: &Links, wanted: &BTreeMap<String, Wanted>) {
        let before = self.put.clone();
        // 1. What went with its interface needs no taking away; what nobody wants any more does.
        self.put.retain(|put| is_there(put, links));
        self.routed.retain(|put, _| is_there(put, links));
        let unwanted: Vec<Put> = self.put.iter().filter(|put| !is_wanted(put, wanted)).cloned().collect();
        for put in unwanted {
            self.take_away(&put).await;
        }

        // 2. All that is missing is recorded before any of it is put.
        let ours = self.put.clone();
        let up = wanted.iter().filter_map(|(name, wanted)| Some((links.named(name).filter(|link| link.up)?, wanted)));
        let missing: Vec<(Put, u64)> = up.flat_map(|(link, wanted)| self.missing(link, wanted)).collect();
        self.put.extend(missing.iter().map(|(put, _)| put.clone()));
        if self.put != before
            && let Err(reason) = self.write()
        {
            warn!(%reason, "what is put on interfaces can't be recorded, so nothing is put");
            self.put = ours;
            return;
        }

        // 3. What is there already and is not recorded was put by somebody else, and stays theirs.
        let recorded = self.put.clone();
        let mut faults = BTreeMap::new();
        for (put, ups) in missing {
            let outcome = match put.what {
                What::Address(address) => self.netlink.add_address(put.index, address).await,
                What::Route(to) => self.netlink.add_route(put.index, to).await,
            };
            let is_there = match outcome {
                Ok(()) => {
                    debug!(interface = put.interface, what = %put.what, "put on the interface");
                    true
                }
                Err(reason) => {
                    if !ours.contains(&put) {
                        self.put.remove(&put);
                    }
                    let is_there = reason.kind() == io::ErrorKind::AlreadyExists;
                    if !is_there {
                        faults.insert(put.interface.clone(), format!("{} can't be put there: {reason}", put.what));
                    }
                    is_there
                }
            };
            if is_there && matches!(put.what, What::Route(_)) {
                self.routed.insert(put, ups);
            }
        }
        if self.put != recorded
            && let Err(reason) = self.write()
        {
            warn!(%reason, "the record of what is put on interfaces can't be written");
        }
        for (interface, fault) in faults.iter().filter(|(name, fault)| self.faults.get(*name) != Some(*fault)) {
            warn!(interface, "{fault}");
        }
        self.faults = faults;
    }

    /// Takes away everything that was put, at the end.
    pub async fn release(&mut self) {
        let count = self.put.len();
        for put in std::mem::take(&mut self.put).iter() {
            self.take_away(put).await;
        }
        if count > 0 {
            info!(taken = count - self.put.len(), "addresses and routes taken from the interfaces");
        }
        if let Err(reason) = self.write() {
            warn!(%reason, "the record of what was put on interfaces can't be written");
        }
    }

    /// What could not be put, by interface.
    pub fn faults(&self) -> &BTreeMap<String, String> {
        &self.faults
    }

    fn missing(&self, link: &Link, wanted: &Wanted) -> Vec<(Put, u64)> {
        let put = |what| Put { interface: link.name.clone(), index: link.index, what };
        let addresses = wanted.addresses.iter().filter(|address| !link.addresses.contains(address));
        let addresses = addresses.map(|address| put(What::Address(*address)));
        let routes = wanted.routes.iter().map(|to| put(What::Route(*to)));
        let routes = routes.filter(|route| self.routed.get(route) != Some(&link.ups));
        addresses.chain(routes).map(|put| (put, link.ups)).collect()
    }

    /// It stays recorded when it could not be taken away.
    async fn take_away(&mut self, put: &Put) {
        let outcome = match put.what {
            What::Address(address) => self.netlink.remove_address(put.index, address).await,
            What::Route(to) => self.netlink.remove_route(put.index, to).await,
        };
        self.routed.remove(put);
        match outcome {
            Err(reason) if !is_gone(&reason) => {
                warn!(interface = put.interface, %reason, "{} can't be taken away; trying again", put.what);
                self.put.insert(put.clone());
            }
            _ => {
                debug!(interface = put.interface, what = %put.what, "taken from the interface");
                self.put.remove(put);
            }
        }
    }

    /// The runtime directory ends with the boot, as what is recorded does: no fsync is needed.
    fn write(&self) -> io::Result<()> {
        let Some(record) = &self.record else { return Ok(()) };
        if self.put.is_empty() {
            return match fs::remove_file(record) {
                Err(reason) if reason.kind() != io::ErrorKind::NotFound => Err(reason),
                _ => Ok(()),
            };
        }
        let new = record.with_extension("new");
        fs::write(&new, serde_json::to_vec(&self.put)?)?;
        fs::rename(&new, record)
    }
}

fn is_there(put: &Put, links: &Links) -> bool {
    links.indexed(put.index).is_some_and(|link| link.name == put.interface)
}

fn is_wanted(put: &Put, wanted: &BTreeMap<String, Wanted>) -> bool {
    wanted.get(&put.interface).is_some_and(|wanted| match put.what {
        What::Address(address) => wanted.addresses.contains(&address),
        What::Route(to) => wanted.routes.contains(&to),
    })
}

/// Whether what was to be taken away is not there any more: an address, a route, or the whole interface.
fn is_gone(reason: &io::Error) -> bool {
    use rustix::io::Errno;
    let code = reason.raw_os_error().map(Errno::from_raw_os_error);
    matches!(code, Some(Errno::ADDRNOTAVAIL | Errno::SRCH | Errno::NODEV | Errno::NXIO))
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Address(address) => write!(f, "address {address}"),
            What::Route(to) => write!(f, "a route to {to}"),
        }
    }
}

/// Why the host itself seems to ask a metadata service at this address, so that an address of its own would cut it off;
/// `None` where it does not.
///
/// `guests` are the interfaces that lead to guests. A route to exactly this address by any other interface is a sign, as
/// DHCP servers of clouds give it; so is a default route on a machine that says it belongs to a cloud.
pub fn host_asks(address: Ipv4Addr, guests: &BTreeSet<&str>) -> io::Result<Option<String>> {
    let routes = io::BufReader::new(fs::File::open("/proc/self/net/route")?);
    let maker = ["sys_vendor", "chassis_vendor", "chassis_asset_tag", "product_name", "bios_vendor"]
        .iter()
        .filter_map(|name| fs::read_to_string(Path::new("/sys/class/dmi/id").join(name)).ok())
        .find_map(|text| cloud_of(&text));
    sign_of(routes.lines().map_while(Result::ok), address, guests, maker)
}

/// `routes` as in /proc/net/route: hexadecimal in the machine's own byte order, one route a line, after a line of headings.
fn sign_of(
    routes: impl Iterator<Item = String>,
    address: Ipv4Addr,
    guests: &BTreeSet<&str>,
    maker: Option<&'static str>,
) -> io::Result<Option<String>> {
    let wanted = u32::from_ne_bytes(address.octets());
    for line in routes.skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [interface, to, _, _, _, _, _, mask, ..] = fields[..] else { continue };
        let (Ok(to), Ok(mask)) = (u32::from_str_radix(to, 16), u32::from_str_radix(mask, 16)) else { continue };
        if guests.contains(interface) {
            continue;
        }
        if to == wanted && mask == u32::MAX {
            return Ok(Some(format!("there is a route to {address} by {interface}")));
        }
        if let (0, 0, Some(maker)) = (to, mask, maker) {
            return Ok(Some(format!("this is a machine of {maker}, and its default route leads to {address}")));
        }
    }
    Ok(None)
}

/// The cloud that a machine's firmware says it belongs to.
fn cloud_of(text: &str) -> Option<&'static str> {
    const CLOUDS: [(&str, &str); 9] = [
        ("Amazon EC2", "Amazon EC2"),
        ("Google", "Google Cloud"),
        // The asset tag of every machine of Azure; Hyper-V elsewhere has the same vendor.
        ("7783-7084-3265-9085-8269-3286-77", "Azure"),
        ("OracleCloud.com", "Oracle Cloud"),
        ("Alibaba Cloud", "Alibaba Cloud"),
        ("DigitalOcean", "DigitalOcean"),
        ("Hetzner", "Hetzner"),
        ("Scaleway", "Scaleway"),
        ("OpenStack", "OpenStack"),
    ];
    CLOUDS.iter().find(|(sign, _)| text.contains(sign)).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADINGS: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT";

    fn route(interface: &str, to: [u8; 4], mask: [u8; 4]) -> String {
        let hex = |bytes| format!("{:08X}", u32::from_ne_bytes(bytes));
        format!("{interface}\t{}\t00000000\t0001\t0\t0\t0\t{}\t0\t0\t0", hex(to), hex(mask))
    }

    #[test]
    fn a_host_asks_where_a_route_of_its_own_says_so() {
        const ALL: [u8; 4] = [255; 4];
        let metadata = [169, 254, 169, 254];
        for (routes, maker, sign) in [
            (vec![], None, None),
            (vec![], Some("Amazon EC2"), None),
            (vec![route("eth0", [0; 4], [0; 4])], None, None),
            (vec![route("eth0", [0; 4], [0; 4])], Some("Amazon EC2"), Some("Amazon EC2")),
            (vec![route("tap0", [0; 4], [0; 4])], Some("Amazon EC2"), None),
            (vec![route("eth0", metadata, ALL)], None, Some("by eth0")),
            (vec![route("tap0", metadata, ALL)], None, None),
            (vec![route("tap0", metadata, ALL), route("eth0", metadata, ALL)], None, Some("by eth0")),
            // Zeroconf, which many distributions have.
            (vec![route("eth0", [169, 254, 0, 0], [255, 255, 0, 0])], None, None),
            (vec!["nonsense".to_string(), route("eth0", metadata, ALL)], None, Some("by eth0")),
        ] {
            let lines = [HEADINGS.to_string()].into_iter().chain(routes.clone());
            let found = sign_of(lines, metadata.into(), &BTreeSet::from(["tap0"]), maker).unwrap();
            assert_eq!(found.is_some(), sign.is_some(), "{routes:?} {maker:?}: {found:?}");
            assert!(found.unwrap_or_default().contains(sign.unwrap_or_default()));
        }
    }

    #[test]
    fn a_cloud_is_known_by_its_firmware() {
        for (text, cloud) in [
            ("Amazon EC2\n", Some("Amazon EC2")),
            ("Google Compute Engine", Some("Google Cloud")),
            ("7783-7084-3265-9085-8269-3286-77", Some("Azure")),
            ("Microsoft Corporation", None),
            ("QEMU", None),
            ("Dell Inc.", None),
            ("", None),
        ] {
            assert_eq!(cloud_of(text), cloud, "{text}");
        }
    }
}
