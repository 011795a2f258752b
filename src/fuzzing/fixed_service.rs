//! What answers guests in fuzz targets: the fixed plane, at its fixed moment.

use std::pin::Pin;

use crate::guest::Turn;
use crate::guest::fuzzing::{GUARDED, NONCE, plane};
use crate::http::{RawRequest, Reply, UnreadableRequest};
use crate::instance::HopLimit;
use crate::net::guest_service::{AcceptedConnection, GuestService, GuestTurn};
use crate::origin::Origin;

/// Returns the input with a valid token of the guest whose tokens are required in place of every
/// `{token}`.
pub(super) fn with_tokens(data: &[u8]) -> Vec<u8> {
    let token = plane().token(GUARDED, 60, NONCE);
    replace(data, b"{token}", token.as_bytes())
}

fn replace(data: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(data.len());
    let mut rest = data;
    while let Some((first, after)) = rest.split_first() {
        match rest.strip_prefix(from) {
            Some(after) => {
                replaced.extend_from_slice(to);
                rest = after;
            }
            None => {
                replaced.push(*first);
                rest = after;
            }
        }
    }
    replaced
}

/// The fixed plane.
pub(super) struct FixedService;

impl GuestService for FixedService {
    fn accept(&self, _: &Origin) -> Option<AcceptedConnection> {
        None
    }

    fn turn<'a>(&'a self, origin: &'a Origin) -> Option<Box<dyn GuestTurn + 'a>> {
        Some(Box::new(FixedTurn(plane().guest.turn(origin)?)))
    }
}

struct FixedTurn<'a>(Turn<'a>);

impl GuestTurn for FixedTurn<'_> {
    fn hop_limit(&self, method: &str) -> Option<HopLimit> {
        self.0.hop_limit(method)
    }

    fn waits(&self, _: RawRequest<'_>) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        None
    }

    fn answer(&self, request: RawRequest<'_>) -> Option<Reply<'_>> {
        self.0.answer(request, plane().now, NONCE)
    }

    fn throttle(&self, request: RawRequest<'_>) -> Option<Reply<'_>> {
        self.0.throttle(request, plane().now)
    }

    fn refuse(&self, reason: UnreadableRequest) -> Option<Reply<'_>> {
        self.0.refuse(reason, plane().now)
    }
}
