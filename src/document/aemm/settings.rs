//! The settings of a configuration file of the mock: every value by its dotted key, as the mock's
//! configuration library reads them, and what went wrong with each.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::document::json_file::JsonFile;
use crate::document::json_path::JsonPath;
use crate::fault::Fault;

/// A value in the file.
struct Setting<'t> {
    path: JsonPath,
    /// Its own name as it is written, with upper and lower case: the key of a tag.
    name: &'t str,
    value: &'t Value,
}

/// All values of the file, which of them were used, and the faults and warnings so far.
pub(super) struct Settings<'t> {
    json: &'t JsonFile<'t>,
    by_key: BTreeMap<String, Setting<'t>>,
    used: BTreeSet<String>,
    faults: Vec<Fault>,
    warnings: Vec<Fault>,
    start: Timestamp,
}

impl<'t> Settings<'t> {
    /// Collects the values of a file. Delays count from `start`.
    pub(super) fn of(
        json: &'t JsonFile<'t>,
        members: &'t Map<String, Value>,
        start: Timestamp,
    ) -> Settings<'t> {
        let mut by_key = BTreeMap::new();
        flatten("", &JsonPath::root(), members, &mut by_key);
        Settings {
            json,
            by_key,
            used: BTreeSet::new(),
            faults: json.duplicate_keys(),
            warnings: Vec::new(),
            start,
        }
    }

    /// Returns the faults and the warnings.
    pub(super) fn into_findings(self) -> (Vec<Fault>, Vec<Fault>) {
        (self.faults, self.warnings)
    }

    /// Returns the moment from which delays count.
    pub(super) fn start(&self) -> Timestamp {
        self.start
    }

    /// Returns the keys with a prefix, in order.
    pub(super) fn keys_with_prefix(&self, prefix: &str) -> Vec<String> {
        self.by_key
            .keys()
            .filter(|key| key.starts_with(prefix))
            .cloned()
            .collect()
    }

    /// Returns the last part of a key as it is written in the file.
    pub(super) fn name(&self, key: &str) -> Option<String> {
        Some(self.by_key.get(key)?.name.to_string())
    }

    /// Returns the keys that nothing has read.
    pub(super) fn unused_keys(&self) -> Vec<String> {
        self.by_key
            .keys()
            .filter(|key| !self.used.contains(*key))
            .cloned()
            .collect()
    }

    /// Returns a value as text. An array or an object is refused.
    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        let setting = self.by_key.get(key)?;
        self.used.insert(key.to_string());
        match setting.value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(truth) => Some(truth.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                self.refuse(key, "expected a text");
                None
            }
        }
    }

    /// Returns a value that is only compared or passed over, as text: an array as JSON in one line.
    /// No kind of value is refused.
    pub(super) fn compared(&mut self, key: &str) -> Option<String> {
        match self.by_key.get(key)?.value {
            array @ Value::Array(_) => {
                self.used.insert(key.to_string());
                Some(array.to_string())
            }
            _ => self.text(key),
        }
    }

    /// Returns a value as JSON in one line: a text as it is, an object with all its members.
    pub(super) fn text_or_object(&mut self, key: &str) -> Option<String> {
        if let Some(text) = self.text(key) {
            return Some(text);
        }
        let members = self.keys_with_prefix(&format!("{key}."));
        self.used.extend(members.iter().cloned());
        let mut value = &self.json.value;
        for name in key.split('.') {
            value = value
                .as_object()?
                .iter()
                .find(|(member, _)| member.to_lowercase() == name)?
                .1;
        }
        (!members.is_empty()).then(|| value.to_string())
    }

    /// Returns the elements of an array of texts; `Some(None)` if the value is something else.
    pub(super) fn texts(&mut self, key: &str) -> Option<Option<Vec<&'t str>>> {
        let value = self.by_key.get(key)?.value;
        self.used.insert(key.to_string());
        let elements = value.as_array();
        Some(elements.and_then(|elements| elements.iter().map(Value::as_str).collect()))
    }

    /// Returns a whole number. Like the mock, this treats an empty text as absent.
    pub(super) fn number(&mut self, key: &str) -> Option<i64> {
        let text = self.text(key).filter(|text| !text.is_empty())?;
        let number = text.parse().ok();
        if number.is_none() {
            self.refuse(key, "expected a whole number");
        }
        number
    }

    /// Returns a time. Like the mock, this treats an empty text as absent.
    pub(super) fn time(&mut self, key: &str) -> Option<Timestamp> {
        let text = self.text(key).filter(|text| !text.is_empty())?;
        let time = text.parse().ok();
        if time.is_none() {
            self.refuse(
                key,
                "expected a time such as 2020-01-07T01:03:47Z, or with an offset",
            );
        }
        time
    }

    /// Returns the first of several times that is given. All of them are read, so that each fault
    /// is reported.
    pub(super) fn first_time(&mut self, keys: &[&str]) -> Option<Timestamp> {
        let times: Vec<_> = keys.iter().map(|key| self.time(key)).collect();
        times.into_iter().flatten().next()
    }

    /// Returns the time at `time`, or else the start plus the number of seconds at `delay`.
    pub(super) fn moment(&mut self, time: &str, delay: &str) -> Timestamp {
        let seconds = self.number(delay).unwrap_or(0).max(0);
        let after = self.start.checked_add(SignedDuration::from_secs(seconds));
        if after.is_err() {
            self.refuse(delay, "is too far in the future");
        }
        self.time(time).unwrap_or(after.unwrap_or(self.start))
    }

    /// Returns the first of several spellings of a setting, as one of EC2's words.
    pub(super) fn word<T: DeserializeOwned>(&mut self, keys: &[&str]) -> Option<T> {
        let words: Vec<_> = keys.iter().map(|key| (*key, self.text(key))).collect();
        let (key, text) = words
            .into_iter()
            .find_map(|(key, text)| Some((key, text.filter(|text| !text.is_empty())?)))?;
        match serde_json::from_value(Value::String(text)) {
            Ok(word) => Some(word),
            Err(error) => {
                self.refuse(key, &error.to_string().replace('`', "'"));
                None
            }
        }
    }

    /// Adds a fault: the configuration is refused.
    pub(super) fn refuse(&mut self, key: &str, message: &str) {
        let fault = self.fault(key, message);
        self.faults.push(fault);
    }

    /// Adds a warning: the setting is ignored.
    pub(super) fn warn(&mut self, key: &str, message: &str) {
        let fault = self.fault(key, message);
        self.warnings.push(fault);
    }

    /// Returns a fault at a key, or, if only members of it are given, at the first of them.
    fn fault(&self, key: &str, message: &str) -> Fault {
        let below = format!("{key}.");
        let exact = self.by_key.get(key).map(|setting| &setting.path);
        let first = || {
            self.by_key
                .iter()
                .find(|(key, _)| key.starts_with(&below))
                .map(|(_, setting)| &setting.path)
        };
        let path = exact.or_else(first).cloned().unwrap_or(JsonPath::root());
        Fault {
            field: key.to_string(),
            ..self.json.fault(&path, message)
        }
    }
}

/// Collects every value that is not an object by its dotted key in lower case. Like the mock, this
/// treats `null` as absent.
fn flatten<'t>(
    prefix: &str,
    path: &JsonPath,
    members: &'t Map<String, Value>,
    by_key: &mut BTreeMap<String, Setting<'t>>,
) {
    for (name, value) in members {
        let key = format!("{prefix}{}", name.to_lowercase());
        let path = path.key(name);
        match value {
            Value::Object(members) => flatten(&format!("{key}."), &path, members, by_key),
            Value::Null => {}
            value => drop(by_key.insert(key, Setting { path, name, value })),
        }
    }
}
