//! The check of a configuration and its documents, without a daemon.

use std::io;
use std::path::Path;

use crate::config::{self, Config, Resolution};
use crate::daemon::control_files::ControlFiles;
use crate::daemon::documents::checked::{CheckedDocuments, ConfigState};
use crate::daemon::documents::registered::Registered;
use crate::daemon::documents::removed::RemovedDocuments;
use crate::fault::Fault;
use crate::instance::InstanceId;
use crate::instance::claims::{ClaimKey, Claims};
use crate::registry::file::{self, StoredInstances};

/// A configuration without faults, its documents, and its state directory.
#[derive(Debug)]
pub(crate) struct CheckedConfig {
    /// The configuration.
    pub(crate) config: Config,
    /// Its documents.
    pub(crate) documents: CheckedDocuments,
    /// The content of the state directory, or why it cannot be read.
    pub(crate) stored: io::Result<StoredInstances>,
}

/// Reads a configuration, its instance documents and its state directory, and checks the documents.
/// If the configuration itself has faults, returns them and those of all files that it names.
pub(crate) fn check(path: &Path) -> Result<CheckedConfig, Vec<Fault>> {
    let Resolution {
        config,
        listener_lines,
        mut faults,
    } = config::read_with_faults(path)?;
    if !faults.is_empty() {
        faults.extend(ControlFiles::read(&config).faults);
        let registered = Registered::default();
        let documents = CheckedDocuments::read_for(&config, ConfigState::Faulty, &registered);
        faults.extend(documents.faults);
        return Err(faults);
    }
    let stored = match &config.state_directory {
        Some(directory) => file::read_state_directory(directory),
        None => Ok(StoredInstances::default()),
    };
    let registered = stored.as_ref().map(Registered::of_store);
    let registered = registered.unwrap_or_default();
    let mut documents = CheckedDocuments::read(&config, &registered);
    let unclaimed = unclaimed_listeners(path, &config, &listener_lines, &documents, &registered);
    documents.warnings.extend(unclaimed);
    let removed = RemovedDocuments::find(&config, &documents, &registered);
    let removed = removed.into_iter().flat_map(|removed| removed.ids);
    let warnings = removed.map(|id| removed_warning(&config, &id));
    documents.warnings.extend(warnings);
    Ok(CheckedConfig {
        config,
        documents,
        stored,
    })
}

fn removed_warning(config: &Config, id: &InstanceId) -> Fault {
    let documents = config.instances.clone().unwrap_or_default();
    let message = format!(
        "its document was removed, and it stays registered; to remove it: imdsd instance delete {id}"
    );
    Fault {
        field: id.to_string(),
        ..Fault::of_file(&documents, message)
    }
}

/// Returns a warning for each listener that no instance claims.
fn unclaimed_listeners(
    path: &Path,
    config: &Config,
    lines: &[usize],
    documents: &CheckedDocuments,
    registered: &Registered,
) -> Vec<Fault> {
    let mut claims = Claims::new();
    let new = documents
        .instances
        .iter()
        .map(|document| &document.instance);
    let new = new.filter(|instance| registered.get(&instance.instance_id).is_none());
    let of_documents = new.flat_map(|instance| &instance.imds.attachments);
    let of_faulty = documents
        .faulty
        .iter()
        .flat_map(|faulty| &faulty.attachments);
    let of_records = registered.all().flat_map(|instance| &instance.attachments);
    for attachment in of_documents.chain(of_faulty).chain(of_records) {
        claims.add(attachment, ());
    }
    let listeners = config.listeners.iter().zip(lines);
    let unclaimed =
        listeners.filter(|(listener, _)| !claims.is_claimed(&ClaimKey::Listener(&listener.name)));
    unclaimed
        .map(|(listener, line)| Fault {
            file: path.to_path_buf(),
            line: *line,
            field: "listener.name".to_string(),
            message: format!(
                "no instance claims listener '{}': its connections are not answered",
                listener.name
            ),
        })
        .collect()
}
