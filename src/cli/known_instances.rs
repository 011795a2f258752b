//! The instances that a daemon of a configuration would serve, read without the daemon.

use std::collections::BTreeMap;

use crate::daemon::documents::CheckedConfig;
use crate::instance::{Instance, InstanceId};
use crate::registry::file::{self, StoredInstances};

/// The instances of documents and of the state directory.
pub(super) struct KnownInstances {
    /// The instances. A record takes precedence over the document that registered it.
    pub instances: Vec<Instance>,
    /// Why some records cannot be read.
    pub unreadable: Vec<String>,
    /// Why the account's record cannot be read. Instances do not depend on it.
    pub account_unreadable: Option<String>,
}

/// Reads the records of the state directory over the documents of a configuration.
pub(super) fn read(checked: CheckedConfig) -> KnownInstances {
    let mut instances: BTreeMap<InstanceId, Instance> = by_id(checked.instances).collect();
    let (mut unreadable, mut account_unreadable) = (Vec::new(), None);
    if let Some(directory) = checked.config.state_directory {
        match file::read_state_directory(&directory) {
            Ok(StoredInstances {
                instances: records,
                unreadable: of_instances,
                account_unreadable: of_account,
            }) => {
                instances.extend(by_id(records));
                unreadable = of_instances.iter().map(ToString::to_string).collect();
                account_unreadable = of_account.as_ref().map(ToString::to_string);
            }
            Err(reason) => {
                let directory = directory.display();
                unreadable.push(format!("the instances in {directory}: {reason}"));
            }
        }
    }
    KnownInstances {
        instances: instances.into_values().collect(),
        unreadable,
        account_unreadable,
    }
}

fn by_id(instances: Vec<Instance>) -> impl Iterator<Item = (InstanceId, Instance)> {
    let pair = |instance: Instance| (instance.instance_id.clone(), instance);
    instances.into_iter().map(pair)
}
