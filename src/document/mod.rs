//! Instance documents: the JSON that an operator writes, or copies with `aws ec2 describe-instances`.
//!
//! A document is the command's whole output, one reservation of it, an array of instances, or one instance. What EC2
//! prints loads as it stands; what EC2 has no words for goes into the instance's `Imds` object. Every fault is reported
//! with its file, line and field, so that one run shows all there is to mend.
//!
//! Refused: a key that stands twice in one object; an unknown field in `Imds`; a near miss of a field's name, where silence
//! would mean that a setting is lost; two instances with one id; and values that metadata can't show (see [`faults`]).
//! Not supported: YAML, comments, and the text and table output of the AWS CLI.
//!
//! This is the one part of `instance` that touches the disk, and only in [`read_path`] and [`read_documents`].

pub mod aemm;
pub mod export;
mod json_path;
pub mod scenario;
mod shape;
mod validate;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::{Deserialize, DeserializeOwned};
use serde_json::{Map, Value};

use crate::fault::{Fault, FieldFault};
use crate::instance::{Instance, InstanceId, OptionsUpdate};
use crate::plain_file;

use crate::document::json_path::Source;
use crate::document::shape::{
    Reduced, letters_apart, lists_for_objects, misspelt, reduce, unread_fields,
};
use crate::document::validate::{is_account, judge, not_an_account};

pub use crate::document::json_path::Place;
pub use crate::document::validate::{is_authorized_key, is_os_user};

/// The most faults of form reported for one instance. A file that has more is not a document with mistakes in it.
const MAX_FAULTS: usize = 200;

/// The fields of an instance that imdsd reads; the others are kept in [`Instance::other`].
#[rustfmt::skip]
const INSTANCE_FIELDS: [&str; 34] = [
    "InstanceId", "LaunchTime", "State", "ImageId", "InstanceType", "AmiLaunchIndex", "Architecture", "Placement",
    "MetadataOptions", "PrivateDnsName", "PublicDnsName", "PrivateIpAddress", "PublicIpAddress", "Ipv6Address",
    "SubnetId", "VpcId", "KeyName", "KernelId", "RamdiskId", "InstanceLifecycle", "RootDeviceName", "RootDeviceType",
    "VirtualizationType", "Hypervisor", "ClientToken", "StateTransitionReason", "Monitoring", "HibernationOptions",
    "IamInstanceProfile", "ProductCodes", "BlockDeviceMappings", "SecurityGroups", "NetworkInterfaces", "Tags",
];

/// The object that EC2 does not print.
const IMDS: &str = "Imds";

/// How a time is written.
pub const TIME: &str = "2026-06-01T10:00:00Z, or with an offset, 2026-06-01T12:00:00+02:00";

/// Fields of scenarios that are a word, or an object with one key.
const CHOICES: [&str; 7] = [
    "When",
    "Targets",
    "Time",
    "NotBefore",
    "NotAfter",
    "NotBeforeDeadline",
    "Rebalance",
];

/// Fields that are times.
const TIMES: [&str; 9] = [
    "LaunchTime",
    "AttachTime",
    "Expiration",
    "At",
    "Time",
    "NoticeTime",
    "NotBefore",
    "NotAfter",
    "NotBeforeDeadline",
];

/// What an operator may write in `MetadataOptions`. EC2 prints `State` there too.
const OPTION_FIELDS: [&str; 6] = [
    "State",
    "HttpTokens",
    "HttpPutResponseHopLimit",
    "HttpEndpoint",
    "HttpProtocolIpv6",
    "InstanceMetadataTags",
];

/// An instance as a document holds it, and where.
#[derive(Clone, Debug)]
pub struct InstanceDocument {
    /// The instance.
    pub instance: Instance,
    /// The file it stands in.
    pub file: PathBuf,
    /// The line at which it begins.
    pub line: usize,
    /// The lines of `Imds.Attachments`, one for each attachment.
    pub attachment_lines: Vec<usize>,
    /// What the document says and what it leaves to defaults.
    pub fields: DocumentFields,
}

/// What a document says of what is changed while an instance runs. Where it is silent, the instance has a default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DocumentFields {
    /// The metadata options that it names.
    pub options: OptionsUpdate,
    /// The fields that it has: `State`, `Imds.Events`.
    fields: BTreeSet<String>,
}

