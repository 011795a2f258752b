//! The access keys that callers may sign with and what each may do, from a TOML file that only its owner can read:
//!
//! ```toml
//! [[access_key]]
//! access_key_id = "AKID…"
//! secret_access_key = "…"
//! session_token = "…"        # optional: then callers must send it
//! account = "123456789012"   # optional: what GetCallerIdentity says, and whose launched instances are; else twelve zeros
//!
//! [[access_key.rule]]        # the first that fits decides; without any, everything is allowed
//! effect = "deny"
//! actions = ["ec2:*"]
//! conditions = { "ec2:Attribute/HttpTokens" = "optional" }
//!
//! [[access_key.rule]]
//! effect = "allow"
//! actions = ["ec2:Describe*", "ec2:Modify*"]
//! instances = ["i-*"]
//! tags = { team = ["web", "db-*"] }
//! ```
//!
//! What is not known is refused, an action's name included, and so is a rule that can never fit ([`reach`]).

use std::cell::Cell;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use toml_edit::{Document, Item, TableLike, Value};

use crate::control::actions::Action;
use crate::control::policy::lint;
use crate::control::policy::pattern::Pattern;
use crate::control::policy::{ATTRIBUTES, Condition, ConditionKey, Effect, Rule, Rules, Test};
use crate::fault::{Fault, line_of};
use crate::plain_file::{self, PlainFile, Symlinks};
use crate::secret::Secret;
use crate::sigv4::AccessKey;

/// Access keys by their id.
#[derive(Clone, Debug, Default)]
pub struct AccessKeys {
    by_id: HashMap<String, Holder>,
}

/// A key, and what whoever has it may do.
#[derive(Clone, Debug)]
pub(super) struct Holder {
    pub(super) key: AccessKey,
    /// 12 digits.
    pub(super) account: String,
    pub(super) rules: Arc<Rules>,
}

/// The account of a key that names none: that of an instance whose document names none.
const NO_ACCOUNT: &str = "000000000000";

impl AccessKeys {
    /// Id and secret of the demo's key. The demo serves invented data on loopback, so everyone may know them.
    pub const DEMO: (&str, &str) = (
        "AKIDIMDSDDEMO0000001",
        "imdsd-demo-secret-key-known-to-everyone",
    );

    fn new(holders: Vec<Holder>) -> AccessKeys {
        AccessKeys {
            by_id: holders
                .into_iter()
                .map(|holder| (holder.key.access_key_id.clone(), holder))
                .collect(),
        }
    }

    /// The demo's one key. Its account is that of the demo's instance.
    pub fn demo() -> AccessKeys {
        let (id, secret) = AccessKeys::DEMO;
        let key = AccessKey {
            access_key_id: id.to_string(),
            secret_access_key: Secret::new(secret),
            session_token: None,
        };
        AccessKeys::new(vec![Holder {
            key,
            account: "123456789012".to_string(),
            rules: Arc::default(),
        }])
    }

    /// Reads a file of keys, or says everything that is wrong with it.
    pub fn read(path: &Path) -> Result<AccessKeys, Vec<Fault>> {
        let fault = |message: String| Fault::of_file(path, message);
        let unreadable = |error| vec![fault(format!("can't be read: {error}"))];
        let file = PlainFile::open(path, Symlinks::Follow).map_err(unreadable)?;
        let mode = file.mode();
        let bytes = file.read_bytes(plain_file::MAX_BYTES).map_err(unreadable)?;
        let text = String::from_utf8(bytes)
            .map_err(|_| vec![fault("is not text in UTF-8".to_string())])?;
        let mut faults = Vec::new();
        if mode & 0o077 != 0 {
            let name = path.display();
            faults.push(fault(format!(
                "others can read these secrets (mode {mode:03o}); run: chmod 600 {name}"
            )));
        }
        let keys = parse(path, &text, &mut faults);
        if faults.is_empty() {
            Ok(AccessKeys::new(keys))
        } else {
            Err(faults)
        }
    }

    /// What is wrong with a file of keys, for whoever only checks it.
    pub fn faults(path: &Path) -> Vec<Fault> {
        AccessKeys::read(path).err().unwrap_or_default()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.by_id.len()
    }

