//! The sources that an instance document can name.

use std::sync::Arc;

use jiff::Timestamp;

use super::fetch::{Fetch, FetchError, FetchFuture};
use super::launch::Launcher;
use super::session::RoleSession;
use super::sts::Mint;
use super::{process, sts};
use crate::instance::CredentialSource;

/// The sources that an instance document can name.
pub struct Sources {
    /// Mints the web identity tokens of instances.
    pub mint: Arc<Mint>,
    /// Starts programs.
    pub launcher: Launcher,
}

impl Fetch for Sources {
    fn fetch<'a>(&'a self, session: &'a RoleSession, now: Timestamp) -> FetchFuture<'a> {
        Box::pin(async move {
            match &session.source {
                CredentialSource::Static(_) => Err(FetchError::unavailable(
                    "static credentials are not fetched",
                )),
                CredentialSource::Process(source) => {
                    process::fetch(&self.launcher, source, session).await
                }
                CredentialSource::AssumeRole(source) => {
                    sts::assume_role(source, session, now).await
                }
                CredentialSource::AssumeRoleWithWebIdentity(source) => {
                    sts::assume_role_with_web_identity(source, session, &self.mint).await
                }
            }
        })
    }
}
