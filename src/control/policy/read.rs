//! The parser for the rules of an access key: `[[access_key.rule]]` tables, or one array of inline
//! tables.

use toml_edit::{Item, TableLike, Value};

use super::condition::{Comparison, Condition, ConditionKey, ValueKind};
use super::lint;
use super::pattern::Pattern;
use super::rules::{Effect, InstanceIds, Policy, PolicyRule};
use crate::control::action::Action;
use crate::sigv4::access_key_file::{FileFaults, offset_of};

const FIELDS: [&str; 5] = ["effect", "actions", "instances", "tags", "conditions"];

/// The faults of one rule, by field.
struct RuleFaults<'r, 'f> {
    table: &'r dyn TableLike,
    /// The place in the file of a fault whose field has none.
    start: Option<usize>,
    file: &'r mut FileFaults<'f>,
    count: usize,
}

impl RuleFaults<'_, '_> {
    /// Adds a fault of a field.
    fn add(&mut self, field: &str, message: impl Into<String>) {
        self.add_within(field, field, message);
    }

    /// Adds a fault of a part of a field, such as `tags.team` of `tags`.
    fn add_within(&mut self, field: &str, part: &str, message: impl Into<String>) {
        let offset = offset_of(self.table, field).or(self.start);
        self.file.add(offset, &format!("rule.{part}"), message);
        self.count += 1;
    }
}

/// Reads the rules of a key. `start` is the place of the key's table in the file.
pub(crate) fn read_policy(
    item: Option<&Item>,
    start: Option<usize>,
    faults: &mut FileFaults<'_>,
) -> Policy {
    let Some(item) = item else {
        return Policy(None);
    };
    let Some(tables) = tables(item) else {
        let offset = item.span().map(|span| span.start).or(start);
        faults.add(offset, "rule", "rules are [[access_key.rule]] tables");
        return Policy(None);
    };
    let mut rules = Vec::new();
    for table in tables {
        let first_field = table.iter().find_map(|(name, _)| offset_of(table, name));
        let mut faults = RuleFaults {
            table,
            start: first_field.or(start),
            file: faults,
            count: 0,
        };
        rules.extend(read_rule(table, &mut faults));
    }
    Policy(Some(rules))
}

fn tables(item: &Item) -> Option<Vec<&dyn TableLike>> {
    match item {
        Item::ArrayOfTables(tables) => {
            Some(tables.iter().map(|table| table as &dyn TableLike).collect())
        }
        Item::Value(Value::Array(values)) => values
            .iter()
            .map(|value| value.as_inline_table().map(|table| table as &dyn TableLike))
            .collect(),
        Item::None | Item::Value(_) | Item::Table(_) => None,
    }
}

/// Reads one rule and reports all of its faults. Returns `None` where there is no effect.
fn read_rule(table: &dyn TableLike, faults: &mut RuleFaults<'_, '_>) -> Option<PolicyRule> {
    refuse_unknown_fields(table, faults);
    let effect = read_effect(table.get("effect"), faults);
    let (patterns, actions) = read_actions(table.get("actions"), effect, faults);
    let instances = read_instances(table.get("instances"), effect, &actions, faults);
    let tags = read_tags(table.get("tags"), &actions, faults);
    let conditions = read_conditions(table.get("conditions"), effect, &actions, faults);
    let rule = PolicyRule {
        effect: effect?,
        actions: patterns,
        instances,
        tags,
        conditions,
    };
    // Each part alone can match; together they must match the same call.
    if faults.count == 0 && !lint::can_match_any(&rule, &actions) {
        let message = "no action meets all parts of the rule, so the rule can never match";
        faults.add("actions", message);
    }
    Some(rule)
}

fn refuse_unknown_fields(table: &dyn TableLike, faults: &mut RuleFaults<'_, '_>) {
    for (name, _) in table.iter().filter(|(name, _)| !FIELDS.contains(name)) {
        let message = format!("not known; a rule has {}", FIELDS.join(", "));
        faults.add(name, message);
    }
}

