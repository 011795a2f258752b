//! One guest connection: hyper, between the guest's socket and the guest plane.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::{Method, Request, Response};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tracing::debug;

use super::drain::Drain;
use super::guest_socket::{FilteredIo, GuestSocket};
use super::guest_turns::GuestTurns;
use super::http1::{ConnectionEnd, HttpServer, Interruption, read_in_time};
use super::hyper::{ReplyBody, guest_refusal, response, with_raw_request};
use super::limits::{CONNECTION_AGE, ENDING, Limits, MAX_HEADERS};
use super::slots::ConnectionSlot;
use super::turn_queue::Pace;
use super::turns::Turns;
use crate::http::{Body, RawRequest, Reply, UnreadableRequest};
use crate::instance::HopLimit;
use crate::origin::{Holder, Origin};

/// What answers guests.
pub(crate) trait GuestService: Send + Sync {
    /// Identifies the launch that a new connection belongs to, and takes one of its slots. `None`
    /// when no instance is served there, or when the guest gets no slot: the connection is reset.
    fn accept(&self, origin: &Origin) -> Option<AcceptedConnection>;

    /// Begins the turn of one request, before its body is read. `None` is silence: the connection
    /// ends without a byte.
    fn turn<'a>(&'a self, origin: &'a Origin) -> Option<Box<dyn GuestTurn + 'a>>;
}

/// A connection that a service accepted.
pub(crate) struct AcceptedConnection {
    /// The launch that the connection belongs to.
    pub holder: Holder,
    /// Its slot.
    pub slot: ConnectionSlot,
}

/// One request's turn, on one state of the registry.
pub(crate) trait GuestTurn: Send {
    /// Returns the hop limit of any answer to a request with this method; `None` for the system's
    /// default. It is needed before the body is read, because the parser may then write
    /// `100 Continue`.
    fn hop_limit(&self, method: &str) -> Option<HopLimit>;

    /// Returns whether an operator injected faults into the answers of this instance. It is cheap.
    fn has_faults(&self) -> bool {
        false
    }

