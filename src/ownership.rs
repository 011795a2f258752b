//! Ownership checks for the daemon's own directories and for every file with a key in it.
//!
//! Another user who can write there could plant session token keys, metadata options or access keys.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Returns why a directory is not safe for the daemon's own files, and how to fix it; `None` if it
/// is safe.
pub(crate) fn fault(path: &Path, found: &Metadata) -> Option<String> {
    fault_for(rustix::process::geteuid().as_raw(), path, found)
}

/// The same for a daemon of user `own`.
pub(crate) fn fault_for(own: u32, path: &Path, found: &Metadata) -> Option<String> {
    let path = path.display();
    if !is_trusted(found.uid(), own) {
        return Some(format!(
            "it belongs to another user (uid {}); run: chown {own} {path}",
            found.uid()
        ));
    }
    (found.mode() & 0o022 != 0).then(|| format!("others may write it; run: chmod 700 {path}"))
}

/// The user that key files must belong to: the one that the daemon runs as. Root's are trusted too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyOwner(Option<u32>);

impl KeyOwner {
    /// Returns the user of this process.
    pub fn this_user() -> KeyOwner {
        KeyOwner(Some(rustix::process::geteuid().as_raw()))
    }

    /// Returns the user of the daemon with this state directory.
    ///
    /// When root runs `imdsd check` or `imdsd identity` beside a service with a user of its own, it
    /// must judge as the service does: the state directory's owner is that user. Before the first
    /// start there is no directory, and root cannot know the user. A daemon creates the directory
    /// before it reads its keys and accepts only its own (see [`fault`]), so it accepts only its own
    /// key files.
    pub fn of_daemon(state_directory: Option<&Path>) -> KeyOwner {
        match state_directory {
            Some(directory) if rustix::process::geteuid().is_root() => {
                KeyOwner(std::fs::metadata(directory).ok().map(|found| found.uid()))
            }
            _ => KeyOwner::this_user(),
        }
    }
}

/// Returns why a file must not hold keys, and how to fix it; `None` if it may. Every file with an
/// access key, a private key or token keys is checked here.
pub(crate) fn key_file_fault(path: &Path, found: &Metadata, owner: KeyOwner) -> Option<String> {
    let (uid, path) = (found.uid(), path.display());
    if let KeyOwner(Some(own)) = owner
        && !is_trusted(uid, own)
    {
        return Some(format!(
            "it belongs to another user (uid {uid}), who could replace these secrets; run: chown {own} {path}"
        ));
    }
    let mode = found.mode() & 0o7777;
    (mode & 0o077 != 0)
        .then(|| format!("others can read these secrets (mode {mode:03o}); run: chmod 600 {path}"))
}

/// Returns whether users other than the owner and the group can read a file: whether its mode lets
/// them, and that of every directory that leads to it.
pub(crate) fn is_readable_by_all(path: &Path) -> bool {
    let Ok(path) = path.canonicalize() else {
        return false;
    };
    let has_mode =
        |path: &Path, bit: u32| std::fs::metadata(path).is_ok_and(|found| found.mode() & bit != 0);
    has_mode(&path, 0o004)
        && path
            .ancestors()
            .skip(1)
            .all(|parent| has_mode(parent, 0o001))
}

/// Returns whether the owner of a directory or a key file is trusted. Root can read and write
/// everything anyway, so what belongs to root is trusted.
fn is_trusted(uid: u32, own: u32) -> bool {
    uid == own || uid == 0
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_readable_by_all_if_its_directories_are_too() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("document.json");
        std::fs::write(&file, "{}").unwrap();
        for (of_directory, of_file, expected) in [
            (0o755, 0o644, true),
            (0o711, 0o604, true),
            (0o750, 0o644, false),
            (0o755, 0o640, false),
            (0o755, 0o600, false),
        ] {
            let mode = |mode| std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(directory.path(), mode(of_directory)).unwrap();
            std::fs::set_permissions(&file, mode(of_file)).unwrap();
            // The directories above, such as /tmp, are searchable by all.
            assert_eq!(
                is_readable_by_all(&file),
                expected,
                "{of_directory:o} {of_file:o}"
            );
        }
        assert!(!is_readable_by_all(Path::new("/nonexistent/document.json")));
    }

    #[test]
    fn a_directory_of_this_user_or_of_root_is_trusted() {
        for (uid, own, trusted) in [
            (0, 0, true),
            (1000, 1000, true),
            (0, 1000, true),
            (1000, 0, false),
            (1, 2, false),
        ] {
            assert_eq!(is_trusted(uid, own), trusted, "{uid} for {own}");
        }
    }
}
