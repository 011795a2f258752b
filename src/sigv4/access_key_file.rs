//! The parser for files of access keys: TOML with one `[[access_key]]` table for each key.
//!
//! ```toml
//! [[access_key]]
//! access_key_id = "AKID…"      # 1 to 128 letters, digits and underscores
//! secret_access_key = "…"
//! session_token = "…"          # optional
//! ```
//!
//! The control endpoint reads the keys of its callers from such a file, with more fields in each
//! table; the STS client reads the one key that it signs with. The parser refuses unknown fields,
//! secrets that are short or placeholders, a file of another user or that others can read, and
//! anything but a regular file. It reports every fault, with its line and without secrets.
//!
//! A table with another name at the top may be one of rules (`[[rule]]`, `[[acces_key.rule]]`). Then
//! the key above it would count without its rules, and permit everything. So no key of such a file
//! counts.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use toml_edit::{Document, Item, Table, TableLike};

use super::access_key::AccessKey;
use crate::fault::{Fault, line_of};
use crate::ownership::KeyOwner;
use crate::plain_file::{self, PlainFile, Symlinks};
use crate::secret::{self, Secret};

const FIELDS: [&str; 3] = ["access_key_id", "secret_access_key", "session_token"];

/// What is wrong with a name at the top of the file that is not that of the keys' tables.
const NOT_A_KEY: &str = "not known; keys are [[access_key]] tables. The file does not say what its \
    keys may do, so none of them is in force";

/// The faults found in one file so far.
pub struct FileFaults<'f> {
    path: &'f Path,
    text: &'f str,
    faults: Vec<Fault>,
}

impl FileFaults<'_> {
    /// Adds a fault. `offset` is its place in the file, in bytes; `None` for a fault of the whole
    /// file.
    pub fn add(&mut self, offset: Option<usize>, field: &str, message: impl Into<String>) {
        self.faults.push(Fault {
            file: self.path.to_path_buf(),
            line: offset.map_or(0, |offset| line_of(self.text, offset)),
            field: field.to_string(),
            message: message.into(),
        });
    }

    /// Returns how many faults there are.
    pub fn count(&self) -> usize {
        self.faults.len()
    }
}

/// What a file of access keys must fulfil.
#[derive(Clone, Copy, Debug)]
pub struct KeyRules<'a> {
    /// The user that the file must belong to.
    pub owner: KeyOwner,
    /// The least length of a secret, in characters.
    pub min_secret: usize,
    /// The fields that a table may have besides the key's own.
    pub more_fields: &'a [&'a str],
}

/// What a file of access keys says.
#[derive(Debug)]
pub struct KeyFileContent<T> {
    /// The keys without faults.
    pub keys: FileKeys<Vec<(AccessKey, T)>>,
    /// All faults.
    pub faults: Vec<Fault>,
}

/// The keys that a file says there are.
#[derive(Debug)]
pub enum FileKeys<K> {
    /// These.
    Known(K),
    /// Those with these ids. Their secrets do not count: others could have read them.
    Exposed(HashSet<String>),
    /// The file does not say which: it cannot be read, or is not TOML.
    Unknown,
}

impl<K> FileKeys<K> {
    /// Converts the keys.
    pub fn map<L>(self, convert: impl FnOnce(K) -> L) -> FileKeys<L> {
        match self {
            FileKeys::Known(keys) => FileKeys::Known(convert(keys)),
            FileKeys::Exposed(ids) => FileKeys::Exposed(ids),
            FileKeys::Unknown => FileKeys::Unknown,
        }
    }

    /// Returns the keys if they can be used.
    pub fn known(self) -> Option<K> {
        match self {
            FileKeys::Known(keys) => Some(keys),
            FileKeys::Exposed(_) | FileKeys::Unknown => None,
        }
    }
}

impl<T> FileKeys<Vec<(AccessKey, T)>> {
    /// Keeps only the ids, for a file that others could have read.
    fn exposed(self) -> Self {
        match self {
            FileKeys::Known(keys) => {
                let ids = keys.into_iter().map(|(key, _)| key.access_key_id);
                FileKeys::Exposed(ids.collect())
            }
            FileKeys::Exposed(_) | FileKeys::Unknown => self,
        }
    }
}

