//! DescribeIamInstanceProfileAssociations: the instance profiles of instances.

use std::sync::Arc;

use crate::control::action::Action;
use crate::control::error::Code;
use crate::control::filters::{FilterValues, Filterable, one};
use crate::control::resource_list::{ListedResource, Name, NotFound, ResourceList, derived_id};
use crate::control::xml::Xml;
use crate::instance::{IamInstanceProfile, InstanceId, Tag};
use crate::registry::Entry;

/// The input of a call.
pub(super) type DescribeIamInstanceProfileAssociations = ResourceList<ProfileAssociation>;

/// An instance and its instance profile.
pub(in crate::control) struct ProfileAssociation {
    instance_id: InstanceId,
    profile: IamInstanceProfile,
}

const STATE: &str = "associated";

impl ProfileAssociation {
    fn id(&self) -> String {
        derived_id("iip-assoc-", self.instance_id.as_str())
    }
}

impl Filterable for ProfileAssociation {
    const TAGS: Option<fn(&Self) -> &[Tag]> = None;
    const FILTERS: &'static [(&'static str, FilterValues<Self>)] = &[
        ("instance-id", |association| one(&association.instance_id)),
        ("state", |_| one(STATE)),
    ];
}

impl ListedResource for ProfileAssociation {
    const ACTION: Action = Action::DescribeIamInstanceProfileAssociations;
    const NAMES: &'static [Name<Self>] = &[Name {
        parameter: "AssociationId",
        of: ProfileAssociation::id,
        unknown: NotFound {
            code: Code::InvalidAssociationIdNotFound,
            message: "An invalid association-id of '{}' was given",
        },
    }];
    const SET: &'static str = "iamInstanceProfileAssociationSet";

    fn of(entry: &Arc<Entry>) -> Vec<Self> {
        let profile = entry.instance.iam_instance_profile.iter();
        profile
            .map(|profile| ProfileAssociation {
                instance_id: entry.instance.instance_id.clone(),
                profile: profile.clone(),
            })
            .collect()
    }

    fn key(&self) -> String {
        self.instance_id.to_string()
    }

    fn write(&self, xml: &mut Xml, _flag: bool) {
        xml.text("associationId", self.id());
        xml.text("instanceId", &self.instance_id);
        xml.element("iamInstanceProfile", |xml| {
            xml.text("arn", &self.profile.arn);
            xml.text("id", &self.profile.id);
        });
        xml.text("state", STATE);
    }
}
