//! Instance metadata options: the five that EC2's ModifyInstanceMetadataOptions changes on a
//! running instance.
//!
//! Names, values and ranges are those of EC2's API type `InstanceMetadataOptionsRequest`:
//! <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_InstanceMetadataOptionsRequest.html>.
//! This file defines the options and how a partial update changes them. Only `guest/gate/` decides
//! what they mean for a request.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Whether reads need a session token (`HttpTokens`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HttpTokens {
    /// Reads with and without a token are served. An invalid token is still refused.
    Optional,
    /// Only reads with a valid token are served.
    Required,
}

/// `enabled` or `disabled`: the values of HttpEndpoint, HttpProtocolIpv6 and InstanceMetadataTags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    /// `enabled`
    Enabled,
    /// `disabled`
    Disabled,
}

impl HttpTokens {
    /// Returns EC2's word.
    pub fn as_str(self) -> &'static str {
        match self {
            HttpTokens::Optional => "optional",
            HttpTokens::Required => "required",
        }
    }

    /// Parses EC2's word; returns `None` for anything else, including other letter cases.
    pub fn parse(word: &str) -> Option<HttpTokens> {
        match word {
            "optional" => Some(HttpTokens::Optional),
            "required" => Some(HttpTokens::Required),
            _ => None,
        }
    }
}

impl Switch {
    /// Returns EC2's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Switch::Enabled => "enabled",
            Switch::Disabled => "disabled",
        }
    }

    /// Parses EC2's word; returns `None` for anything else.
    pub fn parse(word: &str) -> Option<Switch> {
        match word {
            "enabled" => Some(Switch::Enabled),
            "disabled" => Some(Switch::Disabled),
            _ => None,
        }
    }
}

/// How many IP hops a token answer can travel (`HttpPutResponseHopLimit`): 1 to 64.
///
/// It becomes the IPv4 TTL or IPv6 hop limit of the packets that answer a PUT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct HopLimit(u8);

impl HopLimit {
    /// The smallest hop limit: the answer reaches the instance itself, but passes no router.
    pub const ONE: HopLimit = HopLimit(1);
    /// EC2's value where tokens default to `required`: the answer also reaches a container on the
    /// instance.
    pub const TWO: HopLimit = HopLimit(2);

    /// Returns the value, 1 to 64.
    pub fn get(self) -> u8 {
        self.0
    }
}

/// A hop limit outside 1 to 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HopLimitOutOfRange(pub i64);

impl fmt::Display for HopLimitOutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a hop limit is 1 to 64, not {}", self.0)
    }
}

impl std::error::Error for HopLimitOutOfRange {}

impl TryFrom<i64> for HopLimit {
    type Error = HopLimitOutOfRange;

    fn try_from(value: i64) -> Result<Self, Self::Error> {
        match u8::try_from(value) {
            Ok(limit @ 1..=64) => Ok(HopLimit(limit)),
            _ => Err(HopLimitOutOfRange(value)),
        }
    }
}

impl From<HopLimit> for i64 {
    fn from(limit: HopLimit) -> i64 {
        limit.0.into()
    }
}

/// All options of one instance. Every field has a value; nothing is inherited later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", from = "OptionsUpdate")]
pub struct MetadataOptions {
    /// `HttpTokens`
    pub http_tokens: HttpTokens,
    /// `HttpPutResponseHopLimit`
    pub http_put_response_hop_limit: HopLimit,
    /// `HttpEndpoint`
    pub http_endpoint: Switch,
    /// `HttpProtocolIpv6`
    pub http_protocol_ipv6: Switch,
    /// `InstanceMetadataTags`
    pub instance_metadata_tags: Switch,
}

impl MetadataOptions {
    /// Returns the names of the options in EC2's API, in alphabetical order, with the values in JSON.
    pub fn named(&self) -> [(&'static str, OptionValue); 5] {
        use OptionValue::{Number, Word};
        [
            ("HttpEndpoint", Word(self.http_endpoint.as_str())),
            ("HttpProtocolIpv6", Word(self.http_protocol_ipv6.as_str())),
            (
                "HttpPutResponseHopLimit",
                Number(self.http_put_response_hop_limit.get()),
            ),
            ("HttpTokens", Word(self.http_tokens.as_str())),
            (
                "InstanceMetadataTags",
                Word(self.instance_metadata_tags.as_str()),
            ),
        ]
    }
}

/// The value of an option. It is displayed as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionValue {
    /// One of EC2's words.
    Word(&'static str),
    /// A number.
    Number(u8),
}

impl fmt::Display for OptionValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OptionValue::Word(word) => write!(f, "\"{word}\""),
            OptionValue::Number(number) => write!(f, "{number}"),
        }
    }
}

/// The options in a stored record: all five and nothing else. A default for a missing option, or
/// for one that a newer version added, could be weaker than the acknowledged value.
#[derive(Deserialize)]
#[serde(
    remote = "MetadataOptions",
    rename_all = "PascalCase",
    deny_unknown_fields
)]
pub struct RecordedOptions {
    http_tokens: HttpTokens,
    http_put_response_hop_limit: HopLimit,
    http_endpoint: Switch,
    http_protocol_ipv6: Switch,
    instance_metadata_tags: Switch,
}

impl Default for MetadataOptions {
    /// Returns the options of an instance whose document contains none: those that EC2 gives to
    /// IMDSv2-only images and instance types. This is the strictest of EC2's defaults: tokens are
    /// optional only where the document says so.
    fn default() -> Self {
        MetadataOptions {
            http_tokens: HttpTokens::Required,
            http_put_response_hop_limit: HopLimit::TWO,
            http_endpoint: Switch::Enabled,
            http_protocol_ipv6: Switch::Disabled,
            instance_metadata_tags: Switch::Disabled,
        }
    }
}

