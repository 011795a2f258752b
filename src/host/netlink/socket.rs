//! Sockets to the kernel's rtnetlink(7).

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::message::{Message, read_messages};

/// The group of messages about links, as a bit of an address.
pub(super) const LINKS: u32 = 1;
/// The groups of messages about IPv4 and IPv6 addresses.
pub(super) const ADDRESSES: u32 = 1 << 4 | 1 << 8;
/// The kernel, as the sender or receiver of messages.
const KERNEL: u32 = 0;

/// A socket to the kernel, in the network namespace of the thread that opened it.
pub(super) struct NetlinkSocket(AsyncFd<OwnedFd>);

impl NetlinkSocket {
    /// Opens a socket that gets the messages of these groups.
    #[expect(
        deprecated,
        reason = "a descriptor that is owned here stays open as long as it is registered, which is \
                  what the successor's caller has to promise in an unsafe block"
    )]
    pub(super) fn open(groups: u32) -> io::Result<NetlinkSocket> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            // NETLINK_ROUTE.
            None,
        )?;
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, groups))?;
        let socket = AsyncFd::with_interest(socket, Interest::READABLE)?;
        Ok(NetlinkSocket(socket))
    }

    /// Makes the queue of received messages this many bytes long, or as long as the process may.
    pub(super) fn set_queue_size(&self, bytes: usize) {
        // Best effort: the default size is enough for all but a burst.
        let socket = self.0.get_ref();
        let _ = set_socket_recv_buffer_size_force(socket, bytes)
            .or_else(|_| set_socket_recv_buffer_size(socket, bytes));
    }

    /// Sends a request. The kernel carries it out at once, so its answers can be received then.
    pub(super) fn send(&self, request: &[u8]) -> io::Result<()> {
        let kernel = SocketAddrNetlink::new(KERNEL, 0);
        let socket = self.0.get_ref();
        let sent = rustix::net::sendto(socket, request, SendFlags::empty(), &kernel)?;
        match sent == request.len() {
            true => Ok(()),
            false => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    /// Waits for a datagram of the kernel, and returns its messages. Fails with `ENOBUFS` if
    /// messages were lost because the queue was full.
    ///
    /// If the call is dropped, no message is lost.
    pub(super) async fn receive(&self) -> io::Result<Vec<Message>> {
        loop {
            let mut readable = self.0.readable().await?;
            match readable.try_io(|socket| receive_now(socket.get_ref())) {
                Ok(Ok(Some(datagram))) => return read_messages(&datagram),
                Ok(Ok(None)) | Err(_) => {}
                Ok(Err(reason)) => return Err(reason),
            }
        }
    }
}

/// Receives a datagram; `None` if another program has sent it.
fn receive_now(socket: &OwnedFd) -> io::Result<Option<Vec<u8>>> {
    // The kernel's datagrams differ much in size, and what does not fit is lost.
    let look = RecvFlags::PEEK | RecvFlags::TRUNC;
    let (_, size) = rustix::net::recv(socket, &mut [0; 0], look)?;
    let mut datagram = vec![0; size];
    let (received, _, sender) =
        rustix::net::recvfrom(socket, &mut datagram[..], RecvFlags::empty())?;
    datagram.truncate(received);
    let sender = sender.and_then(|sender| SocketAddrNetlink::try_from(sender).ok());
    let is_of_kernel = sender.is_some_and(|sender| sender.pid() == KERNEL);
    Ok(is_of_kernel.then_some(datagram))
}
