//! A request's visit to the gate: the rules of the metadata options, in their order.

use std::sync::Arc;

use crate::clock::Moment;
use crate::guest::gate::admitted::{Admission, Admitted, ReadTerms, TokenTerms};
use crate::guest::gate::denial::{Allow, Denial, ForbiddenReason, SilenceReason};
use crate::guest::gate::token::TokenAuthority;
use crate::guest::gate::ttl::TtlSeconds;
use crate::guest::request::{GuestRequest, Header, HeaderPresence, Method};
use crate::instance::{HopLimit, HttpTokens, Instance, InstanceId, RoleDelivery, Switch};
use crate::origin::Family;
use crate::registry::Entry;

/// The only path that issues tokens, to the byte.
pub const TOKEN_PATH: &str = "/latest/api/token";

/// The visit of one request to the gate of one instance. It keeps the entry of one snapshot and the
/// outcome of the checks that need no request (1 to 3).
#[derive(Debug)]
pub struct Visit {
    entry: Arc<Entry>,
    denial: Option<Denial>,
}

impl Visit {
    /// Decides whether the instance answers requests of this family at all.
    pub fn new(entry: Arc<Entry>, family: Family) -> Visit {
        let denial = check_instance(&entry.instance, family).err();
        Visit { entry, denial }
    }

    /// Returns the denial that any request gets here; `None` when the request itself decides.
    pub fn denial(&self) -> Option<Denial> {
        self.denial
    }

    /// Returns the denial that any request gets here beyond the guest's request rate.
    pub fn throttle(&self) -> Denial {
        self.denial.unwrap_or(Denial::Throttled)
    }

    /// Returns the identity document of the instance.
    pub(crate) fn identity_document(&self) -> &str {
        &self.entry.identity_document
    }

    /// Returns the instance that is visited, for logs.
    pub fn instance_id(&self) -> &InstanceId {
        &self.entry.instance.instance_id
    }

    /// Returns the hop limit of any answer to a request with this method, denials included; `None`
    /// for the system's default. Only answers to PUT are limited.
    pub fn hop_limit(&self, method: &str) -> Option<HopLimit> {
        let options = &self.entry.instance.metadata_options;
        (method == "PUT").then_some(options.http_put_response_hop_limit)
    }

    /// Decides about one request.
    pub fn admit(
        &self,
        request: &GuestRequest<'_>,
        tokens: &TokenAuthority,
        now: Moment,
    ) -> Result<Admission<'_>, Denial> {
        // 1. to 3. were decided without the request, and 4. by the connection.
        if let Some(denial) = self.denial {
            return Err(denial);
        }

        // 5. and 6. Token requests, and methods.
        let allow = match request.path {
            TOKEN_PATH => Allow::TokenPath,
            _ => Allow::DataPath,
        };
        match (request.method, allow) {
            (Method::Put, _) => self.admit_put(request, allow),
            (Method::Options, _) => Ok(Admission::Methods(allow)),
            (Method::Get | Method::Head, Allow::DataPath) => self.admit_read(request, tokens, now),
            (Method::Get | Method::Head, Allow::TokenPath) | (Method::Other, _) => {
                Err(Denial::MethodNotAllowed(allow))
            }
        }
    }

    fn admit_put(&self, request: &GuestRequest<'_>, allow: Allow) -> Result<Admission<'_>, Denial> {
        if allow != Allow::TokenPath {
            return Err(Denial::Forbidden(ForbiddenReason::OtherPath));
        }
        if request.forwarded_for == HeaderPresence::Present {
            return Err(Denial::Forbidden(ForbiddenReason::Proxied));
        }
        if request.browser == HeaderPresence::Present {
            return Err(Denial::Forbidden(ForbiddenReason::Browser));
        }
        let Header::Once(ttl) = request.ttl_seconds else {
            return Err(Denial::BadTtl);
        };
        let ttl = TtlSeconds::parse(ttl).ok_or(Denial::BadTtl)?;
        Ok(Admission::Issue(Admitted {
            entry: &self.entry,
            terms: TokenTerms { ttl },
        }))
    }

    /// Checks 7 and 8: the token, and HttpTokens.
    fn admit_read(
        &self,
        request: &GuestRequest<'_>,
        tokens: &TokenAuthority,
        now: Moment,
    ) -> Result<Admission<'_>, Denial> {
        let options = &self.entry.instance.metadata_options;
        let remaining = match (request.token, options.http_tokens) {
            // A proxy that forwards a client's token: observed as 403 on EC2.
            (Header::Once(_), _) if request.forwarded_for == HeaderPresence::Present => {
                return Err(Denial::Forbidden(ForbiddenReason::Proxied));
            }
            (Header::Once(token), _) => {
                let remaining = tokens.verify(token, &self.entry, now);
                Some(remaining.ok_or(Denial::BadToken)?)
            }
            (Header::Repeated, _) => return Err(Denial::BadToken),
            (Header::Absent, HttpTokens::Optional) => None,
            (Header::Absent, HttpTokens::Required) => return Err(Denial::TokenRequired),
        };
        Ok(Admission::Read(Admitted {
            entry: &self.entry,
            terms: ReadTerms {
                remaining,
                tags: options.instance_metadata_tags,
            },
        }))
    }
}

/// Checks 1 to 3, which need no request.
fn check_instance(instance: &Instance, family: Family) -> Result<(), Denial> {
    // 1. and 2. The state and the address family.
    check_family(instance, family).map_err(Denial::Silence)?;

    // 3. The endpoint.
    match instance.metadata_options.http_endpoint {
        Switch::Enabled => Ok(()),
        Switch::Disabled => Err(Denial::EndpointDisabled),
    }
}

/// Checks 1 and 2. The IPv6 listener closes too; check 2 is for connections that were open when it
/// closed.
fn check_family(instance: &Instance, family: Family) -> Result<(), SilenceReason> {
    if !instance.state.is_active() {
        return Err(SilenceReason::NotRunning);
    }
    match (family, instance.metadata_options.http_protocol_ipv6) {
        (Family::Ipv4, _) | (Family::Ipv6, Switch::Enabled) => Ok(()),
        (Family::Ipv6, Switch::Disabled) => Err(SilenceReason::Ipv6Disabled),
    }
}

/// Returns whether the instance needs an open listener of this family. A disabled endpoint still
/// listens: it answers 403.
pub fn listens(entry: &Entry, family: Family) -> bool {
    listens_for(&entry.instance, family)
}

/// Returns the same for an instance that is not registered: host checks and guest rules read
/// documents.
pub fn listens_for(instance: &Instance, family: Family) -> bool {
    check_family(instance, family).is_ok()
}

/// Returns the deliveries in which guests can read the credentials of the instance's role; none
/// without an instance profile that has a role.
///
/// Credentials for reads without a token exist only if the role has them (`V1`) and HttpTokens
/// allows such reads. Otherwise they are not even fetched.
pub fn role_deliveries(entry: &Entry) -> &'static [RoleDelivery] {
    let instance = &entry.instance;
    let (Some(_), Some(role)) = (&instance.iam_instance_profile, &instance.imds.role) else {
        return &[];
    };
    match (role.v1, instance.metadata_options.http_tokens) {
        (Switch::Enabled, HttpTokens::Optional) => &[RoleDelivery::V1, RoleDelivery::V2],
        (Switch::Disabled, _) | (_, HttpTokens::Required) => &[RoleDelivery::V2],
    }
}
