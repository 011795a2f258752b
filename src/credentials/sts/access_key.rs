//! The file with the access key that signs AssumeRole.

use std::path::Path;

use crate::credentials::fetch::FetchError;
use crate::ownership::KeyOwner;
use crate::sigv4::AccessKey;
use crate::sigv4::access_key_file::{self, KeyRules};

/// What the control endpoint reads from its file besides the key. Both files have one format, so
/// that one file can serve both; a call to STS needs neither.
const CONTROL_FIELDS: &[&str] = &["account", "rule"];

/// The least length of a secret that some STS issues: MinIO's.
const MIN_SECRET: usize = 8;

/// Reads the only access key in a file. [`access_key_file`] defines the format.
pub(super) fn read_key(path: &Path) -> Result<AccessKey, FetchError> {
    read_key_of(path, KeyOwner::this_user())
}

fn read_key_of(path: &Path, owner: KeyOwner) -> Result<AccessKey, FetchError> {
    let rules = KeyRules {
        owner,
        min_secret: MIN_SECRET,
        more_fields: CONTROL_FIELDS,
    };
    let read = access_key_file::read(path, rules, |_, _| ());
    let keys = read.map_err(|faults| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        FetchError::unavailable(faults.join("; "))
    })?;
    match <[(AccessKey, ()); 1]>::try_from(keys) {
        Ok([(key, ())]) => Ok(key),
        Err(keys) => Err(FetchError::unavailable(format!(
            "{}: it must contain exactly one [[access_key]], not {}",
            path.display(),
            keys.len()
        ))),
    }
}

/// Returns what is wrong with such a file, which must belong to `owner`; `None` if it has one key.
pub fn access_key_fault(path: &Path, owner: KeyOwner) -> Option<String> {
    read_key_of(path, owner)
        .err()
        .map(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::secret::Secret;

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
        let one = "[[access_key]]\naccess_key_id = \"A\"\nsecret_access_key = \"hunter22\"\n";
        let key = read(one, 0o600).unwrap();
        assert_eq!(
            (key.access_key_id.as_str(), key.secret_access_key.expose()),
            ("A", "hunter22")
        );
        assert_eq!(key.session_token, None);
        assert_eq!(
            read(&format!("{one}session_token = \"t\""), 0o400)
                .unwrap()
                .session_token,
            Some(Secret::new("t"))
        );
        let of_control = "account = \"123456789012\"\n[[access_key.rule]]\neffect = \"allow\"\n";
        let shared = read(&format!("{one}{of_control}"), 0o600).unwrap();
        assert_eq!(shared.access_key_id, "A");
        let two = format!("{one}{}", one.replace("\"A\"", "\"B\""));
        let mode_640 = "others can read these secrets (mode 640)";
        let mode_604 = "others can read these secrets (mode 604)";
        for (text, mode, what) in [
            (one.to_string(), 0o640, mode_640),
            (one.to_string(), 0o604, mode_604),
            (String::new(), 0o600, "there is no [[access_key]] in it"),
            (two, 0o600, "exactly one [[access_key]], not 2"),
            ("access_key = 3".to_string(), 0o600, "access_key: not known"),
            (
                one.replace("hunter22", ""),
                0o600,
                "secret_access_key: must",
            ),
            (one.replace("\"A\"", "5"), 0o600, "access_key_id: must be"),
            (
                one.replace("\"A\"", "\"A/B\""),
                0o600,
                "access_key_id: must",
            ),
            (format!("{one}region = \"1\""), 0o600, "region: not known"),
            (one.replace("hunter22\"", "hunter22"), 0o600, "key.toml:3: "),
        ] {
            let error = read(&text, mode).unwrap_err();
            assert!(
                error.contains(what) && !error.contains("hunter22"),
                "{text}: {error}"
            );
        }
        fs::remove_file(&path).unwrap();
        assert!(read_key(&path).is_err());
    }
}
