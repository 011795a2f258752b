//! The embedded store: one JSON file per instance in the state directory, and one for the account.
//!
//! A write is a temporary file in the same directory, fsync, rename, fsync of the directory, and only then a success:
//! what was acknowledged is there after a crash, and a file is always the whole old or the whole new record. Every file
//! carries a SHA-256 over its record, so a damaged byte is found and never served. One bad file costs one instance. A
//! removal is an fsync of the directory likewise. What could not be made durable is undone: the file of before goes
//! back.
//!
//! ```text
//! {"Checksum": "sha256:…", "Record": {"Generation": 7, "LaunchEpoch": …, "Changed": …, "Instance": {…}}}
//! {"Checksum": "sha256:…", "Record": {"MetadataDefaults": {"HttpTokens": "required"}}}
//! ```

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

use super::store::{
    Account, Loaded, LoadedAccount, Record, Store, StoreError, StoredState, UnreadableRecord,
};
use crate::document;
use crate::fault::Fault;
use crate::instance::{Attachment, Instance, InstanceId, MetadataDefaults, RecordedOptions};
use crate::ownership;
use crate::plain_file::{self, PlainFile, Symlinks};

/// The ending of a file that is not yet, or will never be, a record.
const TEMPORARY: &str = ".tmp";

/// The account's file in the state directory.
const ACCOUNT: &str = "account.json";

/// The largest record that is read. A record is its document with defaults filled in, so it can be larger.
const MAX_RECORD_BYTES: u64 = 2 * plain_file::MAX_DOCUMENT_BYTES;

/// Records as files in `<state directory>/instances`, and `<state directory>/account.json`.
pub struct FileStore {
    instances: Directory,
    state: Directory,
    /// Held for the life of the store: two daemons on one state directory would undo each other's changes.
    _lock: File,
}

/// A directory that files are replaced in.
struct Directory {
    path: PathBuf,
    /// The directory itself, open from the start: a full descriptor table must not come between a rename and its fsync.
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
}

