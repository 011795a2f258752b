//! The HTTP/1 server loop of one connection, shared by guests, the control endpoint and the admin
//! socket.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::rt::{Read, Write};
use hyper::server::conn::http1::Builder;
use hyper::service::HttpService;
use hyper_util::rt::TokioTimer;

use super::limits::MAX_HEAD_BYTES;

/// How one connection is parsed, and how long it may last.
pub(super) struct HttpServer {
    builder: Builder,
    lifetime: Duration,
    ending: Duration,
}

/// How a connection ended.
#[derive(Debug)]
pub(super) enum ConnectionEnd {
    /// Both sides were finished.
    Closed,
    /// The peer or the parser failed.
    Failed(hyper::Error),
    /// It had to end, and its last answer took too long.
    CutOff,
}

impl HttpServer {
    /// Returns a server for one connection. A head may take `head`, counted from the connection's
    /// start or from the last answer. After `lifetime` the connection ends with the answer that is
    /// under way, which may take `ending`.
    pub(super) fn new(head: Duration, lifetime: Duration, ending: Duration) -> HttpServer {
        let mut builder = Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(head)
            .half_close(true);
        HttpServer {
            builder,
            lifetime,
            ending,
        }
    }

    /// Limits the size of heads, for callers that are not trusted.
    pub(super) fn with_limited_heads(mut self) -> HttpServer {
        self.builder
            .max_header_size(MAX_HEAD_BYTES)
            .max_buf_size(2 * MAX_HEAD_BYTES);
        self
    }

    /// Returns hyper's settings.
    pub(super) fn builder(&mut self) -> &mut Builder {
        &mut self.builder
    }

    /// Serves requests until the connection ends, `end` returns, or the connection is too old.
    pub(super) async fn serve<S, B>(
        self,
        io: impl Read + Write + Unpin,
        service: S,
        end: impl Future<Output = ()>,
    ) -> ConnectionEnd
    where
        S: HttpService<Incoming, ResBody = B>,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        B: Body<Data = Bytes> + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut connection = pin!(self.builder.serve_connection(io, service));
        let outcome = tokio::select! {
            outcome = connection.as_mut() => Some(outcome),
            () = end => None,
            () = tokio::time::sleep(self.lifetime) => None,
        };
        let outcome = match outcome {
            Some(outcome) => outcome,
            // As long as an answer that was begun needs.
            None => {
                connection.as_mut().graceful_shutdown();
                match tokio::time::timeout(self.ending, connection).await {
                    Ok(outcome) => outcome,
                    Err(_) => return ConnectionEnd::CutOff,
                }
            }
        };
        match outcome {
            Ok(()) => ConnectionEnd::Closed,
            Err(reason) => ConnectionEnd::Failed(reason),
        }
    }
}
