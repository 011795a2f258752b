//! An instance as EC2 writes it in XML, for the actions that return instances.
//!
//! Every field of a document comes back: those that imdsd reads are written one by one, the others by
//! the table of [`other_fields`]. Derived facts come from the functions that the metadata tree calls.

use std::borrow::Cow;

use serde_json::Value;

use super::render::{write_options, write_state};
use super::xml::Xml;
use crate::clock::iso_milliseconds;
use crate::instance::other_fields::{self, FieldKind, OtherField};
use crate::instance::{
    Association, BlockDevice, Instance, InterfaceAttachment, Ipv6Address, NetworkInterface,
    OtherFields, Placement, PrivateAddress, ProductCode, SecurityGroup, SharedText,
};
use crate::registry::OptionsState;

/// Writes an instance. Elements that EC2 writes empty are empty here; those that EC2 omits are
/// omitted.
pub(super) fn write_instance(xml: &mut Xml, instance: &Instance, options_state: OptionsState) {
    write_launch(xml, instance);
    write_network(xml, instance);
    write_machine(xml, instance);
    write_features(xml, instance);
    xml.element("metadataOptions", |xml| {
        write_options(xml, options_state, &instance.metadata_options)
    });
    let others = instance.shown_others();
    write_fields(xml, other_fields::INSTANCE, |name| others.get(name));
}

/// Writes what was launched, when and where, and its state.
fn write_launch(xml: &mut Xml, instance: &Instance) {
    xml.text("instanceId", &instance.instance_id);
    xml.text("imageId", &instance.image_id);
    write_state(xml, "instanceState", instance.state);
    let host_name = instance.private_host_name();
    xml.text("privateDnsName", host_name.as_deref().unwrap_or(""));
    xml.text("dnsName", instance.public_host_name().unwrap_or(""));
    xml.text("reason", or_empty(&instance.state_transition_reason));
    xml.optional("keyName", instance.key_name.as_ref());
    xml.text("amiLaunchIndex", instance.ami_launch_index);
    xml.set("productCodes", &instance.product_codes, write_product_code);
    xml.text("instanceType", &instance.instance_type);
    xml.text("launchTime", iso_milliseconds(instance.launch_time));
    xml.element("placement", |xml| write_placement(xml, instance));
    xml.optional("kernelId", instance.kernel_id.as_ref());
    xml.optional("ramdiskId", instance.ramdisk_id.as_ref());
    xml.element("monitoring", |xml| {
        xml.text("state", instance.monitoring_state());
    });
}

fn write_placement(xml: &mut Xml, instance: &Instance) {
    let Placement {
        availability_zone,
        group_name,
        host_id,
        partition_number,
        other,
        // These are derived.
        availability_zone_id: _,
        tenancy: _,
    } = &instance.placement;
    xml.text("availabilityZone", availability_zone);
    xml.optional("availabilityZoneId", instance.availability_zone_id());
    xml.text("groupName", or_empty(group_name));
    xml.text("tenancy", instance.tenancy());
    xml.optional("hostId", host_id.as_ref());
    xml.optional("partitionNumber", *partition_number);
    write_other_fields(xml, other_fields::PLACEMENT, other);
}

/// Writes the addresses and groups of the instance.
fn write_network(xml: &mut Xml, instance: &Instance) {
    xml.optional("subnetId", instance.subnet());
    xml.optional("vpcId", instance.vpc());
    xml.optional("privateIpAddress", instance.primary_private_address());
    xml.optional("ipAddress", instance.public_address());
    xml.optional("ipv6Address", instance.primary_ipv6_address());
    xml.set("groupSet", instance.groups(), write_group);
}

