//! Tests of the file store: durability, damaged files, permissions.

use std::os::unix::fs::PermissionsExt as _;

use std::sync::Arc;

use super::format::{RecordOnDisk, seal, unseal};
use super::*;
use crate::config::demo_instance;
use crate::instance::{HttpTokens, MetadataDefaults, Switch};
use crate::registry::record::Record;

/// Writes of single records.
trait WriteOne {
    fn put(&self, record: &Record) -> Result<(), StoreError>;
    fn remove(&self, id: &InstanceId) -> Result<(), StoreError>;
}

impl WriteOne for FileStore {
    fn put(&self, record: &Record) -> Result<(), StoreError> {
        self.write(Write::put(Arc::new(record.clone()), Expected::Anything))
    }

    fn remove(&self, id: &InstanceId) -> Result<(), StoreError> {
        self.write(Write::remove(id.clone(), Expected::Anything))
    }
}

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
fn the_last_stored_record_is_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let store = FileStore::open(directory.path()).unwrap();
    store.put(&record(1)).unwrap();
    store.put(&record(2)).unwrap();
    let loaded = store.load().unwrap();
    assert_eq!(loaded.records, [Arc::new(record(2))]);
    assert!(loaded.unreadable.is_empty());
}

#[test]
fn records_have_mode_0600_in_a_directory_with_mode_0700() {
    let directory = tempfile::tempdir().unwrap();
    FileStore::open(directory.path())
        .unwrap()
        .put(&record(1))
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
        .expect("the second open fails");
    assert!(second.to_string().contains("another imdsd"), "{second}");
}

#[test]
fn a_temporary_file_left_by_a_crash_is_removed_and_not_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let store = FileStore::open(directory.path()).unwrap();
    store.put(&record(1)).unwrap();
    let left = directory
        .path()
        .join("instances")
        .join(format!(".{}.tmp", demo_instance().instance_id));
    fs::write(&left, "half a rec").unwrap();
    assert_eq!(store.load().unwrap().records, [Arc::new(record(1))]);
    store.temporary.settle();
    assert!(!left.exists());
}

/// Flips every byte and cuts the file to every length: the record is refused, or read exactly as
/// stored.
#[test]
fn a_damaged_record_is_never_served_as_something_else() {
    let directory = tempfile::tempdir().unwrap();
    let store = FileStore::open(directory.path()).unwrap();
    let mut strict = record(1);
    strict.instance.metadata_options.http_tokens = HttpTokens::Required;
    strict.instance.metadata_options.http_endpoint = Switch::Disabled;
    store.put(&strict).unwrap();
    let path = only_file(directory.path());
    let good = fs::read(&path).unwrap();

    let id = &strict.instance.instance_id;
    let mut refused = 0;
    let mut check = |bytes: &[u8], what: String| {
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
            check(&bad, format!("byte {place} with {bit:#x} flipped"));
        }
    }
    for length in 0..good.len() {
        check(&good[..length], format!("cut to {length} bytes"));
    }
    let tried = (bits.len() + 1) * good.len();
    println!(
        "{} bytes, {tried} damaged records, {refused} refused, the others read as stored",
        good.len()
    );
    assert!(
        refused > tried - tried / 100,
        "nearly everything is refused, not {refused} of {tried}"
    );
}

/// Such records could come from another version: complete, with the right checksum.
#[test]
fn a_record_without_exactly_the_five_options_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = FileStore::open(directory.path()).unwrap();
    store.put(&record(1)).unwrap();
    let path = only_file(directory.path());
    let whole: RecordOnDisk<'_, serde_json::Value> = unseal(&path).unwrap();
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
        let mut other: RecordOnDisk<'_, serde_json::Value> = unseal(&path).unwrap();
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

