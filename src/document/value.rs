//! An instance as one JSON object, and back.

use serde_json::{Map, Value};

use crate::document::fields::unread_fields;
use crate::instance::Instance;

/// Returns an instance as one JSON object: its fields, and those that EC2 prints and imdsd does not
/// read.
pub fn to_value(instance: &Instance) -> Value {
    let mut members: Map<String, Value> = instance
        .other
        .iter()
        .map(|(field, value)| (field.clone(), value.clone()))
        .collect();
    match serde_json::to_value(instance) {
        // The fields are added last, so a member of `other` cannot replace one.
        Ok(Value::Object(fields)) => members.extend(fields),
        _ => unreachable!("an instance is an object, and all its keys are strings"),
    }
    Value::Object(members)
}

/// Reads what [`to_value`] returned. The instance was validated before it was written: unlike
/// [`read`](super::read()) this returns only the first fault of a value, and does not check
/// [`faults`](super::faults).
pub fn from_value(value: Value) -> Result<Instance, serde_path_to_error::Error<serde_json::Error>> {
    let mut instance: Instance = serde_path_to_error::deserialize(&value)?;
    instance.other = unread_fields(value);
    Ok(instance)
}
