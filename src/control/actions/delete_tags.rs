//! DeleteTags: a key alone takes the tag away whatever its value, a key with a value only where the tag has that value,
//! and no tag at all takes all of them away, but for EC2's own. What is not there is no error.

use super::create_tags::{read_resources, refuse_key};
use super::{Action, Call, done};
use crate::control::error::Ec2Error;
use crate::control::params::{Parameters, flag};
use crate::control::xml::Document;
use crate::instance::{InstanceId, Tag};
use crate::registry::Transaction;

/// The input of one call.
pub(super) struct DeleteTags {
    instance_ids: Vec<InstanceId>,
    /// Empty: all.
    tags: Vec<(String, Option<String>)>,
    dry_run: bool,
}

impl DeleteTags {
    pub(super) fn read(mut parameters: Parameters) -> Result<Self, Ec2Error> {
        let resources = parameters.take_list("ResourceId");
        let tags = parameters.take_tags("");
        let dry_run = parameters.take("DryRun");
        parameters.finish()?;
        tags.iter().try_for_each(|(key, _)| refuse_key(key))?;
        Ok(DeleteTags {
            instance_ids: read_resources(&resources)?,
            tags,
            dry_run: flag("DryRun", dry_run.as_deref())?,
        })
    }

    pub(super) async fn perform(self, call: &Call<'_>) -> Result<Document, Ec2Error> {
        const ACTION: Action = Action::DeleteTags;
        let DeleteTags {
            instance_ids,
            tags,
            dry_run,
        } = self;
        let caller = call.caller.clone();
        let plan = move |transaction: &mut Transaction| {
            caller.named(ACTION, &Vec::new(), transaction.before(), &instance_ids)?;
            if dry_run {
                return Err(Ec2Error::dry_run());
            }
            for id in &instance_ids {
                let instance = transaction.instance(id).expect("it has an entry");
                instance
                    .tags
                    .retain(|tag| tag.key.starts_with("aws:") || !is_meant(&tags, tag));
            }
            Ok(())
        };
        call.change(plan).await?;
        Ok(call.document(ACTION, done))
    }
}

fn is_meant(named: &[(String, Option<String>)], tag: &Tag) -> bool {
    let names = |(key, value): &(String, Option<String>)| {
        *key == tag.key && value.as_ref().is_none_or(|value| *value == tag.value)
    };
    named.is_empty() || named.iter().any(names)
}
