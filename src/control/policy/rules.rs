//! The rules of an access key, in order. The first rule that matches decides.
//!
//! A key without rules may do everything. Where there are rules and none matches, the call is
//! refused.
//!
//! A value is judged by its effect, not by its spelling. A value with two meanings (`no-preference`
//! also means the default that launches then get) counts as both: a denial matches when it matches
//! either of them, a permission when it matches both.
//!
//! An unknown id is judged so that the caller cannot tell it from an instance that the caller may
//! not access: of the rules that look at more than the id, denials count as matching and
//! permissions do not.

use super::condition::{AttributeValue, Condition, ConditionKey};
use super::pattern::Pattern;
use crate::instance::{Instance, InstanceId};

/// Only patterns that match every id match this one: no pattern of ids contains a dot.
const ANY_ID: &str = "i-.................";

/// The rules of one access key; `None` permits everything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Policy(pub(crate) Option<Vec<PolicyRule>>);

/// One rule. An absent part matches everything.
#[derive(Clone, Debug)]
pub(crate) struct PolicyRule {
    pub(crate) effect: Effect,
    pub(crate) actions: Vec<Pattern>,
    pub(crate) instances: Option<InstanceIds>,
    /// All of these keys must be present, each with one of its values.
    pub(crate) tags: Vec<(String, Vec<Pattern>)>,
    /// All of these must hold.
    pub(crate) conditions: Vec<Condition>,
}

/// The effect of a rule that matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Allow,
    Deny,
}

/// What a policy decides about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ruling {
    Allowed,
    /// The rule of the key that refuses it, counted from 1 in the order of the file; `None` if no
    /// rule matches.
    Denied(Option<usize>),
}

/// The instance ids of a rule.
#[derive(Clone, Debug)]
pub(crate) struct InstanceIds(pub(crate) Vec<Pattern>);

/// The attributes that a call requests, by the names in `ec2:Attribute/<Name>`. If a name appears
/// twice, all of its values count.
pub(crate) type Attributes = Vec<(&'static str, AttributeValue)>;

/// What a caller wants to do.
pub(crate) struct AccessRequest<'a> {
    /// With its service: `ec2:StopInstances`.
    pub(crate) action: &'a str,
    pub(crate) attributes: &'a Attributes,
    pub(crate) target: Target<'a>,
}

