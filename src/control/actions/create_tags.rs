//! CreateTags: adds tags to instances, or changes their values, for all of the instances or none.

use crate::control::action::Action;
use crate::control::call::ApiCall;
use crate::control::checks::{
    refuse_keys_unfit_for_metadata, refuse_new_faults, refuse_too_many_tags,
};
use crate::control::error::Ec2Error;
use crate::control::operation::{Input, Operation};
use crate::control::params::flag;
use crate::control::render::write_return;
use crate::control::syntax::{read_resources, read_tags};
use crate::control::xml::ResponseBody;
use crate::instance::{InstanceId, Tag};
use crate::registry::Transaction;

/// The input of a call.
pub(super) struct CreateTags {
    instance_ids: Vec<InstanceId>,
    tags: Vec<Tag>,
    dry_run: bool,
}

impl Operation for CreateTags {
    fn read(Input { mut parameters, .. }: Input<'_>) -> Result<Self, Ec2Error> {
        let resources = parameters.take_list("ResourceId");
        let tags = parameters.take_tags("");
        let dry_run = parameters.take("DryRun");
        parameters.finish()?;
        if tags.is_empty() {
            return Err(Ec2Error::missing_parameter("Tag"));
        }
        Ok(CreateTags {
            instance_ids: read_resources(&resources)?,
            tags: read_tags(tags)?,
            dry_run: flag("DryRun", dry_run.as_deref())?,
        })
    }

    async fn perform(self, call: &ApiCall<'_>) -> Result<ResponseBody, Ec2Error> {
        const ACTION: Action = Action::CreateTags;
        let CreateTags {
            instance_ids,
            tags,
            dry_run,
        } = self;
        let (caller, ids) = (call.caller.clone(), instance_ids.clone());
        let plan = move |transaction: &mut Transaction| {
            let entries =
                caller.instances(ACTION, &Vec::new(), transaction.before(), &instance_ids)?;
            let befores: Vec<_> = entries.into_iter().cloned().collect();
            for before in befores {
                let instance = transaction
                    .instance(&before.instance.instance_id)
                    .expect("the instance has an entry");
                add(&mut instance.tags, &tags);
                refuse_too_many_tags(&instance.tags)?;
                let shown = instance.metadata_options.instance_metadata_tags;
                refuse_keys_unfit_for_metadata(&tags, shown)?;
                refuse_new_faults(Some(&before.instance), instance)?;
            }
            if dry_run {
                Err(Ec2Error::dry_run())
            } else {
                Ok(())
            }
        };
        call.change_beside(ids, plan).await?;
        Ok(call.response(ACTION, write_return))
    }
}

/// Adds tags, or replaces the values of those that exist.
fn add(tags: &mut Vec<Tag>, more: &[Tag]) {
    for tag in more {
        match tags.iter_mut().find(|known| known.key == tag.key) {
            Some(known) => known.value.clone_from(&tag.value),
            None => tags.push(tag.clone()),
        }
    }
}