fn read_effect(item: Option<&Item>, faults: &mut RuleFaults<'_, '_>) -> Option<Effect> {
    let fault = match item.map(Item::as_str) {
        Some(Some("allow")) => return Some(Effect::Allow),
        Some(Some("deny")) => return Some(Effect::Deny),
        Some(_) => "must be \"allow\" or \"deny\"",
        None => "is missing",
    };
    faults.add("effect", fault);
    None
}

/// Returns the patterns and the actions that they match.
fn read_actions(
    item: Option<&Item>,
    effect: Option<Effect>,
    faults: &mut RuleFaults<'_, '_>,
) -> (Vec<Pattern>, Vec<Action>) {
    let texts = match item.map(texts) {
        Some(Some(texts)) => texts,
        Some(None) => {
            let message = "must be actions, for example [\"ec2:Describe*\"]";
            faults.add("actions", message);
            Vec::new()
        }
        None => {
            faults.add("actions", "is missing");
            Vec::new()
        }
    };
    let (mut patterns, mut actions) = (Vec::new(), Vec::new());
    for text in &texts {
        let pattern = Pattern::read(text);
        let matching: Vec<Action> = Action::ALL
            .iter()
            .copied()
            .filter(|action| pattern.matches(&action.permission()))
            .collect();
        if let Some(fault) = lint::action_fault(text, effect, &matching) {
            faults.add("actions", fault);
        }
        patterns.push(pattern);
        actions.extend(matching);
    }
    (patterns, actions)
}

fn read_instances(
    item: Option<&Item>,
    effect: Option<Effect>,
    actions: &[Action],
    faults: &mut RuleFaults<'_, '_>,
) -> Option<InstanceIds> {
    let texts = texts(item?).unwrap_or_default();
    if texts.is_empty() || !texts.iter().all(|text| is_id_pattern(text)) {
        let message = "must be instance ids, for example [\"i-0123*\"]";
        faults.add("instances", message);
    }
    let ids = InstanceIds(patterns(&texts));
    let fault = effect.and_then(|effect| lint::instances_fault(&ids, effect, actions));
    if let Some(fault) = fault {
        faults.add("instances", fault);
    }
    Some(ids)
}

/// Returns whether a pattern can match an instance id: `i-` and 8 or 17 hexadecimal digits.
fn is_id_pattern(text: &str) -> bool {
    let digits = text.strip_prefix("i-").unwrap_or(text);
    let is_digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'*' | b'?');
    let count = digits.bytes().filter(|b| *b != b'*').count();
    let has_length = if digits.contains('*') {
        count <= 17
    } else {
        matches!(count, 8 | 17)
    };
    let has_prefix = text.starts_with("i-") || text.starts_with('*');
    has_prefix && has_length && digits.bytes().all(is_digit)
}

fn read_tags(
    item: Option<&Item>,
    actions: &[Action],
    faults: &mut RuleFaults<'_, '_>,
) -> Vec<(String, Vec<Pattern>)> {
    let Some(item) = item else { return Vec::new() };
    if let Some(fault) = lint::tags_fault(actions) {
        faults.add("tags", fault);
    }
    let Some(entries) = filled_table(item) else {
        let message = "must be keys and values, for example { team = \"web\" }";
        faults.add("tags", message);
        return Vec::new();
    };
    let mut tags = Vec::new();
    for (key, item) in entries.iter() {
        match texts(item) {
            Some(values) => tags.push((key.to_string(), patterns(&values))),
            None => {
                let message = "must be a string, or an array of strings";
                faults.add_within("tags", &format!("tags.{key}"), message);
            }
        }
    }
    tags
}

