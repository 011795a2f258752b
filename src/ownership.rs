//! Whose the daemon's own directories and files are. What somebody else may write says what somebody else wants:
//! session tokens of their making, options that nobody set.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Why a directory is no place for the daemon's own files, and how to mend it; `None` when it is one.
pub fn fault(path: &Path, found: &Metadata) -> Option<String> {
    let (own, path) = (rustix::process::geteuid().as_raw(), path.display());
    if !is_trusted(found.uid(), own) {
        return Some(format!(
            "it belongs to another user (uid {}); run: chown {own} {path}",
            found.uid()
        ));
    }
    (found.mode() & 0o022 != 0).then(|| format!("others may write it; run: chmod 700 {path}"))
}

/// Whether a file is this user's, and nobody else may read or write it.
pub fn is_private(found: &Metadata) -> bool {
    found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o077 == 0
}

/// Whom nothing can be kept from is not kept out.
fn is_trusted(uid: u32, own: u32) -> bool {
    uid == own || uid == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_of_this_user_or_of_root() {
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
