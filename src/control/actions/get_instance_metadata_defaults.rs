//! GetInstanceMetadataDefaults: what launches get that say nothing. What has no preference is left out.

use super::{Action, Call};
use crate::control::error::Ec2Error;
use crate::control::params::{Parameters, flag};
use crate::control::policy::Target;
use crate::control::xml::Document;
use crate::instance::Switch;

pub(super) fn perform(mut parameters: Parameters, call: &Call<'_>) -> Result<Document, Ec2Error> {
    const ACTION: Action = Action::GetInstanceMetadataDefaults;
    let dry_run = parameters.take("DryRun");
    parameters.finish()?;
    let dry_run = flag("DryRun", dry_run.as_deref())?;

    call.caller.may(ACTION, &Vec::new(), Target::Account)?;
    let defaults = call
        .registry
        .account()
        .account()
        .map_err(|_| Ec2Error::account_unreadable())?
        .metadata_defaults;
    if dry_run {
        return Err(Ec2Error::dry_run());
    }
    Ok(call.document(ACTION, |xml| {
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
            // There are no declarative policies here.
            xml.text("managedBy", "account");
            xml.optional(
                "httpTokensEnforced",
                defaults.http_tokens_enforced.map(Switch::as_str),
            );
        });
    }))
}
