//! What the gate lets through: proof of the admission, with the terms of it.

use crate::guest::gate::denial::Allow;
use crate::guest::gate::ttl::TtlSeconds;
use crate::instance::{RoleDelivery, Switch};
use crate::registry::Entry;

/// Proof that a request passed the gate, with the terms on which it did.
#[derive(Debug)]
pub struct Admitted<'v, Terms> {
    pub(super) entry: &'v Entry,
    pub(super) terms: Terms,
}

/// The terms of a read.
#[derive(Debug)]
pub struct ReadTerms {
    /// The remaining lifetime of the request's token; `None` without a token.
    pub(super) remaining: Option<u32>,
    pub(super) tags: Switch,
}

/// The terms of a token request.
#[derive(Debug)]
pub struct TokenTerms {
    pub(super) ttl: TtlSeconds,
}

/// What an admitted request may do next.
#[derive(Debug)]
pub enum Admission<'v> {
    /// Read the tree.
    Read(Admitted<'v, ReadTerms>),
    /// Get a session token.
    Issue(Admitted<'v, TokenTerms>),
    /// Get the list of the path's methods.
    Methods(Allow),
}

impl<'v, Terms> Admitted<'v, Terms> {
    /// Returns the instance that the request was admitted to.
    pub fn entry(&self) -> &'v Entry {
        self.entry
    }
}

impl Admitted<'_, ReadTerms> {
    /// Returns the remaining lifetime of the request's token in seconds, rounded up (1 to 21600);
    /// `None` for a request without a token.
    pub fn remaining(&self) -> Option<u32> {
        self.terms.remaining
    }

    /// Returns the protocol version of the read: role credentials differ between the two.
    pub fn delivery(&self) -> RoleDelivery {
        match self.terms.remaining {
            None => RoleDelivery::V1,
            Some(_) => RoleDelivery::V2,
        }
    }

    /// Returns whether the read may show tags (InstanceMetadataTags).
    pub fn tags(&self) -> Switch {
        self.terms.tags
    }
}

impl Admitted<'_, TokenTerms> {
    /// Returns the lifetime of the token.
    pub fn ttl(&self) -> TtlSeconds {
        self.terms.ttl
    }
}
