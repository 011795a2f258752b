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
//! This is the one file of `instance` that touches the disk, and only in [`read_path`] and [`read_documents`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use serde_path_to_error::Segment;

use super::events::{MOST_MAINTENANCE, event_id_fault};
use super::timeline::TimelineFault;
use super::{
    Attachment, BridgePort, CredentialSource, Instance, InstanceId, MOST_USER_DATA, NetworkInterface, OptionsUpdate,
    Overrides, ProcessSource, SourceAddress, StaticSource, Switch, export, interface_name_fault, tags,
};
use crate::fault::Fault;

/// The most faults of form reported for one instance. A file that has more is not a document with mistakes in it.
const MOST_FAULTS: usize = 200;

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

/// Fields of scenarios that are a word, or an object with one key.
const CHOICES: [&str; 6] = ["When", "Targets", "Time", "NotBefore", "NotAfter", "Rebalance"];

/// What an operator may write in `MetadataOptions`. EC2 prints `State` there too.
const OPTION_FIELDS: [&str; 6] =
    ["State", "HttpTokens", "HttpPutResponseHopLimit", "HttpEndpoint", "HttpProtocolIpv6", "InstanceMetadataTags"];

/// An instance as a document holds it, and where.
#[derive(Clone, Debug)]
pub struct Document {
    /// The instance.
    pub instance: Instance,
    /// The file it stands in.
    pub file: PathBuf,
    /// The line at which it begins.
    pub line: usize,
    /// The lines of `Imds.Attachments`, one for each attachment.
    pub attachment_lines: Vec<usize>,
    /// What the document says and what it leaves to defaults.
    pub says: Says,
}

/// What a document says of what is changed while an instance runs. Where it is silent, the instance has a default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Says {
    /// The metadata options that it names.
    pub options: OptionsUpdate,
    /// The fields that it has: `State`, `Imds.Events`.
    fields: BTreeSet<String>,
}

impl Says {
    /// Whether a field stands in the document, by its name and, of those in `Imds`, with that in front.
    pub fn has(&self, field: &str) -> bool {
        self.fields.contains(field)
    }

    fn of(instance: &Value) -> Says {
        let options = instance.get("MetadataOptions").and_then(|options| OptionsUpdate::deserialize(options).ok());
        let names = |value: Option<&Value>, prefix: &str| -> Vec<String> {
            let members = value.and_then(Value::as_object);
            members.into_iter().flat_map(Map::keys).map(|name| format!("{prefix}{name}")).collect()
        };
        let fields = [names(Some(instance), ""), names(instance.get(IMDS), "Imds.")];
        Says { options: options.unwrap_or_default(), fields: fields.into_iter().flatten().collect() }
    }
}

/// Reads the instances of one document.
pub fn read(file: &Path, text: &str) -> Result<Vec<Instance>, Vec<Fault>> {
    let (documents, mut faults) = documents_of(file, text);
    faults.extend(ids_twice(&documents));
    faults.extend(secrets_left_out(&documents));
    all_or_faults(documents.into_iter().map(|document| document.instance).collect(), faults)
}

/// Reads the instances of several documents that somebody sent. Unlike [`read`] it lets pass secrets that an export left
/// out: whoever takes the instances in restores or refuses them.
pub fn read_texts<'t>(texts: impl IntoIterator<Item = (&'t Path, &'t str)>) -> Result<Vec<Document>, Vec<Fault>> {
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
    all_or_faults(documents.into_iter().map(|document| document.instance).collect(), faults)
}

/// Like [`read_path`], with the place of each instance, and those that are sound beside the faults of the others.
pub fn read_documents(path: &Path) -> (Vec<Document>, Vec<Fault>) {
    let files = match files_at(path) {
        Ok(files) => files,
        Err(reason) => return (Vec::new(), vec![Fault::of_file(path, format_args!("can't be read: {reason}"))]),
    };
    let (mut documents, mut faults) = (Vec::new(), Vec::new());
    for file in files {
        match text_of(&file) {
            Ok(text) => {
                let (found, wrong) = documents_of(&file, &text);
                documents.extend(found);
                faults.extend(wrong);
            }
            Err(reason) => faults.push(Fault::of_file(&file, format_args!("can't be read: {reason}"))),
        }
    }
    faults.extend(ids_twice(&documents));
    faults.extend(secrets_left_out(&documents));
    (documents, faults)
}

/// The text of a file. Windows puts a byte order mark in front, and PowerShell writes UTF-16 unless told otherwise.
fn text_of(file: &Path) -> Result<String, String> {
    decode(std::fs::read(file).map_err(|reason| reason.to_string())?)
}

/// The texts of the documents in a file, or in the files of a directory, unread: for whoever sends them on.
pub fn texts_at(path: &Path) -> Result<Vec<(PathBuf, String)>, Vec<Fault>> {
    let unreadable =
        |path: &Path, reason: &dyn fmt::Display| Fault::of_file(path, format_args!("can't be read: {reason}"));
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
        return Err("it is UTF-16; write it as UTF-8 (PowerShell: Out-File -Encoding utf8)".to_string());
    }
    let bytes = bytes.strip_prefix(&[0xef, 0xbb, 0xbf]).map_or(bytes.clone(), <[u8]>::to_vec);
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
pub fn faults(instance: &Instance) -> Vec<(String, String)> {
    judge(instance).into_iter().map(|(place, message)| (place.to_string(), message)).collect()
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
        let parsed = serde_json::from_str::<Value>(text).and_then(|value| Ok((value, Source::of(text)?)));
        match parsed {
            Ok((value, source)) => Ok(JsonFile { file: file.to_path_buf(), value, source }),
            Err(error) => Err(vec![Fault { line: error.line(), ..Fault::of_file(file, syntax(&error)) }]),
        }
    }

    /// The faults of form: of keys that stand twice, and of what can't be read as a `T`.
    pub fn read<T: Serialize + DeserializeOwned>(&self) -> Result<T, Vec<Fault>> {
        let mut wrong = Judgement::new();
        self.source.keys_twice(&mut wrong);
        let Reduced { instance: read, faults, .. } = reduce::<T>(&mut self.value.clone());
        wrong.extend(faults);
        if let Some(Ok(written)) = read.as_ref().map(serde_json::to_value) {
            lists_for_objects(&self.value, &written, &Place::root(), &mut wrong);
        }
        match (read, wrong.is_empty()) {
            (Some(read), true) => Ok(read),
            _ => Err(wrong.into_iter().map(|(place, message)| self.fault(&place, message)).collect()),
        }
    }

    /// Keys that stand twice in one object.
    pub fn keys_twice(&self) -> Vec<Fault> {
        let mut wrong = Judgement::new();
        self.source.keys_twice(&mut wrong);
        wrong.into_iter().map(|(place, message)| self.fault(&place, message)).collect()
    }

    /// A fault at a place of the file.
    pub fn fault(&self, place: &Place, message: impl fmt::Display) -> Fault {
        let (file, line) = (self.file.clone(), self.source.line(place));
        Fault { file, line, field: place.to_string(), message: message.to_string() }
    }
}

/// What is wrong, and where.
type Judgement = Vec<(Place, String)>;

fn all_or_faults<T>(found: Vec<T>, faults: Vec<Fault>) -> Result<Vec<T>, Vec<Fault>> {
    if faults.is_empty() { Ok(found) } else { Err(faults) }
}

fn secrets_left_out(documents: &[Document]) -> Vec<Fault> {
    let of_document = |document: &Document| {
        let (file, line) = (document.file.clone(), document.line);
        let wrong = export::restore_secrets(&mut document.instance.clone(), None).into_iter();
        wrong.map(move |(field, message)| Fault { file: file.clone(), line, field, message }).collect::<Vec<_>>()
    };
    documents.iter().flat_map(of_document).collect()
}

fn files_at(path: &Path) -> std::io::Result<Vec<PathBuf>> {
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

fn ids_twice(documents: &[Document]) -> Vec<Fault> {
    let mut first = BTreeMap::<&InstanceId, &Document>::new();
    let mut faults = Vec::new();
    for document in documents {
        let id = &document.instance.instance_id;
        match first.get(id) {
            Some(earlier) => faults.push(Fault {
                file: document.file.clone(),
                line: document.line,
                field: "InstanceId".to_string(),
                message: format!("{id} stands in {}:{} already", earlier.file.display(), earlier.line),
            }),
            None => drop(first.insert(id, document)),
        }
    }
    faults
}

/// The sound instances of one document, and the faults of the others.
fn documents_of(file: &Path, text: &str) -> (Vec<Document>, Vec<Fault>) {
    let fault =
        |line, field: &Place, message| Fault { file: file.to_path_buf(), line, field: field.to_string(), message };

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
            Ok((instance, says)) => {
                let attachments = place.key(IMDS).key("Attachments");
                let count = instance.imds.attachments.len();
                documents.push(Document {
                    instance,
                    file: file.to_path_buf(),
                    line: source.line(&place),
                    attachment_lines: (0..count).map(|index| source.line(&attachments.index(index))).collect(),
                    says,
                });
            }
            Err(faults) => wrong.extend(faults.into_iter().map(|(field, message)| (place.join(&field), message))),
        }
    }

    let mut faults: Vec<Fault> =
        wrong.into_iter().map(|(place, message)| fault(source.line(&place), &place, message)).collect();
    faults.sort_by_key(|fault| fault.line);
    (documents, faults)
}

fn syntax(error: &serde_json::Error) -> String {
    let message = error.to_string();
    // The line stands in front of the message already.
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
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
                    Value::Object(members) => found.extend(instances_in_reservation(&place, members, wrong)),
                    other => wrong.push((place, format!("a reservation is an object, not {}", kind(&other)))),
                }
            }
        }
        Value::Object(members) if members.contains_key("Instances") => {
            found = instances_in_reservation(&root, members, wrong);
        }
        Value::Object(value) => found.push(Found { place: root, value, owner_id: None, reservation_id: None }),
        instances @ Value::Array(_) => {
            for (place, instance) in array_at(root, Some(instances), wrong) {
                if let Some(value) = object_at(&place, instance, wrong) {
                    found.push(Found { place, value, owner_id: None, reservation_id: None });
                }
            }
        }
        other => wrong.push((root, format!("a document is an object or an array, not {}", kind(&other)))),
    }
    found
}

fn instances_in_reservation(place: &Place, mut reservation: Map<String, Value>, wrong: &mut Judgement) -> Vec<Found> {
    let mut text = |field: &str| match reservation.remove(field)? {
        Value::String(text) if field != "OwnerId" || is_account(&text) => Some(text),
        Value::String(text) => {
            wrong.push((place.key(field), not_an_account(&text)));
            None
        }
        other => {
            wrong.push((place.key(field), format!("this is a string, not {}", kind(&other))));
            None
        }
    };
    let (owner_id, reservation_id) = (text("OwnerId"), text("ReservationId"));
    let mut found = Vec::new();
    for (place, instance) in array_at(place.key("Instances"), reservation.remove("Instances"), wrong) {
        if let Some(value) = object_at(&place, instance, wrong) {
            found.push(Found { place, value, owner_id: owner_id.clone(), reservation_id: reservation_id.clone() });
        }
    }
    found
}

