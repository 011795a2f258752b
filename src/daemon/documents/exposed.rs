//! Documents with secrets that every user of the host can read.

use std::path::Path;

use crate::fault::FieldFault;
use crate::instance::{CredentialSource, Instance, StaticCredentials};
use crate::ownership;
use crate::secret;

/// Returns a fault if a document contains a secret and every user of the host can read its file.
pub(crate) fn exposed_secret(instance: &Instance, file: &Path) -> Option<FieldFault> {
    has_secret(instance).then(|| exposed_file(file))?
}

/// Returns whether an instance contains a secret.
pub(super) fn has_secret(instance: &Instance) -> bool {
    let source = instance.imds.role.as_ref().map(|role| &role.source);
    let Some(CredentialSource::Static(source)) = source else {
        return false;
    };
    let is_secret = |credentials: &StaticCredentials| {
        !secret::is_placeholder(credentials.secret_access_key.expose())
    };
    source.v1.iter().chain([&source.v2]).any(is_secret)
}

/// Returns a fault if every user of the host can read a file, which has a secret.
pub(super) fn exposed_file(file: &Path) -> Option<FieldFault> {
    ownership::is_readable_by_all(file).then(|| {
        let message = format!(
            "every user of this host can read this SecretAccessKey; run: chmod o-r {}",
            file.display()
        );
        FieldFault::new("Imds.Role.Source.Static", message)
    })
}
