//! DescribeSubnets: the subnets of instances and their interfaces, with the address blocks of
//! `Imds.Subnets`. No subnet is the default of its zone.

use std::sync::Arc;

use crate::control::action::Action;
use crate::control::error::Code;
use crate::control::filters::{FilterValues, Filterable, each_text, one, optional};
use crate::control::resource_list::{
    ListedResource, Name, NotFound, ResourceList, derived_id, no_tags, or_other, write_no_tags,
};
use crate::control::xml::Xml;
use crate::instance::{CidrBlocks, Tag};
use crate::registry::Entry;

/// The input of a call.
pub(super) type DescribeSubnets = ResourceList<UsedSubnet>;

/// A subnet that instances are in.
pub(in crate::control) struct UsedSubnet {
    pub(super) subnet_id: String,
    pub(super) vpc_id: Option<String>,
    owner: String,
    pub(super) zone: String,
    pub(super) zone_id: Option<String>,
    blocks: Option<CidrBlocks>,
    /// How much the instance says that owner and zone come from.
    said: usize,
}

const STATE: &str = "available";

impl Filterable for UsedSubnet {
    const TAGS: Option<fn(&Self) -> &[Tag]> = Some(no_tags);
    // Several filters have a second, older name.
    const FILTERS: &'static [(&'static str, FilterValues<Self>)] = &[
        ("availability-zone", |subnet| one(&subnet.zone)),
        ("availabilityZone", |subnet| one(&subnet.zone)),
        ("availability-zone-id", |subnet| optional(&subnet.zone_id)),
        ("availabilityZoneId", |subnet| optional(&subnet.zone_id)),
        ("cidr", UsedSubnet::ipv4_blocks),
        ("cidr-block", UsedSubnet::ipv4_blocks),
        ("cidrBlock", UsedSubnet::ipv4_blocks),
        ("default-for-az", |_| one(false)),
        ("defaultForAz", |_| one(false)),
        (
            "ipv6-cidr-block-association.ipv6-cidr-block",
            UsedSubnet::ipv6_blocks,
        ),
        ("map-public-ip-on-launch", |_| one(false)),
        ("owner-id", |subnet| one(&subnet.owner)),
        ("state", |_| one(STATE)),
        ("subnet-id", |subnet| one(&subnet.subnet_id)),
        ("tag-key", |_| Vec::new()),
        ("vpc-id", |subnet| optional(&subnet.vpc_id)),
    ];
}

impl UsedSubnet {
    fn new(entry: &Entry, subnet_id: &str, vpc_id: Option<&str>) -> UsedSubnet {
        let instance = &entry.instance;
        let blocks = instance.imds.subnets.get(subnet_id).cloned();
        // A launch does not know where a subnet is that its caller doesn't see.
        let said = [
            entry.launch_request.is_none(),
            vpc_id.is_some(),
            blocks.is_some(),
        ];
        UsedSubnet {
            subnet_id: subnet_id.to_string(),
            vpc_id: vpc_id.map(str::to_string),
            owner: instance.owner_id().to_string(),
            zone: instance.placement.availability_zone.to_string(),
            zone_id: instance.availability_zone_id().map(Into::into),
            blocks,
            said: said.into_iter().filter(|said| *said).count(),
        }
    }

    fn ipv4_blocks(&self) -> Vec<String> {
        let blocks = self.blocks.as_ref();
        blocks.map_or_else(Vec::new, |blocks| each_text(&blocks.ipv4_cidr_blocks))
    }

    fn ipv6_blocks(&self) -> Vec<String> {
        let blocks = self.blocks.as_ref();
        blocks.map_or_else(Vec::new, |blocks| each_text(&blocks.ipv6_cidr_blocks))
    }
}

impl ListedResource for UsedSubnet {
    const ACTION: Action = Action::DescribeSubnets;
    const NAMES: &'static [Name<Self>] = &[Name {
        parameter: "SubnetId",
        of: |subnet| subnet.subnet_id.clone(),
        unknown: NotFound {
            code: Code::InvalidSubnetIdNotFound,
            message: "The subnet ID '{}' does not exist",
        },
    }];
    const SET: &'static str = "subnetSet";

    fn of(entry: &Arc<Entry>) -> Vec<Self> {
        let instance = &entry.instance;
        let of_instance = instance.subnet().map(|id| (id, instance.vpc()));
        let of_interfaces = instance.interfaces().iter().filter_map(|interface| {
            let subnet_id = interface.subnet_id.as_deref()?;
            Some((subnet_id, interface.vpc_id.as_deref()))
        });
        of_instance
            .into_iter()
            .chain(of_interfaces)
            .map(|(id, vpc_id)| UsedSubnet::new(entry, id, vpc_id))
            .collect()
    }

    fn key(&self) -> String {
        self.subnet_id.clone()
    }

    fn merge(&mut self, mut other: Self) {
        if other.said > self.said {
            std::mem::swap(self, &mut other);
        }
        or_other(&mut self.vpc_id, other.vpc_id);
        or_other(&mut self.blocks, other.blocks);
    }

    fn write(&self, xml: &mut Xml, _flag: bool) {
        xml.text("subnetId", &self.subnet_id);
        xml.text("state", STATE);
        xml.text("ownerId", &self.owner);
        xml.optional("vpcId", self.vpc_id.as_ref());
        // A subnet has one IPv4 block.
        xml.optional("cidrBlock", self.ipv4_blocks().first());
        xml.set(
            "ipv6CidrBlockAssociationSet",
            &self.ipv6_blocks(),
            |xml, block| {
                let name = format!("{}/{block}", self.subnet_id);
                xml.text("associationId", derived_id("subnet-cidr-assoc-", &name));
                xml.text("ipv6CidrBlock", block);
                xml.element("ipv6CidrBlockState", |xml| xml.text("state", "associated"));
            },
        );
        xml.text("availabilityZone", &self.zone);
        xml.optional("availabilityZoneId", self.zone_id.as_ref());
        xml.text("defaultForAz", false);
        xml.text("mapPublicIpOnLaunch", false);
        xml.text("assignIpv6AddressOnCreation", false);
        let is_ipv6_native = self.ipv4_blocks().is_empty() && !self.ipv6_blocks().is_empty();
        xml.text("ipv6Native", is_ipv6_native);
        write_no_tags(xml);
    }
}
