//! Checks instance documents against a configuration and against each other.
//!
//! `imdsd check`, a start and a reload use it, and the admin socket for a single document.

use std::path::Path;

use crate::config::{self, AccessKeySource, Config, ControlEndpointSettings, Resolution};
use crate::control::AccessKeys;
use crate::daemon::unserved::AttachmentSettings;
use crate::document::{self, InstanceDocument};
use crate::fault::{Fault, FieldFault};
use crate::guest::tree;
use crate::instance::claims::{ClaimKey, Claims};
use crate::instance::{Attachment, CredentialSource, Instance};

/// A configuration without faults, and what it names.
#[derive(Clone, Debug)]
pub(crate) struct CheckedConfig {
    /// The configuration.
    pub config: Config,
    /// The instances of all documents.
    pub instances: Vec<Instance>,
    /// What is allowed but probably not intended.
    pub warnings: Vec<Fault>,
}

/// Reads a configuration, its access keys and its instance documents, and checks them. Returns all
/// faults if there are any.
pub(crate) fn check(path: &Path) -> Result<CheckedConfig, Vec<Fault>> {
    let Resolution {
        config,
        listener_lines,
        mut faults,
    } = config::read_with_faults(path)?;
    let config_state = match faults.is_empty() {
        true => ConfigState::Valid,
        false => ConfigState::Faulty,
    };
    if let Some(ControlEndpointSettings {
        access_keys: AccessKeySource::File(file),
        ..
    }) = &config.control
    {
        faults.extend(AccessKeys::faults(file));
    }
    let (documents, read_faults) = read_documents(&config);
    faults.extend(read_faults);
    let mut check = DocumentsCheck::run(&config, config_state, &documents);
    faults.append(&mut check.faults);
    if !faults.is_empty() {
        return Err(faults);
    }

    for (listener, line) in config.listeners.iter().zip(listener_lines) {
        if !check.claims.is_claimed(&ClaimKey::Listener(&listener.name)) {
            check.warnings.push(Fault {
                file: path.to_path_buf(),
                line,
                field: "listener.name".to_string(),
                message: format!(
                    "no document claims listener '{}': its connections are not answered",
                    listener.name
                ),
            });
        }
    }
    let warnings = check.warnings;
    Ok(CheckedConfig {
        config,
        instances: instances_of(documents),
        warnings,
    })
}

/// Reads the instance documents of a configuration, and checks them. Returns all faults if there
/// are any.
pub(crate) fn read_instances(config: &Config) -> Result<Vec<Instance>, Vec<Fault>> {
    let (documents, mut faults) = read_documents(config);
    faults.extend(DocumentsCheck::run(config, ConfigState::Valid, &documents).faults);
    match faults.is_empty() {
        true => Ok(instances_of(documents)),
        false => Err(faults),
    }
}

/// Returns what keeps one instance from being served under this configuration. Conflicts with other
/// instances are not checked.
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
    tree::faults(instance)
        .into_iter()
        .chain(unserved)
        .chain(issuer_fault(instance, config))
        .collect()
}

fn read_documents(config: &Config) -> (Vec<InstanceDocument>, Vec<Fault>) {
    config
        .instances
        .as_deref()
        .map(document::read_documents)
        .unwrap_or_default()
}

fn instances_of(documents: Vec<InstanceDocument>) -> Vec<Instance> {
    documents
        .into_iter()
        .map(|document| document.instance)
        .collect()
}

/// Whether the configuration itself has faults.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ConfigState {
    Valid,
    /// A listener with a fault is left out, and may be the one that a document names.
    Faulty,
}

/// The claims, faults and warnings of documents.
struct DocumentsCheck<'a> {
    settings: Option<AttachmentSettings<'a>>,
    /// Every attachment so far, by the number of its document.
    claims: Claims<'a, usize>,
    faults: Vec<Fault>,
    warnings: Vec<Fault>,
}

impl<'a> DocumentsCheck<'a> {
    fn run(
        config: &'a Config,
        config_state: ConfigState,
        documents: &'a [InstanceDocument],
    ) -> DocumentsCheck<'a> {
        let mut check = DocumentsCheck {
            settings: match config_state {
                ConfigState::Valid => Some(AttachmentSettings::from(config)),
                ConfigState::Faulty => None,
            },
            claims: Claims::new(),
            faults: Vec::new(),
            warnings: Vec::new(),
        };
        for (number, document) in documents.iter().enumerate() {
            check.warnings.extend_from_slice(&document.warnings);
            check.warn_unreachable(document);
            let faults = tree::faults(&document.instance).into_iter();
            let faults = faults.chain(issuer_fault(&document.instance, config));
            check
                .faults
                .extend(faults.map(|fault| fault_at(document, document.line, &fault)));
            check.warn_inactive(document);
            check.check_attachments(documents, number);
        }
        check
    }

    fn warn_unreachable(&mut self, document: &InstanceDocument) {
        if document.instance.imds.attachments.is_empty() {
            let message = "there are none, so the instance cannot be reached";
            let fault = FieldFault::new(ATTACHMENTS, message);
            self.warnings
                .push(fault_at(document, document.line, &fault));
        }
    }

    fn warn_inactive(&mut self, document: &InstanceDocument) {
        let state = document.instance.state;
        if !state.is_active() {
            let message = format!("the instance is {} and will not be served", state.as_str());
            let fault = FieldFault::new("State", message);
            self.warnings
                .push(fault_at(document, document.line, &fault));
        }
    }

    fn check_attachments(&mut self, documents: &'a [InstanceDocument], number: usize) {
        let document = &documents[number];
        let attachments = &document.instance.imds.attachments;
        for (attachment, line) in attachments.iter().zip(&document.attachment_lines) {
            let unserved = self
                .settings
                .and_then(|settings| settings.unserved_reason(attachment));
            let conflict = self.claims.first_conflict(attachment, number).map(|claim| {
                conflict_message(attachment, claim.attachment, &documents[claim.claimant])
            });
            // A stopped instance claims nothing. Whether a binding is void depends on the host.
            let claims = document.instance.state.is_active() && attachment.binding.is_none();
            for message in unserved.into_iter().chain(conflict.filter(|_| claims)) {
                let fault = FieldFault::new(ATTACHMENTS, message);
                self.faults.push(fault_at(document, *line, &fault));
            }
            if claims {
                self.claims.add(attachment, number);
            }
        }
    }
}

const ATTACHMENTS: &str = "Imds.Attachments";

/// Returns a fault of a document, with the instance's ID before the field.
fn fault_at(document: &InstanceDocument, line: usize, fault: &FieldFault) -> Fault {
    Fault {
        file: document.file.clone(),
        line,
        field: format!("{}: {}", document.instance.instance_id, fault.field),
        message: fault.message.clone(),
    }
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

fn conflict_message(
    attachment: &Attachment,
    other: &Attachment,
    document: &InstanceDocument,
) -> String {
    let id = &document.instance.instance_id;
    let place = format!("{}:{}", document.file.display(), document.line);
    if attachment == other {
        format!("{attachment} is claimed by {id} too ({place}); neither would be served there")
    } else {
        format!(
            "{attachment} conflicts with {other} of {id} ({place}); neither would be served there"
        )
    }
}

#[cfg(test)]
mod tests;