impl From<OptionsUpdate> for MetadataOptions {
    /// Returns the options of an instance whose document contains these.
    fn from(given: OptionsUpdate) -> MetadataOptions {
        let mut options = MetadataOptions::default();
        // EC2's rule: the default hop limit is 2 only if tokens are required, else 1.
        if given.http_tokens == Some(HttpTokens::Optional) {
            options.http_put_response_hop_limit = HopLimit::ONE;
        }
        given.apply(&mut options);
        options
    }
}

/// The options in a ModifyInstanceMetadataOptions call or a document. Missing options keep their
/// values. EC2's read-only `State` is ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct OptionsUpdate {
    /// `HttpTokens`
    pub http_tokens: Option<HttpTokens>,
    /// `HttpPutResponseHopLimit`
    pub http_put_response_hop_limit: Option<HopLimit>,
    /// `HttpEndpoint`
    pub http_endpoint: Option<Switch>,
    /// `HttpProtocolIpv6`
    pub http_protocol_ipv6: Option<Switch>,
    /// `InstanceMetadataTags`
    pub instance_metadata_tags: Option<Switch>,
}

/// The options that the document of an instance names, from reading the document to registering the
/// instance, which resolves the others. `None` once all are resolved.
///
/// Not a part of what an instance is: instances that differ only here are equal.
#[derive(Clone, Copy, Debug, Default)]
pub struct NamedOptions(pub Option<OptionsUpdate>);

impl PartialEq for NamedOptions {
    fn eq(&self, _: &NamedOptions) -> bool {
        true
    }
}

impl OptionsUpdate {
    /// The names of the options, as EC2 writes them.
    pub const NAMES: [&str; 5] = [
        "HttpTokens",
        "HttpPutResponseHopLimit",
        "HttpEndpoint",
        "HttpProtocolIpv6",
        "InstanceMetadataTags",
    ];

    /// Applies the update to `options`.
    pub fn apply(self, options: &mut MetadataOptions) {
        let OptionsUpdate {
            http_tokens,
            http_put_response_hop_limit,
            http_endpoint,
            http_protocol_ipv6,
            instance_metadata_tags,
        } = self;
        options.http_tokens = http_tokens.unwrap_or(options.http_tokens);
        options.http_put_response_hop_limit =
            http_put_response_hop_limit.unwrap_or(options.http_put_response_hop_limit);
        options.http_endpoint = http_endpoint.unwrap_or(options.http_endpoint);
        options.http_protocol_ipv6 = http_protocol_ipv6.unwrap_or(options.http_protocol_ipv6);
        options.instance_metadata_tags =
            instance_metadata_tags.unwrap_or(options.instance_metadata_tags);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "Possible values: Integers from 1 to 64":
    /// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_InstanceMetadataOptionsRequest.html>
    #[test]
    fn a_hop_limit_is_1_to_64() {
        for value in -70_000..70_000 {
            assert_eq!(
                HopLimit::try_from(value).is_ok(),
                (1..=64).contains(&value),
                "{value}"
            );
        }
        for value in [i64::MIN, i64::MAX, 256 + 1, 65_536 + 1] {
            assert_eq!(HopLimit::try_from(value), Err(HopLimitOutOfRange(value)));
        }
    }

    #[test]
    fn only_ec2s_words_in_lower_case_are_parsed() {
        for word in ["", "Optional", "REQUIRED", "required ", "bogus", "enabled"] {
            assert_eq!(HttpTokens::parse(word), None, "{word:?}");
        }
        for word in ["", "Enabled", "true", "on", "disabled\n", "optional"] {
            assert_eq!(Switch::parse(word), None, "{word:?}");
        }
        for tokens in [HttpTokens::Optional, HttpTokens::Required] {
            assert_eq!(HttpTokens::parse(tokens.as_str()), Some(tokens));
        }
        for switch in [Switch::Enabled, Switch::Disabled] {
            assert_eq!(Switch::parse(switch.as_str()), Some(switch));
        }
    }

    #[test]
    fn an_update_changes_only_the_options_it_contains() {
        let before = MetadataOptions::default();
        let mut after = before;
        OptionsUpdate {
            http_endpoint: Some(Switch::Disabled),
            ..OptionsUpdate::default()
        }
        .apply(&mut after);
        assert_eq!(
            after,
            MetadataOptions {
                http_endpoint: Switch::Disabled,
                ..before
            }
        );

        OptionsUpdate::default().apply(&mut after);
        assert_eq!(
            after,
            MetadataOptions {
                http_endpoint: Switch::Disabled,
                ..before
            }
        );
    }

    #[test]
    fn tokens_are_required_unless_the_document_says_optional() {
        let read = |text: &str| serde_json::from_str::<MetadataOptions>(text);
        assert_eq!(read("{}").unwrap(), MetadataOptions::default());
        assert_eq!(
            read(r#"{"State":"applied"}"#).unwrap().http_tokens,
            HttpTokens::Required
        );
        assert_eq!(
            read(r#"{"HttpTokens":"optional"}"#)
                .unwrap()
                .http_put_response_hop_limit,
            HopLimit::ONE
        );
        for bad in [
            r#"{"HttpTokens":"bogus"}"#,
            r#"{"HttpTokens":""}"#,
            r#"{"HttpPutResponseHopLimit":0}"#,
            r#"{"HttpPutResponseHopLimit":65}"#,
            r#"{"HttpPutResponseHopLimit":"2"}"#,
            r#"{"HttpEndpoint":true}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