fn read_conditions(
    item: Option<&Item>,
    effect: Option<Effect>,
    actions: &[Action],
    faults: &mut RuleFaults<'_, '_>,
) -> Vec<Condition> {
    let Some(item) = item else { return Vec::new() };
    let Some(entries) = filled_table(item) else {
        let message =
            "must be keys and values, for example { \"ec2:MetadataHttpTokens\" = \"required\" }";
        faults.add("conditions", message);
        return Vec::new();
    };
    let mut conditions = Vec::new();
    for (name, item) in entries.iter() {
        let part = format!("conditions.\"{name}\"");
        match read_condition(name, item, effect, actions) {
            Ok((condition, impossible)) => {
                for fault in impossible {
                    faults.add_within("conditions", &part, fault);
                }
                conditions.push(condition);
            }
            Err(fault) => faults.add_within("conditions", &part, fault),
        }
    }
    conditions
}

/// Returns a condition with the reasons why it can never hold, or why it is not a condition.
fn read_condition(
    name: &str,
    item: &Item,
    effect: Option<Effect>,
    actions: &[Action],
) -> Result<(Condition, Vec<String>), String> {
    let Some(key) = ConditionKey::parse(name) else {
        return Err(format!("not known; known keys: {}", ConditionKey::known()));
    };
    let texts = texts(item).unwrap_or_default();
    let comparisons: Option<Vec<Comparison>> = texts
        .iter()
        .map(|text| Comparison::parse(text, key.kind()))
        .collect();
    let Some(comparisons) = comparisons.filter(|comparisons| !comparisons.is_empty()) else {
        let fault = match key.kind() {
            ValueKind::Number => "must be a number or a comparison such as \">2\" or \"<=64\"",
            ValueKind::Text => "must be a string, or an array of strings",
        };
        return Err(fault.to_string());
    };
    let condition = Condition { key, comparisons };
    let impossible = lint::condition_faults(&condition, &texts, effect, actions);
    Ok((condition, impossible))
}

fn filled_table(item: &Item) -> Option<&dyn TableLike> {
    item.as_table_like().filter(|table| !table.is_empty())
}

fn patterns(texts: &[String]) -> Vec<Pattern> {
    texts.iter().map(|text| Pattern::read(text)).collect()
}

/// Returns one string or number, or an array of them that is not empty, as text.
fn texts(item: &Item) -> Option<Vec<String>> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.value().clone()),
        Value::Integer(number) => Some(number.value().to_string()),
        Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime(_)
        | Value::Array(_)
        | Value::InlineTable(_) => None,
    };
    match item.as_value()? {
        Value::Array(values) => values
            .iter()
            .map(text)
            .collect::<Option<Vec<_>>>()
            .filter(|texts| !texts.is_empty()),
        value => text(value).map(|text| vec![text]),
    }
}

