//! DescribeSecurityGroups: the groups of instances and their interfaces. imdsd filters no traffic
//! and knows no rules, so every group is listed without rules.

use std::sync::Arc;

use crate::control::action::Action;
use crate::control::error::Code;
use crate::control::filters::{FilterValues, Filterable, one, optional};
use crate::control::resource_list::{
    ListedResource, Name, NotFound, ResourceList, no_tags, or_other, write_no_tags,
};
use crate::control::xml::Xml;
use crate::instance::{SecurityGroup, Tag};
use crate::registry::Entry;

/// The input of a call.
pub(super) type DescribeSecurityGroups = ResourceList<UsedGroup>;

/// A security group that instances have.
pub(in crate::control) struct UsedGroup {
    pub(super) group: SecurityGroup,
    owner: String,
    vpc_id: Option<String>,
}

impl Filterable for UsedGroup {
    const TAGS: Option<fn(&Self) -> &[Tag]> = Some(no_tags);
    const FILTERS: &'static [(&'static str, FilterValues<Self>)] = &[
        ("description", |_| one("")),
        ("group-id", |used| one(&used.group.group_id)),
        ("group-name", |used| one(&used.group.group_name)),
        ("owner-id", |used| one(&used.owner)),
        ("tag-key", |_| Vec::new()),
        ("vpc-id", |used| optional(&used.vpc_id)),
    ];
}

impl ListedResource for UsedGroup {
    const ACTION: Action = Action::DescribeSecurityGroups;
    const NAMES: &'static [Name<Self>] = &[
        Name {
            parameter: "GroupId",
            of: |used| used.group.group_id.to_string(),
            unknown: NotFound {
                code: Code::InvalidGroupNotFound,
                message: "The security group '{}' does not exist",
            },
        },
        Name {
            parameter: "GroupName",
            of: |used| used.group.group_name.to_string(),
            unknown: NotFound {
                code: Code::InvalidGroupNotFound,
                message: "The security group '{}' does not exist",
            },
        },
    ];
    const SET: &'static str = "securityGroupInfo";

    fn of(entry: &Arc<Entry>) -> Vec<Self> {
        let instance = &entry.instance;
        let used = |group: &SecurityGroup, vpc_id: Option<&str>| UsedGroup {
            group: group.clone(),
            owner: instance.owner_id().to_string(),
            vpc_id: vpc_id.map(str::to_string),
        };
        let of_instance = instance.groups().iter();
        let mut groups: Vec<_> = of_instance
            .map(|group| used(group, instance.vpc()))
            .collect();
        for interface in instance.interfaces() {
            let of_interface = interface.groups.iter();
            groups.extend(of_interface.map(|group| used(group, interface.vpc_id.as_deref())));
        }
        groups
    }

    fn key(&self) -> String {
        self.group.group_id.to_string()
    }

    fn merge(&mut self, other: Self) {
        // An instance that was launched here has the ids of its groups as their names.
        if self.group.group_name == self.group.group_id {
            self.group = other.group;
        }
        or_other(&mut self.vpc_id, other.vpc_id);
    }

    fn write(&self, xml: &mut Xml, _flag: bool) {
        xml.text("ownerId", &self.owner);
        xml.text("groupId", &self.group.group_id);
        xml.text("groupName", &self.group.group_name);
        xml.text("groupDescription", "");
        xml.optional("vpcId", self.vpc_id.as_ref());
        xml.set("ipPermissions", [(); 0], |_, ()| {});
        xml.set("ipPermissionsEgress", [(); 0], |_, ()| {});
        write_no_tags(xml);
    }
}
