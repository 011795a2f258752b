//! Reading instance documents: from texts, files and directories.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde::de::Deserialize;
use serde_json::{Map, Value};

use crate::document::damaged::{attachments_in, has_several_instances, instance_ids_in};
use crate::document::deserialize::{
    PartialValue, array_for_object_faults, deserialize_all_faults, has_array_for_object,
};
use crate::document::export;
use crate::document::fields::{IMDS, ignored_options, misspelled_fields, unread_fields};
use crate::document::json_file::JsonFile;
use crate::document::json_path::{JsonPath, PathFault, Place};
use crate::document::json_text::JsonText;
use crate::document::layout::{RawInstance, instances_in};
use crate::document::validate::{fields_text, instance_faults};
use crate::fault::Fault;
use crate::instance::{Instance, InstanceAttachment, InstanceId, NamedOptions, OptionsUpdate};
use crate::plain_file;

/// An instance in a document, and its place there.
#[derive(Clone, Debug)]
pub struct InstanceDocument {
    /// The instance.
    pub instance: Instance,
    /// The file.
    pub file: PathBuf,
    /// The line at which the instance begins, counted from 1.
    pub line: usize,
    /// The line of each of `Imds.Attachments`.
    pub attachment_lines: Vec<usize>,
    /// The fields that the document has. For the others the instance has defaults.
    pub fields: DocumentFields,
    /// What is accepted, but probably not intended. The instance's id begins the field.
    pub warnings: Vec<Fault>,
}

/// An instance whose document has faults, as far as it can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultyInstance {
    /// Its id; `None` if that cannot be read, or if nothing says whose the attachments are.
    pub id: Option<InstanceId>,
    /// The attachments that can be read.
    pub attachments: Vec<InstanceAttachment>,
    /// The file.
    pub file: PathBuf,
    /// The line at which the instance begins, counted from 1; 0 if it is not known.
    pub line: usize,
}

/// What was read of several documents. A fault costs only the instances that it concerns.
#[derive(Debug, Default)]
pub struct DocumentsRead {
    /// The instances without faults.
    pub documents: Vec<InstanceDocument>,
    /// The other instances.
    pub faulty: Vec<FaultyInstance>,
    /// All faults.
    pub faults: Vec<Fault>,
    /// Files that are not JSON or cannot be read. They may have more instances than are known.
    pub unreadable_files: usize,
    /// The files and directories that cannot be read at all: nothing is known of their instances.
    pub unread_paths: BTreeSet<PathBuf>,
}

impl DocumentsRead {
    fn extend(&mut self, other: DocumentsRead) {
        self.documents.extend(other.documents);
        self.faulty.extend(other.faulty);
        self.faults.extend(other.faults);
        self.unreadable_files += other.unreadable_files;
        self.unread_paths.extend(other.unread_paths);
    }

    /// Moves the documents with a fault to the faulty instances.
    fn set_aside(&mut self, is_faulty: impl Fn(&InstanceDocument) -> bool) {
        let faulty = self
            .documents
            .extract_if(.., |document| is_faulty(document));
        self.faulty.extend(faulty.map(FaultyInstance::from));
    }
}

impl FaultyInstance {
    /// Returns its id, file and line; `None` without an id.
    pub fn place(&self) -> Option<(&InstanceId, &Path, usize)> {
        Some((self.id.as_ref()?, &self.file, self.line))
    }
}

impl From<InstanceDocument> for FaultyInstance {
    fn from(document: InstanceDocument) -> FaultyInstance {
        FaultyInstance {
            id: Some(document.instance.instance_id),
            attachments: document.instance.imds.attachments,
            file: document.file,
            line: document.line,
        }
    }
}

/// Which of the fields that change while an instance runs a document has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DocumentFields {
    /// The metadata options in it.
    pub options: OptionsUpdate,
    /// The names of its fields: `State`, `Imds.Events`.
    names: BTreeSet<String>,
}

