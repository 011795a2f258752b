//! The embedded store: one JSON file per instance in the state directory, and one for the account.
//!
//! A write is a temporary file in the same directory, fsync, rename, fsync of the directory, and
//! only then a success: an acknowledged change survives a crash, and a file always contains the
//! complete old or the complete new record. Every file contains the SHA-256 of its record, so a
//! damaged byte is detected and never served. A damaged file affects only its own instance. A
//! removal also ends with an fsync of the directory. A change that could not be made durable is
//! undone: the previous file is restored.
//!
//! Preparing writes and syncs the temporary files, several at a time, or hundreds of new ones with
//! one sync of their file system. Committing renames those of
//! all batches and syncs the directory once for all of them.
//!
//! ```text
//! {"Checksum": "sha256:…", "Record": {"Generation": 7, "LaunchEpoch": …, "Changed": …, "Instance": {…}}}
//! {"Checksum": "sha256:…", "Record": {"MetadataDefaults": {"HttpTokens": "required"}}}
//! ```
//!
//! | file | concept |
//! |---|---|
//! | `file_system` | syncing many files at once |
//! | `format` | what is in a file |
//! | `staged` | replacing files so that they can be restored |
//! | `temporary` | the names of temporary files, and their removal |

mod file_system;
mod format;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod staged;
mod temporary;

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FlockOperation;

use self::file_system::{FileSync, FileSystem, MIN_FILES};
use self::format::{encode, encode_account, read_account, read_record, text_of};
use self::staged::{Directory, PlaceError, StagedFile};
use self::temporary::TemporaryFiles;
use super::account::Account;
use super::parallel::in_parallel;
use super::record::Record;
use super::store::{
    CommitError, Conflict, Expected, Loaded, LoadedAccount, PreparedWrite, Store, StoreError,
    StoredState, UnreadableRecord, Write,
};
use super::text_pool::TextPool;
use crate::document;
use crate::fault::Fault;
use crate::instance::{Instance, InstanceId};
use crate::ownership;
use crate::side_by_side::side_by_side;

/// The account's file in the state directory.
const ACCOUNT: &str = "account.json";

