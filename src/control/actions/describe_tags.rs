//! DescribeTags: the tags of all instances that the caller may access, by instance and key, in
//! pages.

use std::slice;

use crate::control::action::Action;
use crate::control::call::{ApiCall, ListCall};
use crate::control::error::Ec2Error;
use crate::control::filters::{FilterValues, Filterable, Filters, one};
use crate::control::operation::{Input, Operation};
use crate::control::pages::{Page, PageParameters};
use crate::control::params::flag;
use crate::control::render::ec2_response;
use crate::control::xml::ResponseBody;
use crate::instance::{InstanceId, Tag};

/// The input of a call.
pub(super) struct DescribeTags {
    filters: Filters<InstanceTag>,
    page: Page,
    dry_run: bool,
}

/// One tag of one instance.
#[derive(Debug)]
struct InstanceTag {
    instance_id: InstanceId,
    tag: Tag,
}

impl Filterable for InstanceTag {
    const TAGS: Option<fn(&Self) -> &[Tag]> = Some(|row| slice::from_ref(&row.tag));
    const FILTERS: &'static [(&'static str, FilterValues<Self>)] = &[
        ("key", |row| one(&row.tag.key)),
        ("resource-id", |row| one(&row.instance_id)),
        ("resource-type", |_| one("instance")),
        ("value", |row| one(&row.tag.value)),
    ];
}

impl Operation for DescribeTags {
    fn read(Input { mut parameters, .. }: Input<'_>) -> Result<Self, Ec2Error> {
        let filters = parameters.take_filters();
        let page = PageParameters::take(&mut parameters);
        let dry_run = parameters.take("DryRun");
        parameters.finish()?;
        let is_key = |text: &str| {
            text.split_once('/')
                .is_some_and(|(id, _)| InstanceId::parse(id).is_some())
        };
        Ok(DescribeTags {
            filters: Filters::read(filters)?,
            page: page.read(is_key)?,
            dry_run: flag("DryRun", dry_run.as_deref())?,
        })
    }

    async fn perform(self, call: &ApiCall<'_>) -> Result<ResponseBody, Ec2Error> {
        call.list(move |call| self.list(&call)).await
    }
}

impl DescribeTags {
    fn list(&self, call: &ListCall) -> Result<ResponseBody, Ec2Error> {
        const ACTION: Action = Action::DescribeTags;
        let entries = call.caller.list_instances(ACTION, &call.snapshot, &[])?;
        if self.dry_run {
            return Err(Ec2Error::dry_run());
        }
        let rows = entries.into_iter().flat_map(|entry| {
            let instance_id = &entry.instance.instance_id;
            let row = |tag: &Tag| InstanceTag {
                instance_id: instance_id.clone(),
                tag: tag.clone(),
            };
            let mut rows: Vec<InstanceTag> = entry.instance.tags.iter().map(row).collect();
            rows.sort_by(|one, other| one.tag.key.cmp(&other.tag.key));
            rows
        });
        let key = |row: &InstanceTag| format!("{}/{}", row.instance_id, row.tag.key);
        let (page, next) = self
            .page
            .of(rows.filter(|row| self.filters.match_all(row)), key);
        Ok(ec2_response(ACTION, &call.request_id, |xml| {
            xml.set("tagSet", page, |xml, row| {
                xml.text("resourceId", row.instance_id);
                xml.text("resourceType", "instance");
                xml.text("key", row.tag.key);
                xml.text("value", row.tag.value);
            });
            xml.optional("nextToken", next);
        }))
    }
}
