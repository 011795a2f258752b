//! Where guests reach the service, and how the kernel identifies the guest of an accepted
//! connection.
//!
//! | ingress | listens on | a connection belongs to |
//! | --- | --- | --- |
//! | [`ListenerIngress`] | an address | the listener's one guest; or the guest that has the peer's address, if addresses cannot be spoofed there |
//! | [`InterfaceIngress`] | an address of one interface | the interface's guest |
//! | [`BridgeIngress`] | an address of a bridge | the guest at the port with the connection's mark |
//! | [`NamespaceIngress`] | an address in a network namespace | the namespace's guest |
//!
//! Nothing that a guest sends decides. A connection that cannot be identified belongs to no guest.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use parking_lot::RwLock;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};

use super::listener;
use crate::instance::{Attachment, SourceAddress};

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
    pub name: String,
    /// The only interface that it accepts connections on; `None` for all interfaces.
    pub interface: Option<String>,
    /// Whether source addresses identify its guests.
    pub anti_spoofed: bool,
}

impl Ingress for ListenerIngress {
    fn open(&self, address: SocketAddr) -> io::Result<TcpListener> {
        listener::open(address, self.interface.as_deref())
    }

    fn attachment(&self, stream: &TcpStream, peer: SocketAddr) -> Option<Attachment> {
        if self
            .interface
            .as_ref()
            .is_some_and(|interface| !is_bound_to(stream, interface))
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
    /// The interface's name.
    pub name: String,
}

impl Ingress for InterfaceIngress {
    fn open(&self, address: SocketAddr) -> io::Result<TcpListener> {
        listener::open(address, Some(&self.name))
    }

    /// The kernel reports the interface that the socket is bound to under its present name. Between
    /// the end of one interface and the closing of its listener, another interface may get its
    /// number; then the name differs.
    fn attachment(&self, stream: &TcpStream, _peer: SocketAddr) -> Option<Attachment> {
        is_bound_to(stream, &self.name).then(|| Attachment::Interface(self.name.clone()))
    }
}

/// A bridge with a guest at each port.
pub(crate) struct BridgeIngress {
    /// The bridge's name.
    pub name: String,
    /// The guests' attachments, by the mark of their ports.
    pub ports: RwLock<HashMap<u32, Attachment>>,
}

impl Ingress for BridgeIngress {
    fn open(&self, address: SocketAddr) -> io::Result<TcpListener> {
        listener::open(address, Some(&self.name))
    }

    /// Reads the mark of the handshake's packet, which `tcp_fwmark_accept` copies to the accepted
    /// socket; 0 if no rule marked it.
    fn attachment(&self, stream: &TcpStream, _peer: SocketAddr) -> Option<Attachment> {
        if !is_bound_to(stream, &self.name) {
            return None;
        }
        let mark = SockRef::from(stream)
            .mark()
            .ok()
            .filter(|mark| *mark != 0)?;
        self.ports.read().get(&mark).cloned()
    }
}

fn is_bound_to(stream: &TcpStream, interface: &str) -> bool {
    let bound = SockRef::from(stream).device();
    bound.is_ok_and(|name| {
        name.is_some_and(|name| name.strip_suffix(&[0]).unwrap_or(&name) == interface.as_bytes())
    })
}

/// A network namespace with one guest in it.
pub(crate) struct NamespaceIngress {
    /// Its name in instance documents.
    pub name: String,
    /// The file that refers to it.
    pub path: PathBuf,
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
                listener::socket(address, None)
            })?;
        let opened = opening
            .join()
            .map_err(|_| io::Error::other("the thread in the network namespace ended early"))?;
        TcpListener::from_std(opened?.into())
    }

    fn attachment(&self, _stream: &TcpStream, _peer: SocketAddr) -> Option<Attachment> {
        Some(Attachment::NetworkNamespace(self.name.clone()))
    }
}
