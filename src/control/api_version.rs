//! The versions of the EC2 API that calls may name.

/// The versions, newest first. The older ones have fewer actions, parameters and elements; what
/// they have is in the newest too, so all are answered alike. boto 2 calls 2014-10-01, and awscurl's
/// manual 2013-10-15, which is the oldest that a client in use calls.
const VERSIONS: [&str; 12] = [
    "2016-11-15",
    "2016-09-15",
    "2016-04-01",
    "2015-10-01",
    "2015-04-15",
    "2015-03-01",
    "2014-10-01",
    "2014-09-01",
    "2014-06-15",
    "2014-05-01",
    "2014-02-01",
    "2013-10-15",
];

/// A version of the EC2 API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ApiVersion(&'static str);

impl ApiVersion {
    /// The newest version, which a call without a version means.
    pub(super) const NEWEST: ApiVersion = ApiVersion(VERSIONS[0]);

    /// Returns the version that a call names; `None` for one that does not exist.
    pub(super) fn find(name: &str) -> Option<ApiVersion> {
        VERSIONS
            .into_iter()
            .find(|known| *known == name)
            .map(ApiVersion)
    }

    /// Returns the version as a date: `2016-11-15`.
    pub(super) fn as_str(self) -> &'static str {
        self.0
    }
}
