//! Who may do what: the rules of an access key, in the order they stand in. The first rule that fits decides. A key
//! without rules may do everything; where there are rules and none fits, the call is refused.
//!
//! A rule can ask for the action, the instance's id, its tags, its metadata options as they are
//! (`ec2:MetadataHttpTokens`, `ec2:MetadataHttpEndpoint`, `ec2:MetadataHttpPutResponseHopLimit`,
//! `ec2:InstanceMetadataTags`) and the values that the call asks for (`ec2:Attribute/<Name>`). An instance that is to be
//! launched is judged by what it would be; which id it gets is not known then.
//!
//! A value is judged as it takes effect, not as it is spelled. One that has two faces, like `no-preference` and what
//! launches get then, counts as both: a denial fits when it fits either, a permission when it fits both.
//!
//! An id that nobody has is judged so that it can't be told from one that the caller may not touch: of a rule that looks
//! at more of the instance than its id, a denial counts as fitting and a permission does not.
//!
//! Not supported: ARNs, principals, other condition keys and operators, policy variables.

pub(super) mod lint;
pub(super) mod pattern;

use crate::control::policy::pattern::Pattern;
use crate::instance::{Instance, InstanceId};

/// The names behind `ec2:Attribute/`.
pub(super) const ATTRIBUTES: [&str; 9] = [
    "DisableApiStop",
    "DisableApiTermination",
    "HttpEndpoint",
    "HttpProtocolIpv6",
    "HttpPutResponseHopLimit",
    "HttpTokens",
    "HttpTokensEnforced",
    "InstanceMetadataTags",
    "UserData",
];

/// Matched by exactly the patterns that match every id, as no pattern of ids has a dot in it.
pub(super) const ANY_ID: &str = "i-.................";

/// The rules of one access key; `None` lets everything pass.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules(pub(super) Option<Vec<Rule>>);

/// One rule. A part that is absent fits everything.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) effect: Effect,
    pub(super) actions: Vec<Pattern>,
    pub(super) instances: Option<Vec<Pattern>>,
    /// All of these keys, each with one of these values.
    pub(super) tags: Vec<(String, Vec<Pattern>)>,
    /// All of these.
    pub(super) conditions: Vec<Condition>,
}

/// What a rule that fits does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Allow,
    Deny,
}

/// A condition key with the values of which one must be there.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    pub(super) key: ConditionKey,
    pub(super) values: Vec<Test>,
}

/// The condition keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ConditionKey {
    MetadataHttpTokens,
    MetadataHttpEndpoint,
    MetadataHttpPutResponseHopLimit,
    InstanceMetadataTags,
    /// One of [`ATTRIBUTES`].
    Attribute(&'static str),
}

/// What a value must be.
#[derive(Clone, Debug)]
pub(super) enum Test {
    Text(Pattern),
    Equal(i64),
    Below(i64),
    AtMost(i64),
    Above(i64),
    AtLeast(i64),
}

/// What a call asks for, by the names of [`ATTRIBUTES`]. A name may stand twice: all of its values count.
pub(super) type Attributes = Vec<(&'static str, Value)>;

/// What rules judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Number(i64),
}

/// What a call wants to do.
pub(super) struct AccessRequest<'a> {
    /// With its service: `ec2:StopInstances`.
    pub(super) action: &'a str,
    pub(super) attributes: &'a Attributes,
    pub(super) target: Target<'a>,
}