fn array_at(place: Place, value: Option<Value>, wrong: &mut Judgement) -> Vec<(Place, Value)> {
    match value {
        Some(Value::Array(elements)) => {
            elements.into_iter().enumerate().map(|(index, element)| (place.index(index), element)).collect()
        }
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
            wrong.push((place.clone(), format!("an instance is an object, not {}", kind(&other))));
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
fn instance_of(found: Found) -> Result<(Instance, Says), Judgement> {
    let Found { value: members, owner_id, reservation_id, .. } = found;
    let mut wrong = misspelt(&members);
    let mut value = Value::Object(members);
    let Reduced { instance, faults, removed } = reduce::<Instance>(&mut value);
    wrong.extend(faults);
    let Some(mut instance) = instance else { return Err(wrong) };

    let mut judged = Judgement::new();
    if let Ok(read) = serde_json::to_value(&instance) {
        lists_for_objects(&value, &read, &Place::root(), &mut judged);
    }
    let says = Says::of(&value);
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
    if wrong.is_empty() { Ok((instance, says)) } else { Err(wrong) }
}

/// serde reads an array for an object, its elements for the fields in their order. No document means that.
fn lists_for_objects(written: &Value, read: &Value, place: &Place, wrong: &mut Judgement) {
    match (written, read) {
        (Value::Array(_), Value::Object(_)) => {
            wrong.push((place.clone(), format!("this is an object, not {}", kind(written))));
        }
        (Value::Array(written), Value::Array(read)) => {
            for (index, (written, read)) in written.iter().zip(read).enumerate() {
                lists_for_objects(written, read, &place.index(index), wrong);
            }
        }
        (Value::Object(written), Value::Object(read)) => {
            for (key, read) in read {
                if let Some(written) = written.get(key) {
                    lists_for_objects(written, read, &place.key(key), wrong);
                }
            }
        }
        _ => {}
    }
}

fn unread_fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members.into_iter().filter(|(field, _)| !is_instance_field(field)).collect(),
        _ => Map::new(),
    }
}

fn is_instance_field(field: &str) -> bool {
    field == IMDS || INSTANCE_FIELDS.contains(&field)
}

/// Near misses in the two places where an unknown field is otherwise kept or passed over. A misspelt `HttpEndpoint` would
/// leave open what the operator closed.
fn misspelt(instance: &Map<String, Value>) -> Judgement {
    let root = Place::root();
    let instance_fields: Vec<&str> = INSTANCE_FIELDS.into_iter().chain([IMDS]).collect();
    let mut wrong = near_misses(&root, instance, &instance_fields);
    if let Some(Value::Object(options)) = instance.get("MetadataOptions") {
        // Here every unknown field is refused, not only a near miss.
        let place = root.key("MetadataOptions");
        let unknown = options.keys().filter(|field| !OPTION_FIELDS.contains(&field.as_str()));
        wrong.extend(unknown.map(|field| {
            let hint =
                near_miss(field, &OPTION_FIELDS).map(|word| format!("; did you mean {word}?")).unwrap_or_default();
            (place.key(field), format!("is not known{hint}"))
        }));
    }
    for (field, member) in instance.iter().filter(|(field, _)| *field != IMDS) {
        uncapitalised(&root.key(field), member, &mut wrong);
    }
    wrong
}

/// EC2 spells every field with a capital. A field that does not would be passed over, with what was meant by it.
fn uncapitalised(place: &Place, value: &Value, wrong: &mut Judgement) {
    match value {
        Value::Array(elements) => {
            let place = |index| place.index(index);
            elements.iter().enumerate().for_each(|(index, element)| uncapitalised(&place(index), element, wrong));
        }
        Value::Object(members) => {
            for (field, member) in members {
                let place = place.key(field);
                if field.starts_with(|c: char| c.is_ascii_lowercase()) {
                    wrong.push((place.clone(), "is not known: EC2's fields begin with a capital letter".to_string()));
                }
                uncapitalised(&place, member, wrong);
            }
        }
        _ => {}
    }
}

fn near_misses(place: &Place, members: &Map<String, Value>, known: &[&str]) -> Judgement {
    let unknown = members.keys().filter(|field| !known.contains(&field.as_str()));
    unknown
        .filter_map(|field| {
            Some((place.key(field), format!("is not known; did you mean {}?", near_miss(field, known)?)))
        })
        .collect()
}

/// What is left of an instance when everything that can't be read is taken out of it.
struct Reduced<T> {
    /// `None` when not even the rest could be read.
    instance: Option<T>,
    faults: Judgement,
    /// What was taken out: places in the document.
    removed: Vec<Place>,
}

/// Deserializing stops at the first fault. So that fault is noted, its place taken out, and the rest tried again.
fn reduce<T: DeserializeOwned>(value: &mut Value) -> Reduced<T> {
    let (mut faults, mut removed) = (Vec::new(), Vec::new());
    while faults.len() < MOST_FAULTS {
        let error = match serde_path_to_error::deserialize::<_, T>(&*value) {
            Ok(instance) => return Reduced { instance: Some(instance), faults, removed },
            Err(error) => error,
        };
        let (place, whole) = Place::of_error(value, error.path());
        let in_document = place.before_removals(&removed);
        let message = error.inner().to_string();
        match quoted_in(&message, "missing field") {
            Some(field) => {
                // A required field that was itself taken out is not missing, and takes its object with it.
                let missing = in_document.key(field);
                if !removed.contains(&missing) {
                    faults.push((missing.clone(), "is missing".to_string()));
                }
                if stand_in(value, &place, field) {
                    removed.push(missing);
                    continue;
                }
            }
            None => faults.push((in_document, in_our_words(&place, place.find_in(value), &message))),
        }
        let whole_in_document = whole.before_removals(&removed);
        if !whole.take_out_of(value) {
            break;
        }
        removed.push(whole_in_document);
    }
    Reduced { instance: None, faults, removed }
}

/// The instance itself can't be taken out of the document: its required fields get any value, to see what follows them.
fn stand_in(value: &mut Value, place: &Place, field: &str) -> bool {
    let any = match field {
        "InstanceId" => "i-00000000",
        "LaunchTime" => "1970-01-01T00:00:00Z",
        _ => return false,
    };
    match value {
        Value::Object(members) if *place == Place::root() => members.insert(field.to_string(), any.into()).is_none(),
        _ => false,
    }
}

/// serde's message in an operator's words. The value itself is left out of it: it may be a secret in the wrong place.
fn in_our_words(place: &Place, found: Option<&Value>, message: &str) -> String {
    let of_type = message.starts_with("invalid type: ") || message.starts_with("invalid length ");
    if let (Some(found), true) = (found, of_type) {
        let right = match message.rsplit_once(", expected ") {
            Some((_, "u32")) => "a whole number from 0",
            Some((_, "i64")) => "a whole number",
            Some((_, "a sequence")) => "an array",
            Some((_, "string or map")) if place.ends_in(&["Set", "Event"]) => {
                "an object with one key, {\"Clear\": …} or {\"Spot\": …} say"
            }
            Some((_, "string or map")) if place.ends_in(&CHOICES) => "a word, or an object with one key",
            Some((_, "string or map")) if !place.goes_through("Attachments") => "a string",
            Some((_, "string or map" | "newtype variant")) => "an object with one key, {\"Listener\": \"NAME\"} say",
            Some((_, right)) if right != "a map" && !right.starts_with("struct ") => right,
            _ => "an object",
        };
        return format!("this is {right}, not {}", kind(found));
    }
    let unknown = quoted_in(message, "unknown field").or_else(|| quoted_in(message, "unknown variant"));
    let (Some(unknown), Some((_, expected))) = (unknown, message.rsplit_once(", expected ")) else {
        return message.replace('`', "'");
    };
    // serde names what it knows in backticks: every second piece between them.
    let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    let hint = near_miss(unknown, &known).map(|word| format!("; did you mean {word}?")).unwrap_or_default();
    format!("'{unknown}' is not known{hint} (known: {})", known.join(", "))
}

/// The first word in backticks of a message that begins with `beginning`.
fn quoted_in<'m>(message: &'m str, beginning: &str) -> Option<&'m str> {
    let rest = message.strip_prefix(beginning)?.strip_prefix(" `")?;
    Some(rest.rsplit_once("`, expected ").map_or_else(|| rest.trim_end_matches('`'), |(word, _)| word))
}

fn letters_apart(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (count, letter) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = count + 1;
        for (column, candidate) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *candidate);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

// What is wrong with an instance whose form is right.

fn judge(instance: &Instance) -> Judgement {
    let mut wrong = Judgement::new();
    judge_placement(instance, &mut wrong);
    judge_tags(instance, &mut wrong);
    judge_interfaces(instance, &mut wrong);
    judge_attachments(instance, &mut wrong);
    judge_user_data(instance, &mut wrong);
    judge_key(instance, &mut wrong);
    judge_role(instance, &mut wrong);
    judge_events(instance, &mut wrong);
    let overrides = Place::root().key(IMDS).key("Overrides");
    if instance.imds.overrides.is_full() {
        wrong.push((overrides.clone(), Overrides::full()));
    }
    wrong.extend(instance.imds.overrides.faults().into_iter().map(|(path, message)| (overrides.key(&path), message)));
    judge_blocks(instance, &mut wrong);

    let imds = Place::root().key(IMDS);
    if let Some(account) = instance.imds.owner_id.as_deref().filter(|account| !is_account(account)) {
        wrong.push((imds.key("OwnerId"), not_an_account(account)));
    }
    judge_characters(instance, &mut wrong);
    wrong
}

fn judge_placement(instance: &Instance, wrong: &mut Judgement) {
    let is_name = |name: &str| {
        let letters = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        letters && (1..=64).contains(&name.len())
    };
    if !is_name(&instance.placement.availability_zone) {
        let place = Place::root().key("Placement").key("AvailabilityZone");
        wrong.push((place, "a zone is lower-case letters, digits and hyphens, us-east-1a say".to_string()));
    }
    if instance.imds.region.as_deref().is_some_and(|region| !is_name(region)) {
        let place = Place::root().key(IMDS).key("Region");
        wrong.push((place, "a region is lower-case letters, digits and hyphens, us-east-1 say".to_string()));
    }
}