impl DocumentFields {
    /// Returns whether the document has a field. The name of a field in `Imds` has that prefix:
    /// `Imds.Events`.
    pub fn has(&self, field: &str) -> bool {
        self.names.contains(field)
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
        let names = [
            names(Some(instance), ""),
            names(instance.get(IMDS), "Imds."),
        ];
        DocumentFields {
            options: options.unwrap_or_default(),
            names: names.into_iter().flatten().collect(),
        }
    }
}

/// Reads the instances of one text; `file` is its name in faults.
pub fn read(file: &Path, text: &str) -> Result<Vec<Instance>, Vec<Fault>> {
    let mut read = parse(file, text);
    check_ids(&mut read);
    check_secrets(&mut read);
    instances_or_faults(read)
}

/// Reads the instances of several texts. Unlike [`read`] it accepts secrets that an export left
/// out: the caller restores or refuses them.
pub fn read_texts<'t>(
    texts: impl IntoIterator<Item = (&'t Path, &'t str)>,
) -> Result<Vec<InstanceDocument>, Vec<Fault>> {
    let mut read = DocumentsRead::default();
    texts
        .into_iter()
        .for_each(|(file, text)| read.extend(parse(file, text)));
    check_ids(&mut read);
    all_or_faults(read.documents, read.faults)
}

/// Reads the instances of a file, or of all `*.json` files of a directory, sorted by name, without
/// hidden files and subdirectories.
pub fn read_path(path: &Path) -> Result<Vec<Instance>, Vec<Fault>> {
    instances_or_faults(read_documents(path))
}

/// Like [`read_path`], but returns instances without faults even if others have some.
fn read_documents(path: &Path) -> DocumentsRead {
    let (texts, faults) = read_files(path);
    let mut read = DocumentsRead {
        unreadable_files: faults.len(),
        unread_paths: faults.iter().map(|fault| fault.file.clone()).collect(),
        faults,
        ..DocumentsRead::default()
    };
    for (file, text) in &texts {
        read.extend(parse(file, text));
    }
    check_ids(&mut read);
    check_secrets(&mut read);
    read
}

/// Reads the instances of one document of several, with their places. Instances without faults are
/// returned even if others have some. The caller checks the ids of all documents ([`repeated_ids`]).
pub fn read_document(file: &Path, text: &str) -> DocumentsRead {
    let mut read = parse(file, text);
    check_secrets(&mut read);
    read
}

/// Returns the text of one document, or a fault if it cannot be read.
pub fn text_at(file: &Path) -> Result<String, Fault> {
    read_text(file).map_err(|reason| unreadable(file, &reason))
}

/// Returns the texts of a file, or of all `*.json` files of a directory, without parsing them.
pub fn texts_at(path: &Path) -> Result<Vec<(PathBuf, String)>, Vec<Fault>> {
    let (texts, faults) = read_files(path);
    all_or_faults(texts, faults)
}

/// Returns the files that are read for a path: the file itself, or those of the directory.
pub fn files_at(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !std::fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.as_bytes();
        if !name.ends_with(b".json") || name.starts_with(b".") {
            continue;
        }
        let file = entry.path();
        // Symbolic links are followed. A dangling link is reported when it is read.
        let is_directory = match entry.file_type() {
            Ok(kind) if !kind.is_symlink() => kind.is_dir(),
            Ok(_) | Err(_) => file.is_dir(),
        };
        if !is_directory {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

/// Decodes a document. Windows programs write a byte order mark at the beginning, and PowerShell
/// writes UTF-16 by default.
pub fn decode(bytes: Vec<u8>) -> Result<String, String> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(
            "it is UTF-16; write it as UTF-8 (PowerShell: Out-File -Encoding utf8)".to_string(),
        );
    }
    let bytes = match bytes.strip_prefix(&[0xef, 0xbb, 0xbf]) {
        Some(rest) => rest.to_vec(),
        None => bytes,
    };
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_string())
}