impl DocumentFields {
    /// Whether a field stands in the document, by its name and, of those in `Imds`, with that in front.
    pub fn has(&self, field: &str) -> bool {
        self.fields.contains(field)
    }

    fn of(instance: &Value) -> DocumentFields {
        let options = instance
            .get("MetadataOptions")
            .and_then(|options| OptionsUpdate::deserialize(options).ok());
        let names = |value: Option<&Value>, prefix: &str| -> Vec<String> {
            let members = value.and_then(Value::as_object);
            members
                .into_iter()
                .flat_map(Map::keys)
                .map(|name| format!("{prefix}{name}"))
                .collect()
        };
        let fields = [
            names(Some(instance), ""),
            names(instance.get(IMDS), "Imds."),
        ];
        DocumentFields {
            options: options.unwrap_or_default(),
            fields: fields.into_iter().flatten().collect(),
        }
    }
}

/// Reads the instances of one document.
pub fn read(file: &Path, text: &str) -> Result<Vec<Instance>, Vec<Fault>> {
    let (documents, mut faults) = documents_of(file, text);
    faults.extend(ids_twice(&documents));
    faults.extend(secrets_left_out(&documents));
    all_or_faults(
        documents
            .into_iter()
            .map(|document| document.instance)
            .collect(),
        faults,
    )
}

/// Reads the instances of several documents that somebody sent. Unlike [`read`] it lets pass secrets that an export left
/// out: whoever takes the instances in restores or refuses them.
pub fn read_texts<'t>(
    texts: impl IntoIterator<Item = (&'t Path, &'t str)>,
) -> Result<Vec<InstanceDocument>, Vec<Fault>> {
    let (mut documents, mut faults) = (Vec::new(), Vec::new());
    for (file, text) in texts {
        let (found, wrong) = documents_of(file, text);
        documents.extend(found);
        faults.extend(wrong);
    }
    faults.extend(ids_twice(&documents));
    all_or_faults(documents, faults)
}

/// Reads the instances of a file, or of every `*.json` in a directory: by name, without dot-files and subdirectories.
pub fn read_path(path: &Path) -> Result<Vec<Instance>, Vec<Fault>> {
    let (documents, faults) = read_documents(path);
    all_or_faults(
        documents
            .into_iter()
            .map(|document| document.instance)
            .collect(),
        faults,
    )
}

/// Like [`read_path`], with the place of each instance, and those that are sound beside the faults of the others.
pub fn read_documents(path: &Path) -> (Vec<InstanceDocument>, Vec<Fault>) {
    let files = match files_at(path) {
        Ok(files) => files,
        Err(reason) => {
            return (
                Vec::new(),
                vec![Fault::of_file(
                    path,
                    format_args!("can't be read: {reason}"),
                )],
            );
        }
    };
    let (mut documents, mut faults) = (Vec::new(), Vec::new());
    for file in files {
        match text_of(&file) {
            Ok(text) => {
                let (found, wrong) = documents_of(&file, &text);
                documents.extend(found);
                faults.extend(wrong);
            }
            Err(reason) => faults.push(Fault::of_file(
                &file,
                format_args!("can't be read: {reason}"),
            )),
        }
    }
    faults.extend(ids_twice(&documents));
    faults.extend(secrets_left_out(&documents));
    (documents, faults)
}

/// The text of a file. Windows puts a byte order mark in front, and PowerShell writes UTF-16 unless told otherwise.
fn text_of(file: &Path) -> Result<String, String> {
    let bytes = plain_file::read_bytes(file, plain_file::MAX_DOCUMENT_BYTES);
    decode(bytes.map_err(|reason| reason.to_string())?)
}

/// The texts of the documents in a file, or in the files of a directory, unread: for whoever sends them on.
pub fn texts_at(path: &Path) -> Result<Vec<(PathBuf, String)>, Vec<Fault>> {
    let unreadable = |path: &Path, reason: &dyn fmt::Display| {
        Fault::of_file(path, format_args!("can't be read: {reason}"))
    };
    let files = files_at(path).map_err(|reason| vec![unreadable(path, &reason)])?;
    let (mut texts, mut faults) = (Vec::new(), Vec::new());
    for file in files {
        match text_of(&file) {
            Ok(text) => texts.push((file, text)),
            Err(reason) => faults.push(unreadable(&file, &reason)),
        }
    }
    all_or_faults(texts, faults)
}