fn write_machine(xml: &mut Xml, instance: &Instance) {
    if let Some(reason) = &instance.state_reason {
        xml.element("stateReason", |xml| {
            xml.optional("code", reason.code.as_ref());
            xml.optional("message", reason.message.as_ref());
        });
    }
    xml.text("architecture", &instance.architecture);
    xml.optional("rootDeviceType", instance.root_device_type.as_ref());
    xml.optional("rootDeviceName", instance.root_device_name.as_ref());
    xml.set("blockDeviceMapping", instance.volumes(), write_block_device);
    xml.text("virtualizationType", instance.virtualization_type());
    xml.optional("hypervisor", instance.hypervisor.as_ref());
    xml.text("clientToken", or_empty(&instance.client_token));
    if !instance.tags.is_empty() {
        xml.set("tagSet", &instance.tags, |xml, tag| {
            xml.text("key", &tag.key);
            xml.text("value", &tag.value);
        });
    }
    xml.set(
        "networkInterfaceSet",
        instance.interfaces(),
        |xml, interface| write_interface(xml, instance, interface),
    );
}

fn write_features(xml: &mut Xml, instance: &Instance) {
    if let Some(profile) = &instance.iam_instance_profile {
        xml.element("iamInstanceProfile", |xml| {
            xml.text("arn", &profile.arn);
            xml.text("id", &profile.id);
        });
    }
    xml.optional("instanceLifecycle", instance.instance_lifecycle.as_ref());
    xml.optional("ebsOptimized", instance.ebs_optimized);
    xml.optional("enaSupport", instance.ena_support);
    xml.optional("sourceDestCheck", instance.shown_source_dest_check());
    if let Some(enclaves) = &instance.enclave_options {
        xml.element("enclaveOptions", |xml| {
            xml.text("enabled", enclaves.enabled)
        });
    }
    if let Some(hibernation) = &instance.hibernation_options {
        xml.element("hibernationOptions", |xml| {
            xml.text("configured", hibernation.configured)
        });
    }
}

/// Writes a security group.
pub(super) fn write_group(xml: &mut Xml, group: &SecurityGroup) {
    xml.text("groupId", &group.group_id);
    xml.text("groupName", &group.group_name);
}

/// Writes a product code.
pub(super) fn write_product_code(xml: &mut Xml, code: &ProductCode) {
    xml.text("productCode", &code.product_code_id);
    xml.not_empty("type", &code.product_code_type);
}

/// Writes a block device mapping.
pub(super) fn write_block_device(xml: &mut Xml, device: &BlockDevice) {
    xml.text("deviceName", &device.device_name);
    let Some(ebs) = &device.ebs else { return };
    xml.element("ebs", |xml| {
        xml.not_empty("volumeId", &ebs.volume_id);
        xml.optional("status", ebs.status.as_ref());
        xml.optional("attachTime", ebs.attach_time.map(iso_milliseconds));
        xml.optional("deleteOnTermination", ebs.delete_on_termination);
        write_other_fields(xml, other_fields::EBS_VOLUME, &ebs.other);
    });
}

fn write_interface(xml: &mut Xml, instance: &Instance, interface: &NetworkInterface) {
    write_interface_fields(xml, instance, interface);
    xml.element("attachment", |xml| {
        write_attachment(xml, &interface.attachment)
    });
}

/// Writes an interface without its attachment, which has more fields in a list of interfaces.
pub(super) fn write_interface_fields(
    xml: &mut Xml,
    instance: &Instance,
    interface: &NetworkInterface,
) {
    xml.not_empty("networkInterfaceId", &interface.network_interface_id);
    xml.optional("subnetId", interface.subnet_id.as_ref());
    xml.optional("vpcId", interface.vpc_id.as_ref());
    xml.text("description", or_empty(&interface.description));
    xml.text("ownerId", instance.interface_owner(interface));
    xml.optional("status", interface.status.as_ref());
    xml.text("macAddress", &interface.mac_address);
    xml.optional("privateIpAddress", interface.private_ip_address);
    xml.optional("privateDnsName", instance.interface_host_name(interface));
    xml.optional("sourceDestCheck", interface.source_dest_check);
    xml.set("groupSet", &interface.groups, write_group);
    write_association(xml, interface.shown_association());
    xml.set(
        "privateIpAddressesSet",
        interface.private_addresses(),
        |xml, address: Cow<'_, PrivateAddress>| write_private_address(xml, &address),
    );
    xml.set(
        "ipv6AddressesSet",
        &interface.ipv6_addresses,
        write_ipv6_address,
    );
    if !interface.ipv4_prefixes.is_empty() {
        xml.set("ipv4PrefixSet", &interface.ipv4_prefixes, |xml, prefix| {
            xml.text("ipv4Prefix", &prefix.ipv4_prefix)
        });
    }
    if !interface.ipv6_prefixes.is_empty() {
        xml.set("ipv6PrefixSet", &interface.ipv6_prefixes, |xml, prefix| {
            xml.text("ipv6Prefix", &prefix.ipv6_prefix)
        });
    }
    write_other_fields(xml, other_fields::NETWORK_INTERFACE, &interface.other);
}

