//! DescribeNetworkInterfaces: the interfaces of instances that have an id.

use std::sync::Arc;

use crate::clock::iso_milliseconds;
use crate::control::action::Action;
use crate::control::error::Code;
use crate::control::filters::{FilterValues, Filterable, one, optional};
use crate::control::instance_xml::{write_attachment, write_interface_fields};
use crate::control::resource_list::{
    ListedResource, Name, NotFound, ResourceList, no_tags, write_no_tags,
};
use crate::control::xml::Xml;
use crate::instance::{Instance, NetworkInterface, PrivateAddress, Tag};
use crate::registry::Entry;

/// The input of a call.
pub(super) type DescribeNetworkInterfaces = ResourceList<AttachedInterface>;

/// An interface of an instance.
pub(in crate::control) struct AttachedInterface {
    entry: Arc<Entry>,
    interface: NetworkInterface,
}

impl AttachedInterface {
    fn instance(&self) -> &Instance {
        &self.entry.instance
    }

    fn owner(&self) -> &str {
        self.instance().interface_owner(&self.interface)
    }

    fn addresses(&self, value: impl Fn(&PrivateAddress) -> Option<String>) -> Vec<String> {
        let addresses = self.interface.private_addresses();
        addresses.filter_map(|address| value(&address)).collect()
    }

    fn public_addresses(&self) -> Vec<String> {
        self.addresses(|address| Some(address.association.as_ref()?.public_ip?.to_string()))
    }
}

impl Filterable for AttachedInterface {
    const TAGS: Option<fn(&Self) -> &[Tag]> = Some(no_tags);
    const FILTERS: &'static [(&'static str, FilterValues<Self>)] = &[
        (
            "addresses.association.public-ip",
            AttachedInterface::public_addresses,
        ),
        ("addresses.primary", |attached| {
            attached.addresses(|address| Some(address.primary.to_string()))
        }),
        ("addresses.private-ip-address", |attached| {
            attached.addresses(|address| Some(address.private_ip_address.to_string()))
        }),
        ("association.public-ip", AttachedInterface::public_addresses),
        ("attachment.attach-time", |attached| {
            optional(
                &attached
                    .interface
                    .attachment
                    .attach_time
                    .map(iso_milliseconds),
            )
        }),
        ("attachment.attachment-id", |attached| {
            optional(&attached.interface.attachment.attachment_id)
        }),
        ("attachment.delete-on-termination", |attached| {
            optional(&attached.interface.attachment.delete_on_termination)
        }),
        ("attachment.device-index", |attached| {
            one(attached.interface.attachment.device_index)
        }),
        ("attachment.instance-id", |attached| {
            one(&attached.instance().instance_id)
        }),
        ("attachment.instance-owner-id", |attached| {
            one(attached.instance().owner_id())
        }),
        ("attachment.status", |attached| {
            optional(&attached.interface.attachment.status)
        }),
        ("availability-zone", |attached| {
            one(&attached.instance().placement.availability_zone)
        }),
        ("availability-zone-id", |attached| {
            optional(&attached.instance().availability_zone_id())
        }),
        ("description", |attached| {
            one(attached
                .interface
                .description
                .as_deref()
                .unwrap_or_default())
        }),
        ("group-id", |attached| {
            attached
                .interface
                .groups
                .iter()
                .map(|group| group.group_id.to_string())
                .collect()
        }),
        ("group-name", |attached| {
            attached
                .interface
                .groups
                .iter()
                .map(|group| group.group_name.to_string())
                .collect()
        }),
        ("ipv6-addresses.ipv6-address", |attached| {
            let addresses = attached.interface.ipv6_addresses.iter();
            addresses
                .map(|address| address.ipv6_address.to_string())
                .collect()
        }),
        ("mac-address", |attached| {
            one(&attached.interface.mac_address)
        }),
        ("network-interface-id", |attached| {
            one(&attached.interface.network_interface_id)
        }),
        ("owner-id", |attached| one(attached.owner())),
        ("private-dns-name", |attached| {
            optional(&attached.instance().interface_host_name(&attached.interface))
        }),
        ("private-ip-address", |attached| {
            optional(&attached.interface.private_ip_address)
        }),
        ("requester-managed", |_| one(false)),
        ("source-dest-check", |attached| {
            optional(&attached.interface.source_dest_check)
        }),
        ("status", |attached| optional(&attached.interface.status)),
        ("subnet-id", |attached| {
            optional(&attached.interface.subnet_id)
        }),
        ("tag-key", |_| Vec::new()),
        ("vpc-id", |attached| optional(&attached.interface.vpc_id)),
    ];
}

impl ListedResource for AttachedInterface {
    const ACTION: Action = Action::DescribeNetworkInterfaces;
    const NAMES: &'static [Name<Self>] = &[Name {
        parameter: "NetworkInterfaceId",
        of: |attached| attached.interface.network_interface_id.to_string(),
        unknown: NotFound {
            code: Code::InvalidNetworkInterfaceIdNotFound,
            message: "The networkInterface ID '{}' does not exist",
        },
    }];
    const SET: &'static str = "networkInterfaceSet";
    // No interface is managed here, so the flag changes nothing.
    const FLAG: Option<&'static str> = Some("IncludeManagedResources");

    fn of(entry: &Arc<Entry>) -> Vec<Self> {
        let interfaces = entry.instance.interfaces().iter();
        interfaces
            .filter(|interface| !interface.network_interface_id.is_empty())
            .map(|interface| AttachedInterface {
                entry: Arc::clone(entry),
                interface: interface.clone(),
            })
            .collect()
    }

    fn key(&self) -> String {
        self.interface.network_interface_id.to_string()
    }

    fn write(&self, xml: &mut Xml, _flag: bool) {
        let instance = self.instance();
        write_interface_fields(xml, instance, &self.interface);
        xml.element("attachment", |xml| {
            write_attachment(xml, &self.interface.attachment);
            xml.text("instanceId", &instance.instance_id);
            xml.text("instanceOwnerId", instance.owner_id());
        });
        xml.text("availabilityZone", &instance.placement.availability_zone);
        xml.optional("availabilityZoneId", instance.availability_zone_id());
        xml.text("requesterManaged", false);
        write_no_tags(xml);
    }
}
