//! Joins the guest plane to the network: what `net` asks of it for each connection and request.

use std::sync::Arc;

use hyper::http::request::Parts;

use crate::clock::Moment;
use crate::daemon::connection_limits::ConnectionLimits;
use crate::guest::{Guest, gate, request};
use crate::instance::HopLimit;
use crate::net::connection::{Body, GuestService, Outgoing};
use crate::net::slots::ConnectionSlots;
use crate::origin::{Holder, Origin};
use crate::registry::Registry;

/// The data plane as the network takes it.
pub(super) struct GuestPlane {
    pub(super) guest: Guest,
    pub(super) registry: Arc<Registry>,
    pub(super) connection_limits: Arc<ConnectionLimits>,
}

impl GuestService for GuestPlane {
    fn welcome(&self, origin: &Origin) -> Option<(Holder, Arc<ConnectionSlots>)> {
        let snapshot = self.registry.snapshot();
        let entry = snapshot
            .at(origin)
            .filter(|entry| gate::listens(entry, origin.family))?;
        Some((
            entry.holder(),
            self.connection_limits.of(&entry.instance.instance_id),
        ))
    }

    fn opens(&self, origin: &Origin, head: &Parts) -> Option<Option<HopLimit>> {
        self.guest.opens(origin, head.method.as_str())
    }

    fn answer(&self, origin: &Origin, head: &Parts, body: Body) -> Option<Outgoing> {
        let body = match body {
            Body::Empty => request::Body::Empty,
            Body::NotEmpty => request::Body::NotEmpty,
        };
        let (response, hop_limit) = self.guest.respond(origin, head, body, Moment::now())?;
        Some(Outgoing {
            response,
            hop_limit,
        })
    }
}