impl FileStore {
    /// Opens the store, making its directories (mode 0700) where they are missing. Fails when another process has it open.
    pub fn open(state_directory: &Path) -> Result<FileStore, StoreError> {
        let directory = state_directory.join("instances");
        let failed = |action: &str, path: &Path, reason| StoreError {
            action: format!("{action} {}", path.display()),
            reason,
            stored: StoredState::Previous,
        };

        make_directory(&directory).map_err(|(path, reason)| failed("make", &path, reason))?;
        for path in [state_directory, &directory] {
            let found = fs::metadata(path).map_err(|e| failed("look at", path, e))?;
            if let Some(reason) = ownership::fault(path, &found) {
                return Err(failed("keep instances in", path, io::Error::other(reason)));
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
            // A file system that its kernel made read-only after an error: what is stored there is served all the same, and
            // changes are refused.
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

/// Makes a directory (mode 0700) and those above it that are missing. Each is durable once its parent is synced, which
/// need not be readable where nothing is made in it.
fn make_directory(path: &Path) -> Result<(), (PathBuf, io::Error)> {
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Ok(()),
    };
    let mut made = DirBuilder::new().mode(0o700).create(path);
    if made
        .as_ref()
        .is_err_and(|reason| reason.kind() == io::ErrorKind::NotFound)
    {
        make_directory(parent)?;
        made = DirBuilder::new().mode(0o700).create(path);
    }
    match made {
        Ok(()) => File::open(parent).and_then(|parent| parent.sync_all()),
        Err(_) if path.is_dir() => Ok(()),
        Err(reason) => Err(reason),
    }
    .map_err(|reason| (path.to_path_buf(), reason))
}

/// What the files of a state directory say.
pub struct StoredInstances {
    /// The instances.
    pub instances: Vec<Instance>,
    /// Why others can't be read.
    pub unreadable: Vec<Fault>,
    /// Why the account can't be read, if it can't.
    pub account_unreadable: Option<Fault>,
}

/// Reads a state directory as it is now. Nothing is changed and no lock is taken: a daemon may be running on it, and its
/// every write is a rename.
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
    let unreadable = loaded
        .unreadable
        .into_iter()
        .map(|record| record.fault)
        .collect();
    let account_unreadable = match read_account(&state_directory.join(ACCOUNT)) {
        LoadedAccount::Absent | LoadedAccount::Read(_) => None,
        LoadedAccount::Unreadable(fault) => Some(fault),
    };
    Ok(StoredInstances {
        instances,
        unreadable,
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
            Err(message) => loaded.unreadable.push(UnreadableRecord {
                id,
                fault: Fault::of_file(&path, message),
                attachments: attachments_in(&text_of(&path).unwrap_or_default()),
            }),
        }
    }
    Ok(loaded)
}

impl Store for FileStore {
    fn load(&self) -> Result<Loaded, StoreError> {
        let unfinished = |path: &Path| {
            // StoredState by a crash before its rename: it was never acknowledged.
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
    /// Puts a file in the place of `before`.
    fn put(&self, path: &Path, bytes: &[u8], before: Option<&[u8]>) -> Result<(), StoreError> {
        let action = || format!("write {}", path.display());
        self.replace(path, Some(bytes))
            .map_err(|failed| self.undo(failed, action(), path, before))
    }

    /// Takes a file away. That it is not there is what was wanted.
    fn remove(&self, path: &Path) -> Result<(), StoreError> {
        let before = text_of(path).ok();
        let Err(failed) = self.replace(path, None) else {
            return Ok(());
        };
        let action = format!("remove {}", path.display());
        Err(match before {
            // What can't be read can't be put back.
            None if failed.took_effect => StoreError {
                action,
                reason: failed.reason,
                stored: StoredState::Unknown,
            },
            before => self.undo(failed, action, path, before.as_deref()),
        })
    }

    /// What was not made durable may be on the disk by now, and a restart would read it: what was there before goes
    /// back.
    fn undo(
        &self,
        failed: Failed,
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

    /// Puts a file, or its absence, in the place of what is there.
    fn replace(&self, path: &Path, bytes: Option<&[u8]>) -> Result<(), Failed> {
        let failed = |took_effect| {
            move |reason| Failed {
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
            // A new file each time: after a failed fsync the old descriptor would call its lost pages clean.
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

/// Why a file was not replaced for good.
struct Failed {
    reason: io::Error,
    /// Whether whoever looks finds it replaced by now, though a crash may undo that.
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

/// Reads one record; the error says what is wrong and how to go on.
fn read_record(path: &Path, id: &InstanceId) -> Result<Record, String> {
    const MEND: &str = "the instance is not served; put the file back from a backup, or remove it to register the \
                        instance anew from its document";
    let decode = || -> Result<Record, String> {
        let on_disk: RecordOnDisk = unseal(path)?;
        RecordedOptions::deserialize(&on_disk.instance["MetadataOptions"])
            .map_err(|reason| format!("MetadataOptions: {reason}"))?;
        let instance =
            document::from_value(on_disk.instance).map_err(|reason| reason.to_string())?;
        if instance.instance_id != *id {
            return Err(format!(
                "the record is of {}, not of {id}",
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
    decode().map_err(|reason| format!("unreadable record: {reason}; {MEND}"))
}

/// Reads the account's record.
fn read_account(path: &Path) -> LoadedAccount {
    const MEND: &str = "no instance can be launched and no tokens be made optional; put the file back from a backup, or \
                        remove it and set the defaults anew";
    match fs::symlink_metadata(path) {
        Err(reason) if reason.kind() == io::ErrorKind::NotFound => LoadedAccount::Absent,
        Ok(_) | Err(_) => match unseal::<AccountOnDisk>(path) {
            Ok(AccountOnDisk { metadata_defaults }) => {
                LoadedAccount::Read(Account { metadata_defaults })
            }
            Err(reason) => LoadedAccount::Unreadable(Fault::of_file(
                path,
                format!("unreadable record: {reason}; {MEND}"),
            )),
        },
    }
}

/// Takes a record out of its envelope, if it is whole.
fn unseal<T: DeserializeOwned>(path: &Path) -> Result<T, String> {
    let text = text_of(path).map_err(|reason| reason.to_string())?;
    let envelope: Envelope<'_> =
        serde_json::from_slice(&text).map_err(|reason| reason.to_string())?;
    if envelope.checksum != checksum(envelope.record.get()) {
        return Err("the checksum does not fit the record".to_string());
    }
    serde_json::from_str(envelope.record.get()).map_err(|reason| reason.to_string())
}

fn text_of(path: &Path) -> io::Result<Vec<u8>> {
    // The daemon writes regular files only. Anything else was put there by another program.
    PlainFile::open(path, Symlinks::Refuse)?.read_bytes(MAX_RECORD_BYTES)
}

/// The ways in that the text of an unreadable record still tells: it may be cut off, or have a damaged byte elsewhere.
/// A quoted key can't be in a string, where its quotes have backslashes.
fn attachments_in(text: &[u8]) -> Vec<Attachment> {
    const KEY: &str = "\"Attachments\"";
    let text = String::from_utf8_lossy(text);
    let lists = text.match_indices(KEY).filter_map(|(at, _)| {
        let list = text[at + KEY.len()..].trim_start().strip_prefix(':')?;
        serde_json::Deserializer::from_str(list)
            .into_iter::<Vec<Attachment>>()
            .next()?
            .ok()
    });
    lists.flatten().collect()
}

fn checksum(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::config::demo_instance;
    use crate::instance::{HttpTokens, Switch};

    fn record(generation: u64) -> Record {
        Record {
            generation,
            launch_epoch: u64::MAX,
            identity_document: "{}".to_string(),
            document_digest: String::new(),
            launch_request: None,
            terminated: None,
            changed: "2026-01-02T03:04:05Z".parse().unwrap(),
            instance: demo_instance(),
        }
    }

    fn only_file(directory: &Path) -> PathBuf {
        directory
            .join("instances")
            .join(format!("{}.json", demo_instance().instance_id))
    }

    #[test]
    fn what_was_put_is_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let store = FileStore::open(directory.path()).unwrap();
        store.put(&record(1), None).unwrap();
        store.put(&record(2), None).unwrap();
        let loaded = store.load().unwrap();
        assert_eq!(loaded.records, [record(2)]);
        assert!(loaded.unreadable.is_empty());
    }

    #[test]
    fn records_are_for_the_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        FileStore::open(directory.path())
            .unwrap()
            .put(&record(1), None)
            .unwrap();
        let mode = fs::metadata(only_file(directory.path()))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let mode = fs::metadata(directory.path().join("instances"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn two_daemons_cannot_share_a_state_directory() {
        let directory = tempfile::tempdir().unwrap();
        let _first = FileStore::open(directory.path()).unwrap();
        let second = FileStore::open(directory.path())
            .err()
            .expect("the second open is refused");
        assert!(second.to_string().contains("another imdsd"), "{second}");
    }

    #[test]
    fn a_temporary_file_left_by_a_crash_is_no_record() {
        let directory = tempfile::tempdir().unwrap();
        let store = FileStore::open(directory.path()).unwrap();
        store.put(&record(1), None).unwrap();
        let left = directory
            .path()
            .join("instances")
            .join(format!(".{}.tmp", demo_instance().instance_id));
        fs::write(&left, "half a rec").unwrap();
        assert_eq!(store.load().unwrap().records, [record(1)]);
        assert!(!left.exists());
    }

    /// Every byte flipped, every length cut: the instance is refused, or is exactly what was stored.
    #[test]
    fn a_damaged_record_is_never_served_as_something_else() {
        let directory = tempfile::tempdir().unwrap();
        let store = FileStore::open(directory.path()).unwrap();
        let mut strict = record(1);
        strict.instance.metadata_options.http_tokens = HttpTokens::Required;
        strict.instance.metadata_options.http_endpoint = Switch::Disabled;
        store.put(&strict, None).unwrap();
        let path = only_file(directory.path());
        let good = fs::read(&path).unwrap();

        let id = &strict.instance.instance_id;
        let mut refused = 0;
        let mut hold = |bytes: &[u8], what: String| {
            fs::write(&path, bytes).unwrap();
            match read_record(&path, id) {
                Ok(read) => assert_eq!(read, strict, "{what}"),
                Err(_) => refused += 1,
            }
        };
        let bits = [0x01, 0x02, 0x04, 0x20, 0x80, 0xff];
        for place in 0..good.len() {
            for bit in bits {
                let mut bad = good.clone();
                bad[place] ^= bit;
                hold(&bad, format!("byte {place} with {bit:#x} flipped"));
            }
        }
        for length in 0..good.len() {
            hold(&good[..length], format!("cut to {length} bytes"));
        }
        let tried = (bits.len() + 1) * good.len();
        println!(
            "{} bytes, {tried} damaged records, {refused} refused, the others as they were stored",
            good.len()
        );
        assert!(
            refused > tried - tried / 100,
            "nearly everything is refused, not {refused} of {tried}"
        );
    }

    /// As another version may have written them: whole, and with the right checksum.
    #[test]
    fn a_record_has_the_five_options_and_no_others() {
        let directory = tempfile::tempdir().unwrap();
        let store = FileStore::open(directory.path()).unwrap();
        store.put(&record(1), None).unwrap();
        let path = only_file(directory.path());
        let whole: RecordOnDisk = unseal(&path).unwrap();
        let options = whole.instance["MetadataOptions"]
            .as_object()
            .unwrap()
            .clone();
        assert_eq!(options.len(), 5);
        let without = options.keys().map(|name| {
            let mut options = options.clone();
            options.remove(name);
            Some(options)
        });
        let and = |name: &str| {
            let mut options = options.clone();
            options.insert(name.to_string(), "required".into());
            Some(options)
        };
        for options in without.chain([and("HttpTokensEnforced"), and("State"), None]) {
            let mut other: RecordOnDisk = unseal(&path).unwrap();
            let instance = other.instance.as_object_mut().unwrap();
            match &options {
                Some(options) => {
                    drop(instance.insert("MetadataOptions".to_string(), options.clone().into()))
                }
                None => drop(instance.remove("MetadataOptions")),
            }
            let altered = directory.path().join("altered.json");
            fs::write(&altered, seal(&other)).unwrap();
            let refused =
                read_record(&altered, &demo_instance().instance_id).expect_err("it is refused");
            assert!(
                refused.contains("MetadataOptions: "),
                "{options:?}: {refused}"
            );
        }
    }

    #[test]
    fn a_record_under_another_instances_name_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let store = FileStore::open(directory.path()).unwrap();
        store.put(&record(1), None).unwrap();
        fs::rename(
            only_file(directory.path()),
            directory.path().join("instances/i-12345678.json"),
        )
        .unwrap();
        let loaded = store.load().unwrap();
        assert!(loaded.records.is_empty());
        assert_eq!(loaded.unreadable[0].id.as_str(), "i-12345678");
        assert!(
            loaded.unreadable[0]
                .fault
                .to_string()
                .contains("i-12345678.json")
        );
    }

    /// The rename happened and its fsync did not: a restart must not find what was refused.
    #[test]
    fn a_record_whose_rename_could_not_be_made_durable_is_taken_back() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = FileStore::open(directory.path()).unwrap();
        store.put(&record(1), None).unwrap();
        // A descriptor that can't be synced stands for a disk that fails.
        store.instances.synced = File::from(rustix::pipe::pipe().unwrap().0);
        let left = store.put(&record(2), Some(&record(1))).unwrap_err().stored;
        // The old record was put back, though nobody can be sure that it is durable.
        assert_eq!(
            (left, store.load().unwrap().records),
            (StoredState::Unknown, vec![record(1)])
        );
        let new = InstanceId::parse("i-12345678").unwrap();
        let mut fresh = record(1);
        fresh.instance.instance_id = new.clone();
        assert!(store.put(&fresh, None).is_err());
        assert!(!store.path(&new).exists());
    }

    /// Else it would be gone after a restart, while the instance is still served and changes of it are acknowledged.
    #[test]
    fn a_removal_that_could_not_be_made_durable_is_taken_back() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = FileStore::open(directory.path()).unwrap();
        store.put(&record(1), None).unwrap();
        let id = demo_instance().instance_id;
        let synced = std::mem::replace(
            &mut store.instances.synced,
            File::from(rustix::pipe::pipe().unwrap().0),
        );
        let left = store.remove(&id).unwrap_err().stored;
        assert_eq!(
            (left, store.load().unwrap().records),
            (StoredState::Unknown, vec![record(1)])
        );

        // What can't be removed is as it was.
        store.instances.synced = synced;
        fs::remove_file(only_file(directory.path())).unwrap();
        fs::create_dir(only_file(directory.path())).unwrap();
        assert_eq!(store.remove(&id).unwrap_err().stored, StoredState::Previous);
    }

    #[test]
    fn what_others_may_write_is_no_state_directory() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let refused = FileStore::open(directory.path())
            .err()
            .expect("it is refused")
            .to_string();
        assert!(refused.contains("chmod 700"), "{refused}");
    }

    /// Only root can make a directory that is another's, so nobody else can hold this.
    #[test]
    fn what_is_another_users_is_no_state_directory() {
        let directory = tempfile::tempdir().unwrap();
        drop(FileStore::open(directory.path()).unwrap());
        for others in [
            directory.path().join("instances"),
            directory.path().to_path_buf(),
        ] {
            if std::os::unix::fs::chown(&others, Some(65534), None).is_err() {
                return;
            }
            let refused = FileStore::open(directory.path())
                .err()
                .expect("it is refused")
                .to_string();
            assert!(
                refused.contains("belongs to another user (uid 65534); run: chown 0 "),
                "{refused}"
            );
            std::os::unix::fs::chown(&others, Some(0), None).unwrap();
        }
    }

    #[test]
    fn missing_directories_are_made_one_below_the_other() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("a/b/state");
        drop(FileStore::open(&state).unwrap());
        for made in [
            directory.path().join("a"),
            state.clone(),
            state.join("instances"),
        ] {
            assert_eq!(
                fs::metadata(made).unwrap().permissions().mode() & 0o777,
                0o700
            );
        }
        fs::write(directory.path().join("file"), "").unwrap();
        assert!(FileStore::open(&directory.path().join("file/state")).is_err());
    }

    #[test]
    fn what_is_no_plain_file_is_no_record() {
        let directory = tempfile::tempdir().unwrap();
        let store = FileStore::open(directory.path()).unwrap();
        std::os::unix::fs::symlink(
            "/etc/hostname",
            store.instances.path.join("i-12345678.json"),
        )
        .unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            store.instances.path.join("i-87654321.json"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        assert_eq!(store.load().unwrap().unreadable.len(), 2);
    }

    #[test]
    fn a_failed_write_is_an_error_and_keeps_the_old_record() {
        let directory = tempfile::tempdir().unwrap();
        let store = FileStore::open(directory.path()).unwrap();
        store.put(&record(1), None).unwrap();
        // A directory in the way of the temporary file fails every write, for root too.
        let in_the_way = directory
            .path()
            .join("instances")
            .join(format!(".{}.tmp", demo_instance().instance_id));
        fs::create_dir(&in_the_way).unwrap();
        assert_eq!(
            store.put(&record(2), Some(&record(1))).unwrap_err().stored,
            StoredState::Previous
        );
        fs::remove_dir(&in_the_way).unwrap();
        assert_eq!(store.load().unwrap().records, [record(1)]);
        store.put(&record(3), None).unwrap();
        assert_eq!(store.load().unwrap().records, [record(3)]);
    }

    fn account(tokens: HttpTokens) -> Account {
        let http_tokens = Some(tokens);
        Account {
            metadata_defaults: MetadataDefaults {
                http_tokens,
                ..MetadataDefaults::default()
            },
        }
    }

    fn loaded_account(store: &FileStore) -> Option<Account> {
        match store.load().unwrap().account {
            LoadedAccount::Absent => None,
            LoadedAccount::Read(account) => Some(account),
            LoadedAccount::Unreadable(fault) => panic!("{fault}"),
        }
    }

    #[test]
    fn the_account_is_kept_beside_the_instances() {
        let directory = tempfile::tempdir().unwrap();
        let store = FileStore::open(directory.path()).unwrap();
        assert_eq!(loaded_account(&store), None);
        for tokens in [HttpTokens::Optional, HttpTokens::Required] {
            store.put_account(&account(tokens), None).unwrap();
            assert_eq!(loaded_account(&store), Some(account(tokens)));
        }
        let mode = fs::metadata(directory.path().join(ACCOUNT))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(store.load().unwrap().records.is_empty());
    }

    /// Every byte flipped, every length cut, and no plain file: what can't be read is no account without preferences.
    #[test]
    fn a_damaged_account_is_never_read_as_another() {
        let directory = tempfile::tempdir().unwrap();
        let store = FileStore::open(directory.path()).unwrap();
        store
            .put_account(&account(HttpTokens::Required), None)
            .unwrap();
        let path = directory.path().join(ACCOUNT);
        let good = fs::read(&path).unwrap();
        let flipped = (0..good.len()).map(|place| {
            let mut bad = good.clone();
            bad[place] ^= 0x01;
            bad
        });
        let cut = (0..good.len() - 1).map(|length| good[..length].to_vec());
        for bad in flipped.chain(cut) {
            fs::write(&path, &bad).unwrap();
            match read_account(&path) {
                LoadedAccount::Unreadable(_) => {}
                LoadedAccount::Read(read) => assert_eq!(read, account(HttpTokens::Required)),
                LoadedAccount::Absent => panic!("{}", String::from_utf8_lossy(&bad)),
            }
        }
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/nonexistent", &path).unwrap();
        assert!(matches!(read_account(&path), LoadedAccount::Unreadable(_)));
    }

    #[test]
    fn an_account_whose_rename_could_not_be_made_durable_is_unknown() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = FileStore::open(directory.path()).unwrap();
        store
            .put_account(&account(HttpTokens::Required), None)
            .unwrap();
        store.state.synced = File::from(rustix::pipe::pipe().unwrap().0);
        let before = account(HttpTokens::Required);
        let failed = store
            .put_account(&account(HttpTokens::Optional), Some(&before))
            .unwrap_err();
        assert_eq!(
            (failed.stored, loaded_account(&store)),
            (StoredState::Unknown, Some(before))
        );
    }

    #[test]
    fn what_was_removed_is_not_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let store = FileStore::open(directory.path()).unwrap();
        store.put(&record(1), None).unwrap();
        store.remove(&demo_instance().instance_id).unwrap();
        assert!(store.load().unwrap().records.is_empty());
        // Nothing is there to be removed, which is what was wanted.
        store.remove(&demo_instance().instance_id).unwrap();
    }
}
