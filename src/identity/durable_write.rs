//! Directories and files that survive a crash, for the keys.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::identity_error::IdentityError;

/// The ending of the name of an unfinished file.
const TEMPORARY: &str = ".tmp";

/// Creates a directory for its owner only, unless it exists.
pub(super) fn create_directory(path: &Path) -> Result<(), IdentityError> {
    if path.is_dir() {
        return Ok(());
    }
    let create = || -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        hand_over(&File::open(path)?, path)?;
        File::open(parent(path))?.sync_all()
    };
    create().map_err(IdentityError::of_file("create", path))
}

/// Writes a file so that it has either the whole old or the whole new content after a power failure
/// at any time.
pub(super) fn write(path: &Path, content: &[u8]) -> Result<(), IdentityError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(TEMPORARY);
    let write = || -> io::Result<()> {
        let _ = fs::remove_file(&temporary);
        let mut file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&temporary)?;
        hand_over(&file, path)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(parent(path))?.sync_all()
    };
    write().map_err(|reason| {
        let _ = fs::remove_file(&temporary);
        IdentityError::of_file("write", path)(reason)
    })
}

/// Gives a file that root created to the owner of its directory: the daemon runs as that user and
/// must read the file.
fn hand_over(created: &File, path: &Path) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let owner = fs::metadata(parent(path))?;
    std::os::unix::fs::fchown(created, Some(owner.uid()), Some(owner.gid()))
}

/// Returns the directory that contains a path.
fn parent(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}
