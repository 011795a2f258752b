//! The gate. Metadata options are interpreted here and nowhere else, before any path is looked at.
//!
//! What it lets through is an [`Admitted`], whose fields only this file can fill: the tree and the token authority take
//! nothing else, so a way around the gate does not compile.
//!
//! The order of the checks is part of what a guest can see (EC2's where it is known):
//!
//! 1. the instance is running: an origin without a running instance gets no answer at all
//! 2. HttpProtocolIpv6: disabled means that nobody answers there
//! 3. HttpEndpoint: disabled answers everything with 403, before the request is read at all
//! 4. a PUT is 403 unless it is for exactly `/latest/api/token` and comes neither through a proxy nor from a browser
//! 5. the method: 405, on the token path for everything but PUT and OPTIONS
//! 6. the token: a bad one is 401 whether or not one is needed, as the header alone makes it an IMDSv2 request
//! 7. HttpTokens: required without a token is 401
//!
//! What a guest is told is less than what we know: a [`Denial`] keeps both, and its `Display` is for operators only.

pub mod token;

use std::fmt;

use crate::clock::Moment;
use crate::guest::gate::token::{TokenAuthority, TtlSeconds};
use crate::guest::request::{Header, Method, Presence, Request};
use crate::instance::{HopLimit, HttpTokens, Instance, Switch};
use crate::origin::Family;
use crate::registry::Entry;

/// The only path that issues tokens, to the byte.
pub const TOKEN_PATH: &str = "/latest/api/token";

/// Proof that a request passed the gate, with the terms on which it did.
#[derive(Debug)]
pub struct Admitted<'s, Terms> {
    entry: &'s Entry,
    terms: Terms,
}

/// The terms of a read.
#[derive(Debug)]
pub struct Reading {
    delivery: Delivery,
    tags: Switch,
}

/// The terms of a token request.
#[derive(Debug)]
pub struct Issuing {
    ttl: TtlSeconds,
}

/// Which protocol version a read uses. Role credentials differ between the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Without a token: IMDSv1, role delivery 1.0.
    V1,
    /// With a valid token: IMDSv2, role delivery 2.0.
    V2 {
        /// What the token has left, in seconds, rounded up: 1 to 21600.
        remaining: u32,
    },
}

/// What an admitted request may do next.
#[derive(Debug)]
pub enum Admission<'s> {
    /// Read the tree.
    Read(Admitted<'s, Reading>),
    /// Be issued a token.
    Issue(Admitted<'s, Issuing>),
    /// Be told which methods the path has.
    Methods(Allow),
}

/// The value of an `Allow` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allow {
    /// `OPTIONS, PUT`: the token path.
    TokenPath,
    /// `GET, HEAD, OPTIONS`: everything else.
    DataPath,
}

/// Why a request did not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// No answer: the connection ends.
    Silence(Silent),
    /// 400: the TTL of a token request is missing, repeated, or not 1 to 21600.
    BadTtl,
    /// 401: no token where one is needed.
    TokenRequired,
    /// 401: a token that is not ours, not this instance's, of another launch, or expired.
    BadToken,
    /// 403: HttpEndpoint is disabled.
    EndpointDisabled,
    /// 403: a PUT that may not have a token, or a token that came by a proxy.
    Forbidden(Forbidden),
    /// 405
    MethodNotAllowed(Allow),
}

/// Why nobody answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silent {
    /// The instance is stopped or terminated.
    NotRunning,
    /// HttpProtocolIpv6 is disabled.
    Ipv6Disabled,
}

/// Why a request is forbidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forbidden {
    /// A PUT to anything but the token path.
    OtherPath,
    /// It came through a proxy: X-Forwarded-For.
    Proxied,
    /// A browser sent it: Origin, Referer or Sec-Fetch.
    Browser,
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Denial::Silence(Silent::NotRunning) => "the instance is not running, so nobody is answered for it",
            Denial::Silence(Silent::Ipv6Disabled) => "HttpProtocolIpv6 is disabled",
            Denial::EndpointDisabled => "HttpEndpoint is disabled",
            Denial::Forbidden(Forbidden::OtherPath) => "a PUT is for exactly /latest/api/token",
            Denial::Forbidden(Forbidden::Proxied) => "it came through a proxy (X-Forwarded-For)",
            Denial::Forbidden(Forbidden::Browser) => {
                "a browser sends such a PUT (Origin, Referer, Sec-Fetch-…), and guest.refuse_rebinding is on"
            }
            Denial::BadTtl => "X-aws-ec2-metadata-token-ttl-seconds stands there once and is 1 to 21600",
            Denial::MethodNotAllowed(Allow::TokenPath) => "the token path takes PUT and OPTIONS",
            Denial::MethodNotAllowed(Allow::DataPath) => "metadata is read by GET, HEAD and OPTIONS",
            Denial::BadToken => {
                "the session token is not this instance's, of an earlier launch, expired, or stands there twice"
            }
            Denial::TokenRequired => "HttpTokens is required, and there is no session token",
        })
    }
}

/// An instance that answers requests of one family, whatever they ask: steps 1 to 3, for which no request is looked at.
#[derive(Debug)]
pub struct Open<'s> {
    entry: &'s Entry,
}

