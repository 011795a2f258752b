//! Follows the links of this network namespace and publishes every change.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::{AsyncSocket as _, SocketAddr};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

use super::commands::{Netlink, WeakNetlink};
use super::links::{Links, address_of};
use super::own_addresses::OwnAddresses;

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
        link_messages: subscribe_to_links()?,
        address_messages: subscribe_to_addresses()?,
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
    link_messages: Messages,
    address_messages: Messages,
    addresses: BTreeSet<IpAddr>,
    own: OwnAddresses,
    /// When to read all addresses again, because a message was lost or came too early. It is never
    /// postponed: otherwise a guest could keep sending messages, and the addresses of all other
    /// guests would stay unread.
    reread_at: Option<Instant>,
}

/// What wakes the watcher up. A message is `None` when its connection has ended.
enum WatchEvent {
    Link(Option<Message>),
    Address(Option<Message>),
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
            message = self.link_messages.next() => WatchEvent::Link(message),
            () = tokio::time::sleep_until(reread_at.unwrap_or_else(Instant::now)),
                if reread_at.is_some() => WatchEvent::RereadAddresses,
            message = self.address_messages.next() => WatchEvent::Address(message),
        };
        let Some(netlink) = self.netlink.upgrade() else {
            return false;
        };
        match event {
            WatchEvent::Link(message) => self.link_message(message, &netlink, publish).await,
            WatchEvent::Address(message) => self.address_message(message, publish).await,
            WatchEvent::RereadAddresses => self.reread_addresses(&netlink, publish).await,
        }
        true
    }

    /// Applies a message about a link. When messages were lost, reads all links again until that
    /// succeeds.
    async fn link_message(
        &mut self,
        message: Option<Message>,
        netlink: &Netlink,
        publish: &watch::Sender<Links>,
    ) {
        let has_ended = message.is_none();
        if let Some((message, _)) = message.filter(|message| !is_overrun(message)) {
            if let NetlinkPayload::InnerMessage(message) = &message.payload {
                publish.send_if_modified(|links| links.apply(message));
            }
            return;
        }
        warn!("netlink messages about links were lost: reading all links again, all count as new");
        while let Err(reason) = self.reread_links(netlink, has_ended, publish).await {
            warn!(%reason, "cannot read links; retrying");
            tokio::time::sleep(RETRY_DELAY).await;
        }
    }

    /// Applies a message about an address. When messages were lost, schedules a reading of all
    /// addresses.
    async fn address_message(&mut self, message: Option<Message>, publish: &watch::Sender<Links>) {
        match message {
            Some(message) if is_overrun(&message) => self.schedule_reread(),
            Some((message, _)) => {
                if let NetlinkPayload::InnerMessage(message) = &message.payload {
                    self.apply_address(message, publish);
                }
            }
            None => {
                self.schedule_reread();
                tokio::time::sleep(RETRY_DELAY).await;
                if let Ok(messages) = subscribe_to_addresses() {
                    self.address_messages = messages;
                }
            }
        }
    }

    fn apply_address(&mut self, message: &RouteNetlinkMessage, publish: &watch::Sender<Links>) {
        self.own.apply(message);
        let (RouteNetlinkMessage::NewAddress(of) | RouteNetlinkMessage::DelAddress(of)) = message
        else {
            return;
        };
        if !address_of(of).is_some_and(|address| self.addresses.contains(&address)) {
            return;
        }
        if publish.borrow().indexed(of.header.index).is_none() {
            // The message about the link itself is still in the other queue.
            self.schedule_reread();
            return;
        }
        publish.send_if_modified(|links| links.apply(message));
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
        has_ended: bool,
        publish: &watch::Sender<Links>,
    ) -> io::Result<()> {
        if has_ended {
            self.link_messages = subscribe_to_links()?;
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

type Message = (NetlinkMessage<RouteNetlinkMessage>, SocketAddr);
type Messages = futures_util::stream::BoxStream<'static, Message>;

fn is_overrun((message, _): &Message) -> bool {
    matches!(message.payload, NetlinkPayload::Overrun(_))
}

fn subscribe_to_links() -> io::Result<Messages> {
    subscribe(&[MulticastGroup::Link])
}

fn subscribe_to_addresses() -> io::Result<Messages> {
    subscribe(&[MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr])
}

/// Opens a connection for notifications; no requests are sent on it.
fn subscribe(groups: &[MulticastGroup]) -> io::Result<Messages> {
    let (mut connection, handle, messages) = rtnetlink::new_multicast_connection(groups)?;
    // Best effort: the default size is enough for all but a burst.
    let _ = connection
        .socket_mut()
        .socket_mut()
        .set_rx_buf_sz(QUEUE_SIZE);
    tokio::spawn(connection);
    // The connection ends when its handle is dropped, so the stream holds the handle.
    Ok(messages.map(move |message| (&handle, message).1).boxed())
}
