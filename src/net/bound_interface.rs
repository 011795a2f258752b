//! The interface that a guest's listener is bound to: which connections came in there from outside.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::SockRef;
use tokio::net::TcpListener;
use tracing::{debug, warn};

use super::arrival_filter::ArrivalFilter;
use super::listener;

/// Returns whether the host has an address.
pub(crate) type IsHostAddress = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// Whether the missing permission was logged: it is the same for all interfaces.
static WARNED: AtomicBool = AtomicBool::new(false);

/// An interface of the host with guests behind it.
pub(crate) struct BoundInterface {
    name: String,
    is_host_address: IsHostAddress,
    /// Whether the kernel also lets packets of the host's own processes pass.
    is_unfiltered: AtomicBool,
}

impl BoundInterface {
    pub(crate) fn new(name: &str, is_host_address: IsHostAddress) -> BoundInterface {
        BoundInterface {
            name: name.to_string(),
            is_host_address,
            is_unfiltered: AtomicBool::new(false),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Opens a listening socket on the interface.
    pub(super) fn open(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let (listener, filter) = listener::open_on(address, &self.name)?;
        if filter == ArrivalFilter::NotPermitted {
            self.is_unfiltered.store(true, Ordering::Relaxed);
            if !WARNED.swap(true, Ordering::Relaxed) {
                warn!(
                    "no permission to filter packets by their interface (CAP_NET_ADMIN): every client with an \
                     address of the host is refused, guests too"
                );
            }
        }
        Ok(listener)
    }

    /// Returns whether a connection came in on the interface, and not from a process of the host.
    ///
    /// The kernel reports the interface that the socket is bound to under its present name. Between
    /// the end of one interface and the closing of its listener, another interface may get its
    /// number; then the name differs.
    ///
    /// Without the filter, the peer's address decides. A process of the host gets a reply only at
    /// an address of the interface itself; or, if some rule of the host translates the connection's
    /// addresses, at another address of the host. So none of them can be a guest's.
    pub(super) fn received(&self, stream: &TcpStream, peer: SocketAddr) -> bool {
        if !is_bound_to(stream, &self.name) {
            return false;
        }
        let is_refused =
            self.is_unfiltered.load(Ordering::Relaxed) && (self.is_host_address)(peer.ip());
        if is_refused {
            debug!(
                interface = self.name,
                %peer,
                "connection refused: the peer has an address of the host"
            );
        }
        !is_refused
    }
}

fn is_bound_to(stream: &TcpStream, interface: &str) -> bool {
    let bound = SockRef::from(stream).device();
    bound.is_ok_and(|name| {
        name.is_some_and(|name| name.strip_suffix(&[0]).unwrap_or(&name) == interface.as_bytes())
    })
}
