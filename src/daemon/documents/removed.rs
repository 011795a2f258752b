//! Instances whose document was removed: they are still served from their records.
//!
//! `documents.json` in the state directory says which instances had a document at the last start or
//! reload. The documents are this host's own, so this is not part of the records. An instance that
//! never had a document there is not missed: it was put, or launched by the EC2 API.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::daemon::documents::checked::CheckedDocuments;
use crate::daemon::documents::registered::Registered;
use crate::instance::InstanceId;
use crate::plain_file::{self, PlainFile, Symlinks};

/// The content of the file.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct DocumentsOnDisk {
    instance_ids: BTreeSet<InstanceId>,
}

/// Which instances had a document before, and which have none any more.
pub(crate) struct RemovedDocuments {
    file: PathBuf,
    before: BTreeSet<InstanceId>,
    now: BTreeSet<InstanceId>,
    /// Registered instances that had a document and have none any more, ordered.
    pub(crate) ids: Vec<InstanceId>,
}

impl RemovedDocuments {
    /// Compares the documents with those of the last start or reload. Returns `None` if that cannot
    /// be known: the configuration names no documents or no state directory, or some files cannot be
    /// read.
    pub(crate) fn find(
        config: &Config,
        documents: &CheckedDocuments,
        registered: &Registered,
    ) -> Option<RemovedDocuments> {
        let directory = config.state_directory.as_deref()?;
        if config.instances.is_none() || documents.unreadable_files > 0 {
            return None;
        }
        let file = directory.join("documents.json");
        let before = read(&file);
        let mut now: BTreeSet<InstanceId> = documents.ids().cloned().collect();
        let is_registered = |id: &&InstanceId| {
            let registered = registered.get(id);
            registered.is_some_and(|instance| !instance.is_terminated())
        };
        let removed = before.difference(&now).filter(is_registered);
        let ids: Vec<InstanceId> = removed.cloned().collect();
        // They are reported until they are deleted.
        now.extend(ids.iter().cloned());
        Some(RemovedDocuments {
            file,
            before,
            now,
            ids,
        })
    }

    /// Writes which instances have a document now, if that changed.
    pub(crate) fn store(&self) -> io::Result<()> {
        if self.before == self.now {
            return Ok(());
        }
        let content = DocumentsOnDisk {
            instance_ids: self.now.clone(),
        };
        let temporary = self.file.with_extension("json.tmp");
        let _ = std::fs::remove_file(&temporary);
        let mut file = std::fs::OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(&serde_json::to_vec(&content)?)?;
        std::fs::rename(&temporary, &self.file)
    }
}

/// Returns what the file says; nothing if it cannot be read, because then no document is missed.
fn read(file: &Path) -> BTreeSet<InstanceId> {
    let opened = PlainFile::open(file, Symlinks::Refuse);
    let bytes = opened.and_then(|file| file.read_bytes(plain_file::MAX_BYTES));
    let content = bytes.map(|bytes| serde_json::from_slice::<DocumentsOnDisk>(&bytes));
    match content {
        Ok(Ok(content)) => content.instance_ids,
        Ok(Err(_)) | Err(_) => BTreeSet::new(),
    }
}