/// Writes the attachment of an interface.
pub(super) fn write_attachment(xml: &mut Xml, attachment: &InterfaceAttachment) {
    xml.optional("attachmentId", attachment.attachment_id.as_ref());
    xml.text("deviceIndex", attachment.device_index);
    xml.optional("status", attachment.status.as_ref());
    xml.optional("attachTime", attachment.attach_time.map(iso_milliseconds));
    xml.optional("deleteOnTermination", attachment.delete_on_termination);
    xml.optional("networkCardIndex", attachment.network_card_index);
    write_other_fields(xml, other_fields::INTERFACE_ATTACHMENT, &attachment.other);
}

fn write_private_address(xml: &mut Xml, address: &PrivateAddress) {
    xml.text("privateIpAddress", address.private_ip_address);
    xml.optional("privateDnsName", address.private_dns_name.as_ref());
    xml.text("primary", address.primary);
    write_association(xml, address.association.as_ref());
}

fn write_ipv6_address(xml: &mut Xml, address: &Ipv6Address) {
    xml.text("ipv6Address", address.ipv6_address);
    write_other_fields(xml, other_fields::IPV6_ADDRESS, &address.other);
}

fn write_association(xml: &mut Xml, association: Option<&Association>) {
    let Some(association) = association else {
        return;
    };
    xml.element("association", |xml| {
        xml.optional("publicIp", association.public_ip);
        xml.text("publicDnsName", or_empty(&association.public_dns_name));
        xml.optional("ipOwnerId", association.ip_owner_id.as_ref());
        write_other_fields(xml, other_fields::ASSOCIATION, &association.other);
    });
}

/// Writes fields that imdsd does not read.
fn write_other_fields(xml: &mut Xml, table: &[OtherField], fields: &OtherFields) {
    if !fields.is_empty() {
        let values = fields.values();
        write_fields(xml, table, |name| values.get(name));
    }
}

fn write_fields<'v>(
    xml: &mut Xml,
    table: &[OtherField],
    value_of: impl Fn(&str) -> Option<&'v Value>,
) {
    for field in table {
        if let Some(value) = value_of(field.json) {
            write_value(xml, field, value);
        }
    }
}

/// Writes one field. Documents are checked when they are read; a value of another type, which only a
/// record from before that check has, is omitted, because clients fail on it.
fn write_value(xml: &mut Xml, field: &OtherField, value: &Value) {
    match (field.kind, value) {
        (FieldKind::Text, Value::String(text)) => xml.text(field.xml, text),
        (FieldKind::Time, Value::String(text)) => {
            let time = text.parse().ok();
            xml.optional(field.xml, time.map(iso_milliseconds));
        }
        (FieldKind::Boolean, Value::Bool(flag)) => xml.text(field.xml, flag),
        (FieldKind::Integer, Value::Number(number)) => {
            xml.optional(field.xml, number.as_i64());
        }
        (FieldKind::Structure(table), Value::Object(members)) => {
            xml.element(field.xml, |xml| {
                write_fields(xml, table, |name| members.get(name));
            });
        }
        (FieldKind::List(table), Value::Array(elements)) => {
            let objects = elements.iter().filter_map(Value::as_object);
            xml.set(field.xml, objects, |xml, members| {
                write_fields(xml, table, |name| members.get(name));
            });
        }
        _ => {}
    }
}

fn or_empty(text: &Option<SharedText>) -> &str {
    text.as_deref().unwrap_or("")
}
