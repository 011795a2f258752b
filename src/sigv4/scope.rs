//! The regions and services that a credential may be scoped to.

/// The regions that an API call may be signed for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Regions {
    /// Any region: clients sign for the region that they are configured with.
    Any,
    /// Only these regions.
    These(Vec<String>),
}

impl Regions {
    /// Returns whether a call may be signed for `region`.
    pub fn allow(&self, region: &str) -> bool {
        match self {
            Regions::Any => true,
            Regions::These(regions) => regions.iter().any(|allowed| allowed == region),
        }
    }
}

/// The credential scopes that an endpoint accepts.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// The accepted regions.
    pub regions: &'a Regions,
    /// The accepted services.
    pub services: &'a [&'a str],
}
