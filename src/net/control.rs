//! One connection of the control endpoint: a bounded body, a deadline, and the answer of the
//! service that it is given.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tracing::debug;

use super::drain::Drain;
use super::http1::{ConnectionEnd, HttpServer, Interruption, read_in_time};
use super::hyper::{close_after, refusal};
use super::limits::{CONNECTION_AGE, ENDING};
use super::noted_io::NotedIo;
use super::owner_slots::{OwnerSlot, PeerNetwork};
use super::slot_state::CallerProgress;
use super::tls::Tls;
use super::turns::Turns;
use crate::http::UnreadableRequest;

/// A body, or why there is none.
#[derive(Debug)]
pub(crate) enum ControlBody {
    /// All of its bytes.
    Complete(Bytes),
    /// It has more bytes than the limit.
    TooLarge,
    /// Its length is not declared.
    WithoutLength,
    /// It did not end in time.
    TimedOut,
}

/// What answers callers.
pub(crate) type ControlService = dyn Fn(Parts, ControlBody) -> Pin<Box<dyn Future<Output = Response<Full<Bytes>>> + Send>>
    + Send
    + Sync;

/// Answers requests that cannot be read.
pub(crate) type ControlRefusal = fn(UnreadableRequest) -> Response<Full<Bytes>>;

/// Learns of a failed TLS handshake: the peer, and the reason.
pub(crate) type HandshakeFailed = dyn Fn(SocketAddr, &str) + Send + Sync;

/// How connections of the control endpoint are served.
#[derive(Clone)]
pub(crate) struct ControlServer {
    /// What answers the requests. The extensions of their heads contain the peer's [`SocketAddr`],
    /// for the log.
    pub service: Arc<ControlService>,
    /// Learns of each failed TLS handshake.
    pub handshake_failed: Arc<HandshakeFailed>,
    /// What answers requests that cannot be read.
    pub refuse: ControlRefusal,
    /// The certificate and key; `None` for plain HTTP.
    pub tls: Option<Arc<Tls>>,
    /// The most bytes of a body.
    pub max_body: usize,
    /// How long a TLS handshake, a request head and a body may take, each.
    pub head_time: Duration,
}

/// Serves one caller's connection to its end, or until it has to make room for another.
///
/// With TLS, nothing is read before the handshake, which may take as long as a head.
///
/// Most of a connection's memory is that of its parser and of TLS. It is allocated where it stays, so
/// that the task is small when it is moved.
pub(crate) async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    server: ControlServer,
    slot: OwnerSlot<PeerNetwork>,
    drain: Drain,
) {
    let serving = async {
        let Some(tls) = &server.tls else {
            return Box::pin(serve_to_its_end(stream, peer, &server, &slot, drain)).await;
        };
        Box::pin(serve_with_tls(stream, peer, &server, tls, &slot, drain)).await;
    };
    tokio::select! {
        () = serving => {}
        () = slot.evicted() => {}
    }
}

async fn serve_with_tls(
    stream: TcpStream,
    peer: SocketAddr,
    server: &ControlServer,
    tls: &Tls,
    slot: &OwnerSlot<PeerNetwork>,
    drain: Drain,
) {
    let mut handshake_drain = drain.clone();
    let stream = NotedIo::new(stream, slot, CallerProgress::Started);
    let handshake = tls.accept(stream);
    match read_in_time(server.head_time, &mut handshake_drain, handshake).await {
        Ok(Ok(stream)) => serve_to_its_end(stream, peer, server, slot, drain).await,
        Ok(Err(reason)) => (server.handshake_failed)(peer, &reason.to_string()),
        Err(Interruption::TimedOut) => (server.handshake_failed)(peer, "it took too long"),
        Err(Interruption::Shutdown) => {}
    }
}

async fn serve_to_its_end(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: SocketAddr,
    server: &ControlServer,
    slot: &OwnerSlot<PeerNetwork>,
    mut drain: Drain,
) {
    let stream = NotedIo::new(stream, slot, CallerProgress::Request);
    let body_drain = drain.clone();
    let handler = |request| answer(request, peer, server, slot, body_drain.clone());
    let refuse = |reason| Some(refusal((server.refuse)(reason)));
    let http = HttpServer::new(server.head_time, CONNECTION_AGE, ENDING).with_limited_heads();
    let turns = Turns::default();
    match http
        .serve(
            TokioIo::new(stream),
            &turns,
            handler,
            refuse,
            drain.ending(),
        )
        .await
    {
        ConnectionEnd::Closed | ConnectionEnd::CutOff => {}
        ConnectionEnd::Failed(reason) => debug!(%reason, "control connection ended"),
    }
}

async fn answer(
    request: Request<Incoming>,
    peer: SocketAddr,
    server: &ControlServer,
    slot: &OwnerSlot<PeerNetwork>,
    drain: Drain,
) -> io::Result<Response<Full<Bytes>>> {
    let (mut head, body) = request.into_parts();
    head.extensions.insert(peer);
    let body = read_body(&head, body, server, drain).await?;
    // Nothing of the request was read before this but its bytes. From here on it is finished, and its
    // caller gets the answer: hyper writes it in the same turn in which it learns of it.
    let Some(busy) = slot.begin() else {
        return Err(io::Error::other("evicted before its request was read"));
    };
    let is_incomplete = matches!(body, ControlBody::TimedOut);
    let mut response = (server.service)(head, body).await;
    if is_incomplete {
        close_after(&mut response);
    }
    drop(busy);
    Ok(response)
}

async fn read_body(
    head: &Parts,
    body: Incoming,
    server: &ControlServer,
    mut drain: Drain,
) -> io::Result<ControlBody> {
    // 1. A body without a length is refused: no SDK sends one. A body that is too large is refused
    //    before it is read.
    if head.headers.contains_key(TRANSFER_ENCODING) {
        return Ok(ControlBody::WithoutLength);
    }
    let declared: Option<u64> = head
        .headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    if declared.is_some_and(|length| length > server.max_body as u64) {
        return Ok(ControlBody::TooLarge);
    }

    // 2. The body, which may take as long as a head.
    let collected = Limited::new(body, server.max_body).collect();
    match read_in_time(server.head_time, &mut drain, collected).await {
        Ok(Ok(body)) => Ok(ControlBody::Complete(body.to_bytes())),
        Ok(Err(reason)) if reason.is::<LengthLimitError>() => Ok(ControlBody::TooLarge),
        Err(Interruption::TimedOut) => Ok(ControlBody::TimedOut),
        Ok(Err(_)) => Err(io::Error::other("the request body is broken")),
        Err(Interruption::Shutdown) => Err(io::Error::other("the daemon ends")),
    }
}
