//! DescribeLaunchTemplates: always empty. A launch here takes all its parameters from the call.

use std::sync::Arc;

use crate::control::action::Action;
use crate::control::error::Code;
use crate::control::filters::{FilterValues, Filterable};
use crate::control::resource_list::{ListedResource, Name, NotFound, ResourceList, no_tags};
use crate::control::xml::Xml;
use crate::instance::Tag;
use crate::registry::Entry;

/// The input of a call.
pub(super) type DescribeLaunchTemplates = ResourceList<LaunchTemplate>;

/// A launch template: there is none.
pub(in crate::control) enum LaunchTemplate {}

impl Filterable for LaunchTemplate {
    const TAGS: Option<fn(&Self) -> &[Tag]> = Some(no_tags);
    const FILTERS: &'static [(&'static str, FilterValues<Self>)] = &[
        ("create-time", |_| Vec::new()),
        ("launch-template-name", |_| Vec::new()),
        ("tag-key", |_| Vec::new()),
    ];
}

impl ListedResource for LaunchTemplate {
    const ACTION: Action = Action::DescribeLaunchTemplates;
    const NAMES: &'static [Name<Self>] = &[
        Name {
            parameter: "LaunchTemplateId",
            of: LaunchTemplate::key,
            unknown: NotFound {
                code: Code::InvalidLaunchTemplateIdNotFound,
                message: "The specified launch template, with template ID {}, does not exist.",
            },
        },
        Name {
            parameter: "LaunchTemplateName",
            of: LaunchTemplate::key,
            unknown: NotFound {
                code: Code::InvalidLaunchTemplateNameNotFound,
                message: "The specified launch template, with template name {}, does not exist.",
            },
        },
    ];
    const SET: &'static str = "launchTemplates";
    // No template is managed here, so the flag changes nothing.
    const FLAG: Option<&'static str> = Some("IncludeManagedResources");

    fn of(_: &Arc<Entry>) -> Vec<Self> {
        Vec::new()
    }

    fn key(&self) -> String {
        match *self {}
    }

    fn write(&self, _: &mut Xml, _flag: bool) {
        match *self {}
    }
}
