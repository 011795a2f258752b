//! The instances that a daemon of a configuration would serve, read without the daemon.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crate::config::Config;
use crate::daemon::documents::CheckedDocuments;
use crate::instance::{Instance, InstanceId};
use crate::registry::file::StoredInstances;

/// The instances of documents and of the state directory.
pub(super) struct KnownInstances {
    /// The instances. A record takes precedence over the document that registered it.
    pub instances: Vec<Instance>,
    /// Why some records cannot be read.
    pub unreadable: Vec<String>,
    /// Why the account's record cannot be read. Instances do not depend on it.
    pub account_unreadable: Option<String>,
}

/// Returns the records of the state directory over the documents of a configuration.
pub(super) fn known_instances(
    config: &Config,
    documents: CheckedDocuments,
    stored: io::Result<StoredInstances>,
) -> KnownInstances {
    let of_documents = documents.instances.into_iter();
    let of_documents = of_documents.map(|document| document.instance);
    let mut instances: BTreeMap<InstanceId, Instance> = by_id(of_documents).collect();
    let (mut unreadable, mut account_unreadable) = (Vec::new(), None);
    match stored {
        Ok(stored) => {
            instances.extend(by_id(stored.instances));
            let records = stored.unreadable.iter();
            unreadable = records.map(|record| record.fault.to_string()).collect();
            account_unreadable = stored.account_unreadable.as_ref().map(ToString::to_string);
        }
        Err(reason) => {
            let directory = config.state_directory.as_deref().unwrap_or(Path::new(""));
            unreadable.push(format!(
                "the instances in {}: {reason}",
                directory.display()
            ));
        }
    }
    KnownInstances {
        instances: instances.into_values().collect(),
        unreadable,
        account_unreadable,
    }
}

fn by_id(
    instances: impl IntoIterator<Item = Instance>,
) -> impl Iterator<Item = (InstanceId, Instance)> {
    let pair = |instance: Instance| (instance.instance_id.clone(), instance);
    instances.into_iter().map(pair)
}