/// Reads the files of a path. Returns the texts of the readable ones and the faults of the others.
fn read_files(path: &Path) -> (Vec<(PathBuf, String)>, Vec<Fault>) {
    let files = match files_at(path) {
        Ok(files) => files,
        Err(reason) => return (Vec::new(), vec![unreadable(path, &reason)]),
    };
    let (mut texts, mut faults) = (Vec::new(), Vec::new());
    for file in files {
        match text_at(&file) {
            Ok(text) => texts.push((file, text)),
            Err(fault) => faults.push(fault),
        }
    }
    (texts, faults)
}

/// Returns the fault of a file or directory that cannot be read.
pub fn unreadable(path: &Path, reason: &dyn fmt::Display) -> Fault {
    Fault::of_file(path, format_args!("can't be read: {reason}"))
}

fn read_text(file: &Path) -> Result<String, String> {
    let bytes = plain_file::read_bytes(file, plain_file::MAX_DOCUMENT_BYTES);
    decode(bytes.map_err(|reason| reason.to_string())?)
}

/// Reads one document.
fn parse(file: &Path, text: &str) -> DocumentsRead {
    // 1. The text must be JSON.
    let mut json = match JsonFile::of(file, text) {
        Ok(json) => json,
        Err(faults) => return not_json(file, text, faults),
    };

    // 2. No key may appear twice in an object: JSON parsers disagree on which one counts.
    let of_keys = json.duplicate_key_faults();
    let duplicates: Vec<JsonPath> = of_keys.iter().map(|fault| fault.path.clone()).collect();
    let mut faults = json.faults(of_keys);

    // 3. Each instance is read separately, so that a fault in one does not hide those of another.
    // A fault outside of all instances concerns each of them: it may be about their account.
    let mut layout_faults = Vec::new();
    let raw_instances = instances_in(json.value.take(), &mut layout_faults);
    let is_outside = |duplicate: &JsonPath| {
        let mut instances = raw_instances.iter();
        !instances.any(|raw| duplicate.is_within(&raw.path))
    };
    let all_are_faulty = !layout_faults.is_empty() || duplicates.iter().any(is_outside);
    faults.extend(json.faults(layout_faults));
    let mut read = DocumentsRead::default();
    for raw in raw_instances {
        let path = raw.path.clone();
        let is_faulty = all_are_faulty || duplicates.iter().any(|key| key.is_within(&path));
        let faulty = faulty_instances(&raw, &json, &duplicates);
        match parse_instance(raw) {
            Ok(parsed) if !is_faulty => read.documents.push(located(parsed, &path, &json)),
            Ok(_) => read.faulty.extend(faulty),
            Err(of_instance) => {
                let of_instance = of_instance.into_iter();
                faults.extend(
                    of_instance.map(|fault| json.fault(&path.join(&fault.path), fault.message)),
                );
                read.faulty.extend(faulty);
            }
        }
    }
    if all_are_faulty {
        read.faulty
            .extend(unfound_instance(&read.faulty, file, text));
    }
    // A list that grew has room for four, and most documents have one instance.
    read.documents.shrink_to_fit();
    faults.sort_by_key(|fault| fault.line);
    read.faults = faults;
    read
}

/// Returns an instance with its place in the document.
fn located(parsed: ParsedInstance, path: &JsonPath, json: &JsonFile<'_>) -> InstanceDocument {
    let ParsedInstance {
        instance,
        fields,
        warnings,
    } = parsed;
    let attachments = path.key(IMDS).key("Attachments");
    let count = instance.imds.attachments.len();
    let warnings = warnings.into_iter().map(|warning| Fault {
        field: format!("{}: {}", instance.instance_id, warning.path),
        ..json.fault(&path.join(&warning.path), warning.message)
    });
    let warnings = warnings.collect();
    InstanceDocument {
        instance,
        file: json.file().to_path_buf(),
        line: json.line(path),
        attachment_lines: (0..count)
            .map(|index| json.line(&attachments.index(index)))
            .collect(),
        fields,
        warnings,
    }
}

