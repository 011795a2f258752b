//! AssumeRole.

use jiff::Timestamp;

use super::access_key::read_key;
use super::endpoint::Endpoint;
use super::form::{CONTENT_TYPE, DEFAULT_DURATION, StsForm};
use super::preparation::run_blocking;
use super::{client, response, tls};
use crate::credentials::fetch::{FetchError, FetchedCredentials};
use crate::credentials::session::RoleSession;
use crate::instance::AssumeRoleSource;
use crate::secret::Secret;
use crate::sigv4::sign::{Post, sign};

/// Calls AssumeRole. The delivery is the session tag `RoleDelivery`.
pub async fn assume_role(
    source: &AssumeRoleSource,
    session: &RoleSession,
    now: Timestamp,
) -> Result<FetchedCredentials, FetchError> {
    let endpoint = Endpoint::read(&source.endpoint)?;
    let (key_file, ca_file, encrypted) = (
        source.access_key_file.clone(),
        source.ca_file.clone(),
        endpoint.encrypted,
    );
    let (key, tls) = run_blocking(move || {
        Ok((
            read_key(&key_file)?,
            tls::client_config(encrypted, ca_file.as_deref())?,
        ))
    })
    .await?;

    let duration = source
        .duration_seconds
        .unwrap_or(DEFAULT_DURATION)
        .to_string();
    let mut form = StsForm::new("AssumeRole");
    form.add("RoleArn", &source.role_arn);
    form.add("RoleSessionName", session.instance.as_str());
    form.add("DurationSeconds", &duration);
    form.add("Tags.member.1.Key", "RoleDelivery");
    form.add("Tags.member.1.Value", session.delivery.as_str());
    if let Some(id) = &source.external_id {
        form.add("ExternalId", id);
    }
    let post = Post {
        host: &endpoint.authority,
        path: &endpoint.path,
        content_type: CONTENT_TYPE,
        body: form.as_bytes(),
    };
    let headers = sign(&post, &key, &source.region, "sts", now).map_err(|_| {
        FetchError::unavailable(
            "the access key or the region has characters that a header field cannot have",
        )
    })?;

    let mut secrets = vec![key.secret_access_key.expose()];
    secrets.extend(key.session_token.as_ref().map(Secret::expose));
    let response = client::post(&endpoint, tls, headers, form)
        .await
        .map_err(|reason| endpoint.unavailable(reason))?;
    response::credentials(&endpoint, response, &secrets)
}
