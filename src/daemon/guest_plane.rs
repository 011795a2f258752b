//! Connects the guest plane to the network: the answers to what `net` asks for each connection and
//! each request.

use std::cell::OnceCell;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use crate::clock::Moment;
use crate::daemon::background::AwaitedSignatures;
use crate::daemon::connection_limits::ConnectionLimits;
use crate::daemon::refused_hosts::RefusedHosts;
use crate::guest::gate;
use crate::guest::{Guest, Turn};
use crate::http::{RawRequest, Reply, UnreadableRequest};
use crate::instance::HopLimit;
use crate::instance::events::injected_fault::FaultAnswer;
use crate::lab::{FaultEffect, InjectedFaults, InstanceFaults};
use crate::net::guest_service::{AcceptedConnection, GuestService, GuestTurn};
use crate::origin::Origin;
use crate::registry::Registry;

/// The guest plane, and what it needs to serve connections.
pub(super) struct GuestPlane {
    pub(super) guest: Guest,
    pub(super) registry: Arc<Registry>,
    pub(super) connection_limits: Arc<ConnectionLimits>,
    pub(super) awaited: Arc<AwaitedSignatures>,
    pub(super) refused_hosts: RefusedHosts,
    pub(super) injected_faults: Arc<InjectedFaults>,
}

impl GuestService for GuestPlane {
    fn accept(&self, origin: &Origin) -> Option<AcceptedConnection> {
        let entry = self.registry.entry_at(origin)?;
        if !gate::listens(&entry, origin.family) {
            return None;
        }
        let id = &entry.instance.instance_id;
        Some(AcceptedConnection {
            holder: entry.holder(),
            slot: self.connection_limits.take(id, Moment::now())?,
        })
    }

    fn turn<'a>(&'a self, origin: &'a Origin) -> Option<Box<dyn GuestTurn + 'a>> {
        let turn = self.guest.turn(origin)?;
        Some(Box::new(PlaneTurn {
            faults: self.injected_faults.of(turn.instance_id()),
            effect: OnceCell::new(),
            turn,
            origin,
            plane: self,
        }))
    }

    fn in_turn(&self, origin: &Origin, work: &mut dyn FnMut(&dyn GuestTurn)) {
        if let Some(turn) = self.guest.turn(origin) {
            work(&PlaneTurn {
                faults: self.injected_faults.of(turn.instance_id()),
                effect: OnceCell::new(),
                turn,
                origin,
                plane: self,
            });
        }
    }
}

/// A turn of the guest plane with its clock, its random source, and what it may wait for.
struct PlaneTurn<'a> {
    turn: Turn<'a>,
    origin: &'a Origin,
    plane: &'a GuestPlane,
    /// The faults that were injected into the instance.
    faults: Option<Arc<InstanceFaults>>,
    /// What they do to this request: decided once.
    effect: OnceCell<FaultEffect>,
}

impl PlaneTurn<'_> {
    fn fault_effect(&self, request: RawRequest<'_>) -> FaultEffect {
        let Some(faults) = &self.faults else {
            return FaultEffect::default();
        };
        *self.effect.get_or_init(|| {
            let path = self.turn.path_below_version(request);
            let now = (Moment::now().wall, Instant::now());
            faults.effect(path.as_deref(), now, rand::random)
        })
    }

    /// Returns when the signatures that the request may read exist.
    fn waits_for_signatures(
        &self,
        request: RawRequest<'_>,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        let (id, document) = self.turn.unsigned_document(&request)?;
        let (id, document) = (id.clone(), document.to_string());
        let awaited = Arc::clone(&self.plane.awaited);
        Some(async move { awaited.wait(id, document).await })
    }
}

impl GuestTurn for PlaneTurn<'_> {
    fn hop_limit(&self, method: &str) -> Option<HopLimit> {
        self.turn.hop_limit(method)
    }

    fn has_faults(&self) -> bool {
        self.faults.is_some()
    }

    fn waits(&self, request: RawRequest<'_>) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        let delay = self.fault_effect(request).delay;
        let signatures = self.waits_for_signatures(request);
        if delay.is_zero() {
            return Some(Box::pin(signatures?));
        }
        Some(Box::pin(async move {
            tokio::time::sleep(delay).await;
            if let Some(signatures) = signatures {
                signatures.await;
            }
        }))
    }

    fn answer(&self, request: RawRequest<'_>) -> Option<Reply<'_>> {
        // Only a PUT can get a token, which needs random bytes.
        let nonce = match request.method {
            "PUT" => rand::random(),
            _ => Default::default(),
        };
        let reply = self.turn.answer(request, Moment::now(), nonce);
        // 400 is the status of a foreign Host, so other requests are not read a second time.
        if reply.as_ref().is_some_and(|reply| reply.status == 400)
            && let Some((instance, host)) = self.turn.foreign_host(request)
        {
            self.plane.refused_hosts.warn(instance, self.origin, host);
        }
        match self.fault_effect(request).answer {
            None | Some(FaultAnswer::Cut) => reply,
            Some(FaultAnswer::Drop) => None,
            Some(FaultAnswer::Status(status)) => {
                reply.map(|_| self.turn.fail(request, status, Moment::now()))
            }
        }
    }

    fn is_cut(&self) -> bool {
        let effect = self.effect.get();
        effect.is_some_and(|effect| effect.answer == Some(FaultAnswer::Cut))
    }

    fn throttle(&self, request: RawRequest<'_>) -> Option<Reply<'_>> {
        let now = Moment::now();
        let limits = &self.plane.connection_limits;
        limits.note_refused(self.turn.instance_id(), now);
        self.turn.throttle(request, now)
    }

    fn refuse(&self, reason: UnreadableRequest) -> Option<Reply<'_>> {
        self.turn.refuse(reason, Moment::now())
    }
}
