//! The name of a daemon's tables. Two daemons on one host must not replace each other's rules.

use std::fmt;
use std::path::{Path, PathBuf};

use super::checked::digest;

/// The tables of earlier versions, which all daemons of a host had in common.
pub(super) const EARLIER: &str = "imdsd";
/// What all other names begin with. Nothing else on the host has such a table.
const PREFIX: &str = "imdsd-";

/// The name of one daemon's tables: `imdsd-` and something of this daemon alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableName(String);

impl TableName {
    /// Returns the name with this ending, which the configuration has checked: letters, digits and
    /// hyphens.
    pub fn ending_in(ending: &str) -> TableName {
        TableName(format!("{PREFIX}{ending}"))
    }

    /// Returns the name for a state directory, which no two daemons share: a digest of its path, in
    /// whatever way the path is written.
    pub fn of_state_directory(directory: &Path) -> TableName {
        TableName::ending_in(&digest(&[&resolved(directory).to_string_lossy()])[..8])
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether a table of this name belongs to some version of imdsd, but not to this
    /// daemon.
    pub(super) fn is_other(&self, table: &str) -> bool {
        table != self.0 && (table == EARLIER || table.starts_with(PREFIX))
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns the path without symbolic links, also if the end of it does not exist yet.
fn resolved(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    for ancestor in absolute.ancestors() {
        if let (Ok(real), Ok(rest)) = (ancestor.canonicalize(), absolute.strip_prefix(ancestor)) {
            return real.components().chain(rest.components()).collect();
        }
    }
    absolute
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_directory_has_one_name_however_it_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        let name = TableName::of_state_directory(&state);
        std::os::unix::fs::symlink(directory.path(), directory.path().join("link")).unwrap();
        for other in ["link/state", "link/link/state", "./state", "state/."] {
            let written = directory.path().join(other);
            assert_eq!(TableName::of_state_directory(&written), name, "{other}");
        }
        // Creating it does not change the name.
        std::fs::create_dir(&state).unwrap();
        assert_eq!(TableName::of_state_directory(&state), name);
        let other = TableName::of_state_directory(&directory.path().join("other"));
        assert_ne!(other, name);
        assert_eq!(name.as_str().len(), "imdsd-01234567".len());
    }

    #[test]
    fn other_tables_of_imdsd_are_recognized() {
        let own = TableName::ending_in("blue");
        for (table, is_other) in [
            ("imdsd", true),
            ("imdsd-red", true),
            ("imdsd-blue", false),
            ("imdsd2", false),
            ("firewall", false),
        ] {
            assert_eq!(own.is_other(table), is_other, "{table}");
        }
    }
}
