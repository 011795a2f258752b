//! Reading instance documents: from texts, files and directories.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::Deserialize;
use serde_json::{Map, Value};

use crate::document::deserialize::{PartialValue, array_for_object_faults, deserialize_all_faults};
use crate::document::export;
use crate::document::fields::{IMDS, ignored_options, misspelled_fields, unread_fields};
use crate::document::json_file::JsonFile;
use crate::document::json_path::{JsonPath, PathFault};
use crate::document::layout::{RawInstance, instances_in};
use crate::document::validate::instance_faults;
use crate::fault::Fault;
use crate::instance::{Instance, InstanceId, OptionsUpdate};
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
    let (documents, mut faults) = parse(file, text);
    faults.extend(duplicate_ids(&documents));
    faults.extend(omitted_secrets(&documents));
    instances_or_faults(documents, faults)
}

/// Reads the instances of several texts. Unlike [`read`] it accepts secrets that an export left
/// out: the caller restores or refuses them.
pub fn read_texts<'t>(
    texts: impl IntoIterator<Item = (&'t Path, &'t str)>,
) -> Result<Vec<InstanceDocument>, Vec<Fault>> {
    let (mut documents, mut faults) = (Vec::new(), Vec::new());
    for (file, text) in texts {
        let (of_text, faults_of_text) = parse(file, text);
        documents.extend(of_text);
        faults.extend(faults_of_text);
    }
    faults.extend(duplicate_ids(&documents));
    all_or_faults(documents, faults)
}

/// Reads the instances of a file, or of all `*.json` files of a directory, sorted by name, without
/// hidden files and subdirectories.
pub fn read_path(path: &Path) -> Result<Vec<Instance>, Vec<Fault>> {
    let (documents, faults) = read_documents(path);
    instances_or_faults(documents, faults)
}

/// Like [`read_path`], but returns the place of each instance, and valid instances even if others
/// have faults.
pub fn read_documents(path: &Path) -> (Vec<InstanceDocument>, Vec<Fault>) {
    let (texts, mut faults) = read_files(path);
    let mut documents = Vec::new();
    for (file, text) in &texts {
        let (of_file, faults_of_file) = parse(file, text);
        documents.extend(of_file);
        faults.extend(faults_of_file);
    }
    faults.extend(duplicate_ids(&documents));
    faults.extend(omitted_secrets(&documents));
    (documents, faults)
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
        let file = entry?.path();
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        // Symbolic links are followed. A dangling link is reported when it is read.
        if name.ends_with(".json") && !name.starts_with('.') && !file.is_dir() {
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
    let bytes = bytes
        .strip_prefix(&[0xef, 0xbb, 0xbf])
        .map_or(bytes.clone(), <[u8]>::to_vec);
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_string())
}

/// Reads the files of a path. Returns the texts of the readable ones and the faults of the others.
fn read_files(path: &Path) -> (Vec<(PathBuf, String)>, Vec<Fault>) {
    let unreadable = |path: &Path, reason: &dyn fmt::Display| {
        Fault::of_file(path, format_args!("can't be read: {reason}"))
    };
    let files = match files_at(path) {
        Ok(files) => files,
        Err(reason) => return (Vec::new(), vec![unreadable(path, &reason)]),
    };
    let (mut texts, mut faults) = (Vec::new(), Vec::new());
    for file in files {
        match read_text(&file) {
            Ok(text) => texts.push((file, text)),
            Err(reason) => faults.push(unreadable(&file, &reason)),
        }
    }
    (texts, faults)
}

fn read_text(file: &Path) -> Result<String, String> {
    let bytes = plain_file::read_bytes(file, plain_file::MAX_DOCUMENT_BYTES);
    decode(bytes.map_err(|reason| reason.to_string())?)
}

