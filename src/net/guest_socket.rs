//! The socket of a guest connection: its hop limit, its bytes, and its end.
//!
//! The hop limit belongs to the connection and is only ever lowered. The kernel reads it again for
//! every packet, retransmissions included. If the limit were raised after a token answer, a
//! retransmission of that answer would travel farther than allowed.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::rt::ReadBufCursor;
use socket2::SockRef;
use tokio::net::TcpStream;

use super::drain::Drain;
use super::guest_turns::{GuestTurns, RateTimer};
use super::head_filter::HeadFilter;
use super::limits::UNDELIVERABLE;
use super::turns::Turns;
use crate::instance::HopLimit;
use crate::origin::Family;

/// How long after the last byte of an answer to wait for a guest to acknowledge it when the daemon
/// shuts down: time for one retransmission. Clients often ignore kept-alive connections, and a
/// restart must not wait for them.
const SHUTDOWN_WAIT: Duration = Duration::from_millis(250);
/// How long after the guest's end to check whether it has acknowledged ours: soon at first, and
/// then less and less often.
const FIRST_CHECK: Duration = Duration::from_millis(1);
const LONGEST_CHECK: Duration = Duration::from_millis(250);
/// How much of a refused request to discard, and for how long, so that the refusal reaches its
/// sender.
const MAX_DISCARDED_BYTES: usize = 256 * 1024;
const DISCARD_TIME: Duration = Duration::from_secs(1);

/// The socket of a connection, shared by what reads and writes bytes and what sets the hop limit.
pub(super) struct GuestSocket {
    stream: TcpStream,
    family: Family,
    /// The limit in force; 0 while it is the system's default.
    hop_limit: AtomicU8,
    /// How many hops the host's own routers use.
    extra_hops: u8,
    /// Whether anything was written.
    answered: AtomicBool,
    opened: Instant,
    /// When bytes were written last, in milliseconds since it was opened.
    last_written: AtomicU64,
    /// Whether to discard unread input at the end. Closing a socket with unread input resets the
    /// connection, and the peer may lose the answer.
    lingers: AtomicBool,
}

impl GuestSocket {
    pub(super) fn new(stream: TcpStream, family: Family, extra_hops: u8) -> GuestSocket {
        GuestSocket {
            stream,
            family,
            hop_limit: AtomicU8::new(0),
            extra_hops,
            answered: AtomicBool::new(false),
            opened: Instant::now(),
            last_written: AtomicU64::new(0),
            lingers: AtomicBool::new(false),
        }
    }

    fn note_written(&self) {
        self.answered.store(true, Ordering::Relaxed);
        let since = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_written.store(since, Ordering::Relaxed);
    }

    /// Sends bytes as far as the kernel takes them at once.
    pub(super) async fn send_some(&self, bytes: &[u8]) {
        if self.stream.writable().await.is_ok() && self.stream.try_write(bytes).is_ok() {
            self.note_written();
        }
    }

    /// Returns when the guest has sent something, or has closed the connection.
    pub(super) async fn readable(&self) {
        // The next read finds an error again.
        let _ = self.stream.readable().await;
    }

    /// Discards unread input at the end, also if there is none yet.
    pub(super) fn set_lingering(&self) {
        self.lingers.store(true, Ordering::Relaxed);
    }

    /// Discards the rest of a request that was answered before all of it was read, for a second at
    /// most.
    pub(super) async fn linger(&self, was_refused_by_parser: bool, drain: Drain) {
        if was_refused_by_parser || self.lingers.load(Ordering::Relaxed) || self.has_unread() {
            tokio::select! {
                () = self.discard_input() => {}
                () = tokio::time::sleep(DISCARD_TIME) => {}
                () = self.given_up(drain) => {}
            }
        }
    }

    /// Returns when the daemon shuts down and the last answer has had its time.
    async fn given_up(&self, mut drain: Drain) {
        drain.ending().await;
        let written = Duration::from_millis(self.last_written.load(Ordering::Relaxed));
        tokio::time::sleep_until((self.opened + written + SHUTDOWN_WAIT).into()).await;
    }

