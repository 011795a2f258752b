//! GetInstanceMetadataDefaults: the account's defaults for launches. A default without a preference
//! is omitted.

use crate::control::action::Action;
use crate::control::call::ApiCall;
use crate::control::error::Ec2Error;
use crate::control::operation::{Input, Operation};
use crate::control::params::flag;
use crate::control::policy::rules::Target;
use crate::control::xml::ResponseBody;
use crate::instance::Switch;

/// The input of a call.
pub(super) struct GetInstanceMetadataDefaults {
    dry_run: bool,
}

impl Operation for GetInstanceMetadataDefaults {
    fn read(Input { mut parameters, .. }: Input<'_>) -> Result<Self, Ec2Error> {
        let dry_run = parameters.take("DryRun");
        parameters.finish()?;
        Ok(GetInstanceMetadataDefaults {
            dry_run: flag("DryRun", dry_run.as_deref())?,
        })
    }

    async fn perform(self, call: &ApiCall<'_>) -> Result<ResponseBody, Ec2Error> {
        const ACTION: Action = Action::GetInstanceMetadataDefaults;
        call.caller
            .authorize(ACTION, &Vec::new(), Target::Account)?;
        let defaults = call
            .registry
            .account()
            .account()
            .map_err(|_| Ec2Error::account_unreadable())?
            .metadata_defaults;
        if self.dry_run {
            return Err(Ec2Error::dry_run());
        }
        Ok(call.response(ACTION, |xml| {
            xml.element("accountLevel", |xml| {
                xml.optional(
                    "httpTokens",
                    defaults.http_tokens.map(|tokens| tokens.as_str()),
                );
                xml.optional(
                    "httpPutResponseHopLimit",
                    defaults
                        .http_put_response_hop_limit
                        .map(|limit| limit.get()),
                );
                xml.optional("httpEndpoint", defaults.http_endpoint.map(Switch::as_str));
                xml.optional(
                    "instanceMetadataTags",
                    defaults.instance_metadata_tags.map(Switch::as_str),
                );
                // imdsd has no declarative policies.
                xml.text("managedBy", "account");
                xml.optional(
                    "httpTokensEnforced",
                    defaults.http_tokens_enforced.map(Switch::as_str),
                );
            });
        }))
    }
}