/// Decides whether an instance answers on this family at all.
pub fn open(entry: &Entry, family: Family) -> Result<Open<'_>, Denial> {
    // 1. and 2. Its state, and the address family.
    check_family(&entry.instance, family).map_err(Denial::Silence)?;

    // 3. The endpoint.
    match entry.instance.metadata_options.http_endpoint {
        Switch::Enabled => Ok(Open { entry }),
        Switch::Disabled => Err(Denial::EndpointDisabled),
    }
}

/// Steps 1 and 2. The IPv6 listener closes too; step 2 covers connections that were open when it did.
fn check_family(instance: &Instance, family: Family) -> Result<(), Silent> {
    if !instance.state.is_active() {
        return Err(Silent::NotRunning);
    }
    match (family, instance.metadata_options.http_protocol_ipv6) {
        (Family::Ipv4, _) | (Family::Ipv6, Switch::Enabled) => Ok(()),
        (Family::Ipv6, Switch::Disabled) => Err(Silent::Ipv6Disabled),
    }
}

/// Decides about one request to an instance that is open.
pub fn admit<'s>(
    Open { entry }: Open<'s>,
    request: &Request<'_>,
    tokens: &TokenAuthority,
    now: Moment,
) -> Result<Admission<'s>, Denial> {
    let options = &entry.instance.metadata_options;

    // 4. and 5. Token requests, and methods.
    let on_token_path = request.path == TOKEN_PATH;
    let allow = if on_token_path {
        Allow::TokenPath
    } else {
        Allow::DataPath
    };
    match request.method {
        Method::Put => {
            if !on_token_path {
                return Err(Denial::Forbidden(Forbidden::OtherPath));
            }
            if request.forwarded_for == Presence::Present {
                return Err(Denial::Forbidden(Forbidden::Proxied));
            }
            if request.browser == Presence::Present {
                return Err(Denial::Forbidden(Forbidden::Browser));
            }
            let Header::Once(ttl) = request.ttl_seconds else {
                return Err(Denial::BadTtl);
            };
            let ttl = TtlSeconds::parse(ttl).ok_or(Denial::BadTtl)?;
            return Ok(Admission::Issue(Admitted {
                entry,
                terms: Issuing { ttl },
            }));
        }
        Method::Options => return Ok(Admission::Methods(allow)),
        Method::Get | Method::Head if !on_token_path => {}
        Method::Get | Method::Head | Method::Other => return Err(Denial::MethodNotAllowed(allow)),
    }

    // 6. and 7. The token.
    let delivery = match (request.token, options.http_tokens) {
        // A proxy that forwards somebody's token: seen as 403 on EC2.
        (Header::Once(_), _) if request.forwarded_for == Presence::Present => {
            return Err(Denial::Forbidden(Forbidden::Proxied));
        }
        (Header::Once(token), _) => {
            let remaining = tokens.verify(token, entry, now).ok_or(Denial::BadToken)?;
            Delivery::V2 { remaining }
        }
        (Header::Repeated, _) => return Err(Denial::BadToken),
        (Header::Absent, HttpTokens::Optional) => Delivery::V1,
        (Header::Absent, HttpTokens::Required) => return Err(Denial::TokenRequired),
    };
    Ok(Admission::Read(Admitted {
        entry,
        terms: Reading {
            delivery,
            tags: options.instance_metadata_tags,
        },
    }))
}

/// The hop limit of whatever answers a PUT of this instance, refusals included.
pub fn put_response_hop_limit(entry: &Entry) -> HopLimit {
    entry.instance.metadata_options.http_put_response_hop_limit
}

/// Whether a read without a token can succeed at all. Where it can't, credentials for such reads are not even fetched.
pub fn reads_without_token(entry: &Entry) -> bool {
    entry.instance.metadata_options.http_tokens == HttpTokens::Optional
}

/// Whether a listener of this family is to be open for the instance. A disabled endpoint still listens: it answers 403.
pub fn listens(entry: &Entry, family: Family) -> bool {
    listens_for(&entry.instance, family)
}

/// The same for an instance that is not in the registry: host checks and guest rules read documents.
pub fn listens_for(instance: &Instance, family: Family) -> bool {
    check_family(instance, family).is_ok()
}

impl<'s, Terms> Admitted<'s, Terms> {
    /// The instance that was admitted.
    pub fn entry(&self) -> &'s Entry {
        self.entry
    }
}

impl Admitted<'_, Reading> {
    /// Which protocol version the read uses.
    pub fn delivery(&self) -> Delivery {
        self.terms.delivery
    }

    /// Whether tags may be shown (InstanceMetadataTags).
    pub fn tags(&self) -> Switch {
        self.terms.tags
    }
}

impl Admitted<'_, Issuing> {
    /// How long the token may live.
    pub fn ttl(&self) -> TtlSeconds {
        self.terms.ttl
    }
}

impl Delivery {
    /// What the request's token has left; `None` when it had none.
    pub fn remaining(self) -> Option<u32> {
        match self {
            Delivery::V1 => None,
            Delivery::V2 { remaining } => Some(remaining),
        }
    }
}

impl Allow {
    /// The header's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Allow::TokenPath => "OPTIONS, PUT",
            Allow::DataPath => "GET, HEAD, OPTIONS",
        }
    }
}
