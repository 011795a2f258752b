//! An instance as EC2 writes it in XML, for the actions that return instances.

use super::render::{write_options, write_state};
use super::xml::Xml;
use crate::clock::iso_milliseconds;
use crate::instance::{
    Association, BlockDevice, Instance, InterfaceAttachment, NetworkInterface, PrivateAddress,
    SecurityGroup,
};
use crate::registry::OptionsState;

/// Writes an instance. Elements that EC2 writes empty are empty here; those that EC2 omits are
/// omitted.
pub(super) fn write_instance(xml: &mut Xml, instance: &Instance, options_state: OptionsState) {
    xml.text("instanceId", &instance.instance_id);
    xml.text("imageId", &instance.image_id);
    write_state(xml, "instanceState", instance.state);
    xml.text("privateDnsName", or_empty(&instance.private_dns_name));
    xml.text("dnsName", or_empty(&instance.public_dns_name));
    xml.text("reason", or_empty(&instance.state_transition_reason));
    xml.optional("keyName", instance.key_name.as_ref());
    xml.text("amiLaunchIndex", instance.ami_launch_index);
    xml.set("productCodes", &instance.product_codes, |xml, code| {
        xml.text("productCode", &code.product_code_id);
        xml.text("type", &code.product_code_type);
    });
    xml.text("instanceType", &instance.instance_type);
    xml.text("launchTime", iso_milliseconds(instance.launch_time));
    xml.element("placement", |xml| {
        let placement = &instance.placement;
        xml.text("availabilityZone", &placement.availability_zone);
        xml.optional(
            "availabilityZoneId",
            placement.availability_zone_id.as_ref(),
        );
        xml.text("groupName", or_empty(&placement.group_name));
        xml.text("tenancy", instance.tenancy());
        xml.optional("hostId", placement.host_id.as_ref());
        xml.optional("partitionNumber", placement.partition_number);
    });
    xml.optional("kernelId", instance.kernel_id.as_ref());
    xml.optional("ramdiskId", instance.ramdisk_id.as_ref());
    xml.element("monitoring", |xml| {
        xml.text("state", instance.monitoring_state());
    });
    xml.optional("subnetId", instance.subnet_id.as_ref());
    xml.optional("vpcId", instance.vpc_id.as_ref());
    xml.optional("privateIpAddress", instance.private_ip_address);
    xml.optional("ipAddress", instance.public_ip_address);
    xml.optional("ipv6Address", instance.ipv6_address);
    xml.set("groupSet", &instance.security_groups, write_group);
    xml.text("architecture", &instance.architecture);
    xml.optional("rootDeviceType", instance.root_device_type.as_ref());
    xml.optional("rootDeviceName", instance.root_device_name.as_ref());
    xml.set(
        "blockDeviceMapping",
        &instance.block_device_mappings,
        write_block_device,
    );
    xml.optional("virtualizationType", instance.virtualization_type.as_ref());
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
        &instance.network_interfaces,
        write_interface,
    );
    if let Some(profile) = &instance.iam_instance_profile {
        xml.element("iamInstanceProfile", |xml| {
            xml.text("arn", &profile.arn);
            xml.text("id", &profile.id);
        });
    }
    xml.optional("instanceLifecycle", instance.instance_lifecycle.as_ref());
    if let Some(hibernation) = &instance.hibernation_options {
        xml.element("hibernationOptions", |xml| {
            xml.text("configured", hibernation.configured)
        });
    }
    xml.element("metadataOptions", |xml| {
        write_options(xml, options_state, &instance.metadata_options)
    });
}

/// Writes a security group.
pub(super) fn write_group(xml: &mut Xml, group: &SecurityGroup) {
    xml.text("groupId", &group.group_id);
    xml.text("groupName", &group.group_name);
}

/// Writes a block device mapping.
pub(super) fn write_block_device(xml: &mut Xml, device: &BlockDevice) {
    xml.text("deviceName", &device.device_name);
    let Some(ebs) = &device.ebs else { return };
    xml.element("ebs", |xml| {
        xml.text("volumeId", &ebs.volume_id);
        xml.optional("status", ebs.status.as_ref());
        xml.optional("attachTime", ebs.attach_time.map(iso_milliseconds));
        xml.optional("deleteOnTermination", ebs.delete_on_termination);
    });
}

fn write_interface(xml: &mut Xml, interface: &NetworkInterface) {
    write_interface_fields(xml, interface);
    xml.element("attachment", |xml| {
        write_attachment(xml, &interface.attachment)
    });
}

/// Writes an interface without its attachment, which has more fields in a list of interfaces.
pub(super) fn write_interface_fields(xml: &mut Xml, interface: &NetworkInterface) {
    xml.text("networkInterfaceId", &interface.network_interface_id);
    xml.optional("subnetId", interface.subnet_id.as_ref());
    xml.optional("vpcId", interface.vpc_id.as_ref());
    xml.text("description", or_empty(&interface.description));
    xml.optional("ownerId", interface.owner_id.as_ref());
    xml.optional("status", interface.status.as_ref());
    xml.text("macAddress", &interface.mac_address);
    xml.optional("privateIpAddress", interface.private_ip_address);
    xml.optional("privateDnsName", interface.private_dns_name.as_ref());
    xml.optional("sourceDestCheck", interface.source_dest_check);
    xml.set("groupSet", &interface.groups, write_group);
    // The public address of an interface is that of its primary private address.
    let primary = interface
        .private_ip_addresses
        .iter()
        .find(|address| address.primary);
    write_association(
        xml,
        primary.and_then(|address| address.association.as_ref()),
    );
    xml.set(
        "privateIpAddressesSet",
        &interface.private_ip_addresses,
        write_private_address,
    );
    xml.set(
        "ipv6AddressesSet",
        &interface.ipv6_addresses,
        |xml, address| {
            xml.text("ipv6Address", address.ipv6_address);
        },
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
}

/// Writes the attachment of an interface.
pub(super) fn write_attachment(xml: &mut Xml, attachment: &InterfaceAttachment) {
    xml.optional("attachmentId", attachment.attachment_id.as_ref());
    xml.text("deviceIndex", attachment.device_index);
    xml.optional("status", attachment.status.as_ref());
    xml.optional("attachTime", attachment.attach_time.map(iso_milliseconds));
    xml.optional("deleteOnTermination", attachment.delete_on_termination);
    xml.optional("networkCardIndex", attachment.network_card_index);
}

fn write_private_address(xml: &mut Xml, address: &PrivateAddress) {
    xml.text("privateIpAddress", address.private_ip_address);
    xml.optional("privateDnsName", address.private_dns_name.as_ref());
    xml.text("primary", address.primary);
    write_association(xml, address.association.as_ref());
}

fn write_association(xml: &mut Xml, association: Option<&Association>) {
    let Some(association) = association else {
        return;
    };
    xml.element("association", |xml| {
        xml.optional("publicIp", association.public_ip);
        xml.text("publicDnsName", or_empty(&association.public_dns_name));
        xml.optional("ipOwnerId", association.ip_owner_id.as_ref());
    });
}

fn or_empty(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or("")
}
