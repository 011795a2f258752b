//! A connection that has a task, as long as its requests are ordinary.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::ReadBuf;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::debug;

use super::exchange::{Answer, Buffers, with_buffers};
use crate::http::Connection;
use crate::net::drain::Drain;
use crate::net::guest_service::RequestContext;
use crate::net::guest_socket::GuestSocket;
use crate::net::guest_turns::RateTimer;
use crate::net::limits::{CONNECTION_AGE, ENDING, STALLED};
use crate::net::turn_queue::Pace;

/// How the fast path of a connection ends.
pub(in crate::net) enum FastEnd {
    /// The connection ends.
    Ended,
    /// The connection ends, and its last answer was cut off.
    CutOff,
    /// The slow path goes on with these bytes, which were read and not answered.
    HandedOver {
        /// What was read.
        bytes: Bytes,
        /// When the time of their head began.
        head_began: Instant,
    },
}

/// What one exchange leaves to do.
enum Exchange {
    /// The connection ends.
    End,
    /// These bytes belong to the slow path.
    HandedOver(Bytes),
    /// The request was answered at this time, but for this rest. Then this happens to the connection.
    Answered(Bytes, Connection, Instant),
}

/// What a connection waits for.
enum KeptEvent {
    Exchanged(Exchange),
    /// No request came in time.
    TimedOut,
    /// The daemon ends.
    Shutdown,
}

/// Answers ordinary requests until one is not, or the connection ends. `rest` is what is left of an
/// answer to the connection's first request.
pub(in crate::net) async fn serve(
    socket: &mut GuestSocket,
    context: RequestContext<'_>,
    began: Instant,
    rest: Option<(Bytes, Connection)>,
    drain: Drain,
) -> FastEnd {
    let limits = context.limits;
    let rest_drain = drain.clone();
    let (mut ending_drain, news) = (drain.clone(), drain);
    let mut ending = pin!(ending_drain.ending());
    let mut head_began = began;
    let mut timer = pin!(sleep_until(began + limits.head));
    let mut rate_timer = RateTimer::default();
    let (mut is_ending, mut has_looked) = (false, false);
    let mut exchanged = rest.map(|(rest, connection)| Exchange::Answered(rest, connection, began));
    loop {
        let exchange = match exchanged.take() {
            Some(exchange) => exchange,
            None => {
                let deadline = (head_began + limits.head).min(began + CONNECTION_AGE);
                let event = poll_fn(|cx| {
                    if let Poll::Ready(exchange) =
                        poll_exchange(socket, context, &mut rate_timer, cx)
                    {
                        return Poll::Ready(KeptEvent::Exchanged(exchange));
                    }
                    if is_ending {
                        return Poll::Ready(KeptEvent::Shutdown);
                    }
                    // Since the first look, what ends the connection wakes its task.
                    if has_looked && !timer.is_elapsed() && !news.has_news() {
                        return Poll::Pending;
                    }
                    has_looked = true;
                    // The timer is not set for each request: it finds out when it is over.
                    while timer.as_mut().poll(cx).is_ready() {
                        if timer.deadline() >= deadline {
                            return Poll::Ready(KeptEvent::TimedOut);
                        }
                        timer.as_mut().reset(deadline);
                    }
                    ending.as_mut().poll(cx).map(|()| KeptEvent::Shutdown)
                });
                match event.await {
                    KeptEvent::Exchanged(exchange) => exchange,
                    KeptEvent::Shutdown if !is_ending => {
                        // A request that has arrived by now is still answered.
                        is_ending = true;
                        tokio::task::yield_now().await;
                        continue;
                    }
                    KeptEvent::Shutdown | KeptEvent::TimedOut => return FastEnd::Ended,
                }
            }
        };
        let (connection, answered) = match exchange {
            Exchange::End => return FastEnd::Ended,
            Exchange::HandedOver(bytes) => return FastEnd::HandedOver { bytes, head_began },
            Exchange::Answered(rest, connection, answered) if rest.is_empty() => {
                (connection, answered)
            }
            Exchange::Answered(rest, connection, _) => {
                if !Box::pin(is_written(socket, rest, began, rest_drain.clone())).await {
                    return FastEnd::CutOff;
                }
                (connection, Instant::now())
            }
        };
        if connection == Connection::Close || is_ending {
            return FastEnd::Ended;
        }
        head_began = answered;
    }
}

