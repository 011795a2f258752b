//! The socket of a guest connection: its bytes, and its end.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::TcpStream;

use super::drain::Drain;
use super::hop_limit::HopLimitInForce;
use super::limits::UNDELIVERABLE;
use crate::instance::HopLimit;

/// How long after the last byte of an answer to wait for a guest to acknowledge it when the daemon
/// shuts down: time for one retransmission. Clients often ignore kept-alive connections, and a
/// restart must not wait for them.
pub(super) const SHUTDOWN_WAIT: Duration = Duration::from_millis(250);
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
    hop_limit: HopLimitInForce,
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
    /// Returns the socket of a connection that was opened at this time. `answered` says whether
    /// anything was written already.
    pub(super) fn new(
        stream: TcpStream,
        hop_limit: HopLimitInForce,
        opened: Instant,
        answered: bool,
    ) -> GuestSocket {
        let socket = GuestSocket {
            stream,
            hop_limit,
            answered: AtomicBool::new(false),
            opened,
            last_written: AtomicU64::new(0),
            lingers: AtomicBool::new(false),
        };
        if answered {
            socket.note_written(opened);
        }
        socket
    }

    /// Returns the stream.
    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Polls for something to read. It does not read.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        // The next read finds an error again.
        self.stream.poll_read_ready(cx).map(|_| ())
    }

    /// Reads what is there.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }

    /// Notes that bytes were written at this time.
    pub(super) fn note_written(&self, now: Instant) {
        self.answered.store(true, Ordering::Relaxed);
        let since = now.saturating_duration_since(self.opened);
        let since = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        self.last_written.store(since, Ordering::Relaxed);
    }

    /// Sends bytes as far as the kernel takes them at once.
    pub(super) async fn send_some(&self, bytes: &[u8]) {
        if self.stream.writable().await.is_ok() && self.stream.try_write(bytes).is_ok() {
            self.note_written(Instant::now());
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

    /// Lowers the hop limit of all packets from now on, as [`HopLimitInForce::lower`] does.
    pub(super) fn lower_hop_limit(&self, limit: HopLimit) -> io::Result<()> {
        self.hop_limit.lower(SockRef::from(&self.stream), limit)
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
            let (mut read, mut pause) = (0, FIRST_CHECK);
            while self.stream.peer_addr().is_ok() {
                match self.discard_some() {
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

    /// Reads some unread input, into a buffer that is not part of the connection's memory.
    fn discard_some(&self) -> io::Result<usize> {
        self.stream.try_read(&mut [0; 1024])
    }

    /// Discards unread input, so that the answer reaches a peer that is still sending.
    async fn discard_input(&self) {
        let mut read = 0;
        while read < MAX_DISCARDED_BYTES && self.stream.readable().await.is_ok() {
            match self.discard_some() {
                Ok(0) => return,
                Ok(length) => read += length,
                Err(reason) if reason.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }
}