    /// One key by its id.
    pub fn find(&self, access_key_id: &str) -> Option<&AccessKey> {
        self.holder(access_key_id).map(|holder| &holder.key)
    }

    pub(super) fn holder(&self, access_key_id: &str) -> Option<&Holder> {
        self.by_id.get(access_key_id)
    }
}

fn parse(path: &Path, text: &str, faults: &mut Vec<Fault>) -> Vec<Holder> {
    let mut fault = |offset: Option<usize>, field: &str, message: &str| {
        let line = offset.map_or(0, |offset| line_of(text, offset));
        let (file, field) = (path.to_path_buf(), field.to_string());
        faults.push(Fault {
            file,
            line,
            field,
            message: message.to_string(),
        });
    };
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(error) => {
            // Only the reason: the error's own text would quote the line, and with it a secret.
            fault(error.span().map(|span| span.start), "", error.message());
            return Vec::new();
        }
    };
    let mut keys: Vec<Holder> = Vec::new();
    for (name, item) in document.iter() {
        let Some(tables) = item.as_array_of_tables().filter(|_| name == "access_key") else {
            fault(
                key_offset(document.as_table(), name),
                name,
                "not known; keys stand in [[access_key]] tables",
            );
            continue;
        };
        for table in tables {
            let start = table.span().map(|span| span.start);
            let rules = read_rules(table.get("rule"), start, &mut fault);
            let mut wrong =
                |name: &str, message: &str| fault(key_offset(table, name).or(start), name, message);
            if let Some((key, account)) = read_key(table, &mut wrong) {
                if keys
                    .iter()
                    .any(|earlier| earlier.key.access_key_id == key.access_key_id)
                {
                    wrong("access_key_id", "another key has this id already");
                }
                keys.push(Holder {
                    key,
                    account,
                    rules: Arc::new(Rules(rules)),
                });
            }
        }
    }
    if faults.is_empty() && keys.is_empty() {
        faults.push(Fault::of_file(
            path,
            "there is no [[access_key]] in it, so nobody could call",
        ));
    }
    keys
}

/// Reads one table; what is wrong with it goes to `wrong`, by field.
fn read_key(
    table: &dyn TableLike,
    wrong: &mut impl FnMut(&str, &str),
) -> Option<(AccessKey, String)> {
    let (mut id, mut secret, mut token, mut account) = (None, None, None, None);
    for (name, item) in table.iter() {
        let place = match name {
            "access_key_id" => &mut id,
            "secret_access_key" => &mut secret,
            "session_token" => &mut token,
            "account" => &mut account,
            "rule" => continue,
            _ => {
                wrong(
                    name,
                    "not known; a key has access_key_id, secret_access_key, session_token, account and rule",
                );
                continue;
            }
        };
        // A value that is there but wrong is faulted here, and not as missing below.
        *place = Some(item.as_str().filter(|text| !text.is_empty()));
        if *place == Some(None) {
            wrong(name, "must be a string that is not empty");
        }
    }
    for (name, value) in [("access_key_id", id), ("secret_access_key", secret)] {
        if value.is_none() {
            wrong(name, "is missing");
        }
    }
    let account = account.flatten().unwrap_or(NO_ACCOUNT);
    if account.len() != 12 || !account.bytes().all(|b| b.is_ascii_digit()) {
        wrong("account", "must be 12 digits");
    }
    let id = id.flatten()?;
    // A credential is split at slashes and commas, so an id can't have any.
    if id.len() > 128 || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        wrong(
            "access_key_id",
            "must be 1 to 128 letters, digits and underscores",
        );
        return None;
    }
    let key = AccessKey {
        access_key_id: id.to_string(),
        secret_access_key: Secret::new(secret.flatten()?),
        session_token: match token {
            Some(token) => Some(Secret::new(token?)),
            None => None,
        },
    };
    Some((key, account.to_string()))
}

