//! Which values count as absent when an instance is read or written as JSON.

use serde::{Deserialize, Deserializer};

/// Deserializes a text where EC2 prints `""` for "none": an empty text becomes `None`.
pub(super) fn empty_is_absent<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.filter(|text| !text.is_empty()))
}

/// Returns whether a value is its type's default, which is not written.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
