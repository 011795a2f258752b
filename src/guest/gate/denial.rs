//! Why a request does not pass the gate.

use std::fmt;

/// Why a request does not pass, with the status that the guest gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// No answer: the connection ends.
    Silence(SilenceReason),
    /// 400: the TTL of a token request is missing, repeated, or not 1 to 21600.
    BadTtl,
    /// 401: no token where one is required.
    TokenRequired,
    /// 401: the token is not one of ours, belongs to another instance or launch, or has expired.
    BadToken,
    /// 403: HttpEndpoint is disabled.
    EndpointDisabled,
    /// 403: a PUT that must not get a token, or a token that came through a proxy.
    Forbidden(ForbiddenReason),
    /// 405
    MethodNotAllowed(Allow),
    /// 503: the guest exceeds its request rate.
    Throttled,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SilenceReason {
    /// The instance is stopped or terminated.
    NotRunning,
    /// HttpProtocolIpv6 is disabled.
    Ipv6Disabled,
}

/// Why a request is forbidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForbiddenReason {
    /// A PUT to a path other than the token path.
    OtherPath,
    /// It came through a proxy: X-Forwarded-For.
    Proxied,
    /// A browser sent it: Origin, Referer or Sec-Fetch.
    Browser,
}

/// The value of an `Allow` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allow {
    /// `OPTIONS, PUT`: the token path.
    TokenPath,
    /// `GET, HEAD, OPTIONS`: every other path.
    DataPath,
}

impl Allow {
    /// Returns the header's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Allow::TokenPath => "OPTIONS, PUT",
            Allow::DataPath => "GET, HEAD, OPTIONS",
        }
    }
}

/// The rule in a sentence, for operators. The guest gets a status and nothing else.
impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Denial::Silence(SilenceReason::NotRunning) => {
                "the instance is not running, so its requests get no answer"
            }
            Denial::Silence(SilenceReason::Ipv6Disabled) => "HttpProtocolIpv6 is disabled",
            Denial::EndpointDisabled => "HttpEndpoint is disabled",
            Denial::Forbidden(ForbiddenReason::OtherPath) => {
                "PUT is allowed for exactly /latest/api/token"
            }
            Denial::Forbidden(ForbiddenReason::Proxied) => {
                "the request came through a proxy (X-Forwarded-For)"
            }
            Denial::Forbidden(ForbiddenReason::Browser) => {
                "a browser sent this PUT (Origin, Referer, Sec-Fetch-…), \
                 and guest.refuse_rebinding is on"
            }
            Denial::BadTtl => {
                "X-aws-ec2-metadata-token-ttl-seconds must appear exactly once, \
                 with a value from 1 to 21600"
            }
            Denial::MethodNotAllowed(Allow::TokenPath) => {
                "the token path allows PUT and OPTIONS only"
            }
            Denial::MethodNotAllowed(Allow::DataPath) => {
                "metadata paths allow GET, HEAD and OPTIONS only"
            }
            Denial::BadToken => {
                "the session token is malformed, belongs to another instance or an earlier launch, \
                 has expired, or appears twice"
            }
            Denial::Throttled => "the guest exceeds guest.requests_per_second",
            Denial::TokenRequired => "HttpTokens is required, and the request has no session token",
        })
    }
}