fn judge_tags(instance: &Instance, wrong: &mut Judgement) {
    let place = Place::root().key("Tags");
    wrong.extend(tags::faults(&instance.tags).into_iter().map(|(index, message)| (place.index(index), message)));
    if instance.metadata_options.instance_metadata_tags == Switch::Disabled {
        return;
    }
    for (index, tag) in instance.tags.iter().enumerate() {
        if !tag.key.is_empty() && !tags::key_fits_metadata(&tag.key) {
            let message = "can't be shown in metadata, and InstanceMetadataTags is enabled: a key there has letters, digits \
                           and -_+=,.@: only, and is not . or .. or _index";
            wrong.push((place.index(index).key("Key"), message.to_string()));
        }
    }
}

fn judge_interfaces(instance: &Instance, wrong: &mut Judgement) {
    let place = Place::root().key("NetworkInterfaces");
    let seat = |interface: &NetworkInterface| {
        (interface.attachment.network_card_index.unwrap_or(0), interface.attachment.device_index)
    };
    for (index, interface) in instance.network_interfaces.iter().enumerate() {
        let place = place.index(index);
        let earlier = &instance.network_interfaces[..index];
        if !is_mac(&interface.mac_address) {
            let message = "a MAC address is six pairs of hexadecimal digits between colons, 02:00:00:00:00:10 say";
            wrong.push((place.key("MacAddress"), message.to_string()));
        } else if earlier.iter().any(|other| other.mac_address == interface.mac_address) {
            wrong.push((place.key("MacAddress"), "another interface of the instance has this MAC address".to_string()));
        }
        if earlier.iter().any(|other| seat(other) == seat(interface)) {
            let message = "another interface of the instance has this device index on this network card";
            wrong.push((place.key("Attachment").key("DeviceIndex"), message.to_string()));
        }
        let primary = interface.private_ip_addresses.iter().find(|address| address.primary);
        if let (Some(address), Some(primary)) = (interface.private_ip_address, primary)
            && address != primary.private_ip_address
        {
            let message = format!("the primary one of PrivateIpAddresses is {}", primary.private_ip_address);
            wrong.push((place.key("PrivateIpAddress"), message));
        }
        for (index, prefix) in interface.ipv4_prefixes.iter().enumerate() {
            let place = place.key("Ipv4Prefixes").index(index).key("Ipv4Prefix");
            judge_block(place, &prefix.ipv4_prefix, AddressFamily::Ipv4, wrong);
        }
        for (index, prefix) in interface.ipv6_prefixes.iter().enumerate() {
            let place = place.key("Ipv6Prefixes").index(index).key("Ipv6Prefix");
            judge_block(place, &prefix.ipv6_prefix, AddressFamily::Ipv6, wrong);
        }
    }
    let of_interface = instance.primary_interface().and_then(|interface| interface.private_ip_address);
    if let (Some(address), Some(of_interface)) = (instance.private_ip_address, of_interface)
        && address != of_interface
    {
        let message = format!("the interface with device index 0 has {of_interface}; the two are one address");
        wrong.push((Place::root().key("PrivateIpAddress"), message));
    }
}

fn judge_attachments(instance: &Instance, wrong: &mut Judgement) {
    let attachments = &instance.imds.attachments;
    for (index, attachment) in attachments.iter().enumerate() {
        let place = Place::root().key(IMDS).key("Attachments").index(index);
        let fault = match attachment {
            Attachment::Listener(name) => listener_fault(name).map(|fault| ("Listener", "", fault)),
            Attachment::Interface(name) => interface_name_fault(name).map(|fault| ("Interface", "", fault)),
            Attachment::BridgePort(BridgePort { bridge, port, mark }) => {
                let of_bridge = interface_name_fault(bridge).map(|fault| ("BridgePort", "Bridge", fault));
                let of_port = interface_name_fault(port).map(|fault| ("BridgePort", "Port", fault));
                let of_mark = (*mark == 0)
                    .then(|| ("BridgePort", "Mark", "0 is the mark of packets that nobody marked".to_string()));
                of_bridge.or(of_port).or(of_mark)
            }
            Attachment::NetworkNamespace(name) => namespace_fault(name).map(|fault| ("NetworkNamespace", "", fault)),
            Attachment::SourceAddress(SourceAddress { listener, address }) => {
                let of_listener = listener_fault(listener).map(|fault| ("SourceAddress", "Listener", fault));
                of_listener.or(address_fault(*address).map(|fault| ("SourceAddress", "Address", fault)))
            }
        };
        if let Some((kind, field, message)) = fault {
            let kind = place.key(kind);
            wrong.push((if field.is_empty() { kind } else { kind.key(field) }, message));
        }
        let before = &attachments[..index];
        if before.contains(attachment) {
            wrong.push((place, format!("{attachment} stands twice")));
        } else if let Some(other) = before.iter().find(|other| other.collides(attachment)) {
            wrong.push((place, format!("{attachment} can't be told from {other}")));
        }
    }
}

fn listener_fault(name: &str) -> Option<String> {
    name.is_empty().then(|| "names no listener of the configuration".to_string())
}

fn address_fault(address: std::net::IpAddr) -> Option<String> {
    let (is_shared, mapped) = match address {
        std::net::IpAddr::V4(address) => (address.is_link_local() || address.is_broadcast(), None),
        std::net::IpAddr::V6(address) => (address.is_unicast_link_local(), address.to_ipv4_mapped()),
    };
    if let Some(ipv4) = mapped {
        return Some(format!("connections come in by IPv4 as such: this is {ipv4}"));
    }
    let no_guests = is_shared || address.is_unspecified() || address.is_multicast();
    no_guests.then(|| format!("{address} is no address that one guest alone can have"))
}

fn namespace_fault(name: &str) -> Option<String> {
    let is_name = !name.is_empty() && !matches!(name, "." | "..") && !name.contains('/');
    let is_path = name.starts_with('/');
    let sound = (is_name || is_path) && !name.contains('\0');
    let name = name.escape_debug();
    (!sound).then(|| format!("this is a name below /run/netns or an absolute path, not '{name}'"))
}

fn judge_user_data(instance: &Instance, wrong: &mut Judgement) {
    let imds = Place::root().key(IMDS);
    let (encoded, text) = (&instance.imds.user_data, &instance.imds.user_data_text);
    if encoded.is_some() && text.is_some() {
        wrong.push((imds.key("UserDataText"), "UserData is there too; an instance has one of the two".to_string()));
    }
    let decoded = encoded.as_ref().map(|encoded| BASE64.decode(encoded));
    let length = match &decoded {
        Some(Ok(bytes)) => Some(("UserData", bytes.len())),
        Some(Err(_)) => {
            let message = "this is not base64: the standard alphabet, padded with =, without white space";
            wrong.push((imds.key("UserData"), message.to_string()));
            None
        }
        None => text.as_ref().map(|text| ("UserDataText", text.len())),
    };
    if let Some((field, length)) = length.filter(|(_, length)| *length > MOST_USER_DATA) {
        let message = format!("user data has at most {MOST_USER_DATA} bytes before base64, not {length}");
        wrong.push((imds.key(field), message));
    }
}

fn judge_key(instance: &Instance, wrong: &mut Judgement) {
    let Some(line) = &instance.imds.open_ssh_key else { return };
    if !is_authorized_key(line) {
        let message = "this is not one line of authorized_keys: a key type, the key in base64, and a comment if you like, \
                       without options in front and without a line end";
        wrong.push((Place::root().key(IMDS).key("OpenSshKey"), message.to_string()));
    }
    if instance.key_name.is_none() {
        wrong.push((Place::root().key("KeyName"), "is missing; Imds.OpenSshKey is shown under it".to_string()));
    }
}

fn judge_role(instance: &Instance, wrong: &mut Judgement) {
    let Some(role) = &instance.imds.role else { return };
    let place = Place::root().key(IMDS).key("Role");
    // IAM's pattern for role names.
    let letters = role.role_name.bytes().all(|b| b.is_ascii_alphanumeric() || b"+=,.@_-".contains(&b));
    if !letters || !(1..=64).contains(&role.role_name.len()) {
        let message = "a role name is 1 to 64 letters, digits and +=,.@_-";
        wrong.push((place.key("RoleName"), message.to_string()));
    }
    let source = place.key("Source");
    match &role.source {
        CredentialSource::Static(StaticSource { v1, v2 }) => {
            for (delivery, credentials) in [("V1", v1.as_ref()), ("V2", Some(v2))] {
                let Some(credentials) = credentials else { continue };
                let place = source.key("Static").key(delivery);
                let secret = credentials.secret_access_key.expose();
                for (field, value) in [("AccessKeyId", credentials.access_key_id.as_str()), ("SecretAccessKey", secret)]
                {
                    if value.is_empty() {
                        wrong.push((place.key(field), "can't be empty".to_string()));
                    }
                }
            }
        }
        CredentialSource::Process(ProcessSource { command, timeout_seconds }) => {
            let place = source.key("Process");
            if !command.first().is_some_and(|program| program.starts_with('/')) {
                let message = "begins with the absolute path of a program; no shell reads it";
                wrong.push((place.key("Command"), message.to_string()));
            }
            if timeout_seconds.is_some_and(|seconds| !(1..=60).contains(&seconds)) {
                wrong.push((place.key("TimeoutSeconds"), "is 1 to 60".to_string()));
            }
        }
        CredentialSource::AssumeRole(of) => {
            let place = source.key("AssumeRole");
            judge_sts(&place, &of.endpoint, &of.role_arn, of.duration_seconds, of.ca_file.as_deref(), wrong);
            if of.region.is_empty() || !of.region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
                wrong.push((place.key("Region"), "a region is letters, digits and -, us-east-1 say".to_string()));
            }
            if !of.access_key_file.is_absolute() {
                wrong.push((place.key("AccessKeyFile"), "must be an absolute path".to_string()));
            }
            // STS's own pattern.
            let fits = |id: &String| {
                (2..=1224).contains(&id.len())
                    && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+=,.@:/-".contains(&b))
            };
            if of.external_id.as_ref().is_some_and(|id| !fits(id)) {
                let message = "an external id is 2 to 1224 letters, digits and _+=,.@:/-";
                wrong.push((place.key("ExternalId"), message.to_string()));
            }
        }
        CredentialSource::AssumeRoleWithWebIdentity(of) => {
            let place = source.key("AssumeRoleWithWebIdentity");
            judge_sts(&place, &of.endpoint, &of.role_arn, of.duration_seconds, of.ca_file.as_deref(), wrong);
            if of.audience.as_deref() == Some("") {
                let message = "can't be empty; without it the token is for sts.amazonaws.com";
                wrong.push((place.key("Audience"), message.to_string()));
            }
        }
    }
    if instance.iam_instance_profile.is_none() {
        let message = "is missing; Imds.Role is the role in it";
        wrong.push((Place::root().key("IamInstanceProfile"), message.to_string()));
    }
}

