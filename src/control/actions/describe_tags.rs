//! DescribeTags: the tags of all instances that the caller may see, by instance and key, in pages.

use std::slice;

use super::{Action, Call, Listing, ec2_document};
use crate::control::error::Ec2Error;
use crate::control::filters::{Filtered, Filters, ValuesOf, one};
use crate::control::pages::{Page, PageParameters};
use crate::control::params::{Parameters, flag};
use crate::control::xml::Document;
use crate::instance::{InstanceId, Tag};

/// The input of one call.
pub(super) struct DescribeTags {
    filters: Filters<Row>,
    page: Page,
    dry_run: bool,
}

/// One tag of one instance.
#[derive(Debug)]
struct Row {
    instance_id: InstanceId,
    tag: Tag,
}

impl Filtered for Row {
    const TAGS: Option<fn(&Self) -> &[Tag]> = Some(|row| slice::from_ref(&row.tag));
    const FILTERS: &'static [(&'static str, ValuesOf<Self>)] = &[
        ("key", |row| one(&row.tag.key)),
        ("resource-id", |row| one(&row.instance_id)),
        ("resource-type", |_| one("instance")),
        ("value", |row| one(&row.tag.value)),
    ];
}

impl DescribeTags {
    pub(super) fn read(mut parameters: Parameters) -> Result<Self, Ec2Error> {
        let filters = parameters.take_filters();
        let page = PageParameters::take(&mut parameters);
        let dry_run = parameters.take("DryRun");
        parameters.finish()?;
        let is_place = |text: &str| {
            text.split_once('/')
                .is_some_and(|(id, _)| InstanceId::parse(id).is_some())
        };
        Ok(DescribeTags {
            filters: Filters::read(filters)?,
            page: page.read(is_place)?,
            dry_run: flag("DryRun", dry_run.as_deref())?,
        })
    }

    pub(super) async fn perform(self, call: &Call<'_>) -> Result<Document, Ec2Error> {
        call.list(move |listing| self.list(&listing)).await
    }

    fn list(&self, listing: &Listing) -> Result<Document, Ec2Error> {
        const ACTION: Action = Action::DescribeTags;
        let entries = listing.caller.listed(ACTION, &listing.snapshot, &[])?;
        if self.dry_run {
            return Err(Ec2Error::dry_run());
        }
        let rows = entries.into_iter().flat_map(|entry| {
            let instance_id = &entry.instance.instance_id;
            let row = |tag: &Tag| Row {
                instance_id: instance_id.clone(),
                tag: tag.clone(),
            };
            let mut rows: Vec<Row> = entry.instance.tags.iter().map(row).collect();
            rows.sort_by(|one, other| one.tag.key.cmp(&other.tag.key));
            rows
        });
        let place = |row: &Row| format!("{}/{}", row.instance_id, row.tag.key);
        let (page, next) = self
            .page
            .of(rows.filter(|row| self.filters.match_all(row)), place);
        Ok(ec2_document(ACTION, &listing.request_id, |xml| {
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
