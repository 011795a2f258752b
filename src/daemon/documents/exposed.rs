//! Documents with secrets that every user of the host can read.

use std::path::Path;

use crate::fault::FieldFault;
use crate::instance::{CredentialSource, Instance, StaticCredentials};
use crate::ownership;
use crate::secret;

/// Returns a fault if a document contains a secret and every user of the host can read its file.
pub(crate) fn exposed_secret(instance: &Instance, file: &Path) -> Option<FieldFault> {
    let role = instance.imds.role.as_ref()?;
    let credentials = match &role.source {
        CredentialSource::Static(source) => source.v1.iter().chain([&source.v2]),
        CredentialSource::Process(_)
        | CredentialSource::AssumeRole(_)
        | CredentialSource::AssumeRoleWithWebIdentity(_) => return None,
    };
    let is_secret = |credentials: &StaticCredentials| {
        !secret::is_placeholder(credentials.secret_access_key.expose())
    };
    let has_secret = credentials.into_iter().any(is_secret);
    (has_secret && ownership::is_readable_by_all(file)).then(|| {
        let message = format!(
            "every user of this host can read this SecretAccessKey; run: chmod o-r {}",
            file.display()
        );
        FieldFault::new("Imds.Role.Source.Static", message)
    })
}
