//! What was decided about a request: more than the guest learns from the reply.

use std::fmt;

use crate::guest::gate::Denial;
use crate::guest::request::Malformed;

/// The decision about one request. `Display` is for operators, never for guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The gate denied it.
    Denied(Denial),
    /// It has no single meaning.
    Malformed(Malformed),
    /// It was admitted, and the instance has something at its path.
    Read,
    /// It was admitted, and the instance has nothing at its path.
    NotFound,
    /// It was admitted, and a session token was issued.
    Issued,
    /// It asked for the methods of its path.
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
            Verdict::Methods => f.write_str("OPTIONS lists the methods of a path for any caller"),
        }
    }
}