/// Records as files in `<state directory>/instances`, and `<state directory>/account.json`.
pub struct FileStore {
    instances: Directory,
    state: Directory,
    temporary: TemporaryFiles,
    /// The generations of the records, as far as they are known: what a write must replace. Locked
    /// while changes are committed.
    generations: parking_lot::Mutex<HashMap<InstanceId, u64>>,
    /// Held for the life of the store: two daemons on one state directory would undo each other's
    /// changes.
    _lock: File,
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
        let temporary = TemporaryFiles::start().map_err(|reason| StoreError {
            action: "start a thread for the store".to_string(),
            reason,
            stored: StoredState::Previous,
        })?;
        Ok(FileStore {
            instances,
            state,
            temporary,
            generations: parking_lot::Mutex::default(),
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
        .map(|record| Arc::unwrap_or_clone(record).instance)
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

fn load(directory: &Path, unfinished: impl Fn(PathBuf)) -> io::Result<Loaded> {
    let mut files = Vec::new();
    for file in fs::read_dir(directory)? {
        let path = file?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if name.ends_with(temporary::SUFFIX) {
            unfinished(path);
            continue;
        }
        if let Some(id) = name.strip_suffix(".json").and_then(InstanceId::parse) {
            files.push((path, id));
        }
    }
    let mut loaded = Loaded::default();
    // Each record's texts are shared as soon as it is read: most of the memory is free again for
    // the next one.
    let texts = TextPool::default();
    let records = side_by_side(files, |(path, id)| {
        let record = read_record(&path, &id);
        let mut record: Record =
            record.map_err(|message| Box::new(unreadable(&path, id, message)))?;
        texts.share(&mut record.instance);
        Ok::<_, Box<UnreadableRecord>>(Arc::new(record))
    });
    for record in records {
        match record {
            Ok(record) => loaded.records.push(record),
            Err(unreadable) => loaded.unreadable.push(*unreadable),
        }
    }
    loaded.texts = texts;
    Ok(loaded)
}

fn unreadable(path: &Path, id: InstanceId, message: String) -> UnreadableRecord {
    let text = text_of(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    UnreadableRecord {
        id,
        fault: Fault::of_file(path, message),
        attachments: document::attachments_in(&text),
        client_tokens: document::launch_tokens_in(&text),
    }
}

impl Store for FileStore {
    fn load(&self) -> Result<Loaded, StoreError> {
        let unfinished = |path: PathBuf| {
            // Left by a crash, so it was never acknowledged, or was replaced.
            if fs::symlink_metadata(&path).is_ok_and(|found| found.is_file()) {
                self.temporary.remove(path);
            }
        };
        let mut loaded = load(&self.instances.path, unfinished).map_err(|reason| StoreError {
            action: format!("read {}", self.instances.path.display()),
            reason,
            stored: StoredState::Previous,
        })?;
        loaded.account = read_account(&self.state.path.join(ACCOUNT));
        let stored = loaded.records.iter();
        *self.generations.lock() = stored
            .map(|record| (record.instance.instance_id.clone(), record.generation))
            .collect();
        Ok(loaded)
    }

    fn prepare(&self, writes: Vec<Write>) -> Result<Vec<PreparedWrite>, StoreError> {
        let staged = match self.stage_together(&writes) {
            Some(staged) => staged,
            None => self.stage(&writes, FileSync::AtOnce)?,
        };
        let prepared = writes.into_iter().zip(staged);
        let prepared = prepared.map(|(write, staged)| PreparedWrite {
            write,
            staged: Box::new(staged),
        });
        Ok(prepared.collect())
    }

    fn commit(&self, batches: Vec<Vec<PreparedWrite>>) -> Vec<Result<(), CommitError>> {
        let mut generations = self.generations.lock();
        let mut in_place: Vec<Result<Batch, CommitError>> = batches
            .into_iter()
            .map(|batch| self.put_in_place(&mut generations, batch))
            .collect();
        let is_sync_needed = in_place.iter().any(Result::is_ok);
        if let Some(reason) = is_sync_needed
            .then(|| self.instances.sync().err())
            .flatten()
        {
            // The last first: a later batch may replace what an earlier one stored.
            for batch in in_place.iter_mut().rev() {
                if let Ok(placed) = batch {
                    *batch = Err(self.restore(&mut generations, placed, &reason));
                }
            }
        }
        in_place.into_iter().map(|batch| batch.map(drop)).collect()
    }

    fn put_account(&self, account: &Account) -> Result<(), StoreError> {
        let path = self.state.path.join(ACCOUNT);
        let action = staged::action(&path, true);
        let failed = |reason, is_unknown: bool| StoreError {
            action,
            reason,
            stored: match is_unknown {
                true => StoredState::Unknown,
                false => StoredState::Previous,
            },
        };
        let bytes = encode_account(account);
        let staged = StagedFile::write(&self.temporary, path, Some(&bytes), FileSync::AtOnce);
        let mut staged = match staged {
            Ok(staged) => [staged],
            Err(reason) => return Err(failed(reason, false)),
        };
        if let Err(error) = self.state.put_in_place(&mut staged) {
            return Err(failed(error.reason, !error.unknown.is_empty()));
        }
        self.state.sync().map_err(|reason| {
            let unknown = self.state.restore(&mut staged);
            failed(reason, !unknown.is_empty())
        })
    }
}

/// The writes of a batch that are in place and not durable yet.
struct Batch {
    writes: Vec<Write>,
    files: Vec<StagedFile>,
}

impl FileStore {
    /// Writes the new files of a batch. What was written is removed if one fails.
    fn stage(&self, writes: &[Write], sync: FileSync) -> Result<Vec<StagedFile>, StoreError> {
        let stage = |write: &Write| {
            let (path, bytes) = (self.path(&write.id), write.record.as_deref().map(encode));
            let action = staged::action(&path, bytes.is_some());
            let staged = StagedFile::write(&self.temporary, path, bytes.as_deref(), sync);
            staged.map_err(|reason| StoreError {
                action,
                reason,
                stored: StoredState::Previous,
            })
        };
        in_parallel(writes, stage).into_iter().collect()
    }

    /// Writes the new files of a large batch, and syncs them together. `None` if the batch is small,
    /// if that is not as strict as a sync of each file, or if anything fails: then each file must be
    /// written again, because nothing says which one is not on the disk.
    fn stage_together(&self, writes: &[Write]) -> Option<Vec<StagedFile>> {
        let new_files = writes.iter().filter(|write| write.record.is_some());
        if new_files.count() < MIN_FILES {
            return None;
        }
        let file_system = FileSystem::open(&self.instances.path)?;
        let staged = self.stage(writes, FileSync::Later).ok()?;
        file_system.sync().ok()?;
        Some(staged)
    }

    /// Puts a batch in place if every write replaces what it expects.
    fn put_in_place(
        &self,
        generations: &mut HashMap<InstanceId, u64>,
        batch: Vec<PreparedWrite>,
    ) -> Result<Batch, CommitError> {
        let (mut writes, mut files) = (Vec::new(), Vec::new());
        for PreparedWrite { write, staged } in batch {
            let staged = staged.downcast::<StagedFile>();
            files.push(*staged.expect("the file store prepared this write"));
            writes.push(write);
        }
        for (write, file) in writes.iter().zip(&files) {
            self.check(generations, write)
                .map_err(|conflict| StoreError::conflict(file.action(), conflict))?;
        }
        let placed = self.instances.put_in_place(&mut files);
        for Write { id, record, .. } in &writes {
            match record {
                Some(record) if placed.is_ok() => {
                    generations.insert(id.clone(), record.generation);
                }
                // Without a known generation, the next write looks at the file.
                Some(_) | None => drop(generations.remove(id)),
            }
        }
        match placed {
            Ok(()) => Ok(Batch { writes, files }),
            Err(PlaceError {
                action,
                reason,
                unknown,
            }) => {
                let unknown = unknown.into_iter().map(|at| writes[at].id.clone());
                Err(CommitError::new(action, reason, unknown.collect()))
            }
        }
    }

    /// Undoes a batch whose directory could not be synced.
    fn restore(
        &self,
        generations: &mut HashMap<InstanceId, u64>,
        Batch { writes, files }: &mut Batch,
        reason: &io::Error,
    ) -> CommitError {
        for write in &*writes {
            generations.remove(&write.id);
        }
        let action = match files.as_slice() {
            [file] => file.action(),
            files => format!(
                "write {} records to {}",
                files.len(),
                self.instances.path.display()
            ),
        };
        let unknown = self.instances.restore(files).into_iter();
        let unknown = unknown.map(|at| writes[at].id.clone()).collect();
        // Each batch gets the error, which cannot be copied.
        let reason = match reason.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(reason.kind(), reason.to_string()),
        };
        CommitError::new(action, reason, unknown)
    }

    /// Compares what is stored with what a write expects.
    fn check(
        &self,
        generations: &mut HashMap<InstanceId, u64>,
        Write { id, expected, .. }: &Write,
    ) -> Result<(), Conflict> {
        if *expected == Expected::Anything {
            return Ok(());
        }
        let path = self.path(id);
        let mut is_there = true;
        if !generations.contains_key(id) {
            is_there = fs::symlink_metadata(&path)
                .err()
                .is_none_or(|reason| reason.kind() != io::ErrorKind::NotFound);
            if let Some(record) = is_there.then(|| read_record(&path, id).ok()).flatten() {
                generations.insert(id.clone(), record.generation);
            }
        }
        let found = generations.get(id).copied();
        let is_expected = match expected {
            Expected::Anything => true,
            Expected::Absent => !is_there,
            Expected::Generation(generation) => found == Some(*generation),
        };
        match is_expected {
            true => Ok(()),
            false => Err(Conflict {
                expected: *expected,
                found,
            }),
        }
    }
}

#[cfg(test)]
mod tests;
