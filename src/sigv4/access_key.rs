//! An access key: its public id and its secret.

use crate::secret::Secret;

/// A key that can sign requests.
#[derive(Clone, Debug)]
pub struct AccessKey {
    /// `AKIA…` or `ASIA…`. Public.
    pub access_key_id: String,
    /// The secret access key.
    pub secret_access_key: Secret,
    /// The required value of `X-Amz-Security-Token`. If it is `None`, a request with that token is
    /// refused.
    pub session_token: Option<Secret>,
}
