//! Reads a table of a TOML file key by key, and records every fault with its line.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;

use toml_edit::{Item, TableLike};

use crate::document::near_miss;
use crate::fault::{Fault, line_of};

/// A user or a group as an operator writes it.
pub(super) enum AccountName<'s> {
    /// `1000`
    Id(u32),
    /// `"alice"`
    Name(&'s str),
}

/// The faults of one file so far.
pub(super) struct Faults<'a> {
    pub(super) file: &'a Path,
    pub(super) text: &'a str,
    pub(super) list: Vec<Fault>,
}

impl Faults<'_> {
    pub(super) fn line(&self, offset: usize) -> usize {
        line_of(self.text, offset)
    }

    fn add(&mut self, offset: usize, field: String, message: impl fmt::Display) {
        let fault = Fault {
            file: self.file.to_path_buf(),
            line: self.line(offset),
            field,
            message: message.to_string(),
        };
        self.list.push(fault);
    }
}

/// A table that is being read. It remembers the keys that were read, so that [`Section::finish`]
/// can report the others.
pub(super) struct Section<'t> {
    name: &'static str,
    table: &'t dyn TableLike,
    /// The byte offset of the table's header.
    pub(super) start: usize,
    known: Vec<&'static str>,
}

impl<'t> Section<'t> {
    /// Returns the section of the keys before the first table header.
    pub(super) fn root(table: &'t dyn TableLike) -> Section<'t> {
        Section {
            name: "",
            table,
            start: 0,
            known: Vec::new(),
        }
    }

    /// Reads a string that `read` accepts. Returns `None` if the key is absent or has a fault.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        faults: &mut Faults<'_>,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let item = self.item(key)?;
        let Some(text) = item.as_str() else {
            return self.wrong_type(key, "a string", item, faults);
        };
        read(text)
            .map_err(|message| self.fault(key, message, faults))
            .ok()
    }

