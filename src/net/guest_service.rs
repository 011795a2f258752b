//! What the network asks of the guest plane: for each connection, and for each request.

use std::pin::Pin;
use std::sync::atomic::AtomicU64;

use super::guest_turns::GuestTurns;
use super::limits::Limits;
use super::slots::ConnectionSlot;
use crate::http::{RawRequest, Reply, UnreadableRequest};
use crate::instance::HopLimit;
use crate::origin::{Holder, Origin};

/// What answers guests.
pub(crate) trait GuestService: Send + Sync {
    /// Identifies the launch that a new connection belongs to, and takes one of its slots. `None`
    /// when no instance is served there, or when the guest gets no slot: the connection is reset.
    fn accept(&self, origin: &Origin) -> Option<AcceptedConnection>;

    /// Begins the turn of one request, before its body is read. `None` is silence: the connection
    /// ends without a byte.
    fn turn<'a>(&'a self, origin: &'a Origin) -> Option<Box<dyn GuestTurn + 'a>>;

    /// Calls `work` with the turn of one request that is complete. Silence is no call.
    fn in_turn(&self, origin: &Origin, work: &mut dyn FnMut(&dyn GuestTurn)) {
        if let Some(turn) = self.turn(origin) {
            work(&*turn);
        }
    }
}

/// A connection that a service accepted.
pub(crate) struct AcceptedConnection {
    /// The launch that the connection belongs to.
    pub holder: Holder,
    /// Its slot.
    pub slot: ConnectionSlot,
}

/// One request's turn, on one state of the registry.
pub(crate) trait GuestTurn: Send {
    /// Returns the hop limit of any answer to a request with this method; `None` for the system's
    /// default. It is needed before the body is read, because the parser may then write
    /// `100 Continue`.
    fn hop_limit(&self, method: &str) -> Option<HopLimit>;

    /// Returns whether an operator injected faults into the answers of this instance. It is cheap.
    fn has_faults(&self) -> bool {
        false
    }

    /// Returns what the answer has to wait for; `None` if it can be given at once. The slow path
    /// calls it once for a request, before its answer.
    fn waits(&self, request: RawRequest<'_>) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>>;

    /// Returns the answer. `None` is silence: the connection ends without a byte.
    fn answer(&self, request: RawRequest<'_>) -> Option<Reply<'_>>;

    /// Returns whether only the first half of the answer's bytes is sent. Then the connection ends.
    fn is_cut(&self) -> bool {
        false
    }

    /// Returns the answer to a request beyond the guest's request rate. `None` is silence.
    fn throttle(&self, request: RawRequest<'_>) -> Option<Reply<'_>>;

    /// Returns the answer to a request that the parser cannot read.
    fn refuse(&self, reason: UnreadableRequest) -> Option<Reply<'_>>;
}

/// What all requests of a connection need.
#[derive(Clone, Copy)]
pub(super) struct RequestContext<'c> {
    pub(super) origin: &'c Origin,
    pub(super) service: &'c dyn GuestService,
    pub(super) limits: Limits,
    pub(super) slot: &'c ConnectionSlot,
    pub(super) turns: &'c GuestTurns<'c>,
    /// How many requests the fast path answered.
    pub(super) answers: &'c AtomicU64,
}
