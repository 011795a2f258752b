//! The syntax of parameter values that several actions have, and their names as attributes of a
//! call.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::error::{Code, Ec2Error};
use super::params::Parameters;
use super::policy::condition::{AttributeValue, Values};
use super::policy::rules::Attributes;
use crate::instance::tags::{MAX_KEY_LENGTH, MAX_VALUE_LENGTH};
use crate::instance::{
    HopLimit, HttpTokens, InstanceId, MAX_USER_DATA, OptionsUpdate, ShutdownBehavior, Switch, Tag,
};

/// The metadata options as attributes of a call that sets them.
pub(super) const OPTION_ATTRIBUTES: [(&str, Values); 5] = [
    ("HttpEndpoint", Values::Words(&["enabled", "disabled"])),
    ("HttpProtocolIpv6", Values::Words(&["enabled", "disabled"])),
    ("HttpPutResponseHopLimit", Values::HopLimits(&[])),
    ("HttpTokens", Values::Words(&["optional", "required"])),
    (
        "InstanceMetadataTags",
        Values::Words(&["enabled", "disabled"]),
    ),
];

/// The values of a flag as an attribute of a call.
pub(super) const FLAG_VALUES: Values = Values::Words(&["true", "false"]);

/// The values of InstanceInitiatedShutdownBehavior as an attribute of a call.
pub(super) const SHUTDOWN_VALUES: Values = Values::Words(&["stop", "terminate"]);

/// The metadata options of a call, not parsed yet.
pub(super) struct OptionParameters {
    http_tokens: Option<String>,
    http_put_response_hop_limit: Option<String>,
    http_endpoint: Option<String>,
    http_protocol_ipv6: Option<String>,
    instance_metadata_tags: Option<String>,
}

impl OptionParameters {
    /// Takes the options from the parameters of the call; each name begins with `prefix`.
    pub(super) fn take(parameters: &mut Parameters, prefix: &str) -> OptionParameters {
        let mut take = |name: &str| parameters.take(&format!("{prefix}{name}"));
        OptionParameters {
            http_tokens: take("HttpTokens"),
            http_put_response_hop_limit: take("HttpPutResponseHopLimit"),
            http_endpoint: take("HttpEndpoint"),
            http_protocol_ipv6: take("HttpProtocolIpv6"),
            instance_metadata_tags: take("InstanceMetadataTags"),
        }
    }

    /// Parses the options.
    pub(super) fn read(self) -> Result<OptionsUpdate, Ec2Error> {
        let switch = |name: &str, value: Option<String>| {
            value.map(|value| read_switch(name, &value)).transpose()
        };
        Ok(OptionsUpdate {
            http_tokens: self
                .http_tokens
                .map(|value| read_http_tokens(&value))
                .transpose()?,
            http_put_response_hop_limit: self
                .http_put_response_hop_limit
                .map(|value| read_hop_limit(&value))
                .transpose()?,
            http_endpoint: switch("HttpEndpoint", self.http_endpoint)?,
            http_protocol_ipv6: switch("HttpProtocolIpv6", self.http_protocol_ipv6)?,
            instance_metadata_tags: switch("InstanceMetadataTags", self.instance_metadata_tags)?,
        })
    }
}

