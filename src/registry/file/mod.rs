//! The embedded store: one JSON file per instance in the state directory, and one for the account.
//!
//! A write is a temporary file in the same directory, fsync, rename, fsync of the directory, and
//! only then a success: an acknowledged change survives a crash, and a file always contains the
//! complete old or the complete new record. Every file contains the SHA-256 of its record, so a
//! damaged byte is detected and never served. A damaged file affects only its own instance. A
//! removal also ends with an fsync of the directory. A change that could not be made durable is
//! undone: the previous file is restored.
//!
//! ```text
//! {"Checksum": "sha256:…", "Record": {"Generation": 7, "LaunchEpoch": …, "Changed": …, "Instance": {…}}}
//! {"Checksum": "sha256:…", "Record": {"MetadataDefaults": {"HttpTokens": "required"}}}
//! ```

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::FlockOperation;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::account::Account;
use super::record::Record;
use super::store::{Loaded, LoadedAccount, Store, StoreError, StoredState, UnreadableRecord};
use crate::document;
use crate::fault::Fault;
use crate::instance::{Instance, InstanceId, MetadataDefaults, RecordedOptions};
use crate::ownership;
use crate::plain_file::{self, PlainFile, Symlinks};

/// The suffix of temporary files, which are not records.
const TEMPORARY: &str = ".tmp";

/// The account's file in the state directory.
const ACCOUNT: &str = "account.json";

/// The largest record that is read, in bytes. A record is its document with defaults filled in, so
/// it can be larger than the document.
const MAX_RECORD_BYTES: u64 = 2 * plain_file::MAX_DOCUMENT_BYTES;

/// Records as files in `<state directory>/instances`, and `<state directory>/account.json`.
pub struct FileStore {
    instances: Directory,
    state: Directory,
    /// Held for the life of the store: two daemons on one state directory would undo each other's
    /// changes.
    _lock: File,
}

/// A directory in which files are replaced.
struct Directory {
    path: PathBuf,
    /// The directory itself, open from the start, so that a full descriptor table cannot prevent
    /// the fsync after a rename.
    synced: File,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Envelope<'a> {
    checksum: String,
    #[serde(borrow)]
    record: &'a RawValue,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct RecordOnDisk {
    generation: u64,
    launch_epoch: u64,
    identity_document: String,
    document_digest: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    launch_request: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    terminated: Option<Timestamp>,
    changed: Timestamp,
    instance: Value,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct AccountOnDisk {
    metadata_defaults: MetadataDefaults,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    imds_v2_images: BTreeSet<String>,
}

impl FileStore {
    /// Opens the store and creates missing directories (mode 0700). Fails when another process has
    /// it open.
    pub fn open(state_directory: &Path) -> Result<FileStore, StoreError> {
        let directory = state_directory.join("instances");
        let failed = |action: &str, path: &Path, reason| StoreError {
            action: format!("{action} {}", path.display()),
            reason,
            stored: StoredState::Previous,
        };

        create_directory(&directory).map_err(|(path, reason)| failed("create", &path, reason))?;
        for path in [state_directory, &directory] {
            let found = fs::metadata(path).map_err(|e| failed("inspect", path, e))?;
            if let Some(reason) = ownership::fault(path, &found) {
                return Err(failed("store instances in", path, io::Error::other(reason)));
            }
        }
        let open = |path: &Path| -> Result<Directory, StoreError> {
            let synced = File::open(path).map_err(|e| failed("open", path, e))?;
            Ok(Directory {
                path: path.to_path_buf(),
                synced,
            })
        };
        let (state, instances) = (open(state_directory)?, open(&directory)?);
        let lock_path = state_directory.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path);
        let lock = match lock {
            // The kernel made the file system read-only after an error. The stored instances are
            // still served, and changes are refused.
            Err(reason) if reason.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                File::open(&lock_path)
            }
            lock => lock,
        };
        let lock = lock.map_err(|e| failed("open", &lock_path, e))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|reason| {
            let reason = match reason {
                rustix::io::Errno::WOULDBLOCK => {
                    io::Error::other("another imdsd is running on this state directory")
                }
                other => other.into(),
            };
            failed("lock", &lock_path, reason)
        })?;
        Ok(FileStore {
            instances,
            state,
            _lock: lock,
        })
    }

    fn path(&self, id: &InstanceId) -> PathBuf {
        self.instances.path.join(format!("{id}.json"))
    }
}

/// Creates a directory (mode 0700) and its missing parents. Each becomes durable when its parent is
/// synced. A parent in which nothing is created need not be readable.
fn create_directory(path: &Path) -> Result<(), (PathBuf, io::Error)> {
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Ok(()),
    };
    let mut created = DirBuilder::new().mode(0o700).create(path);
    if created
        .as_ref()
        .is_err_and(|reason| reason.kind() == io::ErrorKind::NotFound)
    {
        create_directory(parent)?;
        created = DirBuilder::new().mode(0o700).create(path);
    }
    match created {
        Ok(()) => File::open(parent).and_then(|parent| parent.sync_all()),
        Err(_) if path.is_dir() => Ok(()),
        Err(reason) => Err(reason),
    }
    .map_err(|reason| (path.to_path_buf(), reason))
}

