//! A JSON file that is not an instance document, read with the same care: every fault is reported
//! with its line and field.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::document::deserialize::{
    MAX_FAULTS, PartialValue, array_for_object_faults, deserialize_all_faults,
};
use crate::document::json_path::{JsonPath, PathFault, Place};
use crate::document::source_map::SourceMap;
use crate::fault::Fault;

/// A parsed JSON file and the lines of its values.
pub struct JsonFile<'t> {
    file: PathBuf,
    /// The content.
    pub value: Value,
    source: SourceMap<'t>,
}

impl<'t> JsonFile<'t> {
    /// Parses a text; `file` is the name in faults. A text that is not JSON has one fault.
    pub fn of(file: &Path, text: &'t str) -> Result<JsonFile<'t>, Vec<Fault>> {
        match serde_json::from_str::<Value>(text) {
            Ok(value) => Ok(JsonFile {
                file: file.to_path_buf(),
                value,
                source: SourceMap::of(text),
            }),
            Err(error) => Err(vec![Fault {
                line: error.line(),
                ..Fault::of_file(file, syntax_message(&error))
            }]),
        }
    }

    /// Reads the content as a `T`. Returns all faults: duplicate keys and every value that does not
    /// fit.
    pub fn read<T: Serialize + DeserializeOwned>(&self) -> Result<T, Vec<Fault>> {
        let mut faults = self.duplicate_key_faults();
        let PartialValue {
            value: read,
            faults: of_values,
            ..
        } = deserialize_all_faults::<T>(&mut self.value.clone());
        faults.extend(of_values);
        if let Some(Ok(written)) = read.as_ref().map(serde_json::to_value) {
            array_for_object_faults(&self.value, &written, &Place::root(), &mut faults);
        }
        match (read, faults.is_empty()) {
            (Some(read), true) => Ok(read),
            _ => Err(self.faults(faults)),
        }
    }

    /// Returns the name of the file in faults.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// Returns a fault for each key that appears twice in one object.
    pub fn duplicate_keys(&self) -> Vec<Fault> {
        self.faults(self.duplicate_key_faults())
    }

    /// Like [`JsonFile::duplicate_keys`], with paths.
    pub(super) fn duplicate_key_faults(&self) -> Vec<PathFault> {
        self.source.duplicate_keys()
    }

    /// Returns a fault at a path of the file.
    pub fn fault(&self, path: &JsonPath, message: impl fmt::Display) -> Fault {
        Fault {
            file: self.file.clone(),
            line: self.source.line(path),
            field: path.to_string(),
            message: message.to_string(),
        }
    }

    /// Returns the line at which the value at a path begins, counted from 1.
    pub(super) fn line(&self, path: &JsonPath) -> usize {
        self.source.line(path)
    }

    /// Returns the text of the value at a path.
    pub(super) fn text(&self, path: &JsonPath) -> &'t str {
        self.source.text(path)
    }

    /// Returns faults with their lines, at most [`MAX_FAULTS`]: finding a line takes a walk through the
    /// objects above it.
    pub(super) fn faults(&self, faults: Vec<PathFault>) -> Vec<Fault> {
        faults
            .into_iter()
            .take(MAX_FAULTS)
            .map(|fault| self.fault(&fault.path, fault.message))
            .collect()
    }
}

fn syntax_message(error: &serde_json::Error) -> String {
    let message = error.to_string();
    // The fault has the line already.
    let message = message
        .rsplit_once(" at line ")
        .map_or(message.as_str(), |(message, _)| message);
    format!("not JSON: {message}")
}
