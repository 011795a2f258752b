//! One request's way through the plane, on one snapshot and with one visit to the gate.

use std::sync::Arc;

use tracing::{Level, debug, enabled};

use crate::clock::Moment;
use crate::guest::gate::{self, Admission, Admitted, Denial, ReadTerms, TokenAuthority, Visit};
use crate::guest::path::DataPath;
use crate::guest::precomputed::Precomputed;
use crate::guest::reply;
use crate::guest::request::{GuestRequest, HostRule, Malformed};
use crate::guest::tree;
use crate::guest::verdict::Verdict;
use crate::http::{Connection, RawRequest, Reply, UnreadableRequest};
use crate::instance::{HopLimit, InstanceId};
use crate::origin::Origin;
use crate::registry::Registry;

/// Answers guests.
pub struct Guest {
    registry: Arc<Registry>,
    tokens: Arc<TokenAuthority>,
    precomputed: Precomputed,
    hosts: HostRule,
}

/// The turn of one request, before the request is read: the instance that answers it, as of one
/// snapshot, and the first half of the gate's decision.
pub struct Turn<'a> {
    guest: &'a Guest,
    origin: &'a Origin,
    visit: Visit,
}

/// A verdict, and what the guest gets.
#[derive(Debug)]
pub struct Decision<'a> {
    /// What was decided.
    pub verdict: Verdict,
    /// The reply; `None` is silence: the connection ends without a byte.
    pub reply: Option<Reply<'a>>,
}

impl Guest {
    /// Returns a data plane over a registry.
    pub fn new(
        registry: Arc<Registry>,
        tokens: Arc<TokenAuthority>,
        precomputed: Precomputed,
        hosts: HostRule,
    ) -> Guest {
        Guest {
            registry,
            tokens,
            precomputed,
            hosts,
        }
    }

    /// Begins the turn of a request from `origin`. `None` is silence: no instance answers there,
    /// and the connection ends without a byte.
    pub fn turn<'a>(&'a self, origin: &'a Origin) -> Option<Turn<'a>> {
        let entry = self.registry.entry_at(origin)?;
        let visit = Visit::new(entry, origin.family);
        if let Some(denial @ Denial::Silence(_)) = visit.denial() {
            log(&visit, origin, None, Verdict::Denied(denial), None);
            return None;
        }
        Some(Turn {
            guest: self,
            origin,
            visit,
        })
    }

    /// Answers one request in one call. `None` is silence.
    pub fn answer(
        &self,
        origin: &Origin,
        request: RawRequest<'_>,
        now: Moment,
        nonce: [u8; 6],
    ) -> Option<Reply<'static>> {
        let turn = self.turn(origin)?;
        turn.answer(request, now, nonce).map(Reply::into_owned)
    }

    /// Decides about one request to an instance: for its sender, and for an operator who asks why.
    pub fn decide<'a>(
        &'a self,
        visit: &'a Visit,
        raw: RawRequest<'_>,
        now: Moment,
        nonce: [u8; 6],
    ) -> Decision<'a> {
        let mut decision = match (GuestRequest::read(raw, &self.hosts), visit.denial()) {
            (Ok(request), _) => self.decide_readable(visit, &request, now, nonce),
            // A denial of the gate's first half is the answer to any request, readable or not.
            (Err(_), Some(denial)) => Decision::denied(denial, now, Connection::Close),
            (Err(fault), None) => {
                Decision::of(Verdict::Malformed(fault), reply::malformed(fault, now))
            }
        };
        // The hop limit is on every reply to a PUT, denials included.
        if let Some(reply) = &mut decision.reply {
            reply.hop_limit = visit.hop_limit(raw.method);
        }
        decision
    }

    /// Returns the path of a request without its version and without slashes at its ends; `None` if it
    /// names no known version or cannot be read.
    pub fn path_below_version(&self, request: RawRequest<'_>) -> Option<String> {
        let request = GuestRequest::read(request, &self.hosts).ok()?;
        match DataPath::parse(request.path)? {
            DataPath::Root => None,
            DataPath::Versioned(_, names) => {
                let names: Vec<_> = names.collect::<Option<_>>()?;
                Some(names.join("/"))
            }
        }
    }

    fn decide_readable<'a>(
        &'a self,
        visit: &'a Visit,
        request: &GuestRequest<'_>,
        now: Moment,
        nonce: [u8; 6],
    ) -> Decision<'a> {
        let connection = request.connection;
        match visit.admit(request, &self.tokens, now) {
            Ok(Admission::Read(admitted)) => self.read(&admitted, request, now),
            Ok(Admission::Issue(admitted)) => {
                let token = gate::issue(&self.tokens, &admitted, now, nonce);
                Decision::of(Verdict::Issued, reply::token(token, admitted.ttl(), now))
            }
            Ok(Admission::Methods(allow)) => {
                Decision::of(Verdict::Methods, reply::methods(allow, now, connection))
            }
            Err(denial) => Decision::denied(denial, now, connection),
        }
    }

    fn read<'a>(
        &'a self,
        admitted: &Admitted<'a, ReadTerms>,
        request: &GuestRequest<'_>,
        now: Moment,
    ) -> Decision<'a> {
        let (remaining, connection) = (admitted.remaining(), request.connection);
        match tree::read(admitted, request.path, &self.precomputed, now) {
            Some(content) => Decision::of(
                Verdict::Read,
                reply::content(content, remaining, now, connection),
            ),
            None => Decision::of(
                Verdict::NotFound,
                reply::not_found(remaining, now, connection),
            ),
        }
    }
}