/// Only an envelope as it is written is read without parsing it.
#[test]
fn an_envelope_in_another_form_is_read_and_its_checksum_is_compared() {
    let directory = tempfile::tempdir().unwrap();
    let store = FileStore::open(directory.path()).unwrap();
    store.put(&record(1)).unwrap();
    let path = only_file(directory.path());
    let written = fs::read_to_string(&path).unwrap();
    let (sum, record_text) = written
        .strip_suffix("}\n")
        .and_then(|text| text.strip_prefix("{\"Checksum\":"))
        .and_then(|text| text.split_once(",\"Record\":"))
        .unwrap();
    let other = |text: &str| fs::write(&path, text).unwrap();
    for text in [
        format!("{{\"Record\": {record_text},\n \"Checksum\": {sum}}}"),
        format!("{{\"Checksum\":{sum},\"Record\":{record_text}}}"),
        format!("{{\"Checksum\":{sum},\"Record\":{record_text} }}\n"),
        written.clone(),
    ] {
        other(&text);
        assert_eq!(
            store.load().unwrap().records,
            [Arc::new(record(1))],
            "{text}"
        );
    }
    let damaged = record_text.replacen("\"Generation\":1", "\"Generation\":2", 1);
    assert_ne!(damaged, record_text);
    for text in [
        format!("{{\"Record\":{damaged},\"Checksum\":{sum}}}"),
        format!("{{\"Checksum\":{sum},\"Record\":{damaged}}}\n"),
        format!("{{\"Checksum\":{sum},\"Record\":{record_text},\"More\":1}}\n"),
        format!("{{\"Checksum\":{sum},\"Record\":{record_text}}}}}\n"),
        format!("{{\"Checksum\":{sum}\"Record\":{record_text}}}\n"),
    ] {
        other(&text);
        let loaded = store.load().unwrap();
        assert_eq!(
            (loaded.records.len(), loaded.unreadable.len()),
            (0, 1),
            "{text}"
        );
    }
}

#[test]
fn a_record_in_the_file_of_another_instance_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = FileStore::open(directory.path()).unwrap();
    store.put(&record(1)).unwrap();
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

/// The rename succeeded and its fsync failed: a restart must not find the refused record.
#[test]
fn a_record_whose_rename_could_not_be_made_durable_is_undone() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = FileStore::open(directory.path()).unwrap();
    store.put(&record(1)).unwrap();
    // A descriptor that cannot be synced simulates a failing disk.
    store.instances.synced = File::from(rustix::pipe::pipe().unwrap().0);
    let left = store.put(&record(2)).unwrap_err().stored;
    // The old record was put back, but it is not known to be durable.
    assert_eq!(
        (left, store.load().unwrap().records),
        (StoredState::Unknown, vec![Arc::new(record(1))])
    );
    let new = InstanceId::parse("i-12345678").unwrap();
    let mut fresh = record(1);
    fresh.instance.instance_id = new.clone();
    assert!(store.put(&fresh).is_err());
    assert!(!store.path(&new).exists());
}

/// Otherwise the record would be gone after a restart, while the instance is still served and its
/// changes are acknowledged.
#[test]
fn a_removal_that_could_not_be_made_durable_is_undone() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = FileStore::open(directory.path()).unwrap();
    store.put(&record(1)).unwrap();
    let id = demo_instance().instance_id;
    let synced = std::mem::replace(
        &mut store.instances.synced,
        File::from(rustix::pipe::pipe().unwrap().0),
    );
    let left = store.remove(&id).unwrap_err().stored;
    assert_eq!(
        (left, store.load().unwrap().records),
        (StoredState::Unknown, vec![Arc::new(record(1))])
    );

    // A record that cannot be removed stays as it was.
    store.instances.synced = synced;
    fs::remove_file(only_file(directory.path())).unwrap();
    fs::create_dir(only_file(directory.path())).unwrap();
    assert_eq!(store.remove(&id).unwrap_err().stored, StoredState::Previous);
}

#[test]
fn a_state_directory_that_others_can_write_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let refused = FileStore::open(directory.path())
        .err()
        .expect("it is refused")
        .to_string();
    assert!(refused.contains("chmod 700"), "{refused}");
}

/// Only root can give a directory to another user.
#[test]
#[ignore = "needs root; tests/all runs it"]
fn a_state_directory_of_another_user_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    drop(FileStore::open(directory.path()).unwrap());
    for others in [
        directory.path().join("instances"),
        directory.path().to_path_buf(),
    ] {
        std::os::unix::fs::chown(&others, Some(65534), None).expect("this test needs root");
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
fn missing_directories_are_created_with_mode_0700() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("a/b/state");
    drop(FileStore::open(&state).unwrap());
    for created in [
        directory.path().join("a"),
        state.clone(),
        state.join("instances"),
    ] {
        assert_eq!(
            fs::metadata(created).unwrap().permissions().mode() & 0o777,
            0o700
        );
    }
    fs::write(directory.path().join("file"), "").unwrap();
    assert!(FileStore::open(&directory.path().join("file/state")).is_err());
}