/// Reads all access keys of a file, or returns all its faults.
///
/// `read_more` reads the additional fields of each table, and its result is returned with the key.
pub fn read<T>(
    path: &Path,
    rules: KeyRules<'_>,
    read_more: impl FnMut(&Table, &mut FileFaults<'_>) -> T,
) -> Result<Vec<(AccessKey, T)>, Vec<Fault>> {
    let KeyFileContent { keys, faults } = read_each(path, rules, read_more);
    match (keys.known(), faults.is_empty()) {
        (Some(keys), true) => Ok(keys),
        _ => Err(faults),
    }
}

/// Like [`read`], but a fault of one key does not affect the others. A file that does not exist has
/// no keys.
pub fn read_each<T>(
    path: &Path,
    rules: KeyRules<'_>,
    read_more: impl FnMut(&Table, &mut FileFaults<'_>) -> T,
) -> KeyFileContent<T> {
    let fault = |message: String| Fault::of_file(path, message);
    let unreadable = |error: io::Error| KeyFileContent {
        keys: match error.kind() {
            io::ErrorKind::NotFound => FileKeys::Known(Vec::new()),
            _ => FileKeys::Unknown,
        },
        faults: vec![fault(format!("can't be read: {error}"))],
    };
    let file = match PlainFile::open(path, Symlinks::Follow) {
        Ok(file) => file,
        Err(error) => return unreadable(error),
    };
    let exposed = file.key_fault(path, rules.owner);
    let bytes = match file.read_bytes(plain_file::MAX_BYTES) {
        Ok(bytes) => bytes,
        Err(error) => return unreadable(error),
    };
    let Ok(text) = String::from_utf8(bytes) else {
        return KeyFileContent {
            keys: FileKeys::Unknown,
            faults: vec![fault("is not text in UTF-8".to_string())],
        };
    };
    let mut content = parse(path, &text, rules, read_more);
    if let Some(message) = exposed {
        content.keys = content.keys.exposed();
        content.faults.insert(0, fault(message));
    }
    content
}

/// Parses the text of a file; `path` is for the faults.
pub fn parse<T>(
    path: &Path,
    text: &str,
    rules: KeyRules<'_>,
    mut read_more: impl FnMut(&Table, &mut FileFaults<'_>) -> T,
) -> KeyFileContent<T> {
    let mut faults = FileFaults {
        path,
        text,
        faults: Vec::new(),
    };
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(error) => {
            // Only the reason: the error's own text quotes the line, and with it a secret.
            faults.add(error.span().map(|span| span.start), "", error.message());
            return KeyFileContent {
                keys: FileKeys::Unknown,
                faults: faults.faults,
            };
        }
    };
    let mut keys: Vec<(AccessKey, T)> = Vec::new();
    let (mut ids, mut repeated) = (HashSet::new(), HashSet::new());
    let mut permissions_known = true;
    for (name, item) in document.iter() {
        let Some(tables) = item.as_array_of_tables().filter(|_| name == "access_key") else {
            let offset = offset_of(document.as_table(), name);
            faults.add(offset, name, NOT_A_KEY);
            permissions_known = false;
            continue;
        };
        for table in tables {
            let before = faults.count();
            let start = table.span().map(|span| span.start);
            let more = read_more(table, &mut faults);
            let mut fault = |name: &str, message: String| {
                faults.add(offset_of(table, name).or(start), name, message);
            };
            let key = read_key(table, rules, &mut fault);
            // Neither of two keys with one id counts: nothing says which of them is right.
            if let Some(id) = table.get("access_key_id").and_then(self::text)
                && !ids.insert(id)
            {
                fault("access_key_id", "another key has the same id".to_string());
                repeated.insert(id);
            }
            keys.extend(
                key.filter(|_| faults.count() == before)
                    .map(|key| (key, more)),
            );
        }
    }
    keys.retain(|(key, _)| permissions_known && !repeated.contains(key.access_key_id.as_str()));
    if faults.faults.is_empty() && keys.is_empty() {
        faults.add(None, "", "there is no [[access_key]] in it");
    }
    KeyFileContent {
        keys: FileKeys::Known(keys),
        faults: faults.faults,
    }
}

/// Reads the key's own fields of one table. `fault` takes the field and the message.
fn read_key(
    table: &dyn TableLike,
    rules: KeyRules<'_>,
    fault: &mut impl FnMut(&str, String),
) -> Option<AccessKey> {
    let (mut id, mut secret, mut token) = (None, None, None);
    for (name, item) in table.iter() {
        let value = match name {
            "access_key_id" => &mut id,
            "secret_access_key" => &mut secret,
            "session_token" => &mut token,
            name if rules.more_fields.contains(&name) => continue,
            name => {
                let known = [&FIELDS, rules.more_fields].concat().join(", ");
                fault(name, format!("not known; a key has {known}"));
                continue;
            }
        };
        // `Some(None)`: the field is there but invalid, so the fault below is not "is missing".
        *value = Some(text(item));
        if *value == Some(None) {
            fault(name, "must be a string that is not empty".to_string());
        }
    }
    for (name, value) in [("access_key_id", id), ("secret_access_key", secret)] {
        if value.is_none() {
            fault(name, "is missing".to_string());
        }
    }
    if let Some(Some(secret)) = secret
        && let Some(reason) = weakness(secret, rules.min_secret)
    {
        fault("secret_access_key", reason);
    }
    if let Some(Some(token)) = token
        && let Some(reason) = weakness(token, 1)
    {
        fault("session_token", reason);
    }
    let id = id.flatten()?;
    if !is_key_id(id) {
        let message = "must be 1 to 128 letters, digits and underscores";
        fault("access_key_id", message.to_string());
        return None;
    }
    Some(AccessKey {
        access_key_id: id.to_string(),
        secret_access_key: Secret::new(secret.flatten()?),
        session_token: match token {
            Some(token) => Some(Secret::new(token?)),
            None => None,
        },
    })
}

/// Returns whether a text can be an access key's id. Slashes and commas separate the parts of a
/// credential.
pub(super) fn is_key_id(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Returns why a secret protects nothing; `None` if it may be one. The reason does not quote it.
fn weakness(secret: &str, min_length: usize) -> Option<String> {
    let length = secret.chars().count();
    let reason = if secret::is_placeholder(secret) {
        "is a placeholder that everyone knows".to_string()
    } else if length < min_length {
        format!("has {length} characters and must have at least {min_length}")
    } else {
        return None;
    };
    Some(format!(
        "{reason}; write the key's own secret. To generate one: openssl rand -base64 30"
    ))
}

/// Returns the text of an item; `None` if it is not a string or empty.
pub fn text(item: &Item) -> Option<&str> {
    item.as_str().filter(|text| !text.is_empty())
}

/// Returns the place of a field's name in the file, or else that of its value, in bytes.
pub fn offset_of(table: &dyn TableLike, name: &str) -> Option<usize> {
    let of_name = table.key(name).and_then(|key| key.span());
    of_name
        .or_else(|| table.get(name).and_then(Item::span))
        .map(|span| span.start)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const GOOD: &str = "# ours\n[[access_key]]\naccess_key_id = \"AKID1\"\nsecret_access_key = \"hunter2\"\n\n\
        [[access_key]]\naccess_key_id = \"AKID2\"\nsecret_access_key = \"hunter3\"\nsession_token = \"t\"\n";

    fn rules(min_secret: usize) -> KeyRules<'static> {
        KeyRules {
            owner: KeyOwner::this_user(),
            min_secret,
            more_fields: &[],
        }
    }

    fn read(text: &str, mode: u32) -> Result<Vec<AccessKey>, Vec<String>> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.toml");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let name = format!("{}", path.display());
        match super::read(&path, rules(1), |_, _| ()) {
            Ok(keys) => Ok(keys.into_iter().map(|(key, ())| key).collect()),
            Err(faults) => Err(faults
                .iter()
                .map(|fault| fault.to_string().replace(&name, "F"))
                .collect()),
        }
    }

    #[test]
    fn keys_are_read_from_a_private_file() {
        let keys = read(GOOD, 0o600).unwrap();
        assert_eq!(keys[0].access_key_id, "AKID1");
        assert_eq!(keys[0].secret_access_key.expose(), "hunter2");
        assert_eq!(keys[0].session_token, None);
        assert_eq!(keys[1].access_key_id, "AKID2");
        assert_eq!(keys[1].session_token, Some(Secret::new("t")));
        assert_eq!(keys.len(), 2);
        assert!(!format!("{keys:?}").contains("hunter"));
    }

    #[test]
    fn every_fault_is_reported_with_its_line_and_without_secrets() {
        let missing = "[[access_key]]\n";
        let several = "x = 1\n[[access_key]]\naccess_key_id = 5\nsecret_access_key = \"\"\ncolour = \"red\"\n";
        let known = "not known; a key has access_key_id, secret_access_key, session_token";
        let form = "must be 1 to 128 letters, digits and underscores";
        for (text, faults) in [
            ("", vec!["F: there is no [[access_key]] in it"]),
            (
                missing,
                vec![
                    "F:1: access_key_id: is missing",
                    "F:1: secret_access_key: is missing",
                ],
            ),
            (
                several,
                vec![
                    &format!("F:1: x: {NOT_A_KEY}"),
                    "F:3: access_key_id: must be a string that is not empty",
                    "F:4: secret_access_key: must be a string that is not empty",
                    &format!("F:5: colour: {known}"),
                ],
            ),
            (
                &GOOD.replace("AKID2", "AKID1"),
                vec!["F:7: access_key_id: another key has the same id"],
            ),
            (
                &GOOD.replace("AKID2", "AK/ID"),
                vec![&format!("F:7: access_key_id: {form}")],
            ),
            (
                &GOOD.replace("AKID2", &"A".repeat(129)),
                vec![&format!("F:7: access_key_id: {form}")],
            ),
            (
                &GOOD.replace("session_token = \"t\"", "session_token = \"\""),
                vec!["F:9: session_token: must be a string that is not empty"],
            ),
            (
                &format!("{GOOD}account = \"123456789012\"\n"),
                vec![&format!("F:10: account: {known}")],
            ),
            (
                "access_key = [{ access_key_id = \"a\", secret_access_key = \"b\" }]",
                vec![&format!("F:1: access_key: {NOT_A_KEY}")],
            ),
        ] {
            assert_eq!(read(text, 0o600).unwrap_err(), faults, "{text}");
        }
        let broken = read("[[access_key]]\nsecret_access_key = \"hunter2\n", 0o600).unwrap_err();
        assert!(
            broken.len() == 1 && broken[0].starts_with("F:2: ") && !broken[0].contains("hunter"),
            "{broken:?}"
        );
    }

    /// A key that was removed must not stay in force because of a fault in another one.
    #[test]
    fn a_fault_of_one_key_does_not_affect_the_others() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.toml");
        let third = "[[access_key]]\naccess_key_id = \"AKID3\"\nsecret_access_key = \"s\"\n";
        for (text, mode, keys) in [
            (GOOD.to_string(), 0o600, Some(vec!["AKID1", "AKID2"])),
            // What the keys may do is not known.
            (format!("x = 1\n{GOOD}"), 0o600, Some(vec![])),
            (GOOD.replace("\"t\"", "5"), 0o600, Some(vec!["AKID1"])),
            (GOOD.replace("AKID1", ""), 0o600, Some(vec!["AKID2"])),
            (
                GOOD.replace("access_key_id = \"AKID2\"\n", ""),
                0o600,
                Some(vec!["AKID1"]),
            ),
            // Which of two keys with one id counts cannot be known, even if one of them is faulty.
            (
                GOOD.replace("AKID2", "AKID1") + third,
                0o600,
                Some(vec!["AKID3"]),
            ),
            (
                GOOD.replace("AKID2", "AKID1").replace("hunter3", "") + third,
                0o600,
                Some(vec!["AKID3"]),
            ),
            (String::new(), 0o600, Some(vec![])),
            // Such a file does not say which keys there are.
            (format!("{GOOD}["), 0o600, None),
            (format!("{GOOD}["), 0o644, None),
        ] {
            fs::write(&path, &text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let content = read_each(&path, rules(1), |_, _| ());
            let found = content.keys.known().map(|keys| {
                let ids = keys.into_iter().map(|(key, ())| key.access_key_id);
                ids.collect::<Vec<String>>()
            });
            let expected =
                keys.map(|keys| keys.iter().map(ToString::to_string).collect::<Vec<_>>());
            assert_eq!(found, expected, "{text}");
            assert_eq!(
                content.faults.is_empty(),
                text == GOOD && mode == 0o600,
                "{text}"
            );
        }
        fs::remove_file(&path).unwrap();
        let gone = read_each(&path, rules(1), |_, _| ());
        assert_eq!(
            (gone.keys.known().map(|keys| keys.len()), gone.faults.len()),
            (Some(0), 1)
        );
        fs::create_dir(&path).unwrap();
        let directory = read_each(&path, rules(1), |_, _| ()).keys;
        assert!(matches!(directory, FileKeys::Unknown), "{directory:?}");
    }

    /// A key that was removed must not stay in force because others can read the file.
    #[test]
    fn of_a_file_that_others_can_read_only_the_ids_count() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.toml");
        for (text, ids) in [
            (GOOD.to_string(), vec!["AKID1", "AKID2"]),
            (GOOD.replace("AKID1", "AKID3"), vec!["AKID2", "AKID3"]),
            // The same keys as in a file of the right mode.
            (GOOD.replace("hunter2", ""), vec!["AKID2"]),
            (GOOD.replace("AKID2", "AKID1"), vec![]),
            (format!("{GOOD}[[rule]]\n"), vec![]),
            (String::new(), vec![]),
        ] {
            fs::write(&path, &text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            let content = read_each(&path, rules(1), |_, _| ());
            let FileKeys::Exposed(found) = content.keys else {
                panic!("{text}: {:?}", content.keys)
            };
            let mut found: Vec<String> = found.into_iter().collect();
            found.sort();
            assert_eq!(found, ids, "{text}");
            assert!(content.faults[0].message.contains("chmod 600"), "{text}");
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        for mode in [0o640, 0o604, 0o660, 0o610, 0o666] {
            let faults = read(GOOD, mode).unwrap_err();
            assert_eq!(
                faults,
                [format!(
                    "F: others can read these secrets (mode {mode:o}); run: chmod 600 F"
                )]
            );
        }
        assert!(read(GOOD, 0o400).is_ok());
        let absent = Path::new("/nonexistent/keys.toml");
        assert!(super::read(absent, rules(1), |_, _| ()).is_err());
    }

    #[test]
    fn a_secret_that_protects_nothing_is_refused_and_not_quoted() {
        let read = |secret: &str, min_secret: usize| {
            let text = GOOD.replace("hunter3", secret);
            parse(Path::new("F"), &text, rules(min_secret), |_, _| ())
        };
        for (secret, what) in [
            ("s", "has 1 characters and must have at least 8"),
            ("hunter2", "has 7 characters and must have at least 8"),
            ("…", "is a placeholder that everyone knows"),
            ("AKID…", "is a placeholder"),
            ("...", "is a placeholder"),
            (
                "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
                "is a placeholder",
            ),
            ("changeme", "is a placeholder"),
            ("CHANGE-ME", "is a placeholder"),
            ("<your-secret-access-key>", "is a placeholder"),
            // The example key of AWS's documentation.
            (
                "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
                "is a placeholder",
            ),
            // The key of the demo.
            (
                "imdsd-demo-secret-key-known-to-everyone",
                "is a placeholder",
            ),
        ] {
            // The first key's secret is too short as well, and every fault is reported.
            let faults = read(secret, 8).faults;
            let [_, fault] = faults.as_slice() else {
                panic!("{faults:?}")
            };
            let text = fault.to_string();
            assert!(
                text.starts_with(&format!("F:8: secret_access_key: {what}"))
                    && text.ends_with("openssl rand -base64 30")
                    && (secret.len() < 3 || !text.contains(secret)),
                "{secret}: {text}"
            );
        }
        assert_eq!(read("minioadmin", 8).faults.len(), 1);
        assert!(read("minioadmin", 7).faults.is_empty());
        let token = GOOD.replace("\"t\"", "\"…\"");
        let faults = parse(Path::new("F"), &token, rules(1), |_, _| ()).faults;
        assert!(
            faults[0]
                .to_string()
                .starts_with("F:9: session_token: is a"),
            "{faults:?}"
        );
    }

    /// Opening a FIFO without a writer would block a check or a reload for ever.
    #[test]
    fn a_fifo_is_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("keys.toml");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let faults = super::read(&fifo, rules(1), |_, _| ()).unwrap_err();
        assert!(
            faults.len() == 1 && faults[0].message.contains("not a regular file"),
            "{faults:?}"
        );
    }
}
