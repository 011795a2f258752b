//! The files that a start opens before it serves anything: records, token keys, the files of the
//! control endpoint.

use std::sync::Arc;

use tracing::error;

use crate::clock::Moment;
use crate::config::Config;
use crate::daemon::background::IdentitySource;
use crate::daemon::control_files::ControlFiles;
use crate::daemon::start_error::StartError;
use crate::daemon::token_keys::TokenKeys;
use crate::registry::file::FileStore;
use crate::registry::memory::MemoryStore;
use crate::registry::{Registry, Store};

/// What a start reads before it opens sockets.
pub(super) struct OpenedFiles {
    /// The instances with readable records.
    pub(super) registry: Arc<Registry>,
    pub(super) token_keys: TokenKeys,
    pub(super) control: ControlFiles,
    pub(super) identity: IdentitySource,
}

impl OpenedFiles {
    /// Opens the files on a thread that may block: a signal is heard meanwhile, also if the disk
    /// does not answer.
    pub(super) async fn open(
        config: &Arc<Config>,
        boot_id: &str,
    ) -> Result<OpenedFiles, StartError> {
        let (config, boot_id) = (Arc::clone(config), boot_id.to_string());
        let open = move || {
            Ok(OpenedFiles {
                registry: open_registry(&config)?,
                token_keys: open_token_keys(&config, &boot_id)?,
                control: ControlFiles::read(&config),
                identity: IdentitySource::at_start(&config),
            })
        };
        let opened = tokio::task::spawn_blocking(open).await;
        opened.expect("opening files does not panic")
    }
}

/// Opens the store and loads the registry. Logs the records that cannot be read: their instances
/// are not served, the others are.
fn open_registry(config: &Config) -> Result<Arc<Registry>, StartError> {
    let store: Arc<dyn Store> = match &config.state_directory {
        Some(directory) => Arc::new(FileStore::open(directory).map_err(StartError::Store)?),
        None => Arc::new(MemoryStore),
    };
    let (registry, unreadable) =
        Registry::open_with_images(store, config.images.clone()).map_err(StartError::Store)?;
    for fault in unreadable {
        error!("{fault}");
    }
    Ok(registry)
}

fn open_token_keys(config: &Config, boot_id: &str) -> Result<TokenKeys, StartError> {
    let now = Moment::now();
    match &config.runtime_directory {
        Some(directory) => TokenKeys::open(directory, boot_id, now)
            .map_err(|reason| StartError::TokenKeys(directory.clone(), reason)),
        None => Ok(TokenKeys::in_memory(now)),
    }
}
