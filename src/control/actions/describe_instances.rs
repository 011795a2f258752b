//! DescribeInstances: instances as EC2 prints them, by id, by filter, in pages. A terminated instance stays for an hour.
//!
//! Instances come in the order of their ids. A page is counted in instances, so a reservation may be continued on the
//! next one. Instances that the caller may not see are left out.

use std::collections::HashMap;
use std::sync::Arc;

use super::{
    Action, Call, Listing, ec2_document, read_instance_ids, shown_state, write_options, write_state,
};
use crate::clock::iso_milliseconds;
use crate::control::error::Ec2Error;
use crate::control::filters::Filters;
use crate::control::pages::{Page, PageParameters};
use crate::control::params::{Parameters, flag};
use crate::control::xml::{Document, Xml};
use crate::instance::{
    Association, BlockDevice, Instance, InstanceId, InterfaceAttachment, NetworkInterface,
    PrivateAddress, SecurityGroup,
};
use crate::registry::{Entry, OptionsState};

/// The input of one call: complete and well-formed, not checked against the instances yet.
pub(super) struct DescribeInstances {
    /// None: all instances.
    instance_ids: Vec<InstanceId>,
    filters: Filters<Entry>,
    page: Page,
    dry_run: bool,
}

impl DescribeInstances {
    pub(super) fn read(mut parameters: Parameters) -> Result<Self, Ec2Error> {
        let instance_ids = parameters.take_list("InstanceId");
        let filters = parameters.take_filters();
        let page = PageParameters::take(&mut parameters);
        let managed = parameters.take("IncludeManagedResources");
        let dry_run = parameters.take("DryRun");
        parameters.finish()?;

        if !instance_ids.is_empty() {
            page.refuse_with_ids()?;
        }
        // There are no managed instances here, with or without the flag.
        flag("IncludeManagedResources", managed.as_deref())?;
        Ok(DescribeInstances {
            instance_ids: read_instance_ids(&instance_ids)?,
            filters: Filters::read(filters)?,
            page: page.read(|text| InstanceId::parse(text).is_some())?,
            dry_run: flag("DryRun", dry_run.as_deref())?,
        })
    }

    pub(super) async fn perform(self, call: &Call<'_>) -> Result<Document, Ec2Error> {
        call.list(move |listing| self.list(&listing)).await
    }

    fn list(&self, listing: &Listing) -> Result<Document, Ec2Error> {
        const ACTION: Action = Action::DescribeInstances;
        let mut entries = listing
            .caller
            .listed(ACTION, &listing.snapshot, &self.instance_ids)?;
        if self.dry_run {
            return Err(Ec2Error::dry_run());
        }
        entries.sort_by(|one, other| one.instance.instance_id.cmp(&other.instance.instance_id));
        let matching = entries
            .into_iter()
            .filter(|entry| self.filters.match_all(entry));
        let (page, next) = self
            .page
            .of(matching, |entry| entry.instance.instance_id.to_string());
        Ok(ec2_document(ACTION, &listing.request_id, |xml| {
            xml.set("reservationSet", reservations(&page), |xml, reservation| {
                reservation.write(xml)
            });
            xml.optional("nextToken", next);
        }))
    }
}

/// Instances that were launched together.
struct Reservation<'e> {
    reservation_id: String,
    owner_id: &'e str,
    entries: Vec<&'e Arc<Entry>>,
}

fn reservations<'e>(entries: &[&'e Arc<Entry>]) -> Vec<Reservation<'e>> {
    let mut reservations: Vec<Reservation<'e>> = Vec::new();
    let mut places = HashMap::new();
    for entry in entries {
        let (owner_id, reservation_id) = (
            entry.instance.owner_id(),
            entry.instance.reservation_id().into_owned(),
        );
        let place = *places
            .entry((owner_id, reservation_id.clone()))
            .or_insert(reservations.len());
        if place == reservations.len() {
            reservations.push(Reservation {
                reservation_id,
                owner_id,
                entries: Vec::new(),
            });
        }
        reservations[place].entries.push(entry);
    }
    reservations
}

impl Reservation<'_> {
    fn write(&self, xml: &mut Xml) {
        xml.text("reservationId", &self.reservation_id);
        xml.text("ownerId", self.owner_id);
        // Groups of EC2-Classic.
        xml.set("groupSet", [(); 0], |_, ()| {});
        xml.set("instancesSet", &self.entries, |xml, entry| {
            write_instance(xml, &entry.instance, shown_state(entry));
        });
    }
}

/// Elements that real EC2 prints empty are printed empty; those that it leaves out are left out.
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

pub(super) fn write_group(xml: &mut Xml, group: &SecurityGroup) {
    xml.text("groupId", &group.group_id);
    xml.text("groupName", &group.group_name);
}

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
    xml.element("attachment", |xml| {
        write_attachment(xml, &interface.attachment)
    });
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

fn write_attachment(xml: &mut Xml, attachment: &InterfaceAttachment) {
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
