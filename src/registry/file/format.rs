//! The format of a record on the disk: JSON in an envelope with its checksum.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::document::{self, WholeInstance};
use crate::fault::Fault;
use crate::instance::{Instance, InstanceId, MetadataDefaults, MetadataOptions, RecordedOptions};
use crate::plain_file::{self, PlainFile, Symlinks};
use crate::registry::account::Account;
use crate::registry::record::Record;
use crate::registry::store::LoadedAccount;

/// The largest record that is read, in bytes. A record is its document with defaults filled in, so
/// it can be larger than the document.
const MAX_RECORD_BYTES: u64 = 2 * plain_file::MAX_DOCUMENT_BYTES;

/// What is in a file before a checksum, between it and the record, and after the record.
const AROUND: [&[u8]; 3] = [b"{\"Checksum\":\"", b"\",\"Record\":", b"}\n"];
/// The length of a checksum in text.
const CHECKSUM_LENGTH: usize = "sha256:".len() + 64;
/// The memory that a record is first written to. Most fit.
const USUAL_LENGTH: usize = 8 << 10;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Envelope<'a> {
    checksum: String,
    #[serde(borrow)]
    record: &'a RawValue,
}

/// The record of an instance. `I` is the instance: a value, or its text.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct RecordOnDisk<'r, I> {
    generation: u64,
    launch_epoch: u64,
    identity_document: Cow<'r, str>,
    document_digest: Cow<'r, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    launch_request: Option<Cow<'r, str>>,
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
        identity_document: record.identity_document.as_str().into(),
        document_digest: record.document_digest.as_str().into(),
        launch_request: record.launch_request.as_deref().map(Cow::Borrowed),
        terminated: record.terminated,
        changed: record.changed,
        instance: WholeInstance(&record.instance),
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
    let [before, between, after] = AROUND;
    let mut bytes = Vec::with_capacity(USUAL_LENGTH);
    bytes.extend_from_slice(before);
    // The checksum replaces these when the record is written.
    bytes.extend_from_slice(&[0; CHECKSUM_LENGTH]);
    bytes.extend_from_slice(between);
    let start = bytes.len();
    serde_json::to_writer(&mut bytes, record).expect("a record is plain JSON data");
    let checksum = checksum(&bytes[start..]);
    bytes[before.len()..][..CHECKSUM_LENGTH].copy_from_slice(checksum.as_bytes());
    bytes.extend_from_slice(after);
    bytes
}

/// Reads one record. The error contains the reason and what to do.
pub(super) fn read_record(path: &Path, id: &InstanceId) -> Result<Record, String> {
    const HINT: &str = "the instance is not served; put the file back from a backup, or remove it to register the \
                        instance again from its document";
    let bytes = text_of(path).map_err(|reason| reason.to_string());
    bytes
        .and_then(|bytes| decode(&bytes, id))
        .map_err(|reason| format!("unreadable record: {reason}; {HINT}"))
}

/// Returns the record in a file of this instance, or the reason why it cannot be read.
pub(super) fn decode(bytes: &[u8], id: &InstanceId) -> Result<Record, String> {
    let on_disk: RecordOnDisk<'_, &RawValue> =
        serde_json::from_str(unsealed(bytes)?).map_err(|reason| reason.to_string())?;
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
        identity_document: on_disk.identity_document.into_owned(),
        document_digest: on_disk.document_digest.into_owned(),
        launch_request: on_disk.launch_request.map(Cow::into_owned),
        terminated: on_disk.terminated,
        changed: on_disk.changed,
        instance,
    })
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
    match envelope.checksum == checksum(record.as_bytes()) {
        true => Ok(record),
        false => Err("the checksum does not match the record".to_string()),
    }
}

/// Like [`unsealed`], for an envelope exactly as it is written; `None` for any other. It need not be
/// parsed to find the record.
fn unsealed_as_written(envelope: &[u8]) -> Option<&str> {
    let [before, between, after] = AROUND;
    let (sum, record) = envelope
        .strip_prefix(before)?
        .split_at_checked(CHECKSUM_LENGTH)?;
    let record = record.strip_prefix(between)?.strip_suffix(after)?;
    (checksum(record).as_bytes() == sum).then_some(())?;
    std::str::from_utf8(record).ok()
}

/// Reads a record's file.
pub(super) fn text_of(path: &Path) -> io::Result<Vec<u8>> {
    // The daemon writes regular files only. Anything else was put there by another program.
    PlainFile::open(path, Symlinks::Refuse)?.read_bytes(MAX_RECORD_BYTES)
}

fn checksum(text: &[u8]) -> String {
    let digest = Sha256::digest(text);
    let mut checksum = String::with_capacity(CHECKSUM_LENGTH);
    checksum.push_str("sha256:");
    for byte in digest {
        for digit in [byte >> 4, byte & 0xf] {
            checksum.extend(char::from_digit(digit.into(), 16));
        }
    }
    checksum
}
