//! Exporting instances as documents and importing them again. Secrets are left out unless the
//! operator asks for them.
//!
//! [`LEFT_OUT`] is a placeholder for a secret. An imported instance with the placeholder keeps the
//! stored secret, if that belongs to the same access key. Otherwise the placeholder is a fault, so
//! that a guest never gets the placeholder as a secret.

use serde_json::Value;

use crate::document::value::to_value;
use crate::fault::FieldFault;
use crate::instance::{CredentialSource, Instance, StaticCredentials, StaticSource};
use crate::secret::Secret;

/// The placeholder for a secret that was left out.
pub const LEFT_OUT: &str = "[left out]";

/// Whether an export contains secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrets {
    /// [`LEFT_OUT`] replaces each secret.
    LeftOut,
    /// Secrets are in plain text.
    Shown,
}

/// Returns an instance as a document. Reading the document gives the instance again.
pub fn document_of(instance: &Instance, secrets: Secrets) -> Value {
    if secrets == Secrets::Shown {
        return to_value(instance);
    }
    let mut instance = instance.clone();
    for credentials in static_credentials(&mut instance) {
        credentials.secret_access_key = Secret::new(LEFT_OUT);
        if !credentials.session_token.expose().is_empty() {
            credentials.session_token = Secret::new(LEFT_OUT);
        }
    }
    to_value(&instance)
}

/// Replaces placeholders with the stored secrets. A placeholder without a stored secret is a fault.
pub fn restore_secrets(instance: &mut Instance, stored: Option<&Instance>) -> Vec<FieldFault> {
    let mut stored = stored.cloned();
    let mut faults = Vec::new();
    for (delivery, credentials) in by_delivery(instance) {
        let id = credentials.access_key_id.clone();
        let stored = stored.as_mut().map(by_delivery).into_iter().flatten();
        let known = stored
            .filter(|(of, known)| *of == delivery && known.access_key_id == id)
            .map(|(_, known)| known);
        let known = known
            .last()
            .map(|known| (known.secret_access_key.clone(), known.session_token.clone()));
        let (key, token) = known.unzip();
        let mut restore = |field: &str, secret: &mut Secret, known: Option<Secret>| {
            if secret.expose() != LEFT_OUT {
                return;
            }
            match known {
                Some(known) => *secret = known,
                None => faults.push(FieldFault::new(
                    format!("Imds.Role.Source.Static.{delivery}.{field}"),
                    format!(
                        "an export left it out, and no secret is stored for {id}; add it, or export with --with-secrets"
                    ),
                )),
            }
        };
        restore("SecretAccessKey", &mut credentials.secret_access_key, key);
        restore("SessionToken", &mut credentials.session_token, token);
    }
    faults
}

fn static_credentials(instance: &mut Instance) -> Vec<&mut StaticCredentials> {
    by_delivery(instance)
        .into_iter()
        .map(|(_, credentials)| credentials)
        .collect()
}

fn by_delivery(instance: &mut Instance) -> Vec<(&'static str, &mut StaticCredentials)> {
    let Some(role) = &mut instance.imds.role else {
        return Vec::new();
    };
    match &mut role.source {
        CredentialSource::Static(StaticSource { v1, v2 }) => v1
            .as_mut()
            .map(|v1| ("V1", v1))
            .into_iter()
            .chain([("V2", v2)])
            .collect(),
        CredentialSource::Process(_)
        | CredentialSource::AssumeRole(_)
        | CredentialSource::AssumeRoleWithWebIdentity(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::demo_instance;
    use crate::document;

    fn read(value: Value) -> Instance {
        document::from_value(value).unwrap()
    }

    #[test]
    fn secrets_are_left_out_by_default_and_restored_from_the_store() {
        let stored = demo_instance();
        let text = document_of(&stored, Secrets::LeftOut).to_string();
        assert!(
            !text.contains("demo0not0a0secret") && !text.contains("demo-not-a-session-token"),
            "{text}"
        );
        assert!(text.contains("ASIAIMDSDDEMO00000V1"));
        assert_eq!(read(document_of(&stored, Secrets::Shown)), stored);

        let mut back = read(document_of(&stored, Secrets::LeftOut));
        assert_ne!(back, stored);
        assert_eq!(restore_secrets(&mut back, Some(&stored)), []);
        assert_eq!(back, stored);
    }

    /// The secret of another access key is never used.
    #[test]
    fn a_secret_that_is_not_stored_is_a_fault() {
        let stored = demo_instance();
        let left_out = read(document_of(&stored, Secrets::LeftOut));
        let fields = |faults: Vec<FieldFault>| -> Vec<String> {
            faults
                .into_iter()
                .map(|fault| fault.field.replace("Imds.Role.Source.Static.", ""))
                .collect()
        };
        let all = [
            "V1.SecretAccessKey",
            "V1.SessionToken",
            "V2.SecretAccessKey",
            "V2.SessionToken",
        ];
        assert_eq!(fields(restore_secrets(&mut left_out.clone(), None)), all);
        let mut other = left_out.clone();
        by_delivery(&mut other)[0].1.access_key_id = "ASIAANOTHER000000000".into();
        assert_eq!(fields(restore_secrets(&mut other, Some(&stored))), all[..2]);
        // Nor is the secret of the other role delivery.
        let mut without = stored.clone();
        by_delivery(&mut without)[0].1.access_key_id = "ASIAIMDSDDEMO00000V2".into();
        assert_eq!(
            fields(restore_secrets(&mut left_out.clone(), Some(&without))),
            all[..2]
        );
    }

    #[test]
    fn a_document_with_placeholders_for_secrets_is_refused() {
        let text = document_of(&demo_instance(), Secrets::LeftOut).to_string();
        let faults = document::read(std::path::Path::new("x.json"), &text).unwrap_err();
        assert_eq!(faults.len(), 4, "{faults:?}");
        assert!(
            faults[0].to_string().starts_with(
                "x.json:1: Imds.Role.Source.Static.V1.SecretAccessKey: an export left"
            )
        );
    }
}
