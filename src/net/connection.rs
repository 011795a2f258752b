//! One guest connection: hyper between the head_filter and the data plane, and the hop limit on the socket below both.
//!
//! The hop limit belongs to the connection and is only ever lowered. The kernel reads it anew for every packet, resent ones
//! included, so a limit that were raised again after a token answer would send that answer's retransmissions farther than
//! they may go.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::http::request::Parts;
use hyper::rt::ReadBufCursor;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioTimer;
use socket2::SockRef;
use tokio::net::TcpStream;
use tracing::debug;

use super::{CONNECTION_AGE, Drain, Limits, MAX_HEAD_BYTES, MAX_HEADERS, UNDELIVERABLE};
use crate::instance::HopLimit;
use crate::net::head_filter::HeadFilter;
use crate::net::slots::{ConnectionSlot, ConnectionSlots};
use crate::origin::{Family, Holder, Origin};

/// Whether a request brought a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// None, or an empty one.
    Empty,
    /// At least one byte, or one that did not end in time.
    NotEmpty,
}

/// What goes back.
pub struct Outgoing {
    /// The response.
    pub response: Response<Full<Bytes>>,
    /// How far its packets may travel; `None` for the system's own limit.
    pub hop_limit: Option<HopLimit>,
}

/// What answers: a plane, as a value.
pub trait GuestService: Send + Sync {
    /// Whose connection it is that came in there, and whose place it takes; `None` when nobody is served there, and it is to
    /// be reset.
    fn welcome(&self, origin: &Origin) -> Option<(Holder, Arc<ConnectionSlots>)>;

    /// Asked before a request's body is read, which may make the parser say `100 Continue`: whether anybody is answered
    /// here, and how far the answer may travel. `None` ends the connection without a byte.
    fn opens(&self, origin: &Origin, head: &Parts) -> Option<Option<HopLimit>>;

    /// The answer. `None` ends the connection without a byte.
    fn answer(&self, origin: &Origin, head: &Parts, body: Body) -> Option<Outgoing>;
}

/// How long a connection that is being told to end may take over it.
const ENDING: Duration = Duration::from_secs(5);
/// How long a guest that has its answer may take over closing its side when the daemon ends: kept-alive connections are often
/// never looked at again, and a restart must not wait for them.
const LEAVING: Duration = Duration::from_millis(500);
/// How long after the guest's end it is looked whether it has acknowledged ours: soon, and then ever less often.
const FIRST_LOOK: Duration = Duration::from_millis(1);
const LAST_LOOK: Duration = Duration::from_millis(250);
/// How much of a refused request is read away, and for how long, so that the refusal reaches its sender.
const LINGER: (usize, Duration) = (256 * 1024, Duration::from_secs(1));

/// Serves one guest's connection to its end, or until it has to make room.
pub async fn serve(
    stream: TcpStream,
    origin: Origin,
    answering: Arc<dyn GuestService>,
    limits: Limits,
    slot: ConnectionSlot,
    drain: Drain,
) {
    let socket = Arc::new(GuestSocket::new(stream, origin.family, limits.extra_hops));
    let (mut cut, leaving) = (drain.clone(), drain.clone());
    let delivered = async {
        serve_to_its_end(&socket, &origin, &*answering, limits, &slot, drain).await
            && socket.is_delivered(leaving).await
    };
    let delivered = tokio::select! {
        delivered = delivered => delivered,
        () = slot.told_to_leave() => false,
        () = cut.cut_off() => false,
    };
    if !delivered {
        // With nothing left to send. What nobody acknowledged would be resent after the socket is closed, by whatever
        // interface has the number of this one by then.
        let _ = SockRef::from(&socket.stream).set_linger(Some(Duration::ZERO));
    }
}

