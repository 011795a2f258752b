//! Rules for `Imds.Role` and the sources of credentials.

use std::path::Path;

use crate::document::fields::IMDS;
use crate::document::json_path::{JsonPath, PathFault};
use crate::instance::{
    AssumeRoleSource, CredentialSource, Instance, ProcessSource, StaticSource, WebIdentitySource,
};

pub(super) fn check_role(instance: &Instance, faults: &mut Vec<PathFault>) {
    let Some(role) = &instance.imds.role else {
        return;
    };
    let path = JsonPath::root().key(IMDS).key("Role");
    // IAM's pattern for role names.
    if !is_word(&role.role_name, b"+=,.@_-", 1..=64) {
        let message = "a role name is 1 to 64 letters, digits and +=,.@_-";
        faults.push(PathFault::new(path.key("RoleName"), message));
    }
    let path = path.key("Source");
    match &role.source {
        CredentialSource::Static(source) => check_static(&path.key("Static"), source, faults),
        CredentialSource::Process(source) => check_process(&path.key("Process"), source, faults),
        CredentialSource::AssumeRole(source) => {
            check_assume_role(&path.key("AssumeRole"), source, faults);
        }
        CredentialSource::AssumeRoleWithWebIdentity(source) => {
            check_web_identity(&path.key("AssumeRoleWithWebIdentity"), source, faults);
        }
    }
    if instance.iam_instance_profile.is_none() {
        let message = "is missing; it contains Imds.Role";
        faults.push(PathFault::new(
            JsonPath::root().key("IamInstanceProfile"),
            message,
        ));
    }
}

fn check_static(path: &JsonPath, source: &StaticSource, faults: &mut Vec<PathFault>) {
    let of_v1 = source.v1.iter().map(|credentials| ("V1", credentials));
    for (delivery, credentials) in of_v1.chain([("V2", &source.v2)]) {
        let path = path.key(delivery);
        for (field, value) in [
            ("AccessKeyId", credentials.access_key_id.as_str()),
            ("SecretAccessKey", credentials.secret_access_key.expose()),
        ] {
            if value.is_empty() {
                faults.push(PathFault::new(path.key(field), "cannot be empty"));
            }
        }
    }
}

fn check_process(path: &JsonPath, source: &ProcessSource, faults: &mut Vec<PathFault>) {
    let program = source.command.first();
    if !program.is_some_and(|program| program.starts_with('/')) {
        let message = "must begin with the absolute path of a program; no shell is involved";
        faults.push(PathFault::new(path.key("Command"), message));
    }
    let timeout = source.timeout_seconds;
    if timeout.is_some_and(|seconds| !(1..=60).contains(&seconds)) {
        faults.push(PathFault::new(
            path.key("TimeoutSeconds"),
            "must be 1 to 60",
        ));
    }
}

fn check_assume_role(path: &JsonPath, source: &AssumeRoleSource, faults: &mut Vec<PathFault>) {
    let call = StsCall {
        endpoint: &source.endpoint,
        role_arn: &source.role_arn,
        duration_seconds: source.duration_seconds,
        ca_file: source.ca_file.as_deref(),
    };
    call.check(path, faults);
    if !is_word(&source.region, b"-", 1..=usize::MAX) {
        let message = "a region is letters, digits and -, such as us-east-1";
        faults.push(PathFault::new(path.key("Region"), message));
    }
    if !source.access_key_file.is_absolute() {
        faults.push(PathFault::new(
            path.key("AccessKeyFile"),
            "must be an absolute path",
        ));
    }
    // STS's pattern for external ids.
    let external_id = source.external_id.as_deref();
    if external_id.is_some_and(|id| !is_word(id, b"_+=,.@:/-", 2..=1224)) {
        let message = "an external id is 2 to 1224 letters, digits and _+=,.@:/-";
        faults.push(PathFault::new(path.key("ExternalId"), message));
    }
}

fn check_web_identity(path: &JsonPath, source: &WebIdentitySource, faults: &mut Vec<PathFault>) {
    let call = StsCall {
        endpoint: &source.endpoint,
        role_arn: &source.role_arn,
        duration_seconds: source.duration_seconds,
        ca_file: source.ca_file.as_deref(),
    };
    call.check(path, faults);
    if source.audience.as_deref() == Some("") {
        let message = "cannot be empty; without it the audience is sts.amazonaws.com";
        faults.push(PathFault::new(path.key("Audience"), message));
    }
}

/// The fields that both STS sources have.
struct StsCall<'a> {
    endpoint: &'a str,
    role_arn: &'a str,
    duration_seconds: Option<u32>,
    ca_file: Option<&'a Path>,
}

impl StsCall<'_> {
    fn check(&self, path: &JsonPath, faults: &mut Vec<PathFault>) {
        if !is_endpoint(self.endpoint) {
            let message = "an endpoint is http:// or https://, a host, and optionally a port and a \
                           path; nothing else";
            faults.push(PathFault::new(path.key("Endpoint"), message));
        }
        if !is_role_arn(self.role_arn) {
            let message = "a role's ARN is arn:aws:iam::123456789012:role/NAME; with MinIO and Ceph \
                           the account may be empty";
            faults.push(PathFault::new(path.key("RoleArn"), message));
        }
        let duration = self.duration_seconds;
        if duration.is_some_and(|seconds| !(900..=43_200).contains(&seconds)) {
            faults.push(PathFault::new(
                path.key("DurationSeconds"),
                "must be 900 to 43200",
            ));
        }
        if self.ca_file.is_some_and(|file| !file.is_absolute()) {
            faults.push(PathFault::new(
                path.key("CaFile"),
                "must be an absolute path",
            ));
        }
    }
}

/// Returns whether a text has only ASCII letters, digits and these characters, and such a length.
fn is_word(text: &str, others: &[u8], length: std::ops::RangeInclusive<usize>) -> bool {
    let letters = text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || others.contains(&b));
    letters && length.contains(&text.len())
}

/// Returns whether a text is a URL without user, password, query and fragment. User and password do
/// not belong into a document; query and fragment would not be sent.
fn is_endpoint(text: &str) -> bool {
    let Ok(uri) = text.parse::<hyper::Uri>() else {
        return false;
    };
    let Some(authority) = uri.authority() else {
        return false;
    };
    // Only a host and a valid port, put together again, equal the original text.
    let plain = match authority.port_u16() {
        Some(port) => authority.as_str() == format!("{}:{port}", authority.host()) && port > 0,
        None => authority.as_str() == authority.host(),
    };
    matches!(uri.scheme_str(), Some("http" | "https"))
        && plain
        && !authority.host().is_empty()
        && !text.contains(['?', '#'])
}

/// Returns whether a text is `arn:PARTITION:iam:REGION:ACCOUNT:role/NAME`. Only AWS requires twelve
/// digits for the account: Ceph's accounts contain letters, and with MinIO region and account can
/// be empty.
fn is_role_arn(text: &str) -> bool {
    let parts: Vec<_> = text.splitn(6, ':').collect();
    let ["arn", partition, "iam", region, account, role] = parts[..] else {
        return false;
    };
    let word = |text: &str| is_word(text, b"-_", 0..=usize::MAX);
    let visible = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    !partition.is_empty()
        && [partition, region, account].into_iter().all(word)
        && (partition == "minio" || region.is_empty())
        && role.strip_prefix("role/").is_some_and(visible)
        && text.len() <= 2048
}