/// Returns what a text that is not JSON still says. It does not say which attachment is whose.
fn not_json(file: &Path, text: &str, faults: Vec<Fault>) -> DocumentsRead {
    let faulty = |id, attachments| FaultyInstance {
        id,
        attachments,
        file: file.to_path_buf(),
        line: 0,
    };
    let (mut ids, attachments) = (instance_ids_in(text), attachments_in(text));
    let faulty = match ids.pop_first() {
        Some(id) if !has_several_instances(text) => vec![faulty(Some(id), attachments)],
        first => {
            let ids = first.into_iter().chain(ids);
            let unowned = (!attachments.is_empty()).then(|| faulty(None, attachments));
            let named = ids.map(|id| faulty(Some(id), Vec::new()));
            named.chain(unowned).collect()
        }
    };
    DocumentsRead {
        faulty,
        faults,
        unreadable_files: 1,
        ..DocumentsRead::default()
    }
}

/// Returns what can be read of an instance that may have faults: the attachments of each value of a
/// key that appears twice. If that is its id, nothing says whose they are.
fn faulty_instances(
    raw: &RawInstance,
    json: &JsonFile<'_>,
    duplicates: &[JsonPath],
) -> Vec<FaultyInstance> {
    let path = &raw.path;
    let mut faulty = faulty_instance(raw, json.file(), json.line(path));
    if !duplicates.iter().any(|key| key.is_within(path)) {
        return vec![faulty];
    }
    for attachment in attachments_in(json.text(path)) {
        if !faulty.attachments.contains(&attachment) {
            faulty.attachments.push(attachment);
        }
    }
    let id = path.key("InstanceId");
    if faulty.id.is_none() || !duplicates.contains(&id) {
        return vec![faulty];
    }
    let unowned = FaultyInstance {
        id: None,
        ..faulty.clone()
    };
    faulty.attachments.clear();
    vec![faulty, unowned]
}

/// Returns the attachments in a text that are not those of its faulty instances: of instances that
/// a fault outside of all of them hides.
fn unfound_instance(found: &[FaultyInstance], file: &Path, text: &str) -> Option<FaultyInstance> {
    let is_found = |attachment: &InstanceAttachment| {
        let mut found = found.iter();
        found.any(|instance| instance.attachments.contains(attachment))
    };
    let mut attachments = attachments_in(text);
    attachments.retain(|attachment| !is_found(attachment));
    (!attachments.is_empty()).then(|| FaultyInstance {
        id: None,
        attachments,
        file: file.to_path_buf(),
        line: 0,
    })
}

/// Returns what can be read of an instance that may have faults.
fn faulty_instance(raw: &RawInstance, file: &Path, line: usize) -> FaultyInstance {
    let id = raw.members.get("InstanceId").and_then(Value::as_str);
    let attachments = raw
        .members
        .get(IMDS)
        .and_then(|imds| imds.get("Attachments"))
        .and_then(Value::as_array);
    FaultyInstance {
        id: id.and_then(InstanceId::parse),
        attachments: attachments
            .into_iter()
            .flatten()
            .filter_map(|attachment| InstanceAttachment::deserialize(attachment).ok())
            .collect(),
        file: file.to_path_buf(),
        line,
    }
}

/// An instance that was read, with warnings at paths that start at the instance.
struct ParsedInstance {
    instance: Instance,
    fields: DocumentFields,
    warnings: Vec<PathFault>,
}

