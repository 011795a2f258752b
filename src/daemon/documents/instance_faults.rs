//! What keeps one instance from being served under a configuration. Conflicts with other instances
//! are not checked.

use crate::config::Config;
use crate::daemon::unserved::AttachmentSettings;
use crate::fault::FieldFault;
use crate::guest::tree;
use crate::instance::{CredentialSource, Instance};

/// Returns what keeps an instance from being served, its attachments included.
pub(crate) fn instance_faults(instance: &Instance, config: &Config) -> Vec<FieldFault> {
    let settings = AttachmentSettings::from(config);
    let attachments = instance.imds.attachments.iter().enumerate();
    let unserved = attachments.filter_map(|(index, attachment)| {
        let reason = settings.unserved_reason(attachment)?;
        Some(FieldFault::new(
            format!("Imds.Attachments[{index}]"),
            reason,
        ))
    });
    let mut faults = tree::faults(instance);
    faults.extend(unserved);
    faults.extend(issuer_fault(instance, config));
    faults
}

/// Returns what keeps an instance from being served, apart from its attachments.
pub(super) fn document_faults(instance: &Instance, config: &Config) -> Vec<FieldFault> {
    let mut faults = tree::faults(instance);
    faults.extend(issuer_fault(instance, config));
    faults
}

/// Returns a fault if the instance's role needs web identities and the configuration has no issuer.
fn issuer_fault(instance: &Instance, config: &Config) -> Option<FieldFault> {
    let role = instance.imds.role.as_ref()?;
    let needs_issuer = matches!(role.source, CredentialSource::AssumeRoleWithWebIdentity(_));
    (needs_issuer && config.identity.issuer.is_empty()).then(|| {
        let message =
            "web identities need identity.issuer in the configuration: the URL of their key set";
        FieldFault::new("Imds.Role.Source", message)
    })
}