#[test]
fn a_record_that_is_not_a_regular_file_is_unreadable() {
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
    store.put(&record(1)).unwrap();
    // A directory in the way of the temporary file fails every write, for root too.
    let in_the_way = directory
        .path()
        .join("instances")
        .join(format!(".{}.tmp", demo_instance().instance_id));
    fs::create_dir(&in_the_way).unwrap();
    assert_eq!(
        store.put(&record(2)).unwrap_err().stored,
        StoredState::Previous
    );
    fs::remove_dir(&in_the_way).unwrap();
    assert_eq!(store.load().unwrap().records, [Arc::new(record(1))]);
    store.put(&record(3)).unwrap();
    assert_eq!(store.load().unwrap().records, [Arc::new(record(3))]);
}

fn account(tokens: HttpTokens) -> Account {
    let http_tokens = Some(tokens);
    Account {
        metadata_defaults: MetadataDefaults {
            http_tokens,
            ..MetadataDefaults::default()
        },
        imds_v2_images: ["ami-12345678".to_string()].into(),
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
fn the_account_is_stored_beside_the_instances() {
    let directory = tempfile::tempdir().unwrap();
    let store = FileStore::open(directory.path()).unwrap();
    assert_eq!(loaded_account(&store), None);
    for tokens in [HttpTokens::Optional, HttpTokens::Required] {
        store.put_account(&account(tokens)).unwrap();
        assert_eq!(loaded_account(&store), Some(account(tokens)));
    }
    let mode = fs::metadata(directory.path().join(ACCOUNT))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(store.load().unwrap().records.is_empty());
}

/// Flips every byte, cuts the file to every length, and replaces it by a symbolic link: an unreadable
/// account must not read as one without preferences.
#[test]
fn a_damaged_account_is_never_read_as_a_different_one() {
    let directory = tempfile::tempdir().unwrap();
    let store = FileStore::open(directory.path()).unwrap();
    store.put_account(&account(HttpTokens::Required)).unwrap();
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
fn an_account_whose_rename_could_not_be_made_durable_has_an_unknown_state() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = FileStore::open(directory.path()).unwrap();
    store.put_account(&account(HttpTokens::Required)).unwrap();
    store.state.synced = File::from(rustix::pipe::pipe().unwrap().0);
    let before = account(HttpTokens::Required);
    let failed = store
        .put_account(&account(HttpTokens::Optional))
        .unwrap_err();
    assert_eq!(
        (failed.stored, loaded_account(&store)),
        (StoredState::Unknown, Some(before))
    );
}

#[test]
fn a_removed_record_is_not_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let store = FileStore::open(directory.path()).unwrap();
    store.put(&record(1)).unwrap();
    store.remove(&demo_instance().instance_id).unwrap();
    assert!(store.load().unwrap().records.is_empty());
    // Removing a record that does not exist succeeds.
    store.remove(&demo_instance().instance_id).unwrap();
}

fn record_of(number: u32, generation: u64) -> Arc<Record> {
    let mut record = record(generation);
    record.instance.instance_id = InstanceId::parse(&format!("i-{number:08x}")).unwrap();
    Arc::new(record)
}

/// Writes of records 0 to 2.
fn writes(generation: u64) -> Vec<Write> {
    let records = (0..3).map(|number| record_of(number, generation));
    records
        .map(|record| Write::put(record, Expected::Anything))
        .collect()
}

fn generations(store: &FileStore) -> Vec<u64> {
    let mut records = store.load().unwrap().records;
    records.sort_by(|a, b| a.instance.instance_id.cmp(&b.instance.instance_id));
    records.iter().map(|record| record.generation).collect()
}

fn names(directory: &Path) -> Vec<String> {
    let files = fs::read_dir(directory.join("instances")).unwrap();
    let mut names: Vec<String> = files
        .map(|file| file.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_prepared_write_is_not_in_force_and_leaves_nothing_when_it_is_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let store = FileStore::open(directory.path()).unwrap();
    let (first, second) = (
        store.prepare(writes(1)).unwrap(),
        store.prepare(writes(2)).unwrap(),
    );
    assert!(
        read_state_directory(directory.path())
            .unwrap()
            .instances
            .is_empty()
    );
    assert_eq!(names(directory.path()).len(), 6);
    drop(first);
    assert!(store.commit(vec![second]).iter().all(Result::is_ok));
    assert_eq!(generations(&store), [2, 2, 2]);
    store.temporary.settle();
    let expected = [0, 1, 2].map(|number| format!("i-{number:08x}.json"));
    assert_eq!(names(directory.path()), expected);
}

/// The thread that removes files collects them first, so the changes in between use other names.
#[test]
fn changes_faster_than_their_leftovers_are_removed_leave_only_the_last_record() {
    let directory = tempfile::tempdir().unwrap();
    let store = FileStore::open(directory.path()).unwrap();
    for generation in 1..=20 {
        store.put(&record_of(0, generation)).unwrap();
        store.put(&record_of(1, generation)).unwrap();
    }
    assert_eq!(generations(&store), [20, 20]);
    store.temporary.settle();
    let expected = [0, 1].map(|number| format!("i-{number:08x}.json"));
    assert_eq!(names(directory.path()), expected);
}

#[test]
fn a_batch_of_which_one_cannot_be_prepared_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = FileStore::open(directory.path()).unwrap();
    fs::create_dir(directory.path().join("instances/.i-00000001.tmp")).unwrap();
    let failed = store.prepare(writes(1)).err().expect("it fails");
    assert_eq!(failed.stored, StoredState::Previous);
    assert!(failed.action.contains("i-00000001.json"), "{failed}");
    store.temporary.settle();
    assert_eq!(names(directory.path()), [".i-00000001.tmp"]);
}

/// Something else is at the path of the second record: it cannot be replaced.
#[test]
fn a_batch_that_fails_in_the_middle_is_undone_and_affects_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let store = FileStore::open(directory.path()).unwrap();
    store.put(&record_of(0, 1)).unwrap();
    let in_the_way = directory.path().join("instances/i-00000001.json");
    fs::create_dir(&in_the_way).unwrap();
    let other = vec![Write::put(record_of(7, 7), Expected::Absent)];
    let batches = [writes(2), other].map(|writes| store.prepare(writes).unwrap());
    let outcomes = store.commit(batches.into());
    let failed = outcomes[0].as_ref().unwrap_err();
    assert_eq!(
        (failed.error.stored, failed.unknown.len()),
        (StoredState::Previous, 0)
    );
    assert!(failed.error.action.contains("i-00000001.json"));
    assert!(outcomes[1].is_ok());
    fs::remove_dir(&in_the_way).unwrap();
    assert_eq!(generations(&store), [1, 7]);
}

