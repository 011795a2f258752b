//! The HTTP/1 server loop of one connection, shared by guests, the control endpoint and the admin
//! socket.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::rt::{Read, Write};
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper::{Request, Response};
use tokio::time::{Instant, sleep_until};

use super::drain::Drain;
use super::limits::{MAX_HEAD_BYTES, STALLED};
use super::turns::{TimedIo, Turns};
use crate::http::UnreadableRequest;

/// How one connection is parsed, and how long it may last.
pub(super) struct HttpServer {
    builder: Builder,
    /// When the connection began.
    began: Instant,
    /// When the time of its next head began.
    head_began: Instant,
    head: Duration,
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
    /// under way, whose sending may take `ending` once it is ready.
    pub(super) fn new(head: Duration, lifetime: Duration, ending: Duration) -> HttpServer {
        let mut builder = Builder::new();
        // Heads have their time limit in `TimedIo`.
        builder.header_read_timeout(None).half_close(true);
        HttpServer {
            builder,
            began: Instant::now(),
            head_began: Instant::now(),
            head,
            lifetime,
            ending,
        }
    }

    /// Counts the times from the connection's start and from that of its next head, if those were
    /// earlier.
    pub(super) fn since(mut self, began: Instant, head_began: Instant) -> HttpServer {
        (self.began, self.head_began) = (began, head_began);
        self
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
    /// `turns` shows meanwhile where the connection is.
    ///
    /// `refuse` returns the bytes of the answer to a request that cannot be read; `None` is
    /// silence. After `end` an answer that is under way may finish, and nothing else is waited for:
    /// not a connection without a request, not the rest of a request, not a peer that does not
    /// read.
    pub(super) async fn serve<F, E, B>(
        self,
        io: impl Read + Write + Unpin,
        turns: &Turns,
        answer: impl Fn(Request<Incoming>) -> F,
        refuse: impl Fn(UnreadableRequest) -> Option<Bytes> + Unpin,
        end: impl Future<Output = ()>,
    ) -> ConnectionEnd
    where
        F: Future<Output = Result<Response<B>, E>>,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
        B: Body<Data = Bytes> + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let io = TimedIo::new(io, turns, (self.head_began, self.head), refuse);
        let service = service_fn(|request| {
            turns.begin_answer();
            let answered = answer(request);
            async move {
                let response = answered.await;
                turns.begin_writing();
                response
            }
        });
        let mut connection = pin!(self.builder.serve_connection(io, service));
        let outcome = tokio::select! {
            biased;
            outcome = connection.as_mut() => return ended(outcome),
            () = end => Stop::Daemon,
            () = sleep_until(self.began + self.lifetime) => Stop::Age,
        };
        if outcome == Stop::Daemon {
            // A request that has arrived by now is still answered.
            tokio::task::yield_now().await;
            tokio::select! {
                biased;
                outcome = connection.as_mut() => return ended(outcome),
                () = std::future::ready(()) => {}
            }
            if turns.is_reading() {
                return ConnectionEnd::Closed;
            }
        }
        connection.as_mut().graceful_shutdown();
        let mut deadline = pin!(tokio::time::sleep(self.ending));
        loop {
            let before = turns.writing();
            tokio::select! {
                outcome = connection.as_mut() => return ended(outcome),
                () = &mut deadline => match outcome == Stop::Age && turns.is_answering() {
                    // The time of a long operation is not its caller's.
                    true => deadline.set(tokio::time::sleep(self.ending)),
                    false => return ConnectionEnd::CutOff,
                },
                () = tokio::time::sleep(STALLED), if outcome == Stop::Daemon => {
                    if before.is_some() && before == turns.writing() {
                        return ConnectionEnd::CutOff;
                    }
                }
            }
        }
    }
}

/// Why a connection has to end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// The daemon ends, or the listener is closed.
    Daemon,
    /// It is too old.
    Age,
}

fn ended(outcome: hyper::Result<()>) -> ConnectionEnd {
    match outcome {
        Ok(()) => ConnectionEnd::Closed,
        Err(reason) => ConnectionEnd::Failed(reason),
    }
}

/// Reads what belongs to a request: its body. It is not waited for when the daemon ends.
pub(super) async fn read_in_time<T>(
    time: Duration,
    drain: &mut Drain,
    reading: impl Future<Output = T>,
) -> Result<T, Interruption> {
    tokio::select! {
        biased;
        read = reading => Ok(read),
        () = drain.ending() => Err(Interruption::Shutdown),
        () = tokio::time::sleep(time) => Err(Interruption::TimedOut),
    }
}

/// Why a body was not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interruption {
    /// It did not end in time. The answer is 408.
    TimedOut,
    /// The daemon ends. There is no answer.
    Shutdown,
}
