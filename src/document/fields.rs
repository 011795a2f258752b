//! The names of the fields that a document can have, and the check for misspelled ones.

use serde_json::{Map, Value};

use crate::document::json_path::{JsonPath, PathFault, Place};
use crate::document::near_miss::{hint, near_miss};
use crate::instance::other_fields;
use crate::instance::{OptionsUpdate, OtherFields};

/// The fields of an instance that imdsd reads. Others are kept in `Instance::other`.
#[rustfmt::skip]
pub(super) const INSTANCE_FIELDS: &[&str] = &[
    "InstanceId", "LaunchTime", "State", "ImageId", "InstanceType", "AmiLaunchIndex", "Architecture", "Placement",
    "MetadataOptions", "PrivateDnsName", "PublicDnsName", "PrivateIpAddress", "PublicIpAddress", "Ipv6Address",
    "SubnetId", "VpcId", "KeyName", "KernelId", "RamdiskId", "InstanceLifecycle", "RootDeviceName", "RootDeviceType",
    "VirtualizationType", "Hypervisor", "ClientToken", "StateTransitionReason", "StateReason", "EbsOptimized",
    "EnaSupport", "SourceDestCheck", "EnclaveOptions", "Monitoring", "HibernationOptions",
    "IamInstanceProfile", "ProductCodes", "BlockDeviceMappings", "SecurityGroups", "NetworkInterfaces", "Tags",
];

/// The object that EC2 does not print.
pub(super) const IMDS: &str = "Imds";

/// The fields that `MetadataOptions` can have. `State` is read-only; EC2 prints it there.
pub(super) const OPTION_FIELDS: [&str; 6] = [
    "State",
    "HttpTokens",
    "HttpPutResponseHopLimit",
    "HttpEndpoint",
    "HttpProtocolIpv6",
    "InstanceMetadataTags",
];

/// Returns whether imdsd reads a top-level field of an instance.
pub(super) fn is_instance_field(field: &str) -> bool {
    field == IMDS || INSTANCE_FIELDS.contains(&field)
}

/// Returns the top-level fields that imdsd does not read. As in those that it reads, null means
/// absent.
pub(super) fn unread_fields(instance: Value) -> OtherFields {
    match instance {
        Value::Object(members) => members
            .into_iter()
            .filter(|(field, value)| !is_instance_field(field) && !value.is_null())
            .collect(),
        _ => OtherFields::default(),
    }
}

/// Returns a fault for each misspelled field. An instance keeps unknown fields, and deserializing
/// ignores unknown options.
pub(super) fn misspelled_fields(instance: &Map<String, Value>) -> Vec<PathFault> {
    let root = Place::root();
    let mut faults = near_misses(instance);
    faults.extend(misspelled_options(instance));
    faults.extend(misplaced_options(instance));
    for (field, member) in instance.iter().filter(|(field, _)| *field != IMDS) {
        uncapitalized_fields(&root.key(field), member, &mut faults);
    }
    faults
}

/// Returns a warning for each unknown metadata option next to all known ones: EC2 adds options over
/// time, and a document that a newer AWS CLI printed has them.
pub(super) fn ignored_options(instance: &Map<String, Value>) -> Vec<PathFault> {
    match options_of(instance) {
        Some(options) if has_all_options(options) => {
            let message =
                |_: &str| "is not a metadata option that imdsd knows; it is ignored".into();
            unknown_options(options, message)
        }
        _ => Vec::new(),
    }
}

/// Returns a fault for each unknown metadata option where a known one is absent: it may be meant for
/// that one. A misspelled `HttpEndpoint` would leave open what the operator closed.
fn misspelled_options(instance: &Map<String, Value>) -> Vec<PathFault> {
    match options_of(instance) {
        Some(options) if !has_all_options(options) => unknown_options(options, |field| {
            format!("is not known{}", hint(field, &OPTION_FIELDS))
        }),
        _ => Vec::new(),
    }
}

fn options_of(instance: &Map<String, Value>) -> Option<&Map<String, Value>> {
    instance.get("MetadataOptions")?.as_object()
}

fn has_all_options(options: &Map<String, Value>) -> bool {
    OptionsUpdate::NAMES
        .iter()
        .all(|name| options.contains_key(*name))
}

fn unknown_options(
    options: &Map<String, Value>,
    message: impl Fn(&str) -> String,
) -> Vec<PathFault> {
    let path = JsonPath::root().key("MetadataOptions");
    let unknown = options
        .keys()
        .filter(|field| !OPTION_FIELDS.contains(&field.as_str()));
    unknown
        .map(|field| PathFault::new(path.key(field), message(field)))
        .collect()
}

/// Finds objects of an unknown name that have metadata options, which would be ignored.
fn misplaced_options(instance: &Map<String, Value>) -> Vec<PathFault> {
    let has_option = |value: &Value| {
        let members = value.as_object();
        members.is_some_and(|members| {
            OptionsUpdate::NAMES
                .iter()
                .any(|name| members.contains_key(*name))
        })
    };
    let misplaced = instance
        .iter()
        .filter(|(field, value)| *field != "MetadataOptions" && has_option(value));
    misplaced
        .map(|(field, _)| {
            let message = "is not known and has metadata options; did you mean MetadataOptions?";
            PathFault::new(JsonPath::root().key(field), message)
        })
        .collect()
}

/// Finds top-level fields that are close to a known one.
fn near_misses(instance: &Map<String, Value>) -> Vec<PathFault> {
    let others = || other_fields::INSTANCE.iter().map(|field| field.json);
    let is_other = |field: &str| others().any(|other| other == field);
    let unknown: Vec<&String> = instance
        .keys()
        .filter(|field| !is_instance_field(field) && !is_other(field))
        .collect();
    // Distances cost much more than the rest of reading a document.
    if unknown.is_empty() {
        return Vec::new();
    }
    let known: Vec<&str> = INSTANCE_FIELDS
        .iter()
        .copied()
        .chain([IMDS])
        .chain(others())
        .collect();
    unknown
        .into_iter()
        .filter_map(|field| {
            let meant = near_miss(field, &known)?;
            let message = format!("is not known; did you mean {meant}?");
            Some(PathFault::new(JsonPath::root().key(field), message))
        })
        .collect()
}

/// Finds fields that begin with a lower-case letter. All of EC2's fields begin with a capital
/// letter; any other would be ignored.
fn uncapitalized_fields(place: &Place<'_>, value: &Value, faults: &mut Vec<PathFault>) {
    match value {
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                uncapitalized_fields(&place.index(index), element, faults);
            }
        }
        Value::Object(members) => {
            for (field, member) in members {
                let place = place.key(field);
                if field.starts_with(|c: char| c.is_ascii_lowercase()) {
                    let message = "is not known: EC2's fields begin with a capital letter";
                    faults.push(PathFault::new(place.path(), message));
                }
                uncapitalized_fields(&place, member, faults);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