/// Returns the options that an update sets, as attributes of the call.
pub(super) fn option_attributes(update: OptionsUpdate) -> Attributes {
    let switch = |switch: Option<Switch>| switch.map(|switch| switch.as_str().into());
    let options = [
        (
            "HttpTokens",
            update.http_tokens.map(|tokens| tokens.as_str().into()),
        ),
        (
            "HttpPutResponseHopLimit",
            update
                .http_put_response_hop_limit
                .map(|limit| AttributeValue::Number(limit.get().into())),
        ),
        ("HttpEndpoint", switch(update.http_endpoint)),
        ("HttpProtocolIpv6", switch(update.http_protocol_ipv6)),
        (
            "InstanceMetadataTags",
            switch(update.instance_metadata_tags),
        ),
    ];
    options
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

/// Parses an instance id. EC2 accepts an id with trailing spaces as well-formed, but finds no such
/// instance.
pub(super) fn read_instance_id(text: &str) -> Result<InstanceId, Ec2Error> {
    match (
        InstanceId::parse(text),
        InstanceId::parse(text.trim_end_matches(' ')),
    ) {
        (Some(id), _) => Ok(id),
        (None, Some(_)) => Err(Ec2Error::instance_not_found(text)),
        (None, None) => Err(Ec2Error::malformed_id(text)),
    }
}

/// Parses a list of instance ids. Returns each id once, in the order of the list.
pub(super) fn read_instance_ids(texts: &[String]) -> Result<Vec<InstanceId>, Ec2Error> {
    if texts.iter().any(String::is_empty) {
        return Err(Ec2Error::missing_parameter("InstanceId"));
    }
    let mut ids = Vec::new();
    let mut seen = HashSet::new();
    for text in texts {
        let id = read_instance_id(text)?;
        if seen.insert(id.clone()) {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// Parses the list of the instances to start, stop, terminate or reboot: at least one.
pub(super) fn read_required_instance_ids(texts: &[String]) -> Result<Vec<InstanceId>, Ec2Error> {
    match texts {
        [] => Err(Ec2Error::new(
            Code::InvalidParameterCombination,
            "No instances specified",
        )),
        texts => read_instance_ids(texts),
    }
}

/// Parses the ids of the resources to tag. Only instances have tags here.
pub(super) fn read_resources(texts: &[String]) -> Result<Vec<InstanceId>, Ec2Error> {
    if texts.is_empty() || texts.iter().any(String::is_empty) {
        // EC2 names the set, not the parameter.
        return Err(Ec2Error::missing_parameter("resourceIdSet"));
    }
    let mut ids = Vec::new();
    let mut seen = HashSet::new();
    for text in texts {
        let id = InstanceId::parse(text).ok_or_else(|| {
            Ec2Error::new(Code::InvalidId, format!("The ID '{text}' is not valid"))
        })?;
        if seen.insert(id.clone()) {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// Checks the tags of a call. A missing value is empty.
pub(super) fn read_tags(tags: Vec<(String, Option<String>)>) -> Result<Vec<Tag>, Ec2Error> {
    let mut read: Vec<Tag> = Vec::new();
    for (key, value) in tags {
        refuse_invalid_key(&key)?;
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
        read.push(Tag {
            key: key.into(),
            value: value.into(),
        });
    }
    Ok(read)
}

/// Refuses a tag key that a caller cannot use.
pub(super) fn refuse_invalid_key(key: &str) -> Result<(), Ec2Error> {
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

/// Parses HttpTokens.
fn read_http_tokens(value: &str) -> Result<HttpTokens, Ec2Error> {
    HttpTokens::parse(value)
        .ok_or_else(|| Ec2Error::not_one_of(value, "HttpTokens", "optional", "required"))
}

/// Parses an option that is `enabled` or `disabled`.
fn read_switch(name: &str, value: &str) -> Result<Switch, Ec2Error> {
    Switch::parse(value).ok_or_else(|| Ec2Error::not_one_of(value, name, "enabled", "disabled"))
}

/// Parses HttpPutResponseHopLimit. EC2's message is not known; this one follows those for the other
/// options.
pub(super) fn read_hop_limit(value: &str) -> Result<HopLimit, Ec2Error> {
    let has_only_digits = value.bytes().all(|b| b.is_ascii_digit());
    let limit = value
        .parse::<i64>()
        .ok()
        .filter(|_| has_only_digits)
        .and_then(|value| HopLimit::try_from(value).ok());
    limit.ok_or_else(|| {
        Ec2Error::invalid_value(format!(
            "A value of '{value}' is not valid for HttpPutResponseHopLimit. Specify an integer from 1 to 64 and \
             try again."
        ))
    })
}

/// Parses InstanceInitiatedShutdownBehavior.
pub(super) fn read_shutdown_behavior(value: &str) -> Result<ShutdownBehavior, Ec2Error> {
    ShutdownBehavior::parse(value).ok_or_else(|| {
        Ec2Error::not_one_of(
            value,
            "InstanceInitiatedShutdownBehavior",
            "stop",
            "terminate",
        )
    })
}

/// Decodes user data.
pub(super) fn read_user_data(encoded: &str) -> Result<Vec<u8>, Ec2Error> {
    // Some clients wrap base64 at 76 characters.
    let unwrapped: String = encoded
        .chars()
        .filter(|c| !matches!(c, '\r' | '\n'))
        .collect();
    let bytes = STANDARD.decode(unwrapped).map_err(|_| {
        Ec2Error::new(
            Code::InvalidUserDataMalformed,
            "Invalid BASE64 encoding of user data.",
        )
    })?;
    if bytes.len() > MAX_USER_DATA {
        return Err(Ec2Error::invalid_value(format!(
            "User data is limited to {MAX_USER_DATA} bytes"
        )));
    }
    Ok(bytes)
}