/// The contents of a state directory.
#[derive(Debug, Default)]
pub struct StoredInstances {
    /// The instances.
    pub instances: Vec<Instance>,
    /// The unreadable records.
    pub unreadable: Vec<UnreadableRecord>,
    /// The fault of the account's record, if it is unreadable.
    pub account_unreadable: Option<Fault>,
}

/// Reads a state directory as it is now. Changes nothing and takes no lock: a daemon may be running
/// on it, and each of the daemon's writes is a rename.
pub fn read_state_directory(state_directory: &Path) -> io::Result<StoredInstances> {
    let loaded = match load(&state_directory.join("instances"), |_| {}) {
        Err(reason) if reason.kind() == io::ErrorKind::NotFound => Loaded::default(),
        loaded => loaded?,
    };
    let instances = loaded
        .records
        .into_iter()
        .map(|record| record.instance)
        .collect();
    let account_unreadable = match read_account(&state_directory.join(ACCOUNT)) {
        LoadedAccount::Absent | LoadedAccount::Read(_) => None,
        LoadedAccount::Unreadable(fault) => Some(fault),
    };
    Ok(StoredInstances {
        instances,
        unreadable: loaded.unreadable,
        account_unreadable,
    })
}

fn load(directory: &Path, unfinished: impl Fn(&Path)) -> io::Result<Loaded> {
    let mut loaded = Loaded::default();
    for file in fs::read_dir(directory)? {
        let path = file?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if name.ends_with(TEMPORARY) {
            unfinished(&path);
            continue;
        }
        let Some(id) = name.strip_suffix(".json").and_then(InstanceId::parse) else {
            continue;
        };
        match read_record(&path, &id) {
            Ok(record) => loaded.records.push(record),
            Err(message) => {
                let text = text_of(&path).unwrap_or_default();
                let text = String::from_utf8_lossy(&text);
                loaded.unreadable.push(UnreadableRecord {
                    id,
                    fault: Fault::of_file(&path, message),
                    attachments: document::attachments_in(&text),
                    client_tokens: document::launch_tokens_in(&text),
                });
            }
        }
    }
    Ok(loaded)
}

impl Store for FileStore {
    fn load(&self) -> Result<Loaded, StoreError> {
        let unfinished = |path: &Path| {
            // Left by a crash before its rename, so it was never acknowledged.
            let _ = fs::remove_file(path);
        };
        let mut loaded = load(&self.instances.path, unfinished).map_err(|reason| StoreError {
            action: format!("read {}", self.instances.path.display()),
            reason,
            stored: StoredState::Previous,
        })?;
        loaded.account = read_account(&self.state.path.join(ACCOUNT));
        Ok(loaded)
    }

    fn put(&self, record: &Record, before: Option<&Record>) -> Result<(), StoreError> {
        self.instances.put(
            &self.path(&record.instance.instance_id),
            &encode(record),
            before.map(encode).as_deref(),
        )
    }

    fn remove(&self, id: &InstanceId) -> Result<(), StoreError> {
        self.instances.remove(&self.path(id))
    }

    fn put_account(&self, account: &Account, before: Option<&Account>) -> Result<(), StoreError> {
        self.state.put(
            &self.state.path.join(ACCOUNT),
            &encode_account(account),
            before.map(encode_account).as_deref(),
        )
    }
}

impl Directory {
    /// Writes a file in place of `before`.
    fn put(&self, path: &Path, bytes: &[u8], before: Option<&[u8]>) -> Result<(), StoreError> {
        let action = || format!("write {}", path.display());
        self.replace(path, Some(bytes))
            .map_err(|failed| self.undo(failed, action(), path, before))
    }

    /// Removes a file. A missing file is a success.
    fn remove(&self, path: &Path) -> Result<(), StoreError> {
        let before = text_of(path).ok();
        let Err(failed) = self.replace(path, None) else {
            return Ok(());
        };
        let action = format!("remove {}", path.display());
        Err(match before {
            // A file that cannot be read cannot be restored.
            None if failed.took_effect => StoreError {
                action,
                reason: failed.reason,
                stored: StoredState::Unknown,
            },
            before => self.undo(failed, action, path, before.as_deref()),
        })
    }

    /// Restores the previous file after a failed change. The change may have reached the disk, and a
    /// restart would read it.
    fn undo(
        &self,
        failed: ReplaceError,
        action: String,
        path: &Path,
        before: Option<&[u8]>,
    ) -> StoreError {
        let stored = match failed.took_effect && self.replace(path, before).is_err() {
            true => StoredState::Unknown,
            false => StoredState::Previous,
        };
        StoreError {
            action,
            reason: failed.reason,
            stored,
        }
    }

