//! Replacing files so that they can be restored: staged first, then put in place, then synced.
//!
//! The file that is replaced keeps a second name until the change is durable. To undo the change is
//! to rename it back, which needs no space on the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::file_system::FileSync;
use super::temporary::{TemporaryFile, TemporaryFiles};

/// A directory in which files are replaced.
pub(super) struct Directory {
    /// Its path.
    pub(super) path: PathBuf,
    /// The directory itself, open from the start, so that a full descriptor table cannot prevent
    /// the fsync after a rename.
    pub(super) synced: File,
}

/// The replacement or the removal of a file, which is not in force yet.
pub(super) struct StagedFile {
    path: PathBuf,
    /// The new file, complete and synced, until it is in its place; `None` for a removal.
    new: Option<TemporaryFile>,
    /// The name that keeps the previous file.
    old: TemporaryFile,
    /// Whether readers see the change, though a crash may undo it.
    is_in_place: bool,
}

impl StagedFile {
    /// Writes the new file; `None` stages a removal.
    pub(super) fn write(
        files: &TemporaryFiles,
        path: PathBuf,
        bytes: Option<&[u8]>,
        sync: FileSync,
    ) -> io::Result<StagedFile> {
        let new = match bytes {
            Some(bytes) => Some(write_with_room(files, &path, bytes, sync)?),
            None => None,
        };
        let old = files.name(&path.with_extension("old.json"));
        Ok(StagedFile {
            path,
            new,
            old,
            is_in_place: false,
        })
    }

    /// Returns the action, for an error: `write PATH` or `remove PATH`.
    pub(super) fn action(&self) -> String {
        action(&self.path, self.new.is_some())
    }

    /// Puts the change in place. If it fails, nothing has changed.
    fn put_in_place(&mut self) -> io::Result<()> {
        let is_there = keep(&self.path, &mut self.old)?;
        match &mut self.new {
            Some(new) => {
                fs::rename(new.path(), &self.path)?;
                new.moved();
            }
            None if is_there => fs::remove_file(&self.path)?,
            None => {}
        }
        self.is_in_place = true;
        Ok(())
    }

    /// Restores the previous file.
    fn restore(&mut self) -> io::Result<()> {
        if self.old.is_kept() {
            fs::rename(self.old.path(), &self.path)?;
            self.old.moved();
        } else if self.new.is_some() {
            fs::remove_file(&self.path)?;
        }
        self.is_in_place = false;
        Ok(())
    }
}

/// Returns what is done with a file, for an error.
pub(super) fn action(path: &Path, is_write: bool) -> String {
    let verb = if is_write { "write" } else { "remove" };
    format!("{verb} {}", path.display())
}

/// Writes a temporary file beside `path`. What is left of earlier changes may take the last room of
/// the disk.
fn write_with_room(
    files: &TemporaryFiles,
    path: &Path,
    bytes: &[u8],
    sync: FileSync,
) -> io::Result<TemporaryFile> {
    let mut new = files.name(path);
    let mut written = write(&mut new, bytes, sync);
    if is_kind(&written, io::ErrorKind::StorageFull)
        || is_kind(&written, io::ErrorKind::QuotaExceeded)
    {
        files.make_room();
        written = write(&mut new, bytes, sync);
    }
    written.map(|()| new)
}

/// Writes a temporary file. Nothing is left of one that cannot be written.
fn write(temporary: &mut TemporaryFile, bytes: &[u8], sync: FileSync) -> io::Result<()> {
    let create = || {
        OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(temporary.path())
    };
    let write = || {
        let mut created = create();
        // A new file each time: after a failed fsync the kernel marks the lost pages of the old
        // file clean.
        if is_kind(&created, io::ErrorKind::AlreadyExists) {
            let _ = fs::remove_file(temporary.path());
            created = create();
        }
        let mut file = created?;
        file.write_all(bytes)?;
        match sync {
            FileSync::AtOnce => file.sync_all(),
            FileSync::Later => Ok(()),
        }
    };
    match write() {
        Ok(()) => {
            temporary.exists();
            Ok(())
        }
        Err(reason) => {
            let _ = fs::remove_file(temporary.path());
            Err(reason)
        }
    }
}

/// Gives a file a second name. Returns whether there is a file.
fn keep(path: &Path, old: &mut TemporaryFile) -> io::Result<bool> {
    let mut linked = fs::hard_link(path, old.path());
    if is_kind(&linked, io::ErrorKind::AlreadyExists) {
        let _ = fs::remove_file(old.path());
        linked = fs::hard_link(path, old.path());
    }
    match linked {
        Ok(()) => {
            old.keeps_replaced();
            Ok(true)
        }
        Err(reason) if reason.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(reason) => Err(reason),
    }
}

fn is_kind<T>(result: &io::Result<T>, kind: io::ErrorKind) -> bool {
    result.as_ref().is_err_and(|reason| reason.kind() == kind)
}

impl Directory {
    /// Puts changes in place, one after the other; a crash may still undo them. If one fails, those
    /// before it are restored.
    pub(super) fn put_in_place(&self, files: &mut [StagedFile]) -> Result<(), PlaceError> {
        for index in 0..files.len() {
            if let Err(reason) = files[index].put_in_place() {
                let action = files[index].action();
                let unknown = self.restore(files);
                return Err(PlaceError {
                    action,
                    reason,
                    unknown,
                });
            }
        }
        Ok(())
    }

    /// Makes everything that is in place survive a crash.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.synced.sync_all()
    }

    /// Restores the previous files, the last one first. Returns the positions of those whose state
    /// is unknown then.
    pub(super) fn restore(&self, files: &mut [StagedFile]) -> Vec<usize> {
        let (mut restored, mut unknown) = (Vec::new(), Vec::new());
        for (index, file) in files.iter_mut().enumerate().rev() {
            match file.is_in_place.then(|| file.restore()) {
                None => {}
                Some(Ok(())) => restored.push(index),
                Some(Err(_)) => unknown.push(index),
            }
        }
        if !restored.is_empty() && self.sync().is_err() {
            unknown.extend(restored);
        }
        unknown
    }
}

/// Why changes were not put in place.
pub(super) struct PlaceError {
    /// The action that failed.
    pub(super) action: String,
    /// The system's reason.
    pub(super) reason: io::Error,
    /// The positions of the files whose state is unknown.
    pub(super) unknown: Vec<usize>,
}
