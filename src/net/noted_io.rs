//! A stream that notes that its peer has sent something, for its slot.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::owner_slots::OwnerSlot;
use super::slot_state::CallerProgress;

/// A stream, and what its connection has come to when bytes are read from it.
pub(super) struct NotedIo<'s, I, K: Ord> {
    io: I,
    slot: &'s OwnerSlot<K>,
    progress: CallerProgress,
}

impl<'s, I, K: Ord> NotedIo<'s, I, K> {
    pub(super) fn new(
        io: I,
        slot: &'s OwnerSlot<K>,
        progress: CallerProgress,
    ) -> NotedIo<'s, I, K> {
        NotedIo { io, slot, progress }
    }
}

impl<I: AsyncRead + Unpin, K: Ord> AsyncRead for NotedIo<'_, I, K> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            this.slot.note(this.progress);
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin, K: Ord> AsyncWrite for NotedIo<'_, I, K> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, slices)
    }
}