/// `false` when it was told to end and did not.
async fn serve_to_its_end(
    socket: &Arc<GuestSocket>,
    origin: &Origin,
    answering: &dyn GuestService,
    limits: Limits,
    slot: &ConnectionSlot,
    mut drain: Drain,
) -> bool {
    let service =
        service_fn(async |request| answer(request, origin, answering, socket, limits, slot).await);
    let io = FilteredIo {
        socket: Arc::clone(socket),
        head_filter: HeadFilter::default(),
    };

    // Without pipeline_flush, which loses an answer that closes the connection while further requests wait in its buffer.
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_header_size(MAX_HEAD_BYTES)
        .max_buf_size(2 * MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .half_close(true)
        .title_case_headers(true)
        .auto_date_header(false);
    let mut connection = pin!(builder.serve_connection(io, service));

    // The connection, until it is told to end or has lived long enough; then as long as a started answer needs.
    let outcome = tokio::select! {
        outcome = connection.as_mut() => Some(outcome),
        () = drain.ending() => None,
        () = tokio::time::sleep(CONNECTION_AGE) => None,
    };
    let outcome = match outcome {
        Some(outcome) => outcome,
        None => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(ENDING, connection).await {
                Ok(outcome) => outcome,
                Err(_) => return false,
            }
        }
    };
    if let Err(reason) = &outcome {
        debug!(peer = %origin.peer, attachment = %origin.attachment, %reason, "connection ended");
    }
    let parser_refused = outcome.is_err_and(|reason| reason.is_parse());
    if parser_refused || socket.lingers.load(Ordering::Relaxed) || socket.has_unread() {
        let _ = tokio::time::timeout(LINGER.1, socket.read_away(LINGER.0)).await;
    }
    true
}

async fn answer(
    request: Request<Incoming>,
    origin: &Origin,
    answering: &dyn GuestService,
    socket: &GuestSocket,
    limits: Limits,
    slot: &ConnectionSlot,
) -> Result<Response<Framed>, Ended> {
    let (head, body) = request.into_parts();
    let body = match body.is_end_stream() {
        true => Body::Empty,
        false => {
            if let Some(limit) = answering.opens(origin, &head).ok_or(Ended::Silence)? {
                socket.lower_hop_limit(limit).map_err(Ended::HopLimit)?;
            }
            look_for_a_body(body, limits.head).await
        }
    };
    if body == Body::NotEmpty {
        socket.lingers.store(true, Ordering::Relaxed);
    }
    // Only from here on there is a complete request: whoever holds back a body makes room like whoever holds back a head.
    slot.set_busy(true);
    let outgoing = answering.answer(origin, &head, body);
    slot.set_busy(false);
    let outgoing = outgoing.ok_or(Ended::Silence)?;
    if let Some(limit) = outgoing.hop_limit {
        // Before the first byte of the answer, and no answer without it.
        socket.lower_hop_limit(limit).map_err(Ended::HopLimit)?;
    }
    Ok(outgoing.response.map(Framed))
}

/// A body that hyper takes for one even when it is empty: of an empty one it would move Content-Length behind all other
/// headers, and their order is part of the answer.
struct Framed(Full<Bytes>);

impl hyper::body::Body for Framed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        false
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.0.size_hint()
    }
}

/// An empty body is fine however it is framed; the first byte of any other settles it.
async fn look_for_a_body(mut body: Incoming, patience: Duration) -> Body {
    if body.size_hint().lower() > 0 {
        return Body::NotEmpty;
    }
    let frames = async {
        while let Some(frame) = body.frame().await {
            match frame.map(|frame| frame.into_data()) {
                Ok(Ok(data)) if data.is_empty() => {}
                // Data, trailers, or a broken chunk.
                _ => return Body::NotEmpty,
            }
        }
        Body::Empty
    };
    tokio::time::timeout(patience, frames)
        .await
        .unwrap_or(Body::NotEmpty)
}

