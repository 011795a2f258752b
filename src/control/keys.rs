//! The access keys that callers may sign with, from a TOML file that only its owner can read:
//!
//! ```toml
//! [[access_key]]
//! access_key_id = "AKID…"
//! secret_access_key = "…"
//! session_token = "…"      # optional: then callers must send it
//! ```

use std::collections::HashMap;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use toml_edit::{Document, Item, Table};

use crate::fault::{Fault, line_of};
use crate::instance::Secret;
use crate::sigv4::AccessKey;

/// Access keys by their id.
#[derive(Clone, Debug, Default)]
pub struct AccessKeys {
    by_id: HashMap<String, AccessKey>,
}

impl AccessKeys {
    /// Id and secret of the demo's key. The demo serves invented data on loopback, so everyone may know them.
    pub const DEMO: (&str, &str) = ("AKIDIMDSDDEMO0000001", "imdsd-demo-secret-key-known-to-everyone");

    /// These keys. Of two with one id the later counts.
    pub fn new(keys: Vec<AccessKey>) -> AccessKeys {
        AccessKeys { by_id: keys.into_iter().map(|key| (key.access_key_id.clone(), key)).collect() }
    }

    /// The demo's one key.
    pub fn demo() -> AccessKeys {
        let (id, secret) = AccessKeys::DEMO;
        AccessKeys::new(vec![AccessKey {
            access_key_id: id.to_string(),
            secret_access_key: Secret::new(secret),
            session_token: None,
        }])
    }

    /// Reads a file of keys, or says everything that is wrong with it.
    pub fn read(path: &Path) -> Result<AccessKeys, Vec<Fault>> {
        let fault = |message: String| Fault::of_file(path, message);
        let open = || -> std::io::Result<(u32, String)> {
            let mut file = std::fs::File::open(path)?;
            // The mode of what was opened, not of what stands under the name by now.
            let mode = file.metadata()?.permissions().mode() & 0o7777;
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            Ok((mode, text))
        };
        let (mode, text) = open().map_err(|error| vec![fault(format!("can't be read: {error}"))])?;
        let mut faults = Vec::new();
        if mode & 0o077 != 0 {
            let name = path.display();
            faults.push(fault(format!("others can read these secrets (mode {mode:03o}); run: chmod 600 {name}")));
        }
        let keys = parse(path, &text, &mut faults);
        if faults.is_empty() { Ok(AccessKeys::new(keys)) } else { Err(faults) }
    }

    /// What is wrong with a file of keys, for whoever only checks it.
    pub fn faults(path: &Path) -> Vec<Fault> {
        AccessKeys::read(path).err().unwrap_or_default()
    }

    /// One key by its id.
    pub fn find(&self, access_key_id: &str) -> Option<&AccessKey> {
        self.by_id.get(access_key_id)
    }
}

fn parse(path: &Path, text: &str, faults: &mut Vec<Fault>) -> Vec<AccessKey> {
    let mut fault = |offset: Option<usize>, field: &str, message: &str| {
        let line = offset.map_or(0, |offset| line_of(text, offset));
        let (file, field) = (path.to_path_buf(), field.to_string());
        faults.push(Fault { file, line, field, message: message.to_string() });
    };
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(error) => {
            // Only the reason: the error's own text would quote the line, and with it a secret.
            fault(error.span().map(|span| span.start), "", error.message());
            return Vec::new();
        }
    };
    let mut keys: Vec<AccessKey> = Vec::new();
    for (name, item) in document.iter() {
        let Some(tables) = item.as_array_of_tables().filter(|_| name == "access_key") else {
            fault(key_offset(&document, name), name, "not known; keys stand in [[access_key]] tables");
            continue;
        };
        for table in tables {
            let start = table.span().map(|span| span.start);
            let mut wrong = |name: &str, message: &str| fault(key_offset(table, name).or(start), name, message);
            if let Some(key) = read_key(table, &mut wrong) {
                if keys.iter().any(|earlier| earlier.access_key_id == key.access_key_id) {
                    wrong("access_key_id", "another key has this id already");
                }
                keys.push(key);
            }
        }
    }
    if faults.is_empty() && keys.is_empty() {
        faults.push(Fault::of_file(path, "there is no [[access_key]] in it, so nobody could call"));
    }
    keys
}

