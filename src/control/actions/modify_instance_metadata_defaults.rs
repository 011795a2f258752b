//! ModifyInstanceMetadataDefaults: a partial update of what launches get that say nothing. `no-preference`, or -1 for the
//! hop limit, takes a preference away. No instance that is there changes.

use super::{Action, Call, attributes_of, done};
use crate::control::error::Ec2Error;
use crate::control::params::{Parameters, flag};
use crate::control::policy::{Attributes, Target, Value};
use crate::control::xml::Document;
use crate::instance::{HopLimit, HttpTokens, ImdsSupport, MetadataDefaults, OptionsUpdate, Switch};
use crate::registry::{Account, Transaction};

/// The input of one call.
pub(super) struct ModifyInstanceMetadataDefaults {
    http_tokens: Preference<HttpTokens>,
    http_put_response_hop_limit: Preference<HopLimit>,
    http_endpoint: Preference<Switch>,
    instance_metadata_tags: Preference<Switch>,
    http_tokens_enforced: Preference<Switch>,
    dry_run: bool,
}

/// What a call says about one default.
enum Preference<T> {
    /// It keeps its value.
    Unsaid,
    /// There is to be none.
    Nothing,
    Is(T),
}

impl ModifyInstanceMetadataDefaults {
    pub(super) fn read(mut parameters: Parameters) -> Result<Self, Ec2Error> {
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

    pub(super) async fn perform(self, call: &Call<'_>) -> Result<Document, Ec2Error> {
        const ACTION: Action = Action::ModifyInstanceMetadataDefaults;
        let caller = call.caller.clone();
        let plan = move |transaction: &mut Transaction| {
            caller.may(ACTION, &self.attributes(), Target::Account)?;
            // A partial update of something that can't be read would make up the rest.
            let before = transaction
                .account()
                .map_err(|_| Ec2Error::account_unreadable())?
                .metadata_defaults;
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
            transaction.set_account(Account { metadata_defaults });
            Ok(())
        };
        call.change_of("The defaults may have been changed.", plan)
            .await?;
        Ok(call.document(ACTION, done))
    }

    /// What the call asks for, as rules see it. Who takes a preference away asks for what launches get without one, too.
    fn attributes(&self) -> Attributes {
        let nothing =
            MetadataDefaults::default().at_launch(OptionsUpdate::default(), ImdsSupport::V2);
        let asked = OptionsUpdate {
            http_tokens: self.http_tokens.or(nothing.http_tokens),
            http_put_response_hop_limit: self
                .http_put_response_hop_limit
                .or(nothing.http_put_response_hop_limit),
            http_endpoint: self.http_endpoint.or(nothing.http_endpoint),
            http_protocol_ipv6: None,
            instance_metadata_tags: self
                .instance_metadata_tags
                .or(nothing.instance_metadata_tags),
        };
        let enforced = self.http_tokens_enforced.or(Switch::Disabled);
        let words = [
            ("HttpTokens", self.http_tokens.is_taken_away()),
            ("HttpEndpoint", self.http_endpoint.is_taken_away()),
            (
                "InstanceMetadataTags",
                self.instance_metadata_tags.is_taken_away(),
            ),
            (
                "HttpTokensEnforced",
                self.http_tokens_enforced.is_taken_away(),
            ),
        ];
        let words = words
            .into_iter()
            .filter(|(_, said)| *said)
            .map(|(name, _)| (name, "no-preference".into()));
        let hops = self
            .http_put_response_hop_limit
            .is_taken_away()
            .then_some(Value::Number(-1));
        let mut attributes = attributes_of(asked);
        attributes
            .extend(enforced.map(|enforced| ("HttpTokensEnforced", enforced.as_str().into())));
        attributes.extend(words);
        attributes.extend(hops.map(|number| ("HttpPutResponseHopLimit", number)));
        attributes
    }
}

impl<T: Copy> Preference<T> {
    /// What it comes to, where `nothing` is what no preference comes to.
    fn or(&self, nothing: T) -> Option<T> {
        match self {
            Preference::Unsaid => None,
            Preference::Nothing => Some(nothing),
            Preference::Is(value) => Some(*value),
        }
    }

    fn is_taken_away(&self) -> bool {
        matches!(self, Preference::Nothing)
    }

    fn over(self, before: Option<T>) -> Option<T> {
        match self {
            Preference::Unsaid => before,
            Preference::Nothing => None,
            Preference::Is(value) => Some(value),
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
        None => Ok(Preference::Unsaid),
        Some("no-preference") => Ok(Preference::Nothing),
        Some(value) => parse(value).map(Preference::Is).ok_or_else(|| {
            Ec2Error::invalid_value(format!(
                "A value of '{value}' is not valid for {name}. Specify either {words} or 'no-preference' and try again."
            ))
        }),
    }
}

fn read_hop_limit(value: Option<String>) -> Result<Preference<HopLimit>, Ec2Error> {
    match value.as_deref() {
        None => Ok(Preference::Unsaid),
        Some("-1") => Ok(Preference::Nothing),
        Some(value) => super::read_hop_limit(value).map(Preference::Is).map_err(|_| {
            Ec2Error::invalid_value(format!(
                "A value of '{value}' is not valid for HttpPutResponseHopLimit. Specify an integer from 1 to 64, or -1 \
                 for no preference, and try again."
            ))
        }),
    }
}