fn judge_events(instance: &Instance, wrong: &mut Judgement) {
    let imds = Place::root().key(IMDS);
    let maintenance = imds.key("Events").key("Maintenance");
    for (index, event) in instance.imds.events.maintenance.iter().enumerate() {
        let fault = event_id_fault(&event.event_id);
        wrong.extend(fault.map(|message| (maintenance.index(index).key("EventId"), message)));
    }
    if instance.imds.events.maintenance.len() > MOST_MAINTENANCE {
        let message = format!("an instance has at most {MOST_MAINTENANCE} scheduled events, past ones included");
        wrong.push((maintenance, message));
    }
    for TimelineFault { step, fields, message } in instance.imds.timeline.faults(instance) {
        let timeline = imds.key("Timeline");
        let step = step.map_or(timeline.clone(), |index| timeline.index(index));
        wrong.push((fields.into_iter().fold(step, |place, field| place.key(field)), message));
    }
    let keys = imds.key("ManagedSshKeys");
    for (index, key) in instance.imds.managed_ssh_keys.iter().enumerate() {
        let user = &key.instance_os_user;
        let letters = user.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-@".contains(&b));
        if !letters || !(1..=32).contains(&user.len()) || matches!(user.as_str(), "." | "..") {
            let message = "an operating system user is 1 to 32 letters, digits and _.-@";
            wrong.push((keys.index(index).key("InstanceOSUser"), message.to_string()));
        }
    }
}

/// What both calls of STS have.
fn judge_sts(
    place: &Place,
    endpoint: &str,
    role_arn: &str,
    duration_seconds: Option<u32>,
    ca_file: Option<&Path>,
    wrong: &mut Judgement,
) {
    if !is_endpoint(endpoint) {
        let message = "an endpoint is http:// or https://, a host, and a port and a path if need be; nothing else";
        wrong.push((place.key("Endpoint"), message.to_string()));
    }
    if !is_role_arn(role_arn) {
        let message = "a role's ARN is arn:aws:iam::123456789012:role/NAME; MinIO and Ceph may leave the account out";
        wrong.push((place.key("RoleArn"), message.to_string()));
    }
    if duration_seconds.is_some_and(|seconds| !(900..=43_200).contains(&seconds)) {
        wrong.push((place.key("DurationSeconds"), "is 900 to 43200".to_string()));
    }
    if ca_file.is_some_and(|file| !file.is_absolute()) {
        wrong.push((place.key("CaFile"), "must be an absolute path".to_string()));
    }
}

/// Without user, password, query and fragment: the first two belong nowhere, the other two would not be sent.
fn is_endpoint(text: &str) -> bool {
    let Ok(uri) = text.parse::<hyper::Uri>() else { return false };
    let Some(authority) = uri.authority() else { return false };
    // Only a host and a sound port put together again are what stood there.
    let plain = match authority.port_u16() {
        Some(port) => authority.as_str() == format!("{}:{port}", authority.host()) && port > 0,
        None => authority.as_str() == authority.host(),
    };
    matches!(uri.scheme_str(), Some("http" | "https"))
        && plain
        && !authority.host().is_empty()
        && !text.contains(['?', '#'])
}

/// `arn:PARTITION:iam:REGION:ACCOUNT:role/NAME`. Only AWS has accounts of twelve digits: Ceph's are of letters too, and with
/// MinIO both region and account may be empty.
fn is_role_arn(text: &str) -> bool {
    let parts: Vec<_> = text.splitn(6, ':').collect();
    let ["arn", partition, "iam", region, account, role] = parts[..] else { return false };
    let word = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let visible = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    !partition.is_empty()
        && [partition, region, account].into_iter().all(word)
        && (partition == "minio" || region.is_empty())
        && role.strip_prefix("role/").is_some_and(visible)
        && text.len() <= 2048
}

