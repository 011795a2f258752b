//! `meta-data/iam/`: the instance profile, and the credentials of the role in it.
//!
//! A read without a token and a read with one get different credentials (role delivery 1.0 and
//! 2.0). An instance may have none for reads without a token; then such reads do not find the role.

use std::borrow::Cow;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::category::{Category, Child, Focus, Kind, directory, each};
use crate::clock::iso_seconds;
use crate::credentials::{CredentialStatus, Credentials};
use crate::guest::gate;
use crate::instance::ec2_json::ec2_json;
use crate::instance::{CredentialSource, Role, RoleDelivery, StaticCredentials, StaticSource};
use crate::secret::Secret;

pub(super) const IAM: &[Category] = &[
    Category {
        name: "info",
        since: "2012-01-12",
        kind: Kind::Dated(info),
    },
    each(
        "security-credentials",
        "2012-01-12",
        roles,
        &Kind::Dated(credentials),
    ),
];

/// The instance's own identity, independent of any role. Only Amazon can issue its credentials, so
/// only `info` is here.
pub(super) const IDENTITY_CREDENTIALS: &[Category] = &[directory(
    "ec2",
    "2018-05-23",
    &[Category {
        name: "info",
        since: "2018-05-23",
        kind: Kind::Dated(identity_info),
    }],
)];

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct IdentityInfo<'a> {
    code: &'static str,
    last_updated: String,
    account_id: &'a str,
}

fn identity_info(focus: Focus<'_>) -> Option<(Cow<'_, str>, Timestamp)> {
    let updated = this_hour(focus);
    let info = IdentityInfo {
        code: "Success",
        last_updated: iso_seconds(updated),
        account_id: focus.instance().owner_id(),
    };
    Some((Cow::Owned(ec2_json(&info)), updated))
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Info<'a> {
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'static str>,
    last_updated: String,
    instance_profile_arn: &'a str,
    instance_profile_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Success<'a> {
    code: &'static str,
    last_updated: String,
    #[serde(rename = "Type")]
    kind: &'static str,
    access_key_id: &'a str,
    secret_access_key: &'a str,
    token: &'a str,
    expiration: String,
}

/// Failures are 200 on EC2 too: clients check `Code`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Failure {
    code: &'static str,
    message: String,
    last_updated: String,
}

/// The lifetime that is shown for credentials without an expiration: the shortest that EC2's have.
const SHOWN_LIFE: SignedDuration = SignedDuration::from_hours(6);

fn info(focus: Focus<'_>) -> Option<(Cow<'_, str>, Timestamp)> {
    let profile = focus.instance().iam_instance_profile.as_ref()?;
    let updated = this_hour(focus);
    // A profile whose role was removed is a success on EC2, with a message.
    let message = focus
        .instance()
        .imds
        .role
        .is_none()
        .then_some("Instance Profile does not contain a role.");
    let info = Info {
        code: "Success",
        message,
        last_updated: iso_seconds(updated),
        instance_profile_arn: &profile.arn,
        instance_profile_id: &profile.id,
    };
    Some((Cow::Owned(ec2_json(&info)), updated))
}

fn roles(focus: Focus<'_>) -> Vec<Child<'_>> {
    let role = focus.instance().imds.role.as_ref();
    role.map(|role| focus.child(&role.role_name))
        .into_iter()
        .collect()
}

fn credentials(focus: Focus<'_>) -> Option<(Cow<'_, str>, Timestamp)> {
    let role = focus.instance().imds.role.as_ref()?;
    if !gate::role_deliveries(focus.entry).contains(&focus.delivery) {
        return None;
    }
    let (text, updated) = match &role.source {
        CredentialSource::Static(source) => of_document(focus, role, source)?,
        _ => of_source(focus, role)?,
    };
    Some((Cow::Owned(text), updated))
}

/// Returns credentials that are part of the document.
fn of_document(
    focus: Focus<'_>,
    role: &Role,
    source: &StaticSource,
) -> Option<(String, Timestamp)> {
    let credentials = match focus.delivery {
        RoleDelivery::V1 => source.v1.as_ref()?,
        RoleDelivery::V2 => &source.v2,
    };
    let now = focus.now.wall;
    if credentials.expiration.is_some_and(|end| end <= now) {
        let message = format!(
            "The credentials of the role {} have expired and were not renewed.",
            role.role_name
        );
        return Some((failure("AssumeRoleUnauthorizedAccess", message, now), now));
    }
    let updated = match credentials.expiration {
        Some(_) => focus.entry.changed,
        None => this_hour(focus),
    };
    let expiration = credentials
        .expiration
        .or(updated.saturating_add(SHOWN_LIFE).ok())
        .unwrap_or(updated);
    let StaticCredentials {
        access_key_id,
        secret_access_key,
        session_token,
        ..
    } = credentials;
    Some((
        success(
            access_key_id,
            secret_access_key,
            session_token,
            updated,
            expiration,
        ),
        updated,
    ))
}

/// Returns credentials that the background has fetched; `None` until the first fetch has ended.
fn of_source(focus: Focus<'_>, role: &Role) -> Option<(String, Timestamp)> {
    let id = &focus.instance().instance_id;
    let reading = focus.precomputed.credentials.read(
        id,
        focus.entry.launch_epoch,
        role,
        focus.delivery,
        focus.now.wall,
    )?;
    Some(match reading {
        CredentialStatus::Failure {
            code,
            message,
            updated,
        } => (failure(code, message, updated), updated),
        CredentialStatus::Success {
            credentials,
            updated,
        } => {
            let Credentials {
                access_key_id,
                secret_access_key,
                session_token,
                expiration,
            } = &*credentials;
            (
                success(
                    access_key_id,
                    secret_access_key,
                    session_token,
                    updated,
                    *expiration,
                ),
                updated,
            )
        }
    })
}

fn success(
    id: &str,
    secret: &Secret,
    token: &Secret,
    updated: Timestamp,
    expiration: Timestamp,
) -> String {
    ec2_json(&Success {
        code: "Success",
        last_updated: iso_seconds(updated),
        kind: "AWS-HMAC",
        access_key_id: id,
        secret_access_key: secret.expose(),
        token: token.expose(),
        expiration: iso_seconds(expiration),
    })
}

fn failure(code: &'static str, message: String, updated: Timestamp) -> String {
    ec2_json(&Failure {
        code,
        message,
        last_updated: iso_seconds(updated),
    })
}

/// Returns the last full hour. Credentials that never expire are shown as renewed hourly, and all
/// readers within an hour see the same time.
fn this_hour(focus: Focus<'_>) -> Timestamp {
    let seconds = focus.now.wall.as_second();
    Timestamp::from_second(seconds - seconds.rem_euclid(3600)).unwrap_or(focus.now.wall)
}
