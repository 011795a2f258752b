//! ModifyInstanceMetadataOptions: a partial update of one instance's options. Options that the call
//! omits keep their value.
//!
//! A call without options succeeds and shows the current options ("if no parameter is specified,
//! the existing state is maintained"). Options that come with `HttpEndpoint=disabled` are stored
//! and take effect once it is enabled. The reply to a change says `pending`, as EC2's does. A change
//! of a stopped instance is stored, takes effect at its next start, and is `pending` in this reply
//! only.

use std::sync::Arc;

use crate::control::action::Action;
use crate::control::call::ApiCall;
use crate::control::checks::refuse_keys_unfit_for_metadata;
use crate::control::error::{Code, Ec2Error};
use crate::control::operation::{Input, Operation};
use crate::control::params::flag;
use crate::control::policy::condition::Values;
use crate::control::render::{shown_state, write_options};
use crate::control::syntax::{
    OPTION_ATTRIBUTES, OptionParameters, option_attributes, read_instance_id,
};
use crate::control::xml::ResponseBody;
use crate::instance::{HttpTokens, Instance, InstanceId, InstanceState, OptionsUpdate};
use crate::registry::{OptionsState, Transaction};

/// The input of a call.
pub(super) struct ModifyInstanceMetadataOptions {
    instance_id: InstanceId,
    update: OptionsUpdate,
    dry_run: bool,
}

impl Operation for ModifyInstanceMetadataOptions {
    const ATTRIBUTES: &'static [(&'static str, Values)] = &OPTION_ATTRIBUTES;

    fn read(Input { mut parameters, .. }: Input<'_>) -> Result<Self, Ec2Error> {
        let instance_id = parameters.take_required("InstanceId");
        let options = OptionParameters::take(&mut parameters, "");
        let dry_run = parameters.take("DryRun");
        parameters.finish()?;
        Ok(ModifyInstanceMetadataOptions {
            instance_id: read_instance_id(&instance_id?)?,
            update: options.read()?,
            dry_run: flag("DryRun", dry_run.as_deref())?,
        })
    }

    async fn perform(self, call: &ApiCall<'_>) -> Result<ResponseBody, Ec2Error> {
        const ACTION: Action = Action::ModifyInstanceMetadataOptions;
        let ModifyInstanceMetadataOptions {
            instance_id,
            update,
            dry_run,
        } = self;
        let (caller, id) = (call.caller.clone(), instance_id.clone());
        let plan = move |transaction: &mut Transaction| {
            let attributes = option_attributes(update);
            let before =
                Arc::clone(caller.instance(ACTION, &attributes, transaction.before(), &id)?);
            refuse_by_state(&before.instance)?;
            refuse_optional_tokens(transaction, &before.instance, update)?;
            if let Some(shown) = update.instance_metadata_tags {
                refuse_keys_unfit_for_metadata(&before.instance.tags, shown)?;
            }
            if dry_run {
                return Err(Ec2Error::dry_run());
            }
            let instance = transaction
                .instance(&id)
                .expect("the instance has an entry");
            update.apply(&mut instance.metadata_options);
            Ok(before)
        };
        let (published, before) = call.change_beside([instance_id.clone()], plan).await?;
        let (entry, state) = match published.into_iter().next() {
            // As on EC2, also if the sockets carry the options by now.
            Some(changed) => (changed, OptionsState::Pending),
            None => {
                let state = shown_state(&before);
                (before, state)
            }
        };
        Ok(call.response(ACTION, |xml| {
            xml.text("instanceId", &instance_id);
            xml.element("instanceMetadataOptions", |xml| {
                write_options(xml, state, &entry.instance.metadata_options)
            });
        }))
    }
}

fn refuse_by_state(instance: &Instance) -> Result<(), Ec2Error> {
    match instance.state {
        InstanceState::ShuttingDown | InstanceState::Terminated => {
            let id = &instance.instance_id;
            let message = format!(
                "The instance '{id}' is not in a state from which its metadata options can be modified."
            );
            Err(Ec2Error::new(Code::IncorrectInstanceState, message))
        }
        InstanceState::Pending
        | InstanceState::Running
        | InstanceState::Stopping
        | InstanceState::Stopped => Ok(()),
    }
}

/// Refuses a change to optional tokens where the account enforces required ones.
fn refuse_optional_tokens(
    transaction: &Transaction,
    instance: &Instance,
    update: OptionsUpdate,
) -> Result<(), Ec2Error> {
    if update.http_tokens != Some(HttpTokens::Optional) {
        return Ok(());
    }
    let account = transaction
        .account()
        .map_err(|_| Ec2Error::account_unreadable())?;
    let current = instance.metadata_options.http_tokens;
    if account
        .metadata_defaults
        .allow_change(current, HttpTokens::Optional)
    {
        return Ok(());
    }
    let message = "You can't set httpTokens to 'optional' because httpTokensEnforced is enabled for this account.";
    Err(Ec2Error::new(Code::UnsupportedOperation, message))
}
