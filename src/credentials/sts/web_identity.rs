//! AssumeRoleWithWebIdentity, and the request for its token.

use std::sync::Arc;

use hyper::header::{self, HeaderMap, HeaderValue};

use super::endpoint::Endpoint;
use super::form::{CONTENT_TYPE, DEFAULT_DURATION, StsForm};
use super::preparation::run_blocking;
use super::{client, response, tls};
use crate::credentials::fetch::{FetchError, FetchedCredentials};
use crate::credentials::session::RoleSession;
use crate::instance::{InstanceId, RoleDelivery, WebIdentitySource};

/// The default audience of a web identity, which is also AWS's.
const DEFAULT_AUDIENCE: &str = "sts.amazonaws.com";

/// The request for a web identity token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebIdentityRequest {
    /// The instance that the token identifies.
    pub instance: InstanceId,
    /// The instance's account.
    pub account: String,
    /// The role's name.
    pub role_name: String,
    /// The role to assume with the token.
    pub role_arn: String,
    /// `aud`
    pub audience: String,
    /// The delivery of the role. The token contains it, as the session tag `RoleDelivery` and in a
    /// claim of its own.
    pub delivery: RoleDelivery,
}

/// Mints a web identity token: a short-lived signed JWT; empty if that fails.
pub type Mint = dyn Fn(&WebIdentityRequest) -> String + Send + Sync;

/// Calls AssumeRoleWithWebIdentity. The delivery is in the token, which `mint` makes.
pub async fn assume_role_with_web_identity(
    source: &WebIdentitySource,
    session: &RoleSession,
    mint: &Arc<Mint>,
) -> Result<FetchedCredentials, FetchError> {
    let endpoint = Endpoint::read(&source.endpoint)?;
    let request = WebIdentityRequest {
        instance: session.instance.clone(),
        account: session.account.clone(),
        role_name: session.role_name.clone(),
        role_arn: source.role_arn.clone(),
        audience: source
            .audience
            .clone()
            .unwrap_or_else(|| DEFAULT_AUDIENCE.to_string()),
        delivery: session.delivery,
    };
    let (mint, ca_file, encrypted) = (Arc::clone(mint), source.ca_file.clone(), endpoint.encrypted);
    let (token, tls) = run_blocking(move || {
        Ok((
            mint(&request),
            tls::client_config(encrypted, ca_file.as_deref())?,
        ))
    })
    .await?;
    if token.is_empty() {
        return Err(FetchError::unavailable("cannot mint a web identity token"));
    }

    let duration = source
        .duration_seconds
        .unwrap_or(DEFAULT_DURATION)
        .to_string();
    let mut form = StsForm::new("AssumeRoleWithWebIdentity");
    form.add("RoleArn", &source.role_arn);
    form.add("RoleSessionName", session.instance.as_str());
    form.add("DurationSeconds", &duration);
    form.add("WebIdentityToken", &token);
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    headers.insert(header::HOST, endpoint.host_header());

    let response = client::post(&endpoint, tls, headers, form)
        .await
        .map_err(|reason| endpoint.unavailable(reason))?;
    response::credentials(&endpoint, response, &[&token])
}