/// Waits for bytes and for the turn to read them; reads them, and answers them.
fn poll_exchange(
    socket: &mut GuestSocket,
    context: RequestContext<'_>,
    rate_timer: &mut RateTimer,
    cx: &mut Context<'_>,
) -> Poll<Exchange> {
    let turns = context.turns;
    loop {
        if socket.poll_readable(cx).is_pending() {
            turns.end();
            return Poll::Pending;
        }
        let pace = ready!(turns.poll(rate_timer, cx));
        if let Poll::Ready(exchange) =
            with_buffers(|buffers| poll_read(buffers, socket, context, pace, cx))
        {
            return Poll::Ready(exchange);
        }
    }
}

fn poll_read(
    buffers: &mut Buffers,
    socket: &mut GuestSocket,
    context: RequestContext<'_>,
    pace: Pace,
    cx: &mut Context<'_>,
) -> Poll<Exchange> {
    let mut read = ReadBuf::new(buffers.input());
    let outcome = ready!(socket.poll_read(cx, &mut read));
    let length = read.filled().len();
    if outcome.is_err() || length == 0 {
        return Poll::Ready(Exchange::End);
    }
    let now = Instant::now();
    context.turns.note_read(now.into_std());
    let answer = match pace {
        Pace::Within => buffers.answer(length, context.service, context.origin, context.slot),
        Pace::Beyond => Answer::HandedOver,
    };
    Poll::Ready(match answer {
        Answer::HandedOver => Exchange::HandedOver(Bytes::copy_from_slice(buffers.read(length))),
        Answer::Silence => Exchange::End,
        Answer::Reply {
            hop_limit,
            connection,
        } => {
            context.turns.end();
            context.answers.fetch_add(1, Ordering::Relaxed);
            if let Some(limit) = hop_limit
                && let Err(reason) = socket.lower_hop_limit(limit)
            {
                debug!(peer = %context.origin.peer, %reason, "cannot set the hop limit, so no answer was sent");
                return Poll::Ready(Exchange::End);
            }
            match buffers.send(socket.stream()) {
                Ok(sent) => {
                    socket.note_written(now.into_std());
                    let rest = Bytes::copy_from_slice(buffers.unsent(sent));
                    Exchange::Answered(rest, connection, now)
                }
                Err(_) => Exchange::End,
            }
        }
    })
}

/// Writes the rest of an answer. Returns `false` if the guest does not read it in time.
async fn is_written(
    socket: &GuestSocket,
    mut rest: Bytes,
    began: Instant,
    mut drain: Drain,
) -> bool {
    let left = AtomicUsize::new(rest.len());
    let writing = async {
        while !rest.is_empty() {
            if socket.stream().writable().await.is_err() {
                return true;
            }
            match socket.stream().try_write(&rest) {
                Ok(length) => {
                    rest.advance(length);
                    left.store(rest.len(), Ordering::Relaxed);
                    socket.note_written(std::time::Instant::now());
                }
                Err(reason) if reason.kind() == std::io::ErrorKind::WouldBlock => {}
                // The connection is gone, and nothing is sent again.
                Err(_) => return true,
            }
        }
        true
    };
    let stalled = async {
        drain.ending().await;
        let ends = Instant::now() + ENDING;
        loop {
            let before = left.load(Ordering::Relaxed);
            sleep(STALLED).await;
            if left.load(Ordering::Relaxed) == before || Instant::now() >= ends {
                return;
            }
        }
    };
    tokio::select! {
        biased;
        is_written = writing => is_written,
        () = stalled => false,
        () = sleep_until(began + CONNECTION_AGE + ENDING) => false,
    }
}
