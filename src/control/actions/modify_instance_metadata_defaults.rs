//! ModifyInstanceMetadataDefaults: a partial update of the account's defaults for launches.
//! `no-preference`, or -1 for the hop limit, clears a preference. Existing instances do not change.

use std::sync::Arc;

use crate::control::action::Action;
use crate::control::call::ApiCall;
use crate::control::error::Ec2Error;
use crate::control::operation::{Input, Operation};
use crate::control::params::flag;
use crate::control::policy::condition::{AttributeValue, Values};
use crate::control::policy::rules::{Attributes, Target};
use crate::control::render::write_return;
use crate::control::syntax::{self, option_attributes};
use crate::control::xml::ResponseBody;
use crate::instance::{
    HopLimit, HttpTokens, Images, MetadataDefaults, MetadataOptions, OptionsUpdate, Switch,
};
use crate::registry::{Account, Transaction};

/// The input of a call.
pub(super) struct ModifyInstanceMetadataDefaults {
    http_tokens: Preference<HttpTokens>,
    http_put_response_hop_limit: Preference<HopLimit>,
    http_endpoint: Preference<Switch>,
    instance_metadata_tags: Preference<Switch>,
    http_tokens_enforced: Preference<Switch>,
    dry_run: bool,
}

/// A change of one default.
enum Preference<T> {
    /// The call does not name it; it keeps its value.
    Unchanged,
    /// The call clears it.
    Cleared,
    Set(T),
}

const SWITCH_VALUES: Values = Values::Words(&["enabled", "disabled", "no-preference"]);

impl Operation for ModifyInstanceMetadataDefaults {
    const ATTRIBUTES: &'static [(&'static str, Values)] = &[
        ("HttpEndpoint", SWITCH_VALUES),
        ("HttpPutResponseHopLimit", Values::HopLimits(&[-1])),
        (
            "HttpTokens",
            Values::Words(&["optional", "required", "no-preference"]),
        ),
        ("HttpTokensEnforced", SWITCH_VALUES),
        ("InstanceMetadataTags", SWITCH_VALUES),
    ];

    fn read(Input { mut parameters, .. }: Input<'_>) -> Result<Self, Ec2Error> {
        let mut take = |name| parameters.take(name);
        let http_tokens = take("HttpTokens");
        let http_put_response_hop_limit = take("HttpPutResponseHopLimit");
        let http_endpoint = take("HttpEndpoint");
        let instance_metadata_tags = take("InstanceMetadataTags");
        let http_tokens_enforced = take("HttpTokensEnforced");
        let dry_run = parameters.take("DryRun");
        parameters.finish()?;

        let switch = |name, value| read(name, value, Switch::parse, "'enabled', 'disabled'");
        Ok(ModifyInstanceMetadataDefaults {
            http_tokens: read(
                "HttpTokens",
                http_tokens,
                HttpTokens::parse,
                "'optional', 'required'",
            )?,
            http_put_response_hop_limit: read_hop_limit(http_put_response_hop_limit)?,
            http_endpoint: switch("HttpEndpoint", http_endpoint)?,
            instance_metadata_tags: switch("InstanceMetadataTags", instance_metadata_tags)?,
            http_tokens_enforced: switch("HttpTokensEnforced", http_tokens_enforced)?,
            dry_run: flag("DryRun", dry_run.as_deref())?,
        })
    }

    async fn perform(self, call: &ApiCall<'_>) -> Result<ResponseBody, Ec2Error> {
        const ACTION: Action = Action::ModifyInstanceMetadataDefaults;
        let caller = call.caller.clone();
        let images = Arc::clone(call.registry.images());
        let plan = move |transaction: &mut Transaction| {
            caller.authorize(ACTION, &self.attributes(&images), Target::Account)?;
            // A partial update needs the current values of the rest.
            let account = transaction
                .account()
                .map_err(|_| Ec2Error::account_unreadable())?;
            let before = account.metadata_defaults;
            if self.dry_run {
                return Err(Ec2Error::dry_run());
            }
            let metadata_defaults = MetadataDefaults {
                http_tokens: self.http_tokens.over(before.http_tokens),
                http_put_response_hop_limit: self
                    .http_put_response_hop_limit
                    .over(before.http_put_response_hop_limit),
                http_endpoint: self.http_endpoint.over(before.http_endpoint),
                instance_metadata_tags: self
                    .instance_metadata_tags
                    .over(before.instance_metadata_tags),
                http_tokens_enforced: self.http_tokens_enforced.over(before.http_tokens_enforced),
            };
            transaction.set_account(Account {
                metadata_defaults,
                ..account
            });
            Ok(())
        };
        call.change_or_warn("The defaults may have been changed.", plan)
            .await?;
        Ok(call.response(ACTION, write_return))
    }
}

