//! Which values count as absent when an instance is read or written as JSON.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{BorrowedStrDeserializer, StrDeserializer};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

/// Deserializes a value that is a text in JSON (a string, an address, a time), where EC2 and other
/// tools print `""` for "none": an empty text becomes `None`.
pub(super) fn empty_is_absent<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    from.deserialize_option(TextVisitor(PhantomData))
}

/// Reads a text without a copy of it in between.
struct TextVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for TextVisitor<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_none<E: Error>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Option<T>, D::Error> {
        from.deserialize_str(self)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Option<T>, E> {
        match text {
            "" => Ok(None),
            text => T::deserialize(StrDeserializer::new(text)).map(Some),
        }
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Option<T>, E> {
        match text {
            "" => Ok(None),
            text => T::deserialize(BorrowedStrDeserializer::new(text)).map(Some),
        }
    }
}

/// Returns whether a value is its type's default, which is not written.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
