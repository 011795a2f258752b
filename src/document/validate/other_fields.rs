//! Types of the fields that imdsd keeps and does not read. A client of the EC2 API fails on a reply
//! in which a field has another type than in EC2's model.

use jiff::Timestamp;
use serde_json::Value;

use crate::document::deserialize::TIME;
use crate::document::json_path::{JsonPath, PathFault, kind_of};
use crate::instance::other_fields::{self, FieldKind, OtherField};
use crate::instance::{Association, Instance, OtherFields};

pub(super) fn check_other_fields(instance: &Instance, faults: &mut Vec<PathFault>) {
    let mut check = |path: JsonPath, table: &[OtherField], fields: &OtherFields| {
        if !fields.is_empty() {
            let values = fields.values();
            check_fields(&path, table, |name| values.get(name), faults);
        }
    };
    let root = JsonPath::root();
    check(root.clone(), other_fields::INSTANCE, &instance.other);
    check(
        root.key("Placement"),
        other_fields::PLACEMENT,
        &instance.placement.other,
    );
    let devices = root.key("BlockDeviceMappings");
    for (index, device) in instance.block_device_mappings.iter().enumerate() {
        if let Some(ebs) = &device.ebs {
            let path = devices.index(index).key("Ebs");
            check(path, other_fields::EBS_VOLUME, &ebs.other);
        }
    }
    let interfaces = root.key("NetworkInterfaces");
    for (index, interface) in instance.network_interfaces.iter().enumerate() {
        let path = interfaces.index(index);
        check(
            path.clone(),
            other_fields::NETWORK_INTERFACE,
            &interface.other,
        );
        check(
            path.key("Attachment"),
            other_fields::INTERFACE_ATTACHMENT,
            &interface.attachment.other,
        );
        let mut check_association = |path: JsonPath, association: &Option<Association>| {
            if let Some(association) = association {
                let path = path.key("Association");
                check(path, other_fields::ASSOCIATION, &association.other);
            }
        };
        check_association(path.clone(), &interface.association);
        for (index, address) in interface.private_ip_addresses.iter().enumerate() {
            let path = path.key("PrivateIpAddresses").index(index);
            check_association(path, &address.association);
        }
        for (index, address) in interface.ipv6_addresses.iter().enumerate() {
            let path = path.key("Ipv6Addresses").index(index);
            check(path, other_fields::IPV6_ADDRESS, &address.other);
        }
    }
}

fn check_fields<'v>(
    path: &JsonPath,
    table: &[OtherField],
    value_of: impl Fn(&str) -> Option<&'v Value>,
    faults: &mut Vec<PathFault>,
) {
    for field in table {
        // As in the fields that imdsd reads, null means absent.
        let value = value_of(field.json).filter(|value| !value.is_null());
        if let Some(value) = value {
            check_value(path.key(field.json), field.kind, value, faults);
        }
    }
}

fn check_value(path: JsonPath, kind: FieldKind, value: &Value, faults: &mut Vec<PathFault>) {
    let expected = match (kind, value) {
        (FieldKind::Text, Value::String(_)) | (FieldKind::Boolean, Value::Bool(_)) => return,
        (FieldKind::Integer, Value::Number(number)) => {
            let is_integer = number.as_i64().is_some_and(|n| i32::try_from(n).is_ok());
            if !is_integer {
                let message = "expected a whole number of 32 bits";
                faults.push(PathFault::new(path, message));
            }
            return;
        }
        (FieldKind::Time, Value::String(text)) => {
            if text.parse::<Timestamp>().is_err() {
                faults.push(PathFault::new(
                    path,
                    format!("expected a time such as {TIME}"),
                ));
            }
            return;
        }
        (FieldKind::Structure(table), Value::Object(members)) => {
            return check_fields(&path, table, |name| members.get(name), faults);
        }
        (FieldKind::List(table), Value::Array(elements)) => {
            for (index, element) in elements.iter().enumerate() {
                check_value(
                    path.index(index),
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
    faults.push(PathFault::new(path, message));
}
