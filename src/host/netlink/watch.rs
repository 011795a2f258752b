//! Follows the links of this network namespace and publishes every change.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use rustix::io::Errno;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

use super::commands::{Netlink, WeakNetlink};
use super::links::Links;
use super::message::KernelReport;
use super::own_addresses::OwnAddresses;
use super::socket::{ADDRESSES, LINKS, NetlinkSocket};

/// How long to wait before netlink is tried again.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// The size of the kernel's notification queue in bytes: enough for a few thousand links that
/// appear at once.
const QUEUE_SIZE: usize = 4 << 20;

/// Follows the links of this network namespace, and those of their addresses that are in
/// `addresses`: guests can make a host change other addresses at will. `own` gets all addresses.
///
/// Returns when all existing links have been read. The receiver changes with every change, as long
/// as the returned [`Netlink`] lives.
pub async fn watch(
    addresses: BTreeSet<IpAddr>,
    own: OwnAddresses,
) -> io::Result<(Netlink, watch::Receiver<Links>)> {
    let netlink = Netlink::connect()?;
    let mut watcher = Watcher {
        netlink: netlink.downgrade(),
        link_reports: Reports::subscribe(LINKS)?,
        address_reports: Reports::subscribe(ADDRESSES)?,
        addresses,
        own,
        reread_at: None,
    };
    let mut links = Links::default();
    netlink.read_links(&mut links).await?;
    netlink
        .read_addresses(&mut links, |address| watcher.addresses.contains(address))
        .await?;
    watcher.own.replace(netlink.all_addresses().await?);
    let (publish, published) = watch::channel(links);
    tokio::spawn(async move { while watcher.step(&publish).await {} });
    Ok((netlink, published))
}

/// The task that follows the links.
struct Watcher {
    netlink: WeakNetlink,
    /// Links have a queue of their own: guests can cause address messages by the thousand.
    link_reports: Reports,
    address_reports: Reports,
    addresses: BTreeSet<IpAddr>,
    own: OwnAddresses,
    /// When to read all addresses again, because a message was lost or came too early. It is never
    /// postponed: otherwise a guest could keep sending messages, and the addresses of all other
    /// guests would stay unread.
    reread_at: Option<Instant>,
}

/// What wakes the watcher up.
enum WatchEvent {
    Link(Result<KernelReport, Missed>),
    Address(Result<KernelReport, Missed>),
    RereadAddresses,
}

impl Watcher {
    /// Handles one event. Returns `false` when no receiver or no [`Netlink`] is left.
    async fn step(&mut self, publish: &watch::Sender<Links>) -> bool {
        let reread_at = self.reread_at;
        let event = tokio::select! {
            // In this order: an address may belong to a link that was reported just before.
            biased;
            () = publish.closed() => return false,
            report = self.link_reports.next() => WatchEvent::Link(report),
            () = tokio::time::sleep_until(reread_at.unwrap_or_else(Instant::now)),
                if reread_at.is_some() => WatchEvent::RereadAddresses,
            report = self.address_reports.next() => WatchEvent::Address(report),
        };
        let Some(netlink) = self.netlink.upgrade() else {
            return false;
        };
        match event {
            WatchEvent::Link(report) => self.link_report(report, &netlink, publish).await,
            WatchEvent::Address(report) => self.address_report(report, publish).await,
            WatchEvent::RereadAddresses => self.reread_addresses(&netlink, publish).await,
        }
        true
    }

    /// Applies a message about a link. When messages were lost, reads all links again until that
    /// succeeds.
    async fn link_report(
        &mut self,
        report: Result<KernelReport, Missed>,
        netlink: &Netlink,
        publish: &watch::Sender<Links>,
    ) {
        let missed = match report {
            Ok(report) => {
                publish.send_if_modified(|links| links.apply(&report));
                return;
            }
            Err(missed) => missed,
        };
        warn!("netlink messages about links were lost: reading all links again, all count as new");
        while let Err(reason) = self.reread_links(netlink, missed, publish).await {
            warn!(%reason, "cannot read links; retrying");
            tokio::time::sleep(RETRY_DELAY).await;
        }
    }

