//! The IAM role of an instance and the source of its credentials.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::instance::options::Switch;
use crate::instance::text::SharedText;
use crate::secret::Secret;

/// The instance profile, the container of the role (`IamInstanceProfile` in describe-instances).
/// Metadata shows it at `iam/info`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct IamInstanceProfile {
    /// `arn:aws:iam::ACCOUNT:instance-profile/NAME`
    pub arn: SharedText,
    /// `AIPA…`
    pub id: SharedText,
}

/// The role that the instance profile contains, and the source of its credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Role {
    /// The role's name as metadata lists it under `iam/security-credentials/`: 1 to 64 letters,
    /// digits and `+=,.@_-` (IAM's rule).
    pub role_name: String,
    /// The source of its credentials.
    pub source: CredentialSource,
    /// Whether reads without a session token (IMDSv1, role delivery 1.0) get credentials; `enabled`
    /// by default.
    #[serde(default = "enabled", skip_serializing_if = "is_enabled")]
    pub v1: Switch,
}

/// The source of role credentials. Each source is asked separately for the two role deliveries: a
/// read without a session token (1.0) never gets the credentials of a read with one (2.0).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CredentialSource {
    /// Credentials that are written in the document.
    Static(StaticSource),
    /// A program that prints credentials, as the AWS CLI's `credential_process` does.
    Process(ProcessSource),
    /// STS AssumeRole, signed with one of the host's access keys.
    AssumeRole(AssumeRoleSource),
    /// STS AssumeRoleWithWebIdentity, with a short-lived token that imdsd issues for the instance.
    AssumeRoleWithWebIdentity(WebIdentitySource),
}

/// Credentials written into the document by the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct StaticSource {
    /// For reads without a session token. Absent: such reads get none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v1: Option<StaticCredentials>,
    /// For reads with a session token.
    pub v2: StaticCredentials,
}

/// One set of static credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct StaticCredentials {
    /// `ASIA…`; must not be empty.
    pub access_key_id: String,
    /// The secret access key; must not be empty.
    pub secret_access_key: Secret,
    /// The session token that belongs to the key; may be empty.
    #[serde(default)]
    pub session_token: Secret,
    /// When they expire. Absent for keys that do not expire: metadata then shows a time some hours
    /// ahead, because clients require one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration: Option<Timestamp>,
}

/// A program that prints credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct ProcessSource {
    /// The program's absolute path and its arguments. No shell is involved.
    pub command: Vec<String>,
    /// How long it may run: 1 to 60 seconds, 10 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u32>,
}

/// A source that calls STS AssumeRole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct AssumeRoleSource {
    /// The URL of STS: `https://sts.us-east-1.amazonaws.com`, or that of MinIO or Ceph.
    pub endpoint: String,
    /// The region that the call is signed for.
    pub region: String,
    /// `arn:aws:iam::ACCOUNT:role/NAME`
    pub role_arn: String,
    /// The absolute path of a file with the one access key that signs the call. The format is that
    /// of the control endpoint's key file.
    pub access_key_file: PathBuf,
    /// How long the credentials last: 900 to 43200 seconds, 3600 by default (STS's range and
    /// default).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<u32>,
    /// The external id that the role's trust policy requires: 2 to 1224 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// The absolute path of a PEM file with certificate authorities for the endpoint; the system's
    /// by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

/// A source that calls STS AssumeRoleWithWebIdentity. It needs no long-lived secret on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct WebIdentitySource {
    /// The URL of STS: `https://sts.us-east-1.amazonaws.com`, or that of MinIO or Ceph.
    pub endpoint: String,
    /// `arn:aws:iam::ACCOUNT:role/NAME`
    pub role_arn: String,
    /// The audience (`aud`) of the token that imdsd issues; `sts.amazonaws.com` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// How long the credentials last: 900 to 43200 seconds, 3600 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<u32>,
    /// The absolute path of a PEM file with certificate authorities for the endpoint; the system's
    /// by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

fn enabled() -> Switch {
    Switch::Enabled
}

fn is_enabled(switch: &Switch) -> bool {
    *switch == Switch::Enabled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_does_not_contain_secrets() {
        let credentials = StaticCredentials {
            access_key_id: "ASIA".into(),
            secret_access_key: Secret::new("hunter2"),
            session_token: Secret::new("hunter3"),
            expiration: None,
        };
        assert!(!format!("{credentials:?}").contains("hunter"));
    }
}
