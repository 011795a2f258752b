//! The bytes of a guest connection as hyper reads and writes them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use hyper::rt::ReadBufCursor;
use socket2::SockRef;

use super::guest_socket::GuestSocket;
use super::guest_turns::{GuestTurns, RateTimer};
use super::head_filter::HeadFilter;
use super::turns::Turns;

/// The bytes of a connection as hyper reads and writes them, behind the head filter. Heads are read
/// in the guest's turn.
pub(super) struct FilteredIo<'t> {
    socket: Arc<GuestSocket>,
    head_filter: HeadFilter,
    turns: &'t GuestTurns<'t>,
    timer: RateTimer,
    connection_turns: &'t Turns,
    /// What was read of the connection before.
    already_read: Bytes,
}

impl<'t> FilteredIo<'t> {
    pub(super) fn new(
        socket: Arc<GuestSocket>,
        turns: &'t GuestTurns<'t>,
        connection_turns: &'t Turns,
        already_read: Bytes,
    ) -> FilteredIo<'t> {
        FilteredIo {
            already_read,
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
        if !this.already_read.is_empty() {
            ready!(this.turns.poll(&mut this.timer, cx));
            this.turns.note_read(Instant::now());
            let length = room.min(this.already_read.len());
            let bytes = this.already_read.split_to(length);
            buffer[..length].copy_from_slice(&bytes);
            this.head_filter.pass(&mut buffer[..length]);
            cursor.put_slice(&buffer[..length]);
            return Poll::Ready(Ok(()));
        }
        loop {
            match this.socket.stream().poll_read_ready(cx)? {
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
            match this.socket.stream().try_read(&mut buffer[..room]) {
                Ok(length) => {
                    if is_head {
                        this.turns.note_read(Instant::now());
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
        let stream = self.socket.stream();
        loop {
            ready!(stream.poll_write_ready(cx))?;
            match stream.try_write(bytes) {
                Err(reason) if reason.kind() == io::ErrorKind::WouldBlock => {}
                outcome => {
                    self.socket.note_written(Instant::now());
                    return Poll::Ready(outcome);
                }
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(self.socket.stream()).shutdown(std::net::Shutdown::Write))
    }
}
