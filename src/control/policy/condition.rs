//! Condition keys, and the comparisons that a rule makes with their values.
//!
//! Parsing, evaluation, the lint and the error message that lists the known keys all read
//! [`INSTANCE_KEYS`] and [`REQUEST_ATTRIBUTES`]. CONTRIBUTING.md lists the steps to add a key;
//! docs/access-key-rules.md has the table for operators.

use super::pattern::Pattern;
use crate::instance::Instance;

/// The condition keys that read the instance.
pub(crate) const INSTANCE_KEYS: &[InstanceKey] = &[
    InstanceKey {
        name: "ec2:MetadataHttpTokens",
        values: Values::Words(&["optional", "required"]),
        read: |instance| instance.metadata_options.http_tokens.as_str().into(),
    },
    InstanceKey {
        name: "ec2:MetadataHttpEndpoint",
        values: Values::Words(&["enabled", "disabled"]),
        read: |instance| instance.metadata_options.http_endpoint.as_str().into(),
    },
    InstanceKey {
        name: "ec2:MetadataHttpPutResponseHopLimit",
        values: Values::HopLimits(&[]),
        read: |instance| {
            let limit = instance.metadata_options.http_put_response_hop_limit;
            AttributeValue::Number(limit.get().into())
        },
    },
    InstanceKey {
        name: "ec2:InstanceMetadataTags",
        values: Values::Words(&["enabled", "disabled"]),
        read: |instance| {
            instance
                .metadata_options
                .instance_metadata_tags
                .as_str()
                .into()
        },
    },
];

/// The names in `ec2:Attribute/<Name>`. Which action can request which values is in the
/// `ATTRIBUTES` of the actions.
pub(crate) const REQUEST_ATTRIBUTES: &[RequestAttribute] = &[
    RequestAttribute::text("DisableApiStop"),
    RequestAttribute::text("DisableApiTermination"),
    RequestAttribute::text("EbsOptimized"),
    RequestAttribute::text("HttpEndpoint"),
    RequestAttribute::text("HttpProtocolIpv6"),
    RequestAttribute::number("HttpPutResponseHopLimit"),
    RequestAttribute::text("HttpTokens"),
    RequestAttribute::text("HttpTokensEnforced"),
    RequestAttribute::text("InstanceInitiatedShutdownBehavior"),
    RequestAttribute::text("InstanceMetadataTags"),
    RequestAttribute::text("SourceDestCheck"),
    RequestAttribute::text("UserData"),
];

const ATTRIBUTE_PREFIX: &str = "ec2:Attribute/";

/// A condition key that reads the instance.
#[derive(Debug)]
pub(crate) struct InstanceKey {
    pub(crate) name: &'static str,
    /// The values that it can have.
    pub(crate) values: Values,
    /// Returns its value for an instance.
    pub(crate) read: fn(&Instance) -> AttributeValue,
}

/// A value that a call can request.
#[derive(Debug)]
pub(crate) struct RequestAttribute {
    pub(crate) name: &'static str,
    kind: ValueKind,
}

/// The kind of a key's values. Numbers can be compared; text is matched by patterns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ValueKind {
    Text,
    Number,
}

/// The values that a condition key can have.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Values {
    /// One of these words. The lint refuses a pattern that matches none of them.
    Words(&'static [&'static str]),
    /// 1 to 64, and these.
    HopLimits(&'static [i64]),
    /// Text that imdsd restricts in no way, such as user data. The lint then refuses no pattern, so
    /// [`Values::Words`] is the choice where the set is closed.
    AnyText,
}

/// A condition key that a rule names.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ConditionKey {
    Instance(&'static InstanceKey),
    Attribute(&'static RequestAttribute),
}

/// A condition of a rule: one of the comparisons must hold for the value of the key.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    pub(crate) key: ConditionKey,
    pub(crate) comparisons: Vec<Comparison>,
}

/// One comparison with the value of a key.
#[derive(Clone, Debug)]
pub(crate) enum Comparison {
    Text(Pattern),
    Equal(i64),
    Less(i64),
    AtMost(i64),
    Greater(i64),
    AtLeast(i64),
}

/// The value of a condition key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AttributeValue {
    Text(String),
    Number(i64),
}

impl RequestAttribute {
    const fn text(name: &'static str) -> RequestAttribute {
        RequestAttribute {
            name,
            kind: ValueKind::Text,
        }
    }

    const fn number(name: &'static str) -> RequestAttribute {
        RequestAttribute {
            name,
            kind: ValueKind::Number,
        }
    }
}

impl ConditionKey {
    /// Parses the name of a key as EC2 spells it.
    pub(crate) fn parse(text: &str) -> Option<ConditionKey> {
        match text.strip_prefix(ATTRIBUTE_PREFIX) {
            Some(name) => {
                let attribute = REQUEST_ATTRIBUTES.iter().find(|known| known.name == name);
                attribute.map(ConditionKey::Attribute)
            }
            None => {
                let key = INSTANCE_KEYS.iter().find(|known| known.name == text);
                key.map(ConditionKey::Instance)
            }
        }
    }

