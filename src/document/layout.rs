//! The four layouts of a document: the whole output of `aws ec2 describe-instances`, one
//! reservation of it, an array of instances, or one instance.

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
        imds.owner_id = imds.owner_id.take().or(owner_id);
        imds.reservation_id = imds.reservation_id.take().or(reservation_id);
        imds.requester_id = imds.requester_id.take().or(requester_id);
        if imds.reservation_groups.is_empty() {
            imds.reservation_groups = groups;
        }
    }
}

/// Returns the instances of a document in any layout.
pub(super) fn instances_in(document: Value, faults: &mut Vec<PathFault>) -> Vec<RawInstance> {
    let root = JsonPath::root();
    match document {
        Value::Object(mut output) if output.contains_key("Reservations") => {
            let path = root.key("Reservations");
            let reservations = elements(path, output.remove("Reservations"), faults);
            let reservations =
                reservations.into_iter().flat_map(|(path, reservation)| {
                    match object(&path, "a reservation", reservation, faults) {
                        Some(members) => instances_in_reservation(&path, members, faults),
                        None => Vec::new(),
                    }
                });
            reservations.collect()
        }
        Value::Object(members) if members.contains_key("Instances") => {
            instances_in_reservation(&root, members, faults)
        }
        Value::Object(members) => vec![RawInstance {
            path: root,
            members,
            reservation: ReservationFields::default(),
        }],
        array @ Value::Array(_) => {
            instances_in_array(root, Some(array), ReservationFields::default(), faults)
        }
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