/// Returns a policy from rules that a test writes as inline tables.
#[cfg(test)]
pub(crate) fn policy(rules: &[&str]) -> Policy {
    let text = format!(
        "[[access_key]]\naccess_key_id = \"A\"\nsecret_access_key = \"s\"\nrule = [{}]\n",
        rules.join(", ")
    );
    tests::read(&text).unwrap()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::sigv4::access_key_file;

    const KEY: &str = "[[access_key]]\naccess_key_id = \"A\"\nsecret_access_key = \"s\"\n";

    /// Reads the rules of the one key in a file.
    pub(super) fn read(text: &str) -> Result<Policy, Vec<String>> {
        let rules = access_key_file::KeyRules {
            owner: crate::ownership::KeyOwner::this_user(),
            min_secret: 1,
            more_fields: &["rule"],
        };
        let content = access_key_file::parse(Path::new("F"), text, rules, |table, faults| {
            let start = table.span().map(|span| span.start);
            read_policy(table.get("rule"), start, faults)
        });
        match content.faults.is_empty() {
            true => Ok(content.keys.known().unwrap().remove(0).1),
            false => Err(content.faults.iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn rules_are_read_from_either_spelling() {
        let tables = "[[access_key.rule]]\neffect = \"deny\"\nactions = \"ec2:Stop*\"\n\
            [[access_key.rule]]\neffect = \"allow\"\nactions = [\"*\"]\ntags = { team = \"web\" }\n";
        let rules = read(&format!("{KEY}{tables}")).unwrap().0.unwrap();
        assert_eq!(
            (rules.len(), rules[0].effect, rules[1].tags.len()),
            (2, Effect::Deny, 1)
        );
        let inline = policy(&[r#"{ effect = "deny", actions = "ec2:Stop*" }"#]);
        assert_eq!(inline.0.unwrap().len(), 1);
        // A key without rules permits everything, an empty list of rules permits nothing.
        assert!(read(KEY).unwrap().0.is_none());
        assert_eq!(policy(&[]).0.unwrap().len(), 0);
    }

    #[test]
    fn a_malformed_rule_is_refused_with_its_line_and_field() {
        let conditions = format!("not known; known keys: {}", ConditionKey::known());
        let known = "not known; a rule has effect, actions, instances, tags, conditions";
        let good = "effect = \"allow\"\nactions = [\"ec2:*\"]\n";
        for (rule, faults) in [
            ("".to_string(), vec!["1: rule.effect: is missing".to_string(), "1: rule.actions: is missing".into()]),
            (
                "effect = \"Allow\"\nactions = [\"*\"]".into(),
                vec!["5: rule.effect: must be \"allow\" or \"deny\"".into()],
            ),
            (
                "effect = \"deny\"\nactions = [\"ec2:StopInstance\"]".into(),
                vec![
                    "6: rule.actions: no action matches 'ec2:StopInstance'; actions are written like ec2:StopInstances".into(),
                ],
            ),
            (
                "effect = \"deny\"\nactions = []".into(),
                vec!["6: rule.actions: must be actions, for example [\"ec2:Describe*\"]".into()],
            ),
            (format!("{good}action = \"x\""), vec![format!("7: rule.action: {known}")]),
            (
                format!("{good}instances = [\"web-*\"]"),
                vec!["7: rule.instances: must be instance ids, for example [\"i-0123*\"]".into()],
            ),
            (
                format!("{good}instances = []"),
                vec!["7: rule.instances: must be instance ids, for example [\"i-0123*\"]".into()],
            ),
            (
                format!("{good}tags = \"web\""),
                vec!["7: rule.tags: must be keys and values, for example { team = \"web\" }".into()],
            ),
            (
                format!("{good}tags = {{ team = true }}"),
                vec!["7: rule.tags.team: must be a string, or an array of strings".into()],
            ),
            (
                format!("{good}conditions = {{ \"ec2:MetadataHttpToken\" = \"required\" }}"),
                vec![format!("7: rule.conditions.\"ec2:MetadataHttpToken\": {conditions}")],
            ),
            (
                format!("{good}conditions = {{ \"ec2:MetadataHttpPutResponseHopLimit\" = \"few\" }}"),
                vec![
                    "7: rule.conditions.\"ec2:MetadataHttpPutResponseHopLimit\": must be a number or a \
                     comparison such as \">2\" or \"<=64\""
                        .into(),
                ],
            ),
            (
                format!("{good}instances = [\"i-0123\"]"),
                vec!["7: rule.instances: must be instance ids, for example [\"i-0123*\"]".into()],
            ),
        ] {
            let text = format!(
                "[[access_key]]\naccess_key_id = \"A\"\nsecret_access_key = \"s\"\n[[access_key.rule]]\n{rule}\n"
            );
            let expected: Vec<_> = faults.iter().map(|fault| format!("F:{fault}")).collect();
            assert_eq!(read(&text).unwrap_err(), expected, "{rule}");
        }
    }

    /// A denial that never matches is a gap in the policy, a permission that never matches is a
    /// mistake.
    #[test]
    fn a_rule_that_can_never_match_is_refused_and_any_other_is_not() {
        let no_instance =
            "none of the rule's actions concerns an instance, so the rule can never match";
        let had_by = |key: &str, by: &str| {
            Some(format!(
                "7: rule.conditions.\"ec2:{key}\": none of the rule's actions has this attribute; actions that have it: {by}"
            ))
        };
        let never = |key: &str, text: &str, there: &str| {
            Some(format!(
                "7: rule.conditions.\"ec2:{key}\": '{text}' never occurs; possible values: {there}"
            ))
        };
        let not_alone = |name: &str| {
            let message = "clearing a preference is also checked against the resulting default; list that value too, or the rule can never match";
            Some(format!(
                "7: rule.conditions.\"ec2:Attribute/{name}\": {message}"
            ))
        };
        let of_options = "ec2:ModifyInstanceMetadataDefaults, ec2:ModifyInstanceMetadataOptions, ec2:RunInstances";
        let condition =
            |key: &str, value: &str| format!("conditions = {{ \"ec2:{key}\" = {value} }}");
        let tokens = |value: &str| condition("Attribute/HttpTokens", value);
        let hops = |value: &str| condition("Attribute/HttpPutResponseHopLimit", value);
        let two = "conditions = { \"ec2:Attribute/HttpTokensEnforced\" = \"disabled\", \
            \"ec2:Attribute/HttpProtocolIpv6\" = \"enabled\" }";
        let (deny, allow) = ("deny", "allow");
        let (options, defaults) = (
            "ec2:ModifyInstanceMetadataOptions",
            "ec2:ModifyInstanceMetadataDefaults",
        );
        for (effect, action, rest, fault) in [
            // Words and their case.
            (deny, "ec2:*", tokens("\"Optional\""), {
                never(
                    "Attribute/HttpTokens",
                    "Optional",
                    "optional, required, no-preference",
                )
            }),
            (deny, "ec2:*", tokens("[\"optional\", \"off\"]"), {
                never(
                    "Attribute/HttpTokens",
                    "off",
                    "optional, required, no-preference",
                )
            }),
            (deny, "ec2:*", tokens("\"opt*\""), None),
            (
                deny,
                "ec2:*",
                tokens("\"x*\""),
                never(
                    "Attribute/HttpTokens",
                    "x*",
                    "optional, required, no-preference",
                ),
            ),
            (deny, options, tokens("\"no-preference\""), {
                never(
                    "Attribute/HttpTokens",
                    "no-preference",
                    "optional, required",
                )
            }),
            (deny, defaults, tokens("\"no-preference\""), None),
            (
                allow,
                defaults,
                tokens("\"no-preference\""),
                not_alone("HttpTokens"),
            ),
            (allow, "*", tokens("\"no-*\""), not_alone("HttpTokens")),
            (
                allow,
                defaults,
                tokens("[\"no-preference\", \"required\"]"),
                None,
            ),
            (allow, defaults, tokens("\"*\""), None),
            (
                allow,
                defaults,
                hops("-1"),
                not_alone("HttpPutResponseHopLimit"),
            ),
            (
                allow,
                "ec2:*",
                hops("\"<1\""),
                not_alone("HttpPutResponseHopLimit"),
            ),
            (allow, defaults, hops("[-1, 2]"), None),
            (deny, defaults, hops("-1"), None),
            (
                allow,
                "ec2:*",
                condition("MetadataHttpEndpoint", "\"on\""),
                { never("MetadataHttpEndpoint", "on", "enabled, disabled") },
            ),
            (
                deny,
                "ec2:*",
                condition("InstanceMetadataTags", "\"true\""),
                { never("InstanceMetadataTags", "true", "enabled, disabled") },
            ),
            (
                deny,
                "ec2:*",
                condition("Attribute/DisableApiStop", "\"False\""),
                { never("Attribute/DisableApiStop", "False", "true, false") },
            ),
            (
                deny,
                "ec2:*",
                condition("Attribute/UserData", "\"aGV*\""),
                None,
            ),
            // Numbers.
            (
                deny,
                "ec2:*",
                hops("\">64\""),
                never("Attribute/HttpPutResponseHopLimit", ">64", "1 to 64, -1"),
            ),
            (deny, "ec2:*", hops("\"<1\""), None),
            (
                deny,
                options,
                hops("\"<1\""),
                never("Attribute/HttpPutResponseHopLimit", "<1", "1 to 64"),
            ),
            (
                deny,
                "ec2:*",
                hops("0"),
                never("Attribute/HttpPutResponseHopLimit", "0", "1 to 64, -1"),
            ),
            (deny, "ec2:*", hops("[1, \">=64\"]"), None),
            (
                deny,
                "ec2:*",
                condition("MetadataHttpPutResponseHopLimit", "-1"),
                { never("MetadataHttpPutResponseHopLimit", "-1", "1 to 64") },
            ),
            // Attributes that the actions do not have.
            (
                deny,
                "ec2:Stop*",
                tokens("\"optional\""),
                had_by("Attribute/HttpTokens", of_options),
            ),
            (deny, "ec2:*Instances", tokens("\"optional\""), None),
            (
                deny,
                options,
                condition("Attribute/HttpTokensEnforced", "\"disabled\""),
                { had_by("Attribute/HttpTokensEnforced", defaults) },
            ),
            (deny, "ec2:*", two.into(), {
                Some("6: rule.actions: no action meets all parts of the rule, so the rule can never match".into())
            }),
            // Actions without an instance.
            (
                allow,
                "ec2:DescribeRegions",
                "instances = [\"*\"]".into(),
                { Some(format!("7: rule.instances: {no_instance}")) },
            ),
            (
                deny,
                "ec2:*Defaults",
                "tags = { team = \"web\" }".into(),
                Some(format!("7: rule.tags: {no_instance}")),
            ),
            (
                deny,
                defaults,
                condition("MetadataHttpTokens", "\"optional\""),
                {
                    Some(format!(
                        "7: rule.conditions.\"ec2:MetadataHttpTokens\": {no_instance}"
                    ))
                },
            ),
            (
                deny,
                "ec2:Describe*",
                "tags = { team = \"web\" }".into(),
                None,
            ),
            (
                allow,
                "ec2:RunInstances",
                "instances = [\"i-0*\"]".into(),
                {
                    let message = "a launch gets a random id, so the rule can never match; use \"*\" for any id";
                    Some(format!("7: rule.instances: {message}"))
                },
            ),
            (
                allow,
                "ec2:RunInstances",
                "instances = [\"i-*\"]".into(),
                None,
            ),
            (
                deny,
                "ec2:RunInstances",
                "instances = [\"i-0*\"]".into(),
                None,
            ),
            (
                deny,
                "ec2:RunInstances",
                "instances = [\"i-0???????\"]".into(),
                {
                    let message = "a launch gets a random id, so the rule can never match; use \"*\" for any id";
                    Some(format!("7: rule.instances: {message}"))
                },
            ),
            // An action without a permission.
            (deny, "sts:*", String::new(), {
                Some("6: rule.actions: 'sts:*' can't be denied: it needs no permission".into())
            }),
            (allow, "sts:GetCallerIdentity", String::new(), None),
            (deny, "*", String::new(), None),
        ] {
            let text = format!(
                "[[access_key]]\naccess_key_id = \"A\"\nsecret_access_key = \"s\"\n[[access_key.rule]]\n\
                 effect = \"{effect}\"\nactions = [\"{action}\"]\n{rest}\n"
            );
            let faults = read(&text).err().unwrap_or_default();
            let expected: Vec<String> = fault.iter().map(|fault| format!("F:{fault}")).collect();
            assert_eq!(faults, expected, "{effect} {action} {rest}");
        }
    }
}
