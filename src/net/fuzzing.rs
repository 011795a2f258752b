//! What fuzz targets need of the network: the heads that hyper reads behind the head filter.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::rt::ReadBufCursor;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper::{Request, Response};

use super::head_filter::HeadFilter;
use super::hyper::with_raw_request;
use super::limits::{MAX_HEAD_BYTES, MAX_HEADERS};
use crate::http::{Body, RawRequest};

/// Returns bytes as the head filter passes them on when they arrive in pieces of `piece` bytes.
pub(crate) fn filtered(bytes: &[u8], piece: usize) -> Vec<u8> {
    let mut filtered = bytes.to_vec();
    let mut head_filter = HeadFilter::default();
    filtered
        .chunks_mut(piece)
        .for_each(|piece| head_filter.pass(piece));
    filtered
}

/// Calls `see` with each request that hyper reads from bytes that are already filtered. The settings
/// are those of a guest's connection.
pub(crate) fn read_heads(bytes: &[u8], piece: usize, see: impl Fn(RawRequest<'_>) + Send + Sync) {
    let see = Arc::new(see);
    let answer = |request: Request<Incoming>| {
        let see = Arc::clone(&see);
        async move {
            let (head, body) = request.into_parts();
            let read = match body.is_end_stream() {
                true => Body::Empty,
                false => Body::NotEmpty,
            };
            with_raw_request(&head, read, |request| see(request));
            // The next head begins behind the body.
            let _ = body.collect().await;
            Ok::<_, Infallible>(Response::new(String::new()))
        }
    };
    let io = Fragments { bytes, piece };
    let mut builder = Builder::new();
    builder
        .header_read_timeout(None)
        .half_close(true)
        .max_header_size(MAX_HEAD_BYTES)
        .max_buf_size(2 * MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS);
    let mut connection = pin!(builder.serve_connection(io, service_fn(answer)));
    // Nothing has to be waited for, so each poll makes progress.
    let mut context = Context::from_waker(Waker::noop());
    let is_finished =
        (0..bytes.len() + 1_000).any(|_| connection.as_mut().poll(&mut context).is_ready());
    assert!(is_finished, "the connection does not end with its input");
}

/// The input of a connection in pieces; its output is not kept.
struct Fragments<'b> {
    bytes: &'b [u8],
    piece: usize,
}

impl hyper::rt::Read for Fragments<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let length = self.bytes.len().min(self.piece).min(cursor.remaining());
        let (piece, rest) = self.bytes.split_at(length);
        cursor.put_slice(piece);
        self.bytes = rest;
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Fragments<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