    /// Makes the kernel forget what was not acknowledged when the socket is closed. Otherwise it
    /// would be retransmitted after that, through whatever interface has this one's number by then.
    pub(super) fn abandon_unacknowledged(&self) {
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// Lowers the hop limit of all packets from now on, retransmissions included. A limit higher
    /// than the one in force changes nothing.
    pub(super) fn lower_hop_limit(&self, limit: HopLimit) -> io::Result<()> {
        let limit = limit.get().saturating_add(self.extra_hops);
        let in_force = self.hop_limit.load(Ordering::Relaxed);
        if in_force != 0 && in_force <= limit {
            return Ok(());
        }
        let socket = SockRef::from(&self.stream);
        match self.family {
            Family::Ipv4 => socket.set_ttl_v4(limit.into())?,
            Family::Ipv6 => socket.set_unicast_hops_v6(limit.into())?,
        }
        self.hop_limit.store(limit, Ordering::Relaxed);
        Ok(())
    }

    /// Returns whether there is unread input. This is cheap when there is none.
    fn has_unread(&self) -> bool {
        self.stream
            .try_read(&mut [0; 1])
            .is_ok_and(|length| length > 0)
    }

    /// Waits until the guest has acknowledged everything and has closed its side. Returns `false`
    /// if that does not happen in time, or not soon after the daemon begins to shut down.
    ///
    /// That the guest closed its side does not mean that it received everything: a client that gave
    /// up closes too, and a client may close before it is answered. When the kernel reports that
    /// the socket has no peer any more, both sides are finished and nothing is retransmitted.
    pub(super) async fn is_delivered(&self, drain: Drain) -> bool {
        if !self.answered.load(Ordering::Relaxed) {
            return true;
        }
        let _ = SockRef::from(&self.stream).shutdown(std::net::Shutdown::Write);
        let closed = async {
            let (mut buffer, mut read, mut pause) = ([0; 1024], 0, FIRST_CHECK);
            while self.stream.peer_addr().is_ok() {
                match self.stream.try_read(&mut buffer) {
                    // The kernel does not report the last acknowledgement, so poll for it.
                    Ok(0) => {
                        tokio::time::sleep(pause).await;
                        pause = (2 * pause).min(LONGEST_CHECK);
                    }
                    Ok(length) => {
                        read += length;
                        if read >= MAX_DISCARDED_BYTES {
                            return false;
                        }
                    }
                    Err(reason) if reason.kind() == io::ErrorKind::WouldBlock => {
                        let _ = self.stream.readable().await;
                    }
                    Err(_) => return true,
                }
            }
            true
        };
        tokio::select! {
            biased;
            closed = closed => closed,
            () = tokio::time::sleep(UNDELIVERABLE) => false,
            () = self.given_up(drain) => false,
        }
    }

    /// Discards unread input, so that the answer reaches a peer that is still sending.
    async fn discard_input(&self) {
        let mut read = 0;
        let mut buffer = [0; 4096];
        while read < MAX_DISCARDED_BYTES && self.stream.readable().await.is_ok() {
            match self.stream.try_read(&mut buffer) {
                Ok(0) => return,
                Ok(length) => read += length,
                Err(reason) if reason.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }
}

/// The bytes of a connection as hyper reads and writes them, behind the head filter. Heads are read
/// in the guest's turn.
pub(super) struct FilteredIo<'t> {
    socket: Arc<GuestSocket>,
    head_filter: HeadFilter,
    turns: &'t GuestTurns<'t>,
    timer: RateTimer,
    connection_turns: &'t Turns,
}

impl<'t> FilteredIo<'t> {
    pub(super) fn new(
        socket: Arc<GuestSocket>,
        turns: &'t GuestTurns<'t>,
        connection_turns: &'t Turns,
    ) -> FilteredIo<'t> {
        FilteredIo {
            socket,
            head_filter: HeadFilter::default(),
            turns,
            timer: RateTimer::default(),
            connection_turns,
        }
    }
}

impl Drop for FilteredIo<'_> {
    fn drop(&mut self) {
        self.turns.end();
    }
}

impl hyper::rt::Read for FilteredIo<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let mut buffer = [0; 4096];
        let room = cursor.remaining().min(buffer.len());
        // While a request is answered, the turn is that of the answer.
        let is_head = this.connection_turns.is_reading();
        loop {
            match this.socket.stream.poll_read_ready(cx)? {
                Poll::Ready(()) if is_head => {
                    ready!(this.turns.poll(&mut this.timer, cx));
                }
                Poll::Ready(()) => {}
                Poll::Pending => {
                    if is_head {
                        this.turns.end();
                    }
                    return Poll::Pending;
                }
            }
            match this.socket.stream.try_read(&mut buffer[..room]) {
                Ok(length) => {
                    if is_head {
                        this.turns.note_read();
                    }
                    this.head_filter.pass(&mut buffer[..length]);
                    cursor.put_slice(&buffer[..length]);
                    return Poll::Ready(Ok(()));
                }
                Err(reason) if reason.kind() == io::ErrorKind::WouldBlock => {}
                Err(reason) => return Poll::Ready(Err(reason)),
            }
        }
    }
}

impl hyper::rt::Write for FilteredIo<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.turns.end();
        let stream = &self.socket.stream;
        loop {
            ready!(stream.poll_write_ready(cx))?;
            match stream.try_write(bytes) {
                Err(reason) if reason.kind() == io::ErrorKind::WouldBlock => {}
                outcome => {
                    self.socket.note_written();
                    return Poll::Ready(outcome);
                }
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&self.socket.stream).shutdown(std::net::Shutdown::Write))
    }
}
