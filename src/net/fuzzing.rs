//! What fuzz targets need of the network: the heads that hyper reads behind the head filter, and its
//! answers.

use std::cell::RefCell;
use std::error::Error;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::rt::ReadBufCursor;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper::{Request, Response};

use super::guest_service::GuestService;
use super::head_filter::HeadFilter;
use super::hyper::{response, with_raw_request};
use super::limits::{MAX_HEAD_BYTES, MAX_HEADERS};
use crate::http::{Body, RawRequest};
use crate::origin::Origin;

/// Returns bytes as the head filter passes them on when they arrive in pieces of `piece` bytes.
pub(crate) fn filtered(bytes: &[u8], piece: usize) -> Vec<u8> {
    let mut filtered = bytes.to_vec();
    let mut head_filter = HeadFilter::default();
    filtered
        .chunks_mut(piece)
        .for_each(|piece| head_filter.pass(piece));
    filtered
}

/// Calls `see` with each request that hyper reads from bytes that are already filtered.
pub(crate) fn read_heads(bytes: &[u8], piece: usize, see: impl Fn(RawRequest<'_>)) {
    let reply = Response::new(String::new());
    parse(bytes, piece, |request| {
        see(request);
        Some(reply.clone())
    });
}

/// Returns the bytes that hyper sends when these bytes come from a guest's connection, up to the
/// first request that it cannot read. The service answers each request.
pub(crate) fn answers(bytes: &[u8], service: &dyn GuestService, origin: &Origin) -> Vec<u8> {
    let filtered = filtered(bytes, bytes.len().max(1));
    parse(&filtered, filtered.len().max(1), |request| {
        let turn = service.turn(origin)?;
        turn.answer(request).map(response)
    })
}

/// Runs hyper with the settings of a guest's connection, and returns what it sends. Without an answer
/// the connection ends.
fn parse<B>(
    bytes: &[u8],
    piece: usize,
    answer: impl Fn(RawRequest<'_>) -> Option<Response<B>>,
) -> Vec<u8>
where
    B: hyper::body::Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + 'static,
{
    let answer = &answer;
    let service = |request: Request<Incoming>| async move {
        let (head, body) = request.into_parts();
        let read = match body.is_end_stream() {
            true => Body::Empty,
            false => Body::NotEmpty,
        };
        let reply = with_raw_request(&head, read, answer);
        // The next head begins behind the body.
        let _ = body.collect().await;
        reply.ok_or("silence")
    };
    let output = RefCell::new(Vec::new());
    let io = Fragments {
        bytes,
        piece,
        output: &output,
    };
    let mut builder = Builder::new();
    builder
        .header_read_timeout(None)
        .half_close(true)
        .max_header_size(MAX_HEAD_BYTES)
        .max_buf_size(2 * MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .title_case_headers(true)
        .auto_date_header(false);
    {
        let mut connection = pin!(builder.serve_connection(io, service_fn(service)));
        // Nothing has to be waited for, so each poll makes progress.
        let mut context = Context::from_waker(Waker::noop());
        let mut polls = 0..bytes.len() + 1_000;
        let is_finished = polls.any(|_| connection.as_mut().poll(&mut context).is_ready());
        assert!(is_finished, "the connection does not end with its input");
    }
    output.into_inner()
}

/// A connection whose input comes in pieces.
struct Fragments<'b> {
    bytes: &'b [u8],
    piece: usize,
    output: &'b RefCell<Vec<u8>>,
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
        self.output.borrow_mut().extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
