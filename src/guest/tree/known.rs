//! Whether the tables have a path.

use super::category::Kind;
use super::top::TOP;

/// How much of a path is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathExtent {
    /// All of it.
    Whole,
    /// Its beginning, which may end in the middle of a name.
    Beginning,
}

/// Returns whether some instance could have a path, which is below a version and has no slash at its
/// beginning. Names that come from an instance are not compared.
pub fn is_known(path: &str, extent: PathExtent) -> bool {
    let mut kind = &TOP;
    let mut names = path.split('/').peekable();
    while let Some(name) = names.next() {
        let is_begun = extent == PathExtent::Beginning && names.peek().is_none();
        kind = match kind {
            Kind::Directory(table) if is_begun => {
                return table.iter().any(|category| category.name.starts_with(name));
            }
            Kind::Directory(table) => match table.iter().find(|category| category.name == name) {
                Some(category) => &category.kind,
                None => return false,
            },
            Kind::Each(_, kind) => kind,
            Kind::Leaf(_) | Kind::Dated(_) | Kind::Octets(_) => return false,
        };
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_tables_are_known_and_others_are_not() {
        for (path, whole, beginning) in [
            ("meta-data/instance-id", true, true),
            ("meta-data/instance-i", false, true),
            ("meta-data/instanceid", false, false),
            ("meta-data", true, true),
            ("meta-data/iam/security-credentials/any-role", true, true),
            (
                "meta-data/network/interfaces/macs/02:00:00:00:00:01/mac",
                true,
                true,
            ),
            (
                "meta-data/network/interfaces/macs/02:00:00:00:00:01/mc",
                false,
                false,
            ),
            ("meta-data/instance-id/x", false, false),
            ("dynamic/instance-identity/document", true, true),
            ("user-data", true, true),
            ("user-data/x", false, false),
            ("latest/meta-data", false, false),
            ("", false, true),
            ("meta-data/", false, true),
        ] {
            assert_eq!(is_known(path, PathExtent::Whole), whole, "{path}");
            assert_eq!(is_known(path, PathExtent::Beginning), beginning, "{path}*");
        }
    }
}
