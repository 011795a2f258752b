//! The one reader for files that an operator names: configurations, documents, keys, certificates.
//!
//! It reads regular files only, up to a limit. Reading a FIFO would wait for a writer that may
//! never come, and reading a device may never end. A file over the limit is an error; it is not cut
//! off, because the end might be the part that matters.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;
use zeroize::Zeroizing;

use crate::ownership::{self, KeyOwner};

/// The default limit: configurations, scenarios, keys, certificates and lists of them are far
/// smaller.
pub(crate) const MAX_BYTES: u64 = 1 << 20;

/// The limit for a file of instance documents: some thousand instances with the largest user data.
pub(crate) const MAX_DOCUMENT_BYTES: u64 = 64 << 20;

/// What to do when the path is a symbolic link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Symlinks {
    /// Open its target.
    Follow,
    /// Fail: it is not a regular file.
    Refuse,
}

/// An open regular file and its metadata.
///
/// The metadata is that of the open file. Another file may have the same path by now.
#[derive(Debug)]
pub(crate) struct PlainFile {
    file: File,
    metadata: Metadata,
}

impl PlainFile {
    /// Opens a regular file for reading. Fails at once for a FIFO, a directory, a device or a
    /// socket.
    pub(crate) fn open(path: &Path, symlinks: Symlinks) -> io::Result<PlainFile> {
        // NONBLOCK: opening a FIFO without a writer would wait for one.
        let flags = match symlinks {
            Symlinks::Follow => OFlags::NONBLOCK,
            Symlinks::Refuse => OFlags::NONBLOCK | OFlags::NOFOLLOW,
        };
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits() as i32)
            .open(path);
        let file = match opened {
            // open(2): ELOOP is also what O_NOFOLLOW fails with.
            Err(reason)
                if symlinks == Symlinks::Refuse
                    && reason.raw_os_error() == Some(Errno::LOOP.raw_os_error()) =>
            {
                return Err(not_regular());
            }
            result => result?,
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(not_regular());
        }
        Ok(PlainFile { file, metadata })
    }

    /// Returns why this file must not hold keys, and how to fix it; `None` if it may.
    pub(crate) fn key_fault(&self, path: &Path, owner: KeyOwner) -> Option<String> {
        ownership::key_file_fault(path, &self.metadata, owner)
    }

    /// Reads the whole file. Fails if it has more than `max_bytes` bytes.
    pub(crate) fn read_bytes(self, max_bytes: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(self.metadata.len().min(max_bytes) as usize + 64);
        self.file.take(max_bytes + 1).read_to_end(&mut bytes)?;
        check_length(bytes.len(), max_bytes)?;
        Ok(bytes)
    }

    /// Reads the whole file as text that is erased from memory when it is dropped. Fails if it has
    /// more than `max_bytes` bytes or is not UTF-8.
    pub(crate) fn read_secret_text(self, max_bytes: u64) -> io::Result<Zeroizing<String>> {
        // The buffer has room for the whole file: a growing buffer would leave copies of the secret
        // in freed memory. The extra bytes keep the standard library from reading the last bytes
        // through a buffer of its own.
        let capacity = self.metadata.len().min(max_bytes) as usize + 64;
        let mut text = Zeroizing::new(String::with_capacity(capacity));
        self.file.take(max_bytes + 1).read_to_string(&mut text)?;
        check_length(text.len(), max_bytes)?;
        Ok(text)
    }
}

/// Reads a regular file, following symbolic links. Fails if it has more than `max_bytes` bytes.
pub(crate) fn read_bytes(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    PlainFile::open(path, Symlinks::Follow)?.read_bytes(max_bytes)
}

/// Reads a regular file of UTF-8 text, following symbolic links. Fails if it has more than
/// `max_bytes` bytes.
pub(crate) fn read_text(path: &Path, max_bytes: u64) -> io::Result<String> {
    String::from_utf8(read_bytes(path, max_bytes)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not UTF-8"))
}

fn not_regular() -> io::Error {
    io::Error::other("not a regular file")
}

fn check_length(length: usize, max_bytes: u64) -> io::Result<()> {
    if length as u64 > max_bytes {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("larger than {max_bytes} bytes"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn fifo(directory: &Path) -> PathBuf {
        let path = directory.join("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        path
    }

    #[test]
    fn fifos_and_directories_are_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        for path in [fifo(directory.path()), directory.path().to_path_buf()] {
            for symlinks in [Symlinks::Follow, Symlinks::Refuse] {
                let error = PlainFile::open(&path, symlinks).unwrap_err();
                assert_eq!(error.to_string(), "not a regular file", "{path:?}");
            }
        }
    }

    #[test]
    fn a_symbolic_link_is_followed_only_where_it_may_be() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("plain", &link).unwrap();
        std::fs::write(directory.path().join("plain"), "x").unwrap();
        assert_eq!(read_text(&link, 1).unwrap(), "x");
        let error = PlainFile::open(&link, Symlinks::Refuse).unwrap_err();
        assert_eq!(error.to_string(), "not a regular file");
    }

    #[test]
    fn a_file_is_read_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plain");
        for (length, is_read) in [(0, true), (8, true), (9, false)] {
            std::fs::write(&path, vec![b'#'; length]).unwrap();
            assert_eq!(read_bytes(&path, 8).is_ok(), is_read, "{length}");
            assert_eq!(read_text(&path, 8).is_ok(), is_read, "{length}");
            let secret = PlainFile::open(&path, Symlinks::Follow).unwrap();
            assert_eq!(secret.read_secret_text(8).is_ok(), is_read, "{length}");
        }
    }

    #[test]
    fn text_must_be_utf_8() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plain");
        std::fs::write(&path, [b'a', 0xff]).unwrap();
        assert_eq!(read_text(&path, 8).unwrap_err().to_string(), "not UTF-8");
        let secret = PlainFile::open(&path, Symlinks::Follow).unwrap();
        assert!(secret.read_secret_text(8).is_err());
        assert_eq!(read_bytes(&path, 8).unwrap(), [b'a', 0xff]);
    }
}