/// Reads the rules of one key: `[[access_key.rule]]` tables, or one array of inline tables.
fn read_rules(
    item: Option<&Item>,
    start: Option<usize>,
    fault: &mut impl FnMut(Option<usize>, &str, &str),
) -> Option<Vec<Rule>> {
    let item = item?;
    let tables: Option<Vec<&dyn TableLike>> = match item {
        Item::ArrayOfTables(tables) => {
            Some(tables.iter().map(|table| table as &dyn TableLike).collect())
        }
        Item::Value(Value::Array(values)) => values
            .iter()
            .map(|value| value.as_inline_table().map(|table| table as &dyn TableLike))
            .collect(),
        Item::None | Item::Value(_) | Item::Table(_) => None,
    };
    let at = |item: &Item| item.span().map(|span| span.start).or(start);
    let Some(tables) = tables else {
        fault(
            at(item),
            "rule",
            "rules stand in [[access_key.rule]] tables",
        );
        return None;
    };
    let mut rules = Vec::new();
    for table in tables {
        let start = table
            .iter()
            .find_map(|(name, _)| key_offset(table, name))
            .or(start);
        let mut wrong = |name: &str, field: &str, message: &str| {
            fault(
                key_offset(table, name).or(start),
                &format!("rule.{field}"),
                message,
            );
        };
        rules.extend(read_rule(table, &mut wrong));
    }
    Some(rules)
}