    /// Returns what the answer has to wait for; `None` if it can be given at once. Called once for a
    /// request, before its answer.
    fn waits(&self, request: RawRequest<'_>) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>>;

    /// Returns the answer. `None` is silence: the connection ends without a byte.
    fn answer(&self, request: RawRequest<'_>) -> Option<Reply>;

    /// Returns whether only the first half of the answer's bytes is sent. Then the connection ends.
    fn is_cut(&self) -> bool {
        false
    }

    /// Returns the answer to a request beyond the guest's request rate. `None` is silence.
    fn throttle(&self, request: RawRequest<'_>) -> Option<Reply>;

    /// Returns the answer to a request that the parser cannot read.
    fn refuse(&self, reason: UnreadableRequest) -> Option<Reply>;
}

/// Serves one guest's connection to its end, or until it has to make room for another.
pub(crate) async fn serve(
    stream: TcpStream,
    origin: Origin,
    service: Arc<dyn GuestService>,
    limits: Limits,
    slot: ConnectionSlot,
    drain: Drain,
) {
    let socket = Arc::new(GuestSocket::new(stream, origin.family, limits.extra_hops));
    let (mut cut, delivery_drain) = (drain.clone(), drain.clone());
    let began = Instant::now();
    let served = async {
        let turns = slot.turns();
        if !begins(&socket, &turns, limits, drain.clone()).await {
            return true;
        }
        let context = RequestContext {
            origin: &origin,
            service: &*service,
            socket: &socket,
            limits,
            slot: &slot,
            turns: &turns,
        };
        // Most of a connection's memory is that of its parser, so it is allocated only now.
        Box::pin(serve_to_its_end(&socket, context, began, drain)).await
            && socket.is_delivered(delivery_drain).await
    };
    let is_delivered = tokio::select! {
        is_delivered = served => is_delivered,
        () = slot.evicted() => false,
        () = cut.cut_off() => false,
    };
    if !is_delivered {
        socket.abandon_unacknowledged();
    }
}

/// Waits until the guest sends something, and for the turn to read it. Returns `false` if nothing
/// arrives in time. A connection that has not begun costs almost nothing.
async fn begins(
    socket: &GuestSocket,
    turns: &GuestTurns<'_>,
    limits: Limits,
    mut drain: Drain,
) -> bool {
    let has_begun = match read_in_time(limits.head, &mut drain, socket.readable()).await {
        Ok(()) => true,
        Err(Interruption::TimedOut) => false,
        Err(Interruption::Shutdown) => {
            // A request that has arrived by now is still answered.
            tokio::task::yield_now().await;
            tokio::select! {
                biased;
                () = socket.readable() => true,
                () = std::future::ready(()) => false,
            }
        }
    };
    if has_begun {
        turns.wait().await;
    }
    has_begun
}

/// Serves requests until the connection ends. Returns `false` when its last answer was cut off.
async fn serve_to_its_end(
    socket: &Arc<GuestSocket>,
    context: RequestContext<'_>,
    began: Instant,
    mut drain: Drain,
) -> bool {
    let RequestContext {
        origin,
        service,
        limits,
        turns,
        ..
    } = context;
    let connection_turns = Turns::default();
    let body_drain = drain.clone();
    let handler = |request| answer(request, context, body_drain.clone());
    let refuse = |reason| {
        let turn = service.turn(origin)?;
        turn.refuse(reason).map(guest_refusal)
    };
    let mut server = HttpServer::new(limits.head, CONNECTION_AGE, ENDING)
        .with_limited_heads()
        .since(began);
    // Without pipeline_flush, which loses an answer that closes the connection while further
    // requests wait in its buffer.
    server
        .builder()
        .max_headers(MAX_HEADERS)
        .title_case_headers(true)
        .auto_date_header(false);
    let io = FilteredIo::new(Arc::clone(socket), turns, &connection_turns);
    let end = drain.ending();
    let served = server.serve(io, &connection_turns, handler, refuse, end);
    let was_refused_by_parser = match served.await {
        ConnectionEnd::Closed => false,
        ConnectionEnd::Failed(reason) => {
            debug!(peer = %origin.peer, attachment = %origin.attachment, %reason, "connection ended");
            reason.is_parse()
        }
        ConnectionEnd::CutOff => return false,
    };
    socket.linger(was_refused_by_parser, drain).await;
    true
}

/// What all requests of a connection need.
#[derive(Clone, Copy)]
struct RequestContext<'c> {
    origin: &'c Origin,
    service: &'c dyn GuestService,
    socket: &'c GuestSocket,
    limits: Limits,
    slot: &'c ConnectionSlot,
    turns: &'c GuestTurns<'c>,
}

async fn answer(
    request: Request<Incoming>,
    context: RequestContext<'_>,
    drain: Drain,
) -> Result<Response<ReplyBody>, AbortReason> {
    let RequestContext {
        origin,
        service,
        socket,
        limits,
        slot,
        turns,
    } = context;
    let (head, body) = request.into_parts();
    let pace = turns.begin_request().await;
    let turn = service.turn(origin).ok_or(AbortReason::Silence)?;
    if pace == Pace::Beyond {
        let reply = with_raw_request(&head, Body::Empty, |request| turn.throttle(request));
        let reply = reply.ok_or(AbortReason::Silence)?;
        if !body.is_end_stream() {
            socket.set_lingering();
        }
        lower_hop_limit(socket, reply.hop_limit)?;
        return Ok(response(reply));
    }

    // 1. The body: a request has none, but an empty one may have to be read to its end.
    let body = match body.is_end_stream() {
        true => Body::Empty,
        false => {
            turns.end();
            // Reading makes the parser write `100 Continue` if the client waits for it.
            lower_hop_limit(socket, turn.hop_limit(head.method.as_str()))?;
            find_body(body, limits.head, drain).await?
        }
    };
    if body != Body::Empty {
        socket.set_lingering();
    }

    // 2. The answer. The request is complete only now: a client that holds back a body can be
    //    evicted like one that holds back a head.
    if let Some(waiting) = with_raw_request(&head, body, |request| turn.waits(request)) {
        turns.end();
        waiting.await;
    }
    let busy = slot.begin().ok_or(AbortReason::Evicted)?;
    let reply = with_raw_request(&head, body, |request| turn.answer(request));
    drop(busy);
    let reply = reply.ok_or(AbortReason::Silence)?;

    // 3. The hop limit, before the first byte of the answer. There is no answer without it.
    lower_hop_limit(socket, reply.hop_limit)?;
    match turn.has_faults() && turn.is_cut() {
        true => Err(send_half(socket, reply, head.method == Method::HEAD).await),
        false => Ok(response(reply)),
    }
}

/// Sends the first half of an answer's bytes.
async fn send_half(socket: &GuestSocket, mut reply: Reply, is_head: bool) -> AbortReason {
    if is_head {
        reply.body.clear();
    }
    let bytes = guest_refusal(reply);
    socket.send_some(&bytes[..bytes.len() / 2]).await;
    AbortReason::Cut
}

fn lower_hop_limit(socket: &GuestSocket, limit: Option<HopLimit>) -> Result<(), AbortReason> {
    match limit {
        Some(limit) => socket.lower_hop_limit(limit).map_err(AbortReason::HopLimit),
        None => Ok(()),
    }
}

/// Finds out whether a request has a body. An empty one is fine, however it is framed. The first
/// byte of any other decides.
async fn find_body(
    mut body: Incoming,
    time: Duration,
    mut drain: Drain,
) -> Result<Body, AbortReason> {
    if body.size_hint().lower() > 0 {
        return Ok(Body::NotEmpty);
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
    match read_in_time(time, &mut drain, frames).await {
        Ok(body) => Ok(body),
        Err(Interruption::TimedOut) => Ok(Body::Unfinished),
        Err(Interruption::Shutdown) => Err(AbortReason::Shutdown),
    }
}

/// Why a connection ends without an answer.
#[derive(Debug)]
enum AbortReason {
    Silence,
    Evicted,
    Shutdown,
    Cut,
    HopLimit(io::Error),
}

impl fmt::Display for AbortReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AbortReason::Silence => f.write_str("no instance is served here"),
            AbortReason::Evicted => f.write_str("evicted before its request was answered"),
            AbortReason::Shutdown => {
                f.write_str("the daemon ends, and the request is not complete")
            }
            AbortReason::Cut => f.write_str("cut by an injected fault"),
            AbortReason::HopLimit(reason) => {
                write!(
                    f,
                    "cannot set the hop limit, so no answer was sent: {reason}"
                )
            }
        }
    }
}

impl std::error::Error for AbortReason {}
