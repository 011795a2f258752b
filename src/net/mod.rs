//! How bytes arrive: listeners, connections, their limits, and the hop limit.
//!
//! This module moves bytes and knows neither plane: what answers a request is a value it is given. It enforces what
//! belongs to a connection (how many, how long, how large, how far an answer travels) and decides nothing else.

pub mod connection;
pub mod control;
pub mod head_filter;
pub mod ingress;
pub mod listener;
pub mod slots;
pub mod status;
pub mod tls;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// What every connection of a way in is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a request head may take, counted from the connection's start or from the last answer.
    pub head: Duration,
    /// How many routers of the host's own stand between the socket and the guest: each takes one of a packet's hops.
    pub extra_hops: u8,
}

/// The largest request head, in bytes.
pub const MAX_HEAD_BYTES: usize = 8192;
/// The most header lines in a head.
pub const MAX_HEADERS: usize = 64;
/// How long a connection may live, kept alive or not.
pub const CONNECTION_AGE: Duration = Duration::from_secs(60);
/// How long the kernel goes on sending what nobody acknowledges. Without it, an answer beyond its hop limit would be
/// retransmitted for minutes.
pub const UNDELIVERABLE: Duration = Duration::from_secs(5);

/// Tells connections to end, and waits for them.
#[derive(Clone)]
pub struct Drain {
    ending: watch::Receiver<Ending>,
    open: Arc<watch::Sender<usize>>,
}

/// The other end of a [`Drain`]. When it is dropped, all connections end.
pub struct DrainControl {
    ending: watch::Sender<Ending>,
    drain: Drain,
}

/// How connections are to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ending {
    NotYet,
    AfterTheAnswer,
    AtOnce,
}

/// A connection that a [`DrainControl`] waits for, until this is dropped.
pub struct Open(Arc<watch::Sender<usize>>);

impl DrainControl {
    /// For any number of connections.
    pub fn new() -> DrainControl {
        let (ending, receiver) = watch::channel(Ending::NotYet);
        DrainControl {
            ending,
            drain: Drain {
                ending: receiver,
                open: Arc::new(watch::Sender::new(0)),
            },
        }
    }

    /// The end that connections hold.
    pub fn drain(&self) -> Drain {
        self.drain.clone()
    }

    /// Tells all connections to end: idle ones at once, busy ones after their answer.
    pub fn end(&self) {
        self.ending.send_replace(Ending::AfterTheAnswer);
    }

    /// Cuts all connections off, whatever they are doing.
    pub fn cut(&self) {
        self.ending.send_replace(Ending::AtOnce);
    }

    /// Returns when all connections have ended.
    pub async fn ended(&self) {
        // Can't fail: the sender is held here.
        let _ = self
            .drain
            .open
            .subscribe()
            .wait_for(|open| *open == 0)
            .await;
    }
}

impl Default for DrainControl {
    fn default() -> Self {
        DrainControl::new()
    }
}

impl Drain {
    /// Counts one more connection.
    pub(self) fn open(&self) -> Open {
        self.open.send_modify(|open| *open += 1);
        Open(Arc::clone(&self.open))
    }

    /// Returns when connections are to end.
    async fn ending(&mut self) {
        // An error means that the control is gone, which is an end too.
        let _ = self
            .ending
            .wait_for(|ending| *ending != Ending::NotYet)
            .await;
    }

    /// Returns when connections are cut off. Where the control is gone they are not: it may have been dropped after it told
    /// them to end after their answer.
    async fn cut_off(&mut self) {
        if self
            .ending
            .wait_for(|ending| *ending == Ending::AtOnce)
            .await
            .is_err()
        {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}