/// Reads one instance, or returns all its faults, at paths that start at the instance.
fn parse_instance(raw: RawInstance) -> Result<ParsedInstance, Vec<PathFault>> {
    let mut faults = misspelled_fields(&raw.members);
    let warnings = ignored_options(&raw.members);
    let mut value = Value::Object(raw.members);
    let PartialValue {
        value: instance,
        faults: of_values,
        removed,
    } = deserialize_all_faults::<Instance>(&mut value);
    faults.extend(of_values);
    let Some(mut instance) = instance else {
        return Err(faults);
    };

    let fields = DocumentFields::of(&value);
    instance.named_options = NamedOptions(Some(fields.options));
    raw.reservation.complete(&mut instance.imds);
    for interface in &mut instance.network_interfaces {
        interface.mac_address = interface.mac_address.to_ascii_lowercase().into();
    }
    for attachment in &mut instance.imds.attachments {
        let binding = attachment.binding.as_mut();
        if let Some(mac_address) = binding.and_then(|binding| binding.mac_address.as_mut()) {
            *mac_address = mac_address.to_ascii_lowercase().into();
        }
    }

    let text = fields_text(&instance);
    let mut of_instance = array_for_object_faults_of(&instance, &value, &text);
    instance.other = unread_fields(value);

    // Parts that were removed because of a fault are not validated: they would be reported as
    // missing.
    of_instance.extend(instance_faults(&instance, &text));
    for PathFault { path, message } in of_instance {
        let path = path.before_removals(&removed);
        if !removed.iter().any(|removed| path.is_within(removed)) {
            faults.push(PathFault::new(path, message));
        }
    }
    if faults.is_empty() {
        Ok(ParsedInstance {
            instance,
            fields,
            warnings,
        })
    } else {
        Err(faults)
    }
}

/// Returns the faults of arrays where an object was expected.
fn array_for_object_faults_of(instance: &Instance, written: &Value, text: &str) -> Vec<PathFault> {
    let mut faults = Vec::new();
    let read = JsonText::of(text);
    if let Some(root) = read.root()
        && has_array_for_object(written, root)
        && let Ok(read) = serde_json::to_value(instance)
    {
        array_for_object_faults(written, &read, &Place::root(), &mut faults);
    }
    faults
}

/// Adds a fault for each instance with the id of an earlier one. Neither counts then: nothing says
/// which of them is right.
fn check_ids(read: &mut DocumentsRead) {
    let documents = read.documents.iter().map(|document| {
        let id = &document.instance.instance_id;
        (id, document.file.as_path(), document.line)
    });
    let faulty = read.faulty.iter().filter_map(FaultyInstance::place);
    let (repeated, faults) = repeated_ids(documents.chain(faulty));
    read.faults.extend(faults);
    read.set_aside(|document| repeated.contains(&document.instance.instance_id));
}

/// Returns the ids that appear twice in places of instances, each an id with a file and a line, and
/// a fault for each place after the first.
pub fn repeated_ids<'p>(
    places: impl Iterator<Item = (&'p InstanceId, &'p Path, usize)>,
) -> (BTreeSet<InstanceId>, Vec<Fault>) {
    let mut first = HashMap::<&InstanceId, (&Path, usize)>::new();
    let (mut repeated, mut faults) = (BTreeSet::new(), Vec::new());
    for (id, file, line) in places {
        let Some((earlier, earlier_line)) = first.get(id) else {
            first.insert(id, (file, line));
            continue;
        };
        repeated.insert(id.clone());
        let place = match earlier_line {
            0 => earlier.display().to_string(),
            line => format!("{}:{line}", earlier.display()),
        };
        faults.push(Fault {
            file: file.to_path_buf(),
            line,
            field: "InstanceId".to_string(),
            message: format!("{id} is already in {place}"),
        });
    }
    (repeated, faults)
}

/// Adds a fault for each secret that an export left out.
fn check_secrets(read: &mut DocumentsRead) {
    let mut omitted = BTreeSet::new();
    for document in &read.documents {
        let faults = export::restore_secrets(&mut document.instance.clone(), None);
        if !faults.is_empty() {
            omitted.insert(document.instance.instance_id.clone());
        }
        let faults = faults.into_iter();
        read.faults
            .extend(faults.map(|fault| fault.in_file(&document.file, document.line)));
    }
    read.set_aside(|document| omitted.contains(&document.instance.instance_id));
}

fn instances_or_faults(read: DocumentsRead) -> Result<Vec<Instance>, Vec<Fault>> {
    let instances = read.documents.into_iter().map(|document| document.instance);
    all_or_faults(instances.collect(), read.faults)
}

fn all_or_faults<T>(values: Vec<T>, faults: Vec<Fault>) -> Result<Vec<T>, Vec<Fault>> {
    if faults.is_empty() {
        Ok(values)
    } else {
        Err(faults)
    }
}
