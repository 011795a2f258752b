//! The top of the tree: what is directly below a version.

use super::category::{Category, Kind, directory};
use super::{dynamic, meta_data};

/// The directory that each version shows.
pub(super) static TOP: Kind = Kind::Directory(&[
    directory("dynamic", "2009-04-04", dynamic::DYNAMIC),
    directory("meta-data", "1.0", meta_data::META_DATA),
    Category {
        name: "user-data",
        since: "1.0",
        kind: Kind::Octets(|focus| focus.instance().user_data()),
    },
]);

#[cfg(test)]
mod tests {
    use super::*;

    /// Listings are in byte order because the tables are.
    #[test]
    fn tables_are_in_byte_order_and_name_real_releases() {
        fn check(kind: &Kind) {
            match kind {
                Kind::Directory(table) => {
                    assert!(
                        table.is_sorted_by(|one, next| one.name < next.name),
                        "out of order"
                    );
                    for category in *table {
                        let since = category.since;
                        assert!(
                            since == "1.0" || (since.len() == 10 && since > "2007"),
                            "{}: {since}",
                            category.name
                        );
                        check(&category.kind);
                    }
                }
                Kind::Each(_, kind) => check(kind),
                Kind::Leaf(_) | Kind::Dated(_) | Kind::Octets(_) => {}
            }
        }
        check(&TOP);
    }
}
