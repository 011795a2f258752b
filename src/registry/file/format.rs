//! The format of a record on the disk: JSON in an envelope with its checksum.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::document;
use crate::fault::Fault;
use crate::instance::{Instance, InstanceId, MetadataDefaults, MetadataOptions, RecordedOptions};
use crate::plain_file::{self, PlainFile, Symlinks};
use crate::registry::account::Account;
use crate::registry::record::Record;
use crate::registry::store::LoadedAccount;

/// The largest record that is read, in bytes. A record is its document with defaults filled in, so
/// it can be larger than the document.
const MAX_RECORD_BYTES: u64 = 2 * plain_file::MAX_DOCUMENT_BYTES;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Envelope<'a> {
    checksum: String,
    #[serde(borrow)]
    record: &'a RawValue,
}

/// The record of an instance. `I` is the instance: a value, or its text.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct RecordOnDisk<I> {
    generation: u64,
    launch_epoch: u64,
    identity_document: String,
    document_digest: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    launch_request: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    terminated: Option<Timestamp>,
    changed: Timestamp,
    pub(super) instance: I,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct AccountOnDisk {
    metadata_defaults: MetadataDefaults,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    imds_v2_images: BTreeSet<String>,
}

/// Returns the file of a record.
pub(super) fn encode(record: &Record) -> Vec<u8> {
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

/// Returns the file of the account's record.
pub(super) fn encode_account(account: &Account) -> Vec<u8> {
    seal(&AccountOnDisk {
        metadata_defaults: account.metadata_defaults,
        imds_v2_images: account.imds_v2_images.clone(),
    })
}

/// A record in its envelope.
pub(super) fn seal(record: &impl Serialize) -> Vec<u8> {
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
pub(super) fn read_record(path: &Path, id: &InstanceId) -> Result<Record, String> {
    const HINT: &str = "the instance is not served; put the file back from a backup, or remove it to register the \
                        instance again from its document";
    let decode = || -> Result<Record, String> {
        let bytes = text_of(path).map_err(|reason| reason.to_string())?;
        let on_disk: RecordOnDisk<&RawValue> =
            serde_json::from_str(unsealed(&bytes)?).map_err(|reason| reason.to_string())?;
        let instance = instance_of(on_disk.instance.get())?;
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

/// Reads a stored instance.
fn instance_of(text: &str) -> Result<Instance, String> {
    let are_valid = |options: &str| {
        let mut from = serde_json::Deserializer::from_str(options);
        RecordedOptions::deserialize(&mut from).is_ok()
    };
    if let Some(instance) = document::from_checked_text(text, "MetadataOptions", are_valid) {
        return Ok(instance);
    }
    check_options(text).map_err(|reason| format!("MetadataOptions: {reason}"))?;
    document::from_text(text).map_err(|reason| reason.to_string())
}

/// Fails unless a stored instance has all five metadata options, and no others.
fn check_options(instance: &str) -> serde_json::Result<()> {
    #[derive(Deserialize)]
    struct WithOptions {
        #[serde(rename = "MetadataOptions", with = "RecordedOptions")]
        _options: MetadataOptions,
    }
    serde_json::from_str::<WithOptions>(instance).map(drop)
}

/// Reads the account's record.
pub(super) fn read_account(path: &Path) -> LoadedAccount {
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
pub(super) fn unseal<T: DeserializeOwned>(path: &Path) -> Result<T, String> {
    let bytes = text_of(path).map_err(|reason| reason.to_string())?;
    serde_json::from_str(unsealed(&bytes)?).map_err(|reason| reason.to_string())
}

/// Returns the text of the record in an envelope if its checksum matches.
fn unsealed(envelope: &[u8]) -> Result<&str, String> {
    if let Some(record) = unsealed_as_written(envelope) {
        return Ok(record);
    }
    let envelope: Envelope<'_> =
        serde_json::from_slice(envelope).map_err(|reason| reason.to_string())?;
    let record = envelope.record.get();
    match envelope.checksum == checksum(record) {
        true => Ok(record),
        false => Err("the checksum does not match the record".to_string()),
    }
}

/// Like [`unsealed`], for an envelope exactly as it is written; `None` for any other. It need not be
/// parsed to find the record.
fn unsealed_as_written(envelope: &[u8]) -> Option<&str> {
    let checksum_and_record = envelope.strip_prefix(b"{\"Checksum\":\"")?;
    let (sum, record) = checksum_and_record.split_at_checked("sha256:".len() + 64)?;
    let record = record.strip_prefix(b"\",\"Record\":")?;
    let record = std::str::from_utf8(record.strip_suffix(b"}\n")?).ok()?;
    (checksum(record).as_bytes() == sum).then_some(record)
}

/// Reads a record's file.
pub(super) fn text_of(path: &Path) -> io::Result<Vec<u8>> {
    // The daemon writes regular files only. Anything else was put there by another program.
    PlainFile::open(path, Symlinks::Refuse)?.read_bytes(MAX_RECORD_BYTES)
}

fn checksum(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let mut checksum = String::with_capacity(7 + 2 * digest.len());
    checksum.push_str("sha256:");
    for byte in digest {
        for digit in [byte >> 4, byte & 0xf] {
            checksum.extend(char::from_digit(digit.into(), 16));
        }
    }
    checksum
}
