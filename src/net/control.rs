//! One connection of the control endpoint: a bounded body, a deadline, and the answer of the service
//! that it is given.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
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
pub enum ControlBody {
    /// All of its bytes.
    Complete(Bytes),
    /// It has more bytes than the limit.
    TooLarge,
    /// Its length is not declared.
    WithoutLength,
}

/// What answers callers.
pub type ControlService = dyn Fn(Parts, ControlBody) -> Pin<Box<dyn Future<Output = Response<Full<Bytes>>> + Send>>
    + Send
    + Sync;

/// How long a body may take.
const BODY_TIME: Duration = Duration::from_secs(5);

/// Serves one caller's connection to its end, or until it has to make room for another. Bodies of up
/// to `max_body` bytes are collected.
///
/// With `tls`, nothing is read before the handshake, which may take as long as a head.
pub async fn serve(
    stream: TcpStream,
    tls: Option<Arc<Tls>>,
    control_service: Arc<ControlService>,
    max_body: usize,
    limits: Limits,
    slot: ConnectionSlot,
    drain: Drain,
) {
    let serving = async {
        match tls {
            None => serve_to_its_end(stream, control_service, max_body, limits, &slot, drain).await,
            Some(tls) => match tokio::time::timeout(limits.head, tls.accept(stream)).await {
                Ok(Ok(stream)) => {
                    serve_to_its_end(stream, control_service, max_body, limits, &slot, drain).await
                }
                Ok(Err(reason)) => debug!(%reason, "TLS handshake failed on a control connection"),
                Err(_) => debug!("TLS handshake timed out on a control connection"),
            },
        }
    };
    tokio::select! {
        () = serving => {}
        () = slot.evicted() => {}
    }
}

async fn serve_to_its_end(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    control_service: Arc<ControlService>,
    max_body: usize,
    limits: Limits,
    slot: &ConnectionSlot,
    mut drain: Drain,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let control_service = Arc::clone(&control_service);
        async move {
            let (head, body) = request.into_parts();
            // A body without a length is refused: no SDK sends one. A body that is too large is refused
            // before it is read.
            if head.headers.contains_key(hyper::header::TRANSFER_ENCODING) {
                return Ok(control_service(head, ControlBody::WithoutLength).await);
            }
            let declared = head
                .headers
                .get(hyper::header::CONTENT_LENGTH)
                .and_then(|value| value.to_str().ok()?.parse().ok());
            if declared.is_some_and(|length: u64| length > max_body as u64) {
                return Ok(control_service(head, ControlBody::TooLarge).await);
            }
            let collected =
                tokio::time::timeout(BODY_TIME, Limited::new(body, max_body).collect()).await;
            let body = match collected {
                Ok(Ok(body)) => ControlBody::Complete(body.to_bytes()),
                Ok(Err(reason)) if reason.is::<LengthLimitError>() => ControlBody::TooLarge,
                // Broken, or too late.
                Ok(Err(_)) | Err(_) => {
                    return Err(std::io::Error::other("the request body did not arrive"));
                }
            };
            // A change that has begun is finished, and its caller gets the answer.
            slot.set_busy(true);
            let answer = control_service(head, body).await;
            slot.set_busy(false);
            Ok(answer)
        }
    });
    let server = HttpServer::new(limits.head, CONNECTION_AGE, ENDING).with_limited_heads();
    match server
        .serve(TokioIo::new(stream), service, drain.ending())
        .await
    {
        ConnectionEnd::Closed | ConnectionEnd::CutOff => {}
        ConnectionEnd::Failed(reason) => debug!(%reason, "control connection ended"),
    }
}
