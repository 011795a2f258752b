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
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tracing::debug;

use super::drain::Drain;
use super::http1::{ConnectionEnd, HttpServer};
use super::limits::{CONNECTION_AGE, ENDING, Limits};
use super::slots::ConnectionSlot;
use super::tls::Tls;

/// A body, or why there is none.
#[derive(Debug)]
pub(crate) enum ControlBody {
    /// All of its bytes.
    Complete(Bytes),
    /// It has more bytes than the limit.
    TooLarge,
    /// Its length is not declared.
    WithoutLength,
}

/// What answers callers.
pub(crate) type ControlService = dyn Fn(Parts, ControlBody) -> Pin<Box<dyn Future<Output = Response<Full<Bytes>>> + Send>>
    + Send
    + Sync;

/// How long a body may take.
const BODY_TIME: Duration = Duration::from_secs(5);

/// How connections of the control endpoint are served.
#[derive(Clone)]
pub(crate) struct ControlServer {
    /// What answers the requests. The extensions of their heads contain the peer's [`SocketAddr`],
    /// for the log.
    pub service: Arc<ControlService>,
    /// Learns of each failed TLS handshake, with its reason.
    pub handshake_failed: Arc<dyn Fn(SocketAddr, &str) + Send + Sync>,
    /// The certificate and key; `None` for plain HTTP.
    pub tls: Option<Arc<Tls>>,
    /// The most bytes of a body.
    pub max_body: usize,
    /// The limits of each connection.
    pub limits: Limits,
}

/// Serves one caller's connection to its end, or until it has to make room for another.
///
/// With TLS, nothing is read before the handshake, which may take as long as a head.
pub(crate) async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    server: ControlServer,
    slot: ConnectionSlot,
    drain: Drain,
) {
    let serving = async {
        let Some(tls) = &server.tls else {
            return serve_to_its_end(stream, peer, &server, &slot, drain).await;
        };
        match tokio::time::timeout(server.limits.head, tls.accept(stream)).await {
            Ok(Ok(stream)) => serve_to_its_end(stream, peer, &server, &slot, drain).await,
            Ok(Err(reason)) => (server.handshake_failed)(peer, &reason.to_string()),
            Err(_) => (server.handshake_failed)(peer, "it took too long"),
        }
    };
    tokio::select! {
        () = serving => {}
        () = slot.evicted() => {}
    }
}

async fn serve_to_its_end(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: SocketAddr,
    server: &ControlServer,
    slot: &ConnectionSlot,
    mut drain: Drain,
) {
    let handler = service_fn(|request| answer(request, peer, server, slot));
    let http = HttpServer::new(server.limits.head, CONNECTION_AGE, ENDING).with_limited_heads();
    match http
        .serve(TokioIo::new(stream), handler, drain.ending())
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
    slot: &ConnectionSlot,
) -> io::Result<Response<Full<Bytes>>> {
    let (mut head, body) = request.into_parts();
    head.extensions.insert(peer);
    let body = read_body(&head, body, server.max_body).await?;
    // Nothing of the request was read before this but its bytes. From here on it is finished, and its
    // caller gets the answer: hyper writes it in the same turn in which it learns of it.
    let Some(busy) = slot.begin() else {
        return Err(io::Error::other("evicted before its request was read"));
    };
    let response = (server.service)(head, body).await;
    drop(busy);
    Ok(response)
}

async fn read_body(head: &Parts, body: Incoming, max_body: usize) -> io::Result<ControlBody> {
    // 1. A body without a length is refused: no SDK sends one. A body that is too large is refused
    //    before it is read.
    if head.headers.contains_key(TRANSFER_ENCODING) {
        return Ok(ControlBody::WithoutLength);
    }
    let declared: Option<u64> = head
        .headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    if declared.is_some_and(|length| length > max_body as u64) {
        return Ok(ControlBody::TooLarge);
    }

    // 2. The body.
    let collected = Limited::new(body, max_body).collect();
    match tokio::time::timeout(BODY_TIME, collected).await {
        Ok(Ok(body)) => Ok(ControlBody::Complete(body.to_bytes())),
        Ok(Err(reason)) if reason.is::<LengthLimitError>() => Ok(ControlBody::TooLarge),
        // Broken, or too late.
        Ok(Err(_)) | Err(_) => Err(io::Error::other("the request body did not arrive")),
    }
}
