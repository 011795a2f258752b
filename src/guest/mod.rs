//! The data plane: what a guest asks, and what it is answered.
//!
//! A guest is hostile. It is recognised by where its packets came in, and it is served from memory: nothing it asks makes
//! the host do anything. The whole side is a function of (origin, request, now), so that the same function stands behind
//! sockets, tests and fuzzers.
//!
//! ```text
//! origin ─► snapshot.at ─► Request::read ─► admission::admit ─► tree::read | token::issue ─► Reply
//!             │ nobody       │ malformed       │ Denial           │ absent
//!             ▼ silence      ▼ 400 413 421     ▼ 400 401 403 405  ▼ 404
//! ```

pub mod admission;
pub mod http;
pub mod path;
pub mod reply;
pub mod request;
pub mod token;
pub mod tree;

use std::sync::Arc;

use tracing::debug;

use crate::clock::Moment;
use crate::instance::Origin;
use crate::registry::Registry;
use admission::Admission;
use reply::{Answer, Reply};
use request::{HostRule, RawRequest, Request};
use token::TokenAuthority;

/// Answers guests.
pub struct Guest {
    registry: Arc<Registry>,
    tokens: Arc<TokenAuthority>,
    hosts: HostRule,
}

impl Guest {
    /// A data plane over a registry.
    pub fn new(registry: Arc<Registry>, tokens: Arc<TokenAuthority>, hosts: HostRule) -> Guest {
        Guest { registry, tokens, hosts }
    }

    /// Answers one request.
    pub fn handle<'a>(
        &self,
        origin: &Origin,
        raw: RawRequest<'a, impl Iterator<Item = (&'a str, &'a [u8])>>,
        now: Moment,
    ) -> Answer {
        // 1. Who is asking? Nobody we know gets nothing.
        let snapshot = self.registry.snapshot();
        let Some(entry) = snapshot.at(origin) else { return Answer::Silence };

        // 2. What exactly, and may they? A PUT's answer carries the hop limit, whatever the answer is.
        let hop_limit = (raw.method == "PUT").then(|| admission::put_response_hop_limit(entry));
        let mut answer = match Request::read(raw, &self.hosts) {
            Ok(request) => {
                let answer = match admission::admit(entry, origin.family, &request, &self.tokens, now) {
                    // 3. Then the tree, or a token.
                    Ok(Admission::Read(admitted)) => match tree::read(&admitted, request.path, now) {
                        Some(value) => Reply::value(value, admitted.delivery(), now, request.connection).into(),
                        None => Reply::not_found(admitted.delivery(), now, request.connection).into(),
                    },
                    Ok(Admission::Issue(admitted)) => {
                        Reply::token(self.tokens.issue(&admitted, now, rand::random()), admitted.ttl(), now).into()
                    }
                    Ok(Admission::Methods(allow)) => Reply::methods(allow, now, request.connection).into(),
                    Err(denial) => Reply::denial(denial, now, request.connection),
                };
                debug!(instance = %entry.instance.instance_id, ?origin, method = ?request.method, %answer, "guest request");
                answer
            }
            Err(fault) => {
                debug!(instance = %entry.instance.instance_id, ?origin, ?fault, "guest request refused");
                Reply::malformed(fault, now).into()
            }
        };
        if let Answer::Reply(reply) = &mut answer {
            reply.hop_limit = hop_limit;
        }
        answer
    }
}

#[cfg(test)]
mod tests;
