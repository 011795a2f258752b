//! DescribeInstances: instances as EC2 prints them, by id, by filter, in pages. Terminated instances stay visible.
//!
//! Instances come in the order of their ids. A page is counted in instances, so a reservation may be continued on the
//! next one. A page's token holds the last id shown: it stays good when instances come and go, and over a restart.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{read_instance_id, write_options};
use crate::clock::iso_milliseconds;
use crate::control::error::{Code, Ec2Error};
use crate::control::filters::Filters;
use crate::control::params::{Parameters, flag};
use crate::control::reply::RequestId;
use crate::control::xml::{Document, NAMESPACE, Xml};
use crate::instance::{
    Association, BlockDevice, InstanceId, InterfaceAttachment, NetworkInterface, PrivateAddress, SecurityGroup,
};
use crate::registry::{Entry, Snapshot};

/// What a page's token begins with once decoded, so that other base64 is not taken for one.
const TOKEN_PREFIX: &str = "imdsd:";

/// The input of one call: complete and well-formed, not checked against the instances yet.
pub(super) struct DescribeInstances {
    /// None: all instances.
    instance_ids: BTreeSet<InstanceId>,
    filters: Filters,
    max_results: Option<usize>,
    /// Everything up to this id was on earlier pages.
    after: Option<InstanceId>,
    dry_run: bool,
}

impl DescribeInstances {
    pub(super) fn read(mut parameters: Parameters) -> Result<Self, Ec2Error> {
        let instance_ids = parameters.take_list("InstanceId");
        let filters = parameters.take_filters();
        let max_results = parameters.take("MaxResults");
        let next_token = parameters.take("NextToken");
        let managed = parameters.take("IncludeManagedResources");
        let dry_run = parameters.take("DryRun");
        parameters.finish()?;

        if instance_ids.iter().any(String::is_empty) {
            return Err(Ec2Error::missing_parameter("InstanceId"));
        }
        for (name, present) in [("maxResults", max_results.is_some()), ("nextToken", next_token.is_some())] {
            if present && !instance_ids.is_empty() {
                let message = format!("The parameter instancesSet cannot be used with the parameter {name}");
                return Err(Ec2Error::new(Code::InvalidParameterCombination, message));
            }
        }
        // There are no managed instances here, with or without the flag.
        flag("IncludeManagedResources", managed.as_deref())?;
        Ok(DescribeInstances {
            instance_ids: instance_ids.iter().map(|id| read_instance_id(id)).collect::<Result<_, _>>()?,
            filters: Filters::read(filters)?,
            max_results: max_results.map(|value| read_max_results(&value)).transpose()?,
            after: next_token.map(|token| read_token(&token)).transpose()?,
            dry_run: flag("DryRun", dry_run.as_deref())?,
        })
    }

    pub(super) fn perform(&self, snapshot: &Snapshot, request_id: &RequestId) -> Result<Document, Ec2Error> {
        let entries = self.asked_for(snapshot)?;
        if self.dry_run {
            return Err(Ec2Error::dry_run());
        }
        let not_shown_yet = |entry: &&Arc<Entry>| self.after.as_ref().is_none_or(|id| entry.instance.instance_id > *id);
        let mut matching = entries.into_iter().filter(not_shown_yet).filter(|entry| self.filters.match_entry(entry));
        let page: Vec<_> = matching.by_ref().take(self.max_results.unwrap_or(usize::MAX)).collect();
        let last = page.last().filter(|_| matching.next().is_some()).map(|entry| &entry.instance.instance_id);
        Ok(Xml::document("DescribeInstancesResponse", Some(NAMESPACE), |xml| {
            xml.text("requestId", request_id);
            xml.set("reservationSet", reservations(&page), |xml, reservation| reservation.write(xml));
            xml.optional("nextToken", last.map(write_token));
        }))
    }

    /// The instances asked for by id, or all. An id that does not exist fails the whole call.
    fn asked_for<'s>(&self, snapshot: &'s Snapshot) -> Result<Vec<&'s Arc<Entry>>, Ec2Error> {
        if self.instance_ids.is_empty() {
            return Ok(snapshot.entries().collect());
        }
        if let Some(id) = self.instance_ids.iter().find(|id| snapshot.is_unreadable(id)) {
            return Err(Ec2Error::unreadable(id));
        }
        let absent = self.instance_ids.iter().filter(|id| snapshot.entry(id).is_none());
        let absent: Vec<_> = absent.map(InstanceId::to_string).collect();
        if !absent.is_empty() {
            return Err(Ec2Error::none_found(&absent));
        }
        Ok(self.instance_ids.iter().filter_map(|id| snapshot.entry(id)).collect())
    }
}

fn read_max_results(value: &str) -> Result<usize, Ec2Error> {
    let refuse = |expecting: &str| {
        let message = format!("Value ( {value} ) for parameter maxResults is invalid. Expecting {expecting}.");
        Err(Ec2Error::new(Code::InvalidParameterValue, message))
    };
    match value.parse::<i64>() {
        // EC2's sentence says greater than 5; 5 itself is accepted.
        Ok(..5) => refuse("a value greater than 5"),
        Ok(results) if results <= 1000 => Ok(usize::try_from(results).unwrap_or(1000)),
        Ok(_) => refuse("a value less than or equal to 1000"),
        Err(_) => refuse("an integer"),
    }
}

