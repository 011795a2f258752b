//! A file that an operator names, read with its mode. It is a plain file of a known size at most: a pipe in its place would
//! keep whoever reads it waiting, and what is cut off might be the part that counts.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

/// The largest file, in bytes.
const MOST: u64 = 1 << 20;

/// What is done about a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// It is what it leads to.
    Followed,
    /// It is not a plain file either.
    Refused,
}

/// A file to be read, with what it is. Both are of what was opened, not of what stands under the name by now.
pub fn open(path: &Path, links: Links) -> io::Result<(File, Metadata)> {
    let flags = match links {
        Links::Followed => OFlags::NONBLOCK,
        Links::Refused => OFlags::NONBLOCK | OFlags::NOFOLLOW,
    };
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits() as i32)
        .open(path)?;
    let metadata = file.metadata()?;
    match metadata.is_file() {
        true => Ok((file, metadata)),
        false => Err(io::Error::other("it is not a plain file")),
    }
}

/// The mode of a file, and all of its bytes.
pub fn read(path: &Path) -> io::Result<(u32, Vec<u8>)> {
    let (file, metadata) = open(path, Links::Followed)?;
    let mut bytes = Vec::new();
    file.take(MOST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST {
        return Err(io::Error::other(format!("it has more than {MOST} bytes")));
    }
    Ok((metadata.permissions().mode() & 0o7777, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_file_of_a_bounded_size_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let (plain, fifo) = (
            directory.path().join("plain"),
            directory.path().join("fifo"),
        );
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        for path in [&fifo, directory.path()] {
            assert_eq!(
                read(path).unwrap_err().to_string(),
                "it is not a plain file"
            );
        }
        std::os::unix::fs::symlink("plain", directory.path().join("link")).unwrap();
        std::fs::write(&plain, "x").unwrap();
        for (links, is_opened) in [(Links::Followed, true), (Links::Refused, false)] {
            assert_eq!(
                open(&directory.path().join("link"), links).is_ok(),
                is_opened,
                "{links:?}"
            );
        }
        for (length, is_read) in [(0, true), (MOST, true), (MOST + 1, false)] {
            std::fs::write(&plain, vec![b'#'; length as usize]).unwrap();
            assert_eq!(read(&plain).is_ok(), is_read, "{length}");
        }
    }
}
