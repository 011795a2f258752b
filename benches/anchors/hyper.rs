//! The HTTP library that imdsd uses, with fixed text: one thread, one task for each connection.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderValue, SERVER};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::epoll::{BODY, TOKEN};

/// Answers until the process is stopped.
pub(crate) fn serve(address: SocketAddr) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(answer));
            tokio::spawn(async move {
                // A guest that goes away is not an error here.
                let _ = connection.await;
            });
        }
    })
}

#[allow(clippy::unused_async, reason = "hyper's services return a future")]
async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = if request.method() == Method::PUT {
        TOKEN
    } else {
        BODY
    };
    let mut response = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
    let server = HeaderValue::from_static("EC2ws");
    response.headers_mut().insert(SERVER, server);
    Ok(response)
}
