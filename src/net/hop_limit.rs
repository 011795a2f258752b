//! The hop limit of a connection.
//!
//! It belongs to the connection and is only ever lowered. The kernel reads it again for every packet,
//! retransmissions included. If the limit were raised after a token answer, a retransmission of that
//! answer would travel farther than allowed.

use std::io;
use std::sync::atomic::{AtomicU8, Ordering};

use socket2::SockRef;

use crate::instance::HopLimit;
use crate::origin::Family;

/// The hop limit that is in force on a connection.
pub(crate) struct HopLimitInForce {
    family: Family,
    /// How many hops the host's own routers use.
    extra_hops: u8,
    /// 0 while it is the system's default.
    limit: AtomicU8,
}

impl HopLimitInForce {
    /// Returns the system's default, for a connection of this family.
    pub(crate) fn new(family: Family, extra_hops: u8) -> HopLimitInForce {
        HopLimitInForce {
            family,
            extra_hops,
            limit: AtomicU8::new(0),
        }
    }

    /// Lowers the hop limit of all packets from now on, retransmissions included. A limit higher
    /// than the one in force changes nothing.
    pub(super) fn lower(&self, socket: SockRef<'_>, limit: HopLimit) -> io::Result<()> {
        let limit = limit.get().saturating_add(self.extra_hops);
        let in_force = self.limit.load(Ordering::Relaxed);
        if in_force != 0 && in_force <= limit {
            return Ok(());
        }
        match self.family {
            Family::Ipv4 => socket.set_ttl_v4(limit.into())?,
            Family::Ipv6 => socket.set_unicast_hops_v6(limit.into())?,
        }
        self.limit.store(limit, Ordering::Relaxed);
        Ok(())
    }
}
