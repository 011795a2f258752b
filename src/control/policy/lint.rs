//! Checks for rules that can never match. Such a rule is a mistake, and a gap in the policy where
//! it denies, so the file of access keys is refused.
//!
//! The checks know from the table in `action.rs` which actions have an instance, and from each
//! action's `ATTRIBUTES` which values it can request.

use super::condition::{Comparison, Condition, ConditionKey, Values};
use super::rules::{Effect, InstanceIds, PolicyRule};
use crate::control::action::{Action, Resource};
use crate::control::actions::attributes;

/// For a part of a rule that needs an instance.
const NO_INSTANCE: &str =
    "none of the rule's actions concerns an instance, so the rule can never match";

/// Returns the fault of an action pattern in a rule; `matching` are the actions that it matches.
pub(crate) fn action_fault(
    text: &str,
    effect: Option<Effect>,
    matching: &[Action],
) -> Option<String> {
    let shown = text.escape_debug();
    if matching.is_empty() {
        return Some(format!(
            "no action matches '{shown}'; actions are written like ec2:StopInstances"
        ));
    }
    let needs_permission = |action: &Action| action.resource() != Resource::None;
    if effect == Some(Effect::Deny) && !matching.iter().any(needs_permission) {
        return Some(format!("'{shown}' can't be denied: it needs no permission"));
    }
    None
}

/// Returns the fault of a rule's instance ids.
pub(crate) fn instances_fault(
    ids: &InstanceIds,
    effect: Effect,
    actions: &[Action],
) -> Option<&'static str> {
    if actions.is_empty() {
        return None;
    }
    if !any_has_instance(actions) {
        return Some(NO_INSTANCE);
    }
    let can_match = actions
        .iter()
        .any(|action| can_match_ids(ids, effect, *action));
    let fault = "a launch gets a random id, so the rule can never match; use \"*\" for any id";
    (!can_match).then_some(fault)
}

/// Returns the fault of a rule's tags.
pub(crate) fn tags_fault(actions: &[Action]) -> Option<&'static str> {
    (!actions.is_empty() && !any_has_instance(actions)).then_some(NO_INSTANCE)
}

/// Returns the faults of a condition; `texts` are its comparisons as the operator wrote them.
pub(crate) fn condition_faults(
    condition: &Condition,
    texts: &[String],
    effect: Option<Effect>,
    actions: &[Action],
) -> Vec<String> {
    // Without a known action, the actions are the fault.
    if actions.is_empty() {
        return Vec::new();
    }
    let values: Vec<Values> = actions
        .iter()
        .filter_map(|action| values(condition.key, *action))
        .collect();
    let Some(described) = values
        .iter()
        .map(|values| values.describe())
        .max_by_key(String::len)
    else {
        return vec![missing_key_fault(condition.key)];
    };
    let is_impossible =
        |comparison: &Comparison| !values.iter().any(|values| values.can_satisfy(comparison));
    let impossible = texts
        .iter()
        .zip(&condition.comparisons)
        .filter(|(_, comparison)| is_impossible(comparison));
    let mut faults: Vec<String> = impossible
        .map(|(text, _)| {
            let shown = text.escape_debug();
            format!("'{shown}' never occurs; possible values: {described}")
        })
        .collect();
    if faults.is_empty() && effect == Some(Effect::Allow) {
        faults.extend(no_preference_fault(condition, actions).map(str::to_string));
    }
    faults
}

/// Returns whether all parts of a rule can match the same call of one of the actions.
pub(crate) fn can_match_any(rule: &PolicyRule, actions: &[Action]) -> bool {
    actions.iter().any(|action| can_match(rule, *action))
}

fn can_match(rule: &PolicyRule, action: Action) -> bool {
    let ids_match = rule
        .instances
        .as_ref()
        .is_none_or(|ids| can_match_ids(ids, rule.effect, action));
    let tags_match = rule.tags.is_empty() || has_instance(action);
    let holds = |condition: &Condition| can_hold(condition, rule.effect, action);
    ids_match && tags_match && rule.conditions.iter().all(holds)
}