impl ModifyInstanceMetadataDefaults {
    /// Returns the attributes of the call. Clearing a preference counts as `no-preference` and as
    /// the default that launches get without one: each that the images of the host can lead to.
    fn attributes(&self, images: &Images) -> Attributes {
        let unset = images
            .possible_support()
            .into_iter()
            .map(|image| MetadataDefaults::default().at_launch(OptionsUpdate::default(), image));
        let mut attributes = Attributes::new();
        for requested in unset.map(|unset| self.requested(unset)) {
            let more = option_attributes(requested);
            let known = attributes.clone();
            attributes.extend(more.into_iter().filter(|pair| !known.contains(pair)));
        }
        let enforced = self.http_tokens_enforced.or(Switch::Disabled);
        let cleared = [
            ("HttpTokens", self.http_tokens.is_cleared()),
            ("HttpEndpoint", self.http_endpoint.is_cleared()),
            (
                "InstanceMetadataTags",
                self.instance_metadata_tags.is_cleared(),
            ),
            ("HttpTokensEnforced", self.http_tokens_enforced.is_cleared()),
        ];
        let cleared = cleared
            .into_iter()
            .filter(|(_, is_cleared)| *is_cleared)
            .map(|(name, _)| (name, "no-preference".into()));
        let hops = self
            .http_put_response_hop_limit
            .is_cleared()
            .then_some(AttributeValue::Number(-1));
        attributes
            .extend(enforced.map(|enforced| ("HttpTokensEnforced", enforced.as_str().into())));
        attributes.extend(cleared);
        attributes.extend(hops.map(|number| ("HttpPutResponseHopLimit", number)));
        attributes
    }

    /// Returns the options that the call sets, with those of `unset` where it clears a preference.
    fn requested(&self, unset: MetadataOptions) -> OptionsUpdate {
        OptionsUpdate {
            http_tokens: self.http_tokens.or(unset.http_tokens),
            http_put_response_hop_limit: self
                .http_put_response_hop_limit
                .or(unset.http_put_response_hop_limit),
            http_endpoint: self.http_endpoint.or(unset.http_endpoint),
            http_protocol_ipv6: None,
            instance_metadata_tags: self.instance_metadata_tags.or(unset.instance_metadata_tags),
        }
    }
}

impl<T: Copy> Preference<T> {
    /// Returns the resulting value; `unset` is the value without a preference.
    fn or(&self, unset: T) -> Option<T> {
        match self {
            Preference::Unchanged => None,
            Preference::Cleared => Some(unset),
            Preference::Set(value) => Some(*value),
        }
    }

    fn is_cleared(&self) -> bool {
        matches!(self, Preference::Cleared)
    }

    /// Returns the value after the change.
    fn over(self, before: Option<T>) -> Option<T> {
        match self {
            Preference::Unchanged => before,
            Preference::Cleared => None,
            Preference::Set(value) => Some(value),
        }
    }
}

fn read<T>(
    name: &str,
    value: Option<String>,
    parse: fn(&str) -> Option<T>,
    words: &str,
) -> Result<Preference<T>, Ec2Error> {
    match value.as_deref() {
        None => Ok(Preference::Unchanged),
        Some("no-preference") => Ok(Preference::Cleared),
        Some(value) => parse(value).map(Preference::Set).ok_or_else(|| {
            Ec2Error::invalid_value(format!(
                "A value of '{value}' is not valid for {name}. Specify either {words} or 'no-preference' and try again."
            ))
        }),
    }
}

fn read_hop_limit(value: Option<String>) -> Result<Preference<HopLimit>, Ec2Error> {
    match value.as_deref() {
        None => Ok(Preference::Unchanged),
        Some("-1") => Ok(Preference::Cleared),
        Some(value) => syntax::read_hop_limit(value).map(Preference::Set).map_err(|_| {
            Ec2Error::invalid_value(format!(
                "A value of '{value}' is not valid for HttpPutResponseHopLimit. Specify an integer from 1 to 64, or -1 \
                 for no preference, and try again."
            ))
        }),
    }
}
