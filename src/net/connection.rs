//! One guest connection: the fast path as long as its requests are ordinary, and then hyper.

use std::borrow::Cow;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::{Method, Request, Response};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tracing::debug;

use super::drain::Drain;
use super::fast::kept::{self, FastEnd};
use super::filtered_io::FilteredIo;
use super::guest_service::{GuestService, RequestContext};
use super::guest_socket::GuestSocket;
use super::guest_turns::GuestTurns;
use super::hop_limit::HopLimitInForce;
use super::http1::{ConnectionEnd, HttpServer, Interruption, read_in_time};
use super::hyper::{ReplyBody, guest_refusal, response, with_raw_request};
use super::limits::{CONNECTION_AGE, ENDING, FastPath, Limits, MAX_HEADERS};
use super::slots::ConnectionSlot;
use super::turn_queue::Pace;
use super::turns::Turns;
use crate::http::{Body, Connection, Reply};
use crate::instance::HopLimit;
use crate::origin::Origin;

/// A connection that a task serves, and how far it has come.
pub(crate) struct GuestConnection {
    pub(crate) stream: TcpStream,
    pub(crate) origin: Origin,
    pub(crate) slot: ConnectionSlot,
    pub(crate) began: Instant,
    pub(crate) hop_limit: HopLimitInForce,
    pub(crate) progress: ConnectionProgress,
}

/// How far a connection has come before its task.
pub(crate) enum ConnectionProgress {
    /// Nothing was read.
    Unread,
    /// This was read, outside of the guest's turn, and not answered.
    Read(Bytes),
    /// A request was answered, but for this rest of the answer. Then this happens to the connection.
    Answered(Bytes, Connection),
}

/// Serves one guest's connection to its end, or until it has to make room for another.
pub(crate) async fn serve(
    connection: GuestConnection,
    service: Arc<dyn GuestService>,
    limits: Limits,
    drain: Drain,
) {
    let GuestConnection {
        stream,
        origin,
        slot,
        began,
        hop_limit,
        progress,
    } = connection;
    let is_answered = matches!(progress, ConnectionProgress::Answered(..));
    let mut socket = Arc::new(GuestSocket::new(
        stream,
        hop_limit,
        began.into_std(),
        is_answered,
    ));
    let (mut cut, news) = (drain.clone(), drain.clone());
    let answers = AtomicU64::new(0);
    // Pinned here: a future that is passed on by value takes its place twice.
    let is_delivered = {
        let mut served = pin!(async {
            let turns = slot.turns();
            let context = RequestContext {
                origin: &origin,
                service: &*service,
                limits,
                slot: &slot,
                turns: &turns,
                answers: &answers,
            };
            serve_to_its_end(&mut socket, context, began, progress, drain).await
        });
        let mut interruption = pin!(async {
            tokio::select! {
                () = slot.evicted() => {}
                () = cut.cut_off() => {}
            }
        });
        let state = || {
            let is_interrupted = slot.is_evicted() || news.has_news();
            (answers.load(Ordering::Relaxed), is_interrupted)
        };
        until_interrupted(served.as_mut(), interruption.as_mut(), state).await
    };
    if !is_delivered {
        socket.abandon_unacknowledged();
    }
}

/// Returns what `served` returns; `false` if `interruption` returns before.
///
/// `state` returns how many requests were answered, and whether an interruption may be there. After
/// an answer a look at it is enough: an interruption wakes the task, since it was polled first.
async fn until_interrupted(
    mut served: Pin<&mut impl Future<Output = bool>>,
    mut interruption: Pin<&mut impl Future<Output = ()>>,
    state: impl Fn() -> (u64, bool),
) -> bool {
    let (mut is_registered, mut seen) = (false, 0);
    poll_fn(|cx| {
        if let Poll::Ready(is_delivered) = served.as_mut().poll(cx) {
            return Poll::Ready(is_delivered);
        }
        let (answered, may_be_interrupted) = state();
        let has_answered = std::mem::replace(&mut seen, answered) != answered;
        if is_registered && has_answered && !may_be_interrupted {
            return Poll::Pending;
        }
        is_registered = true;
        interruption.as_mut().poll(cx).map(|()| false)
    })
    .await
}

/// Serves requests until the connection ends. Returns `false` when its last answer was cut off.
async fn serve_to_its_end(
    socket: &mut Arc<GuestSocket>,
    context: RequestContext<'_>,
    began: Instant,
    progress: ConnectionProgress,
    drain: Drain,
) -> bool {
    let limits = context.limits;
    let rest = match progress {
        ConnectionProgress::Unread => {
            if !begins(socket, context.turns, limits, drain.clone()).await {
                return true;
            }
            None
        }
        ConnectionProgress::Read(bytes) => {
            return Box::pin(serve_by_parser(socket, context, began, began, bytes, drain)).await;
        }
        ConnectionProgress::Answered(rest, connection) => Some((rest, connection)),
    };
    let handed_over = match limits.fast_path {
        FastPath::On => match Arc::get_mut(socket) {
            Some(socket) => kept::serve(socket, context, began, rest, drain.clone()).await,
            None => FastEnd::CutOff,
        },
        FastPath::Off => FastEnd::HandedOver {
            bytes: Bytes::new(),
            head_began: began,
        },
    };
    match handed_over {
        FastEnd::CutOff => false,
        FastEnd::Ended(length) => {
            context.turns.end();
            length.is_some_and(|length| limits.delivery.is_by_kernel(length))
                || Box::pin(socket.is_delivered(drain)).await
        }
        // Most of a connection's memory is that of its parser, so it is allocated only now.
        FastEnd::HandedOver { bytes, head_began } => {
            Box::pin(serve_by_parser(
                socket, context, began, head_began, bytes, drain,
            ))
            .await
        }
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

/// Serves requests with hyper until the connection ends, the first of them from the bytes that were
/// read already. Returns `false` when its last answer was cut off.
async fn serve_by_parser(
    socket: &Arc<GuestSocket>,
    context: RequestContext<'_>,
    began: Instant,
    head_began: Instant,
    already_read: Bytes,
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
    let (body_drain, delivery_drain) = (drain.clone(), drain.clone());
    let handler = |request| answer(request, socket, context, body_drain.clone());
    let refuse = |reason| {
        let turn = service.turn(origin)?;
        let reply = turn.refuse(reason)?;
        Some(guest_refusal(&reply))
    };
    let mut server = HttpServer::new(limits.head, CONNECTION_AGE, ENDING)
        .with_limited_heads()
        .since(began, head_began);
    // Without pipeline_flush, which loses an answer that closes the connection while further
    // requests wait in its buffer.
    server
        .builder()
        .max_headers(MAX_HEADERS)
        .title_case_headers(true)
        .auto_date_header(false);
    let io = FilteredIo::new(Arc::clone(socket), turns, &connection_turns, already_read);
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
    socket.is_delivered(delivery_drain).await
}

async fn answer(
    request: Request<Incoming>,
    socket: &GuestSocket,
    context: RequestContext<'_>,
    drain: Drain,
) -> Result<Response<ReplyBody>, AbortReason> {
    let RequestContext {
        origin,
        service,
        limits,
        slot,
        turns,
        ..
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
async fn send_half(socket: &GuestSocket, mut reply: Reply<'_>, is_head: bool) -> AbortReason {
    if is_head {
        reply.body = Cow::Borrowed(&[]);
    }
    let bytes = guest_refusal(&reply);
    drop(reply);
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