/// Returns whether a rule for these ids can match the action. CreateTags is checked for launches
/// and for existing instances.
fn can_match_ids(ids: &InstanceIds, effect: Effect, action: Action) -> bool {
    match (action.resource(), effect) {
        (Resource::None | Resource::Account, _) => false,
        (Resource::Instances, _) => true,
        (Resource::Launch, Effect::Allow) => ids.include_every_id(),
        (Resource::Launch, Effect::Deny) => ids.include_some_new_id(),
    }
}

/// Returns whether a condition can hold for a call of the action.
///
/// Clearing a preference is judged as `no-preference` and as the resulting default. A permission
/// must match both, so one for `no-preference` alone never decides.
fn can_hold(condition: &Condition, effect: Effect, action: Action) -> bool {
    let values = values(condition.key, action).map(|values| match effect {
        Effect::Allow => values.without_no_preference(),
        Effect::Deny => values,
    });
    values.is_some_and(|values| {
        condition
            .comparisons
            .iter()
            .any(|comparison| values.can_satisfy(comparison))
    })
}

/// Returns the values that a key can have in calls of an action; `None` where it has none.
fn values(key: ConditionKey, action: Action) -> Option<Values> {
    match key {
        ConditionKey::Attribute(attribute) => attributes(action)
            .iter()
            .find(|(name, _)| *name == attribute.name)
            .map(|(_, values)| *values),
        ConditionKey::Instance(key) => has_instance(action).then_some(key.values),
    }
}

/// Returns the fault of a condition whose key has no value in any of the rule's actions.
fn missing_key_fault(key: ConditionKey) -> String {
    match key {
        ConditionKey::Instance(_) => NO_INSTANCE.to_string(),
        ConditionKey::Attribute(_) => {
            let having: Vec<String> = Action::ALL
                .iter()
                .filter(|action| values(key, **action).is_some())
                .map(|action| action.permission())
                .collect();
            format!(
                "none of the rule's actions has this attribute; actions that have it: {}",
                having.join(", ")
            )
        }
    }
}

/// Returns the fault of a permission that only `no-preference` satisfies.
fn no_preference_fault(condition: &Condition, actions: &[Action]) -> Option<&'static str> {
    let can_hold = |effect| {
        actions
            .iter()
            .any(|action| can_hold(condition, effect, *action))
    };
    let fault = "clearing a preference is also checked against the resulting default; list that value too, or the rule \
                 can never match";
    (can_hold(Effect::Deny) && !can_hold(Effect::Allow)).then_some(fault)
}

fn any_has_instance(actions: &[Action]) -> bool {
    actions.iter().any(|action| has_instance(*action))
}

fn has_instance(action: Action) -> bool {
    matches!(action.resource(), Resource::Launch | Resource::Instances)
}

#[cfg(test)]
mod tests {
    use super::super::condition::{AttributeValue, INSTANCE_KEYS, REQUEST_ATTRIBUTES, ValueKind};
    use super::*;
    use crate::config::demo_instance;

    /// A value of another kind never compares, so every rule about the key would be dead.
    #[test]
    fn the_value_that_an_instance_key_reads_has_the_kind_of_its_values() {
        let instance = demo_instance();
        for key in INSTANCE_KEYS {
            let kind = match (key.read)(&instance) {
                AttributeValue::Text(_) => ValueKind::Text,
                AttributeValue::Number(_) => ValueKind::Number,
            };
            assert_eq!(kind, key.values.kind(), "{}", key.name);
        }
    }

    #[test]
    fn every_attribute_in_the_table_has_values_of_its_kind_in_some_action() {
        for attribute in REQUEST_ATTRIBUTES {
            let key = ConditionKey::Attribute(attribute);
            let values: Vec<Values> = Action::ALL
                .iter()
                .filter_map(|action| values(key, *action))
                .collect();
            assert!(!values.is_empty(), "{}", attribute.name);
            assert!(
                values.iter().all(|values| values.kind() == key.kind()),
                "{}",
                attribute.name
            );
        }
    }

    #[test]
    fn every_attribute_of_an_action_is_in_the_table() {
        for action in Action::ALL {
            for (name, _) in attributes(*action) {
                let known = REQUEST_ATTRIBUTES.iter().any(|known| known.name == *name);
                assert!(known, "{} of {}", name, action.name());
            }
        }
    }
}
