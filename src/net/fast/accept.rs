//! Accepts the connections of guests, and answers those whose request is there already.

use std::net::{SocketAddr, TcpStream};
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use socket2::SockRef;
use tokio::net::TcpListener;
use tracing::{debug, warn};

use super::delivery::Deliveries;
use super::exchange::{Answer, Buffers, with_buffers};
use crate::http::Connection;
use crate::net::accept::{AcceptErrors, RUN, RunEnd, TcpAccepting};
use crate::net::connection::{self, ConnectionProgress, GuestConnection};
use crate::net::drain::Drain;
use crate::net::guest_service::GuestService;
use crate::net::hop_limit::HopLimitInForce;
use crate::net::limits::{Delivery, FastPath, Limits};
use crate::net::listener::reset;
use crate::net::slots::ConnectionSlot;
use crate::origin::{Family, Origin};

/// How many connections are answered before other tasks get a turn. The rest of a run of accepted
/// connections waits: no guest's answer waits behind many of another's.
const ANSWERS: usize = 8;

/// A listening socket of guests.
pub(crate) struct GuestListener {
    /// The socket.
    pub listener: TcpListener,
    /// Its address family.
    pub family: Family,
    /// What answers its guests.
    pub service: Arc<dyn GuestService>,
    /// What its connections are held to.
    pub limits: Limits,
}

/// Accepts connections and serves them, until the drain ends or the task is aborted.
///
/// `identify` returns the origin of a connection, and the slot that it takes; without one the
/// connection is reset, before anything is allocated for it. At a guest's limit its connection that
/// has waited longest without a complete request is evicted: a client that holds connections open
/// cannot lock out the others on its own machine, and not those on another.
pub(crate) async fn accept(
    listener: GuestListener,
    mut drain: Drain,
    identify: impl Fn(&TcpStream, SocketAddr) -> Option<(ConnectionSlot, Origin)>,
) {
    let GuestListener {
        listener,
        family,
        service,
        limits,
    } = listener;
    let listener = match TcpAccepting::new(listener) {
        Ok(listener) => listener,
        Err(reason) => return warn!(%reason, "listening socket closed"),
    };
    let serving = GuestServing {
        family,
        service,
        limits,
        deliveries: Deliveries::default(),
        drain: drain.clone(),
    };
    let (mut accepted, mut errors) = (Vec::with_capacity(RUN), AcceptErrors::default());
    let mut ending = pin!(drain.ending());
    loop {
        let outcome = tokio::select! {
            biased;
            outcome = listener.accept_run(&mut accepted) => outcome,
            () = ending.as_mut() => return,
        };
        let mut answers = 0;
        for (stream, peer) in accepted.drain(..) {
            let Some((slot, origin)) = identify(&stream, peer) else {
                reset(&stream);
                continue;
            };
            if serving.begin(stream, slot, origin) == Begun::Answered {
                answers += 1;
            }
            if answers == ANSWERS {
                answers = 0;
                tokio::task::yield_now().await;
            }
        }
        match outcome {
            Ok(RunEnd::NoneLeft) => {}
            Ok(RunEnd::Full) => tokio::task::yield_now().await,
            Err(reason) => {
                if errors.react(&reason).await.is_break() {
                    return;
                }
            }
        }
    }
}

/// What serves the connections of one listening socket.
struct GuestServing {
    family: Family,
    service: Arc<dyn GuestService>,
    limits: Limits,
    deliveries: Deliveries,
    drain: Drain,
}

/// What became of a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begun {
    /// Its request was answered.
    Answered,
    /// It has a task, or has ended.
    Other,
}

/// How far the first exchange of a connection came.
enum FirstExchange {
    /// The connection has ended.
    Ended,
    /// The connection needs a task.
    Unfinished(ConnectionProgress),
    /// The request was answered, and the connection ends.
    Closing,
}

impl GuestServing {
    /// Answers a new connection's request if it is ordinary and there already. Any other connection
    /// gets a task.
    fn begin(&self, stream: TcpStream, slot: ConnectionSlot, origin: Origin) -> Begun {
        let now = Instant::now();
        let hop_limit = HopLimitInForce::new(self.family, self.limits.extra_hops);
        let first = match self.limits.fast_path {
            FastPath::On => self.exchange(&stream, &hop_limit, &slot, &origin, now),
            FastPath::Off => FirstExchange::Unfinished(ConnectionProgress::Unread),
        };
        match first {
            FirstExchange::Ended => Begun::Other,
            FirstExchange::Closing => {
                match self.limits.delivery {
                    Delivery::ByKernel => drop(stream),
                    Delivery::Awaited => self.deliveries.add(stream, slot, now, &self.drain),
                }
                Begun::Answered
            }
            FirstExchange::Unfinished(progress) => {
                let begun = match progress {
                    ConnectionProgress::Answered(..) => Begun::Answered,
                    ConnectionProgress::Unread | ConnectionProgress::Read(_) => Begun::Other,
                };
                // Fails only without memory for the registration.
                if let Ok(stream) = tokio::net::TcpStream::from_std(stream) {
                    self.spawn(GuestConnection {
                        stream,
                        origin,
                        slot,
                        began: now.into(),
                        hop_limit,
                        progress,
                    });
                }
                begun
            }
        }
    }

    fn spawn(&self, connection: GuestConnection) {
        let drain = self.drain.clone();
        let open = drain.open();
        let serving = connection::serve(connection, Arc::clone(&self.service), self.limits, drain);
        tokio::spawn(async move {
            serving.await;
            drop(open);
        });
    }

    /// Reads and answers in the guest's turn, if that is free.
    fn exchange(
        &self,
        stream: &TcpStream,
        hop_limit: &HopLimitInForce,
        slot: &ConnectionSlot,
        origin: &Origin,
        now: Instant,
    ) -> FirstExchange {
        let Some(mut turn) = slot.free_turn(now) else {
            return FirstExchange::Unfinished(ConnectionProgress::Unread);
        };
        with_buffers(|buffers| {
            let length = match recv(stream, buffers.input(), RecvFlags::DONTWAIT) {
                Err(Errno::WOULDBLOCK) => {
                    return FirstExchange::Unfinished(ConnectionProgress::Unread);
                }
                Err(_) | Ok((_, 0)) => return FirstExchange::Ended,
                Ok((_, length)) => length,
            };
            match buffers.answer(length, &*self.service, origin, slot) {
                // The slow path takes a turn of its own.
                Answer::HandedOver => {
                    let read = Bytes::copy_from_slice(buffers.read(length));
                    FirstExchange::Unfinished(ConnectionProgress::Read(read))
                }
                Answer::Silence => FirstExchange::Ended,
                Answer::Reply {
                    hop_limit: limit,
                    connection,
                } => {
                    turn.note_used(now);
                    drop(turn);
                    if let Some(limit) = limit
                        && let Err(reason) = hop_limit.lower(SockRef::from(stream), limit)
                    {
                        debug!(peer = %origin.peer, %reason, "cannot set the hop limit, so no answer was sent");
                        return FirstExchange::Ended;
                    }
                    sent(buffers, stream, connection)
                }
            }
        })
    }
}

fn sent(buffers: &Buffers, stream: &TcpStream, connection: Connection) -> FirstExchange {
    let Ok(sent) = buffers.send(stream) else {
        return FirstExchange::Ended;
    };
    let rest = buffers.unsent(sent);
    if rest.is_empty() && connection == Connection::Close {
        return FirstExchange::Closing;
    }
    let rest = Bytes::copy_from_slice(rest);
    FirstExchange::Unfinished(ConnectionProgress::Answered(rest, connection))
}