/// Reads one rule. `wrong` takes the name whose line is meant, the field, and what is wrong.
fn read_rule(table: &dyn TableLike, wrong: &mut impl FnMut(&str, &str, &str)) -> Option<Rule> {
    let is_sound = Cell::new(true);
    let wrong = &mut |name: &str, field: &str, message: &str| {
        is_sound.set(false);
        wrong(name, field, message);
    };
    for (name, _) in table.iter() {
        if !["effect", "actions", "instances", "tags", "conditions"].contains(&name) {
            wrong(
                name,
                name,
                "not known; a rule has effect, actions, instances, tags and conditions",
            );
        }
    }
    let effect = match table.get("effect").map(Item::as_str) {
        Some(Some("allow")) => Some(Effect::Allow),
        Some(Some("deny")) => Some(Effect::Deny),
        Some(_) => {
            wrong("effect", "effect", "must be \"allow\" or \"deny\"");
            None
        }
        None => {
            wrong("effect", "effect", "is missing");
            None
        }
    };
    let actions = match table.get("actions").map(texts) {
        Some(Some(actions)) => actions,
        Some(None) => {
            wrong(
                "actions",
                "actions",
                "must be names of actions, [\"ec2:Describe*\"] say",
            );
            Vec::new()
        }
        None => {
            wrong("actions", "actions", "is missing");
            Vec::new()
        }
    };
    let mut meant: Vec<Action> = Vec::new();
    for text in &actions {
        let pattern = Pattern::read(text);
        let named: Vec<Action> = Action::ALL
            .into_iter()
            .filter(|action| pattern.matches(&action.permission()))
            .collect();
        let shown = text.escape_debug();
        if named.is_empty() {
            wrong(
                "actions",
                "actions",
                &format!("no action is called '{shown}'; they are as in ec2:StopInstances"),
            );
        } else if effect == Some(Effect::Deny)
            && !named.iter().any(|action| lint::is_asked_about(*action))
        {
            wrong(
                "actions",
                "actions",
                &format!("'{shown}' can't be denied: it needs no permission"),
            );
        }
        meant.extend(named);
    }
    let instances = table.get("instances").map(|item| {
        let texts = texts(item).unwrap_or_default();
        let spelled = |text: &String| {
            let digits = text.strip_prefix("i-").unwrap_or(text);
            let could_be = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'*' | b'?');
            let count = digits.bytes().filter(|b| *b != b'*').count();
            let is_long_enough = if digits.contains('*') {
                count <= 17
            } else {
                matches!(count, 8 | 17)
            };
            digits.bytes().all(could_be)
                && is_long_enough
                && (text.starts_with("i-") || text.starts_with('*'))
        };
        if texts.is_empty() || !texts.iter().all(spelled) {
            wrong(
                "instances",
                "instances",
                "must be instance ids, [\"i-0123*\"] say",
            );
        }
        texts
            .iter()
            .map(|text| Pattern::read(text))
            .collect::<Vec<_>>()
    });
    if let (Some(ids), Some(effect), false) = (&instances, effect, meant.is_empty()) {
        let (has_some, has_these) = (
            meant.iter().any(|action| lint::has_instance(*action)),
            meant
                .iter()
                .any(|action| lint::has_one_of(*action, effect, ids)),
        );
        match (has_some, has_these) {
            (false, _) => wrong("instances", "instances", NO_INSTANCE),
            (true, false) => {
                wrong(
                    "instances",
                    "instances",
                    "which id a launch gets is not known before; \"*\" stands for any",
                );
            }
            (true, true) => {}
        }
    }
    let mut tags = Vec::new();
    if let Some(item) = table.get("tags") {
        let entries = item.as_table_like().filter(|table| !table.is_empty());
        if !meant.is_empty() && !meant.iter().any(|action| lint::has_instance(*action)) {
            wrong("tags", "tags", NO_INSTANCE);
        }
        if entries.is_none() {
            wrong(
                "tags",
                "tags",
                "must be keys and values, { team = \"web\" } say",
            );
        }
        for (key, item) in entries.iter().flat_map(|table| table.iter()) {
            match texts(item) {
                Some(values) => tags.push((
                    key.to_string(),
                    values.iter().map(|text| Pattern::read(text)).collect(),
                )),
                None => wrong(
                    "tags",
                    &format!("tags.{key}"),
                    "must be a string, or an array of strings",
                ),
            }
        }
    }
    let mut conditions = Vec::new();
    if let Some(item) = table.get("conditions") {
        let entries = item.as_table_like().filter(|table| !table.is_empty());
        if entries.is_none() {
            wrong(
                "conditions",
                "conditions",
                "must be keys and values, { \"ec2:MetadataHttpTokens\" = \"required\" } say",
            );
        }
        for (name, item) in entries.iter().flat_map(|table| table.iter()) {
            let field = format!("conditions.\"{name}\"");
            let Some(key) = ConditionKey::parse(name) else {
                let known = format!(
                    "not known; there are ec2:MetadataHttpTokens, ec2:MetadataHttpEndpoint, \
                     ec2:MetadataHttpPutResponseHopLimit, ec2:InstanceMetadataTags, and ec2:Attribute/ with {}",
                    ATTRIBUTES.join(", ")
                );
                wrong("conditions", &field, &known);
                continue;
            };
            let texts = texts(item);
            let values = texts.as_ref().and_then(|texts| {
                texts
                    .iter()
                    .map(|text| Test::parse(text, &key))
                    .collect::<Option<Vec<_>>>()
            });
            match values {
                Some(values) => {
                    let faults = impossible(&key, &meant, texts.iter().flatten().zip(&values));
                    let condition = Condition { key, values };
                    let can_hold = |effect| {
                        meant
                            .iter()
                            .any(|action| lint::can_hold(&condition, effect, *action))
                    };
                    if faults.is_empty()
                        && effect == Some(Effect::Allow)
                        && can_hold(Effect::Deny)
                        && !can_hold(Effect::Allow)
                    {
                        wrong("conditions", &field, NO_PREFERENCE);
                    }
                    for fault in faults {
                        wrong("conditions", &field, &fault);
                    }
                    conditions.push(condition);
                }
                None if key.is_numeric() => wrong(
                    "conditions",
                    &field,
                    "must be a number, or as \">2\", \"<=64\"",
                ),
                None => wrong(
                    "conditions",
                    &field,
                    "must be a string, or an array of strings",
                ),
            }
        }
    }
    let actions = actions.iter().map(|action| Pattern::read(action)).collect();
    let rule = Rule {
        effect: effect?,
        actions,
        instances,
        tags,
        conditions,
    };
    if is_sound.get() && !meant.iter().any(|action| lint::can_fit(&rule, *action)) {
        wrong(
            "actions",
            "actions",
            "none of them has all that the rule asks for, so it can never fit",
        );
    }
    Some(rule)
}

/// Of a rule that asks for an instance.
const NO_INSTANCE: &str = "none of the rule's actions is about instances, so it can never fit";

