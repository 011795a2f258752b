//! Connects the guest plane to the network: the answers to what `net` asks for each connection and
//! each request.

use std::sync::Arc;

use crate::clock::Moment;
use crate::daemon::connection_limits::ConnectionLimits;
use crate::guest::gate;
use crate::guest::{Guest, Turn};
use crate::http::{RawRequest, Reply};
use crate::instance::HopLimit;
use crate::net::connection::{AcceptedConnection, GuestService, GuestTurn};
use crate::origin::Origin;
use crate::registry::Registry;

/// The guest plane, and what it needs to serve connections.
pub(super) struct GuestPlane {
    pub(super) guest: Guest,
    pub(super) registry: Arc<Registry>,
    pub(super) connection_limits: Arc<ConnectionLimits>,
}

impl GuestService for GuestPlane {
    fn accept(&self, origin: &Origin) -> Option<AcceptedConnection> {
        let snapshot = self.registry.snapshot();
        let entry = snapshot
            .at(origin)
            .filter(|entry| gate::listens(entry, origin.family))?;
        let slots = self.connection_limits.of(&entry.instance.instance_id);
        Some(AcceptedConnection {
            holder: entry.holder(),
            slot: slots.take()?,
        })
    }

    fn turn<'a>(&'a self, origin: &'a Origin) -> Option<Box<dyn GuestTurn + 'a>> {
        let turn = self.guest.turn(origin)?;
        Some(Box::new(turn))
    }
}

/// The clock and the random source of the guest plane.
impl GuestTurn for Turn<'_> {
    fn hop_limit(&self, method: &str) -> Option<HopLimit> {
        Turn::hop_limit(self, method)
    }

    fn answer(&self, request: RawRequest<'_>) -> Option<Reply> {
        Turn::answer(self, request, Moment::now(), rand::random())
    }
}
