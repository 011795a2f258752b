//! An instance as one JSON object, and back.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, Visitor,
};
use serde::ser::{Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::document::fields::{is_instance_field, unread_fields};
use crate::document::json_text::{JsonText, write_members};
use crate::instance::other_fields::FieldName;
use crate::instance::{Instance, OtherFields};

/// Returns an instance as one JSON object: its fields, and those that EC2 prints and imdsd does not
/// read.
pub fn to_value(instance: &Instance) -> Value {
    let mut members: Map<String, Value> = instance.other.values();
    match serde_json::to_value(instance) {
        // The fields are added last, so a member of `other` cannot replace one.
        Ok(Value::Object(fields)) => members.extend(fields),
        _ => unreachable!("an instance is an object, and all its keys are strings"),
    }
    Value::Object(members)
}

/// An instance with the fields that imdsd does not read. It is written with the fields and values of
/// [`to_value`], in another order, without a tree of values in between: each change of an instance
/// writes it.
pub struct WholeInstance<'i>(pub &'i Instance);

impl Serialize for WholeInstance<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Whole<'i> {
            #[serde(flatten)]
            instance: &'i Instance,
            #[serde(flatten)]
            other: UnreadOf<'i>,
        }

        let WholeInstance(instance) = self;
        let other = UnreadOf(&instance.other);
        Whole { instance, other }.serialize(to)
    }
}

/// The top-level fields that imdsd does not read. None of them can replace one that it reads.
struct UnreadOf<'i>(&'i OtherFields);

impl Serialize for UnreadOf<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let fields = self.0.texts().into_iter();
        to.collect_map(fields.filter(|(field, _)| !is_instance_field(field)))
    }
}

/// Returns the text of [`to_value`]: keys are sorted, and nothing separates tokens. It is written
/// without a tree of values, which costs more than reading the instance did.
pub fn sorted_text(instance: &Instance) -> String {
    let fields = serde_json::to_string(instance).expect("all keys of an instance are strings");
    let (fields, other) = (
        JsonText::of(&fields),
        JsonText::of(instance.other.as_text()),
    );
    let mut text = String::new();
    // The fields are last, so a member of `other` cannot replace one.
    let objects = other.root().into_iter().chain(fields.root());
    write_members(objects.flat_map(|object| object.children()), &mut text);
    text
}

/// Reads what [`to_value`] returned. The instance was validated before it was written: unlike
/// [`read`](super::read()) this returns only the first fault of a value, and does not check
/// [`faults`](super::faults).
pub fn from_value(value: Value) -> Result<Instance, serde_path_to_error::Error<serde_json::Error>> {
    let mut instance: Instance = serde_path_to_error::deserialize(&value)?;
    instance.other = unread_fields(value);
    Ok(instance)
}

/// Reads the text of what [`to_value`] returned. Equal to [`from_value`], but without a tree of
/// values in between, which costs more than all the rest: a start reads thousands of records.
pub fn from_text(text: &str) -> Result<Instance, serde_path_to_error::Error<serde_json::Error>> {
    match InstanceReader::default().read(text) {
        Ok(instance) => Ok(instance),
        // The tree decides, and its errors name the field.
        Err(_) => from_value(serde_path_to_error::deserialize(
            &mut serde_json::Deserializer::from_str(text),
        )?),
    }
}

/// Like [`from_text`], in the same pass in which the text of one field is checked. `None` if the
/// text cannot be read, or does not have that field exactly once, or it does not pass. What is wrong with it
/// must be found out by other means.
pub fn from_checked_text(
    text: &str,
    field: &str,
    is_valid: impl Fn(&str) -> bool,
) -> Option<Instance> {
    let mut reader = InstanceReader {
        checked: Some(CheckedField {
            name: field,
            is_valid: &is_valid,
        }),
        ..InstanceReader::default()
    };
    let instance = reader.read(text).ok()?;
    (reader.checked_count == 1).then_some(instance)
}

/// Reads an instance and the fields that imdsd does not read in one pass.
#[derive(Default)]
struct InstanceReader<'c> {
    /// The top-level fields that imdsd does not read.
    other: Map<String, Value>,
    checked: Option<CheckedField<'c>>,
    checked_count: usize,
}

/// A field whose text is checked.
#[derive(Clone, Copy)]
struct CheckedField<'c> {
    name: &'c str,
    is_valid: &'c dyn Fn(&str) -> bool,
}

impl InstanceReader<'_> {
    fn read(&mut self, text: &str) -> serde_json::Result<Instance> {
        let mut from = serde_json::Deserializer::from_str(text);
        let mut instance = from.deserialize_map(&mut *self)?;
        from.end()?;
        // As in the fields that imdsd reads, null means absent.
        self.other.retain(|_, value| !value.is_null());
        instance.other = OtherFields::from(std::mem::take(&mut self.other));
        instance.shrink_to_fit();
        Ok(instance)
    }
}

impl<'de> Visitor<'de> for &mut InstanceReader<'_> {
    type Value = Instance;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<Instance, A::Error> {
        let fields = ReadFields {
            object,
            reader: self,
            is_checked: false,
        };
        Instance::deserialize(MapAccessDeserializer::new(fields))
    }
}

/// The fields of an object that imdsd reads. The others are noted as they are met.
struct ReadFields<'r, 'c, A> {
    object: A,
    reader: &'r mut InstanceReader<'c>,
    /// Whether the value that is next is that of the checked field.
    is_checked: bool,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for ReadFields<'_, '_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        while let Some(FieldName(key)) = self.object.next_key()? {
            if is_instance_field(&key) {
                let checked = self.reader.checked;
                self.is_checked = checked.is_some_and(|checked| checked.name == key);
                return seed.deserialize(key.into_deserializer()).map(Some);
            }
            let value = self.object.next_value()?;
            self.reader.other.insert(key.into_owned(), value);
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        let checked = self.reader.checked.filter(|_| self.is_checked);
        let Some(CheckedField { name, is_valid }) = checked else {
            return self.object.next_value_seed(seed);
        };
        let text = self.object.next_value::<&RawValue>()?.get();
        if !is_valid(text) {
            return Err(A::Error::custom(format_args!("{name} is not valid")));
        }
        self.reader.checked_count += 1;
        let mut from = serde_json::Deserializer::from_str(text);
        seed.deserialize(&mut from).map_err(A::Error::custom)
    }
}
