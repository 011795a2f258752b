//! The gate. It alone interprets metadata options, before any path is looked up.
//!
//! What it lets through is an [`Admitted`], whose fields only the gate can fill. The tree and the
//! token authority take nothing else, so code that bypasses the gate does not compile
//! (tests/compile_fail).
//!
//! A guest can observe the order of the checks (EC2's order, where it is known):
//!
//! 1. The instance is running. An origin without a running instance gets no answer at all.
//! 2. HttpProtocolIpv6. Disabled means no answer by IPv6.
//! 3. HttpEndpoint. Disabled means 403 to everything, before the request is read.
//! 4. The guest's request rate. Beyond it everything is 503, whatever is requested.
//! 5. A PUT is 403 unless it is for exactly `/latest/api/token` and comes neither through a proxy
//!    nor from a browser.
//! 6. The method. On the token path everything except PUT and OPTIONS is 405.
//! 7. The token. A bad token is 401 even if no token is required, because the header alone makes
//!    the request an IMDSv2 request.
//! 8. HttpTokens. Required without a token is 401.
//!
//! Checks 1 to 3 need no request: they are the first half, done by [`Visit::new`]. Check 4 needs the
//! connection's turn and is [`Visit::throttle`]. Checks 5 to 8 are [`Visit::admit`]. A guest learns less than we know: a [`Denial`] keeps both, and its
//! `Display` is for operators only.

mod admitted;
mod denial;
mod key_ring;
mod token;
mod ttl;
mod visit;

pub use admitted::{Admission, Admitted, ReadTerms, TokenTerms};
pub use denial::{Allow, Denial, ForbiddenReason, SilenceReason};
pub use key_ring::{KeyMaterial, KeyRing, TokenKey};
pub use token::{Token, TokenAuthority, issue};
pub use ttl::{MAX_TTL_SECONDS, TtlSeconds};
pub use visit::{TOKEN_PATH, Visit, listens, listens_for, role_deliveries};