#[test]
fn a_batch_whose_directory_cannot_be_synced_is_undone_and_unknown() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = FileStore::open(directory.path()).unwrap();
    store.put(&record_of(0, 1)).unwrap();
    let batches = [
        writes(2),
        vec![Write::put(record_of(0, 3), Expected::Generation(2))],
    ];
    let batches = batches.map(|writes| store.prepare(writes).unwrap());
    store.instances.synced = File::from(rustix::pipe::pipe().unwrap().0);
    let outcomes = store.commit(batches.into());
    let unknown: Vec<usize> = outcomes
        .iter()
        .map(|outcome| outcome.as_ref().unwrap_err().unknown.len())
        .collect();
    assert_eq!(unknown, [3, 1]);
    assert_eq!(
        generations(&store),
        [1],
        "what was there before is there again"
    );
}

#[test]
fn a_file_that_cannot_be_restored_is_unknown_and_the_others_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let store = FileStore::open(directory.path()).unwrap();
    let stage = |number: u32, generation| {
        let record = record_of(number, generation);
        let path = store.path(&record.instance.instance_id);
        StagedFile::write(
            &store.temporary,
            path,
            Some(&encode(&record)),
            FileSync::AtOnce,
        )
        .unwrap()
    };
    (0..2).for_each(|number| store.put(&record_of(number, 1)).unwrap());
    let mut files = [stage(0, 2), stage(1, 2), stage(2, 2)];
    assert!(store.instances.put_in_place(&mut files).is_ok());
    fs::remove_file(directory.path().join("instances/.i-00000001.old.tmp")).unwrap();
    assert_eq!(store.instances.restore(&mut files), [1]);
    assert_eq!(generations(&store), [1, 2]);
}
