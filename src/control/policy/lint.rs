//! What a rule can ever fit: which actions know an instance, which values a condition key has with an action. A rule that
//! can never fit is a mistake, and a hole where it denies, so the file of keys is refused.

use crate::control::actions::Action;
use crate::control::policy::pattern::Pattern;
use crate::control::policy::{
    ANY_ID, Condition, ConditionKey, Effect, Rule, Test, Value, may_be_of_a_launch,
};

/// The options that a change and a launch can name.
const OPTIONS: [&str; 5] = [
    "HttpEndpoint",
    "HttpProtocolIpv6",
    "HttpPutResponseHopLimit",
    "HttpTokens",
    "InstanceMetadataTags",
];

/// The values that a key can have.
#[derive(Clone, Copy)]
pub(crate) enum Values {
    Words(&'static [&'static str]),
    /// 1 to 64, and what else there is.
    HopLimits(&'static [i64]),
    Any,
}

/// What a rule can ask of an action, besides its name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Subject {
    /// Everybody may.
    Nothing,
    /// What the call says.
    Account,
    Launch,
    Instances,
}

fn subject(action: Action) -> Subject {
    match action {
        Action::GetCallerIdentity => Subject::Nothing,
        Action::DescribeAvailabilityZones
        | Action::DescribeRegions
        | Action::GetInstanceMetadataDefaults
        | Action::ModifyInstanceMetadataDefaults => Subject::Account,
        Action::RunInstances => Subject::Launch,
        Action::CreateTags
        | Action::DeleteTags
        | Action::DescribeInstanceAttribute
        | Action::DescribeInstanceStatus
        | Action::DescribeInstances
        | Action::DescribeTags
        | Action::ModifyInstanceAttribute
        | Action::ModifyInstanceEventStartTime
        | Action::ModifyInstanceMetadataOptions
        | Action::RebootInstances
        | Action::SendSshPublicKey
        | Action::StartInstances
        | Action::StopInstances
        | Action::TerminateInstances => Subject::Instances,
    }
}

/// Whether rules are asked about it.
pub(crate) fn is_asked_about(action: Action) -> bool {
    subject(action) != Subject::Nothing
}

/// Whether there is an instance in it.
pub(crate) fn has_instance(action: Action) -> bool {
    matches!(subject(action), Subject::Launch | Subject::Instances)
}

/// Whether a rule for these ids can fit the action. CreateTags is asked of launches, and of instances that are there.
pub(crate) fn has_one_of(action: Action, effect: Effect, ids: &[Pattern]) -> bool {
    match (subject(action), effect) {
        (Subject::Nothing | Subject::Account, _) => false,
        (Subject::Instances, _) => true,
        (Subject::Launch, Effect::Allow) => ids.iter().any(|pattern| pattern.matches(ANY_ID)),
        (Subject::Launch, Effect::Deny) => ids.iter().any(may_be_of_a_launch),
    }
}

/// The values of a key in calls of an action; `None` where there never is one.
pub(crate) fn values(key: &ConditionKey, action: Action) -> Option<Values> {
    let switch = Values::Words(&["enabled", "disabled"]);
    let tokens = Values::Words(&["optional", "required"]);
    match (key, action) {
        (ConditionKey::Attribute(name), Action::ModifyInstanceMetadataDefaults) => match *name {
            "HttpTokens" => Some(Values::Words(&["optional", "required", "no-preference"])),
            "HttpPutResponseHopLimit" => Some(Values::HopLimits(&[-1])),
            "HttpEndpoint" | "InstanceMetadataTags" | "HttpTokensEnforced" => {
                Some(Values::Words(&["enabled", "disabled", "no-preference"]))
            }
            _ => None,
        },
        (
            ConditionKey::Attribute(name),
            Action::ModifyInstanceMetadataOptions | Action::RunInstances,
        ) if OPTIONS.contains(name) => match *name {
            "HttpTokens" => Some(tokens),
            "HttpPutResponseHopLimit" => Some(Values::HopLimits(&[])),
            _ => Some(switch),
        },
        (ConditionKey::Attribute(name), Action::ModifyInstanceAttribute | Action::RunInstances) => {
            match *name {
                "UserData" => Some(Values::Any),
                "DisableApiStop" | "DisableApiTermination" => {
                    Some(Values::Words(&["true", "false"]))
                }
                _ => None,
            }
        }
        (ConditionKey::Attribute(_), _) => None,
        (_, action) if !has_instance(action) => None,
        (ConditionKey::MetadataHttpTokens, _) => Some(tokens),
        (ConditionKey::MetadataHttpEndpoint | ConditionKey::InstanceMetadataTags, _) => {
            Some(switch)
        }
        (ConditionKey::MetadataHttpPutResponseHopLimit, _) => Some(Values::HopLimits(&[])),
    }
}

/// Whether every part of a rule can fit the same call of this action.
pub(crate) fn can_fit(rule: &Rule, action: Action) -> bool {
    let holds = |condition: &Condition| can_hold(condition, rule.effect, action);
    rule.instances
        .as_ref()
        .is_none_or(|ids| has_one_of(action, rule.effect, ids))
        && (rule.tags.is_empty() || has_instance(action))
        && rule.conditions.iter().all(holds)
}

/// Whether a condition of such a rule can hold in a call of this action. No preference counts as what launches get
/// then, too, and a permission fits both or neither: what it says of no preference alone never decides.
pub(crate) fn can_hold(condition: &Condition, effect: Effect, action: Action) -> bool {
    let values = values(&condition.key, action).map(|values| match effect {
        Effect::Allow => values.with_one_face(),
        Effect::Deny => values,
    });
    values.is_some_and(|values| condition.values.iter().any(|test| values.admit(test)))
}

impl Values {
    /// Without those that say that there is no preference.
    fn with_one_face(self) -> Values {
        match self {
            Values::Words(words) => {
                Values::Words(words.strip_suffix(&["no-preference"]).unwrap_or(words))
            }
            Values::HopLimits(_) => Values::HopLimits(&[]),
            Values::Any => Values::Any,
        }
    }

    /// Whether one of them passes the test.
    pub(crate) fn admit(self, test: &Test) -> bool {
        match self {
            Values::Words(words) => words.iter().any(|word| test.holds(&Value::from(*word))),
            Values::HopLimits(others) => (1..=64)
                .chain(others.iter().copied())
                .any(|n| test.holds(&Value::Number(n))),
            Values::Any => true,
        }
    }

    /// In words.
    pub(crate) fn told(self) -> String {
        match self {
            Values::Words(words) => words.join(", "),
            Values::HopLimits(others) => ["1 to 64".to_string()]
                .into_iter()
                .chain(others.iter().map(i64::to_string))
                .collect::<Vec<_>>()
                .join(", "),
            Values::Any => "any text".to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::policy::ATTRIBUTES;

    #[test]
    fn every_attribute_is_asked_for_by_some_action() {
        for name in ATTRIBUTES {
            let key = ConditionKey::Attribute(name);
            assert!(
                Action::ALL
                    .into_iter()
                    .any(|action| values(&key, action).is_some()),
                "{name}"
            );
        }
    }
}
