//! Time and randomness, as arguments of the refresher.

use std::pin::Pin;
use std::time::Duration;

use crate::clock::Moment;
use jiff::Timestamp;

/// A source of time and randomness.
pub trait Clock: Send + Sync + 'static {
    /// Returns the wall clock time.
    fn now(&self) -> Timestamp;
    /// Returns a random number from 0 to 1.
    fn jitter(&self) -> f64;
    /// Waits for a duration.
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// The system's clock and random source.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Moment::now().wall
    }

    fn jitter(&self) -> f64 {
        rand::random()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(duration))
    }
}
