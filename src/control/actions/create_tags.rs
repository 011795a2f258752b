//! CreateTags: adds tags to instances, or changes their values. All of them, or none.

use super::{Action, Call, done, refuse_keys_unfit_for_metadata, refuse_new_faults};
use crate::control::error::{Code, Ec2Error};
use crate::control::params::{Parameters, flag};
use crate::control::xml::Document;
use crate::instance::tags::{MAX_KEY_LENGTH, MAX_TAGS, MAX_VALUE_LENGTH};
use crate::instance::{InstanceId, Tag};
use crate::registry::Transaction;

/// The input of one call.
pub(super) struct CreateTags {
    instance_ids: Vec<InstanceId>,
    tags: Vec<Tag>,
    dry_run: bool,
}

impl CreateTags {
    pub(super) fn read(mut parameters: Parameters) -> Result<Self, Ec2Error> {
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

    pub(super) async fn perform(self, call: &Call<'_>) -> Result<Document, Ec2Error> {
        const ACTION: Action = Action::CreateTags;
        let CreateTags {
            instance_ids,
            tags,
            dry_run,
        } = self;
        let caller = call.caller.clone();
        let plan = move |transaction: &mut Transaction| {
            let entries = caller.named(ACTION, &Vec::new(), transaction.before(), &instance_ids)?;
            let befores: Vec<_> = entries.into_iter().cloned().collect();
            for before in befores {
                let instance = transaction
                    .instance(&before.instance.instance_id)
                    .expect("it has an entry");
                add(&mut instance.tags, &tags);
                refuse_too_many(&instance.tags)?;
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
        call.change(plan).await?;
        Ok(call.document(ACTION, done))
    }
}

/// The ids of what is to be tagged. Nothing but instances has tags here.
pub(super) fn read_resources(texts: &[String]) -> Result<Vec<InstanceId>, Ec2Error> {
    if texts.is_empty() || texts.iter().any(String::is_empty) {
        return Err(Ec2Error::missing_parameter("ResourceId"));
    }
    let mut ids = Vec::new();
    for text in texts {
        let id = InstanceId::parse(text).ok_or_else(|| {
            Ec2Error::new(Code::InvalidId, format!("The ID '{text}' is not valid"))
        })?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// Tags as they came. A value that is missing is empty.
pub(super) fn read_tags(tags: Vec<(String, Option<String>)>) -> Result<Vec<Tag>, Ec2Error> {
    let mut read: Vec<Tag> = Vec::new();
    for (key, value) in tags {
        refuse_key(&key)?;
        let value = value.unwrap_or_default();
        if value.chars().count() > MAX_VALUE_LENGTH {
            let message =
                format!("Tag value exceeds the maximum length of {MAX_VALUE_LENGTH} characters");
            return Err(Ec2Error::invalid_value(message));
        }
        if read.iter().any(|earlier| earlier.key == key) {
            return Err(Ec2Error::invalid_value(format!(
                "Duplicate tag key '{key}' specified."
            )));
        }
        read.push(Tag { key, value });
    }
    Ok(read)
}

/// What is no key of a caller's own.
pub(super) fn refuse_key(key: &str) -> Result<(), Ec2Error> {
    if key.is_empty() {
        let message =
            "Value ( '' ) for parameter Tag key is invalid. Tag key cannot be null or empty";
        return Err(Ec2Error::invalid_value(message));
    }
    if key.starts_with("aws:") {
        let message = "Tag keys starting with 'aws:' are reserved for internal use";
        return Err(Ec2Error::new(Code::InvalidTagKeyMalformed, message));
    }
    if key.chars().count() > MAX_KEY_LENGTH {
        let message = format!("Tag key exceeds the maximum length of {MAX_KEY_LENGTH} characters");
        return Err(Ec2Error::invalid_value(message));
    }
    Ok(())
}

/// EC2's own tags do not count.
pub(super) fn refuse_too_many(tags: &[Tag]) -> Result<(), Ec2Error> {
    if tags
        .iter()
        .filter(|tag| !tag.key.starts_with("aws:"))
        .count()
        > MAX_TAGS
    {
        let message =
            format!("The maximum number of Tags for a resource has been reached: {MAX_TAGS}.");
        return Err(Ec2Error::new(Code::TagLimitExceeded, message));
    }
    Ok(())
}

fn add(tags: &mut Vec<Tag>, more: &[Tag]) {
    for tag in more {
        match tags.iter_mut().find(|known| known.key == tag.key) {
            Some(known) => known.value.clone_from(&tag.value),
            None => tags.push(tag.clone()),
        }
    }
}
