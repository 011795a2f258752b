//! The data plane: what a guest asks, and what it is answered.
//!
//! A guest is hostile. It is recognised by where its packets came in, and it is served from memory: nothing it asks makes
//! the host do anything. The whole side is a function of (origin, request, now), so that the same function stands behind
//! sockets, tests and fuzzers.
//!
//! ```text
//! origin ─► snapshot.at ─► gate::open ─► Request::read ─► gate::admit ─► tree::read | token::issue ─► Reply
//!             │ nobody       │ closed            │ malformed        │ Denial            │ absent
//!             ▼ silence      ▼ silence, 403      ▼ 400 413 421      ▼ 400 401 403 405   ▼ 404
//! ```

pub mod gate;
pub mod http;
pub mod path;
pub mod reply;
pub mod request;
pub mod tree;

use std::fmt;
use std::sync::Arc;

use tracing::debug;

use crate::clock::Moment;
use crate::credentials::Cache;
use crate::guest::gate::token::TokenAuthority;
use crate::guest::gate::{Admission, Denial};
use crate::identity::SignedDocuments;
use crate::instance::HopLimit;
use crate::origin::{Family, Origin};
use crate::registry::{Entry, Registry};
use reply::{Answer, Reply};
use request::{Connection, HostRule, Malformed, RawRequest, Request};

/// Answers guests.
pub struct Guest {
    registry: Arc<Registry>,
    tokens: Arc<TokenAuthority>,
    made: Precomputed,
    hosts: HostRule,
}

/// What is made ahead of need, in the background, and only read here.
#[derive(Clone, Default)]
pub struct Precomputed {
    /// Signatures of the identity documents.
    pub signatures: Arc<SignedDocuments>,
    /// Role credentials that come from a source.
    pub credentials: Cache,
}

impl Guest {
    /// A data plane over a registry.
    pub fn new(
        registry: Arc<Registry>,
        tokens: Arc<TokenAuthority>,
        made: Precomputed,
        hosts: HostRule,
    ) -> Guest {
        Guest {
            registry,
            tokens,
            made,
            hosts,
        }
    }

    /// What is decided before a request's body is read: whether anybody is answered here, and the hop limit of the answer.
    pub fn opens(&self, origin: &Origin, method: &str) -> Option<Option<HopLimit>> {
        let snapshot = self.registry.snapshot();
        let entry = snapshot.at(origin)?;
        match gate::open(entry, origin.family) {
            Err(Denial::Silence(_)) => None,
            Ok(_) | Err(_) => Some((method == "PUT").then(|| gate::put_response_hop_limit(entry))),
        }
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
        let Some(entry) = snapshot.at(origin) else {
            return Answer::Silence;
        };
        let (verdict, answer) = self.decide(entry, origin.family, raw, now);
        debug!(instance = %entry.instance.instance_id, ?origin, %answer, ?verdict, "guest request");
        answer
    }

    /// Decides about one request to an instance: for its sender, and for an operator who asks why.
    pub fn decide<'a>(
        &self,
        entry: &Entry,
        family: Family,
        raw: RawRequest<'a, impl Iterator<Item = (&'a str, &'a [u8])>>,
        now: Moment,
    ) -> (Verdict, Answer) {
        // 2. Does the instance answer at all? A PUT's answer carries the hop limit, whatever the answer is.
        let open = gate::open(entry, family);
        let hop_limit = (raw.method == "PUT").then(|| gate::put_response_hop_limit(entry));

        // 3. What exactly is asked, and may they?
        let (verdict, mut answer) = match (open, Request::read(raw, &self.hosts)) {
            (Err(denial), request) => {
                let connection = request.map_or(Connection::Close, |request| request.connection);
                (
                    Verdict::Denied(denial),
                    Reply::denial(denial, now, connection),
                )
            }
            (Ok(_), Err(fault)) => (
                Verdict::Malformed(fault),
                Reply::malformed(fault, now).into(),
            ),
            (Ok(open), Ok(request)) => match gate::admit(open, &request, &self.tokens, now) {
                // 4. Then the tree, or a token.
                Ok(Admission::Read(admitted)) => {
                    match tree::read(&admitted, request.path, &self.made, now) {
                        Some(value) => {
                            let reply =
                                Reply::value(value, admitted.delivery(), now, request.connection);
                            (Verdict::Read, reply.into())
                        }
                        None => (
                            Verdict::NotFound,
                            Reply::not_found(admitted.delivery(), now, request.connection).into(),
                        ),
                    }
                }
                Ok(Admission::Issue(admitted)) => {
                    let token = self.tokens.issue(&admitted, now, rand::random());
                    (
                        Verdict::Issued,
                        Reply::token(token, admitted.ttl(), now).into(),
                    )
                }
                Ok(Admission::Methods(allow)) => (
                    Verdict::Methods,
                    Reply::methods(allow, now, request.connection).into(),
                ),
                Err(denial) => (
                    Verdict::Denied(denial),
                    Reply::denial(denial, now, request.connection),
                ),
            },
        };
        if let Answer::Reply(reply) = &mut answer {
            reply.hop_limit = hop_limit;
        }
        (verdict, answer)
    }
}

/// What was decided, which is more than the guest is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The gate denies it.
    Denied(Denial),
    /// It has no single meaning.
    Malformed(Malformed),
    /// It is admitted, and there is something to read.
    Read,
    /// It is admitted, and nothing has this path for this instance.
    NotFound,
    /// It is admitted, and a session token is issued.
    Issued,
    /// It is told the methods of the path.
    Methods,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Denied(denial) => denial.fmt(f),
            Verdict::Malformed(fault) => fault.fmt(f),
            Verdict::Read => f.write_str("admitted"),
            Verdict::NotFound => f.write_str("admitted, and the instance has nothing at this path"),
            Verdict::Issued => f.write_str("admitted: a session token is issued"),
            Verdict::Methods => f.write_str("the methods of a path are told to everybody"),
        }
    }
}

#[cfg(test)]
mod tests;