    /// Reads a string like [`Section::parsed`], and reports a missing key.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        faults: &mut Faults<'_>,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        if !self.has(key) {
            self.missing(key, "is missing", faults);
        }
        self.parsed(key, faults, read)
    }

    /// Reads an array of different strings, each of which `read` accepts.
    pub(super) fn each(
        &mut self,
        key: &'static str,
        faults: &mut Faults<'_>,
        read: impl Fn(&str) -> Result<String, String>,
    ) -> Option<Vec<String>> {
        let item = self.item(key)?;
        let Some(array) = item.as_array() else {
            return self.wrong_type(key, "an array of strings", item, faults);
        };
        let mut values = Vec::new();
        for element in array {
            let value = match element.as_str() {
                Some(text) => read(text).and_then(|value| match values.contains(&value) {
                    true => Err(format!("'{value}' appears twice")),
                    false => Ok(value),
                }),
                None => Err(format!(
                    "expected strings, found {}",
                    with_article(element.type_name())
                )),
            };
            match value {
                Ok(value) => values.push(value),
                Err(message) => faults.add(start_of(element.span()), self.field(key), message),
            }
        }
        // An array is not empty just because all its elements have faults.
        (!values.is_empty() || array.is_empty()).then_some(values)
    }

    /// Reads an array of accounts of the host, each a number or a name that `find` looks up.
    pub(super) fn accounts<T>(
        &mut self,
        key: &'static str,
        faults: &mut Faults<'_>,
        find: impl Fn(&AccountName<'_>) -> Result<T, String>,
    ) -> Vec<T> {
        let Some(item) = self.item(key) else {
            return Vec::new();
        };
        let Some(array) = item.as_array() else {
            self.wrong_type::<()>(key, "an array of numbers and names", item, faults);
            return Vec::new();
        };
        let mut accounts = Vec::new();
        for element in array {
            let id = element.as_integer().and_then(|id| u32::try_from(id).ok());
            let name = match (id, element.as_str()) {
                (Some(id), _) => Ok(AccountName::Id(id)),
                (None, Some(name)) => Ok(AccountName::Name(name)),
                (None, None) => Err("expected numbers from 0, or names".to_string()),
            };
            match name.and_then(|name| find(&name)) {
                Ok(account) => accounts.push(account),
                Err(message) => faults.add(start_of(element.span()), self.field(key), message),
            }
        }
        accounts
    }

    /// Reads one of a few words.
    pub(super) fn word<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&str, T)],
        faults: &mut Faults<'_>,
    ) -> Option<T> {
        self.parsed(key, faults, |text| {
            let meaning = words
                .iter()
                .find(|(word, _)| *word == text)
                .map(|(_, meaning)| *meaning);
            meaning.ok_or_else(|| {
                let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                format!(
                    "expected {}, found \"{}\"",
                    alternatives(&words),
                    text.escape_debug()
                )
            })
        })
    }

    /// Reads an integer of a range. `unit` is for the fault.
    pub(super) fn integer(
        &mut self,
        key: &'static str,
        range: RangeInclusive<i64>,
        unit: &str,
        faults: &mut Faults<'_>,
    ) -> Option<i64> {
        let item = self.item(key)?;
        let Some(number) = item.as_integer() else {
            return self.wrong_type(key, "an integer", item, faults);
        };
        if !range.contains(&number) {
            self.fault(
                key,
                format!(
                    "expected {} to {} {unit}, found {number}",
                    range.start(),
                    range.end()
                ),
                faults,
            );
            return None;
        }
        Some(number)
    }

    /// Reads a table of integers whose keys the operator chooses.
    pub(super) fn integers(
        &mut self,
        key: &'static str,
        range: RangeInclusive<i64>,
        unit: &str,
        faults: &mut Faults<'_>,
    ) -> BTreeMap<String, u8> {
        let Some(item) = self.item(key) else {
            return BTreeMap::new();
        };
        let Some(table) = item.as_table_like() else {
            self.wrong_type::<()>(key, "a table of numbers", item, faults);
            return BTreeMap::new();
        };
        let mut numbers = BTreeMap::new();
        for (name, item) in table.iter() {
            match item.as_integer().filter(|number| range.contains(number)) {
                Some(number) => drop(numbers.insert(name.to_string(), number as u8)),
                None => {
                    let message = format!(
                        "'{}': expected {} to {} {unit}",
                        name.escape_debug(),
                        range.start(),
                        range.end()
                    );
                    faults.add(start_of(item.span()), self.field(key), message);
                }
            }
        }
        numbers
    }

    pub(super) fn boolean(&mut self, key: &'static str, faults: &mut Faults<'_>) -> Option<bool> {
        let item = self.item(key)?;
        item.as_bool()
            .or_else(|| self.wrong_type(key, "true or false", item, faults))
    }

    pub(super) fn table(
        &mut self,
        key: &'static str,
        faults: &mut Faults<'_>,
    ) -> Option<Section<'t>> {
        let item = self.item(key)?;
        let Some(table) = item.as_table_like() else {
            return self.wrong_type(key, &format!("a table, [{key}]"), item, faults);
        };
        Some(Section {
            name: key,
            table,
            start: self.start_of(key),
            known: Vec::new(),
        })
    }

    pub(super) fn tables(
        &mut self,
        key: &'static str,
        faults: &mut Faults<'_>,
    ) -> Vec<Section<'t>> {
        let Some(item) = self.item(key) else {
            return Vec::new();
        };
        let Some(tables) = item.as_array_of_tables() else {
            self.wrong_type::<()>(
                key,
                &format!("tables with the header [[{key}]]"),
                item,
                faults,
            );
            return Vec::new();
        };
        let section = |table: &'t toml_edit::Table| Section {
            name: key,
            table,
            start: start_of(table.span()),
            known: Vec::new(),
        };
        tables.iter().map(section).collect()
    }

    /// Reports every key of the table that was not read.
    pub(super) fn finish(self, faults: &mut Faults<'_>) {
        for (key, item) in self
            .table
            .iter()
            .filter(|(key, _)| !self.known.contains(key))
        {
            let hint = match near_miss(key, &self.known) {
                Some(key) => format!("did you mean {key}?"),
                None => format!("known keys: {}", self.known.join(", ")),
            };
            let offset = self
                .table
                .key(key)
                .and_then(|key| key.span())
                .or(item.span());
            faults.add(
                start_of(offset),
                self.field(key),
                format_args!("unknown key; {hint}"),
            );
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    fn item(&mut self, key: &'static str) -> Option<&'t Item> {
        self.known.push(key);
        self.table.get(key)
    }

    pub(super) fn missing(&self, key: &str, message: &str, faults: &mut Faults<'_>) {
        faults.add(self.start, self.field(key), message);
    }

    pub(super) fn fault(&self, key: &str, message: impl fmt::Display, faults: &mut Faults<'_>) {
        faults.add(self.start_of(key), self.field(key), message);
    }

    fn wrong_type<T>(
        &self,
        key: &str,
        expected: &str,
        found: &Item,
        faults: &mut Faults<'_>,
    ) -> Option<T> {
        self.fault(
            key,
            format_args!(
                "expected {expected}, found {}",
                with_article(found.type_name())
            ),
            faults,
        );
        None
    }

    fn start_of(&self, key: &str) -> usize {
        start_of(self.table.key(key).and_then(|key| key.span()))
    }

    fn field(&self, key: &str) -> String {
        match self.name {
            "" => key.escape_debug().to_string(),
            name => format!("{name}.{}", key.escape_debug()),
        }
    }
}

fn start_of(span: Option<std::ops::Range<usize>>) -> usize {
    span.map_or(0, |span| span.start)
}

/// Returns `"a"`, `"b"` or `"c"` as a phrase.
fn alternatives(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

fn with_article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    };
    format!("{article} {noun}")
}