/// To what it wants to do it.
#[derive(Clone, Copy)]
pub(super) enum Target<'a> {
    /// The account, or nothing at all.
    Account,
    Instance(&'a Instance),
    /// An instance as it would be launched. Its id is made up and stands for any.
    Launch(&'a Instance),
    /// An id that nobody has.
    Nobody(&'a InstanceId),
}

/// Whether a rule, or a part of it, fits. The whole fits as well as the part that fits worst.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    No,
    /// It depends on an instance that is not there, or fits one of two values that both count.
    Unknown,
    Yes,
}

impl From<bool> for Fit {
    fn from(fits: bool) -> Fit {
        if fits { Fit::Yes } else { Fit::No }
    }
}

/// Whether a launch may get an id that the pattern matches: one that nobody knows yet.
pub(super) fn may_be_of_a_launch(pattern: &Pattern) -> bool {
    pattern.has_wildcards() && pattern.matches_a_new_id()
}

impl Rules {
    /// Whether the call may do what it wants.
    pub(super) fn allow(&self, wish: &AccessRequest<'_>) -> bool {
        let Some(rules) = &self.0 else { return true };
        let deciding = rules
            .iter()
            .find(|rule| match (rule.fit(wish), rule.effect) {
                (Fit::Yes, _) | (Fit::Unknown, Effect::Deny) => true,
                (Fit::No, _) | (Fit::Unknown, Effect::Allow) => false,
            });
        deciding.is_some_and(|rule| rule.effect == Effect::Allow)
    }

    /// Whether there can be an instance at all that the action may touch. Where there can't, a list is refused and not
    /// empty.
    pub(super) fn allow_some(&self, action: &str) -> bool {
        let Some(rules) = &self.0 else { return true };
        let about = |rule: &&Rule| rule.actions.iter().any(|pattern| pattern.matches(action));
        for rule in rules.iter().filter(about) {
            match rule.effect {
                Effect::Allow => return true,
                Effect::Deny if rule.is_unconditional() => return false,
                Effect::Deny => {}
            }
        }
        false
    }
}

impl Rule {
    fn fit(&self, wish: &AccessRequest<'_>) -> Fit {
        let any =
            |patterns: &[Pattern], text: &str| patterns.iter().any(|pattern| pattern.matches(text));
        let action = Fit::from(any(&self.actions, wish.action));
        let instances = self
            .instances
            .as_ref()
            .map_or(Fit::Yes, |patterns| match wish.target {
                Target::Account => Fit::No,
                Target::Instance(instance) => {
                    Fit::from(any(patterns, instance.instance_id.as_str()))
                }
                Target::Nobody(id) => Fit::from(any(patterns, id.as_str())),
                // Whoever may launch must not be able to try until an id is on the right side of a rule.
                Target::Launch(_) if any(patterns, ANY_ID) => Fit::Yes,
                Target::Launch(_) if patterns.iter().any(may_be_of_a_launch) => Fit::Unknown,
                // Ids that somebody knows are not given to anything new.
                Target::Launch(_) => Fit::No,
            });
        let tags = match wish.target {
            _ if self.tags.is_empty() => Fit::Yes,
            Target::Account => Fit::No,
            Target::Nobody(_) => Fit::Unknown,
            Target::Instance(instance) | Target::Launch(instance) => {
                let value_of = |key: &str| {
                    instance
                        .tags
                        .iter()
                        .find(|tag| tag.key == key)
                        .map(|tag| &tag.value)
                };
                Fit::from(
                    self.tags
                        .iter()
                        .all(|(key, values)| value_of(key).is_some_and(|value| any(values, value))),
                )
            }
        };
        let parts = [action, instances, tags]
            .into_iter()
            .chain(self.conditions.iter().map(|of| of.fit(wish)));
        parts.min().unwrap_or(Fit::Yes)
    }

    fn is_unconditional(&self) -> bool {
        let every_instance =
            |patterns: &Vec<Pattern>| patterns.iter().any(|pattern| pattern.matches_everything());
        self.instances.as_ref().is_none_or(every_instance)
            && self.tags.is_empty()
            && self.conditions.is_empty()
    }
}

impl Condition {
    /// A value that is not there fits nothing. What the request itself says is known even where the instance is not.
    fn fit(&self, wish: &AccessRequest<'_>) -> Fit {
        let holds = |value: &Value| self.values.iter().any(|test| test.holds(value));
        match (&self.key, wish.target) {
            (ConditionKey::Attribute(wanted), _) => {
                let asked = wish.attributes.iter().filter(|(name, _)| name == wanted);
                let (held, all) = asked.fold((0, 0), |(held, all), (_, value)| {
                    (held + u32::from(holds(value)), all + 1)
                });
                match held {
                    0 => Fit::No,
                    held if held == all => Fit::Yes,
                    _ => Fit::Unknown,
                }
            }
            (_, Target::Account) => Fit::No,
            (_, Target::Nobody(_)) => Fit::Unknown,
            (key, Target::Instance(instance) | Target::Launch(instance)) => {
                Fit::from(key.of_instance(instance).is_some_and(|value| holds(&value)))
            }
        }
    }
}

impl ConditionKey {
    /// Reads EC2's spelling.
    pub(super) fn parse(text: &str) -> Option<ConditionKey> {
        match text {
            "ec2:MetadataHttpTokens" => Some(ConditionKey::MetadataHttpTokens),
            "ec2:MetadataHttpEndpoint" => Some(ConditionKey::MetadataHttpEndpoint),
            "ec2:MetadataHttpPutResponseHopLimit" => {
                Some(ConditionKey::MetadataHttpPutResponseHopLimit)
            }
            "ec2:InstanceMetadataTags" => Some(ConditionKey::InstanceMetadataTags),
            other => {
                let name = other.strip_prefix("ec2:Attribute/")?;
                ATTRIBUTES
                    .iter()
                    .find(|known| **known == name)
                    .map(|known| ConditionKey::Attribute(known))
            }
        }
    }

    /// What an instance has under this key.
    fn of_instance(&self, instance: &Instance) -> Option<Value> {
        let options = &instance.metadata_options;
        match self {
            ConditionKey::MetadataHttpTokens => Some(options.http_tokens.as_str().into()),
            ConditionKey::MetadataHttpEndpoint => Some(options.http_endpoint.as_str().into()),
            ConditionKey::MetadataHttpPutResponseHopLimit => Some(Value::Number(
                options.http_put_response_hop_limit.get().into(),
            )),
            ConditionKey::InstanceMetadataTags => {
                Some(options.instance_metadata_tags.as_str().into())
            }
            ConditionKey::Attribute(_) => None,
        }
    }

    /// Whether its values are numbers, which can be compared.
    pub(super) fn is_numeric(&self) -> bool {
        matches!(
            self,
            ConditionKey::MetadataHttpPutResponseHopLimit
                | ConditionKey::Attribute("HttpPutResponseHopLimit")
        )
    }
}

impl Test {
    /// Reads `2`, `<2`, `<=2`, `>2` or `>=2` for a numeric key, a pattern for any other.
    pub(super) fn parse(text: &str, key: &ConditionKey) -> Option<Test> {
        if !key.is_numeric() {
            return Some(Test::Text(Pattern::read(text)));
        }
        let number = |text: &str| text.trim().parse::<i64>().ok();
        if let Some(rest) = text.strip_prefix("<=") {
            return number(rest).map(Test::AtMost);
        }
        if let Some(rest) = text.strip_prefix(">=") {
            return number(rest).map(Test::AtLeast);
        }
        if let Some(rest) = text.strip_prefix('<') {
            return number(rest).map(Test::Below);
        }
        if let Some(rest) = text.strip_prefix('>') {
            return number(rest).map(Test::Above);
        }
        number(text).map(Test::Equal)
    }

    pub(super) fn holds(&self, value: &Value) -> bool {
        match (self, value) {
            (Test::Text(pattern), Value::Text(text)) => pattern.matches(text),
            (Test::Equal(wanted), Value::Number(number)) => number == wanted,
            (Test::Below(bound), Value::Number(number)) => number < bound,
            (Test::AtMost(bound), Value::Number(number)) => number <= bound,
            (Test::Above(bound), Value::Number(number)) => number > bound,
            (Test::AtLeast(bound), Value::Number(number)) => number >= bound,
            (Test::Text(_), Value::Number(_))
            | (
                Test::Equal(_)
                | Test::Below(_)
                | Test::AtMost(_)
                | Test::Above(_)
                | Test::AtLeast(_),
                Value::Text(_),
            ) => false,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::demo_instance;
    use crate::control::access_keys::rules;

    const MODIFY: &str = "ec2:ModifyInstanceMetadataOptions";

    fn demo() -> Instance {
        // i-0123456789abcdef0, with a tag Name.
        let mut instance = demo_instance();
        instance.tags = vec![crate::instance::Tag {
            key: "team".into(),
            value: "web".into(),
        }];
        instance
    }

    fn allows(
        rules: &Rules,
        action: &str,
        attributes: &[(&'static str, &str)],
        target: Target<'_>,
    ) -> bool {
        let value = |text: &str| text.parse().map_or_else(|_| text.into(), Value::Number);
        let attributes = attributes
            .iter()
            .map(|(name, text)| (*name, value(text)))
            .collect();
        rules.allow(&AccessRequest {
            action,
            attributes: &attributes,
            target,
        })
    }

    #[test]
    fn the_first_rule_that_fits_decides_and_none_is_a_denial() {
        let allow = r#"{ effect = "allow", actions = ["ec2:*"] }"#;
        let deny = r#"{ effect = "deny", actions = ["ec2:Modify*"] }"#;
        let instance = demo();
        let target = Target::Instance(&instance);
        assert!(Rules::default().allow(&AccessRequest {
            action: MODIFY,
            attributes: &Vec::new(),
            target
        }));
        for (of, action, allowed) in [
            (vec![allow, deny], MODIFY, true),
            (vec![deny, allow], MODIFY, false),
            (vec![deny, allow], "ec2:DescribeInstances", true),
            (vec![deny], "ec2:DescribeInstances", false),
            (vec![allow], "ec2-instance-connect:SendSSHPublicKey", false),
        ] {
            assert_eq!(
                allows(&rules(&of), action, &[], target),
                allowed,
                "{of:?} {action}"
            );
        }
    }

    #[test]
    fn every_part_of_a_rule_must_fit() {
        let instance = demo();
        let rule = |rest: &str| {
            rules(&[&format!(
                r#"{{ effect = "allow", actions = ["ec2:*"], {rest} }}"#
            )])
        };
        for (rest, attributes, allowed) in [
            (r#"instances = ["i-0123*"]"#, &[][..], true),
            (
                r#"instances = ["i-0000*", "i-0123456789abcdef?"]"#,
                &[],
                true,
            ),
            (r#"instances = ["i-0000*"]"#, &[], false),
            (r#"tags = { team = "web" }"#, &[], true),
            (r#"tags = { team = ["db", "w*"] }"#, &[], true),
            (r#"tags = { team = "Web" }"#, &[], false),
            (r#"tags = { team = "web", Name = "*" }"#, &[], false),
            (
                r#"conditions = { "ec2:MetadataHttpTokens" = "optional" }"#,
                &[],
                true,
            ),
            (
                r#"conditions = { "ec2:MetadataHttpTokens" = "required" }"#,
                &[],
                false,
            ),
            (
                r#"conditions = { "ec2:MetadataHttpEndpoint" = ["enabled", "disabled"] }"#,
                &[],
                true,
            ),
            (
                r#"conditions = { "ec2:InstanceMetadataTags" = "disabled" }"#,
                &[],
                true,
            ),
            (
                r#"conditions = { "ec2:InstanceMetadataTags" = "enabled" }"#,
                &[],
                false,
            ),
            (
                r#"conditions = { "ec2:MetadataHttpPutResponseHopLimit" = 2 }"#,
                &[],
                true,
            ),
            (
                r#"conditions = { "ec2:MetadataHttpPutResponseHopLimit" = ">2" }"#,
                &[],
                false,
            ),
            (
                r#"conditions = { "ec2:MetadataHttpPutResponseHopLimit" = "<=2" }"#,
                &[],
                true,
            ),
            (
                r#"conditions = { "ec2:Attribute/HttpTokens" = "required" }"#,
                &[],
                false,
            ),
            (
                r#"conditions = { "ec2:Attribute/HttpTokens" = "required" }"#,
                &[("HttpTokens", "optional")],
                false,
            ),
            (
                r#"conditions = { "ec2:Attribute/HttpTokens" = "required" }"#,
                &[("HttpTokens", "required")],
                true,
            ),
            (
                r#"conditions = { "ec2:Attribute/HttpPutResponseHopLimit" = ["<3", ">=64"] }"#,
                &[("HttpPutResponseHopLimit", "3")],
                false,
            ),
            (
                r#"conditions = { "ec2:Attribute/HttpPutResponseHopLimit" = ["<3", ">=64"] }"#,
                &[("HttpPutResponseHopLimit", "64")],
                true,
            ),
            (
                r#"instances = ["i-0123*"], tags = { team = "db" }"#,
                &[],
                false,
            ),
        ] {
            let mut instance = instance.clone();
            instance.metadata_options.http_tokens = crate::instance::HttpTokens::Optional;
            let target = Target::Instance(&instance);
            assert_eq!(
                allows(&rule(rest), MODIFY, attributes, target),
                allowed,
                "{rest} {attributes:?}"
            );
        }
    }

    /// "no-preference" is a word, and has the effect of another.
    #[test]
    fn of_two_values_that_both_count_a_denial_takes_either_and_a_permission_both() {
        let all = r#"{ effect = "allow", actions = ["*"] }"#;
        let rule = |effect: &str, values: &str| {
            let key = "ec2:Attribute/HttpTokensEnforced";
            format!(
                r#"{{ effect = "{effect}", actions = ["ec2:*"], conditions = {{ "{key}" = {values} }} }}"#
            )
        };
        let both = [
            ("HttpTokensEnforced", "no-preference"),
            ("HttpTokensEnforced", "disabled"),
        ];
        for (of, attributes, allowed) in [
            (
                vec![rule("deny", r#""disabled""#), all.into()],
                &both[..],
                false,
            ),
            (
                vec![rule("deny", r#""no-preference""#), all.into()],
                &both,
                false,
            ),
            (vec![rule("deny", r#""enabled""#), all.into()], &both, true),
            (vec![rule("deny", r#""disabled""#), all.into()], &[], true),
            (vec![rule("allow", r#""disabled""#)], &both, false),
            (
                vec![rule("allow", r#"["no-preference", "disabled"]"#)],
                &both,
                true,
            ),
            (vec![rule("allow", r#""disabled""#)], &both[1..], true),
        ] {
            let of: Vec<&str> = of.iter().map(String::as_str).collect();
            let action = "ec2:ModifyInstanceMetadataDefaults";
            assert_eq!(
                allows(&rules(&of), action, attributes, Target::Account),
                allowed,
                "{of:?} {attributes:?}"
            );
        }
    }

    /// Else a launch could be repeated until its id is one that the rules like.
    #[test]
    fn the_id_of_a_launch_is_not_known_yet() {
        let all = r#"{ effect = "allow", actions = ["*"] }"#;
        let rule = |effect: &str, ids: &str| {
            format!(r#"{{ effect = "{effect}", actions = ["ec2:*"], instances = ["{ids}"] }}"#)
        };
        let instance = demo();
        for (of, allowed) in [
            (vec![rule("allow", "*")], true),
            (vec![rule("allow", "i-*")], true),
            (vec![rule("allow", "i-?????????????????")], true),
            (vec![rule("allow", "i-0*")], false),
            (vec![rule("allow", "i-*0*")], false),
            (vec![rule("allow", "i-????????")], false),
            (vec![rule("allow", "i-0123456789abcdef0")], false),
            (vec![rule("deny", "*"), all.into()], false),
            (vec![rule("deny", "i-f*"), all.into()], false),
            (vec![rule("deny", "i-????????"), all.into()], true),
            (vec![rule("deny", "i-f???????????????0"), all.into()], false),
            // Nothing new gets an id that a rule knows already.
            (vec![rule("deny", "i-0123456789abcdef0"), all.into()], true),
        ] {
            let of: Vec<&str> = of.iter().map(String::as_str).collect();
            assert_eq!(
                allows(
                    &rules(&of),
                    "ec2:RunInstances",
                    &[],
                    Target::Launch(&instance)
                ),
                allowed,
                "{of:?}"
            );
        }
    }

    /// Whoever may not touch an instance can't tell it from one that is not there.
    #[test]
    fn an_id_that_nobody_has_is_judged_as_one_that_may_not_be_touched() {
        let nobody = InstanceId::parse("i-00000000").unwrap();
        let all = r#"{ effect = "allow", actions = ["*"] }"#;
        for (of, allowed) in [
            (vec![all], true),
            (
                vec![r#"{ effect = "allow", actions = ["*"], tags = { team = "web" } }"#],
                false,
            ),
            (
                vec![
                    r#"{ effect = "deny", actions = ["*"], tags = { team = "web" } }"#,
                    all,
                ],
                false,
            ),
            (
                vec![
                    r#"{ effect = "deny", actions = ["*"], conditions = { "ec2:MetadataHttpTokens" = "required" } }"#,
                    all,
                ],
                false,
            ),
            (
                vec![
                    r#"{ effect = "deny", actions = ["*"], instances = ["i-1*"], tags = { team = "web" } }"#,
                    all,
                ],
                true,
            ),
            (
                vec![r#"{ effect = "allow", actions = ["*"], instances = ["i-0*"] }"#],
                true,
            ),
            (
                vec![
                    r#"{ effect = "deny", actions = ["*"], conditions = { "ec2:Attribute/HttpTokens" = "optional" } }"#,
                    all,
                ],
                true,
            ),
        ] {
            assert_eq!(
                allows(&rules(&of), MODIFY, &[], Target::Nobody(&nobody)),
                allowed,
                "{of:?}"
            );
        }
    }

    #[test]
    fn a_rule_about_instances_says_nothing_of_the_account() {
        let all = r#"{ effect = "allow", actions = ["*"] }"#;
        for (of, allowed) in [
            (vec![all], true),
            (
                vec![r#"{ effect = "allow", actions = ["*"], instances = ["*"] }"#],
                false,
            ),
            (
                vec![r#"{ effect = "allow", actions = ["*"], tags = { team = "*" } }"#],
                false,
            ),
            (
                vec![
                    r#"{ effect = "deny", actions = ["*"], instances = ["*"] }"#,
                    all,
                ],
                true,
            ),
        ] {
            let action = "ec2:ModifyInstanceMetadataDefaults";
            assert_eq!(
                allows(&rules(&of), action, &[], Target::Account),
                allowed,
                "{of:?}"
            );
        }
    }

    #[test]
    fn a_list_is_refused_where_nothing_could_be_in_it() {
        let action = "ec2:DescribeInstances";
        for (of, allowed) in [
            (
                vec![r#"{ effect = "allow", actions = ["*"], tags = { team = "web" } }"#],
                true,
            ),
            (
                vec![r#"{ effect = "allow", actions = ["ec2:Modify*"] }"#],
                false,
            ),
            (
                vec![
                    r#"{ effect = "deny", actions = ["ec2:Describe*"] }"#,
                    r#"{ effect = "allow", actions = ["*"], tags = { team = "web" } }"#,
                ],
                false,
            ),
            (
                vec![
                    r#"{ effect = "deny", actions = ["*"], tags = { team = "db" } }"#,
                    r#"{ effect = "allow", actions = ["*"] }"#,
                ],
                true,
            ),
        ] {
            assert_eq!(rules(&of).allow_some(action), allowed, "{of:?}");
        }
        assert!(Rules::default().allow_some(action));
    }
}
