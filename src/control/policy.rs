//! Who may do what: the rules of an access key, in the order they stand in. The first rule that fits decides. A key
//! without rules may do everything; where there are rules and none fits, the call is refused.
//!
//! A rule can ask for the action, the instance's id, its tags, its metadata options as they are
//! (`ec2:MetadataHttpTokens`, `ec2:MetadataHttpEndpoint`, `ec2:MetadataHttpPutResponseHopLimit`) and the values that the
//! call asks for (`ec2:Attribute/<Name>`). An instance that is to be launched is judged by what it would be.
//!
//! An id that nobody has is judged so that it can't be told from one that the caller may not touch: of a rule that looks
//! at more of the instance than its id, a denial counts as fitting and a permission does not.
//!
//! Not supported: ARNs, principals, other condition keys and operators, policy variables.

use super::pattern::Pattern;
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
    /// One of [`ATTRIBUTES`].
    Attribute(&'static str),
}

/// What a value must be.
#[derive(Clone, Debug)]
pub(super) enum Test {
    Text(Pattern),
    Below(i64),
    AtMost(i64),
    Above(i64),
    AtLeast(i64),
}

/// What a call wants to do.
pub(super) struct Wish<'a> {
    /// With its service: `ec2:StopInstances`.
    pub(super) action: &'a str,
    /// What it asks for, by the names of [`ATTRIBUTES`].
    pub(super) attributes: &'a [(&'static str, String)],
    pub(super) target: Target<'a>,
}

/// To what it wants to do it.
#[derive(Clone, Copy)]
pub(super) enum Target<'a> {
    /// The account, or nothing at all.
    Account,
    Instance(&'a Instance),
    /// An id that nobody has.
    Nobody(&'a InstanceId),
}

/// Whether a rule fits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    Yes,
    No,
    /// It depends on an instance that is not there.
    Unknown,
}

