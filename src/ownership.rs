//! Ownership checks for the daemon's own directories and files.
//!
//! Another user who can write there could plant session token keys or metadata options.

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

/// Returns whether a file belongs to this user, and no other user can read or write it.
pub(crate) fn is_private(found: &Metadata) -> bool {
    found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o077 == 0
}

/// Returns whether the owner of a directory is trusted. Root can read and write everything anyway,
/// so directories of root are trusted.
fn is_trusted(uid: u32, own: u32) -> bool {
    uid == own || uid == 0
}

#[cfg(test)]
mod tests {
    use super::*;

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
