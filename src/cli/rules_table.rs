//! The name of the packet rules' tables under a configuration.

use std::path::Path;

use crate::config::{Config, STATE_DIRECTORY};
use crate::host::guest_rules::TableName;

pub(super) fn rules_table(config: &Config) -> TableName {
    let interfaces = config.interfaces.as_ref();
    match interfaces.and_then(|interfaces| interfaces.rules_table.as_deref()) {
        Some(ending) => TableName::ending_in(ending),
        None => {
            let directory = config.state_directory.as_deref();
            TableName::of_state_directory(directory.unwrap_or(Path::new(STATE_DIRECTORY)))
        }
    }
}