/// The text of bytes that somebody else read.
pub fn decode(bytes: Vec<u8>) -> Result<String, String> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(
            "it is UTF-16; write it as UTF-8 (PowerShell: Out-File -Encoding utf8)".to_string(),
        );
    }
    let bytes = bytes
        .strip_prefix(&[0xef, 0xbb, 0xbf])
        .map_or(bytes.clone(), <[u8]>::to_vec);
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_string())
}

/// An instance as one JSON object: its fields, and those that EC2 prints and imdsd does not read.
pub fn to_value(instance: &Instance) -> Value {
    let mut members = instance.other.clone();
    match serde_json::to_value(instance) {
        // The fields go in last: nothing in `other` can take the place of one.
        Ok(Value::Object(fields)) => members.extend(fields),
        _ => unreachable!("an instance is an object, and all its keys are strings"),
    }
    Value::Object(members)
}

/// The inverse of [`to_value`]. It reads what was judged before it was written: unlike [`read`] it reports one fault, and
/// none of those in [`faults`].
pub fn from_value(value: Value) -> Result<Instance, serde_path_to_error::Error<serde_json::Error>> {
    let mut instance: Instance = serde_path_to_error::deserialize(&value)?;
    instance.other = unread_fields(value);
    Ok(instance)
}

/// What is wrong with an instance whose form is right: the field, and a sentence that says what would be right.
///
/// For documents, and for whoever is about to change an instance.
pub fn faults(instance: &Instance) -> Vec<FieldFault> {
    judge(instance)
        .into_iter()
        .map(|(place, message)| FieldFault::new(place.to_string(), message))
        .collect()
}

/// The word that `word` was probably meant to be: the same but for letter case and, by its length, none, one or
/// two letters.
pub fn near_miss<'w>(word: &str, known: &[&'w str]) -> Option<&'w str> {
    let apart = |candidate: &str| letters_apart(&word.to_lowercase(), &candidate.to_lowercase());
    let closest = known.iter().min_by_key(|candidate| apart(candidate))?;
    (apart(closest) <= (closest.len() / 4).min(2)).then_some(closest)
}

/// A JSON file that is no instance document, read with the same care.
pub struct JsonFile<'t> {
    file: PathBuf,
    /// What it says.
    pub value: Value,
    source: Source<'t>,
}