/// Returns the valid instances of one document, and the faults of the others.
fn parse(file: &Path, text: &str) -> (Vec<InstanceDocument>, Vec<Fault>) {
    // 1. The text must be JSON.
    let mut json = match JsonFile::of(file, text) {
        Ok(json) => json,
        Err(faults) => return (Vec::new(), faults),
    };

    // 2. No key may appear twice in an object: JSON parsers disagree on which one counts.
    let mut faults = json.duplicate_keys();

    // 3. Each instance is read separately, so that a fault in one does not hide those of another.
    let mut layout_faults = Vec::new();
    let raw_instances = instances_in(json.value.take(), &mut layout_faults);
    faults.extend(json.faults(layout_faults));
    let mut documents = Vec::new();
    for raw in raw_instances {
        let path = raw.path.clone();
        match parse_instance(raw) {
            Ok(ParsedInstance {
                instance,
                fields,
                warnings,
            }) => {
                let attachments = path.key(IMDS).key("Attachments");
                let count = instance.imds.attachments.len();
                let warnings = warnings.into_iter().map(|warning| Fault {
                    field: format!("{}: {}", instance.instance_id, warning.path),
                    ..json.fault(&path.join(&warning.path), warning.message)
                });
                let warnings = warnings.collect();
                documents.push(InstanceDocument {
                    instance,
                    file: file.to_path_buf(),
                    line: json.line(&path),
                    attachment_lines: (0..count)
                        .map(|index| json.line(&attachments.index(index)))
                        .collect(),
                    fields,
                    warnings,
                });
            }
            Err(of_instance) => faults.extend(
                of_instance
                    .into_iter()
                    .map(|fault| json.fault(&path.join(&fault.path), fault.message)),
            ),
        }
    }
    faults.sort_by_key(|fault| fault.line);
    (documents, faults)
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

    let mut of_instance = Vec::new();
    if let Ok(read) = serde_json::to_value(&instance) {
        array_for_object_faults(&value, &read, &JsonPath::root(), &mut of_instance);
    }
    let fields = DocumentFields::of(&value);
    instance.other = unread_fields(value);
    instance.imds.owner_id = instance.imds.owner_id.or(raw.owner_id);
    instance.imds.reservation_id = instance.imds.reservation_id.or(raw.reservation_id);
    for interface in &mut instance.network_interfaces {
        interface.mac_address.make_ascii_lowercase();
    }
    for attachment in &mut instance.imds.attachments {
        let binding = attachment.binding.as_mut();
        if let Some(mac_address) = binding.and_then(|binding| binding.mac_address.as_mut()) {
            mac_address.make_ascii_lowercase();
        }
    }

    // Parts that were removed because of a fault are not validated: they would be reported as
    // missing.
    of_instance.extend(instance_faults(&instance));
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

/// Returns a fault for each instance with the id of an earlier one.
fn duplicate_ids(documents: &[InstanceDocument]) -> Vec<Fault> {
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
                    "{id} is already in {}:{}",
                    earlier.file.display(),
                    earlier.line
                ),
            }),
            None => drop(first.insert(id, document)),
        }
    }
    faults
}

/// Returns a fault for each secret that an export left out.
fn omitted_secrets(documents: &[InstanceDocument]) -> Vec<Fault> {
    let of_document = |document: &InstanceDocument| {
        let (file, line) = (document.file.clone(), document.line);
        let faults = export::restore_secrets(&mut document.instance.clone(), None).into_iter();
        faults
            .map(move |fault| fault.in_file(&file, line))
            .collect::<Vec<_>>()
    };
    documents.iter().flat_map(of_document).collect()
}

fn instances_or_faults(
    documents: Vec<InstanceDocument>,
    faults: Vec<Fault>,
) -> Result<Vec<Instance>, Vec<Fault>> {
    let instances = documents.into_iter().map(|document| document.instance);
    all_or_faults(instances.collect(), faults)
}

fn all_or_faults<T>(values: Vec<T>, faults: Vec<Fault>) -> Result<Vec<T>, Vec<Fault>> {
    if faults.is_empty() {
        Ok(values)
    } else {
        Err(faults)
    }
}
