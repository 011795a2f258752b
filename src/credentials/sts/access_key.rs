//! The file with the access key that signs AssumeRole.

use std::fmt;
use std::path::Path;

use toml_edit::Document;

use crate::credentials::fetch::FetchError;
use crate::plain_file::{self, PlainFile, Symlinks};
use crate::secret::Secret;
use crate::sigv4::AccessKey;

/// Reads the only access key in a file. The format is that of the control endpoint's access keys.
pub(super) fn read_key(path: &Path) -> Result<AccessKey, FetchError> {
    let wrong =
        |what: &dyn fmt::Display| FetchError::unavailable(format!("{}: {what}", path.display()));
    let file = PlainFile::open(path, Symlinks::Follow).map_err(|error| wrong(&error))?;
    let mode = file.mode();
    let bytes = file
        .read_bytes(plain_file::MAX_BYTES)
        .map_err(|error| wrong(&error))?;
    let text = String::from_utf8(bytes).map_err(|_| wrong(&"not UTF-8"))?;
    if mode & 0o077 != 0 {
        return Err(wrong(&format_args!(
            "others can read this secret (mode {mode:03o})"
        )));
    }
    // The error's own text is not used: it quotes the line, which may contain a secret.
    let document = Document::parse(text.as_str()).map_err(|error| wrong(&error.message()))?;
    let tables = document
        .get("access_key")
        .and_then(|item| item.as_array_of_tables());
    let Some(table) = tables
        .filter(|tables| tables.len() == 1)
        .and_then(|tables| tables.get(0))
    else {
        return Err(wrong(&"it must contain exactly one [[access_key]]"));
    };
    let field = |name: &str| {
        table
            .get(name)
            .and_then(|item| item.as_str())
            .filter(|text| !text.is_empty())
    };
    match (field("access_key_id"), field("secret_access_key")) {
        (Some(id), Some(secret)) => Ok(AccessKey {
            access_key_id: id.to_string(),
            secret_access_key: Secret::new(secret),
            session_token: field("session_token").map(Secret::new),
        }),
        _ => Err(wrong(
            &"[[access_key]] needs access_key_id and secret_access_key",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_file_must_be_private_and_contain_one_key() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.toml");
        let read = |text: &str, mode: u32| {
            let _ = fs::remove_file(&path);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            read_key(&path).map_err(|error| error.to_string())
        };
        let one = "[[access_key]]\naccess_key_id = \"A\"\nsecret_access_key = \"hunter2\"\n";
        let key = read(one, 0o600).unwrap();
        assert_eq!(
            (key.access_key_id.as_str(), key.secret_access_key.expose()),
            ("A", "hunter2")
        );
        assert_eq!(key.session_token, None);
        assert_eq!(
            read(&format!("{one}session_token = \"t\""), 0o400)
                .unwrap()
                .session_token,
            Some(Secret::new("t"))
        );
        for (text, mode, what) in [
            (
                one.to_string(),
                0o640,
                "others can read this secret (mode 640)",
            ),
            (
                one.to_string(),
                0o604,
                "others can read this secret (mode 604)",
            ),
            (String::new(), 0o600, "exactly one"),
            (format!("{one}{one}"), 0o600, "exactly one"),
            ("access_key = 3".to_string(), 0o600, "exactly one"),
            (one.replace("hunter2", ""), 0o600, "needs"),
            (one.replace("\"A\"", "5"), 0o600, "needs"),
            (one.replace("hunter2\"", "hunter2"), 0o600, "key.toml: "),
        ] {
            let error = read(&text, mode).unwrap_err();
            assert!(
                error.contains(what) && !error.contains("hunter2"),
                "{text}: {error}"
            );
        }
        fs::remove_file(&path).unwrap();
        assert!(read_key(&path).is_err());
    }
}
