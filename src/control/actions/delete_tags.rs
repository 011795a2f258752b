//! DeleteTags: a key without a value removes the tag, a key with a value only a tag with that
//! value, and a call without tags all tags except EC2's own. Deleting a tag that does not exist
//! succeeds.

use crate::control::action::Action;
use crate::control::call::ApiCall;
use crate::control::error::Ec2Error;
use crate::control::operation::{Input, Operation};
use crate::control::params::flag;
use crate::control::render::write_return;
use crate::control::syntax::{read_resources, refuse_invalid_key};
use crate::control::xml::ResponseBody;
use crate::instance::{InstanceId, Tag};
use crate::registry::Transaction;

/// The input of a call.
pub(super) struct DeleteTags {
    instance_ids: Vec<InstanceId>,
    /// Empty: all tags.
    tags: Vec<(String, Option<String>)>,
    dry_run: bool,
}

impl Operation for DeleteTags {
    fn read(Input { mut parameters, .. }: Input<'_>) -> Result<Self, Ec2Error> {
        let resources = parameters.take_list("ResourceId");
        let tags = parameters.take_tags("");
        let dry_run = parameters.take("DryRun");
        parameters.finish()?;
        tags.iter()
            .try_for_each(|(key, _)| refuse_invalid_key(key))?;
        Ok(DeleteTags {
            instance_ids: read_resources(&resources)?,
            tags,
            dry_run: flag("DryRun", dry_run.as_deref())?,
        })
    }

    async fn perform(self, call: &ApiCall<'_>) -> Result<ResponseBody, Ec2Error> {
        const ACTION: Action = Action::DeleteTags;
        let DeleteTags {
            instance_ids,
            tags,
            dry_run,
        } = self;
        let (caller, ids) = (call.caller.clone(), instance_ids.clone());
        let plan = move |transaction: &mut Transaction| {
            caller.instances(ACTION, &Vec::new(), transaction.before(), &instance_ids)?;
            if dry_run {
                return Err(Ec2Error::dry_run());
            }
            for id in &instance_ids {
                let instance = transaction.instance(id).expect("the instance has an entry");
                instance
                    .tags
                    .retain(|tag| tag.key.starts_with("aws:") || !is_named(&tags, tag));
            }
            Ok(())
        };
        call.change_beside(ids, plan).await?;
        Ok(call.response(ACTION, write_return))
    }
}

/// Returns whether the call names a tag.
fn is_named(tags: &[(String, Option<String>)], tag: &Tag) -> bool {
    let names = |(key, value): &(String, Option<String>)| {
        *key == tag.key && value.as_ref().is_none_or(|value| *value == tag.value)
    };
    tags.is_empty() || tags.iter().any(names)
}