/// Why a connection ended without an answer.
#[derive(Debug)]
enum Ended {
    Silence,
    HopLimit(io::Error),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Silence => f.write_str("nobody is served here"),
            Ended::HopLimit(reason) => write!(
                f,
                "the hop limit could not be set, so no answer was sent: {reason}"
            ),
        }
    }
}

impl std::error::Error for Ended {}

/// The socket of a connection, shared by the bytes and by the hop limit.
struct GuestSocket {
    stream: TcpStream,
    family: Family,
    /// The limit in force; 0 while it is the system's own.
    hop_limit: AtomicU8,
    /// What the host's own routers take of it.
    extra_hops: u8,
    /// Whether anything was written.
    answered: AtomicBool,
    /// Whether unread input is to be read away at the end: closing on it would reset the connection and take the answer.
    lingers: AtomicBool,
}

impl GuestSocket {
    fn new(stream: TcpStream, family: Family, extra_hops: u8) -> GuestSocket {
        GuestSocket {
            stream,
            family,
            hop_limit: AtomicU8::new(0),
            extra_hops,
            answered: AtomicBool::new(false),
            lingers: AtomicBool::new(false),
        }
    }

    /// Lowers the limit of all packets from here on, resent ones too; a higher limit than the one in force changes nothing.
    fn lower_hop_limit(&self, limit: HopLimit) -> io::Result<()> {
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

    /// Whether there is input that nobody read. It costs nothing where there is none.
    fn has_unread(&self) -> bool {
        self.stream
            .try_read(&mut [0; 1])
            .is_ok_and(|length| length > 0)
    }

    /// Waits until the guest has everything that was sent, and has closed its side. `false` when that does not come in time,
    /// or not soon once the daemon ends.
    ///
    /// The end of its side alone says nothing of what it has of ours: a client that gave up closes too, and one may close
    /// before it is answered. A socket that the kernel says has no peer any more is past both ends: nothing of it is resent.
    async fn is_delivered(&self, mut leaving: Drain) -> bool {
        if !self.answered.load(Ordering::Relaxed) {
            return true;
        }
        let _ = SockRef::from(&self.stream).shutdown(std::net::Shutdown::Write);
        let closed = async {
            let (mut buffer, mut read, mut pause) = ([0; 1024], 0, FIRST_LOOK);
            while self.stream.peer_addr().is_ok() {
                match self.stream.try_read(&mut buffer) {
                    // Nobody tells of the last acknowledgement.
                    Ok(0) => {
                        tokio::time::sleep(pause).await;
                        pause = (2 * pause).min(LAST_LOOK);
                    }
                    Ok(length) => {
                        read += length;
                        if read >= LINGER.0 {
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
            closed = closed => closed,
            () = tokio::time::sleep(UNDELIVERABLE) => false,
            () = async { leaving.ending().await; tokio::time::sleep(LEAVING).await } => false,
        }
    }

    async fn read_away(&self, most: usize) {
        let mut read = 0;
        let mut buffer = [0; 4096];
        while read < most && self.stream.readable().await.is_ok() {
            match self.stream.try_read(&mut buffer) {
                Ok(0) => return,
                Ok(length) => read += length,
                Err(reason) if reason.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }
}

/// The bytes of a connection as hyper reads and writes them.
struct FilteredIo {
    socket: Arc<GuestSocket>,
    head_filter: HeadFilter,
}

impl hyper::rt::Read for FilteredIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let mut buffer = [0; 4096];
        let room = cursor.remaining().min(buffer.len());
        loop {
            ready!(this.socket.stream.poll_read_ready(cx))?;
            match this.socket.stream.try_read(&mut buffer[..room]) {
                Ok(length) => {
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

impl hyper::rt::Write for FilteredIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let stream = &self.socket.stream;
        loop {
            ready!(stream.poll_write_ready(cx))?;
            match stream.try_write(bytes) {
                Err(reason) if reason.kind() == io::ErrorKind::WouldBlock => {}
                outcome => {
                    self.socket.answered.store(true, Ordering::Relaxed);
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