fn write_token(last: &InstanceId) -> String {
    URL_SAFE_NO_PAD.encode(format!("{TOKEN_PREFIX}{last}"))
}

fn read_token(token: &str) -> Result<InstanceId, Ec2Error> {
    let text = URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let id = text.as_deref().and_then(|text| text.strip_prefix(TOKEN_PREFIX)).and_then(InstanceId::parse);
    id.ok_or_else(|| Ec2Error::new(Code::InvalidNextToken, format!("The token '{token}' is invalid")))
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
        let (owner_id, reservation_id) = (entry.instance.owner_id(), entry.instance.reservation_id().into_owned());
        let place = *places.entry((owner_id, reservation_id.clone())).or_insert(reservations.len());
        if place == reservations.len() {
            reservations.push(Reservation { reservation_id, owner_id, entries: Vec::new() });
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
        xml.set("instancesSet", &self.entries, |xml, entry| write_instance(xml, entry));
    }
}

/// Elements that real EC2 prints empty are printed empty; those that it leaves out are left out.
fn write_instance(xml: &mut Xml, entry: &Entry) {
    let instance = &entry.instance;
    xml.text("instanceId", &instance.instance_id);
    xml.text("imageId", &instance.image_id);
    xml.element("instanceState", |xml| {
        xml.text("code", instance.state.code());
        xml.text("name", instance.state.as_str());
    });
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
        xml.optional("availabilityZoneId", placement.availability_zone_id.as_ref());
        xml.text("groupName", or_empty(&placement.group_name));
        xml.text("tenancy", placement.tenancy.as_deref().unwrap_or("default"));
        xml.optional("hostId", placement.host_id.as_ref());
        xml.optional("partitionNumber", placement.partition_number);
    });
    xml.optional("kernelId", instance.kernel_id.as_ref());
    xml.optional("ramdiskId", instance.ramdisk_id.as_ref());
    xml.element("monitoring", |xml| {
        xml.text("state", instance.monitoring.as_ref().map_or("disabled", |monitoring| &monitoring.state));
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
    xml.set("blockDeviceMapping", &instance.block_device_mappings, write_block_device);
    xml.optional("virtualizationType", instance.virtualization_type.as_ref());
    xml.optional("hypervisor", instance.hypervisor.as_ref());
    xml.text("clientToken", or_empty(&instance.client_token));
    if !instance.tags.is_empty() {
        xml.set("tagSet", &instance.tags, |xml, tag| {
            xml.text("key", &tag.key);
            xml.text("value", &tag.value);
        });
    }
    xml.set("networkInterfaceSet", &instance.network_interfaces, write_interface);
    if let Some(profile) = &instance.iam_instance_profile {
        xml.element("iamInstanceProfile", |xml| {
            xml.text("arn", &profile.arn);
            xml.text("id", &profile.id);
        });
    }
    xml.optional("instanceLifecycle", instance.instance_lifecycle.as_ref());
    if let Some(hibernation) = &instance.hibernation_options {
        xml.element("hibernationOptions", |xml| xml.text("configured", hibernation.configured));
    }
    xml.element("metadataOptions", |xml| write_options(xml, entry.options_state(), &instance.metadata_options));
}

fn write_group(xml: &mut Xml, group: &SecurityGroup) {
    xml.text("groupId", &group.group_id);
    xml.text("groupName", &group.group_name);
}

fn write_block_device(xml: &mut Xml, device: &BlockDevice) {
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
    xml.element("attachment", |xml| write_attachment(xml, &interface.attachment));
    // The public address of an interface is that of its primary private address.
    let primary = interface.private_ip_addresses.iter().find(|address| address.primary);
    write_association(xml, primary.and_then(|address| address.association.as_ref()));
    xml.set("privateIpAddressesSet", &interface.private_ip_addresses, write_private_address);
    xml.set("ipv6AddressesSet", &interface.ipv6_addresses, |xml, address| {
        xml.text("ipv6Address", address.ipv6_address);
    });
    if !interface.ipv4_prefixes.is_empty() {
        xml.set("ipv4PrefixSet", &interface.ipv4_prefixes, |xml, prefix| xml.text("ipv4Prefix", &prefix.ipv4_prefix));
    }
    if !interface.ipv6_prefixes.is_empty() {
        xml.set("ipv6PrefixSet", &interface.ipv6_prefixes, |xml, prefix| xml.text("ipv6Prefix", &prefix.ipv6_prefix));
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
    let Some(association) = association else { return };
    xml.element("association", |xml| {
        xml.optional("publicIp", association.public_ip);
        xml.text("publicDnsName", or_empty(&association.public_dns_name));
        xml.optional("ipOwnerId", association.ip_owner_id.as_ref());
    });
}

fn or_empty(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or("")
}
