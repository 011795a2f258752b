//! A limit of the bytes that are read from a connection.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream that fails after a number of inbound bytes.
///
/// hyper skips interim responses (1xx) without counting them. An endpoint that sends nothing else
/// would keep the daemon busy forever.
pub(super) struct ByteLimit<S> {
    stream: S,
    left: usize,
}

impl<S> ByteLimit<S> {
    /// Returns `stream` with a limit of `max_bytes` inbound bytes.
    pub(super) fn new(stream: S, max_bytes: usize) -> ByteLimit<S> {
        ByteLimit {
            stream,
            left: max_bytes,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ByteLimit<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Err(std::io::Error::other("the response is too long")));
        }
        let before = buf.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.left = self.left.saturating_sub(buf.filled().len() - before);
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ByteLimit<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
