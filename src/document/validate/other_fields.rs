//! Types of the fields that imdsd keeps and does not read. A client of the EC2 API fails on a reply
//! in which a field has another type than in EC2's model.

use jiff::Timestamp;
use serde_json::Value;

use crate::document::deserialize::TIME;
use crate::document::json_path::{PathFault, Place, kind_of};
use crate::instance::other_fields::{self, FieldKind, OtherField};
use crate::instance::{Association, Instance, OtherFields};

pub(super) fn check_other_fields(instance: &Instance, faults: &mut Vec<PathFault>) {
    let mut check = |place: Place<'_>, table: &[OtherField], fields: &OtherFields| {
        if !fields.is_empty() {
            let values = fields.values();
            check_fields(&place, table, |name| values.get(name), faults);
        }
    };
    let root = Place::root();
    check(root, other_fields::INSTANCE, &instance.other);
    check(
        root.key("Placement"),
        other_fields::PLACEMENT,
        &instance.placement.other,
    );
    let devices = root.key("BlockDeviceMappings");
    for (index, device) in instance.block_device_mappings.iter().enumerate() {
        if let Some(ebs) = &device.ebs {
            let device = devices.index(index);
            check(device.key("Ebs"), other_fields::EBS_VOLUME, &ebs.other);
        }
    }
    let interfaces = root.key("NetworkInterfaces");
    for (index, interface) in instance.network_interfaces.iter().enumerate() {
        let place = interfaces.index(index);
        check(place, other_fields::NETWORK_INTERFACE, &interface.other);
        check(
            place.key("Attachment"),
            other_fields::INTERFACE_ATTACHMENT,
            &interface.attachment.other,
        );
        let mut check_association = |place: Place<'_>, association: &Option<Association>| {
            if let Some(association) = association {
                let place = place.key("Association");
                check(place, other_fields::ASSOCIATION, &association.other);
            }
        };
        check_association(place, &interface.association);
        let addresses = place.key("PrivateIpAddresses");
        for (index, address) in interface.private_ip_addresses.iter().enumerate() {
            check_association(addresses.index(index), &address.association);
        }
        let addresses = place.key("Ipv6Addresses");
        for (index, address) in interface.ipv6_addresses.iter().enumerate() {
            check(
                addresses.index(index),
                other_fields::IPV6_ADDRESS,
                &address.other,
            );
        }
    }
}

fn check_fields<'v>(
    place: &Place<'_>,
    table: &[OtherField],
    value_of: impl Fn(&str) -> Option<&'v Value>,
    faults: &mut Vec<PathFault>,
) {
    for field in table {
        // As in the fields that imdsd reads, null means absent.
        let value = value_of(field.json).filter(|value| !value.is_null());
        if let Some(value) = value {
            check_value(&place.key(field.json), field.kind, value, faults);
        }
    }
}

fn check_value(place: &Place<'_>, kind: FieldKind, value: &Value, faults: &mut Vec<PathFault>) {
    let expected = match (kind, value) {
        (FieldKind::Text, Value::String(_)) | (FieldKind::Boolean, Value::Bool(_)) => return,
        (FieldKind::Integer, Value::Number(number)) => {
            let is_integer = number.as_i64().is_some_and(|n| i32::try_from(n).is_ok());
            if !is_integer {
                let message = "expected a whole number of 32 bits";
                faults.push(PathFault::new(place.path(), message));
            }
            return;
        }
        (FieldKind::Time, Value::String(text)) => {
            if text.parse::<Timestamp>().is_err() {
                faults.push(PathFault::new(
                    place.path(),
                    format!("expected a time such as {TIME}"),
                ));
            }
            return;
        }
        (FieldKind::Structure(table), Value::Object(members)) => {
            return check_fields(place, table, |name| members.get(name), faults);
        }
        (FieldKind::List(table), Value::Array(elements)) => {
            for (index, element) in elements.iter().enumerate() {
                check_value(
                    &place.index(index),
                    FieldKind::Structure(table),
                    element,
                    faults,
                );
            }
            return;
        }
        (FieldKind::Text | FieldKind::Time, _) => "a string",
        (FieldKind::Boolean, _) => "a boolean",
        (FieldKind::Integer, _) => "a whole number",
        (FieldKind::Structure(_), _) => "an object",
        (FieldKind::List(_), _) => "an array",
    };
    let message = format!("expected {expected}, found {}", kind_of(value));
    faults.push(PathFault::new(place.path(), message));
}
