//! A file that an operator names, read with its mode. It is a plain file of a known size at most: a pipe in its place would
//! keep whoever reads it waiting, and what is cut off might be the part that counts.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// The largest file, in bytes.
const MOST: u64 = 1 << 20;

/// The mode of a file, and all of its bytes.
pub fn read(path: &Path) -> io::Result<(u32, Vec<u8>)> {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
    // The kind and the mode of what was opened, not of what stands under the name by now.
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a plain file"));
    }
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
        let (plain, fifo) = (directory.path().join("plain"), directory.path().join("fifo"));
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        for path in [&fifo, directory.path()] {
            assert_eq!(read(path).unwrap_err().to_string(), "it is not a plain file");
        }
        for (length, is_read) in [(0, true), (MOST, true), (MOST + 1, false)] {
            std::fs::write(&plain, vec![b'#'; length as usize]).unwrap();
            assert_eq!(read(&plain).is_ok(), is_read, "{length}");
        }
    }
}
