//! DescribeVpcs: the VPCs of instances and their interfaces, with the address blocks of
//! `Imds.Vpcs`. None is the default VPC.

use std::sync::Arc;

use crate::control::action::Action;
use crate::control::error::Code;
use crate::control::filters::{FilterValues, Filterable, each_text, one};
use crate::control::resource_list::{
    ListedResource, Name, NotFound, ResourceList, derived_id, no_tags, or_other, write_no_tags,
};
use crate::control::xml::Xml;
use crate::instance::{CidrBlocks, SharedText, Tag};
use crate::registry::Entry;

/// The input of a call.
pub(super) type DescribeVpcs = ResourceList<UsedVpc>;

/// A VPC that instances are in.
pub(in crate::control) struct UsedVpc {
    pub(super) vpc_id: String,
    owner: String,
    blocks: Option<CidrBlocks>,
}

/// EC2's error for an unknown VPC.
pub(super) const UNKNOWN_VPC: NotFound = NotFound {
    code: Code::InvalidVpcIdNotFound,
    message: "The vpc ID '{}' does not exist",
};

const STATE: &str = "available";

impl Filterable for UsedVpc {
    const TAGS: Option<fn(&Self) -> &[Tag]> = Some(no_tags);
    // Several filters have a second, older name.
    const FILTERS: &'static [(&'static str, FilterValues<Self>)] = &[
        ("cidr", |vpc| each_text(vpc.ipv4_blocks())),
        ("cidr-block-association.cidr-block", |vpc| {
            each_text(vpc.ipv4_blocks())
        }),
        ("ipv6-cidr-block-association.ipv6-cidr-block", |vpc| {
            each_text(vpc.ipv6_blocks())
        }),
        ("is-default", |_| one(false)),
        ("isDefault", |_| one(false)),
        ("owner-id", |vpc| one(&vpc.owner)),
        ("state", |_| one(STATE)),
        ("tag-key", |_| Vec::new()),
        ("vpc-id", |vpc| one(&vpc.vpc_id)),
    ];
}

impl UsedVpc {
    fn ipv4_blocks(&self) -> &[SharedText] {
        let blocks = self.blocks.as_ref();
        blocks.map_or(&[], |blocks| &blocks.ipv4_cidr_blocks)
    }

    fn ipv6_blocks(&self) -> &[SharedText] {
        let blocks = self.blocks.as_ref();
        blocks.map_or(&[], |blocks| &blocks.ipv6_cidr_blocks)
    }
}

impl ListedResource for UsedVpc {
    const ACTION: Action = Action::DescribeVpcs;
    const NAMES: &'static [Name<Self>] = &[Name {
        parameter: "VpcId",
        of: |vpc| vpc.vpc_id.clone(),
        unknown: UNKNOWN_VPC,
    }];
    const SET: &'static str = "vpcSet";

    fn of(entry: &Arc<Entry>) -> Vec<Self> {
        let instance = &entry.instance;
        let of_interfaces = instance
            .interfaces()
            .iter()
            .filter_map(|interface| interface.vpc_id.as_deref());
        instance
            .vpc()
            .into_iter()
            .chain(of_interfaces)
            .map(|vpc_id| UsedVpc {
                vpc_id: vpc_id.to_string(),
                owner: instance.owner_id().to_string(),
                blocks: instance.imds.vpcs.get(vpc_id).cloned(),
            })
            .collect()
    }

    fn key(&self) -> String {
        self.vpc_id.clone()
    }

    fn merge(&mut self, other: Self) {
        or_other(&mut self.blocks, other.blocks);
    }

    fn write(&self, xml: &mut Xml, _flag: bool) {
        let association_id = |block: &str| {
            let name = format!("{}/{block}", self.vpc_id);
            derived_id("vpc-cidr-assoc-", &name)
        };
        xml.text("vpcId", &self.vpc_id);
        xml.text("state", STATE);
        xml.text("ownerId", &self.owner);
        xml.optional("cidrBlock", self.ipv4_blocks().first());
        xml.set(
            "cidrBlockAssociationSet",
            self.ipv4_blocks(),
            |xml, block| {
                xml.text("cidrBlock", block);
                xml.text("associationId", association_id(block));
                xml.element("cidrBlockState", |xml| xml.text("state", "associated"));
            },
        );
        xml.set(
            "ipv6CidrBlockAssociationSet",
            self.ipv6_blocks(),
            |xml, block| {
                xml.text("ipv6CidrBlock", block);
                xml.text("associationId", association_id(block));
                xml.element("ipv6CidrBlockState", |xml| xml.text("state", "associated"));
            },
        );
        xml.text("dhcpOptionsId", "default");
        xml.text("instanceTenancy", "default");
        xml.text("isDefault", false);
        write_no_tags(xml);
    }
}
