//! Which values count as absent when an instance is read or written as JSON.

use serde::de::IntoDeserializer;
use serde::de::value::StringDeserializer;
use serde::{Deserialize, Deserializer};

/// Deserializes a value that is a text in JSON (a string, an address, a time), where EC2 and other
/// tools print `""` for "none": an empty text becomes `None`.
pub(super) fn empty_is_absent<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let text = Option::<String>::deserialize(from)?.filter(|text| !text.is_empty());
    text.map(|text| {
        let text: StringDeserializer<D::Error> = text.into_deserializer();
        T::deserialize(text)
    })
    .transpose()
}

/// Returns whether a value is its type's default, which is not written.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