impl<'t> JsonFile<'t> {
    /// Reads a text; `file` stands in faults. One that is no JSON has one fault.
    pub fn of(file: &Path, text: &'t str) -> Result<JsonFile<'t>, Vec<Fault>> {
        let parsed =
            serde_json::from_str::<Value>(text).and_then(|value| Ok((value, Source::of(text)?)));
        match parsed {
            Ok((value, source)) => Ok(JsonFile {
                file: file.to_path_buf(),
                value,
                source,
            }),
            Err(error) => Err(vec![Fault {
                line: error.line(),
                ..Fault::of_file(file, syntax(&error))
            }]),
        }
    }

    /// The faults of form: of keys that stand twice, and of what can't be read as a `T`.
    pub fn read<T: Serialize + DeserializeOwned>(&self) -> Result<T, Vec<Fault>> {
        let mut wrong = Judgement::new();
        self.source.keys_twice(&mut wrong);
        let Reduced {
            instance: read,
            faults,
            ..
        } = reduce::<T>(&mut self.value.clone());
        wrong.extend(faults);
        if let Some(Ok(written)) = read.as_ref().map(serde_json::to_value) {
            lists_for_objects(&self.value, &written, &Place::root(), &mut wrong);
        }
        match (read, wrong.is_empty()) {
            (Some(read), true) => Ok(read),
            _ => Err(wrong
                .into_iter()
                .map(|(place, message)| self.fault(&place, message))
                .collect()),
        }
    }

    /// Keys that stand twice in one object.
    pub fn keys_twice(&self) -> Vec<Fault> {
        let mut wrong = Judgement::new();
        self.source.keys_twice(&mut wrong);
        wrong
            .into_iter()
            .map(|(place, message)| self.fault(&place, message))
            .collect()
    }

    /// A fault at a place of the file.
    pub fn fault(&self, place: &Place, message: impl fmt::Display) -> Fault {
        let (file, line) = (self.file.clone(), self.source.line(place));
        Fault {
            file,
            line,
            field: place.to_string(),
            message: message.to_string(),
        }
    }
}

/// What is wrong, and where.
type Judgement = Vec<(Place, String)>;

fn all_or_faults<T>(found: Vec<T>, faults: Vec<Fault>) -> Result<Vec<T>, Vec<Fault>> {
    if faults.is_empty() {
        Ok(found)
    } else {
        Err(faults)
    }
}

fn secrets_left_out(documents: &[InstanceDocument]) -> Vec<Fault> {
    let of_document = |document: &InstanceDocument| {
        let (file, line) = (document.file.clone(), document.line);
        let wrong = export::restore_secrets(&mut document.instance.clone(), None).into_iter();
        wrong
            .map(move |fault| fault.in_file(&file, line))
            .collect::<Vec<_>>()
    };
    documents.iter().flat_map(of_document).collect()
}

/// The files that are read of a path: itself, or those of the directory.
pub fn files_at(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !std::fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let file = entry?.path();
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        // A link counts as what it leads to; a link that leads nowhere is reported when it is read.
        if name.ends_with(".json") && !name.starts_with('.') && !file.is_dir() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn ids_twice(documents: &[InstanceDocument]) -> Vec<Fault> {
    let mut first = BTreeMap::<&InstanceId, &InstanceDocument>::new();
    let mut faults = Vec::new();
    for document in documents {
        let id = &document.instance.instance_id;
        match first.get(id) {
            Some(earlier) => faults.push(Fault {
                file: document.file.clone(),
                line: document.line,
                field: "InstanceId".to_string(),
                message: format!(
                    "{id} stands in {}:{} already",
                    earlier.file.display(),
                    earlier.line
                ),
            }),
            None => drop(first.insert(id, document)),
        }
    }
    faults
}

/// The sound instances of one document, and the faults of the others.
fn documents_of(file: &Path, text: &str) -> (Vec<InstanceDocument>, Vec<Fault>) {
    let fault = |line, field: &Place, message| Fault {
        file: file.to_path_buf(),
        line,
        field: field.to_string(),
        message,
    };

    // 1. It is JSON.
    let JsonFile { value, source, .. } = match JsonFile::of(file, text) {
        Ok(json) => json,
        Err(faults) => return (Vec::new(), faults),
    };

    // 2. No key stands twice: readers of JSON disagree on which one counts.
    let mut wrong = Vec::new();
    source.keys_twice(&mut wrong);

    // 3. Each instance is read by itself, so that a fault in one hides none of another.
    let mut documents = Vec::new();
    for found in instances_in(value, &mut wrong) {
        let place = found.place.clone();
        match instance_of(found) {
            Ok((instance, fields)) => {
                let attachments = place.key(IMDS).key("Attachments");
                let count = instance.imds.attachments.len();
                documents.push(InstanceDocument {
                    instance,
                    file: file.to_path_buf(),
                    line: source.line(&place),
                    attachment_lines: (0..count)
                        .map(|index| source.line(&attachments.index(index)))
                        .collect(),
                    fields,
                });
            }
            Err(faults) => wrong.extend(
                faults
                    .into_iter()
                    .map(|(field, message)| (place.join(&field), message)),
            ),
        }
    }

    let mut faults: Vec<Fault> = wrong
        .into_iter()
        .map(|(place, message)| fault(source.line(&place), &place, message))
        .collect();
    faults.sort_by_key(|fault| fault.line);
    (documents, faults)
}

fn syntax(error: &serde_json::Error) -> String {
    let message = error.to_string();
    // The line stands in front of the message already.
    let message = message
        .rsplit_once(" at line ")
        .map_or(message.as_str(), |(message, _)| message);
    format!("not JSON: {message}")
}

/// An instance in a document, before it is read.
struct Found {
    place: Place,
    value: Map<String, Value>,
    owner_id: Option<String>,
    reservation_id: Option<String>,
}

/// Finds the instances in whichever of the four shapes the document has.
fn instances_in(document: Value, wrong: &mut Judgement) -> Vec<Found> {
    let root = Place::root();
    let mut found = Vec::new();
    match document {
        Value::Object(mut output) if output.contains_key("Reservations") => {
            let place = root.key("Reservations");
            for (place, reservation) in array_at(place, output.remove("Reservations"), wrong) {
                match reservation {
                    Value::Object(members) => {
                        found.extend(instances_in_reservation(&place, members, wrong))
                    }
                    other => wrong.push((
                        place,
                        format!("a reservation is an object, not {}", kind(&other)),
                    )),
                }
            }
        }
        Value::Object(members) if members.contains_key("Instances") => {
            found = instances_in_reservation(&root, members, wrong);
        }
        Value::Object(value) => found.push(Found {
            place: root,
            value,
            owner_id: None,
            reservation_id: None,
        }),
        instances @ Value::Array(_) => {
            for (place, instance) in array_at(root, Some(instances), wrong) {
                if let Some(value) = object_at(&place, instance, wrong) {
                    found.push(Found {
                        place,
                        value,
                        owner_id: None,
                        reservation_id: None,
                    });
                }
            }
        }
        other => wrong.push((
            root,
            format!("a document is an object or an array, not {}", kind(&other)),
        )),
    }
    found
}

fn instances_in_reservation(
    place: &Place,
    mut reservation: Map<String, Value>,
    wrong: &mut Judgement,
) -> Vec<Found> {
    let mut text = |field: &str| match reservation.remove(field)? {
        Value::String(text) if field != "OwnerId" || is_account(&text) => Some(text),
        Value::String(text) => {
            wrong.push((place.key(field), not_an_account(&text)));
            None
        }
        other => {
            wrong.push((
                place.key(field),
                format!("this is a string, not {}", kind(&other)),
            ));
            None
        }
    };
    let (owner_id, reservation_id) = (text("OwnerId"), text("ReservationId"));
    let mut found = Vec::new();
    for (place, instance) in array_at(
        place.key("Instances"),
        reservation.remove("Instances"),
        wrong,
    ) {
        if let Some(value) = object_at(&place, instance, wrong) {
            found.push(Found {
                place,
                value,
                owner_id: owner_id.clone(),
                reservation_id: reservation_id.clone(),
            });
        }
    }
    found
}

fn array_at(place: Place, value: Option<Value>, wrong: &mut Judgement) -> Vec<(Place, Value)> {
    match value {
        Some(Value::Array(elements)) => elements
            .into_iter()
            .enumerate()
            .map(|(index, element)| (place.index(index), element))
            .collect(),
        Some(other) => {
            wrong.push((place, format!("this is an array, not {}", kind(&other))));
            Vec::new()
        }
        None => {
            wrong.push((place, "is missing".to_string()));
            Vec::new()
        }
    }
}

fn object_at(place: &Place, value: Value, wrong: &mut Judgement) -> Option<Map<String, Value>> {
    match value {
        Value::Object(members) => Some(members),
        other => {
            wrong.push((
                place.clone(),
                format!("an instance is an object, not {}", kind(&other)),
            ));
            None
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Reads one instance, or says everything that is wrong with it, in places counted from the instance.
fn instance_of(found: Found) -> Result<(Instance, DocumentFields), Judgement> {
    let Found {
        value: members,
        owner_id,
        reservation_id,
        ..
    } = found;
    let mut wrong = misspelt(&members);
    let mut value = Value::Object(members);
    let Reduced {
        instance,
        faults,
        removed,
    } = reduce::<Instance>(&mut value);
    wrong.extend(faults);
    let Some(mut instance) = instance else {
        return Err(wrong);
    };

    let mut judged = Judgement::new();
    if let Ok(read) = serde_json::to_value(&instance) {
        lists_for_objects(&value, &read, &Place::root(), &mut judged);
    }
    let says = DocumentFields::of(&value);
    instance.other = unread_fields(value);
    instance.imds.owner_id = instance.imds.owner_id.or(owner_id);
    instance.imds.reservation_id = instance.imds.reservation_id.or(reservation_id);
    for interface in &mut instance.network_interfaces {
        interface.mac_address.make_ascii_lowercase();
    }

    // What was removed for a fault of form is not judged again: it would be found missing.
    judged.extend(judge(&instance));
    for (place, message) in judged {
        let place = place.before_removals(&removed);
        if !removed.iter().any(|gone| place.is_within(gone)) {
            wrong.push((place, message));
        }
    }
    if wrong.is_empty() {
        Ok((instance, says))
    } else {
        Err(wrong)
    }
}

#[cfg(test)]
mod tests;
