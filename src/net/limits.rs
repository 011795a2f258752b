//! What every connection is held to.

use std::time::Duration;

/// The limits of the connections of one listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// How long a request head may take, counted from the connection's start or from the last
    /// answer. A body may take as long again.
    pub head: Duration,
    /// How many of the host's own routers are between the socket and the guest. Each one uses one
    /// of a packet's hops.
    pub extra_hops: u8,
    /// What happens to the last answer of a connection.
    pub delivery: Delivery,
    /// Whether ordinary requests are answered without an HTTP library.
    pub fast_path: FastPath,
}

/// What happens to the last answer of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// The kernel delivers it after the socket was closed.
    ByKernel,
    /// The socket stays open until the guest has it. A socket that is bound to an interface needs
    /// that: once it was closed, the kernel would go on sending, through whatever interface has
    /// this one's number by then.
    Awaited,
}

/// Whether ordinary requests are answered without an HTTP library. Both ways give the same answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FastPath {
    /// They are.
    On,
    /// Every request takes the slow path: to find out which of the two has a fault.
    Off,
}

/// The largest request head, in bytes.
pub(crate) const MAX_HEAD_BYTES: usize = 8192;
/// The most header lines in a head.
pub(crate) const MAX_HEADERS: usize = 64;
/// How long a connection may live, kept alive or not.
pub(crate) const CONNECTION_AGE: Duration = Duration::from_secs(60);
/// How long the last answer of a connection may take when the connection has to end.
pub(super) const ENDING: Duration = Duration::from_secs(5);
/// How long an answer may make no progress when the daemon ends: its peer does not read.
pub(super) const STALLED: Duration = Duration::from_millis(250);
/// How long the kernel retransmits what the peer does not acknowledge. Without this, an answer
/// beyond its hop limit would be retransmitted for minutes.
pub(crate) const UNDELIVERABLE: Duration = Duration::from_secs(5);
