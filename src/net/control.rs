//! One connection of the control endpoint: a bounded body, a deadline, and the answer of whoever is given.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tracing::debug;

use super::tls::Tls;
use super::{CONNECTION_AGE, Drain, Limits, MAX_HEAD_BYTES};
use crate::net::slots::ConnectionSlot;

/// A body, or why there is none.
#[derive(Debug)]
pub enum ControlBody {
    /// All of it.
    Complete(Bytes),
    /// More than the limit.
    TooLarge,
    /// Nobody knows how much.
    WithoutLength,
}

/// What answers: the control plane, as a value.
pub type ControlService = dyn Fn(Parts, ControlBody) -> Pin<Box<dyn Future<Output = Response<Full<Bytes>>> + Send>>
    + Send
    + Sync;

/// How long a body may take.
const BODY: Duration = Duration::from_secs(5);
/// How long a connection that is being told to end may take over it.
const ENDING: Duration = Duration::from_secs(5);

/// Serves one caller's connection to its end, or until it has to make room. Bodies of up to `most_body` bytes are collected.
///
/// With `tls`, nothing is read before the handshake, which may take as long as a head.
pub async fn serve(
    stream: TcpStream,
    tls: Option<Arc<Tls>>,
    control_service: Arc<ControlService>,
    most_body: usize,
    limits: Limits,
    slot: ConnectionSlot,
    drain: Drain,
) {
    let serving = async {
        match tls {
            None => {
                serve_to_its_end(stream, control_service, most_body, limits, &slot, drain).await
            }
            Some(tls) => match tokio::time::timeout(limits.head, tls.accept(stream)).await {
                Ok(Ok(stream)) => {
                    serve_to_its_end(stream, control_service, most_body, limits, &slot, drain).await
                }
                Ok(Err(reason)) => debug!(%reason, "control connection without a handshake"),
                Err(_) => debug!("control connection without a handshake in time"),
            },
        }
    };
    tokio::select! {
        () = serving => {}
        () = slot.told_to_leave() => {}
    }
}

async fn serve_to_its_end(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    control_service: Arc<ControlService>,
    most_body: usize,
    limits: Limits,
    slot: &ConnectionSlot,
    mut drain: Drain,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let control_service = Arc::clone(&control_service);
        async move {
            let (head, body) = request.into_parts();
            // Without a length there is no telling, and no SDK sends a body so. One that is too much is refused before it is
            // waited for.
            if head.headers.contains_key(hyper::header::TRANSFER_ENCODING) {
                return Ok(control_service(head, ControlBody::WithoutLength).await);
            }
            let declared = head
                .headers
                .get(hyper::header::CONTENT_LENGTH)
                .and_then(|value| value.to_str().ok()?.parse().ok());
            if declared.is_some_and(|length: u64| length > most_body as u64) {
                return Ok(control_service(head, ControlBody::TooLarge).await);
            }
            let collected =
                tokio::time::timeout(BODY, Limited::new(body, most_body).collect()).await;
            let body = match collected {
                Ok(Ok(body)) => ControlBody::Complete(body.to_bytes()),
                Ok(Err(reason)) if reason.is::<LengthLimitError>() => ControlBody::TooLarge,
                // Broken, or too late: whoever sent it is gone or not worth waiting for.
                Ok(Err(_)) | Err(_) => return Err(std::io::Error::other("the body did not come")),
            };
            // A change that was begun is finished, and its caller hears of it.
            slot.set_busy(true);
            let answer = control_service(head, body).await;
            slot.set_busy(false);
            Ok(answer)
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_header_size(MAX_HEAD_BYTES)
        .max_buf_size(2 * MAX_HEAD_BYTES)
        .half_close(true);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = async { tokio::select! { () = drain.ending() => {}, () = tokio::time::sleep(CONNECTION_AGE) => {} } } => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(ENDING, connection).await {
                Ok(outcome) => outcome,
                Err(_) => return,
            }
        }
    };
    if let Err(reason) = outcome {
        debug!(%reason, "control connection ended");
    }
}
