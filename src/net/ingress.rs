//! Ways in: where guests reach the service, and how the kernel tells whose connection was accepted there.
//!
//! | way in | listens on | a connection belongs to |
//! | --- | --- | --- |
//! | [`Listener`] | an address | the listener's one guest, or the guest that has the peer's address where no other can |
//! | [`Device`] | an address of one interface | the interface's guest |
//! | [`Bridge`] | an address of a bridge | the guest at the port whose mark the connection has |
//! | [`Namespace`] | an address in a network namespace | the namespace's guest |
//!
//! Nothing that a guest says is asked. A connection that can't be told is nobody's.

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

/// A way in.
pub trait Ingress: Send + Sync {
    /// Opens a listening socket, always a new one.
    fn open(&self, address: SocketAddr) -> io::Result<TcpListener>;

    /// Where an accepted connection came in; `None` when that can't be told.
    fn attachment(&self, stream: &TcpStream, peer: SocketAddr) -> Option<Attachment>;
}

/// A listener of the configuration.
pub struct Listener {
    /// Its name.
    pub name: String,
    /// The one interface that it hears, if it does not hear all.
    pub interface: Option<String>,
    /// Whether addresses tell its guests apart.
    pub anti_spoofed: bool,
}

impl Ingress for Listener {
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

/// A network interface of its own for one guest.
pub struct Device {
    /// The interface's name.
    pub name: String,
}

impl Ingress for Device {
    fn open(&self, address: SocketAddr) -> io::Result<TcpListener> {
        listener::open(address, Some(&self.name))
    }

    /// The kernel names the interface that the socket is bound to as it is called now: between the end of one interface and
    /// the closing of its listener, another that got its number would be taken for it.
    fn attachment(&self, stream: &TcpStream, _peer: SocketAddr) -> Option<Attachment> {
        is_bound_to(stream, &self.name).then(|| Attachment::Interface(self.name.clone()))
    }
}

/// A bridge whose ports are guests.
pub struct Bridge {
    /// The bridge's name.
    pub name: String,
    /// The guests' attachments, by the mark of their ports.
    pub ports: RwLock<HashMap<u32, Attachment>>,
}

impl Ingress for Bridge {
    fn open(&self, address: SocketAddr) -> io::Result<TcpListener> {
        listener::open(address, Some(&self.name))
    }

    /// The mark of the handshake's packet, which `tcp_fwmark_accept` hands to the accepted socket; 0 where nobody marked it.
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

/// A network namespace whose only guest it is.
pub struct Namespace {
    /// What documents call it.
    pub name: String,
    /// The file that stands for it.
    pub path: PathBuf,
}

impl Ingress for Namespace {
    /// A thread of its own goes into the namespace and ends there; the socket stays in it.
    fn open(&self, address: SocketAddr) -> io::Result<TcpListener> {
        // Anything else of that name is refused by the kernel, and does not keep this waiting.
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
            .map_err(|_| io::Error::other("the thread in the namespace ended early"))?;
        TcpListener::from_std(opened?.into())
    }

    fn attachment(&self, _stream: &TcpStream, _peer: SocketAddr) -> Option<Attachment> {
        Some(Attachment::NetworkNamespace(self.name.clone()))
    }
}
