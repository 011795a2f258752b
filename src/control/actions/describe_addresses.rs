//! DescribeAddresses: the Elastic IP addresses of instances: public addresses that documents show
//! with an account as their owner. Those that EC2 lends to an instance have the owner `amazon`.

use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::control::action::Action;
use crate::control::error::Code;
use crate::control::filters::{FilterValues, Filterable, one, optional};
use crate::control::resource_list::{
    ListedResource, Name, NotFound, ResourceList, derived_id, no_tags, write_no_tags,
};
use crate::control::xml::Xml;
use crate::instance::{InstanceId, Tag};
use crate::registry::Entry;

/// The input of a call.
pub(super) type DescribeAddresses = ResourceList<ElasticAddress>;

/// An Elastic IP address that an instance has.
pub(in crate::control) struct ElasticAddress {
    public_ip: Ipv4Addr,
    private_ip: Ipv4Addr,
    instance_id: InstanceId,
    interface_id: Option<String>,
    owner: String,
    region: String,
}

const DOMAIN: &str = "vpc";

impl ElasticAddress {
    fn allocation_id(&self) -> String {
        derived_id("eipalloc-", &self.public_ip.to_string())
    }

    fn association_id(&self) -> String {
        derived_id("eipassoc-", &self.public_ip.to_string())
    }
}

impl Filterable for ElasticAddress {
    const TAGS: Option<fn(&Self) -> &[Tag]> = Some(no_tags);
    const FILTERS: &'static [(&'static str, FilterValues<Self>)] = &[
        ("allocation-id", |address| one(address.allocation_id())),
        ("association-id", |address| one(address.association_id())),
        ("domain", |_| one(DOMAIN)),
        ("instance-id", |address| one(&address.instance_id)),
        ("network-border-group", |address| one(&address.region)),
        ("network-interface-id", |address| {
            optional(&address.interface_id)
        }),
        ("network-interface-owner-id", |address| one(&address.owner)),
        ("private-ip-address", |address| one(address.private_ip)),
        ("public-ip", |address| one(address.public_ip)),
        ("tag-key", |_| Vec::new()),
    ];
}

impl ListedResource for ElasticAddress {
    const ACTION: Action = Action::DescribeAddresses;
    const NAMES: &'static [Name<Self>] = &[
        Name {
            parameter: "AllocationId",
            of: ElasticAddress::allocation_id,
            unknown: NotFound {
                code: Code::InvalidAllocationIdNotFound,
                message: "The allocation ID '{}' does not exist",
            },
        },
        Name {
            parameter: "PublicIp",
            of: |address| address.public_ip.to_string(),
            unknown: NotFound {
                code: Code::InvalidAddressNotFound,
                message: "Address '{}' not found.",
            },
        },
    ];
    const SET: &'static str = "addressesSet";
    const IS_PAGED: bool = false;

    fn of(entry: &Arc<Entry>) -> Vec<Self> {
        let instance = &entry.instance;
        let mut found = Vec::new();
        for interface in instance.interfaces() {
            for address in interface.private_addresses() {
                let Some(association) = &address.association else {
                    continue;
                };
                let owner = association.ip_owner_id.as_deref().unwrap_or("amazon");
                let (Some(public_ip), false) = (association.public_ip, owner == "amazon") else {
                    continue;
                };
                found.push(ElasticAddress {
                    public_ip,
                    private_ip: address.private_ip_address,
                    instance_id: instance.instance_id.clone(),
                    interface_id: Some(interface.network_interface_id.to_string())
                        .filter(|id| !id.is_empty()),
                    owner: owner.to_string(),
                    region: instance.region().to_string(),
                });
            }
        }
        found
    }

    fn key(&self) -> String {
        self.public_ip.to_string()
    }

    fn write(&self, xml: &mut Xml, _flag: bool) {
        xml.text("publicIp", self.public_ip);
        xml.text("allocationId", self.allocation_id());
        xml.text("associationId", self.association_id());
        xml.text("domain", DOMAIN);
        xml.text("instanceId", &self.instance_id);
        xml.optional("networkInterfaceId", self.interface_id.as_ref());
        xml.text("networkInterfaceOwnerId", &self.owner);
        xml.text("privateIpAddress", self.private_ip);
        xml.text("publicIpv4Pool", "amazon");
        xml.text("networkBorderGroup", &self.region);
        write_no_tags(xml);
    }
}
