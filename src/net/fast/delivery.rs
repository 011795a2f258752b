//! The last answers of connections whose sockets stay open until their guests have them.
//!
//! A socket that is bound to an interface must not be closed before: the kernel would go on sending,
//! through whatever interface has this one's number by then. That a guest has an answer shows in the
//! socket, which has no peer once both sides are finished. The kernel does not report it, so the
//! sockets of a listener are looked at together, a few times a second.

use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::net::{RecvFlags, recv};
use socket2::SockRef;

use crate::net::drain::{Drain, OpenConnection};
use crate::net::guest_socket::SHUTDOWN_WAIT;
use crate::net::limits::UNDELIVERABLE;
use crate::net::slots::ConnectionSlot;

/// How often the sockets are looked at: rarely, because a request costs a part of it.
const INTERVAL: Duration = Duration::from_millis(250);
/// How often when the daemon ends.
const LAST_INTERVAL: Duration = Duration::from_millis(5);
/// So many sockets are looked at at once: they take connection slots of their guests.
const MANY: usize = 32;

/// The sockets of one listener whose last answers are on their way.
#[derive(Clone, Default)]
pub(super) struct Deliveries(Arc<Mutex<WaitingSockets>>);

#[derive(Default)]
struct WaitingSockets {
    sockets: Vec<WaitingSocket>,
    /// Whether a task looks at them.
    is_swept: bool,
    /// How many there are when they are looked at again.
    look_at: usize,
}

struct WaitingSocket {
    stream: TcpStream,
    slot: ConnectionSlot,
    answered: Instant,
    is_delivered: bool,
    /// The drain waits for it.
    _open: OpenConnection,
}

impl Deliveries {
    /// Ends this side of a connection whose last answer was written, and keeps its socket until the
    /// guest has ended its side.
    pub(super) fn add(&self, stream: TcpStream, slot: ConnectionSlot, now: Instant, drain: &Drain) {
        let _ = SockRef::from(&stream).shutdown(Shutdown::Write);
        let mut waiting = self.0.lock();
        waiting.sockets.push(WaitingSocket {
            stream,
            slot,
            answered: now,
            is_delivered: false,
            _open: drain.open(),
        });
        if waiting.sockets.len() >= waiting.look_at.max(MANY) {
            waiting.sweep(now, false);
            // Those that are left do not make every further one a sweep.
            waiting.look_at = waiting.sockets.len() + MANY;
        }
        if !waiting.is_swept {
            waiting.is_swept = true;
            tokio::spawn(self.clone().sweep(drain.clone()));
        }
    }

    /// Looks at the sockets until none is left.
    async fn sweep(self, mut drain: Drain) {
        let mut cut = drain.clone();
        let mut is_ending = false;
        loop {
            let pause = if is_ending { LAST_INTERVAL } else { INTERVAL };
            tokio::select! {
                biased;
                () = cut.cut_off() => {
                    // Without a look: a socket that is dropped now is abandoned.
                    *self.0.lock() = WaitingSockets::default();
                    return;
                }
                () = drain.ending(), if !is_ending => is_ending = true,
                () = tokio::time::sleep(pause) => {}
            }
            let mut waiting = self.0.lock();
            waiting.sweep(Instant::now(), is_ending);
            if waiting.sockets.is_empty() {
                waiting.is_swept = false;
                return;
            }
        }
    }
}

impl WaitingSockets {
    /// Drops the sockets that are finished, evicted or too old.
    fn sweep(&mut self, now: Instant, is_ending: bool) {
        let patience = if is_ending {
            SHUTDOWN_WAIT
        } else {
            UNDELIVERABLE
        };
        self.sockets.retain_mut(|delivery| {
            delivery.look();
            let is_over = delivery.is_delivered
                || delivery.slot.is_evicted()
                || now.saturating_duration_since(delivery.answered) >= patience;
            !is_over
        });
    }
}

impl WaitingSocket {
    fn look(&mut self) {
        self.is_delivered = self.stream.peer_addr().is_err();
        if !self.is_delivered {
            // What the guest still sends must not keep it from reading.
            let _ = recv(&self.stream, &mut [0; 1024][..], RecvFlags::DONTWAIT);
        }
    }
}

/// A socket whose answer was not delivered forgets it: otherwise the kernel would go on sending.
impl Drop for WaitingSocket {
    fn drop(&mut self) {
        if !self.is_delivered {
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}