/// Reads one table; what is wrong with it goes to `wrong`, by field.
fn read_key(table: &Table, wrong: &mut impl FnMut(&str, &str)) -> Option<AccessKey> {
    let (mut id, mut secret, mut token) = (None, None, None);
    for (name, item) in table.iter() {
        let place = match name {
            "access_key_id" => &mut id,
            "secret_access_key" => &mut secret,
            "session_token" => &mut token,
            _ => {
                wrong(name, "not known; a key has access_key_id, secret_access_key and session_token");
                continue;
            }
        };
        // A value that is there but wrong is faulted here, and not as missing below.
        *place = Some(item.as_str().filter(|text| !text.is_empty()));
        if *place == Some(None) {
            wrong(name, "must be a string that is not empty");
        }
    }
    for (name, value) in [("access_key_id", id), ("secret_access_key", secret)] {
        if value.is_none() {
            wrong(name, "is missing");
        }
    }
    let id = id.flatten()?;
    // A credential is split at slashes and commas, so an id can't have any.
    if id.len() > 128 || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        wrong("access_key_id", "must be 1 to 128 letters, digits and underscores");
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

/// Where a key's name, or else its value, stands.
fn key_offset(table: &Table, name: &str) -> Option<usize> {
    let of_name = table.key(name).and_then(|key| key.span());
    of_name.or_else(|| table.get(name).and_then(Item::span)).map(|span| span.start)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const GOOD: &str = "# ours\n[[access_key]]\naccess_key_id = \"AKID1\"\nsecret_access_key = \"hunter2\"\n\n\
        [[access_key]]\naccess_key_id = \"AKID2\"\nsecret_access_key = \"hunter3\"\nsession_token = \"t\"\n";

    fn read(text: &str, mode: u32) -> Result<AccessKeys, Vec<String>> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.toml");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let name = format!("{}", path.display());
        AccessKeys::read(&path)
            .map_err(|faults| faults.iter().map(|fault| fault.to_string().replace(&name, "F")).collect())
    }

    #[test]
    fn keys_are_read_from_a_private_file() {
        let keys = read(GOOD, 0o600).unwrap();
        assert_eq!(keys.find("AKID1").unwrap().secret_access_key.expose(), "hunter2");
        assert_eq!(keys.find("AKID1").unwrap().session_token, None);
        assert_eq!(keys.find("AKID2").unwrap().session_token, Some(Secret::new("t")));
        assert!(keys.find("AKID3").is_none());
        assert!(!format!("{keys:?}").contains("hunter"));
    }

    #[test]
    fn every_fault_is_reported_with_its_line_and_without_secrets() {
        let missing = "[[access_key]]\n";
        let several = "x = 1\n[[access_key]]\naccess_key_id = 5\nsecret_access_key = \"\"\ncolour = \"red\"\n";
        let known = "not known; a key has access_key_id, secret_access_key and session_token";
        for (text, faults) in [
            ("", vec!["F: there is no [[access_key]] in it, so nobody could call"]),
            (missing, vec!["F:1: access_key_id: is missing", "F:1: secret_access_key: is missing"]),
            (
                several,
                vec![
                    "F:1: x: not known; keys stand in [[access_key]] tables",
                    "F:3: access_key_id: must be a string that is not empty",
                    "F:4: secret_access_key: must be a string that is not empty",
                    &format!("F:5: colour: {known}"),
                ],
            ),
            (&GOOD.replace("AKID2", "AKID1"), vec!["F:7: access_key_id: another key has this id already"]),
            (
                &GOOD.replace("AKID2", "AK/ID"),
                vec!["F:7: access_key_id: must be 1 to 128 letters, digits and underscores"],
            ),
            (
                &GOOD.replace("session_token = \"t\"", "session_token = \"\""),
                vec!["F:9: session_token: must be a string that is not empty"],
            ),
            (
                "access_key = [{ access_key_id = \"a\", secret_access_key = \"b\" }]",
                vec!["F:1: access_key: not known; keys stand in [[access_key]] tables"],
            ),
        ] {
            assert_eq!(read(text, 0o600).unwrap_err(), faults, "{text}");
        }
        let broken = read("[[access_key]]\nsecret_access_key = \"hunter2\n", 0o600).unwrap_err();
        assert!(broken.len() == 1 && broken[0].starts_with("F:2: ") && !broken[0].contains("hunter"), "{broken:?}");
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        for mode in [0o640, 0o604, 0o660, 0o610, 0o666] {
            let faults = read(GOOD, mode).unwrap_err();
            assert_eq!(faults, [format!("F: others can read these secrets (mode {mode:o}); run: chmod 600 F")]);
        }
        assert!(read(GOOD, 0o400).is_ok());
        assert!(AccessKeys::read(Path::new("/nonexistent/keys.toml")).is_err());
    }
}
