//! Which packets reach a socket that is bound to an interface: only those that arrived there.
//!
//! The host's own processes must not be served as the guest of an interface, and binding a socket
//! to the interface does not prevent that. A packet that a process sends to an address of this host
//! loops back through `lo`, and the kernel then looks for a socket as if the packet had arrived on
//! the interface that has the address (`inet_iif` and `ipv6_rcv` in Linux). Every user can choose
//! that interface with `SO_BINDTODEVICE`.
//!
//! A looped packet still names `lo` as its device when the kernel runs the socket's filter. So the
//! filter accepts only packets whose device is the interface itself. It runs before anything else
//! sees the packet: for the handshake (with SYN cookies too) on the listening socket, and for
//! everything after it on the accepted socket, which inherits the filter. It needs no list of
//! addresses, which could be outdated, and no system call for a connection; the packet's addresses,
//! which a process can choose, do not matter. A guest may have an address of the host.
//!
//! Some kernels allow filters only with CAP_NET_ADMIN. [`super::bound_interface`] says what happens
//! without it.
//!
//! Not covered: an interface in a VRF. The kernel names the VRF as the device of all its packets,
//! also of looped ones, so none passes. Such an interface is not served.

use std::io;

use rustix::net::netdevice;
use socket2::{SockFilter, Socket};

/// Instructions of a classic BPF program (linux/bpf_common.h).
const LOAD_WORD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
/// Where a program finds the index of the packet's device: `SKF_AD_OFF + SKF_AD_IFINDEX`
/// (linux/filter.h). It is 0, which no interface has, for a packet without one.
const DEVICE_INDEX: u32 = 0xffff_f000 + 8;

/// Whether the kernel filters a socket's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ArrivalFilter {
    /// It does.
    Attached,
    /// The process may not attach filters.
    NotPermitted,
}

/// Makes a socket drop all packets that did not arrive on this interface. Accepted sockets inherit
/// that. Call it before the socket listens.
pub(super) fn attach(socket: &Socket, interface: &str) -> io::Result<ArrivalFilter> {
    // Another interface may have got the name after the socket was bound to it. Then no packet
    // passes.
    let index = netdevice::name_to_index(socket, interface)?;
    let attached = socket.attach_filter(&[
        SockFilter::new(LOAD_WORD, 0, 0, DEVICE_INDEX),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, index),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]);
    match attached {
        Ok(()) => Ok(ArrivalFilter::Attached),
        Err(reason) if reason.kind() == io::ErrorKind::PermissionDenied => {
            Ok(ArrivalFilter::NotPermitted)
        }
        Err(reason) => Err(reason),
    }
}