    /// Applies a message about an address. When messages were lost, schedules a reading of all
    /// addresses.
    async fn address_report(
        &mut self,
        report: Result<KernelReport, Missed>,
        publish: &watch::Sender<Links>,
    ) {
        match report {
            Ok(report) => self.apply_address(&report, publish),
            Err(Missed::Some) => self.schedule_reread(),
            Err(Missed::AllFromNow) => {
                self.schedule_reread();
                tokio::time::sleep(RETRY_DELAY).await;
                if let Ok(reports) = Reports::subscribe(ADDRESSES) {
                    self.address_reports = reports;
                }
            }
        }
    }

    fn apply_address(&mut self, report: &KernelReport, publish: &watch::Sender<Links>) {
        self.own.apply(report);
        let (KernelReport::NewAddress(of) | KernelReport::DeletedAddress(of)) = report else {
            return;
        };
        let is_wanted = |address| self.addresses.contains(&address);
        if !of.address.is_some_and(is_wanted) {
            return;
        }
        if publish.borrow().indexed(of.index).is_none() {
            // The message about the link itself is still in the other queue.
            self.schedule_reread();
            return;
        }
        publish.send_if_modified(|links| links.apply(report));
    }

    fn schedule_reread(&mut self) {
        self.reread_at
            .get_or_insert_with(|| Instant::now() + RETRY_DELAY);
    }

    async fn reread_addresses(&mut self, netlink: &Netlink, publish: &watch::Sender<Links>) {
        self.reread_at = None;
        let mut current = publish.borrow().clone();
        current.clear_addresses();
        let read = async {
            netlink
                .read_addresses(&mut current, |address| self.addresses.contains(address))
                .await?;
            self.own.replace(netlink.all_addresses().await?);
            io::Result::Ok(())
        };
        match read.await {
            // Links that were reported meanwhile are newer than this copy: the next reading covers
            // their addresses.
            Ok(()) => {
                publish.send_if_modified(|links| links.copy_addresses(&current));
            }
            Err(_) => self.schedule_reread(),
        }
    }

    async fn reread_links(
        &mut self,
        netlink: &Netlink,
        missed: Missed,
        publish: &watch::Sender<Links>,
    ) -> io::Result<()> {
        if missed == Missed::AllFromNow {
            self.link_reports = Reports::subscribe(LINKS)?;
        }
        let mut current = publish.borrow().clone();
        current.clear();
        netlink.read_links(&mut current).await?;
        netlink
            .read_addresses(&mut current, |address| self.addresses.contains(address))
            .await?;
        publish.send_replace(current);
        Ok(())
    }
}

/// Which messages did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missed {
    /// Some; the later ones will.
    Some,
    /// All from now on: the socket cannot be used.
    AllFromNow,
}

/// The notifications of a group, in their order.
struct Reports {
    socket: NetlinkSocket,
    received: VecDeque<KernelReport>,
}

impl Reports {
    /// Opens a socket for notifications; no requests are sent on it.
    fn subscribe(groups: u32) -> io::Result<Reports> {
        let socket = NetlinkSocket::open(groups)?;
        socket.set_queue_size(QUEUE_SIZE);
        Ok(Reports {
            socket,
            received: VecDeque::new(),
        })
    }

    /// Waits for the next report. If the call is dropped, none is lost.
    async fn next(&mut self) -> Result<KernelReport, Missed> {
        loop {
            match self.received.pop_front() {
                Some(KernelReport::Lost) => return Err(Missed::Some),
                Some(report) => return Ok(report),
                None => {}
            }
            match self.socket.receive().await {
                Ok(messages) => {
                    let reports = messages.into_iter().map(|message| message.report);
                    self.received.extend(reports);
                }
                Err(reason) => return Err(Missed::because(&reason)),
            }
        }
    }
}

impl Missed {
    fn because(reason: &io::Error) -> Missed {
        let is_overrun = Errno::from_io_error(reason) == Some(Errno::NOBUFS);
        let is_malformed = reason.kind() == io::ErrorKind::InvalidData;
        match is_overrun || is_malformed {
            true => Missed::Some,
            false => Missed::AllFromNow,
        }
    }
}