    /// Returns all keys in words, for an error message.
    pub(crate) fn known() -> String {
        let keys: Vec<&str> = INSTANCE_KEYS.iter().map(|key| key.name).collect();
        let attributes: Vec<&str> = REQUEST_ATTRIBUTES.iter().map(|known| known.name).collect();
        let (keys, attributes) = (keys.join(", "), attributes.join(", "));
        format!("{keys}, and {ATTRIBUTE_PREFIX} with {attributes}")
    }

    /// Returns the kind of the key's values.
    pub(crate) fn kind(self) -> ValueKind {
        match self {
            ConditionKey::Instance(key) => key.values.kind(),
            ConditionKey::Attribute(attribute) => attribute.kind,
        }
    }
}

impl Condition {
    /// Returns whether one of the comparisons holds.
    pub(crate) fn holds(&self, value: &AttributeValue) -> bool {
        self.comparisons
            .iter()
            .any(|comparison| comparison.holds(value))
    }
}

impl Comparison {
    /// Parses `2`, `<2`, `<=2`, `>2` or `>=2` for a number, and a pattern for text.
    pub(crate) fn parse(text: &str, kind: ValueKind) -> Option<Comparison> {
        if kind == ValueKind::Text {
            return Some(Comparison::Text(Pattern::read(text)));
        }
        let number = |text: &str| text.trim().parse::<i64>().ok();
        if let Some(rest) = text.strip_prefix("<=") {
            return number(rest).map(Comparison::AtMost);
        }
        if let Some(rest) = text.strip_prefix(">=") {
            return number(rest).map(Comparison::AtLeast);
        }
        if let Some(rest) = text.strip_prefix('<') {
            return number(rest).map(Comparison::Less);
        }
        if let Some(rest) = text.strip_prefix('>') {
            return number(rest).map(Comparison::Greater);
        }
        number(text).map(Comparison::Equal)
    }

    /// Returns whether the comparison holds. Text and numbers never compare.
    pub(crate) fn holds(&self, value: &AttributeValue) -> bool {
        match (self, value) {
            (Comparison::Text(pattern), AttributeValue::Text(text)) => pattern.matches(text),
            (Comparison::Equal(wanted), AttributeValue::Number(number)) => number == wanted,
            (Comparison::Less(bound), AttributeValue::Number(number)) => number < bound,
            (Comparison::AtMost(bound), AttributeValue::Number(number)) => number <= bound,
            (Comparison::Greater(bound), AttributeValue::Number(number)) => number > bound,
            (Comparison::AtLeast(bound), AttributeValue::Number(number)) => number >= bound,
            (Comparison::Text(_), AttributeValue::Number(_))
            | (
                Comparison::Equal(_)
                | Comparison::Less(_)
                | Comparison::AtMost(_)
                | Comparison::Greater(_)
                | Comparison::AtLeast(_),
                AttributeValue::Text(_),
            ) => false,
        }
    }
}

impl Values {
    /// Returns the kind of the values.
    pub(crate) fn kind(self) -> ValueKind {
        match self {
            Values::Words(_) | Values::AnyText => ValueKind::Text,
            Values::HopLimits(_) => ValueKind::Number,
        }
    }

    /// Returns the values without those that clear a preference.
    pub(crate) fn without_no_preference(self) -> Values {
        match self {
            Values::Words(words) => {
                Values::Words(words.strip_suffix(&["no-preference"]).unwrap_or(words))
            }
            Values::HopLimits(_) => Values::HopLimits(&[]),
            Values::AnyText => Values::AnyText,
        }
    }

    /// Returns whether the comparison holds for one of the values.
    pub(crate) fn can_satisfy(self, comparison: &Comparison) -> bool {
        match self {
            Values::Words(words) => words
                .iter()
                .any(|word| comparison.holds(&AttributeValue::from(*word))),
            Values::HopLimits(others) => (1..=64)
                .chain(others.iter().copied())
                .any(|limit| comparison.holds(&AttributeValue::Number(limit))),
            Values::AnyText => true,
        }
    }

    /// Returns the values in words, for an error message.
    pub(crate) fn describe(self) -> String {
        match self {
            Values::Words(words) => words.join(", "),
            Values::HopLimits(others) => ["1 to 64".to_string()]
                .into_iter()
                .chain(others.iter().map(i64::to_string))
                .collect::<Vec<_>>()
                .join(", "),
            Values::AnyText => "any text".to_string(),
        }
    }
}

impl From<&str> for AttributeValue {
    fn from(text: &str) -> AttributeValue {
        AttributeValue::Text(text.to_string())
    }
}

impl From<bool> for AttributeValue {
    fn from(flag: bool) -> AttributeValue {
        AttributeValue::from(if flag { "true" } else { "false" })
    }
}