    /// Replaces a file; `None` removes it.
    fn replace(&self, path: &Path, bytes: Option<&[u8]>) -> Result<(), ReplaceError> {
        let failed = |took_effect| {
            move |reason| ReplaceError {
                reason,
                took_effect,
            }
        };
        let Some(bytes) = bytes else {
            match fs::remove_file(path) {
                Err(reason) if reason.kind() != io::ErrorKind::NotFound => {
                    return Err(failed(false)(reason));
                }
                Ok(()) | Err(_) => return self.synced.sync_all().map_err(failed(true)),
            }
        };
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let temporary = self.path.join(format!(".{stem}{TEMPORARY}"));
        let write = || -> io::Result<()> {
            // A new file each time: after a failed fsync the kernel marks the lost pages of the old
            // file clean.
            let _ = fs::remove_file(&temporary);
            let mut file = OpenOptions::new()
                .create_new(true)
                .write(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, path)
        };
        write().map_err(|reason| {
            let _ = fs::remove_file(&temporary);
            failed(false)(reason)
        })?;
        self.synced.sync_all().map_err(failed(true))
    }
}

/// Why a file was not replaced durably.
struct ReplaceError {
    reason: io::Error,
    /// Whether readers already see the replacement, though a crash may undo it.
    took_effect: bool,
}

fn encode(record: &Record) -> Vec<u8> {
    let on_disk = RecordOnDisk {
        generation: record.generation,
        launch_epoch: record.launch_epoch,
        identity_document: record.identity_document.clone(),
        document_digest: record.document_digest.clone(),
        launch_request: record.launch_request.clone(),
        terminated: record.terminated,
        changed: record.changed,
        instance: document::to_value(&record.instance),
    };
    seal(&on_disk)
}

fn encode_account(account: &Account) -> Vec<u8> {
    seal(&AccountOnDisk {
        metadata_defaults: account.metadata_defaults,
        imds_v2_images: account.imds_v2_images.clone(),
    })
}

/// A record in its envelope.
fn seal(record: &impl Serialize) -> Vec<u8> {
    let record = serde_json::value::to_raw_value(record).expect("a record is plain JSON data");
    let envelope = Envelope {
        checksum: checksum(record.get()),
        record: &record,
    };
    let mut bytes = serde_json::to_vec(&envelope).expect("an envelope is plain JSON data");
    bytes.push(b'\n');
    bytes
}

/// Reads one record. The error contains the reason and what to do.
fn read_record(path: &Path, id: &InstanceId) -> Result<Record, String> {
    const HINT: &str = "the instance is not served; put the file back from a backup, or remove it to register the \
                        instance again from its document";
    let decode = || -> Result<Record, String> {
        let on_disk: RecordOnDisk = unseal(path)?;
        RecordedOptions::deserialize(&on_disk.instance["MetadataOptions"])
            .map_err(|reason| format!("MetadataOptions: {reason}"))?;
        let instance =
            document::from_value(on_disk.instance).map_err(|reason| reason.to_string())?;
        if instance.instance_id != *id {
            return Err(format!(
                "the record belongs to {}, not to {id}",
                instance.instance_id
            ));
        }
        Ok(Record {
            generation: on_disk.generation,
            launch_epoch: on_disk.launch_epoch,
            identity_document: on_disk.identity_document,
            document_digest: on_disk.document_digest,
            launch_request: on_disk.launch_request,
            terminated: on_disk.terminated,
            changed: on_disk.changed,
            instance,
        })
    };
    decode().map_err(|reason| format!("unreadable record: {reason}; {HINT}"))
}

/// Reads the account's record.
fn read_account(path: &Path) -> LoadedAccount {
    const HINT: &str = "no instance can be launched and tokens cannot be made optional; put the file back from a backup, or \
                        remove it and set the defaults again";
    match fs::symlink_metadata(path) {
        Err(reason) if reason.kind() == io::ErrorKind::NotFound => LoadedAccount::Absent,
        Ok(_) | Err(_) => match unseal::<AccountOnDisk>(path) {
            Ok(AccountOnDisk {
                metadata_defaults,
                imds_v2_images,
            }) => LoadedAccount::Read(Account {
                metadata_defaults,
                imds_v2_images,
            }),
            Err(reason) => LoadedAccount::Unreadable(Fault::of_file(
                path,
                format!("unreadable record: {reason}; {HINT}"),
            )),
        },
    }
}

/// Returns the record in an envelope if its checksum matches.
fn unseal<T: DeserializeOwned>(path: &Path) -> Result<T, String> {
    let text = text_of(path).map_err(|reason| reason.to_string())?;
    let envelope: Envelope<'_> =
        serde_json::from_slice(&text).map_err(|reason| reason.to_string())?;
    if envelope.checksum != checksum(envelope.record.get()) {
        return Err("the checksum does not match the record".to_string());
    }
    serde_json::from_str(envelope.record.get()).map_err(|reason| reason.to_string())
}

fn text_of(path: &Path) -> io::Result<Vec<u8>> {
    // The daemon writes regular files only. Anything else was put there by another program.
    PlainFile::open(path, Symlinks::Refuse)?.read_bytes(MAX_RECORD_BYTES)
}

fn checksum(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

#[cfg(test)]
mod tests;
