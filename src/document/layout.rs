//! The layouts of a document: the whole output of `aws ec2 describe-instances`, one reservation of
//! it, one instance, or an array of any of these, nested to any depth, as `--query` prints them.

use serde_json::{Map, Value};

use crate::document::deserialize::deserialize_all_faults;
use crate::document::json_path::{JsonPath, PathFault, kind_of};
use crate::document::validate::account_fault;
use crate::instance::{Imds, SecurityGroup};

/// An instance of a document that is not deserialized yet.
pub(super) struct RawInstance {
    /// Its path in the document.
    pub(super) path: JsonPath,
    /// Its fields.
    pub(super) members: Map<String, Value>,
    /// The fields of its reservation.
    pub(super) reservation: ReservationFields,
}

/// What EC2 prints in a reservation beside its instances.
#[derive(Clone, Default)]
pub(super) struct ReservationFields {
    owner_id: Option<String>,
    reservation_id: Option<String>,
    requester_id: Option<String>,
    groups: Vec<SecurityGroup>,
}

impl ReservationFields {
    /// Gives an instance the fields that its `Imds` does not name.
    pub(super) fn complete(self, imds: &mut Imds) {
        let ReservationFields {
            owner_id,
            reservation_id,
            requester_id,
            groups,
        } = self;
        imds.owner_id = imds.owner_id.take().or(owner_id.map(Into::into));
        imds.reservation_id = imds
            .reservation_id
            .take()
            .or(reservation_id.map(Into::into));
        imds.requester_id = imds.requester_id.take().or(requester_id.map(Into::into));
        if imds.reservation_groups.is_empty() {
            imds.reservation_groups = groups;
        }
    }
}

/// Returns the instances of a document in any layout.
pub(super) fn instances_in(document: Value, faults: &mut Vec<PathFault>) -> Vec<RawInstance> {
    let root = JsonPath::root();
    match document {
        Value::Object(members) => instances_in_object(root, members, faults),
        Value::Array(elements) => instances_in_query_output(&root, elements, faults),
        other => {
            let message = format!(
                "a document is an object or an array, not {}",
                kind_of(&other)
            );
            faults.push(PathFault::new(root, message));
            Vec::new()
        }
    }
}

/// Returns the instances of a whole output, of a reservation, or the instance that the object is.
fn instances_in_object(
    path: JsonPath,
    mut members: Map<String, Value>,
    faults: &mut Vec<PathFault>,
) -> Vec<RawInstance> {
    if members.contains_key("Reservations") {
        let path = path.key("Reservations");
        let reservations = elements(path, members.remove("Reservations"), faults);
        let reservations = reservations.into_iter().flat_map(|(path, reservation)| {
            match object(&path, "a reservation", reservation, faults) {
                Some(members) => instances_in_reservation(&path, members, faults),
                None => Vec::new(),
            }
        });
        return reservations.collect();
    }
    if members.contains_key("Instances") {
        return instances_in_reservation(&path, members, faults);
    }
    vec![RawInstance {
        path,
        members,
        reservation: ReservationFields::default(),
    }]
}

/// Returns the instances of an array that `--query` printed: `Reservations[*].Instances[*]` gives
/// an array for each reservation, and `Reservations[]` an array of reservations.
fn instances_in_query_output(
    path: &JsonPath,
    elements: Vec<Value>,
    faults: &mut Vec<PathFault>,
) -> Vec<RawInstance> {
    let mut instances = Vec::new();
    for (index, element) in elements.into_iter().enumerate() {
        let path = path.index(index);
        match element {
            Value::Array(nested) => {
                instances.extend(instances_in_query_output(&path, nested, faults));
            }
            element => {
                if let Some(members) = object(&path, "an instance", element, faults) {
                    instances.extend(instances_in_object(path, members, faults));
                }
            }
        }
    }
    instances
}

fn instances_in_reservation(
    path: &JsonPath,
    mut reservation: Map<String, Value>,
    faults: &mut Vec<PathFault>,
) -> Vec<RawInstance> {
    let groups = groups_of(path, reservation.remove("Groups"), faults);
    let mut text = |field: &str| match reservation.remove(field)? {
        Value::Null => None,
        Value::String(text) => match account_fault(&text).filter(|_| field == "OwnerId") {
            None => Some(text),
            Some(message) => {
                faults.push(PathFault::new(path.key(field), message));
                None
            }
        },
        other => {
            let message = format!("expected a string, found {}", kind_of(&other));
            faults.push(PathFault::new(path.key(field), message));
            None
        }
    };
    let fields = ReservationFields {
        owner_id: text("OwnerId"),
        reservation_id: text("ReservationId"),
        requester_id: text("RequesterId"),
        groups,
    };
    instances_in_array(
        path.key("Instances"),
        reservation.remove("Instances"),
        fields,
        faults,
    )
}

/// Returns the security groups of a reservation.
fn groups_of(
    path: &JsonPath,
    value: Option<Value>,
    faults: &mut Vec<PathFault>,
) -> Vec<SecurityGroup> {
    let Some(mut value) = value.filter(|value| !value.is_null()) else {
        return Vec::new();
    };
    let read = deserialize_all_faults::<Vec<SecurityGroup>>(&mut value);
    let path = path.key("Groups");
    let of_groups = read.faults.into_iter();
    faults.extend(of_groups.map(|fault| PathFault::new(path.join(&fault.path), fault.message)));
    read.value.unwrap_or_default()
}

fn instances_in_array(
    path: JsonPath,
    array: Option<Value>,
    reservation: ReservationFields,
    faults: &mut Vec<PathFault>,
) -> Vec<RawInstance> {
    let mut instances = Vec::new();
    for (path, instance) in elements(path, array, faults) {
        if let Some(members) = object(&path, "an instance", instance, faults) {
            instances.push(RawInstance {
                path,
                members,
                reservation: reservation.clone(),
            });
        }
    }
    instances
}

/// Returns the elements of an array with their paths. Anything else, or nothing, is a fault.
fn elements(
    path: JsonPath,
    value: Option<Value>,
    faults: &mut Vec<PathFault>,
) -> Vec<(JsonPath, Value)> {
    let message = match value {
        Some(Value::Array(elements)) => {
            return elements
                .into_iter()
                .enumerate()
                .map(|(index, element)| (path.index(index), element))
                .collect();
        }
        Some(other) => format!("expected an array, found {}", kind_of(&other)),
        None => "is missing".to_string(),
    };
    faults.push(PathFault::new(path, message));
    Vec::new()
}

/// Returns the members of an object. Anything else is a fault.
fn object(
    path: &JsonPath,
    what: &str,
    value: Value,
    faults: &mut Vec<PathFault>,
) -> Option<Map<String, Value>> {
    match value {
        Value::Object(members) => Some(members),
        other => {
            let message = format!("{what} is an object, not {}", kind_of(&other));
            faults.push(PathFault::new(path.clone(), message));
            None
        }
    }
}