fn judge_blocks(instance: &Instance, wrong: &mut Judgement) {
    let imds = Place::root().key(IMDS);
    for (field, networks) in [("Subnets", &instance.imds.subnets), ("Vpcs", &instance.imds.vpcs)] {
        for (id, blocks) in networks {
            let place = imds.key(field).key(id);
            for (index, block) in blocks.ipv4_cidr_blocks.iter().enumerate() {
                judge_block(place.key("Ipv4CidrBlocks").index(index), block, AddressFamily::Ipv4, wrong);
            }
            for (index, block) in blocks.ipv6_cidr_blocks.iter().enumerate() {
                judge_block(place.key("Ipv6CidrBlocks").index(index), block, AddressFamily::Ipv6, wrong);
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum AddressFamily {
    Ipv4,
    Ipv6,
}

fn judge_block(place: Place, block: &str, family: AddressFamily, wrong: &mut Judgement) {
    let example = match family {
        AddressFamily::Ipv4 => "an IPv4 address block is an address and a prefix length, 10.0.0.0/24 say",
        AddressFamily::Ipv6 => "an IPv6 address block is an address and a prefix length, 2001:db8::/64 say",
    };
    let Some((address, length)) = address_and_length(block, family) else {
        return wrong.push((place, example.to_string()));
    };
    let start = first_address(address, length);
    if start != address {
        wrong.push((place, format!("the address has bits beyond the prefix; the block is {start}/{length}")));
    }
}

fn address_and_length(block: &str, family: AddressFamily) -> Option<(IpAddr, u32)> {
    let (address, length) = block.split_once('/')?;
    // `u32::from_str` would take a plus sign.
    let length = length.bytes().all(|b| b.is_ascii_digit()).then(|| length.parse::<u32>().ok())??;
    let (address, most) = match family {
        AddressFamily::Ipv4 => (IpAddr::V4(address.parse().ok()?), 32),
        AddressFamily::Ipv6 => (IpAddr::V6(address.parse().ok()?), 128),
    };
    (length <= most).then_some((address, length))
}

fn first_address(address: IpAddr, length: u32) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    }
}

/// Every string may become a line of metadata or a header's neighbour: a control character in it could end the line.
/// User data is bytes and has no lines.
fn judge_characters(instance: &Instance, wrong: &mut Judgement) {
    let Ok(mut fields) = serde_json::to_value(instance) else { return };
    // User data are bytes, tag values are as they are on EC2, an override is a leaf's whole body and may have lines (what
    // its path may be is judged with it), and the rest of these is not shown in metadata.
    const SHOWN_AS_THEY_ARE: [&str; 8] = [
        "UserData",
        "UserDataText",
        "Tags",
        "Description",
        "StateTransitionReason",
        "ClientToken",
        "Overrides",
        "Override",
    ];
    without(&mut fields, &SHOWN_AS_THEY_ARE);
    let known: Vec<Place> = wrong.iter().map(|(place, _)| place.clone()).collect();
    let mut found = Vec::new();
    control_characters(&fields, &Place::root(), &mut found);
    for (place, character) in found {
        if !known.contains(&place) {
            let message = format!("has a control character (U+{:04X}); metadata can't show it", u32::from(character));
            wrong.push((place, message));
        }
    }
}

fn without(value: &mut Value, fields: &[&str]) {
    match value {
        Value::Array(elements) => elements.iter_mut().for_each(|element| without(element, fields)),
        Value::Object(members) => {
            members.retain(|field, _| !fields.contains(&field.as_str()));
            members.values_mut().for_each(|member| without(member, fields));
        }
        _ => {}
    }
}

fn control_characters(value: &Value, place: &Place, found: &mut Vec<(Place, char)>) {
    match value {
        Value::String(text) => found.extend(text.chars().find(|c| c.is_control()).map(|c| (place.clone(), c))),
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                control_characters(element, &place.index(index), found);
            }
        }
        Value::Object(members) => {
            for (key, member) in members {
                let place = place.key(key);
                found.extend(key.chars().find(|c| c.is_control()).map(|c| (place.clone(), c)));
                control_characters(member, &place, found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

fn not_an_account(text: &str) -> String {
    format!("an account is 12 digits, not '{}'", text.escape_debug())
}

/// Lower case only: documents are lowered when they are read.
fn is_mac(text: &str) -> bool {
    let pair = |pair: &str| pair.len() == 2 && pair.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    text.split(':').count() == 6 && text.split(':').all(pair)
}

/// `ssh-ed25519 AAAA… comment`. The key repeats its type inside the base64 (RFC 4253, 6.6), which a truncated or mixed-up
/// line rarely survives.
pub fn is_authorized_key(line: &str) -> bool {
    if line.chars().any(char::is_control) {
        return false;
    }
    let mut words = line.split(' ');
    let (Some(name), Some(encoded)) = (words.next(), words.next()) else { return false };
    let Ok(key) = BASE64.decode(encoded) else { return false };
    let Some((length, rest)) = key.split_first_chunk::<4>() else { return false };
    !name.is_empty() && u32::from_be_bytes(*length) as usize == name.len() && rest.starts_with(name.as_bytes())
}

/// Where something stands in a document: `Imds.Attachments[0].Listener`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

impl Place {
    /// The whole of it.
    pub fn root() -> Place {
        Place(Vec::new())
    }

    /// A member of the object here.
    pub fn key(&self, key: &str) -> Place {
        self.step(Step::Key(key.to_string()))
    }

    /// An element of the array here.
    pub fn index(&self, index: usize) -> Place {
        self.step(Step::Index(index))
    }

    fn step(&self, step: Step) -> Place {
        self.join(&Place(vec![step]))
    }

    fn join(&self, below: &Place) -> Place {
        Place(self.0.iter().chain(&below.0).cloned().collect())
    }

    fn is_within(&self, other: &Place) -> bool {
        self.0.starts_with(&other.0)
    }

    fn goes_through(&self, field: &str) -> bool {
        self.0.iter().any(|step| matches!(step, Step::Key(key) if key == field))
    }

    fn ends_in(&self, fields: &[&str]) -> bool {
        matches!(self.0.last(), Some(Step::Key(key)) if fields.contains(&key.as_str()))
    }

    /// The place of a fault of form, as deep as the value has it, and what must be taken out on its account.
    fn of_error(value: &Value, path: &serde_path_to_error::Path) -> (Place, Place) {
        let (mut place, mut whole) = (Place::root(), None);
        for segment in path {
            let below = match segment {
                Segment::Seq { index } => place.index(*index),
                Segment::Map { key } => place.key(key),
                Segment::Enum { variant } => {
                    // A variant without what is in it is nothing: it goes as a whole.
                    whole.get_or_insert(place.clone());
                    place.key(variant)
                }
                Segment::Unknown => break,
            };
            if below.find_in(value).is_none() {
                break;
            }
            place = below;
        }
        let whole = whole.unwrap_or_else(|| place.clone());
        (place, whole)
    }

    fn find_in<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        self.0.iter().try_fold(value, |here, step| match step {
            Step::Key(key) => here.get(key),
            Step::Index(index) => here.get(index),
        })
    }

    fn find_in_mut<'v>(&self, value: &'v mut Value) -> Option<&'v mut Value> {
        self.0.iter().try_fold(value, |here, step| match step {
            Step::Key(key) => here.get_mut(key),
            Step::Index(index) => here.get_mut(index),
        })
    }

    /// Takes what stands here out of the value. Nothing can be done about the root.
    fn take_out_of(&self, value: &mut Value) -> bool {
        let Some((last, above)) = self.0.split_last() else { return false };
        let Some(here) = Place(above.to_vec()).find_in_mut(value) else { return false };
        match (last, here) {
            (Step::Key(key), Value::Object(members)) => members.remove(key).is_some(),
            (Step::Index(index), Value::Array(elements)) if *index < elements.len() => {
                elements.remove(*index);
                true
            }
            _ => false,
        }
    }

    /// This place as it was called before the removals, each of which moved the later elements of its array up.
    fn before_removals(&self, removed: &[Place]) -> Place {
        let mut before = Place::root();
        for step in &self.0 {
            let step = match step {
                Step::Key(key) => Step::Key(key.clone()),
                Step::Index(index) => {
                    let gone: BTreeSet<usize> = removed.iter().filter_map(|gone| gone.index_in(&before)).collect();
                    Step::Index(
                        gone.into_iter().fold(*index, |index, gone| if gone <= index { index + 1 } else { index }),
                    )
                }
            };
            before.0.push(step);
        }
        before
    }

    /// The index of this place in `array`, when it is an element of it.
    fn index_in(&self, array: &Place) -> Option<usize> {
        match self.0.split_last()? {
            (Step::Index(index), above) if above == array.0 => Some(*index),
            _ => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (count, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if count == 0 => write!(f, "{}", key.escape_debug())?,
                Step::Key(key) => write!(f, ".{}", key.escape_debug())?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// The text of a document with the place of everything in it: what a `serde_json::Value` forgets.
struct Source<'t> {
    text: &'t str,
    /// Where lines end. A thousand instances in one text ask for their lines: it is not gone through for each.
    line_ends: Vec<usize>,
    root: Node<'t>,
}

struct Node<'t> {
    raw: &'t str,
    members: Vec<(String, Node<'t>)>,
    elements: Vec<Node<'t>>,
}

impl<'t> Source<'t> {
    fn of(text: &'t str) -> serde_json::Result<Source<'t>> {
        let line_ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(end, _)| end).collect();
        Ok(Source { text, line_ends, root: Node::of(serde_json::from_str(text)?)? })
    }

    /// The line at which `place` begins, or what is nearest above it when it is missing.
    fn line(&self, place: &Place) -> usize {
        let mut here = &self.root;
        for step in &place.0 {
            let below = match step {
                // The last one of several is the one that was read.
                Step::Key(key) => here.members.iter().rev().find(|(name, _)| name == key).map(|(_, node)| node),
                Step::Index(index) => here.elements.get(*index),
            };
            let Some(below) = below else { break };
            here = below;
        }
        self.line_of(here)
    }

    fn line_of(&self, node: &Node<'_>) -> usize {
        // Both are slices of one text, and a raw value is never empty.
        let offset = node.raw.as_ptr() as usize - self.text.as_ptr() as usize;
        1 + self.line_ends.partition_point(|end| *end < offset)
    }

    fn keys_twice(&self, wrong: &mut Judgement) {
        self.keys_twice_in(&self.root, &Place::root(), wrong);
    }

    fn keys_twice_in(&self, node: &Node<'_>, place: &Place, wrong: &mut Judgement) {
        let mut first = BTreeMap::<&str, &Node<'_>>::new();
        for (key, member) in &node.members {
            let place = place.key(key);
            if let Some(earlier) = first.insert(key, member) {
                wrong.push((place.clone(), format!("stands twice, on line {} already", self.line_of(earlier))));
            }
            self.keys_twice_in(member, &place, wrong);
        }
        for (index, element) in node.elements.iter().enumerate() {
            self.keys_twice_in(element, &place.index(index), wrong);
        }
    }
}

impl<'t> Node<'t> {
    /// As deep as the document, which serde_json has limited by now.
    fn of(raw: &'t RawValue) -> serde_json::Result<Node<'t>> {
        let raw = raw.get();
        let (mut members, mut elements) = (Vec::new(), Vec::new());
        match raw.as_bytes().first() {
            Some(b'{') => {
                for (key, member) in serde_json::from_str::<Members<'t>>(raw)?.0 {
                    members.push((key, Node::of(member)?));
                }
            }
            Some(b'[') => {
                for element in serde_json::from_str::<Vec<&'t RawValue>>(raw)? {
                    elements.push(Node::of(element)?);
                }
            }
            _ => {}
        }
        Ok(Node { raw, members, elements })
    }
}

/// The members of an object in their order, with those that stand twice.
struct Members<'t>(Vec<(String, &'t RawValue)>);

impl<'de: 't, 't> Deserialize<'de> for Members<'t> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = object.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }

        from.deserialize_map(Object).map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const ID: &str = "i-0123456789abcdef0";
    const DEMO: &str = include_str!("../../config/demo-instance.json");
    const AS_COPIED: &str = include_str!("../../config/instances/web-1.json");
    const WITH_IMDS: &str = include_str!("../../config/instances/gpu-spot.json");

    fn read_text(text: &str) -> Result<Vec<Instance>, Vec<Fault>> {
        read(Path::new("d.json"), text)
    }

    fn refused(text: &str) -> Vec<String> {
        read_text(text).expect_err(text).iter().map(Fault::to_string).collect()
    }

    /// A sound instance with some of its fields replaced.
    fn with(fields: Value) -> Value {
        let mut instance = json!({ "InstanceId": ID, "LaunchTime": "2026-01-01T00:00:00Z" });
        let Value::Object(fields) = fields else { panic!("fields are an object") };
        instance.as_object_mut().unwrap().extend(fields);
        instance
    }

    #[test]
    fn the_four_shapes_are_read() {
        let one = with(json!({}));
        let other = with(json!({ "InstanceId": "i-12345678" }));
        let reservation = json!({ "OwnerId": "123456789012", "ReservationId": "r-1", "Instances": [one] });
        for (document, count, owner) in [
            (one.clone(), 1, None),
            (json!([]), 0, None),
            (json!([one, other]), 2, None),
            (reservation.clone(), 1, Some("123456789012")),
            (json!({ "Reservations": [] }), 0, None),
            (json!({ "Reservations": [{ "Instances": [other] }, reservation] }), 2, Some("123456789012")),
        ] {
            let instances = read_text(&document.to_string()).unwrap();
            assert_eq!(instances.len(), count, "{document}");
            if let Some(last) = instances.last() {
                assert_eq!(last.imds.owner_id.as_deref(), owner, "{document}");
                assert_eq!(last.imds.reservation_id.is_some(), owner.is_some(), "{document}");
            }
        }
    }

    #[test]
    fn the_imds_object_goes_before_the_reservation() {
        let instance = with(json!({ "Imds": { "OwnerId": "222222222222", "ReservationId": "r-2" } }));
        let document = json!({ "OwnerId": "111111111111", "ReservationId": "r-1", "Instances": [instance] });
        let instances = read_text(&document.to_string()).unwrap();
        assert_eq!(instances[0].imds.owner_id.as_deref(), Some("222222222222"));
        assert_eq!(instances[0].imds.reservation_id.as_deref(), Some("r-2"));
    }

    #[test]
    fn other_shapes_are_refused() {
        for (text, expected) in [
            ("", "d.json:1: not JSON: EOF while parsing a value"),
            ("{\n\n  \"InstanceId\" \"i-1\"}", "d.json:3: not JSON: expected `:`"),
            ("{}\n}", "d.json:2: not JSON: trailing characters"),
            ("null", "d.json:1: a document is an object or an array, not null"),
            ("\"i-12345678\"", "d.json:1: a document is an object or an array, not a string"),
            ("[\n[]]", "d.json:2: [0]: an instance is an object, not an array"),
            ("{\"Reservations\":\n{}}", "d.json:2: Reservations: this is an array, not an object"),
            ("{\"Reservations\":[\n1]}", "d.json:2: Reservations[0]: a reservation is an object, not a number"),
            ("{\"Reservations\":[\n{}]}", "d.json:2: Reservations[0].Instances: is missing"),
            ("{\"Instances\":null}", "d.json:1: Instances: this is an array, not null"),
            ("{\"Instances\":[true]}", "d.json:1: Instances[0]: an instance is an object, not a boolean"),
            ("{\"Instances\":[],\n\"OwnerId\":\"12\"}", "d.json:2: OwnerId: an account is 12 digits, not '12'"),
            ("{\"Instances\":[],\n\"OwnerId\":123456789012}", "d.json:2: OwnerId: this is a string, not a number"),
            ("{\"Instances\":[],\n\"ReservationId\":[]}", "d.json:2: ReservationId: this is a string, not an array"),
        ] {
            assert_eq!(refused(text), [expected], "{text}");
        }
    }

    #[test]
    fn every_fault_is_reported_with_its_line_and_field() {
        let text = r#"{
            "Reservations": [{ "Instances": [
                {
                    "InstanceId": "i-xyz",
                    "State": { "Name": "asleep" },
                    "PrivateIpAddress": "10.0.0.256",
                    "MetadataOptions": { "HttpPutResponseHopLimit": 65,
                                         "HttpEndpont": "disabled" },
                    "Tags": [
                        { "Key": "a" },
                        { "Value": "b" },
                        { "Key": 3 },
                        { "Key": "a" },
                        { "Key": "ok", "Value": false }
                    ],
                    "NetworkInterfaces": [
                        { "MacAddress": "no", "Attachment": { "DeviceIndex": "0" } },
                        { "MacAddress": "02:00:00:00:00:01", "Attachment": { "DeviceIndex": -1 } }
                    ],
                    "KeyName": 1,
                    "Imds": {
                        "OpenSshKey": "ssh-rsa",
                        "UserDat": "",
                        "Attachments": [{ "Listener": "a" }, { "Tap": "b" }, { "Listener": 5 }, { "Listener": "a" }],
                        "Role": { "RoleName": "r", "Source": { "Static": { "V2": { "AccessKeyId": "A", "SecretAccessKey": 424242 } } } }
                    }
                },
                { "InstanceId": "i-12345678" }
            ]}]
        }"#;
        let expected = [
            ":3: Reservations[0].Instances[0].LaunchTime: is missing",
            ":4: Reservations[0].Instances[0].InstanceId: an instance id is i- and 8 or 17 hexadecimal digits, not 'i-xyz'",
            ":5: Reservations[0].Instances[0].State.Name: 'asleep' is not known (known: pending, running, shutting-down, \
             terminated, stopping, stopped)",
            ":6: Reservations[0].Instances[0].PrivateIpAddress: invalid IPv4 address syntax",
            ":7: Reservations[0].Instances[0].MetadataOptions.HttpPutResponseHopLimit: a hop limit is 1 to 64, not 65",
            ":8: Reservations[0].Instances[0].MetadataOptions.HttpEndpont: is not known; did you mean HttpEndpoint?",
            ":11: Reservations[0].Instances[0].Tags[1].Key: is missing",
            ":12: Reservations[0].Instances[0].Tags[2].Key: this is a string, not a number",
            ":13: Reservations[0].Instances[0].Tags[3]: the tag key 'a' stands twice",
            ":14: Reservations[0].Instances[0].Tags[4].Value: this is a string, not a boolean",
            ":17: Reservations[0].Instances[0].NetworkInterfaces[0].Attachment.DeviceIndex: this is a whole number from 0, not a string",
            ":17: Reservations[0].Instances[0].NetworkInterfaces[0].MacAddress: a MAC address is six pairs of hexadecimal \
             digits between colons, 02:00:00:00:00:10 say",
            ":18: Reservations[0].Instances[0].NetworkInterfaces[1].Attachment.DeviceIndex: invalid value: integer '-1', \
             expected u32",
            ":20: Reservations[0].Instances[0].KeyName: this is a string, not a number",
            ":22: Reservations[0].Instances[0].Imds.OpenSshKey: this is not one line of authorized_keys: a key type, the \
             key in base64, and a comment if you like, without options in front and without a line end",
            ":23: Reservations[0].Instances[0].Imds.UserDat: 'UserDat' is not known; did you mean UserData? (known: \
             Attachments, OwnerId, ReservationId, Region, UserData, UserDataText, OpenSshKey, Role, Subnets, Vpcs, Events, ManagedSshKeys, Overrides, DisableApiTermination, DisableApiStop, Timeline)",
            ":24: Reservations[0].Instances[0].Imds.Attachments[1]: 'Tap' is not known (known: Listener, \
             Interface, BridgePort, NetworkNamespace, SourceAddress)",
            ":24: Reservations[0].Instances[0].Imds.Attachments[2].Listener: this is a string, not a number",
            ":24: Reservations[0].Instances[0].Imds.Attachments[3]: listener 'a' stands twice",
            ":25: Reservations[0].Instances[0].Imds.Role.Source.Static.V2.SecretAccessKey: this is a string, not a number",
            ":28: Reservations[0].Instances[1].LaunchTime: is missing",
        ];
        let mut faults = refused(text);
        assert!(faults.is_sorted_by_key(|fault| fault.split(':').nth(1).unwrap().parse::<usize>().unwrap()));
        faults.sort();
        let mut expected = expected.map(|fault| format!("d.json{fault}"));
        expected.sort();
        assert_eq!(faults, expected);
        assert!(!faults.concat().contains("424242"), "a secret is not printed");
    }

    #[test]
    fn a_fault_of_form_says_what_is_right_and_not_what_is_there() {
        for (fields, expected) in [
            (json!({ "Imds": 1 }), "Imds: this is an object, not a number"),
            (json!({ "Imds": { "Role": "hunter2" } }), "Imds.Role: this is an object, not a string"),
            (json!({ "Imds": { "UserDataText": ["hunter2"] } }), "Imds.UserDataText: this is a string, not an array"),
            (json!({ "Imds": { "Subnets": [] } }), "Imds.Subnets: this is an object, not an array"),
            (json!({ "Imds": { "Attachments": {} } }), "Imds.Attachments: this is an array, not an object"),
            (
                json!({ "Imds": { "Attachments": [{}] } }),
                "Imds.Attachments[0]: invalid value: map, expected map with a",
            ),
            (json!({ "Imds": { "Attachments": [7] } }), "Imds.Attachments[0]: this is an object with one key"),
            (json!({ "Imds": { "Attachments": ["Listener"] } }), "Imds.Attachments[0]: this is an object with one key"),
            (json!({ "Imds": [] }), "Imds: this is an object, not an array"),
            (json!({ "Tags": [["Name", "v"]] }), "Tags[0]: this is an object, not an array"),
            (json!({ "MetadataOptions": [] }), "MetadataOptions: this is an object, not an array"),
            (json!({ "Placement": ["us-east-1a"] }), "Placement: this is an object, not an array"),
            (json!({ "State": "running" }), "State: this is an object, not a string"),
            (json!({ "State": { "Code": 16 } }), "State.Name: is missing"),
            (json!({ "Tags": null }), "Tags: this is an array, not null"),
            (json!({ "AmiLaunchIndex": "0" }), "AmiLaunchIndex: this is a whole number from 0, not a string"),
            (json!({ "LaunchTime": "yesterday" }), "LaunchTime: "),
            (json!({ "LaunchTime": 1 }), "LaunchTime: this is a"),
        ] {
            let faults = refused(&with(fields.clone()).to_string());
            let right = faults.len() == 1 && faults[0].starts_with(&format!("d.json:1: {expected}"));
            assert!(right && !faults[0].contains("hunter2"), "{fields}: {faults:?}");
        }
        let reservation = json!({ "ReservationId": "r\n1", "Instances": [with(json!({}))] });
        assert!(refused(&reservation.to_string())[0].contains("Imds.ReservationId: has a control character (U+000A)"));
    }

    #[test]
    fn a_key_that_stands_twice_is_refused() {
        let text = "{\n\"InstanceId\":\"i-12345678\",\n\"LaunchTime\":\"2026-01-01T00:00:00Z\",\n\
                    \"CpuOptions\":{\"A\":1,\n\"A\":1},\n\"InstanceId\":\"i-12345678\"}";
        assert_eq!(
            refused(text),
            [
                "d.json:5: CpuOptions.A: stands twice, on line 4 already",
                "d.json:6: InstanceId: stands twice, on line 2 already"
            ]
        );
    }

    #[test]
    fn two_instances_with_one_id_are_refused() {
        let one = with(json!({})).to_string();
        assert_eq!(
            refused(&format!("[\n{one},\n{one}]")),
            [format!("d.json:3: InstanceId: {ID} stands in d.json:2 already")]
        );
    }

    #[test]
    fn a_roles_source_is_judged_before_it_is_asked() {
        let profile = json!({ "Arn": "arn:aws:iam::123456789012:instance-profile/p", "Id": "AIPA" });
        let judged = |source: &str, fields: Value| {
            let role = json!({ "RoleName": "r", "Source": { source: fields } });
            let document = with(json!({ "IamInstanceProfile": profile, "Imds": { "Role": role } })).to_string();
            match read(Path::new("d.json"), &document) {
                Ok(_) => String::new(),
                Err(faults) => {
                    let fields: Vec<_> = faults.iter().map(|fault| fault.field.as_str()).collect();
                    fields.join(" ").replace(&format!("Imds.Role.Source.{source}."), "")
                }
            }
        };
        for (fields, faulty) in [
            (json!({ "Command": ["/bin/p", "a b"] }), ""),
            (json!({ "Command": ["/bin/p"], "TimeoutSeconds": 60 }), ""),
            (json!({ "Command": [] }), "Command"),
            (json!({ "Command": ["p"] }), "Command"),
            (json!({ "Command": ["./p"], "TimeoutSeconds": 0 }), "Command TimeoutSeconds"),
            (json!({ "Command": ["/bin/p"], "TimeoutSeconds": 61 }), "TimeoutSeconds"),
        ] {
            assert_eq!(judged("Process", fields.clone()), faulty, "{fields}");
        }
        // One field of a sound source, changed.
        let changed = |mut fields: Value, field: &str, value: Value| {
            fields[field] = value;
            fields
        };
        let arn = "arn:aws:iam::123456789012:role/path/r";
        let web = json!({ "Endpoint": "https://sts.amazonaws.com", "RoleArn": arn });
        let signed = json!({ "Endpoint": "http://[::1]:9000/sts", "RoleArn": arn, "Region": "eu-west-1",
                             "AccessKeyFile": "/etc/imdsd/key.toml", "ExternalId": "a=b/c", "CaFile": "/ca.pem" });
        for (source, sound, rows) in [
            (
                "AssumeRole",
                &signed,
                vec![
                    ("Region", json!("")),
                    ("Region", json!("eu west")),
                    ("AccessKeyFile", json!("key.toml")),
                    ("ExternalId", json!("")),
                    ("ExternalId", json!("a b")),
                ],
            ),
            ("AssumeRoleWithWebIdentity", &web, vec![("Audience", json!(""))]),
        ] {
            assert_eq!(judged(source, sound.clone()), "");
            let shared = [("DurationSeconds", json!(899)), ("DurationSeconds", json!(43_201)), ("CaFile", json!("ca"))];
            for (field, value) in rows.into_iter().chain(shared) {
                assert_eq!(judged(source, changed(sound.clone(), field, value.clone())), field, "{field} {value}");
            }
            for duration in [900, 43_200] {
                assert_eq!(judged(source, changed(sound.clone(), "DurationSeconds", json!(duration))), "");
            }
            for endpoint in [
                "",
                "sts.amazonaws.com",
                "ftp://h",
                "https://",
                "https://:443",
                "https://h:",
                "https://h:0",
                "https://h:65536",
                "https://user@h",
                "https://user:pass@h",
                "https://h/?a=b",
                "https://h/#f",
                "https://h h",
            ] {
                let fields = changed(sound.clone(), "Endpoint", json!(endpoint));
                assert_eq!(judged(source, fields), "Endpoint", "{endpoint}");
            }
            for arn in [
                "arn:aws-cn:iam::123456789012:role/r",
                "arn:aws:iam:::role/S3Access",
                "arn:aws:iam::RGW33567154695143645:role/r",
                "arn:minio:iam:::role/nOybJqMNzNmroqEKq5D0EUsRZw0",
                "arn:minio:iam:us-east-1::role/nOybJqMNzNmroqEKq5D0EUsRZw0",
            ] {
                assert_eq!(judged(source, changed(sound.clone(), "RoleArn", json!(arn))), "", "{arn}");
            }
            for arn in [
                "",
                "r",
                "arn:aws:iam::123456789012:role/",
                "arn:aws:iam::123456789012:role/a b",
                "arn:aws:iam::123456789012:user/u",
                "arn:aws:iam::123456789012:instance-profile/p",
                "arn:aws:iam:us-east-1:123456789012:role/r",
                "arn:aws:sts::123456789012:role/r",
                "arn::iam::123456789012:role/r",
                "arn:aws:iam::role/r",
            ] {
                assert_eq!(judged(source, changed(sound.clone(), "RoleArn", json!(arn))), "RoleArn", "{arn}");
            }
        }
    }

    #[test]
    fn what_metadata_cannot_show_is_refused() {
        let interface = |fields: Value| {
            let mut interface = json!({ "MacAddress": "02:00:00:00:00:01" });
            interface.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            interface
        };
        let interfaces = |fields: Value| json!({ "NetworkInterfaces": [interface(fields)] });
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHRoaXMta2V5LWlzLWEtZGVtb25zdHJhdGlvbi1vbmx5";
        let role = |name: &str| json!({ "RoleName": name, "Source": { "Static": { "V2": { "AccessKeyId": "A", "SecretAccessKey": "s" } } } });
        let block = |field: &str, block: &str| json!({ "Imds": { "Subnets": { "subnet-1": { field: [block] } } } });
        let profile = json!({ "Arn": "arn:aws:iam::123456789012:instance-profile/p", "Id": "AIPA" });
        for (fields, expected) in [
            (json!({ "Tags": [{ "Key": "" }] }), "Tags[0]"),
            (
                json!({ "Tags": [{ "Key": "a b" }], "MetadataOptions": { "InstanceMetadataTags": "enabled" } }),
                "Tags[0].Key",
            ),
            (json!({ "KeyName": "a\nb" }), "KeyName"),
            (json!({ "ImageId": "ami-\u{85}" }), "ImageId"),
            (json!({ "SecurityGroups": [{ "GroupId": "sg-1", "GroupName": "a\tb" }] }), "SecurityGroups[0].GroupName"),
            (json!({ "Imds": { "Subnets": { "subnet-\r": {} } } }), "Imds.Subnets.subnet-\\r"),
            (json!({ "Imds": { "OwnerId": "12345678901" } }), "Imds.OwnerId"),
            (json!({ "Imds": { "OwnerId": "12345678901x" } }), "Imds.OwnerId"),
            (json!({ "Imds": { "Region": "" } }), "Imds.Region"),
            (json!({ "Imds": { "UserData": "", "UserDataText": "" } }), "Imds.UserDataText"),
            (json!({ "Imds": { "UserData": "aGk" } }), "Imds.UserData"),
            (json!({ "Imds": { "UserData": "aGk=\n" } }), "Imds.UserData"),
            (json!({ "Imds": { "UserData": "a Gk" } }), "Imds.UserData"),
            (json!({ "Imds": { "UserData": "a-_=" } }), "Imds.UserData"),
            (json!({ "Imds": { "UserData": BASE64.encode(vec![0; 16_385]) } }), "Imds.UserData"),
            (json!({ "Imds": { "UserDataText": "a".repeat(16_385) } }), "Imds.UserDataText"),
            (json!({ "Imds": { "OpenSshKey": key } }), "KeyName"),
            (json!({ "KeyName": "k", "Imds": { "OpenSshKey": "" } }), "Imds.OpenSshKey"),
            (json!({ "KeyName": "k", "Imds": { "OpenSshKey": format!("{key}\n") } }), "Imds.OpenSshKey"),
            (json!({ "KeyName": "k", "Imds": { "OpenSshKey": format!("{key}\nssh-rsa") } }), "Imds.OpenSshKey"),
            (json!({ "KeyName": "k", "Imds": { "OpenSshKey": format!("no-pty {key}") } }), "Imds.OpenSshKey"),
            (
                json!({ "KeyName": "k", "Imds": { "OpenSshKey": key.replace("ssh-ed25519", "ssh-rsa") } }),
                "Imds.OpenSshKey",
            ),
            (json!({ "KeyName": "k", "Imds": { "OpenSshKey": "ssh-rsa AAAA" } }), "Imds.OpenSshKey"),
            (json!({ "Imds": { "Role": role("r") } }), "IamInstanceProfile"),
            (json!({ "IamInstanceProfile": profile, "Imds": { "Role": role("") } }), "Imds.Role.RoleName"),
            (json!({ "IamInstanceProfile": profile, "Imds": { "Role": role("a/b") } }), "Imds.Role.RoleName"),
            (json!({ "IamInstanceProfile": profile, "Imds": { "Role": role("ü") } }), "Imds.Role.RoleName"),
            (json!({ "IamInstanceProfile": profile, "Imds": { "Role": role(&"r".repeat(65)) } }), "Imds.Role.RoleName"),
            (
                json!({ "IamInstanceProfile": profile, "Imds": { "Role":
                    { "RoleName": "r", "Source": { "Static": { "V2": { "AccessKeyId": "A", "SecretAccessKey": "" } } } } } }),
                "Imds.Role.Source.Static.V2.SecretAccessKey",
            ),
            (block("Ipv4CidrBlocks", "10.0.0.0"), "Imds.Subnets.subnet-1.Ipv4CidrBlocks[0]"),
            (block("Ipv4CidrBlocks", "10.0.0.0/33"), "Imds.Subnets.subnet-1.Ipv4CidrBlocks[0]"),
            (block("Ipv4CidrBlocks", "10.0.0.0/+8"), "Imds.Subnets.subnet-1.Ipv4CidrBlocks[0]"),
            (block("Ipv4CidrBlocks", "10.0.0.1/24"), "Imds.Subnets.subnet-1.Ipv4CidrBlocks[0]"),
            (block("Ipv4CidrBlocks", "10.0.0.0/0"), "Imds.Subnets.subnet-1.Ipv4CidrBlocks[0]"),
            (block("Ipv4CidrBlocks", "2001:db8::/64"), "Imds.Subnets.subnet-1.Ipv4CidrBlocks[0]"),
            (block("Ipv6CidrBlocks", "2001:db8::/129"), "Imds.Subnets.subnet-1.Ipv6CidrBlocks[0]"),
            (block("Ipv6CidrBlocks", "2001:db8::1/64"), "Imds.Subnets.subnet-1.Ipv6CidrBlocks[0]"),
            (json!({ "Imds": { "Attachments": [{ "Listener": "" }] } }), "Imds.Attachments[0].Listener"),
            (json!({ "Imds": { "Attachments": [{ "Listener": "a" }, { "Listener": "a" }] } }), "Imds.Attachments[1]"),
            (json!({ "Imds": { "Attachments": [{ "Interface": "a/b" }] } }), "Imds.Attachments[0].Interface"),
            (
                json!({ "Imds": { "Attachments": [{ "BridgePort": { "Bridge": "br0", "Port": "tap0", "Mark": 0 } }] } }),
                "Imds.Attachments[0].BridgePort.Mark",
            ),
            (
                json!({ "Imds": { "Attachments": [{ "BridgePort": { "Bridge": "", "Port": "tap0", "Mark": 1 } }] } }),
                "Imds.Attachments[0].BridgePort.Bridge",
            ),
            (
                json!({ "Imds": { "Attachments": [
                    { "Interface": "br0" },
                    { "BridgePort": { "Bridge": "br0", "Port": "tap0", "Mark": 1 } }
                ] } }),
                "Imds.Attachments[1]",
            ),
            (
                json!({ "Imds": { "Attachments": [{ "NetworkNamespace": "a/b" }] } }),
                "Imds.Attachments[0].NetworkNamespace",
            ),
            (
                json!({ "Imds": { "Attachments": [{ "NetworkNamespace": ".." }] } }),
                "Imds.Attachments[0].NetworkNamespace",
            ),
            (
                json!({ "Imds": { "Attachments": [{ "SourceAddress": { "Listener": "", "Address": "10.0.0.5" } }] } }),
                "Imds.Attachments[0].SourceAddress.Listener",
            ),
            (
                json!({ "Imds": { "Attachments": [{ "SourceAddress": { "Listener": "a", "Address": "fe80::5" } }] } }),
                "Imds.Attachments[0].SourceAddress.Address",
            ),
            (
                json!({ "Imds": { "Attachments": [{ "SourceAddress": { "Listener": "a", "Address": "::ffff:10.0.0.5" } }] } }),
                "Imds.Attachments[0].SourceAddress.Address",
            ),
            (
                json!({ "Imds": { "Attachments": [{ "NetworkNamespace": "a" }, { "NetworkNamespace": "/run/netns/a" }] } }),
                "Imds.Attachments[1]",
            ),
            (interfaces(json!({ "MacAddress": "" })), "NetworkInterfaces[0].MacAddress"),
            (interfaces(json!({ "MacAddress": "2:0:0:0:0:1" })), "NetworkInterfaces[0].MacAddress"),
            (interfaces(json!({ "MacAddress": "02-00-00-00-00-01" })), "NetworkInterfaces[0].MacAddress"),
            (interfaces(json!({ "MacAddress": "02:00:00:00:00:0g" })), "NetworkInterfaces[0].MacAddress"),
            (
                json!({ "NetworkInterfaces": [interface(json!({})), interface(json!({ "MacAddress": "02:00:00:00:00:02" }))] }),
                "NetworkInterfaces[1].Attachment.DeviceIndex",
            ),
            (
                json!({ "NetworkInterfaces": [interface(json!({})), interface(json!({ "Attachment": { "DeviceIndex": 1 } }))] }),
                "NetworkInterfaces[1].MacAddress",
            ),
            (
                json!({ "PrivateIpAddress": "10.0.0.1",
                        "NetworkInterfaces": [interface(json!({ "PrivateIpAddress": "10.0.0.2" }))] }),
                "PrivateIpAddress",
            ),
            (
                json!({ "NetworkInterfaces": [interface(json!({ "PrivateIpAddress": "10.0.0.2",
                        "PrivateIpAddresses": [{ "PrivateIpAddress": "10.0.0.3", "Primary": true }] }))] }),
                "NetworkInterfaces[0].PrivateIpAddress",
            ),
            (
                interfaces(json!({ "Ipv4Prefixes": [{ "Ipv4Prefix": "10.0.0.17/28" }] })),
                "NetworkInterfaces[0].Ipv4Prefixes[0].Ipv4Prefix",
            ),
            (
                interfaces(json!({ "Ipv6Prefixes": [{ "Ipv6Prefix": "10.0.0.16/28" }] })),
                "NetworkInterfaces[0].Ipv6Prefixes[0].Ipv6Prefix",
            ),
        ] {
            let fields_at_fault: Vec<String> = match read_text(&with(fields.clone()).to_string()) {
                Ok(_) => panic!("accepted: {fields}"),
                Err(faults) => faults.into_iter().map(|fault| fault.field).collect(),
            };
            assert_eq!(fields_at_fault, [expected], "{fields}");
        }
    }

    #[test]
    fn faults_of_a_timeline_are_reported_with_line_and_field() {
        let text = r#"{
 "InstanceId": "i-0123456789abcdef0", "LaunchTime": "2026-01-01T00:00:00Z",
 "Imds": { "Timeline": [
  { "At": "2026-06-01T00:00:00Z", "Set": { "Restore": "meta-data/x" } },
  { "At": "2026-05-01T00:00:00Z", "Set": { "Override": { "Path": "user-data", "Value": ["x"] } } },
  { "At": "2026-07-01", "Set": { "Restore": "meta-data/x" } },
  { "At": "2026-07-01T00:00:00Z", "Set": { "Spott": { "Action": "stop" } } },
  { "At": "2026-07-01T00:00:00Z", "Set": 5 },
  { "At": "2026-07-01T00:00:00Z", "Set": { "Clear": [] } },
  { "At": "2026-07-01T00:00:00Z", "Set": { "Spot": { "Action": "destroy", "Time": "2026-07-01T00:00:00Z" } } }
 ] }
}"#;
        let places: Vec<String> =
            refused(text).iter().map(|fault| fault.split(": ").take(2).collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            places,
            [
                "d.json:5 Imds.Timeline[1].At",
                "d.json:5 Imds.Timeline[1].Set.Override.Path",
                "d.json:6 Imds.Timeline[2].At",
                "d.json:7 Imds.Timeline[3].Set",
                "d.json:8 Imds.Timeline[4].Set",
                "d.json:9 Imds.Timeline[5].Set.Clear",
                "d.json:10 Imds.Timeline[6].Set.Spot.Action",
            ]
        );
    }

    #[test]
    fn near_limits_and_odd_values_are_accepted() {
        for fields in [
            json!({ "Tags": [{ "Key": "a b/ü" }] }),
            json!({ "Imds": { "UserDataText": "\u{0}\u{1b}[0m\r\n" } }),
            json!({ "Imds": { "UserDataText": "a".repeat(16_384) } }),
            json!({ "Imds": { "UserData": BASE64.encode(vec![0; 16_384]) } }),
            json!({ "KeyName": "k without a key" }),
            json!({ "Imds": { "Overrides": { "meta-data/ancestor-ami-ids": "ami-1\nami-2" } } }),
            json!({ "Imds": { "Vpcs": { "vpc-1": { "Ipv4CidrBlocks": ["0.0.0.0/0", "10.0.0.1/32"],
                                                   "Ipv6CidrBlocks": ["::/0", "2600:1f16:0292:0100:0000:0000:0000:0000/64"] } } } }),
            json!({ "StateReason": { "Message": "kept\nas it is" } }),
            json!({ "NetworkInterfaces": [
                { "MacAddress": "02:00:00:00:00:01", "Attachment": { "NetworkCardIndex": 0 } },
                { "MacAddress": "02:00:00:00:00:02", "Attachment": { "NetworkCardIndex": 1 } }] }),
        ] {
            assert_eq!(read_text(&with(fields.clone()).to_string()).map(|read| read.len()), Ok(1), "{fields}");
        }
    }

    #[test]
    fn mac_addresses_are_lowered() {
        let instances =
            read_text(&with(json!({ "NetworkInterfaces": [{ "MacAddress": "02:AB:CD:EF:00:01" }] })).to_string())
                .unwrap();
        assert_eq!(instances[0].network_interfaces[0].mac_address, "02:ab:cd:ef:00:01");
        let twice = json!({ "NetworkInterfaces": [
            { "MacAddress": "02:AB:CD:EF:00:01" },
            { "MacAddress": "02:ab:cd:ef:00:01", "Attachment": { "DeviceIndex": 1 } }] });
        assert_eq!(refused(&with(twice).to_string()).len(), 1);
    }

    #[test]
    fn the_shipped_documents_are_accepted() {
        for (text, other) in [(DEMO, 0), (AS_COPIED, 15), (WITH_IMDS, 15)] {
            let instances = read_text(text).unwrap_or_else(|faults| panic!("{faults:#?}"));
            assert_eq!(instances.len(), 1);
            assert_eq!(instances[0].owner_id(), "123456789012");
            assert!(instances[0].other.len() >= other, "{:?}", instances[0].other.keys().collect::<Vec<_>>());
        }
    }

    /// Fields of EC2's output that imdsd does not read: <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Instance.html>
    #[test]
    fn no_field_of_ec2_is_taken_for_a_misspelling() {
        let fields = "BootMode CapacityBlockId CapacityReservationId CapacityReservationSpecification CpuOptions \
            CurrentInstanceBootMode EbsOptimized ElasticGpuAssociations ElasticInferenceAcceleratorAssociations EnaSupport \
            EnclaveOptions Licenses MaintenanceOptions NetworkPerformanceOptions Operator OutpostArn Platform PlatformDetails \
            PrivateDnsNameOptions SourceDestCheck SpotInstanceRequestId SriovNetSupport StateReason TpmSupport \
            UsageOperation UsageOperationUpdateTime";
        for field in fields.split(' ') {
            assert!(!is_instance_field(field), "{field}");
            assert_eq!(misspelt(with(json!({ field: 1 })).as_object().unwrap()), [], "{field}");
        }
        assert_eq!(misspelt(with(json!({ "MetadataOptions": { "State": "applied" } })).as_object().unwrap()), []);
        for (miss, meant) in
            [("imds", "Imds"), ("IMDS", "Imds"), ("Tag", "Tags"), ("MetadataOptoins", "MetadataOptions")]
        {
            let wrong = misspelt(with(json!({ miss: 1 })).as_object().unwrap());
            assert_eq!(wrong.len(), 1, "{miss}");
            assert!(wrong[0].1.contains(meant), "{miss}");
        }
    }

    /// Asks serde for the fields of a struct, by failing with their names.
    struct FieldNames;

    impl<'de> Deserializer<'de> for FieldNames {
        type Error = serde::de::value::Error;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
            Err(serde::de::Error::custom("not a struct"))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Self::Error> {
            Err(serde::de::Error::custom(fields.join(" ")))
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    #[test]
    fn the_lists_of_fields_are_those_of_the_structs() {
        let fields = Instance::deserialize(FieldNames).unwrap_err().to_string();
        let fields: BTreeSet<&str> = fields.split(' ').collect();
        assert_eq!(fields, INSTANCE_FIELDS.into_iter().chain([IMDS]).collect());

        let options = crate::instance::MetadataOptions::deserialize(FieldNames).unwrap_err().to_string();
        // And EC2's `State`, which is read-only.
        let options: BTreeSet<&str> = options.split(' ').chain(["State"]).collect();
        assert_eq!(options, OPTION_FIELDS.into_iter().collect());
    }

    #[test]
    fn a_directory_is_read_by_name_without_dot_files() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, id: &str| {
            let text = with(json!({ "InstanceId": id })).to_string();
            std::fs::write(directory.path().join(name), text).unwrap();
        };
        assert_eq!(read_path(directory.path()).map(|read| read.len()), Ok(0));
        write("b.json", "i-00000001");
        write("a.json", "i-00000002");
        write(".c.json", "i-00000001");
        write("d.json~", "i-00000001");
        std::fs::create_dir(directory.path().join("e.json")).unwrap();
        let ids: Vec<String> =
            read_path(directory.path()).unwrap().into_iter().map(|read| read.instance_id.to_string()).collect();
        assert_eq!(ids, ["i-00000002", "i-00000001"]);
        assert_eq!(read_path(&directory.path().join("a.json")).map(|read| read.len()), Ok(1));

        // A second document of one instance, one that is not text, one that leads nowhere: all are reported, in one run.
        write("f.json", "i-00000002");
        std::fs::write(directory.path().join("g.json"), b"\xff\xfe{\0}\0").unwrap();
        std::os::unix::fs::symlink("nowhere", directory.path().join("h.json")).unwrap();
        let faults: Vec<String> = read_path(directory.path()).unwrap_err().iter().map(Fault::to_string).collect();
        assert_eq!(faults.len(), 3, "{faults:?}");
        assert!(faults[0].contains("g.json: can't be read: "), "{faults:?}");
        assert!(faults[1].contains("h.json: can't be read: "), "{faults:?}");
        assert!(faults[2].ends_with("a.json:1 already") && faults[2].contains("f.json:1: InstanceId: "), "{faults:?}");

        assert!(read_path(&directory.path().join("absent")).unwrap_err()[0].to_string().contains("can't be read"));
    }

    #[test]
    fn faults_of_a_changed_instance_name_their_field() {
        let mut instance = read_text(DEMO).unwrap().remove(0);
        assert_eq!(faults(&instance), []);
        instance.network_interfaces[0].mac_address = "02:00:00:00:00:AA".to_string();
        instance.metadata_options.instance_metadata_tags = Switch::Enabled;
        instance.tags.push(tags::Tag { key: "a b".to_string(), value: String::new() });
        let fields: Vec<String> = faults(&instance).into_iter().map(|(field, _)| field).collect();
        assert_eq!(fields, ["Tags[2].Key", "NetworkInterfaces[0].MacAddress"]);
    }

    #[test]
    fn a_field_in_other_never_takes_the_place_of_one() {
        let mut instance = read_text(DEMO).unwrap().remove(0);
        instance.other.insert("InstanceId".to_string(), json!("i-12345678"));
        assert_eq!(to_value(&instance)["InstanceId"], ID);
    }

    fn places_in(value: &Value, place: &Place, places: &mut Vec<Place>) {
        let below: Vec<(Place, &Value)> = match value {
            Value::Array(elements) => elements.iter().enumerate().map(|(i, below)| (place.index(i), below)).collect(),
            Value::Object(members) => members.iter().map(|(key, below)| (place.key(key), below)).collect(),
            _ => Vec::new(),
        };
        for (place, value) in below {
            places.push(place.clone());
            places_in(value, &place, places);
        }
    }

    proptest! {
        #[test]
        fn from_value_is_the_inverse_of_to_value(
            document in 0..3_usize,
            out in proptest::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let mut value = to_value(&read_text([DEMO, AS_COPIED, WITH_IMDS][document]).unwrap()[0]);
            for index in out {
                let mut places = Vec::new();
                places_in(&value, &Place::root(), &mut places);
                let mut smaller = value.clone();
                places[index.index(places.len())].take_out_of(&mut smaller);
                // Without a required field it is no instance any more: that one stays in.
                if from_value(smaller.clone()).is_ok() {
                    value = smaller;
                }
            }
            let instance = from_value(value).unwrap();
            prop_assert_eq!(from_value(to_value(&instance)).unwrap(), instance);
        }

        #[test]
        fn no_text_is_too_odd_to_be_judged(
            document in 0..3_usize,
            damage in proptest::collection::vec((any::<prop::sample::Index>(), 0..6_usize), 1..20),
        ) {
            let mut value: Value = serde_json::from_str([DEMO, AS_COPIED, WITH_IMDS][document]).unwrap();
            for (index, kind) in damage {
                let mut places = Vec::new();
                places_in(&value, &Place::root(), &mut places);
                let Some(place) = (!places.is_empty()).then(|| &places[index.index(places.len())]) else { break };
                *place.find_in_mut(&mut value).unwrap() = [json!(null), json!(-1), json!("\u{0}"), json!([[]]), json!({ "": {} }), json!(true)][kind].clone();
            }
            // It ends, and says something when it refuses.
            prop_assert!(read_text(&value.to_string()).map_or_else(|faults| !faults.is_empty(), |_| true));
        }
    }
}