/// Of a permission for no preference alone.
const NO_PREFERENCE: &str = "no preference counts as what launches get then, too; name that as well, or the rule can never fit";

/// What of a condition can never hold with the rule's actions.
fn impossible<'t>(
    key: &ConditionKey,
    meant: &[Action],
    tests: impl Iterator<Item = (&'t String, &'t Test)>,
) -> Vec<String> {
    let values: Vec<_> = meant
        .iter()
        .filter_map(|action| lint::values(key, *action))
        .collect();
    // What the actions are is a fault of its own.
    if meant.is_empty() {
        return Vec::new();
    }
    let Some(told) = values
        .iter()
        .map(|values| values.told())
        .max_by_key(String::len)
    else {
        let having = Action::ALL
            .into_iter()
            .filter(|action| lint::values(key, *action).is_some());
        return match key {
            ConditionKey::Attribute(_) => {
                let having: Vec<String> = having.map(Action::permission).collect();
                vec![format!(
                    "none of the rule's actions asks for it; {}",
                    having.join(", ")
                )]
            }
            _ => vec![NO_INSTANCE.to_string()],
        };
    };
    let never = tests.filter(|(_, test)| !values.iter().any(|values| values.admit(test)));
    never
        .map(|(text, _)| format!("'{}' can never hold; there are {told}", text.escape_debug()))
        .collect()
}

/// One string or number, or an array of them that is not empty.
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

/// Rules as a test spells them, one inline table each.
#[cfg(test)]
pub(super) fn rules(inline: &[&str]) -> Rules {
    let text = format!(
        "[[access_key]]\naccess_key_id = \"A\"\nsecret_access_key = \"s\"\nrule = [{}]\n",
        inline.join(", ")
    );
    let mut faults = Vec::new();
    let keys = parse(Path::new("F"), &text, &mut faults);
    assert_eq!(faults, []);
    Rules::clone(&keys[0].rules)
}

/// The demo's key with rules.
#[cfg(test)]
pub(super) fn demo_with(rules: Rules) -> AccessKeys {
    let mut keys = AccessKeys::demo();
    keys.by_id
        .values_mut()
        .for_each(|holder| holder.rules = Arc::new(rules.clone()));
    keys
}

