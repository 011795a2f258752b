//! Where guests reach the service, and how the kernel identifies the guest of an accepted
//! connection.
//!
//! | ingress | listens on | a connection belongs to |
//! | --- | --- | --- |
//! | [`ListenerIngress`] | an address | the listener's one guest; or the guest that has the peer's address, if addresses cannot be spoofed there |
//! | [`InterfaceIngress`] | an address of one interface | the interface's guest |
//! | [`BridgeIngress`] | an address of a bridge | the guest at the port with the connection's mark |
//! | [`NamespaceIngress`] | an address in a network namespace | the namespace's guest, unless the peer has an address of the host |
//!
//! A process of the host is not a guest of an interface, a bridge or a namespace
//! ([`super::bound_interface`]).
//!
//! Nothing that a guest sends decides. A connection that cannot be identified belongs to no guest.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use arc_swap::ArcSwap;
use rpds::HashTrieMapSync;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::SockRef;
use tokio::net::TcpListener;
use tracing::debug;

use super::bound_interface::{BoundInterface, IsHostAddress};
use super::listener;
use crate::instance::{Attachment, SharedText, SourceAddress};

/// Where connections come in.
pub(crate) trait Ingress: Send + Sync {
    /// Opens a new listening socket.
    fn open(&self, address: SocketAddr) -> io::Result<TcpListener>;

    /// Returns the attachment that an accepted connection came in at; `None` when that is unknown.
    fn attachment(&self, stream: &TcpStream, peer: SocketAddr) -> Option<Attachment>;
}

/// A listener of the configuration.
pub(crate) struct ListenerIngress {
    /// Its name.
    pub name: SharedText,
    /// The only interface that it accepts connections on; `None` for all interfaces.
    pub interface: Option<BoundInterface>,
    /// Whether source addresses identify its guests.
    pub anti_spoofed: bool,
}

impl Ingress for ListenerIngress {
    fn open(&self, address: SocketAddr) -> io::Result<TcpListener> {
        match &self.interface {
            Some(interface) => interface.open(address),
            None => listener::open(address),
        }
    }

    fn attachment(&self, stream: &TcpStream, peer: SocketAddr) -> Option<Attachment> {
        if self
            .interface
            .as_ref()
            .is_some_and(|interface| !interface.received(stream, peer))
        {
            return None;
        }
        let name = self.name.clone();
        Some(match self.anti_spoofed {
            true => Attachment::SourceAddress(SourceAddress {
                listener: name,
                address: peer.ip(),
            }),
            false => Attachment::Listener(name),
        })
    }
}

/// A network interface that belongs to one guest.
pub(crate) struct InterfaceIngress {
    /// The interface.
    pub interface: BoundInterface,
}

impl Ingress for InterfaceIngress {
    fn open(&self, address: SocketAddr) -> io::Result<TcpListener> {
        self.interface.open(address)
    }

    fn attachment(&self, stream: &TcpStream, peer: SocketAddr) -> Option<Attachment> {
        let is_of_guest = self.interface.received(stream, peer);
        is_of_guest.then(|| Attachment::Interface(self.interface.name().into()))
    }
}

/// A bridge with a guest at each port.
pub(crate) struct BridgeIngress {
    /// The bridge.
    pub interface: BoundInterface,
    /// The guests' attachments, by the mark of their ports.
    pub ports: ArcSwap<HashTrieMapSync<u32, Attachment>>,
}

impl Ingress for BridgeIngress {
    fn open(&self, address: SocketAddr) -> io::Result<TcpListener> {
        self.interface.open(address)
    }

    /// Reads the mark of the handshake's packet, which `tcp_fwmark_accept` copies to the accepted
    /// socket; 0 if no rule marked it.
    fn attachment(&self, stream: &TcpStream, peer: SocketAddr) -> Option<Attachment> {
        if !self.interface.received(stream, peer) {
            return None;
        }
        let mark = SockRef::from(stream)
            .mark()
            .ok()
            .filter(|mark| *mark != 0)?;
        self.ports.load().get(&mark).cloned()
    }
}

/// A network namespace with one guest in it.
pub(crate) struct NamespaceIngress {
    /// Its name in instance documents.
    pub name: SharedText,
    /// The file that refers to it.
    pub path: PathBuf,
    /// Whether an address is the host's, outside of the namespace.
    pub is_host_address: IsHostAddress,
}

impl NamespaceIngress {
    /// Returns whether a peer may be a process of the host, outside of the namespace.
    ///
    /// Every user of the host can bind a socket to the host's end of a link into the namespace, and
    /// then the kernel sends there what is addressed to the metadata address. A process gets a reply
    /// only at an address of the host, so such a peer is refused. Loopback addresses, and the
    /// address that the peer asked, are local inside the namespace too: the reply stays there.
    fn may_be_of_the_host(&self, stream: &TcpStream, peer: IpAddr) -> bool {
        !peer.is_loopback()
            && (self.is_host_address)(peer)
            && !stream.local_addr().is_ok_and(|asked| asked.ip() == peer)
    }
}

impl Ingress for NamespaceIngress {
    /// A new thread enters the namespace and ends there. The socket stays in the namespace.
    fn open(&self, address: SocketAddr) -> io::Result<TcpListener> {
        // The kernel refuses any other kind of file below. NONBLOCK: a FIFO must not block this.
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let namespace = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(nonblocking)
            .open(&self.path)?;
        let opening = std::thread::Builder::new()
            .name("namespace".to_string())
            .spawn(move || {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
                listener::socket(address)
            })?;
        let opened = opening
            .join()
            .map_err(|_| io::Error::other("the thread in the network namespace ended early"))?;
        TcpListener::from_std(opened?.into())
    }

    fn attachment(&self, stream: &TcpStream, peer: SocketAddr) -> Option<Attachment> {
        if self.may_be_of_the_host(stream, peer.ip()) {
            debug!(
                namespace = %self.name,
                %peer,
                "connection refused: the peer has an address of the host"
            );
            return None;
        }
        Some(Attachment::NetworkNamespace(self.name.clone()))
    }
}