impl Turn<'_> {
    /// Returns the hop limit of the answer to a request with this method, whatever the answer is;
    /// `None` for the system's default.
    ///
    /// It is known before the body is read, because the parser may then write `100 Continue`.
    pub fn hop_limit(&self, method: &str) -> Option<HopLimit> {
        self.visit.hop_limit(method)
    }

    /// Returns the instance that answers, for logs.
    pub fn instance_id(&self) -> &InstanceId {
        self.visit.instance_id()
    }

    /// Answers the request. `None` is silence. `nonce` is random: it makes a token unique.
    pub fn answer(
        &self,
        request: RawRequest<'_>,
        now: Moment,
        nonce: [u8; 6],
    ) -> Option<Reply<'_>> {
        let Decision { verdict, reply } = self.guest.decide(&self.visit, request, now, nonce);
        let sent = Some((request.method, request.target));
        log(&self.visit, self.origin, sent, verdict, reply.as_ref());
        reply
    }

    /// Answers a request beyond the guest's request rate. `None` is silence.
    pub fn throttle(&self, request: RawRequest<'_>, now: Moment) -> Option<Reply<'_>> {
        let denial = self.visit.throttle();
        let connection = match GuestRequest::read(request, &self.guest.hosts) {
            Ok(request) => request.connection,
            Err(_) => Connection::Close,
        };
        let Decision { verdict, mut reply } = Decision::denied(denial, now, connection);
        if let Some(reply) = &mut reply {
            reply.hop_limit = self.hop_limit(request.method);
        }
        let sent = Some((request.method, request.target));
        log(&self.visit, self.origin, sent, verdict, reply.as_ref());
        reply
    }

    /// Returns the answer to a request that an operator makes fail with this status.
    pub fn fail(&self, request: RawRequest<'_>, status: u16, now: Moment) -> Reply<'static> {
        let connection = match GuestRequest::read(request, &self.guest.hosts) {
            Ok(request) => request.connection,
            Err(_) => Connection::Close,
        };
        let mut reply = reply::error(status, now, connection);
        reply.hop_limit = self.hop_limit(request.method);
        reply
    }

    /// Returns what [`Guest::path_below_version`] returns.
    pub fn path_below_version(&self, request: RawRequest<'_>) -> Option<String> {
        self.guest.path_below_version(request)
    }

    /// Returns the instance and the Host of a request that is refused because the Host is a foreign
    /// name; `None` for any other request.
    pub fn foreign_host<'r>(&self, request: RawRequest<'r>) -> Option<(&InstanceId, &'r str)> {
        match GuestRequest::read(request, &self.guest.hosts) {
            Err(Malformed::ForeignHost) => {}
            Ok(_) | Err(_) => return None,
        }
        let (_, host) = request.headers.iter().find(|(name, _)| *name == "host")?;
        Some((self.visit.instance_id(), str::from_utf8(host).ok()?))
    }

    /// Returns the instance and its identity document if the request may read signatures that do
    /// not exist yet. Any other request is answered without a look at them.
    pub fn unsigned_document(&self, request: &RawRequest<'_>) -> Option<(&InstanceId, &str)> {
        if !may_read_identity(request.target) {
            return None;
        }
        let (id, document) = (self.visit.instance_id(), self.visit.identity_document());
        let signatures = &self.guest.precomputed.signatures;
        match signatures.read(id, document.as_bytes()) {
            Some(_) => None,
            None => Some((id, document)),
        }
    }

    /// Answers a request that the parser could not read. A denial of the gate's first half is the
    /// answer to any request. `None` is silence.
    pub fn refuse(&self, reason: UnreadableRequest, now: Moment) -> Option<Reply<'_>> {
        let fault = Malformed::Unreadable(reason);
        let Decision { verdict, reply } = match self.visit.denial() {
            Some(denial) => Decision::denied(denial, now, Connection::Close),
            None => Decision::of(Verdict::Malformed(fault), reply::malformed(fault, now)),
        };
        log(&self.visit, self.origin, None, verdict, reply.as_ref());
        reply
    }
}

impl<'a> Decision<'a> {
    fn of(verdict: Verdict, reply: Reply<'a>) -> Decision<'a> {
        Decision {
            verdict,
            reply: Some(reply),
        }
    }

    fn denied(denial: Denial, now: Moment, connection: Connection) -> Decision<'a> {
        Decision {
            verdict: Verdict::Denied(denial),
            reply: reply::denial(denial, now, connection),
        }
    }
}

/// Logs a request and the decision about it, never a header or what the guest got. `sent` is the
/// method and the target; `None` before a request was read.
fn log(
    visit: &Visit,
    origin: &Origin,
    sent: Option<(&str, &str)>,
    verdict: Verdict,
    reply: Option<&Reply<'_>>,
) {
    if !enabled!(Level::DEBUG) {
        return;
    }
    let (attachment, peer) = (origin.attachment.to_string(), origin.peer.to_string());
    let (instance, reason) = (visit.instance_id().as_str(), verdict.to_string());
    debug!(
        instance,
        attachment,
        peer,
        method = sent.map(|(method, _)| beginning(method)),
        path = sent.map(|(_, target)| beginning(target)),
        status = reply.map(|reply| reply.status),
        reason,
        "guest request"
    );
}

/// Returns whether a target has `/instance-identity` in it. Every request comes by here: a search for
/// one byte costs less than one for a word.
fn may_read_identity(target: &str) -> bool {
    const DIRECTORY: &[u8] = b"/instance-identity";
    let target = target.as_bytes();
    let mut slashes = target.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    slashes.any(|(at, _)| target[at..].starts_with(DIRECTORY))
}

/// Returns the beginning of a text that a guest chose.
fn beginning(text: &str) -> &str {
    const MAX_CHARACTERS: usize = 200;
    text.char_indices()
        .nth(MAX_CHARACTERS)
        .map_or(text, |(end, _)| &text[..end])
}