/// Where a key's name, or else its value, stands.
fn key_offset(table: &dyn TableLike, name: &str) -> Option<usize> {
    let of_name = table.key(name).and_then(|key| key.span());
    of_name
        .or_else(|| table.get(name).and_then(Item::span))
        .map(|span| span.start)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const GOOD: &str = "# ours\n[[access_key]]\naccess_key_id = \"AKID1\"\nsecret_access_key = \"hunter2\"\n\n\
        [[access_key]]\naccess_key_id = \"AKID2\"\nsecret_access_key = \"hunter3\"\nsession_token = \"t\"\n";

    fn read(text: &str, mode: u32) -> Result<AccessKeys, Vec<String>> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.toml");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let name = format!("{}", path.display());
        AccessKeys::read(&path).map_err(|faults| {
            faults
                .iter()
                .map(|fault| fault.to_string().replace(&name, "F"))
                .collect()
        })
    }

    #[test]
    fn keys_are_read_from_a_private_file() {
        let keys = read(GOOD, 0o600).unwrap();
        assert_eq!(
            keys.find("AKID1").unwrap().secret_access_key.expose(),
            "hunter2"
        );
        assert_eq!(keys.find("AKID1").unwrap().session_token, None);
        assert_eq!(
            keys.find("AKID2").unwrap().session_token,
            Some(Secret::new("t"))
        );
        assert!(keys.find("AKID3").is_none());
        assert!(!format!("{keys:?}").contains("hunter"));
    }

    #[test]
    fn every_fault_is_reported_with_its_line_and_without_secrets() {
        let missing = "[[access_key]]\n";
        let several = "x = 1\n[[access_key]]\naccess_key_id = 5\nsecret_access_key = \"\"\ncolour = \"red\"\n";
        let known = "not known; a key has access_key_id, secret_access_key, session_token, account and rule";
        for (text, faults) in [
            (
                "",
                vec!["F: there is no [[access_key]] in it, so nobody could call"],
            ),
            (
                missing,
                vec![
                    "F:1: access_key_id: is missing",
                    "F:1: secret_access_key: is missing",
                ],
            ),
            (
                several,
                vec![
                    "F:1: x: not known; keys stand in [[access_key]] tables",
                    "F:3: access_key_id: must be a string that is not empty",
                    "F:4: secret_access_key: must be a string that is not empty",
                    &format!("F:5: colour: {known}"),
                ],
            ),
            (
                &GOOD.replace("AKID2", "AKID1"),
                vec!["F:7: access_key_id: another key has this id already"],
            ),
            (
                &GOOD.replace("AKID2", "AK/ID"),
                vec!["F:7: access_key_id: must be 1 to 128 letters, digits and underscores"],
            ),
            (
                &GOOD.replace("session_token = \"t\"", "session_token = \"\""),
                vec!["F:9: session_token: must be a string that is not empty"],
            ),
            (
                "access_key = [{ access_key_id = \"a\", secret_access_key = \"b\" }]",
                vec!["F:1: access_key: not known; keys stand in [[access_key]] tables"],
            ),
        ] {
            assert_eq!(read(text, 0o600).unwrap_err(), faults, "{text}");
        }
        let broken = read("[[access_key]]\nsecret_access_key = \"hunter2\n", 0o600).unwrap_err();
        assert!(
            broken.len() == 1 && broken[0].starts_with("F:2: ") && !broken[0].contains("hunter"),
            "{broken:?}"
        );
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        for mode in [0o640, 0o604, 0o660, 0o610, 0o666] {
            let faults = read(GOOD, mode).unwrap_err();
            assert_eq!(
                faults,
                [format!(
                    "F: others can read these secrets (mode {mode:o}); run: chmod 600 F"
                )]
            );
        }
        assert!(read(GOOD, 0o400).is_ok());
        assert!(AccessKeys::read(Path::new("/nonexistent/keys.toml")).is_err());

        // A pipe that nobody writes to would keep a check, or a reload, waiting for ever.
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("keys.toml");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let faults = AccessKeys::faults(&fifo);
        assert!(
            faults.len() == 1 && faults[0].message.contains("not a regular file"),
            "{faults:?}"
        );
    }

    #[test]
    fn rules_are_read_from_either_spelling() {
        let text = "[[access_key]]\naccess_key_id = \"A\"\nsecret_access_key = \"s\"\naccount = \"111122223333\"\n\
            [[access_key.rule]]\neffect = \"deny\"\nactions = \"ec2:Stop*\"\n\
            [[access_key.rule]]\neffect = \"allow\"\nactions = [\"*\"]\ntags = { team = \"web\" }\n";
        let keys = read(text, 0o600).unwrap();
        let holder = keys.holder("A").unwrap();
        assert_eq!(holder.account, "111122223333");
        let rules = holder.rules.0.as_ref().unwrap();
        assert_eq!(
            (rules.len(), rules[0].effect, rules[1].tags.len()),
            (2, Effect::Deny, 1)
        );
        assert!(
            read(GOOD, 0o600)
                .unwrap()
                .holder("AKID1")
                .unwrap()
                .rules
                .0
                .is_none()
        );
        // No rules at all let everything pass, an empty list of them lets nothing.
        assert_eq!(super::rules(&[]).0.unwrap().len(), 0);
    }

    #[test]
    fn a_rule_that_could_not_work_is_refused_with_its_line_and_field() {
        let conditions = "not known; there are ec2:MetadataHttpTokens, ec2:MetadataHttpEndpoint, \
            ec2:MetadataHttpPutResponseHopLimit, ec2:InstanceMetadataTags, and ec2:Attribute/ with DisableApiStop, DisableApiTermination, \
            HttpEndpoint, HttpProtocolIpv6, HttpPutResponseHopLimit, HttpTokens, HttpTokensEnforced, \
            InstanceMetadataTags, UserData";
        let known = "not known; a rule has effect, actions, instances, tags and conditions";
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
                    "6: rule.actions: no action is called 'ec2:StopInstance'; they are as in ec2:StopInstances".into(),
                ],
            ),
            (
                "effect = \"deny\"\nactions = []".into(),
                vec!["6: rule.actions: must be names of actions, [\"ec2:Describe*\"] say".into()],
            ),
            (format!("{good}action = \"x\""), vec![format!("7: rule.action: {known}")]),
            (
                format!("{good}instances = [\"web-*\"]"),
                vec!["7: rule.instances: must be instance ids, [\"i-0123*\"] say".into()],
            ),
            (
                format!("{good}instances = []"),
                vec!["7: rule.instances: must be instance ids, [\"i-0123*\"] say".into()],
            ),
            (
                format!("{good}tags = \"web\""),
                vec!["7: rule.tags: must be keys and values, { team = \"web\" } say".into()],
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
                    "7: rule.conditions.\"ec2:MetadataHttpPutResponseHopLimit\": must be a number, or as \">2\", \
                     \"<=64\""
                        .into(),
                ],
            ),
            (
                format!("{good}instances = [\"i-0123\"]"),
                vec!["7: rule.instances: must be instance ids, [\"i-0123*\"] say".into()],
            ),
        ] {
            let text = format!(
                "[[access_key]]\naccess_key_id = \"A\"\nsecret_access_key = \"s\"\n[[access_key.rule]]\n{rule}\n"
            );
            let expected: Vec<_> = faults.iter().map(|fault| format!("F:{fault}")).collect();
            assert_eq!(read(&text, 0o600).unwrap_err(), expected, "{rule}");
        }
        let table = "[[access_key]]\naccess_key_id = \"A\"\nsecret_access_key = \"s\"\n";
        let faults =
            read(&format!("{table}account = \"12\"\nrule = \"all\"\n"), 0o600).unwrap_err();
        assert_eq!(
            faults,
            [
                "F:5: rule: rules stand in [[access_key.rule]] tables",
                "F:4: account: must be 12 digits"
            ]
        );
    }

    /// One that denies would be a hole that nobody sees, one that allows is a mistake.
    #[test]
    fn a_rule_that_can_never_fit_is_refused_and_one_that_may_fit_is_not() {
        let no_instance = "none of the rule's actions is about instances, so it can never fit";
        let asked_by = |key: &str, by: &str| {
            Some(format!(
                "7: rule.conditions.\"ec2:{key}\": none of the rule's actions asks for it; {by}"
            ))
        };
        let never = |key: &str, text: &str, there: &str| {
            Some(format!(
                "7: rule.conditions.\"ec2:{key}\": '{text}' can never hold; there are {there}"
            ))
        };
        let alone = |name: &str| {
            let message = "no preference counts as what launches get then, too; name that as well, or the rule can never fit";
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
                alone("HttpTokens"),
            ),
            (allow, "*", tokens("\"no-*\""), alone("HttpTokens")),
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
                alone("HttpPutResponseHopLimit"),
            ),
            (
                allow,
                "ec2:*",
                hops("\"<1\""),
                alone("HttpPutResponseHopLimit"),
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
            // Attributes that no such call has.
            (
                deny,
                "ec2:Stop*",
                tokens("\"optional\""),
                asked_by("Attribute/HttpTokens", of_options),
            ),
            (deny, "ec2:*Instances", tokens("\"optional\""), None),
            (
                deny,
                options,
                condition("Attribute/HttpTokensEnforced", "\"disabled\""),
                { asked_by("Attribute/HttpTokensEnforced", defaults) },
            ),
            (deny, "ec2:*", two.into(), {
                Some("6: rule.actions: none of them has all that the rule asks for, so it can never fit".into())
            }),
            // Instances where there is none.
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
                    let message =
                        "which id a launch gets is not known before; \"*\" stands for any";
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
                    let message =
                        "which id a launch gets is not known before; \"*\" stands for any";
                    Some(format!("7: rule.instances: {message}"))
                },
            ),
            // Nobody is asked.
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
            let faults = read(&text, 0o600).err().unwrap_or_default();
            let expected: Vec<String> = fault.iter().map(|fault| format!("F:{fault}")).collect();
            assert_eq!(faults, expected, "{effect} {action} {rest}");
        }
    }
}
