//! How bytes arrive: listeners, connections, their limits, and the hop limit.
//!
//! This module moves bytes and knows neither plane: what answers a request is a value it is given. It enforces what
//! belongs to a connection (how many, how long, how large, how far an answer travels) and decides nothing else.

pub mod connection;
pub mod control;
pub mod listener;
pub mod seats;
pub mod sieve;

use std::sync::Arc;
use std::time::Duration;

use seats::{Seat, Seats};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// The limits of one listener's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most connections at once.
    pub connections: usize,
    /// How long a request head may take, counted from the connection's start or from the last answer.
    pub head: Duration,
}

/// The largest request head, in bytes.
pub const LARGEST_HEAD: usize = 8192;
/// The most header lines in a head.
pub const MOST_HEADERS: usize = 64;
/// How long a connection may live, kept alive or not.
pub const CONNECTION_AGE: Duration = Duration::from_secs(60);
/// How long the kernel goes on sending what nobody acknowledges. Without it, an answer beyond its hop limit would be
/// retransmitted for minutes.
pub const UNDELIVERABLE: Duration = Duration::from_secs(5);

/// Tells connections to end, and waits for them.
#[derive(Clone)]
pub struct Drain {
    ending: watch::Receiver<bool>,
    open: Arc<Semaphore>,
    seats: Arc<Seats>,
    capacity: u32,
}

/// The other end of a [`Drain`].
pub struct DrainControl {
    ending: watch::Sender<bool>,
    drain: Drain,
}

impl DrainControl {
    /// For at most `connections` connections at once.
    pub fn new(connections: usize) -> DrainControl {
        let capacity = u32::try_from(connections.min(Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        let (ending, receiver) = watch::channel(false);
        let open = Arc::new(Semaphore::new(capacity as usize));
        DrainControl { ending, drain: Drain { ending: receiver, open, seats: Arc::default(), capacity } }
    }

    /// The end that connections hold.
    pub fn drain(&self) -> Drain {
        self.drain.clone()
    }

    /// Tells all connections to end: idle ones at once, busy ones after their answer.
    pub fn end(&self) {
        self.ending.send_replace(true);
    }

    /// Returns when all connections have ended.
    pub async fn ended(&self) {
        let _ = self.drain.open.acquire_many(self.drain.capacity).await;
    }
}

impl Drain {
    /// A place for one connection. When all are taken, the oldest one that waits for a request makes room.
    async fn seat(&self) -> (Seat, OwnedSemaphorePermit) {
        let permit = match Arc::clone(&self.open).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                self.seats.make_room();
                Arc::clone(&self.open).acquire_owned().await.expect("the semaphore is never closed")
            }
        };
        (Seats::take(&self.seats), permit)
    }

    /// Returns when connections are to end.
    async fn ending(&mut self) {
        // An error means that the control is gone, which is an end too.
        let _ = self.ending.wait_for(|ending| *ending).await;
    }
}
