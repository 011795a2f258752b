//! The turns of one connection: a head is read, its request is answered, the answer is written.
//!
//! ```text
//!   Reading ──head complete──► Answering ──answer ready──► Writing
//!      ▲                                                       │
//!      └──────────────────────written──────────────────────────┘
//! ```
//!
//! A connection whose peer is not being answered, which is one in `Reading`, gets no grace when the
//! daemon ends. [`TimedIo`] also enforces one rule on all planes: a head that begins and does not
//! end in time is answered 408, and a connection on which none begins is closed.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::http::UnreadableRequest;

/// Where a connection is.
#[derive(Debug, Default)]
pub(super) struct Turns {
    turn: AtomicU8,
    /// Whether a byte of the head was read that is being read.
    has_begun: AtomicBool,
    /// Bytes written so far.
    written: AtomicU64,
}

const READING: u8 = 0;
const ANSWERING: u8 = 1;
const WRITING: u8 = 2;

impl Turns {
    /// A head is complete: its request is answered from now on.
    pub(super) fn begin_answer(&self) {
        self.has_begun.store(false, Ordering::Relaxed);
        self.turn.store(ANSWERING, Ordering::Relaxed);
    }

    /// The answer is ready to be written.
    pub(super) fn begin_writing(&self) {
        self.turn.store(WRITING, Ordering::Relaxed);
    }

    /// Returns whether no request is being answered.
    pub(super) fn is_reading(&self) -> bool {
        self.turn.load(Ordering::Relaxed) == READING
    }

    /// Returns whether a request has no answer yet.
    pub(super) fn is_answering(&self) -> bool {
        self.turn.load(Ordering::Relaxed) == ANSWERING
    }

    /// Returns whether an answer is ready, and how many bytes were written so far: an answer that
    /// makes no progress has a peer that does not read.
    pub(super) fn writing(&self) -> Option<u64> {
        let is_writing = self.turn.load(Ordering::Relaxed) == WRITING;
        is_writing.then(|| self.written.load(Ordering::Relaxed))
    }
}

/// The bytes of a connection as hyper reads and writes them, with the time limit of heads and with
/// the plane's own answer in place of the parser's.
///
/// When the time of a head is over, the parser reads a NUL, which it refuses wherever it is. Its
/// answer to that and to any other head that it cannot read has neither Date nor Server, so
/// `refuse` replaces it; `None` is silence.
pub(super) struct TimedIo<'a, I, R> {
    io: I,
    turns: &'a Turns,
    head_time: Duration,
    head_ends: Pin<Box<Sleep>>,
    has_timed_out: bool,
    refuse: R,
    refusal: Option<Bytes>,
}

impl<'a, I, R> TimedIo<'a, I, R>
where
    R: Fn(UnreadableRequest) -> Option<Bytes>,
{
    /// The time of the next head counts from `began`.
    pub(super) fn new(
        io: I,
        turns: &'a Turns,
        (began, head_time): (Instant, Duration),
        refuse: R,
    ) -> Self {
        TimedIo {
            io,
            turns,
            head_time,
            head_ends: Box::pin(sleep_until(began + head_time)),
            has_timed_out: false,
            refuse,
            refusal: None,
        }
    }

    /// Returns whether hyper writes an answer of its parser: no request is being answered, and it
    /// is a refusal. `100 Continue`, the other answer of its own, belongs to a request.
    fn is_of_parser(&self, bytes: &[u8]) -> bool {
        self.turns.is_reading() && bytes.starts_with(b"HTTP/1.") && bytes.get(9) == Some(&b'4')
    }

    /// Returns the plane's answer in place of the parser's.
    fn refusal(&self, bytes: &[u8]) -> Bytes {
        let reason = match (self.has_timed_out, bytes.get(9..12)) {
            (true, _) => UnreadableRequest::TimedOut,
            (false, Some(b"414")) => UnreadableRequest::TargetTooLong,
            (false, Some(b"431")) => UnreadableRequest::HeadTooLarge,
            (false, _) => UnreadableRequest::Syntax,
        };
        (self.refuse)(reason).unwrap_or_default()
    }
}

impl<I, R> Read for TimedIo<'_, I, R>
where
    I: Read + Unpin,
    R: Fn(UnreadableRequest) -> Option<Bytes> + Unpin,
{
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.turns.is_reading() {
            return Pin::new(&mut this.io).poll_read(cx, cursor);
        }
        if this.has_timed_out {
            // Without a byte before, the parser reads the end of the input.
            if this.turns.has_begun.load(Ordering::Relaxed) {
                cursor.put_slice(&[0]);
            }
            return Poll::Ready(Ok(()));
        }
        match Pin::new(&mut this.io).poll_read(cx, cursor) {
            Poll::Ready(result) => {
                this.turns.has_begun.store(true, Ordering::Relaxed);
                Poll::Ready(result)
            }
            Poll::Pending => {
                // The buffer is gone, so the next call ends the head.
                ready!(this.head_ends.as_mut().poll(cx));
                this.has_timed_out = true;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

impl<I, R> Write for TimedIo<'_, I, R>
where
    I: Write + Unpin,
    R: Fn(UnreadableRequest) -> Option<Bytes> + Unpin,
{
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if !this.is_of_parser(bytes) {
            let written = ready!(Pin::new(&mut this.io).poll_write(cx, bytes))?;
            this.turns
                .written
                .fetch_add(written as u64, Ordering::Relaxed);
            return Poll::Ready(Ok(written));
        }
        let mut refusal = match this.refusal.take() {
            Some(rest) => rest,
            None => this.refusal(bytes),
        };
        while refusal.has_remaining() {
            match Pin::new(&mut this.io).poll_write(cx, &refusal) {
                Poll::Ready(written) => refusal.advance(written?),
                Poll::Pending => {
                    this.refusal = Some(refusal);
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first: &[u8] = slices.first().map_or(&[], |slice| slice);
        if self.is_of_parser(first) {
            return self.poll_write(cx, first);
        }
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, slices))?;
        self.turns
            .written
            .fetch_add(written as u64, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }

    /// Hyper flushes when everything was written.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.io).poll_flush(cx))?;
        if this.turns.turn.load(Ordering::Relaxed) == WRITING {
            this.turns.turn.store(READING, Ordering::Relaxed);
            this.head_ends
                .as_mut()
                .reset(Instant::now() + this.head_time);
            // Wakes the connection at that time even if hyper does not read before.
            let _ = this.head_ends.as_mut().poll(cx);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
