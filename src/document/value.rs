//! An instance as one JSON object, and back.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::document::fields::{is_instance_field, unread_fields};
use crate::document::json_text::{JsonText, write_members};
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
    let direct = || -> serde_json::Result<Instance> {
        let mut instance: Instance = serde_json::from_str(text)?;
        let UnreadFields(other) = serde_json::from_str(text)?;
        instance.other = other;
        instance.shrink_to_fit();
        Ok(instance)
    };
    match direct() {
        Ok(instance) => Ok(instance),
        // The tree decides, and its errors name the field.
        Err(_) => from_value(serde_path_to_error::deserialize(
            &mut serde_json::Deserializer::from_str(text),
        )?),
    }
}

/// The top-level fields of an instance that imdsd does not read.
struct UnreadFields(OtherFields);

impl<'de> Deserialize<'de> for UnreadFields {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct UnreadVisitor;

        impl<'de> Visitor<'de> for UnreadVisitor {
            type Value = Map<String, Value>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
                let mut fields = Map::new();
                while let Some(field) = object.next_key::<String>()? {
                    match is_instance_field(&field) {
                        true => drop(object.next_value::<IgnoredAny>()?),
                        false => drop(fields.insert(field, object.next_value()?)),
                    }
                }
                fields.retain(|_, value: &mut Value| !value.is_null());
                Ok(fields)
            }
        }

        let fields = from.deserialize_map(UnreadVisitor)?;
        Ok(UnreadFields(OtherFields::from(fields)))
    }
}
