//! The HTTP client: one request on a connection of its own.

use std::error::Error;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{HeaderMap, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;

use super::byte_limit::ByteLimit;
use super::endpoint::Endpoint;
use super::form::StsForm;

/// The time limit for a connection, including the TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The time limit for a whole call.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest body of a response, in bytes.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;

enum Stream {
    Plain(TcpStream),
    Encrypted(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

/// Sends the form and reads the whole response. `tls` is `None` for plain HTTP.
pub(super) async fn post(
    endpoint: &Endpoint,
    tls: Option<Arc<ClientConfig>>,
    headers: HeaderMap,
    form: StsForm,
) -> Result<(StatusCode, Bytes), String> {
    let call = async {
        let stream = timeout(CONNECT_TIMEOUT, connect(endpoint, tls))
            .await
            .unwrap_or_else(|_| {
                Err(format!(
                    "no connection within {} s",
                    CONNECT_TIMEOUT.as_secs()
                ))
            })?;
        match stream {
            Stream::Plain(stream) => exchange(stream, &endpoint.path, headers, form).await,
            Stream::Encrypted(stream) => exchange(*stream, &endpoint.path, headers, form).await,
        }
    };
    timeout(CALL_TIMEOUT, call)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {} s", CALL_TIMEOUT.as_secs())))
}

async fn connect(endpoint: &Endpoint, tls: Option<Arc<ClientConfig>>) -> Result<Stream, String> {
    let tcp = TcpStream::connect((endpoint.host.as_str(), endpoint.port))
        .await
        .map_err(|error| error.to_string())?;
    let Some(config) = tls else {
        return Ok(Stream::Plain(tcp));
    };
    let name = ServerName::try_from(endpoint.host.clone()).map_err(|error| error.to_string())?;
    let stream = TlsConnector::from(config)
        .connect(name, tcp)
        .await
        .map_err(|error| error.to_string())?;
    Ok(Stream::Encrypted(Box::new(stream)))
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    path: &str,
    headers: HeaderMap,
    form: StsForm,
) -> Result<(StatusCode, Bytes), String> {
    let client = hyper::client::conn::http1::Builder::new()
        .max_buf_size(MAX_RESPONSE_BYTES)
        .handshake(TokioIo::new(ByteLimit::new(stream, 2 * MAX_RESPONSE_BYTES)));
    let (mut sender, connection) = client.await.map_err(|error| causes(&error))?;
    let mut request = Request::post(path)
        .body(Full::new(Bytes::from(form.into_string())))
        .map_err(|error| causes(&error))?;
    *request.headers_mut() = headers;
    request
        .headers_mut()
        .insert(USER_AGENT, HeaderValue::from_static("imdsd"));
    let response = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| causes(&error))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_RESPONSE_BYTES)
            .collect()
            .await
            .map_err(|error| causes(&*error))?;
        Ok((head.status, body.to_bytes()))
    };
    // The connection task moves the bytes of the response. It may end before the last of them is
    // read.
    let mut response = pin!(response);
    tokio::select! {
        response = &mut response => response,
        _ = connection => response.await,
    }
}

/// Returns an error with its cause.
fn causes(error: &dyn Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
