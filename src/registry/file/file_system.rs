//! Syncing many new files at once, by syncing their file system.
//!
//! syncfs(2) of a journaling file system ends when the data and the names of all files are on the
//! disk, which a sync of each file makes true one by one. It also waits for the files of other
//! programs, so only a start or a reload with many new documents uses it. Where it promises less
//! than fsync(2), or fails, each file is written again and synced by itself.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// The fewest files for which the file system is synced.
pub(super) const MIN_FILES: usize = 256;

/// The file systems whose syncfs waits for the disk and reports every error, as statfs(2) names
/// them: ext4, XFS and btrfs.
const FILE_SYSTEMS: [u64; 3] = [0xef53, 0x5846_5342, 0x9123_683e];

/// The first version of Linux whose syncfs reports that a file could not be written back.
const FIRST_KERNEL: (u32, u32) = (5, 8);

/// How much the machine may have to write, in KiB. A disk takes seconds for it.
const MAX_UNWRITTEN: u64 = 256 << 10;

/// When a new file is synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileSync {
    /// When it is written.
    AtOnce,
    /// With its file system.
    Later,
}

/// A file system, opened before the files are written. Its sync reports the errors since then. Each
/// batch opens its own, because an error is reported once.
pub(super) struct FileSystem(File);

impl FileSystem {
    /// Opens the file system of a directory; `None` if its sync promises less than a sync of each
    /// file, or if the machine has much to write that is not ours: a host's virtual disks may be on
    /// the same file system.
    pub(super) fn open(directory: &Path) -> Option<FileSystem> {
        let uname = rustix::system::uname();
        let release = uname.release().to_str().ok()?;
        if version_of(release)? < FIRST_KERNEL {
            return None;
        }
        let memory = fs::read_to_string("/proc/meminfo").ok()?;
        if unwritten(&memory)? > MAX_UNWRITTEN {
            return None;
        }
        let opened = File::open(directory).ok()?;
        let kind = rustix::fs::fstatfs(&opened).ok()?.f_type;
        let is_known = u64::try_from(kind).is_ok_and(|kind| FILE_SYSTEMS.contains(&kind));
        is_known.then_some(FileSystem(opened))
    }

    /// Syncs everything that was written.
    pub(super) fn sync(self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(self.0)?)
    }
}

/// Returns the KiB that are to be written to disks, from proc_meminfo(5).
fn unwritten(memory: &str) -> Option<u64> {
    let of = |name: &str| -> Option<u64> {
        let mut lines = memory.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        value.trim().strip_suffix(" kB")?.parse().ok()
    };
    Some(of("Dirty")? + of("Writeback")?)
}

/// Returns the first two numbers of a kernel's release.
fn version_of(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_whose_release_is_old_or_cannot_be_read_is_refused() {
        for (release, expected) in [
            ("6.18.44", true),
            ("5.8.0-63-generic", true),
            ("5.10-rc1", true),
            ("10.0", true),
            ("5.7.19", false),
            ("4.19.0", false),
            ("6", false),
            ("", false),
            ("next-5.8", false),
        ] {
            let is_new = version_of(release).is_some_and(|version| version >= FIRST_KERNEL);
            assert_eq!(is_new, expected, "{release}");
        }
    }

    #[test]
    fn what_is_to_be_written_is_the_dirty_memory_and_that_on_its_way() {
        let memory = "MemTotal: 24 kB\nDirty:             196 kB\nWriteback:  4 kB\n";
        assert_eq!(unwritten(memory), Some(200));
        for damaged in ["", "Dirty: 1 kB\n", "Dirty: x kB\nWriteback: 0 kB\n"] {
            assert_eq!(unwritten(damaged), None, "{damaged}");
        }
    }

    #[test]
    fn a_file_system_without_a_disk_is_not_synced_as_a_whole() {
        assert!(FileSystem::open(Path::new("/proc")).is_none());
        assert!(FileSystem::open(Path::new("/nonexistent")).is_none());
    }
}