impl Rules {
    /// Whether the call may do what it wants.
    pub(super) fn allow(&self, wish: &Wish<'_>) -> bool {
        let Some(rules) = &self.0 else { return true };
        let deciding = rules.iter().find(|rule| match (rule.fit(wish), rule.effect) {
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
    fn fit(&self, wish: &Wish<'_>) -> Fit {
        let any = |patterns: &[Pattern], text: &str| patterns.iter().any(|pattern| pattern.matches(text));
        if !any(&self.actions, wish.action) {
            return Fit::No;
        }
        let id = match wish.target {
            Target::Account => None,
            Target::Instance(instance) => Some(&instance.instance_id),
            Target::Nobody(id) => Some(id),
        };
        if let Some(instances) = &self.instances
            && !id.is_some_and(|id| any(instances, id.as_str()))
        {
            return Fit::No;
        }
        // What the request itself says is known even where the instance is not.
        let (of_request, of_instance): (Vec<_>, Vec<_>) =
            self.conditions.iter().partition(|condition| matches!(condition.key, ConditionKey::Attribute(_)));
        if !of_request.iter().all(|condition| condition.holds(condition.of_request(wish.attributes))) {
            return Fit::No;
        }
        match wish.target {
            _ if self.tags.is_empty() && of_instance.is_empty() => Fit::Yes,
            Target::Account => Fit::No,
            Target::Nobody(_) => Fit::Unknown,
            Target::Instance(instance) => {
                let value_of = |key: &str| instance.tags.iter().find(|tag| tag.key == key).map(|tag| &tag.value);
                let tagged =
                    self.tags.iter().all(|(key, values)| value_of(key).is_some_and(|value| any(values, value)));
                let holds = |condition: &&Condition| condition.holds(condition.of_instance(instance).as_deref());
                if tagged && of_instance.iter().all(holds) { Fit::Yes } else { Fit::No }
            }
        }
    }

    fn is_unconditional(&self) -> bool {
        let every_instance = |patterns: &Vec<Pattern>| patterns.iter().any(|pattern| pattern.matches_everything());
        self.instances.as_ref().is_none_or(every_instance) && self.tags.is_empty() && self.conditions.is_empty()
    }
}

impl Condition {
    /// A value that is not there fits nothing.
    fn holds(&self, value: Option<&str>) -> bool {
        value.is_some_and(|value| self.values.iter().any(|test| test.holds(value)))
    }

    fn of_request<'a>(&self, attributes: &'a [(&'static str, String)]) -> Option<&'a str> {
        let ConditionKey::Attribute(wanted) = self.key else { return None };
        attributes.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.as_str())
    }

    fn of_instance(&self, instance: &Instance) -> Option<String> {
        let options = &instance.metadata_options;
        match self.key {
            ConditionKey::MetadataHttpTokens => Some(options.http_tokens.as_str().to_string()),
            ConditionKey::MetadataHttpEndpoint => Some(options.http_endpoint.as_str().to_string()),
            ConditionKey::MetadataHttpPutResponseHopLimit => {
                Some(options.http_put_response_hop_limit.get().to_string())
            }
            ConditionKey::Attribute(_) => None,
        }
    }
}

impl ConditionKey {
    /// Reads EC2's spelling.
    pub(super) fn parse(text: &str) -> Option<ConditionKey> {
        match text {
            "ec2:MetadataHttpTokens" => Some(ConditionKey::MetadataHttpTokens),
            "ec2:MetadataHttpEndpoint" => Some(ConditionKey::MetadataHttpEndpoint),
            "ec2:MetadataHttpPutResponseHopLimit" => Some(ConditionKey::MetadataHttpPutResponseHopLimit),
            other => {
                let name = other.strip_prefix("ec2:Attribute/")?;
                ATTRIBUTES.iter().find(|known| **known == name).map(|known| ConditionKey::Attribute(known))
            }
        }
    }

    /// Whether its values are numbers, which can be compared.
    pub(super) fn is_numeric(&self) -> bool {
        matches!(
            self,
            ConditionKey::MetadataHttpPutResponseHopLimit | ConditionKey::Attribute("HttpPutResponseHopLimit")
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
        number(text).map(|number| Test::Text(Pattern::read(&number.to_string())))
    }

    fn holds(&self, value: &str) -> bool {
        let number = value.parse::<i64>();
        match self {
            Test::Text(pattern) => pattern.matches(value),
            Test::Below(bound) => number.is_ok_and(|number| number < *bound),
            Test::AtMost(bound) => number.is_ok_and(|number| number <= *bound),
            Test::Above(bound) => number.is_ok_and(|number| number > *bound),
            Test::AtLeast(bound) => number.is_ok_and(|number| number >= *bound),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::demo_instance;
    use crate::control::keys::rules;

    const MODIFY: &str = "ec2:ModifyInstanceMetadataOptions";

    fn demo() -> Instance {
        // i-0123456789abcdef0, with a tag Name.
        let mut instance = demo_instance();
        instance.tags = vec![crate::instance::Tag { key: "team".into(), value: "web".into() }];
        instance
    }

    fn allows(rules: &Rules, action: &str, attributes: &[(&'static str, &str)], target: Target<'_>) -> bool {
        let attributes: Vec<_> = attributes.iter().map(|(name, value)| (*name, value.to_string())).collect();
        rules.allow(&Wish { action, attributes: &attributes, target })
    }

    #[test]
    fn the_first_rule_that_fits_decides_and_none_is_a_denial() {
        let allow = r#"{ effect = "allow", actions = ["ec2:*"] }"#;
        let deny = r#"{ effect = "deny", actions = ["ec2:Modify*"] }"#;
        let instance = demo();
        let target = Target::Instance(&instance);
        assert!(Rules::default().allow(&Wish { action: MODIFY, attributes: &[], target }));
        for (of, action, allowed) in [
            (vec![allow, deny], MODIFY, true),
            (vec![deny, allow], MODIFY, false),
            (vec![deny, allow], "ec2:DescribeInstances", true),
            (vec![deny], "ec2:DescribeInstances", false),
            (vec![allow], "ec2-instance-connect:SendSSHPublicKey", false),
        ] {
            assert_eq!(allows(&rules(&of), action, &[], target), allowed, "{of:?} {action}");
        }
    }

    #[test]
    fn every_part_of_a_rule_must_fit() {
        let instance = demo();
        let rule = |rest: &str| rules(&[&format!(r#"{{ effect = "allow", actions = ["ec2:*"], {rest} }}"#)]);
        for (rest, attributes, allowed) in [
            (r#"instances = ["i-0123*"]"#, &[][..], true),
            (r#"instances = ["i-0000*", "i-0123456789abcdef?"]"#, &[], true),
            (r#"instances = ["i-0000*"]"#, &[], false),
            (r#"tags = { team = "web" }"#, &[], true),
            (r#"tags = { team = ["db", "w*"] }"#, &[], true),
            (r#"tags = { team = "Web" }"#, &[], false),
            (r#"tags = { team = "web", Name = "*" }"#, &[], false),
            (r#"conditions = { "ec2:MetadataHttpTokens" = "optional" }"#, &[], true),
            (r#"conditions = { "ec2:MetadataHttpTokens" = "required" }"#, &[], false),
            (r#"conditions = { "ec2:MetadataHttpEndpoint" = ["enabled", "disabled"] }"#, &[], true),
            (r#"conditions = { "ec2:MetadataHttpPutResponseHopLimit" = 2 }"#, &[], true),
            (r#"conditions = { "ec2:MetadataHttpPutResponseHopLimit" = ">2" }"#, &[], false),
            (r#"conditions = { "ec2:MetadataHttpPutResponseHopLimit" = "<=2" }"#, &[], true),
            (r#"conditions = { "ec2:Attribute/HttpTokens" = "required" }"#, &[], false),
            (r#"conditions = { "ec2:Attribute/HttpTokens" = "required" }"#, &[("HttpTokens", "optional")], false),
            (r#"conditions = { "ec2:Attribute/HttpTokens" = "required" }"#, &[("HttpTokens", "required")], true),
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
            (r#"instances = ["i-0123*"], tags = { team = "db" }"#, &[], false),
        ] {
            let mut instance = instance.clone();
            instance.metadata_options.http_tokens = crate::instance::HttpTokens::Optional;
            let target = Target::Instance(&instance);
            assert_eq!(allows(&rule(rest), MODIFY, attributes, target), allowed, "{rest} {attributes:?}");
        }
    }

    /// Whoever may not touch an instance can't tell it from one that is not there.
    #[test]
    fn an_id_that_nobody_has_is_judged_as_one_that_may_not_be_touched() {
        let nobody = InstanceId::parse("i-00000000").unwrap();
        let all = r#"{ effect = "allow", actions = ["*"] }"#;
        for (of, allowed) in [
            (vec![all], true),
            (vec![r#"{ effect = "allow", actions = ["*"], tags = { team = "web" } }"#], false),
            (vec![r#"{ effect = "deny", actions = ["*"], tags = { team = "web" } }"#, all], false),
            (
                vec![
                    r#"{ effect = "deny", actions = ["*"], conditions = { "ec2:MetadataHttpTokens" = "required" } }"#,
                    all,
                ],
                false,
            ),
            (vec![r#"{ effect = "deny", actions = ["*"], instances = ["i-1*"], tags = { team = "web" } }"#, all], true),
            (vec![r#"{ effect = "allow", actions = ["*"], instances = ["i-0*"] }"#], true),
            (
                vec![
                    r#"{ effect = "deny", actions = ["*"], conditions = { "ec2:Attribute/HttpTokens" = "optional" } }"#,
                    all,
                ],
                true,
            ),
        ] {
            assert_eq!(allows(&rules(&of), MODIFY, &[], Target::Nobody(&nobody)), allowed, "{of:?}");
        }
    }

    #[test]
    fn a_rule_about_instances_says_nothing_of_the_account() {
        let all = r#"{ effect = "allow", actions = ["*"] }"#;
        for (of, allowed) in [
            (vec![all], true),
            (vec![r#"{ effect = "allow", actions = ["*"], instances = ["*"] }"#], false),
            (vec![r#"{ effect = "allow", actions = ["*"], tags = { team = "*" } }"#], false),
            (vec![r#"{ effect = "deny", actions = ["*"], instances = ["*"] }"#, all], true),
        ] {
            let action = "ec2:ModifyInstanceMetadataDefaults";
            assert_eq!(allows(&rules(&of), action, &[], Target::Account), allowed, "{of:?}");
        }
    }

    #[test]
    fn a_list_is_refused_where_nothing_could_be_in_it() {
        let action = "ec2:DescribeInstances";
        for (of, allowed) in [
            (vec![r#"{ effect = "allow", actions = ["*"], tags = { team = "web" } }"#], true),
            (vec![r#"{ effect = "allow", actions = ["ec2:Modify*"] }"#], false),
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