/// The object of an access request.
#[derive(Clone, Copy)]
pub(crate) enum Target<'a> {
    /// The account, or no object at all.
    Account,
    Instance(&'a Instance),
    /// An instance as it would be launched. Its id is not decided yet and stands for any id.
    Launch(&'a Instance),
    /// An id without an instance.
    UnknownId(&'a InstanceId),
}

/// Whether a rule, or a part of it, matches. A rule matches as well as its worst part.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Match {
    No,
    /// It depends on an instance that does not exist, or only one of two values that both count
    /// matches.
    Partial,
    Yes,
}

impl From<bool> for Match {
    fn from(matches: bool) -> Match {
        if matches { Match::Yes } else { Match::No }
    }
}

impl Policy {
    /// Returns whether the policy permits the request.
    pub(crate) fn allow(&self, request: &AccessRequest<'_>) -> bool {
        self.decide(request) == Ruling::Allowed
    }

    /// Returns whether the policy permits the request, and which rule refuses it.
    pub(crate) fn decide(&self, request: &AccessRequest<'_>) -> Ruling {
        let Some(rules) = &self.0 else {
            return Ruling::Allowed;
        };
        let decides = |rule: &&PolicyRule| match (rule.matches(request), rule.effect) {
            (Match::Yes, _) | (Match::Partial, Effect::Deny) => true,
            (Match::No, _) | (Match::Partial, Effect::Allow) => false,
        };
        let deciding = rules.iter().zip(1..).find(|(rule, _)| decides(rule));
        match deciding {
            Some((rule, _)) if rule.effect == Effect::Allow => Ruling::Allowed,
            denied => Ruling::Denied(denied.map(|(_, number)| number)),
        }
    }

    /// Returns whether the policy can permit the action for any instance at all. If not, a list is
    /// refused instead of empty.
    pub(crate) fn allow_some(&self, action: &str) -> bool {
        let Some(rules) = &self.0 else { return true };
        let applies = |rule: &&PolicyRule| any_matches(&rule.actions, action);
        for rule in rules.iter().filter(applies) {
            match rule.effect {
                Effect::Allow => return true,
                Effect::Deny if rule.is_unconditional() => return false,
                Effect::Deny => {}
            }
        }
        false
    }
}

impl PolicyRule {
    fn matches(&self, request: &AccessRequest<'_>) -> Match {
        let parts = [
            Match::from(any_matches(&self.actions, request.action)),
            self.matches_instance(request.target),
            self.matches_tags(request.target),
        ];
        let conditions = self
            .conditions
            .iter()
            .map(|condition| matches_condition(condition, request));
        parts
            .into_iter()
            .chain(conditions)
            .min()
            .unwrap_or(Match::Yes)
    }

    fn matches_instance(&self, target: Target<'_>) -> Match {
        let Some(ids) = &self.instances else {
            return Match::Yes;
        };
        match target {
            Target::Account => Match::No,
            Target::Instance(instance) => {
                Match::from(any_matches(&ids.0, instance.instance_id.as_str()))
            }
            Target::UnknownId(id) => Match::from(any_matches(&ids.0, id.as_str())),
            // Otherwise a caller could launch instances until one gets an id that the rules permit.
            Target::Launch(_) if ids.include_every_id() => Match::Yes,
            Target::Launch(_) if ids.include_some_new_id() => Match::Partial,
            // A new instance never gets an id that a rule names in full.
            Target::Launch(_) => Match::No,
        }
    }

    fn matches_tags(&self, target: Target<'_>) -> Match {
        if self.tags.is_empty() {
            return Match::Yes;
        }
        match target {
            Target::Account => Match::No,
            Target::UnknownId(_) => Match::Partial,
            Target::Instance(instance) | Target::Launch(instance) => {
                let has_tag = |(key, values): &(String, Vec<Pattern>)| {
                    let tag = instance.tags.iter().find(|tag| tag.key == *key);
                    tag.is_some_and(|tag| any_matches(values, &tag.value))
                };
                Match::from(self.tags.iter().all(has_tag))
            }
        }
    }

    fn is_unconditional(&self) -> bool {
        let every_instance = |ids: &InstanceIds| ids.0.iter().any(Pattern::matches_everything);
        self.instances.as_ref().is_none_or(every_instance)
            && self.tags.is_empty()
            && self.conditions.is_empty()
    }
}

impl InstanceIds {
    /// Returns whether the patterns include every id.
    pub(crate) fn include_every_id(&self) -> bool {
        any_matches(&self.0, ANY_ID)
    }

    /// Returns whether a launch can get one of these ids. A pattern without wildcards names an id
    /// that exists already.
    pub(crate) fn include_some_new_id(&self) -> bool {
        self.0
            .iter()
            .any(|pattern| pattern.has_wildcards() && pattern.matches_a_new_id())
    }
}

/// A missing value matches nothing. The attributes of the request are known even where the instance
/// is not.
fn matches_condition(condition: &Condition, request: &AccessRequest<'_>) -> Match {
    match (condition.key, request.target) {
        (ConditionKey::Attribute(attribute), _) => {
            let values = request
                .attributes
                .iter()
                .filter(|(name, _)| *name == attribute.name);
            let (mut matching, mut all) = (0, 0);
            for (_, value) in values {
                matching += u32::from(condition.holds(value));
                all += 1;
            }
            match matching {
                0 => Match::No,
                matching if matching == all => Match::Yes,
                _ => Match::Partial,
            }
        }
        (ConditionKey::Instance(_), Target::Account) => Match::No,
        (ConditionKey::Instance(_), Target::UnknownId(_)) => Match::Partial,
        (ConditionKey::Instance(key), Target::Instance(instance) | Target::Launch(instance)) => {
            Match::from(condition.holds(&(key.read)(instance)))
        }
    }
}

fn any_matches(patterns: &[Pattern], text: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::demo_instance;
    use crate::control::policy::read::policy;

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
        policy: &Policy,
        action: &str,
        attributes: &[(&'static str, &str)],
        target: Target<'_>,
    ) -> bool {
        let value = |text: &str| {
            text.parse()
                .map_or_else(|_| text.into(), AttributeValue::Number)
        };
        let attributes = attributes
            .iter()
            .map(|(name, text)| (*name, value(text)))
            .collect();
        policy.allow(&AccessRequest {
            action,
            attributes: &attributes,
            target,
        })
    }

    #[test]
    fn the_first_matching_rule_decides_and_without_one_the_call_is_refused() {
        let allow = r#"{ effect = "allow", actions = ["ec2:*"] }"#;
        let deny = r#"{ effect = "deny", actions = ["ec2:Modify*"] }"#;
        let instance = demo();
        let target = Target::Instance(&instance);
        assert!(Policy::default().allow(&AccessRequest {
            action: MODIFY,
            attributes: &Vec::new(),
            target
        }));
        for (rules, action, allowed) in [
            (vec![allow, deny], MODIFY, true),
            (vec![deny, allow], MODIFY, false),
            (vec![deny, allow], "ec2:DescribeInstances", true),
            (vec![deny], "ec2:DescribeInstances", false),
            (vec![allow], "ec2-instance-connect:SendSSHPublicKey", false),
        ] {
            assert_eq!(
                allows(&policy(&rules), action, &[], target),
                allowed,
                "{rules:?} {action}"
            );
        }
    }

    #[test]
    fn a_rule_matches_only_if_every_part_matches() {
        let instance = demo();
        let rule = |rest: &str| {
            policy(&[&format!(
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

    /// `no-preference` is a value of its own and also has the effect of the default.
    #[test]
    fn a_denial_matches_either_meaning_of_a_value_and_a_permission_only_both() {
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
        for (rules, attributes, allowed) in [
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
            let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
            let action = "ec2:ModifyInstanceMetadataDefaults";
            assert_eq!(
                allows(&policy(&rules), action, attributes, Target::Account),
                allowed,
                "{rules:?} {attributes:?}"
            );
        }
    }

    /// Otherwise a caller could repeat a launch until the id is one that the rules permit.
    #[test]
    fn rules_for_some_ids_never_permit_a_launch() {
        let all = r#"{ effect = "allow", actions = ["*"] }"#;
        let rule = |effect: &str, ids: &str| {
            format!(r#"{{ effect = "{effect}", actions = ["ec2:*"], instances = ["{ids}"] }}"#)
        };
        let instance = demo();
        for (rules, allowed) in [
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
            // A new instance never gets an id that a rule names in full.
            (vec![rule("deny", "i-0123456789abcdef0"), all.into()], true),
        ] {
            let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
            assert_eq!(
                allows(
                    &policy(&rules),
                    "ec2:RunInstances",
                    &[],
                    Target::Launch(&instance)
                ),
                allowed,
                "{rules:?}"
            );
        }
    }

    /// A caller without permission cannot tell an instance from an unknown id.
    #[test]
    fn an_unknown_id_is_judged_like_an_instance_without_permission() {
        let unknown = InstanceId::parse("i-00000000").unwrap();
        let all = r#"{ effect = "allow", actions = ["*"] }"#;
        for (rules, allowed) in [
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
                allows(&policy(&rules), MODIFY, &[], Target::UnknownId(&unknown)),
                allowed,
                "{rules:?}"
            );
        }
    }

    #[test]
    fn a_rule_about_instances_does_not_match_the_account() {
        let all = r#"{ effect = "allow", actions = ["*"] }"#;
        for (rules, allowed) in [
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
                allows(&policy(&rules), action, &[], Target::Account),
                allowed,
                "{rules:?}"
            );
        }
    }

    #[test]
    fn a_list_is_refused_if_it_could_never_contain_an_instance() {
        let action = "ec2:DescribeInstances";
        for (rules, allowed) in [
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
            assert_eq!(policy(&rules).allow_some(action), allowed, "{rules:?}");
        }
        assert!(Policy::default().allow_some(action));
    }
}
