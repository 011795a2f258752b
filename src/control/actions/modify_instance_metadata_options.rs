//! ModifyInstanceMetadataOptions: a partial update of one instance's options. What the call leaves out keeps its value.
//!
//! A call that names no option succeeds and shows the options as they are ("if no parameter is specified, the existing
//! state is maintained"). Options that come together with `HttpEndpoint=disabled` are stored and count once it is
//! enabled. A change of a stopped instance is stored, counts at its next start, and is `pending` in this reply only.

use std::sync::Arc;

use super::{
    Action, Call, attributes_of, read_hop_limit, read_http_tokens, read_instance_id, read_switch,
    refuse_keys_unfit_for_metadata, shown_state, write_options,
};
use crate::control::error::{Code, Ec2Error};
use crate::control::params::{Parameters, flag};
use crate::control::xml::Document;
use crate::instance::{HttpTokens, Instance, InstanceId, InstanceState, OptionsUpdate};
use crate::registry::{OptionsState, Transaction};

/// The input of one call: complete and well-formed, not checked against the instance yet.
pub(super) struct ModifyInstanceMetadataOptions {
    instance_id: InstanceId,
    update: OptionsUpdate,
    dry_run: bool,
}

impl ModifyInstanceMetadataOptions {
    pub(super) fn read(mut parameters: Parameters) -> Result<Self, Ec2Error> {
        let mut take = |name| parameters.take(name);
        let instance_id = take("InstanceId");
        let http_tokens = take("HttpTokens");
        let http_put_response_hop_limit = take("HttpPutResponseHopLimit");
        let http_endpoint = take("HttpEndpoint");
        let http_protocol_ipv6 = take("HttpProtocolIpv6");
        let instance_metadata_tags = take("InstanceMetadataTags");
        let dry_run = take("DryRun");
        parameters.finish()?;

        let instance_id = instance_id.filter(|id| !id.is_empty());
        let instance_id = instance_id.ok_or_else(|| Ec2Error::missing_parameter("InstanceId"))?;
        let switch = |name: &str, value: Option<String>| {
            value.map(|value| read_switch(name, &value)).transpose()
        };
        Ok(ModifyInstanceMetadataOptions {
            instance_id: read_instance_id(&instance_id)?,
            update: OptionsUpdate {
                http_tokens: http_tokens
                    .map(|value| read_http_tokens(&value))
                    .transpose()?,
                http_put_response_hop_limit: http_put_response_hop_limit
                    .map(|value| read_hop_limit(&value))
                    .transpose()?,
                http_endpoint: switch("HttpEndpoint", http_endpoint)?,
                http_protocol_ipv6: switch("HttpProtocolIpv6", http_protocol_ipv6)?,
                instance_metadata_tags: switch("InstanceMetadataTags", instance_metadata_tags)?,
            },
            dry_run: flag("DryRun", dry_run.as_deref())?,
        })
    }

    pub(super) async fn perform(self, call: &Call<'_>) -> Result<Document, Ec2Error> {
        const ACTION: Action = Action::ModifyInstanceMetadataOptions;
        let ModifyInstanceMetadataOptions {
            instance_id,
            update,
            dry_run,
        } = self;
        let (caller, id) = (call.caller.clone(), instance_id.clone());
        let plan = move |transaction: &mut Transaction| {
            let before = Arc::clone(caller.one(
                ACTION,
                &attributes_of(update),
                transaction.before(),
                &id,
            )?);
            may_modify(transaction, &before.instance, update)?;
            if dry_run {
                return Err(Ec2Error::dry_run());
            }
            update.apply(
                &mut transaction
                    .instance(&id)
                    .expect("it has an entry")
                    .metadata_options,
            );
            Ok(before)
        };
        let (published, before) = call.change(plan).await?;
        let (entry, state) = match published.into_iter().next() {
            Some(changed) if changed.instance.state == InstanceState::Stopped => {
                (changed, OptionsState::Pending)
            }
            Some(changed) => {
                let state = changed.options_state();
                (changed, state)
            }
            None => {
                let state = shown_state(&before);
                (before, state)
            }
        };
        Ok(call.document(ACTION, |xml| {
            xml.text("instanceId", &instance_id);
            xml.element("instanceMetadataOptions", |xml| {
                write_options(xml, state, &entry.instance.metadata_options)
            });
        }))
    }
}

/// Whether the instance, as it is, takes this update, and the account lets it.
fn may_modify(
    transaction: &Transaction,
    instance: &Instance,
    update: OptionsUpdate,
) -> Result<(), Ec2Error> {
    match instance.state {
        InstanceState::ShuttingDown | InstanceState::Terminated => {
            let id = &instance.instance_id;
            let message = format!(
                "The instance '{id}' is not in a state from which its metadata options can be modified."
            );
            return Err(Ec2Error::new(Code::IncorrectInstanceState, message));
        }
        InstanceState::Pending
        | InstanceState::Running
        | InstanceState::Stopping
        | InstanceState::Stopped => {}
    }
    if update.http_tokens == Some(HttpTokens::Optional) {
        let defaults = transaction
            .account()
            .map_err(|_| Ec2Error::account_unreadable())?
            .metadata_defaults;
        if !defaults.allow_change(instance.metadata_options.http_tokens, HttpTokens::Optional) {
            let message = "You can't set httpTokens to 'optional' because httpTokensEnforced is enabled for this account.";
            return Err(Ec2Error::new(Code::UnsupportedOperation, message));
        }
    }
    let shown = update.instance_metadata_tags;
    shown.map_or(Ok(()), |shown| {
        refuse_keys_unfit_for_metadata(&instance.tags, shown)
    })
}
